"""optimum-quanto: linear layers become its own modules, whose weights are frozen as quantized tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envguard.runtime.adapter import Adapter, Stored
from envguard.runtime.modules import assign, linears, replace_module
from envguard.runtime.progress import steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_WEIGHTS = {"int8": "qint8", "int4": "qint4", "int2": "qint2", "float8": "qfloat8"}


class Quanto(Adapter):
    """Weights alone are quantized: int8 and float8 per row, int4 and int2 in groups of 128."""

    def quantize(self, model: torch.nn.Module, scheme: str, *, exclude: Sequence[str] = ()) -> torch.nn.Module:
        """See Adapter. `exclude`: names of modules to leave as they are."""
        for name, linear in steps(list(linears(model, exclude)), f"quanto {scheme}"):
            quantized = self._layer(linear.to(self.permit.device), _WEIGHTS[scheme])
            quantized.freeze()
            replace_module(model, name, quantized)
        return model.to(self.permit.device)

    def host_config(self, scheme: str, *, exclude: Sequence[str] = ()) -> Any:
        """See Adapter: diffusers.QuantoConfig or transformers.QuantoConfig."""
        if self.permit.request.host == "diffusers":
            from diffusers import QuantoConfig

            return QuantoConfig(weights_dtype=scheme, modules_to_not_convert=list(exclude) or None)
        from transformers import QuantoConfig

        return QuantoConfig(weights=scheme, modules_to_not_convert=list(exclude) or None)

    def device_map(self) -> dict[str, str] | None:
        """See Adapter. A saved model comes to the CPU first, and is named so; one that is quantized there needs no map.

        diffusers 0.42.1 leaves its scales on the meta device where it is told nothing, and looks for parameters that
        quantized layers do not have where it is told a GPU (modeling_utils.py, _caching_allocator_warmup). With any map
        accelerate asks for the state dict, for which a CPU unpacks every int4 weight (big_modeling.py, dispatch_model).
        """
        if self.permit.request.operation == "load":
            return {"": "cpu"}
        return None if self.permit.device == "cpu" else {"": self.permit.device}

    def loaded(self, model: torch.nn.Module) -> None:
        """See Adapter."""
        model.to(self.permit.device)

    def store(self, model: torch.nn.Module) -> Stored:
        """See Adapter. The layout maps each layer to its weights' type."""
        return Stored(dict(model.state_dict()), self.module.quantization_map(model))

    def restore(self, model: torch.nn.Module, scheme: str, stored: Stored) -> torch.nn.Module:
        """See Adapter."""
        for name, types in steps(stored.layout.items(), f"quanto {scheme}"):
            replace_module(model, name, self._layer(model.get_submodule(name), types["weights"]))
        assign(model, stored.tensors)
        return model.to(self.permit.device)

    def _layer(self, linear: torch.nn.Module, weights: str) -> Any:
        return self.module.QLinear.from_module(linear, weights=self.module.qtypes[weights])


ADAPTER = Quanto
