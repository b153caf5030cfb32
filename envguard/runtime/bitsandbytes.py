"""bitsandbytes: linear layers become its Linear4bit (nf4, fp4) or Linear8bitLt (int8).

Read in the released wheels of 0.43.3 to 0.50.2. On a CPU with AVX512-BF16 Linear4bit packs its weight anew when it
first runs (0.49.0 and later, nn/modules.py, functional.py). Layers of many sizes fail at that, and its own way back,
taken by state_dict, leaves the scales in another order: see `_prepare_to_pack` and `_unpack`.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from envguard.errors import BadInput, EnvguardWarning
from envguard.runtime.adapter import Adapter, Stored, refuse_unknown
from envguard.runtime.hosts import modules_to_skip
from envguard.runtime.modules import assign, linears, replace_module
from envguard.runtime.progress import steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # values that share one scale: 64, on ROCm 128 up to 0.48
_NESTED = 256  # scales that share one scale of theirs (double_quant)
_SCALES = "envguard_scales"  # the attribute of a layer that holds absmax, offset and state2 from before it was packed
_QUANTIZABLE = (torch.float32, torch.float16, torch.bfloat16)
_THRESHOLD = 6.0  # the hosts' default; bitsandbytes' own is 0, no outliers


class Bitsandbytes(Adapter):
    """nf4 and fp4: 4 bits, a float32 scale for 64 weights. int8: a scale for each row, and outliers in 16 bits.

    Options, in the hosts' words without their prefixes: `exclude` (llm_int8_skip_modules), names of modules to leave as
    they are; for nf4 and fp4 `compute_dtype` (bnb_4bit_compute_dtype), a torch.dtype or its name, and `double_quant`
    (bnb_4bit_use_double_quant), True to quantize the scales too; for int8 `threshold` (llm_int8_threshold, 6.0): inputs
    beyond it are computed in 16 bits, 0 has none.
    """

    def quantize(
        self,
        model: torch.nn.Module,
        scheme: str,
        *,
        exclude: Sequence[str] = (),
        compute_dtype: torch.dtype | str | None = None,
        double_quant: bool | None = None,
        threshold: float | None = None,
    ) -> torch.nn.Module:
        """See Adapter and the class. Without `compute_dtype` a layer computes in the type of its first input."""
        options = _options(scheme, "quantize", compute_dtype, double_quant, threshold)
        layers = list(linears(model, exclude))
        for name, linear in layers:
            _check_quantizable(name, linear)
        if scheme != "int8":
            layers = self._without_unfit(layers)
        self._move_to_cpu(model)
        for name, linear in steps(layers, f"bitsandbytes {scheme}"):
            layer = self._empty(linear, scheme, options)
            layer.weight = self._weight(linear.weight.detach(), scheme, options, layer)
            layer.bias = linear.bias
            _prepare_to_pack(layer)
            replace_module(model, name, layer)
        return self._move_elsewhere(model)

    def host_config(
        self,
        scheme: str,
        *,
        exclude: Sequence[str] = (),
        compute_dtype: torch.dtype | str | None = None,
        double_quant: bool | None = None,
        threshold: float | None = None,
    ) -> Any:
        """See Adapter: BitsAndBytesConfig of the host, whose default for `compute_dtype` is float32.

        Without `exclude` transformers leaves out the output layer (lm_head); with it, what `exclude` names alone.
        """
        options = _options(scheme, "load", compute_dtype, double_quant, threshold)
        if self.permit.request.host == "diffusers":
            from diffusers import BitsAndBytesConfig
        else:
            from transformers import BitsAndBytesConfig
        skipped = modules_to_skip(exclude)
        if scheme == "int8":
            return BitsAndBytesConfig(
                load_in_8bit=True, llm_int8_threshold=options["threshold"], llm_int8_skip_modules=skipped
            )
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=scheme,
            bnb_4bit_compute_dtype=options["compute_dtype"],
            bnb_4bit_use_double_quant=options["double_quant"],
            llm_int8_skip_modules=skipped,
        )

    def device_map(self) -> dict[str, str] | None:
        """See Adapter. transformers puts a model on the GPU if there is one, so that the CPU has to be named too."""
        return {"": self.permit.device}

    def loaded(self, model: torch.nn.Module) -> None:
        """See Adapter: what would fail or be wrong at its first run. Raises BadInput."""
        layers = list(self._layers(model))
        self._refuse_unfit((name, layer) for name, layer in layers if isinstance(layer, self.module.nn.Linear4bit))
        for _, layer in layers:
            _prepare_to_pack(layer)

    def store(self, model: torch.nn.Module) -> Stored:
        """See Adapter. The layout maps each layer to the options that it was quantized with."""
        layout = {name: _options_of(layer) for name, layer in self._layers(model)}
        return Stored({name: _plain(tensor) for name, tensor in model.state_dict().items()}, layout)

    def restore(self, model: torch.nn.Module, scheme: str, stored: Stored) -> torch.nn.Module:
        """See Adapter."""
        tensors = dict(stored.tensors)
        plain = dict(linears(model))
        self._refuse_unfit((name, plain[name]) for name in stored.layout if scheme != "int8" and name in plain)
        for name, told in steps(stored.layout.items(), f"bitsandbytes {scheme}"):
            if name not in plain:
                raise BadInput(f"{type(model).__name__} has no linear layer {name!r}, which the saved model has")
            layer = self._empty(plain[name], scheme, _saved_options(name, scheme, told))
            own = {key: tensors.pop(f"{name}.{key}") for key in _own_keys(tensors, name)}
            layer.weight = self._saved_weight(name, layer, scheme, own)
            _prepare_to_pack(layer)
            replace_module(model, name, layer)
        assign(model, tensors)
        return self._move_elsewhere(model)

    def _empty(self, linear: torch.nn.Linear, scheme: str, options: Mapping[str, Any]) -> Any:
        """The quantized layer for a linear one, without weight and bias."""
        sizes, bias = (linear.in_features, linear.out_features), linear.bias is not None
        if scheme == "int8":
            return self.module.nn.Linear8bitLt(
                *sizes, bias=bias, has_fp16_weights=False, threshold=options["threshold"], device="meta"
            )
        return self.module.nn.Linear4bit(
            *sizes,
            bias=bias,
            compute_dtype=options["compute_dtype"],
            compress_statistics=options["double_quant"],
            quant_type=scheme,
            device="meta",
        )

    def _weight(self, weight: torch.Tensor, scheme: str, options: Mapping[str, Any], layer: Any) -> Any:
        """The weight (out_features, in_features), quantized on the device: bitsandbytes does so as it moves there."""
        if scheme == "int8":  # moves from the CPU alone
            made = self.module.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        else:
            made = self.module.nn.Params4bit(
                weight,
                requires_grad=False,
                compress_statistics=options["double_quant"],
                quant_type=scheme,
                module=layer,
            )
        return made.to(self.permit.device)

    def _saved_weight(self, name: str, layer: Any, scheme: str, own: dict[str, torch.Tensor]) -> Any:
        """The quantized weight from its saved tensors. Raises BadInput where they are not those of such a layer.

        Kernels trust the sizes, so that too few scales would have them read what is not theirs.
        """
        try:
            if scheme == "int8":
                return self._saved_int8(layer, own)
            return self._saved_4bit(layer, scheme, own)
        except torch.cuda.OutOfMemoryError:
            raise
        except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise BadInput(f"the saved tensors of {name} are no {scheme} weight: {error}") from None

    def _saved_int8(self, layer: Any, own: dict[str, torch.Tensor]) -> Any:
        weight, scales = own["weight"], own["SCB"]
        _expect(weight.dtype == torch.int8 and weight.shape == (layer.out_features, layer.in_features), "weight")
        _expect(scales.dtype == torch.float32 and scales.shape == (layer.out_features,), "SCB")
        weight, scales = weight.to(self.permit.device), scales.to(self.permit.device)
        return self.module.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False, CB=weight, SCB=scales)

    def _saved_4bit(self, layer: Any, scheme: str, own: dict[str, torch.Tensor]) -> Any:
        data = own.pop("weight")
        statistics = {key.removeprefix("weight."): value for key, value in own.items() if key.startswith("weight.")}
        weight = self.module.nn.Params4bit.from_prequantized(data, statistics, device=self.permit.device, module=layer)
        state = weight.quant_state
        count = layer.out_features * layer.in_features
        _expect(state.quant_type == scheme and state.blocksize in _BLOCKSIZES, "quant_state")
        blocks = -(-count // state.blocksize)
        _expect(tuple(state.shape) == (layer.out_features, layer.in_features), "shape")
        _expect(data.dtype == torch.uint8 and data.numel() == (count + 1) // 2, "weight")
        _expect(state.dtype in _QUANTIZABLE and state.code.numel() == 16, "quant_map")
        _expect(state.absmax.numel() == blocks, "absmax")
        if state.nested:
            _expect(state.absmax.dtype == torch.uint8 and state.state2.code.numel() == 256, "nested_quant_map")
            _expect(state.state2.blocksize == _NESTED, "nested_blocksize")
            _expect(state.state2.absmax.numel() == -(-blocks // _NESTED), "nested_absmax")
        else:
            _expect(state.absmax.dtype == torch.float32, "absmax")
        return weight

    def _layers(self, model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
        """The quantized layers by name."""
        kinds = self.module.nn.Linear4bit, self.module.nn.Linear8bitLt
        for name, each in model.named_modules():
            if isinstance(each, kinds):
                yield name, each

    def _without_unfit(self, layers: list[tuple[str, torch.nn.Linear]]) -> list[tuple[str, torch.nn.Linear]]:
        """The layers that the release can quantize to 4 bits here; an EnvguardWarning names the others.

        Raises BadInput where there are only others.
        """
        unfit = [name for name, layer in layers if not self._fits(layer)]
        if not unfit:
            return layers
        text = (
            f"bitsandbytes {self.permit.version} has no right code on this CPU for 4-bit weights of the sizes of"
            f" {_listed(unfit)}"
        )
        if len(unfit) == len(layers):
            raise BadInput(f"{text}: nothing is left to quantize. Take int8, or a GPU")
        warnings.warn(f"{text}: left in full precision", EnvguardWarning, stacklevel=5)
        return [(name, layer) for name, layer in layers if name not in unfit]

    def _refuse_unfit(self, layers: Iterable[tuple[str, torch.nn.Linear]]) -> None:
        """Raises BadInput for layers that are quantized already and would be read wrongly."""
        unfit = [name for name, layer in layers if not self._fits(layer)]
        if unfit:
            raise BadInput(
                f"bitsandbytes {self.permit.version} reads 4-bit weights of the sizes of {_listed(unfit)} wrongly on"
                " this CPU. Name these layers in exclude, or install bitsandbytes==0.48.2"
            )

    def _fits(self, layer: torch.nn.Linear) -> bool:
        """False for sizes that a CPU's code for 4 bits refuses or gets wrong; GPUs take any."""
        width, count = layer.in_features, layer.in_features * layer.out_features
        if self.permit.device != "cpu" or (width % 64 == 0 and count % 64 == 0):
            return True
        return _quantizes(self.module.functional, count % 64) and _reads_rows(self.module.functional, width)

    def _move_to_cpu(self, model: torch.nn.Module) -> None:
        """Before quantization: up to 0.47.0 int8 weights that are moved from the CPU to the CPU are quantized again."""
        if self.permit.device == "cpu":
            model.to("cpu")

    def _move_elsewhere(self, model: torch.nn.Module) -> torch.nn.Module:
        """After quantization, so that the device never holds the whole model in full precision."""
        return model if self.permit.device == "cpu" else model.to(self.permit.device)


