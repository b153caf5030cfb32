"""Each stage of a request to transformers, by its own code: import, configuration, quantizer, validation."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import sys
from typing import Any

from standins import StandIn

_BITS = {"nf4": "load_in_4bit", "fp4": "load_in_4bit", "int8": "load_in_8bit"}
# What users of the releases with named types write.
_TORCHAO_NAMES = {"int8_dynamic": "int8_dynamic_activation_int8_weight"}
_FRESH = ("quantizers", "utils", "integrations", "dependency_versions_check", "modeling_gguf_pytorch_utils")
_FRESH += ("core_model_loading", "distributed")

# The package's own __init__ and those of its models list thousands of files, to import them when they are asked for;
# they have no gate.
STOOD_IN = ("transformers.models",)


def is_fresh(name: str) -> bool:
    """Whether a module is executed again for each environment."""
    rest = name.partition(".")[2]
    if rest.startswith("utils.dummy_"):
        return False
    return not rest or any(rest == each or rest.startswith(f"{each}.") for each in _FRESH)


def import_host() -> Any:
    """What every quantized model imports: configurations and quantizers. Gives the module of the configurations."""
    package = StandIn("transformers")
    package.__path__ = ["transformers"]
    package.__version__ = "0"  # type: ignore[attr-defined]
    sys.modules["transformers"] = package
    utils = importlib.import_module("transformers.utils.import_utils")
    utils.requires_backends(package, ["torch"])  # as the placeholders do that stand for every model without torch
    importlib.import_module("transformers.quantizers.auto")
    names = {**vars(utils), "torch": importlib.import_module("torch")}
    for statement in MODEL_IMPORTS:
        exec(statement, names)
    return importlib.import_module("transformers.utils.quantization_config")


def ask(transformers: Any, request: dict[str, Any], stage: list[str]) -> None:
    """Go through the stages of one request; an exception is the host's own, `stage` says where it came from."""
    if request["backend"] == "gguf":
        _file(stage)
        return
    if request["backend"] != "torchao":
        config = _saved(request) if request["operation"] == "load" else _config(transformers, request)
        _load(config, request, stage)
        return
    errors = []
    for way in (_named, _object):
        stage[0] = "config"
        try:
            _load(way(transformers, request), request, stage)
        except Exception as error:  # noqa: BLE001 - any is upstream's answer
            errors.append((error, stage[0]))
        else:
            return
    # the words that a user of that release meets: those about a name where it knows nothing but names
    raised, stage[0] = errors[1 if _takes_objects(transformers) else 0]
    raised.others = [error for error, _ in errors if error is not raised]  # type: ignore[attr-defined]
    raise raised


def _takes_objects(transformers: Any) -> bool:
    return "from_dict" in vars(transformers.TorchAoConfig)


def _config(transformers: Any, request: dict[str, Any]) -> Any:
    scheme = request["scheme"]
    if request["backend"] == "bitsandbytes":
        kind = {} if scheme == "int8" else {"bnb_4bit_quant_type": scheme}
        return transformers.BitsAndBytesConfig(**{_BITS[scheme]: True}, **kind)
    return transformers.QuantoConfig(weights=scheme)


def _saved(request: dict[str, Any]) -> dict[str, Any]:
    """What the config.json of a quantized model holds."""
    backend, scheme = request["backend"], request["scheme"]
    if backend == "bitsandbytes":
        kind = "fp4" if scheme == "int8" else scheme
        return {"quant_method": backend, _BITS[scheme]: True, "bnb_4bit_quant_type": kind}
    return {"quant_method": backend, "weights": scheme}


def _named(transformers: Any, request: dict[str, Any]) -> Any:
    name = _TORCHAO_NAMES.get(request["scheme"], request["scheme"])
    if request["operation"] == "load":
        return {"quant_method": "torchao", "quant_type": name, "quant_type_kwargs": {}}
    return transformers.TorchAoConfig(name)


def _object(transformers: Any, request: dict[str, Any]) -> Any:
    if request["operation"] == "load":
        return {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}
    from torchao.quantization.quant_api import AOBaseConfig

    return transformers.TorchAoConfig(AOBaseConfig())


def _load(config: Any, request: dict[str, Any], stage: list[str]) -> None:
    """What `from_pretrained` does with a quantization configuration before it reads weights."""
    stage[0] = "load"
    auto = importlib.import_module("transformers.quantizers.auto")
    pre_quantized = request["operation"] == "load"
    if pre_quantized:
        config = auto.AutoHfQuantizer.merge_quantization_configs(config, None)
    quantizer = auto.AutoHfQuantizer.from_config(config, pre_quantized=pre_quantized)
    quantizer.validate_environment(device_map=None, weights_only=True)
    for test in LOADER_TESTS:
        exec(test, dict(vars(importlib.import_module("transformers.utils.import_utils"))))
    stage[0] = "quantize"
    if request["backend"] == "torchao" and not pre_quantized:
        quantizer.quantization_config.get_apply_tensor_subclass()


