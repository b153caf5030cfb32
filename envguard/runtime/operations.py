"""Quantize, load and save, the same for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import Module

from envguard.errors import BadInput, UnknownOption
from envguard.runtime import storage
from envguard.runtime.adapter import FileAdapter, adapter_class, adapter_for, all_options, options_of, refuse_unknown
from envguard.runtime.hosts import empty_model, from_pretrained, quantized_by_host
from envguard.runtime.modules import linears

if TYPE_CHECKING:
    import torch

    from envguard.permits import Permit

MARK = "envguard_quantized"  # the attribute in which a model that was quantized in memory remembers how


def quantize(permit: Permit, model: torch.nn.Module, options: dict[str, Any]) -> torch.nn.Module:
    """The model, quantized on the permit's device, in eval mode.

    Raises UnknownOption for an option that the backend does not have, BadInput for what is no full-precision module.
    """
    backend, scheme = permit.request.backend, permit.scheme
    refuse_unknown(backend, "quantize", options, options_of(adapter_class(backend).quantize))
    if not isinstance(model, Module):
        raise BadInput(f"quantize: expected a torch.nn.Module, found {type(model).__name__}")
    how = quantization_of(model)
    if how is not None:
        spec = f"{how['backend']}:{how['scheme']}"
        raise BadInput(f"this {type(model).__name__} is quantized already ({spec}): quantize the full-precision model")
    if next(linears(model, options.get("exclude", ())), None) is None:
        raise BadInput(f"this {type(model).__name__} has no linear layer to quantize (torch.nn.Linear, not excluded)")
    quantized = adapter_for(permit).quantize(model, scheme, **options)
    return _marked(quantized, backend, scheme)


def load(permit: Permit, cls: Any, path: str, quantized: bool, arguments: dict[str, Any]) -> torch.nn.Module:
    """A host's model from a folder or hub id: as it is where it is `quantized`, else quantized on the way.

    `arguments` are the backend's options and those of `from_pretrained`. Raises UnknownOption, BadInput.
    """
    backend, scheme = permit.request.backend, permit.scheme
    if "quantization_config" in arguments:
        raise UnknownOption(
            f"quantization_config is what {backend} was checked for: give the scheme, and the backend's options by name"
        )
    alone = permit.request.host == "none"
    own = options_of(adapter_class(backend).quantize if alone else adapter_class(backend).host_config)
    options = {name: arguments.pop(name) for name in tuple(arguments) if name in own or name in all_options()}
    refuse_unknown(backend, "load", options, () if quantized else own)
    adapter = adapter_for(permit)
    if quantized:
        adapter.before_host_loads()
    elif alone:  # no host quantizes: the full-precision model comes to the CPU, and goes to the device in small parts
        return quantize(permit, cls.from_pretrained(path, **arguments), options)
    config = None if quantized else adapter.host_config(scheme, **options)
    return _marked(from_pretrained(adapter, cls, path, config, arguments), backend, scheme)


def host_config(permit: Permit, options: dict[str, Any]) -> Any:
    """The quantization_config of the permit's host. Raises UnknownOption."""
    refuse_unknown(
        permit.request.backend, "load", options, options_of(adapter_class(permit.request.backend).host_config)
    )
    return adapter_for(permit).host_config(permit.scheme, **options)


def load_saved(
    permit: Permit, cls: Any, path: str, description: dict[str, Any], arguments: dict[str, Any]
) -> torch.nn.Module:
    """A model from a folder of our own; `cls` is its class, or a callable that makes one of the same architecture.

    Raises UnknownOption for any argument: the folder holds all that there is to say.
    """
    refuse_unknown(permit.request.backend, "load what envguard saved", arguments, ())
    model = storage.load(adapter_for(permit), lambda: empty_model(cls, path), path, description)
    return _marked(model, description["backend"], description["scheme"])


def load_file(permit: Permit, cls: Any, path: str, arguments: dict[str, Any]) -> torch.nn.Module:
    """A model from a single file in the backend's own format; `cls` as for `load_saved`, or a host's class.

    `arguments` are the backend's options and those of the class's own loader. Raises UnknownOption, BadInput.
    """
    adapter = adapter_for(permit)
    if not isinstance(adapter, FileAdapter):
        raise BadInput(f"{permit.request.backend} keeps models in folders, and {path} is a file")
    own = options_of(type(adapter).load_file)
    options = {name: arguments.pop(name) for name in tuple(arguments) if name in own or name in all_options()}
    refuse_unknown(permit.request.backend, "load", options, own)
    return _marked(adapter.load_file(cls, path, arguments, **options), permit.request.backend, permit.scheme)


def save(permit: Permit, model: torch.nn.Module, path: str) -> None:
    """Write a quantized model to a folder: in the host's own form where it has one, else in ours.

    A backend whose models are single files writes one.
    """
    adapter = adapter_for(permit)
    if isinstance(adapter, FileAdapter):
        adapter.save_file(model, permit.scheme, path)
        return
    told = adapter.host_saves(model) if quantized_by_host(model) is not None else None
    if told is not None:
        _save_with_host(model, path, told)
    else:
        storage.save(adapter, model, permit.scheme, path)


def _save_with_host(model: Any, path: str, told: dict[str, Any]) -> None:
    """The host's own `save_pretrained`, into a folder that is whole or not there."""
    from envguard.runtime.folders import written_folder

    with written_folder(path, last="config.json", stale=(storage.DESCRIPTION,)) as folder:
        model.save_pretrained(folder, **told)


def quantization_of(model: Any) -> dict[str, str] | None:
    """Backend and scheme of a model that `quantize` or a host quantized; None for full precision."""
    mark: dict[str, str] | None = getattr(model, MARK, None)
    return mark


def _marked(model: torch.nn.Module, backend: str, scheme: str) -> torch.nn.Module:
    setattr(model, MARK, {"backend": backend, "scheme": scheme})
    return model.eval()
