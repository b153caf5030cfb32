"""Which backend and scheme a `quantization_config` names, in the forms that diffusers and transformers write.

Read from their configuration classes: diffusers 0.32 to 0.42.1 (diffusers/quantizers/quantization_config.py),
transformers 4.57 and 5.23 (transformers/utils/quantization_config.py), torchao 0.18 (torchao/core/config.py) and
modelopt 0.47 (modelopt/torch/export). Whatever they name and envguard does not know is said, never guessed.
"""

from __future__ import annotations

from envguard.errors import BadModel
from envguard.frozen import Frozen
from envguard.modelfiles.bounded_json import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from envguard.modelfiles.tensors import Tensor

KNOWN = ("bitsandbytes", "torchao", "quanto", "gguf", "modelopt")


class Quantized(Frozen):
    """How weights are stored: backend, scheme, and what the configuration itself calls it.

    `skipped` are the modules that were left as they were, `options` what changes how many bytes a weight takes.
    """

    backend: str
    scheme: str
    description: str
    skipped: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def spec(self) -> str:
        """Such as bitsandbytes:nf4."""
        return f"{self.backend}:{self.scheme}"


def from_config(config: Mapping[str, Any]) -> Quantized | None:
    """What a `quantization_config` says, None where it asks for nothing. Raises BadModel for what is not known."""
    if not config:
        return None
    method = config.get("quant_method")
    if method is None and (_flag(config, "load_in_4bit") or _flag(config, "load_in_8bit")):
        method = "bitsandbytes"  # transformers 4.30 wrote no method
    if method is None and ("quantization" in config or isinstance(config.get("producer"), dict)):
        method = "modelopt"  # hf_quant_config.json
    if not isinstance(method, str):
        raise BadModel(f"quantization_config: quant_method: expected one of {', '.join(KNOWN)}, found {_shown(method)}")
    name = method.lower()
    reader = {
        "bitsandbytes": _bitsandbytes,
        "bitsandbytes_4bit": _bitsandbytes,
        "bitsandbytes_8bit": _bitsandbytes,
        "torchao": _torchao,
        "quanto": _quanto,
        "gguf": _gguf,
        "modelopt": _modelopt,
    }.get(name)
    if reader is None:
        raise BadModel(
            f"quantization_config: quant_method: expected one of {', '.join(KNOWN)}, found {shown(method)},"
            " which envguard does not know"
        )
    return reader(config)


def from_tensors(tensors: Iterable[Tensor]) -> Quantized | None:
    """What the names of a file's tensors give away: bitsandbytes saves its statistics beside each weight."""
    for tensor in tensors:
        for kind in ("nf4", "fp4"):
            if tensor.name.endswith(f".quant_state.bitsandbytes__{kind}"):
                return Quantized("bitsandbytes", kind, f"tensors of bitsandbytes, {kind}")
        if tensor.name.endswith(".SCB"):
            return Quantized("bitsandbytes", "int8", "tensors of bitsandbytes, int8")
    return None