class _Stop(Exception):
    pass


def _file(stage: list[str]) -> None:
    """What `from_pretrained` does with a GGUF file before it reads tensors."""
    stage[0] = "load"
    utils = importlib.import_module("transformers.utils.import_utils")
    for test in GGUF_TESTS:
        exec(test, {**vars(utils), "gguf_file": "model.gguf"})
    loading = importlib.import_module("transformers.modeling_gguf_pytorch_utils")

    class Reader:
        def __init__(self, *given: Any, **named: Any) -> None:
            raise _Stop

    if importlib.util.find_spec("gguf"):
        importlib.import_module("gguf").GGUFReader = Reader
    try:
        loading.load_gguf_checkpoint("model.gguf", return_tensors=False)
    except _Stop:
        pass


_NEEDS_ACCELERATE = "gguf_file is not None and (not is_accelerate"
GGUF_TESTS: list[Any] = []
LOADER_TESTS: list[Any] = []
MODEL_IMPORTS: list[Any] = []
_UTILS, _MODELS = "transformers/utils/import_utils.py", "transformers/modeling_utils.py"
_GENERATING = "transformers/generation/continuous_batching/distributed.py"


def prepare(read: Any) -> None:
    """Take statements out of the module of all models, which is too long to be imported and called.

    Those of `from_pretrained` that test for accelerate: for a GGUF file, and for quantized weights in the releases that
    set `low_cpu_mem_usage` for them. Those at the top that read names of torch and of backends.
    """
    tree, utils = ast.parse(read(_MODELS)), ast.parse(read(_UTILS))
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    GGUF_TESTS.extend(_compiled(node) for node in tests if ast.unparse(node.test).startswith(_NEEDS_ACCELERATE))
    text = ast.unparse(tree)
    if "now default to True since model is quantized" in text:
        accelerate = [node for node in tests if ast.unparse(node.test) == "not is_accelerate_available()"]
        asked = [ast.If(node.test, node.body, []) for node in accelerate if "low_cpu_mem_usage" in ast.unparse(node)]
        LOADER_TESTS.extend(map(_compiled, asked))
    known = {"torch", *(node.name for node in utils.body if isinstance(node, ast.FunctionDef))}
    for node in tree.body:
        if not isinstance(node, ast.If | ast.Assign) or not _reads(node) <= known | _binds(node):
            continue
        if not any(isinstance(each, ast.ImportFrom) and each.level for each in ast.walk(node)):
            known |= _binds(node)
            MODEL_IMPORTS.append(_compiled(node))
    with contextlib.suppress(KeyError):  # some releases have it; all models that generate text import it
        imports = [node for node in ast.parse(read(_GENERATING)).body if isinstance(node, ast.ImportFrom)]
        found = [node for node in imports if (node.module or "").startswith("torch.")]
        MODEL_IMPORTS.extend(_compiled(node, _GENERATING) for node in found)


def _compiled(node: ast.stmt, file: str = _MODELS) -> Any:
    return compile(ast.fix_missing_locations(ast.Module([node], [])), file, "exec")


def _reads(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def _binds(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


# Functions whose `raise` statements are gates of a request, and words of those that no environment decides.
GATES = ("validate_environment", "__init__", "post_init", "from_dict", "_get_torchao_quant_type_to_method")
GATES += ("get_apply_tensor_subclass",)
FILES = ("quantizers/quantizer_bnb", "quantizers/quantizer_torchao.py", "quantizers/quantizer_quanto.py")
OTHER_CLASSES: tuple[str, ...] = ()
NOT_DECIDED = {
    "dispatched on the CPU or the disk": "a device_map of literal cpu or disk",
    "cpu/disk offload": "a device_map of literal cpu or disk",
    "disk offload": "a device_map of literal cpu or disk",
    "device_map that contains a CPU or disk": "a device_map of literal cpu or disk",
    "tf/flax": "the arguments from_tf and from_flax",
    "activations": "an argument of the configuration",
    "requires torchao library": "the configuration refuses before",
    "requires PyTorch": "the import refuses before",
    "latest version of bitsandbytes": "the configuration refuses before",
    "not compatible with": "the availability test refuses before",
}
