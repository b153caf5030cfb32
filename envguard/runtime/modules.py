"""The layers of a torch module by their dotted names: which are quantized, which are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from envguard.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def left_out(name: str, exclude: Sequence[str]) -> bool:
    """True for a module that an entry of `exclude` names: by its dotted name, a parent's, or its last part.

    The hosts read their modules_to_not_convert in the same way.
    """
    parts = name.split(".")
    return any(
        name == entry or name.startswith(f"{entry}.") or parts[-1] == entry or entry in parts for entry in exclude
    )


def linears(model: torch.nn.Module, exclude: Sequence[str] = ()) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The plain `torch.nn.Linear` layers that are to be quantized, with their dotted names."""
    for name, module in model.named_modules():
        if type(module) is torch.nn.Linear and not left_out(name, exclude):
            yield name, module


def shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    """Name -> [out_features, in_features] of each linear layer, quantized or not: what two models must share."""
    layers = [(name, each) for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)]
    return {name: [layer.out_features, layer.in_features] for name, layer in layers}


def replace_module(model: torch.nn.Module, name: str, new: torch.nn.Module) -> None:
    """Put a module in the place of the one with that dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


def nbytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters and buffers, the tensors inside tensor subclasses counted, shared storage once."""
    seen: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        for plain in plain_tensors(tensor):
            storage = plain.untyped_storage()
            seen[storage.data_ptr() or id(storage)] = storage.nbytes()
    return sum(seen.values())


def plain_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that hold a tensor's data: itself, or those that a subclass wraps."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
        return
    names, _ = flatten()
    for name in names:
        yield from plain_tensors(getattr(tensor, name))


def assign(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load a whole state dict, whose tensors take the place of the model's own.

    Raises BadInput where a tensor is missing, one too many, or of another shape.
    """
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise BadInput(f"the saved tensors do not fit {type(model).__name__}: {error}") from None
    left = [name for name, tensor in model.named_parameters() if tensor.device.type == "meta"]
    if left or unexpected:
        wrong = [*(f"{name} is missing" for name in left), *(f"{name} is not the model's" for name in unexpected)]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BadInput(f"the saved tensors do not fit {type(model).__name__}: {', '.join(wrong[:3])}{more}")
    del missing  # buffers that a model makes by itself, and layers of modules that count as one
