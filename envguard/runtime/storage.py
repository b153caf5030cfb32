"""Our own folder for a quantized model, where the host has none: tensors, a JSON description, the model's own config.

envguard.json        schema envguard.quantized/1: backend, scheme, layout, versions; written last
model.safetensors    the tensors, or model.pt where they are tensor subclasses (read with weights_only=True alone)
config.json          the model's own configuration, where its library has one
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from typing import TYPE_CHECKING, Any

import torch

from envguard.errors import BadInput
from envguard.runtime.adapter import Stored
from envguard.runtime.folders import written_folder
from envguard.runtime.modules import shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envguard.runtime.adapter import Adapter

DESCRIPTION = "envguard.json"
SCHEMA = "envguard.quantized/1"
SAFETENSORS = "model.safetensors"
TORCH_FILE = "model.pt"
BUFFER = "buffer/"  # before the names of buffers that are not in the model's state dict


def save(adapter: Adapter, model: torch.nn.Module, scheme: str, path: str) -> None:
    """Write a quantized model to a folder. Raises BadInput where it cannot be written to."""
    stored = adapter.store(model)
    buffers = _unsaved_buffers(model)
    tensors, shared = _split_shared({**stored.tensors, **{f"{BUFFER}{name}": each for name, each in buffers.items()}})
    description = {
        "schema": SCHEMA,
        "backend": adapter.permit.request.backend,
        "scheme": scheme,
        "versions": {adapter.permit.request.backend: adapter.permit.version, "torch": torch.__version__},
        "linears": shapes(model),
        "layout": stored.layout,
        "shared": shared,
        "plain": stored.plain,
    }
    with written_folder(path, last=DESCRIPTION) as folder:
        save_config(model, folder)
        if stored.plain:
            from safetensors.torch import save_file

            save_file(tensors, os.path.join(folder, SAFETENSORS), metadata={"format": "pt"})
        else:
            torch.save(tensors, os.path.join(folder, TORCH_FILE))
        with open(os.path.join(folder, DESCRIPTION), "w", encoding="utf-8") as file:
            json.dump(description, file, indent=1)


def load(
    adapter: Adapter, make: Callable[[], torch.nn.Module], path: str, description: dict[str, Any]
) -> torch.nn.Module:
    """The model of such a folder; `make` gives one of the same architecture, whose weights do not count.

    Raises BadInput where the folder's files are not what its description says.
    """
    file = os.path.join(path, SAFETENSORS if description["plain"] else TORCH_FILE)
    try:
        tensors = _read_safetensors(file) if description["plain"] else _read_torch(file, description)
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror or error}") from None
    for alias, name in description["shared"].items():
        tensors[alias] = tensors[name]
    from accelerate import init_empty_weights

    with init_empty_weights():
        model = make()
    if shapes(model) != description["linears"]:
        raise BadInput(f"{path} holds another model than this {type(model).__name__}: its linear layers differ")
    _set_buffers(model, {name: tensors.pop(name) for name in list(tensors) if name.startswith(BUFFER)})
    restored = adapter.restore(
        model, description["scheme"], Stored(tensors, description["layout"], description["plain"])
    )
    share(restored, description["shared"])
    return restored.eval()


def _read_safetensors(file: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(file).items()}  # aligned; kernels crash on less


def _read_torch(file: str, description: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Raises BadInput for anything but tensors, also of classes that the installed release does not have any more."""
    try:
        tensors: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
        saved = ", ".join(f"{name} {version}" for name, version in description.get("versions", {}).items())
        # without torch's advice to read it in an unsafe way
        text = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0].strip()
        raise BadInput(f"cannot read {file}, which was saved with {saved}: {text}") from None
    return tensors


def save_config(model: torch.nn.Module, folder: str) -> None:
    """The model's own config.json: diffusers' models write it themselves, transformers' have an object that does."""
    config: Any = model
    if hasattr(config, "save_config"):
        config.save_config(folder)
    elif hasattr(getattr(config, "config", None), "save_pretrained"):
        config.config.save_pretrained(folder)


def model_config(model: torch.nn.Module) -> dict[str, Any] | None:
    """What `save_config` writes, None for a model without a configuration of its own."""
    with tempfile.TemporaryDirectory(prefix="envguard-") as folder:
        save_config(model, folder)
        try:
            with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
                config: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return None
    return config


def _unsaved_buffers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Buffers that a state dict leaves out, such as rotary frequencies: `model.bfloat16()` changes them too."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def _set_buffers(model: torch.nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """The opposite of `_unsaved_buffers`. Raises BadInput where the model has no such module."""
    for name, tensor in buffers.items():
        parent, _, last = name.removeprefix(BUFFER).rpartition(".")
        try:
            model.get_submodule(parent).register_buffer(last, tensor, persistent=False)
        except (AttributeError, KeyError) as error:
            raise BadInput(f"the saved tensors do not fit {type(model).__name__}: {error}") from None


def _split_shared(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Each tensor once, on the CPU and contiguous, and the further names under which it is known (tied weights)."""
    first: dict[int, str] = {}
    kept: dict[str, torch.Tensor] = {}
    shared: dict[str, str] = {}
    for name, tensor in tensors.items():
        known = first.setdefault(id(tensor), name) if tensor.numel() == 0 else _first(first, tensor, name)
        if known != name and tensors[known].shape == tensor.shape:
            shared[name] = known
        else:
            kept[name] = tensor.detach() if _wraps(tensor) else tensor.detach().to("cpu").contiguous()
    return kept, shared


def _first(first: dict[int, str], tensor: torch.Tensor, name: str) -> str:
    return first.setdefault(id(tensor) if _wraps(tensor) else tensor.data_ptr(), name)


def _wraps(tensor: torch.Tensor) -> bool:
    """True for a subclass that keeps its data in tensors of its own: its data_ptr is 0, whatever it holds."""
    return hasattr(tensor, "__tensor_flatten__")


def share(model: torch.nn.Module, shared: Mapping[str, str]) -> None:
    """Tie parameters again: each further name gets the parameter of the name that it is known under."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for alias, name in shared.items():
        parent, _, last = alias.rpartition(".")
        if name in parameters and alias in parameters:
            setattr(model.get_submodule(parent), last, parameters[name])