def from_quanto_map(names: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that optimum-quanto's quanto_qmap.json stands for: module -> its types."""
    found = [entry.get("weights") for entry in names.values() if isinstance(entry, dict)]
    weights = [kind for kind in found if isinstance(kind, str)]
    most = max(weights, key=weights.count, default="int8") if len(weights) <= 2000 else weights[0]
    return {"quant_method": "quanto", "weights": most.removeprefix("q").partition("_")[0]}


def _bitsandbytes(config: Mapping[str, Any]) -> Quantized | None:
    four, eight = _flag(config, "load_in_4bit"), _flag(config, "load_in_8bit")
    if four and eight:
        raise BadModel("quantization_config: expected one of load_in_4bit and load_in_8bit, found both")
    skipped = _names(config.get("llm_int8_skip_modules"))
    if eight:
        return Quantized("bitsandbytes", "int8", "load_in_8bit", skipped)
    if not four:
        return None
    kind = config.get("bnb_4bit_quant_type", "fp4")
    if kind not in ("nf4", "fp4"):
        raise _unknown("bnb_4bit_quant_type", kind, ("nf4", "fp4"))
    double = config.get("bnb_4bit_use_double_quant") is True
    options = (("double_quant", True),) if double else ()
    return Quantized(
        "bitsandbytes", kind, f"load_in_4bit, {kind}{', double quant' if double else ''}", skipped, options
    )


_QUANTO = ("float8", "int8", "int4", "int2")


def _quanto(config: Mapping[str, Any]) -> Quantized:
    # diffusers writes weights_dtype, transformers weights
    weights = config.get("weights_dtype", config.get("weights", "int8"))
    if weights not in _QUANTO:
        raise _unknown("weights", weights, _QUANTO)
    return Quantized("quanto", weights, f"{weights} weights", _names(config.get("modules_to_not_convert")))


def _gguf(config: Mapping[str, Any]) -> None:
    """The header of the file says it all; a configuration names the file at most."""


# torchao's functions and diffusers' short names, <= 0.37 (diffusers 0.37.1 quantization_config.py, TorchAoConfig)
_TORCHAO_NAMES = {
    "int4_weight_only": "int4_weight_only",
    "int4wo": "int4_weight_only",
    "int8_weight_only": "int8_weight_only",
    "int8wo": "int8_weight_only",
    "int8_dynamic_activation_int8_weight": "int8_dynamic",
    "int8dq": "int8_dynamic",
    "float8_weight_only": "float8_weight_only",
    "float8wo": "float8_weight_only",
    "float8wo_e5m2": "float8_weight_only",
    "float8wo_e4m3": "float8_weight_only",
    "float8_dynamic_activation_float8_weight": "float8_dynamic",
    "float8dq": "float8_dynamic",
    "float8dq_e4m3": "float8_dynamic",
    "float8dq_e4m3_tensor": "float8_dynamic",
    "float8dq_e4m3_row": "float8_dynamic",
}
_TORCHAO_CLASSES = {
    "Int8WeightOnlyConfig": "int8_weight_only",
    "Int8DynamicActivationInt8WeightConfig": "int8_dynamic",
    "Int4WeightOnlyConfig": "int4_weight_only",
    "Int4WeightOnlyOpaqueTensorConfig": "int4_weight_only",
    "Float8WeightOnlyConfig": "float8_weight_only",
    "Float8DynamicActivationFloat8WeightConfig": "float8_dynamic",
    "NVFP4WeightOnlyConfig": "nvfp4_weight_only",
    "NVFP4DynamicActivationNVFP4WeightConfig": "nvfp4_dynamic",
    "MXDynamicActivationMXWeightConfig": "mxfp8_dynamic",
}


def _torchao(config: Mapping[str, Any]) -> Quantized:
    kind = config.get("quant_type")
    skipped = _names(config.get("modules_to_not_convert"))
    if isinstance(kind, str):
        arguments = config.get("quant_type_kwargs")
        return _torchao_name(kind, arguments if isinstance(arguments, dict) else {}, skipped)
    if isinstance(kind, dict) and set(kind) == {"default"}:
        kind = kind["default"]
    if not isinstance(kind, dict) or not isinstance(kind.get("_type"), str):
        raise _unknown("quant_type", kind, ("a name", "one serialized torchao configuration"))
    name = kind["_type"].rpartition(".")[2]
    data = kind.get("_data")
    data = data if isinstance(data, dict) else {}
    scheme = _TORCHAO_CLASSES.get(name)
    if name == "UIntXWeightOnlyConfig":
        scheme = _uint(data.get("dtype"))
    elif name == "Int4WeightOnlyConfig" and "tile_packed_to_4d" in repr(data.get("int4_packing_format")).lower():
        scheme = "int4_tile_packed"
    if scheme == "int4_weight_only" and "tile_packed_to_4d" in repr(data.get("int4_packing_format")).lower():
        scheme = "int4_tile_packed"
    if scheme is None or (scheme == "mxfp8_dynamic" and "float4" in repr(data.get("weight_dtype"))):
        raise _unknown("quant_type", name, tuple(_TORCHAO_CLASSES))
    return Quantized("torchao", scheme, name, skipped, _torchao_options(data))


def _torchao_name(kind: str, arguments: dict[str, Any], skipped: tuple[str, ...]) -> Quantized:
    scheme = _TORCHAO_NAMES.get(kind)
    if scheme is None and kind == "uintx_weight_only":
        scheme = _uint(arguments.get("dtype"))
    if scheme is None and kind.startswith("uint") and kind.endswith("wo"):
        scheme = _uint(kind[:-2])
    if scheme is None:
        raise _unknown("quant_type", kind, tuple(_TORCHAO_NAMES))
    return Quantized("torchao", scheme, kind, skipped, _torchao_options(arguments))


def _torchao_options(arguments: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    group = arguments.get("group_size")
    return (("group_size", group),) if type(group) is int and 0 < group < 2**20 else ()


def _uint(dtype: Any) -> str | None:
    # "uint4", "torch.uint4", or {"_type": "torch.dtype", "_data": "uint4"}
    if isinstance(dtype, dict):
        dtype = dtype.get("_data")
    name = dtype.removeprefix("torch.") if isinstance(dtype, str) else ""
    return f"{name}_weight_only" if name in [f"uint{bits}" for bits in range(1, 8)] else None


# what modelopt exports (modelopt 0.47 modelopt/torch/export/quant_utils.py), and diffusers' NVIDIAModelOptConfig
_MODELOPT = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8",
    "INT8": "int8",
    "W8A16": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8",
    "INT4": "int4",
    "W4A16_AWQ": "int4",
    "W4A8_AWQ": "int4",
    "NF4": "nf4",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "NVFP4_SVD": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "W4A8_NVFP4_FP8": "nvfp4",
}


def _modelopt(config: Mapping[str, Any]) -> Quantized:
    inner = config.get("quantization")
    holder = inner if isinstance(inner, dict) else config
    name = holder.get("quant_algo", holder.get("quant_type"))
    if not isinstance(name, str):
        raise _unknown("quant_algo", name, tuple(_MODELOPT))
    # diffusers writes the type of the weights, _ and that of the activations
    own = "quant_algo" not in holder
    scheme = _MODELOPT.get(name.upper().partition("_")[0] if own else name.upper())
    if scheme is None:
        raise _unknown("quant_algo", name, tuple(_MODELOPT))
    skipped = _names(holder.get("exclude_modules", holder.get("ignore", holder.get("modules_to_not_convert"))))
    options: list[tuple[str, Any]] = []
    group = holder.get("group_size", holder.get("block_quantize"))
    if type(group) is int and 0 < group < 2**20:
        options.append(("group_size", group))
    return Quantized("modelopt", scheme, name, skipped, tuple(options))


def _flag(config: Mapping[str, Any], name: str) -> bool:
    return config.get(name) is True or config.get(f"_{name}") is True


def _names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    return tuple([name for name in names if isinstance(name, str)]) if isinstance(names, list) else ()


def _unknown(key: str, found: Any, known: tuple[str, ...]) -> BadModel:
    return BadModel(f"quantization_config: {key}: expected one of {', '.join(known)}, found {_shown(found)}")


def _shown(value: Any) -> str:
    return shown(value) if isinstance(value, str) else shown(repr(value))[1:-1]