def _options(
    scheme: str,
    doing: str,
    compute_dtype: torch.dtype | str | None = None,
    double_quant: bool | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """The options of a scheme, complete. Raises UnknownOption for one of another scheme, BadInput for a bad value."""
    given = {"compute_dtype": compute_dtype, "double_quant": double_quant, "threshold": threshold}
    known = ("threshold",) if scheme == "int8" else ("compute_dtype", "double_quant")
    unknown = {name: value for name, value in given.items() if value is not None}
    refuse_unknown(f"bitsandbytes:{scheme}", doing, unknown, ("exclude", *known))
    if scheme == "int8":
        return {"threshold": _THRESHOLD if threshold is None else float(threshold)}
    return {"compute_dtype": _dtype(compute_dtype), "double_quant": bool(double_quant)}


def _dtype(given: torch.dtype | str | None) -> torch.dtype | None:
    """A type to compute in, by itself or by its name ("bfloat16"). Raises BadInput."""
    dtype = getattr(torch, given.removeprefix("torch."), None) if isinstance(given, str) else given
    if given is not None and dtype not in _QUANTIZABLE:
        raise BadInput(f"compute_dtype: expected float32, float16 or bfloat16, found {given!r}")
    return dtype


def _options_of(layer: Any) -> dict[str, Any]:
    """What `_options` takes to make such a layer again; the type that its first run may have set counts as given."""
    if hasattr(layer, "state"):
        return {"threshold": layer.state.threshold}
    dtype = layer.compute_dtype
    return {"compute_dtype": None if dtype is None else str(dtype).removeprefix("torch.")}


def _saved_options(name: str, scheme: str, told: Any) -> dict[str, Any]:
    """The options of a saved layer. Raises BadInput for what `_options_of` does not write."""
    try:
        return _options(scheme, "load", **told)
    except (TypeError, ValueError) as error:
        raise BadInput(f"the saved options of {name} cannot be read: {error}") from None


def _check_quantizable(name: str, linear: torch.nn.Linear) -> None:
    """Before anything is changed. Raises BadInput."""
    if linear.weight.dtype not in _QUANTIZABLE or linear.weight.device.type == "meta":
        found = "no values (meta device)" if linear.weight.device.type == "meta" else str(linear.weight.dtype)
        raise BadInput(f"bitsandbytes quantizes float32, float16 and bfloat16; the weight of {name} has {found}")


def _prepare_to_pack(layer: Any) -> None:
    """Before the first run of a layer that packs its weight for AVX512-BF16.

    It packs 32 rows together and needs whole blocks in each; where it cannot, it fails, so that it is kept from trying.
    Packing rounds the scales to bfloat16 and transposes them: they are kept as they are, for `_unpack`.
    """
    if not getattr(layer, "support_avx512bf16_for_cpu", False) or layer.weight.device.type != "cpu":
        return
    if layer.out_features % 32 or layer.in_features % layer.weight.blocksize:
        layer.support_avx512bf16_for_cpu = False
    else:
        state = layer.weight.quant_state
        setattr(layer, _SCALES, (state.absmax, state.offset, state.state2))
        layer.register_state_dict_pre_hook(_unpack)


def _unpack(layer: Any, *_: Any) -> None:
    """Undo the packing, with the scales as they were before, when a state dict is asked for; the next run packs again.

    bitsandbytes would unpack by itself and leave the scales in the wrong order, in the state dict and in the layer.
    """
    state = layer.weight.quant_state
    if getattr(state, "packing_format_for_cpu", False):
        from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

        state.original_nested = False
        layer.weight.data, state = _convert_weight_packed_for_cpu_inverse(layer.weight.data, state)
        state.absmax, state.offset, state.state2 = getattr(layer, _SCALES)
        state.nested = state.state2 is not None


@cache
def _quantizes(functional: Any, rest: int) -> bool:
    """True where as many weights beyond whole blocks are no error: 0.46 takes none, up to 0.49.2 no odd number."""
    try:
        functional.quantize_4bit(torch.ones(1, 64 + rest), quant_type="nf4")
    except RuntimeError:
        return False
    return True


@cache
def _reads_rows(functional: Any, width: int) -> bool:
    """True where rows of that width give the same weights as one long row does, whose blocks are whole.

    From 0.49.0 to 0.50.2 the code for AVX-512 takes the scales of other blocks, without a word, where a row ends within
    a block and its width is a multiple of 16. It is tried, since it depends on the CPU too.
    """
    weights = torch.linspace(-1, 1, 64 * width).reshape(64, width)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4")
    rows = functional.dequantize_4bit(packed, state)
    state.shape = torch.Size((1, 64 * width))
    same: bool = torch.equal(rows.reshape(-1), functional.dequantize_4bit(packed, state).reshape(-1))
    return same


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _own_keys(tensors: Mapping[str, torch.Tensor], name: str) -> list[str]:
    """The saved tensors of a layer's quantized weight, by their names inside the layer."""
    start = f"{name}."
    keys = [key.removeprefix(start) for key in tensors if key.startswith(start)]
    return [key for key in keys if key in ("weight", "SCB", "weight_format") or key.startswith("weight.")]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without the subclass, whose methods expect attributes that a state dict's tensors do not have."""
    return tensor.detach().as_subclass(torch.Tensor)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} has another type or size")


ADAPTER = Bitsandbytes
