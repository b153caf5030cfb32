"""Each stage of a request to diffusers, by its own code: import, configuration, validation, loader."""

from __future__ import annotations

import importlib
from typing import Any

_BITS = {"nf4": "load_in_4bit", "fp4": "load_in_4bit", "int8": "load_in_8bit"}
# What users of the releases with named types write.
_TORCHAO_NAMES = {"float8_dynamic": "float8dq", "int8_dynamic": "int8dq"}

# The types of tensors in files of llama.cpp's mixed types.
_TENSORS = {
    **{f"Q{bits}_K_{size}": f"Q{bits}_K" for bits in (2, 3, 4, 5) for size in "SML"},
    "IQ2_M": "IQ2_S",
    "IQ3_XS": "IQ3_S",
    "IQ3_M": "IQ3_S",
    "MXFP4_MOE": "MXFP4",
}

# Modules that look at the environment, or import one that does: executed afresh for each. The others stay, once loaded;
# `cold` environments execute everything, to prove that this changes nothing.
_FRESH = (
    *("configuration_utils", "dependency_versions_check", "models.model_loading_utils", "models.modeling_utils"),
    *("pipelines.pipeline_loading_utils", "pipelines.pipeline_utils", "quantizers", "utils"),
)
_FRESH_ALONE = {"diffusers", "diffusers.models", "diffusers.pipelines"}


def is_fresh(name: str) -> bool:
    """Whether a module is executed again for each environment."""
    rest = name.partition(".")[2]
    if rest.startswith("utils.dummy_"):
        return False
    return name in _FRESH_ALONE or any(rest == each or rest.startswith(f"{each}.") for each in _FRESH)


def import_host() -> Any:
    """What every use of diffusers imports: the base of all models and that of all pipelines."""
    diffusers = importlib.import_module("diffusers")
    for base in (diffusers.ModelMixin, diffusers.DiffusionPipeline):
        if (
            type(base).__name__ == "DummyObject"
        ):  # stands for a class whose libraries are missing, and says so when used
            base.from_pretrained("model")
    return diffusers


def ask(diffusers: Any, request: dict[str, Any], stage: list[str]) -> None:
    """Go through the stages of one request; an exception is the host's own, `stage` says where it came from."""
    if request["backend"] == "gguf":
        _load_file(_config(diffusers, request), request, stage)
        return
    if request["backend"] != "torchao":
        config = _saved(request) if request["operation"] == "load" else _config(diffusers, request)
        _load(diffusers, request, config, stage)
        return
    errors = []
    for way in (_named, _object):
        stage[0] = "config"
        try:
            _load(diffusers, request, way(diffusers, request), stage)
        except Exception as error:  # noqa: BLE001 - any is upstream's answer
            errors.append((error, stage[0]))
        else:
            return
    # the words that a user of that release meets: those about a name where it knows names
    raised, stage[0] = errors[0 if hasattr(diffusers.TorchAoConfig, "_get_torchao_quant_type_to_method") else 1]
    raised.others = [error for error, _ in errors if error is not raised]  # type: ignore[attr-defined]
    raise raised


def _config(diffusers: Any, request: dict[str, Any]) -> Any:
    backend, scheme = request["backend"], request["scheme"]
    if backend == "bitsandbytes":
        kind = {} if scheme == "int8" else {"bnb_4bit_quant_type": scheme}
        return diffusers.BitsAndBytesConfig(**{_BITS[scheme]: True}, **kind)
    if backend == "quanto":
        return diffusers.QuantoConfig(weights_dtype=scheme)
    if backend == "gguf":
        return diffusers.GGUFQuantizationConfig()
    return diffusers.NVIDIAModelOptConfig(quant_type=scheme.upper())


def _saved(request: dict[str, Any]) -> dict[str, Any]:
    """What the config.json of a quantized model holds."""
    backend, scheme = request["backend"], request["scheme"]
    if backend == "bitsandbytes":
        return {
            "quant_method": backend,
            _BITS[scheme]: True,
            "bnb_4bit_quant_type": scheme if scheme != "int8" else "fp4",
        }
    if backend == "quanto":
        return {"quant_method": backend, "weights_dtype": scheme}
    return {"quant_method": backend, "quant_type": scheme.upper(), "modelopt_config": {"quant_cfg": {}}}


def _named(diffusers: Any, request: dict[str, Any]) -> Any:
    scheme = request["scheme"]
    name = f"{scheme[:5]}wo" if scheme.startswith("uint") else _TORCHAO_NAMES.get(scheme, scheme)
    if request["operation"] == "load":
        return {"quant_method": "torchao", "quant_type": name, "quant_type_kwargs": {}}
    return diffusers.TorchAoConfig(name)


