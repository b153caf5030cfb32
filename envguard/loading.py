"""What lies at a path decides how it is loaded: backend, scheme and operation come from the model's own files."""

from __future__ import annotations

import json
import os

from envguard.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from envguard.guarded import Checks

    SchemeOf: TypeAlias = Callable[[str | None], str]


def load(
    checks: Checks, scheme_of: SchemeOf, cls: Any, path: str, scheme: str | None, arguments: dict[str, Any]
) -> Any:
    """See Guarded.load; `scheme_of` gives the scheme of a call, whose own may be None."""
    from envguard.runtime import operations
    from envguard.runtime.hosts import host_of

    host = host_of(cls)
    folder = os.path.join(path, arguments.get("subfolder") or "")
    saved = _description(folder)
    if saved is not None:
        backend = checks.report.backends[0].request.backend
        if saved["backend"] != backend:
            raise BadInput(f"{folder} holds a model quantized with {saved['backend']}, not {backend}: envguard.load")
        permit = checks.permit(scheme_of(scheme or saved["scheme"]), "load", host)
        return operations.load_saved(permit, cls, folder, saved)
    quantized = _is_quantized(folder)
    permit = checks.permit(scheme_of(scheme), "load" if quantized else "quantize", host)
    return operations.load(permit, cls, path, quantized, arguments)


def save(checks: Checks, scheme_of: SchemeOf, model: Any, path: str) -> None:
    """See Guarded.save."""
    from envguard.runtime import operations

    how = operations.quantization_of(model)
    permit = checks.permit(scheme_of(how["scheme"] if how else None), "save", "none")
    operations.save(permit, model, path)


def _description(folder: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(folder, "envguard.json"), encoding="utf-8") as file:
            description: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return description


def _is_quantized(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            return bool(json.load(file).get("quantization_config"))
    except OSError:
        return False
