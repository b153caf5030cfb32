"""What lies at a path decides how it is loaded: backend, scheme and operation come from the model's own files.

Every header is read within bounds first (`modelfiles`), before a library opens the file.
"""

from __future__ import annotations

import os

from envguard.errors import BadInput, BadModel, SchemeConflict, UnknownScheme
from envguard.frozen import Frozen
from envguard.model import WEIGHTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeAlias

    from envguard.guarded import Checks
    from envguard.model import Host

    SchemeOf: TypeAlias = Callable[[str | None], str]

DESCRIPTION = "envguard.json"  # of a model that `save` wrote; see runtime/storage.py
SAVED = "envguard.quantized/1"
_NUMBERS = frozenset({"I8", "I16", "I32", "I64", "F64"})  # GGUF has them, but not for weights: no rules name them

# whose own code quantizes what a host has loaded in full precision: the rules of the host's quantizer are not asked
ALONE = frozenset({"modelopt"})


class Found(Frozen):
    """What lies at a path. `root` is the folder or file itself, where a hub id was given the one in the local cache.

    `spec` is what the model is quantized as, None in full precision; `saved` is the description of a folder that `save`
    wrote; `components` are name, spec and host of the quantized parts of a pipeline. `file` is a single file in the
    backend's own format (.gguf) and `types` are those of its tensors; `weights` is the form of any other's.
    """

    root: str
    spec: str | None
    saved: dict[str, Any] | None = None
    components: tuple[tuple[str, str, Host], ...] = ()
    file: str | None = None
    weights: str | None = None
    types: tuple[str, ...] = ()


def look(path: str | os.PathLike[str], subfolder: str | None = None) -> Found:
    """What lies at a path, or in a subfolder of it. Raises BadModel for what is not there or not sound."""
    from envguard.modelfiles.folder import inspect, tensors_of
    from envguard.modelfiles.hub import locate
    from envguard.modelfiles.safetensors import read_header

    root = locate(os.fspath(path))
    folder = os.path.join(root, subfolder) if subfolder and os.path.isdir(root) else root
    saved = _description(folder)
    if saved is not None:
        if saved["plain"]:
            read_header(os.path.join(folder, "model.safetensors"))  # raises where it is not sound
        return Found(root, f"{saved['backend']}:{saved['scheme']}", saved)
    model = inspect(folder)
    # raises for a header that is not sound
    tensors = [tensors_of(component) for component in model.components]
    quantized = [(each.name, each.quantized.spec, each.host) for each in model.components if each.quantized]
    if model.kind == "diffusers pipeline":
        return Found(root, None, None, tuple(quantized))
    if model.components[0].weights == "gguf":
        types = sorted({tensor.dtype for tensor in tensors[0]} - _NUMBERS)
        return Found(root, quantized[0][1], file=model.components[0].files[0], types=tuple(types))
    return Found(root, quantized[0][1] if quantized else None, weights=model.components[0].weights)


def named(path: str | os.PathLike[str], arguments: dict[str, Any]) -> str:
    """The path, or the file in it that the argument `gguf_file` names, as in transformers. Raises BadModel."""
    from envguard.modelfiles.hub import locate

    file = arguments.pop("gguf_file", None)
    if file is None:
        return os.fspath(path)
    return os.path.join(locate(os.fspath(path)), arguments.pop("subfolder", None) or "", os.fspath(file))


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

    backend = _backend(checks)
    if is_pipeline(cls):
        raise BadInput(
            f"{cls.__name__} is a pipeline of several models: load it with its own from_pretrained and"
            f" quantization_config=envguard.pipeline_config({{'transformer': '{backend}:SCHEME'}}), or with"
            " envguard.load where its components are quantized already"
        )
    path = named(path, arguments)
    found = look(path, arguments.get("subfolder"))
    # what `save` wrote the backend reads by itself: it loads where the host's own quantizer does not run
    alone = found.saved is not None or (found.spec is None and backend in ALONE)
    host = "none" if alone else host_of(cls)
    if found.spec is None:
        if backend == "gguf":
            raise BadInput(f'gguf loads .gguf files, found {path}: quantize(model, "Q8_0", "model.gguf") writes one')
        permit = checks.permit(scheme_of(scheme), "quantize", host, _stored(found, backend, path, arguments))
        return operations.load(permit, cls, found.root, False, arguments)
    own = _own_scheme(scheme_of, found.spec, path, backend, scheme)
    for kind in found.types:
        checks.permit(kind, "load", host)
    permit = checks.permit(own, "load", host)
    if found.file is not None:
        if os.path.isdir(found.root):
            arguments.pop("subfolder", None)
        return operations.load_file(permit, cls, found.file, arguments)
    if found.saved is not None:
        folder = os.path.join(found.root, arguments.pop("subfolder", None) or "")
        return operations.load_saved(permit, cls, folder, found.saved, arguments)
    return operations.load(permit, cls, found.root, True, arguments)


def _stored(found: Found, backend: str, path: str, arguments: dict[str, Any]) -> str | None:
    """The form of the weights asked for. Raises BadInput for Flax's, where the backend has no rule on them."""
    weights = "flax" if arguments.get("from_flax") else found.weights
    if weights == "flax" and backend != "bitsandbytes":
        raise BadInput(
            f"{path}: Flax weights cannot be quantized: convert them to PyTorch first"
            " (envguard explain bitsandbytes/flax-weights says how)"
        )
    return weights if weights in WEIGHTS else None


def save(checks: Checks, scheme_of: SchemeOf, model: Any, path: str) -> None:
    """See Guarded.save."""
    from envguard.runtime import operations
    from envguard.runtime.hosts import host_of, quantized_by_host

    how = operations.quantization_of(model)
    backend = _backend(checks)
    if how is not None and how["backend"] != backend:
        raise BadInput(f"this {type(model).__name__} was quantized with {how['backend']}: save it with that backend")
    what = f"this {type(model).__name__}"
    if how is None and quantized_by_host(model) is None:
        raise BadInput(f"{what} is not quantized: quantize it first, or save it with its own save_pretrained")
    scheme = _own_scheme(scheme_of, f"{backend}:{how['scheme']}", what, backend, None) if how else scheme_of(None)
    host = host_of(model) if quantized_by_host(model) is not None else "none"
    operations.save(checks.permit(scheme, "save", host), model, path)


def _backend(checks: Checks) -> str:
    return checks.report.backends[0].request.backend


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


def _own_scheme(scheme_of: SchemeOf, spec: str, path: str, backend: str, scheme: str | None) -> str:
    """The scheme that a model is quantized in.

    Raises BadInput for another backend, and SchemeConflict where another scheme was required or is given; a GGUF file
    may be a mixture of the one asked for (Q4_K_M for Q4_K).
    """
    own_backend, _, own = spec.partition(":")
    if own_backend != backend:
        raise BadInput(
            f"{path} is quantized as {spec}, not with {backend}: load it with envguard.load, or with what"
            f" envguard.require('{spec}') returns"
        )
    try:
        asked = scheme_of(scheme)
    except UnknownScheme:
        if scheme is not None:
            raise
        return own  # none was required or given
    if asked != own and not (backend == "gguf" and own.startswith(f"{asked}_")):
        raise SchemeConflict(f"{path} is quantized as {spec}, but {asked} was asked for: leave the scheme out")
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
