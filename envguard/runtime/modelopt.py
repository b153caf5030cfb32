"""NVIDIA ModelOpt: the weights of linear layers quantized and compressed, and their inputs too where data is given.

Only the plain linear layers are handed to modelopt, a few at a time, in containers of our own: what else a model holds
(convolutions, attention) is not converted, and no more full-precision weights than those lie on the device at once.

A host's model is loaded in full precision and quantized here. diffusers' own quantizer fails with most releases and
schemes (`rules/diffusers.toml`) and serves pipelines alone; transformers has none.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import torch

from envguard.errors import BadInput
from envguard.runtime.adapter import Adapter, Stored
from envguard.runtime.modules import assign, linears
from envguard.runtime.progress import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Layers = Mapping[str, torch.nn.Linear]

_FP8 = (4, 3)  # exponent and mantissa bits, as modelopt writes floating-point types
_FP4 = (2, 1)
_INT4_BLOCK, _NF4_BLOCK, _NVFP4_BLOCK = 128, 64, 16
_INPUTS: dict[str, dict[str, Any]] = {
    "fp8": {"num_bits": _FP8, "axis": None},
    "int8": {"num_bits": 8, "axis": None},
    "nvfp4": {"num_bits": _FP4, "block_sizes": {-1: _NVFP4_BLOCK, "type": "dynamic", "scale_bits": _FP8}},
}
_TENSORS = {
    "fp8": "FP8QTensor",
    "int8": "INT8QTensor",
    "int4": "INT4QTensor",
    "nf4": "NF4QTensor",
    "nvfp4": "NVFP4QTensor",
}
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_GROUP = 32  # layers that modelopt gets at once: enough to forget its cost of a call, few enough for a small peak


class ModelOpt(Adapter):
    """fp8 per tensor, int8 per row, int4 in blocks of 128, nf4 of 64, nvfp4 of 16 weights."""

    def __init__(self, permit: Any) -> None:
        """See Adapter."""
        super().__init__(permit)
        with _quiet():
            import modelopt.torch.quantization as mtq
            from modelopt.torch.quantization.qtensor import QTensorWrapper
        self.mtq = mtq
        self.weight_type = type("CompressedWeight", (QTensorWrapper,), {"dtype": property(_dtype)})

    def quantize(
        self,
        model: torch.nn.Module,
        scheme: str,
        *,
        exclude: Sequence[str] = (),
        calibrate: Callable[[torch.nn.Module], Any] | None = None,
    ) -> torch.nn.Module:
        """See Adapter.

        `exclude`: names of modules to leave as they are. `calibrate`: a function that runs the model on data; the
        inputs of the layers are then quantized too (fp8, int8, nvfp4), with the scales that this data needs. Without
        it only weights are quantized, which needs no data. A layer whose weights are all zero stays as it is in fp8 and
        nvfp4: modelopt would scale it by zero, and give NaN.
        Raises BadInput where nothing can be quantized, or a layer does not fit the scheme's blocks.
        """
        if calibrate is not None and scheme not in _INPUTS:
            raise BadInput(f"modelopt:{scheme} quantizes weights alone and has no use for calibrate: leave it out")
        layers = {name: linear for name, linear in linears(model, exclude) if not _zero(linear, scheme)}
        if not layers:
            raise BadInput(
                f"this {type(model).__name__} has no linear layer to quantize (torch.nn.Linear, not excluded)"
            )
        _fit(layers, scheme)
        if calibrate is None:
            for group in steps(list(_groups(layers)), f"modelopt {scheme}"):
                self._quantize(group, scheme, None)
            return model.to(self.permit.device)
        model.to(self.permit.device).eval()
        run = calibrate
        self._quantize(layers, scheme, lambda: run(model))
        return model

    def host_config(self, scheme: str, *, exclude: Sequence[str] = ()) -> Any:
        """See Adapter: diffusers' NVIDIAModelOptConfig, for a component of a pipeline. `load` does without it.

        Raises BadInput for transformers, which has no quantizer for modelopt.
        """
        if self.permit.request.host != "diffusers":
            raise BadInput(
                "transformers has no quantizer for modelopt: load the component with"
                f" envguard.require('modelopt:{scheme}', host='transformers').load, and give it to the pipeline"
            )
        with _quiet():
            from diffusers import NVIDIAModelOptConfig

            axis = {"channel_quantize": 0} if scheme == "int8" else {}
            return NVIDIAModelOptConfig(scheme.upper(), modules_to_not_convert=list(exclude), **axis)

    def before_host_loads(self) -> None:
        """See Adapter: never. It is a pickle that holds the layers, and nvidia-modelopt <= 0.43 would run it."""
        raise BadInput(
            "what diffusers and transformers save with modelopt needs modelopt_state.pth, a pickle, which is not read"
            " here: load the full-precision model with envguard, which quantizes it, and save that"
        )

    def host_saves(self, model: torch.nn.Module) -> None:
        """See Adapter: never, for the same reason."""
        del model

    def store(self, model: torch.nn.Module) -> Stored:
        """See Adapter. The layout has each quantized layer's shape, its dtype, and whether its inputs are quantized."""
        tensors = {name: tensor.detach().as_subclass(torch.Tensor) for name, tensor in model.state_dict().items()}
        layout = {}
        for name, layer in self._quantized(model):
            held = layer._parameters["weight"].metadata
            layout[name] = {
                "shape": list(held["shape"]),
                "dtype": str(held["dtype"]).removeprefix("torch."),
                "inputs": layer.input_quantizer.is_enabled,
            }
        return Stored(tensors, layout)

    def restore(self, model: torch.nn.Module, scheme: str, stored: Stored) -> torch.nn.Module:
        """See Adapter. Builds the layers with modelopt itself and gives them the stored weights and scales."""
        found = dict(linears(model))
        absent = [name for name in stored.layout if name not in found]
        if absent:
            raise BadInput(f"{type(model).__name__} has no linear layer {absent[0]}, which the saved model has")
        layers = {name: found[name] for name in stored.layout}
        for name, layer in layers.items():
            if list(layer.weight.shape) != stored.layout[name]["shape"]:
                raise BadInput(
                    f"the saved tensors do not fit {type(model).__name__}: {name} is {list(layer.weight.shape)}, saved"
                    f" was {stored.layout[name]['shape']}"
                )
        tensors = dict(stored.tensors)
        for group in steps(list(_groups(layers)), f"modelopt {scheme}"):
            self._convert(group, scheme, any(stored.layout[name]["inputs"] for name in group))
            for name, layer in group.items():
                self._fill(layer, scheme, name, stored.layout[name], tensors)
        assign(model, tensors)
        return model.to(self.permit.device)

    def _quantize(self, layers: Layers, scheme: str, run: Callable[[], Any] | None) -> None:
        """Quantize and compress some layers in place, on the device. Raises BadInput where modelopt did not."""
        for layer in layers.values():
            layer.to(self.permit.device)
        before = {name: layer.weight.nbytes for name, layer in layers.items()}
        self._convert(layers, scheme, run is not None, run)
        quantized = {id(layer) for _, layer in self._quantized(torch.nn.ModuleList(layers.values()))}
        for name, layer in layers.items():
            if id(layer) not in quantized or layer._parameters["weight"].data.nbytes >= before[name]:
                raise BadInput(
                    f"nvidia-modelopt {self.permit.version} did not compress {name}, without saying so: the model is"
                    f" not quantized; please report this ({scheme}, {before[name]} bytes)"
                )
            layer._parameters["weight"].__class__ = self.weight_type

    def _convert(self, layers: Layers, scheme: str, inputs: bool, run: Callable[[], Any] | None = None) -> None:
        """Make modelopt's layers of plain ones, in place; those on torch's meta device get no weights."""
        container = torch.nn.ModuleList(layers.values())
        calibration = (lambda _: run()) if run is not None else None
        with _quiet():
            self.mtq.quantize(container, self._config(container, scheme, inputs, run), calibration)
            self.mtq.compress(container)

    def _config(self, layers: torch.nn.ModuleList, scheme: str, inputs: bool, run: Any) -> dict[str, Any]:
        """The configuration: a list of entries from 0.44 on, whose readers lose the older table's order.

        Everything is disabled first and each layer enabled after that: entries of one name are read in this order by
        every release, while 0.44.0 to 0.46.1 quantize nothing for a table that ends in "default".
        """
        wanted = {f"{i}.weight_quantizer": _weights(scheme, layer.weight) for i, layer in enumerate(layers)}
        if inputs:
            wanted["*input_quantizer"] = _INPUTS[scheme]
        algorithm = "max" if run is not None else None
        if hasattr(self.mtq.config, "QuantizerCfgEntry"):
            entries: list[dict[str, Any]] = [{"quantizer_name": "*", "enable": False}]
            entries += [{"quantizer_name": name, "cfg": cfg, "enable": True} for name, cfg in wanted.items()]
            return {"quant_cfg": entries, "algorithm": algorithm}
        table = {name: {**cfg, "enable": True} for name, cfg in wanted.items()}
        return {"quant_cfg": {"*": {"enable": False}, **table}, "algorithm": algorithm}

    def _quantized(self, model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
        """The layers whose weights are compressed and whose weight quantizer is on, with their dotted names."""
        from modelopt.torch.quantization.qtensor import QTensorWrapper

        for name, module in model.named_modules():
            quantizer = getattr(module, "weight_quantizer", None)
            if (
                quantizer is not None
                and quantizer.is_enabled
                and isinstance(module._parameters["weight"], QTensorWrapper)
            ):
                yield name, module

    def _fill(
        self, layer: Any, scheme: str, name: str, described: Mapping[str, Any], tensors: dict[str, torch.Tensor]
    ) -> None:
        """Give a converted layer its compressed weight, and each of its quantizers the scales it had."""
        from modelopt.torch.quantization import qtensor

        packed = tensors.pop(f"{name}.weight", None)
        if packed is None or f"{name}.weight_quantizer._scale" not in tensors:
            raise BadInput(f"the saved model is incomplete: {name} lacks its weight or its scales")
        dtype = _DTYPES.get(described["dtype"])
        if dtype is None:
            raise BadInput(f"the saved model's layer {name} has an unknown dtype {described['dtype']!r:.40}")
        metadata = {"shape": torch.Size(described["shape"]), "dtype": dtype}
        metadata["qtensor_class"] = getattr(qtensor, _TENSORS[scheme])
        layer._parameters["weight"] = self.weight_type(packed, metadata=metadata)
        for part in ("weight_quantizer", "input_quantizer"):
            quantizer = getattr(layer, part)
            start = f"{name}.{part}."
            for key in [key for key in tensors if key.startswith(start)]:
                quantizer.register_buffer(key.removeprefix(start), tensors[key])
        layer.weight_quantizer._dequantize = True


def _dtype(weight: Any) -> torch.dtype:
    """The dtype that a compressed weight counts as: hosts make the inputs of it, and cannot make them in fp8."""
    dtype: torch.dtype = weight.metadata["dtype"]
    return dtype


def _weights(scheme: str, weight: torch.Tensor) -> dict[str, Any]:
    """How modelopt is to quantize a weight; what `restore` reads depends on it, so that it never changes."""
    if scheme == "fp8":
        return {"num_bits": _FP8, "axis": None}
    if scheme == "int8":
        return {"num_bits": 8, "axis": 0}
    if scheme == "int4":
        return {"num_bits": 4, "block_sizes": {-1: _INT4_BLOCK}}
    if scheme == "nvfp4":
        return {"num_bits": _FP4, "block_sizes": {-1: _NVFP4_BLOCK, "type": "dynamic", "scale_bits": _FP8}}
    # one block of scales for the whole weight: releases up to 0.47.0 cannot read back several (NF4QTensor.dequantize)
    scales = -(-weight.numel() // _NF4_BLOCK)
    return {"num_bits": 4, "block_sizes": {-1: _NF4_BLOCK, "scale_bits": 8, "scale_block_sizes": {-1: scales}}}


def _zero(linear: torch.nn.Linear, scheme: str) -> bool:
    """True for a weight whose one scale would be zero: models are made with such layers, and some never train them."""
    if scheme not in ("fp8", "nvfp4") or bool(linear.weight.reshape(-1)[:1024].any()):  # most tell at once
        return False
    return not bool(linear.weight.any())


def _fit(layers: Layers, scheme: str) -> None:
    """Raises BadInput, with the layers to exclude, where a weight cannot be cut into the scheme's blocks."""
    block = {"int4": _INT4_BLOCK, "nf4": _NF4_BLOCK}.get(scheme)
    if block is not None:
        wrong = [name for name, layer in layers.items() if layer.weight.numel() % block]
    elif scheme == "nvfp4":
        block = _NVFP4_BLOCK
        wrong = [name for name, layer in layers.items() if layer.in_features % block]
    else:
        return
    if wrong:
        raise BadInput(
            f"modelopt:{scheme} cuts weights into blocks of {block}, which these layers are no multiple of:"
            f" leave them out with exclude={wrong}"
        )


def _groups(layers: Layers) -> Iterator[dict[str, torch.nn.Linear]]:
    items = list(layers.items())
    for start in range(0, len(items), _GROUP):
        yield dict(items[start : start + _GROUP])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without modelopt's own prints on standard output, and its warning that it never tried the transformers here."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"modelopt\..*")
        yield


ADAPTER = ModelOpt
