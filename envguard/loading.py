"""What lies at a path decides how it is loaded: backend, scheme and operation come from the model's own files."""

from __future__ import annotations

import json
import os

from envguard.errors import BadInput, SchemeConflict, UnknownScheme

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from envguard.guarded import Checks
    from envguard.model import Host

    SchemeOf: TypeAlias = Callable[[str | None], str]


def quantize(checks: Checks, scheme_of: SchemeOf, model: Any, scheme: str | None, options: dict[str, Any]) -> Any:
    """See Guarded.quantize. What gguf writes it also reads back, with the model's own host, whose rules count too."""
    from envguard.runtime import operations
    from envguard.runtime.hosts import host_of

    name = scheme_of(scheme)
    host: Host = "none"
    if _backend(checks) == "gguf":
        host = host_of(model)
        checks.permit(name, "load", host)
    return operations.quantize(checks.permit(name, "quantize", host), model, options)


def load(
    checks: Checks, scheme_of: SchemeOf, cls: Any, path: str, scheme: str | None, arguments: dict[str, Any]
) -> Any:
    """See Guarded.load; `scheme_of` gives the scheme of a call, whose own may be None."""
    from envguard.runtime import operations
    from envguard.runtime.hosts import host_of

    host = host_of(cls)
    backend = _backend(checks)
    file = _gguf_file(path, arguments)
    if file is not None and backend == "gguf":
        name = _gguf_scheme(checks, scheme_of, file, scheme, host)
        return operations.load_file(checks.permit(name, "load", host), cls, file, arguments)
    if file is not None:
        raise BadInput(f'{file} is loaded by gguf, not by {backend}: envguard.require("gguf")')
    if backend == "gguf":
        raise BadInput(
            f"gguf loads .gguf files, found {path}: name the file, gguf_file= in a folder, or write one with"
            ' quantize(model, "Q8_0", "model.gguf")'
        )
    folder = os.path.join(path, arguments.get("subfolder") or "")
    saved = _description(folder)
    if saved is not None:
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
    name = _held(scheme_of, None, how["scheme"], f"this {type(model).__name__}") if how else scheme_of(None)
    permit = checks.permit(name, "save", "none")
    operations.save(permit, model, path)


def _backend(checks: Checks) -> str:
    return checks.report.backends[0].request.backend


def _gguf_file(path: str, arguments: dict[str, Any]) -> str | None:
    """The .gguf file that is to be loaded: the path itself, or `gguf_file` in that folder or cached hub id."""
    from envguard.modelfiles.hub import locate

    name = arguments.pop("gguf_file", None)
    if name is not None:
        return os.path.join(locate(os.fspath(path)), arguments.pop("subfolder", None) or "", name)
    path = os.fspath(path)
    return path if path.lower().endswith(".gguf") else None


_NUMBERS = frozenset({"I8", "I16", "I32", "I64", "F64"})  # in GGUF files, but no types of weights: no rules for them


def _gguf_scheme(checks: Checks, scheme_of: SchemeOf, path: str, given: str | None, host: Host) -> str:
    """The scheme of a file, once the rules pass for the type of each tensor in it.

    The bounded reader looks at the header first: before any library, which would believe it.
    Raises BadModel, SchemeConflict, RequirementsNotMet.
    """
    from envguard.modelfiles.gguf import read_header

    header = read_header(path)
    name = _held(scheme_of, given, header.scheme, path)
    for kind in sorted({tensor.dtype for tensor in header.tensors} - _NUMBERS):
        checks.permit(kind, "load", host)
    return name


def _held(scheme_of: SchemeOf, given: str | None, held: str, what: str) -> str:
    """The scheme that a file or model holds; where one was asked for, it must be that, or a mixture of it (Q4_K_M).

    Raises SchemeConflict.
    """
    try:
        asked = scheme_of(given)
    except UnknownScheme:
        if given is not None:
            raise
        return held
    if held != asked and not held.startswith(f"{asked}_"):
        raise SchemeConflict(f"{what} holds {held}, but {asked} was asked for: ask for {held}, or for no scheme")
    return held


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
