"""What lies at a path decides how it is loaded: backend, scheme and operation come from the model's own files.

Every header is read within bounds first (`modelfiles`), before a library opens the file.
"""

from __future__ import annotations

import os

from envguard.errors import BadInput, BadModel, SchemeConflict
from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeAlias

    from envguard.guarded import Checks
    from envguard.model import Host

    SchemeOf: TypeAlias = Callable[[str | None], str]

DESCRIPTION = "envguard.json"  # of a model that `save` wrote; see runtime/storage.py
SAVED = "envguard.quantized/1"


class Found(Frozen):
    """What lies at a path. `root` is the folder or file itself, where a hub id was given the one in the local cache.

    `spec` is what the model is quantized as, None in full precision; `saved` is the description of a folder that `save`
    wrote; `components` are name, spec and host of the quantized parts of a pipeline.
    """

    root: str
    spec: str | None
    saved: dict[str, Any] | None = None
    components: tuple[tuple[str, str, Host], ...] = ()


def look(path: str | os.PathLike[str], subfolder: str | None = None) -> Found:
    """What lies at a path, or in a subfolder of it. Raises BadModel for what is not there or not sound."""
    from envguard.modelfiles.folder import inspect, tensors_of
    from envguard.modelfiles.hub import locate
    from envguard.modelfiles.safetensors import read_header

    root = locate(os.fspath(path))
    folder = os.path.join(root, subfolder) if subfolder else root
    saved = _description(folder)
    if saved is not None:
        if saved["plain"]:
            read_header(os.path.join(folder, "model.safetensors"))  # raises where it is not sound
        return Found(root, f"{saved['backend']}:{saved['scheme']}", saved)
    model = inspect(folder)
    for component in model.components:
        tensors_of(component)  # raises for a header that is not sound
    quantized = [(each.name, each.quantized.spec, each.host) for each in model.components if each.quantized]
    if model.kind == "diffusers pipeline":
        return Found(root, None, None, tuple(quantized))
    return Found(root, quantized[0][1] if quantized else None)


def load(
    checks: Checks, scheme_of: SchemeOf, cls: Any, path: str, scheme: str | None, arguments: dict[str, Any]
) -> Any:
    """See Guarded.load; `scheme_of` gives the scheme of a call, whose own may be None."""
    from envguard.runtime import operations
    from envguard.runtime.hosts import host_of

    backend = checks.report.backends[0].request.backend
    if is_pipeline(cls):
        raise BadInput(
            f"{cls.__name__} is a pipeline of several models: load it with its own from_pretrained and"
            f" quantization_config=envguard.pipeline_config({{'transformer': '{backend}:SCHEME'}}), or with"
            " envguard.load where its components are quantized already"
        )
    host = host_of(cls)
    found = look(path, arguments.get("subfolder"))
    if found.spec is None:
        permit = checks.permit(scheme_of(scheme), "quantize", host)
        return operations.load(permit, cls, found.root, False, arguments)
    own = _own_scheme(checks, found.spec, path, backend, scheme)
    # What `save` wrote the backend reads by itself: it loads where the host's own quantizer does not run.
    permit = checks.permit(scheme_of(own), "load", host if found.saved is None else "none")
    if found.saved is not None:
        folder = os.path.join(found.root, arguments.pop("subfolder", None) or "")
        return operations.load_saved(permit, cls, folder, found.saved, arguments)
    return operations.load(permit, cls, found.root, True, arguments)


def save(checks: Checks, scheme_of: SchemeOf, model: Any, path: str) -> None:
    """See Guarded.save."""
    from envguard.runtime import operations
    from envguard.runtime.hosts import host_of, quantized_by_host

    how = operations.quantization_of(model)
    backend = checks.report.backends[0].request.backend
    if how is not None and how["backend"] != backend:
        raise BadInput(f"this {type(model).__name__} was quantized with {how['backend']}: save it with that backend")
    host = host_of(model) if quantized_by_host(model) is not None else "none"
    permit = checks.permit(scheme_of(how["scheme"] if how else None), "save", host)
    operations.save(permit, model, path)


def is_pipeline(cls: Any) -> bool:
    """True for diffusers' pipeline classes, whose configuration is a model_index.json."""
    return getattr(cls, "config_name", None) == "model_index.json"


def hosts_of(names: Iterable[str], path: str | None) -> dict[str, Host]:
    """The library of each component of a pipeline: by its model_index.json, else by the component's name.

    Raises BadModel where the pipeline at `path` has no such component.
    """
    hosts: dict[str, Host] = {
        name: "transformers" if name.startswith("text_encoder") else "diffusers" for name in names
    }
    if path is None:
        return hosts
    from envguard.modelfiles.folder import index_of
    from envguard.modelfiles.hub import locate

    index = index_of(locate(os.fspath(path)))
    for name in hosts:
        if name not in index:
            raise BadModel(f"{path}: the pipeline has no component {name!r}; it has {', '.join(index)}")
        library = index[name]
        if library in ("diffusers", "transformers"):
            hosts[name] = library  # type: ignore[assignment]
    return hosts


def _own_scheme(checks: Checks, spec: str, path: str, backend: str, scheme: str | None) -> str:
    """The scheme that a model is quantized in. Raises BadInput for another backend, SchemeConflict for a scheme."""
    own_backend, _, own = spec.partition(":")
    if own_backend != backend:
        raise BadInput(
            f"{path} is quantized as {spec}, not with {backend}: load it with envguard.load, or with what"
            f" envguard.require('{spec}') returns"
        )
    if scheme is not None and checks.scheme(scheme) != own:
        raise SchemeConflict(f"{path} is quantized as {spec}, but {scheme} was asked for: leave the scheme out")
    return own


def _description(folder: str) -> dict[str, Any] | None:
    """The envguard.json of a folder that `save` wrote, None for any other path. Raises BadModel."""
    from envguard.modelfiles import bounded_json

    file = os.path.join(folder, DESCRIPTION)
    try:
        with open(file, "rb") as opened:
            data = opened.read(bounded_json.LARGEST + 1)
    except OSError:
        return None
    try:
        description = bounded_json.loads(data)
    except ValueError as error:
        raise BadModel(f"{file}: {error}") from None
    wanted = {
        "schema": str,
        "backend": str,
        "scheme": str,
        "layout": dict,
        "linears": dict,
        "shared": dict,
        "plain": bool,
    }
    for key, kind in wanted.items():
        if not isinstance(description, dict) or not isinstance(description.get(key), kind):
            raise BadModel(f"{file}: {key}: expected a {kind.__name__}")
    if description["schema"] != SAVED:
        raise BadModel(f"{file}: schema: expected {SAVED}, found {description['schema'][:80]!r}")
    return dict(description)