def _object(diffusers: Any, request: dict[str, Any]) -> Any:
    if request["operation"] == "load":
        return {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}
    from torchao.quantization.quant_api import AOBaseConfig

    return diffusers.TorchAoConfig(AOBaseConfig())


class _Stop(Exception):
    """The gates are passed: what follows reads files."""


def _stop(*given: Any, **named: Any) -> Any:
    raise _Stop


def _load(diffusers: Any, request: dict[str, Any], config: Any, stage: list[str]) -> None:
    """`from_pretrained`, up to where it reads weights, and what the quantizer does with the first of them."""
    stage[0] = "load"
    modeling = importlib.import_module("diffusers.models.modeling_utils")
    pre_quantized = request["operation"] == "load"
    quantizers: list[Any] = []

    class Seen(importlib.import_module("diffusers.quantizers.auto").DiffusersAutoQuantizer):  # type: ignore[misc]
        @classmethod
        def from_config(cls, *given: Any, **named: Any) -> Any:
            quantizers.append(super().from_config(*given, **named))
            return quantizers[-1]

    class Model(modeling.ModelMixin):  # type: ignore[misc, name-defined]
        _keep_in_fp32_modules = None

        @classmethod
        def load_config(cls, *given: Any, **named: Any) -> Any:
            return ({"quantization_config": config} if pre_quantized else {}), {}, None

    modeling.DiffusersAutoQuantizer = Seen
    for name in ("_fetch_index_file", "_fetch_index_file_legacy", "_get_model_file"):
        setattr(modeling, name, _stop)
    try:
        Model.from_pretrained("model", quantization_config=None if pre_quantized else config)
    except _Stop:
        pass
    stage[0] = "quantize"
    if request["backend"] == "torchao" and not pre_quantized:
        quantizers[-1].quantization_config.get_apply_tensor_subclass()
    if request["backend"] == "quanto":
        importlib.import_module("optimum.quanto")


def _load_file(config: Any, request: dict[str, Any], stage: list[str]) -> None:
    """What `from_single_file` does with a GGUF file: its gates, without the files around them."""
    stage[0] = "load"
    if request["operation"] == "load":
        loading = importlib.import_module("diffusers.models.model_loading_utils")
        loading.load_gguf_checkpoint(_TENSORS.get(request["scheme"], request["scheme"]))
    quantizer = importlib.import_module("diffusers.quantizers.auto").DiffusersAutoQuantizer.from_config(config)
    quantizer.validate_environment()
    quantizer.update_torch_dtype(None)


# Functions whose `raise` statements are gates of a request, and words of those that no environment decides.
GATES = ("validate_environment", "__init__", "post_init", "from_dict", "_get_torchao_quant_type_to_method")
GATES += ("get_apply_tensor_subclass", "_is_cuda_capability_atleast_8_9", "_is_xpu_or_cuda_capability_atleast_8_9")
FILES = ("quantizers/bitsandbytes/", "quantizers/torchao/", "quantizers/quanto/", "quantizers/gguf/")
FILES += ("quantizers/modelopt/", "quantizers/quantization_config.py")
OTHER_CLASSES = ("AutoRoundConfig", "NunchakuLiteQuantizationConfig", "SDNQConfig", "BFLQuantizationConfig")
NOT_DECIDED = {
    "dispatched on the CPU or the disk": "a device_map of literal cpu or disk",
    "cpu/disk offload": "a device_map of literal cpu or disk",
    "multi-GPU inference": "a device_map of several entries",
    "flax weights": "the argument from_flax",
    "but only one can be used": "both arguments at once",
    "must be": "the type of an argument",
    "only supports torch.dtype": "the type of an argument",
    "`bnb_4bit_quant_storage`": "the value of an argument",
    "following keyword arguments": "an argument of the quantization type",
    "layout": "an argument of the quantization type",
    "Only support weights": "the value of an argument",
    "weights_only": "an argument that no caller passes",
    "TorchAO pre-quantized": "the argument weights_only, which no caller passes",
    "requires the torchao library": "the configuration refuses before",
    "Unknown quantization type": "the quantization type of a model",
    "minimum required version of `torchao` is 0.7.0": "compared with torch's version, which is never so old",
    "minimum required version of `torchao` is 0.15.0": "the configuration refuses before",
    "is only supported in torchao <= 0.14.1": "types that envguard has no name for",
    "Floating point X-bit": "types that envguard has no name for",
}
