"""diffusers and transformers: whose class it is, loading and saving through the host itself."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from envguard.model import Host
    from envguard.runtime.adapter import Adapter


def host_of(cls: Any) -> Host:
    """The library that a model class, its instance or a subclass of it belongs to: "none" for a plain torch module."""
    classes = cls.__mro__ if isinstance(cls, type) else type(cls).__mro__
    for each in classes:
        library = each.__module__.partition(".")[0]
        if library == "diffusers":
            return "diffusers"
        if library == "transformers":
            return "transformers"
    return "none"


def empty_model(cls: Any, path: str) -> torch.nn.Module:
    """A model of a class with the architecture that the folder's config.json describes; a factory is called."""
    host = host_of(cls)
    if host == "diffusers":
        model: torch.nn.Module = cls.from_config(cls.load_config(path))
    elif host == "transformers":
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(path, local_files_only=True)
        model = cls.from_config(config) if hasattr(cls, "from_config") else cls(config)
    else:
        model = cls()
    return model


def quantized_by_host(model: Any) -> Any:
    """The host's own quantizer of a model that `from_pretrained` quantized, None for all others."""
    return getattr(model, "hf_quantizer", None)


def serializable(model: Any) -> bool:
    """True where the host can save a quantized model itself, so that its own `from_pretrained` loads it again."""
    told = getattr(quantized_by_host(model), "is_serializable", False)
    return bool(told() if callable(told) else told)


def modules_to_skip(exclude: Sequence[str]) -> list[str] | None:
    """`exclude` in the words of the hosts' configurations; None leaves it to the host.

    From 5.0 on transformers matches a pattern with the start or the end of a module's name alone.
    """
    return [name for each in exclude for name in (each, rf".*\.{re.escape(each)}")] or None


def from_pretrained(adapter: Adapter, cls: Any, path: str, config: Any, arguments: dict[str, Any]) -> torch.nn.Module:
    """`cls.from_pretrained`, with a quantization_config where the weights are to be quantized on the way."""
    if config is not None:
        arguments = {"quantization_config": config, **arguments}
    if (device_map := adapter.device_map()) is not None:
        arguments = {"device_map": device_map, **arguments}
    if _holds_torch_files(os.path.join(path, arguments.get("subfolder") or "")):
        arguments = {"use_safetensors": False, **arguments}  # diffusers reports an error and then looks for them
    model: torch.nn.Module = cls.from_pretrained(path, **arguments)
    adapter.loaded(model)
    return model


def _holds_torch_files(folder: str) -> bool:
    """True for a folder whose weights are torch files (`*.bin`, which hosts read with weights_only=True) alone."""
    try:
        endings = {os.path.splitext(name)[1] for name in os.listdir(folder)}
    except OSError:  # a hub id
        return False
    return ".bin" in endings and ".safetensors" not in endings
