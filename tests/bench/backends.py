"""Every backend and scheme, bare and guarded in the same run: load time, memory, forward time, error against bf16.

python tests/bench/backends.py [--device cpu|cuda] [--host diffusers|transformers] [--parameters MILLIONS] [SPEC ...]

The model is made from a configuration with random weights in bfloat16: a FluxTransformer2DModel, or a LlamaForCausalLM.
Bare is what a user writes with the library's own classes, guarded is `envguard.require(spec).load(...)`. Each spec runs
in a process of its own, bare and guarded twice in turn, the faster of each counts; the first one is not counted.
Memory is `torch.cuda.memory_allocated`, on a CPU the bytes of all tensors, as a part of what bf16 takes; estimate is
what `envguard check --model` expects, as a part of what was measured. Schemes that cannot run are shown with the
rules that say so. Nothing here passes or fails; the limit (guarded <= 1.02 x bare + 50 ms) stands beside the figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SPECS = (
    *("bitsandbytes:nf4", "bitsandbytes:fp4", "bitsandbytes:int8"),
    *("torchao:int8_weight_only", "torchao:int8_dynamic", "torchao:int4_weight_only"),
    *("torchao:int4_tile_packed",),
    *("torchao:float8_weight_only", "torchao:float8_dynamic", "torchao:uint4_weight_only"),
    *("torchao:nvfp4_weight_only", "torchao:nvfp4_dynamic", "torchao:mxfp8_dynamic"),
    *("quanto:int8", "quanto:float8", "quanto:int4", "quanto:int2"),
    *("gguf:Q8_0", "gguf:Q4_0"),
    *("modelopt:fp8", "modelopt:int8", "modelopt:int4", "modelopt:nf4", "modelopt:nvfp4"),
)
PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate", "bitsandbytes", "torchao", "mslk-cuda", "optimum-quanto"),
    *("gguf", "nvidia-modelopt"),
)
COLUMNS = (
    "spec",
    "load bare",
    "load guarded",
    "within",
    "memory",
    "estimate",
    "forward bare",
    "forward guarded",
    "error",
    "same",
)


def flux(millions: int) -> Any:
    """A Flux transformer of about so many million parameters, at least 120."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=max(1, (millions - 90) // 36),
        attention_head_dim=128,
        num_attention_heads=12,
        joint_attention_dim=4096,
        pooled_projection_dim=768,
    )


def llama(millions: int) -> Any:
    """A Llama of about so many million parameters, at least 100."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=1536,
        intermediate_size=6144,
        num_hidden_layers=max(1, (millions - 25) // 37),
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config)


def inputs(host: str, device: str) -> dict[str, Any]:
    """One small batch."""
    import torch

    generator = torch.Generator().manual_seed(1)
    if host == "transformers":
        return {"input_ids": torch.randint(0, 8192, (1, 64), generator=generator).to(device)}

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, torch.bfloat16)

    return {
        "hidden_states": random(1, 256, 64),
        "encoder_hidden_states": random(1, 32, 4096),
        "pooled_projections": random(1, 768),
        "timestep": torch.tensor([0.5], device=device, dtype=torch.bfloat16),
        "img_ids": torch.zeros(256, 3, device=device),
        "txt_ids": torch.zeros(32, 3, device=device),
    }


def bare_config(spec: str, host: str, device: str) -> Any:
    """The library's own configuration, as its documentation writes it."""
    import importlib

    import torch

    library = importlib.import_module(host)
    backend, _, scheme = spec.partition(":")
    if backend == "bitsandbytes":
        if scheme == "int8":
            return library.BitsAndBytesConfig(load_in_8bit=True)
        return library.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=scheme, bnb_4bit_compute_dtype=torch.bfloat16
        )
    if backend == "torchao":
        return library.TorchAoConfig(torchao_config(scheme))
    if backend == "quanto":
        word = "weights_dtype" if host == "diffusers" else "weights"
        return library.QuantoConfig(**{word: scheme})
    return library.NVIDIAModelOptConfig(quant_type=scheme.upper())


def torchao_config(scheme: str) -> Any:
    """The configuration class of torchao, with its defaults."""
    import torch
    from torchao import quantization

    if scheme.startswith("uint"):
        return quantization.UIntXWeightOnlyConfig(dtype=getattr(torch, scheme.partition("_")[0]))
    if scheme in ("nvfp4_weight_only", "nvfp4_dynamic", "mxfp8_dynamic"):
        from torchao.prototype import mx_formats

        name = {
            "nvfp4_weight_only": "NVFP4WeightOnlyConfig",
            "nvfp4_dynamic": "NVFP4DynamicActivationNVFP4WeightConfig",
            "mxfp8_dynamic": "MXDynamicActivationMXWeightConfig",
        }[scheme]
        return getattr(mx_formats, name)()
    if scheme == "int4_tile_packed":
        return quantization.Int4WeightOnlyConfig(int4_packing_format="tile_packed_to_4d")
    name = {
        "int8_weight_only": "Int8WeightOnlyConfig",
        "int8_dynamic": "Int8DynamicActivationInt8WeightConfig",
        "int4_weight_only": "Int4WeightOnlyConfig",
        "float8_weight_only": "Float8WeightOnlyConfig",
        "float8_dynamic": "Float8DynamicActivationFloat8WeightConfig",
    }[scheme]
    return getattr(quantization, name)()


def one(spec: str, host: str, device: str, folder: str) -> dict[str, Any]:
    """The figures of one spec."""
    import envguard

    checked = "none" if spec.startswith("modelopt") else host  # the backend's own functions: see bare_modelopt
    report = envguard.check(
        spec, host=checked, device=device, operation="load" if spec.startswith("gguf") else "quantize"
    )
    if not report.ok:
        failing = [o.rule for o in report.backends[0].outcomes if o.severity == "error" and o.status != "met"]
        return {"spec": spec, "blocked": f"{report.verdict}: {', '.join(failing)}"}
    cls = type((flux if host == "diffusers" else llama)(0))
    batch = inputs(host, "cuda:0" if device == "cuda" else device)
    full, wanted = measure(lambda: full_precision(cls, folder, device), batch, host, device)
    loaders = {
        "bare": bare_loader(spec, cls, host, device, folder),
        "guarded": guarded_loader(spec, cls, device, folder),
    }
    loads: dict[str, list[float]] = {"bare": [], "guarded": []}
    forwards: dict[str, list[float]] = {"bare": [], "guarded": []}
    found: dict[str, Any] = {}
    for turn in range(3):
        for name in ("bare", "guarded") if turn % 2 == 0 else ("guarded", "bare"):
            found[name] = measure(loaders[name], batch, host, device)
            forwards[name].append(found[name][0]["forward"])
            if turn > 0:
                loads[name].append(found[name][0]["load"])
    (_, bare_output), (guarded, output) = found["bare"], found["guarded"]
    import torch

    return {
        "spec": spec,
        "load bare": min(loads["bare"]),
        "load guarded": min(loads["guarded"]),
        "memory": guarded["memory"] / full["memory"],
        "estimate": estimated(spec, host, device, folder) / guarded["memory"],
        "forward bf16": full["forward"],
        "forward bare": min(forwards["bare"]),
        "forward guarded": min(forwards["guarded"]),
        "error": float((output - wanted).norm() / wanted.norm()),
        "same": bool(torch.equal(output, bare_output)),
    }


def estimated(spec: str, host: str, device: str, folder: str) -> float:
    """The bytes that a check of the model expects."""
    import envguard

    path = str(Path(folder) / f"{spec.partition(':')[2]}.gguf") if spec.startswith("gguf") else folder
    report = envguard.check_model(path, None if spec.startswith("gguf") else spec, host=host, device=device)
    size = report.components[0].size
    return size.total if size else float("nan")


def measure(load: Callable[[], Any], batch: dict[str, Any], host: str, device: str) -> tuple[dict[str, float], Any]:
    """Seconds to load, bytes, seconds of a forward pass; and its output in float32 on the CPU."""
    import torch

    gc.collect()
    cuda = device == "cuda"
    before = 0
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    model = load()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    if cuda:
        memory = torch.cuda.memory_allocated() - before
    else:
        memory = held(model)
    times = []
    output = None
    with torch.no_grad():
        for _ in range(7 if cuda else 3):
            start = time.perf_counter()
            output = model(**batch).sample if host == "diffusers" else model(**batch).logits
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    assert output is not None
    return {"load": seconds, "memory": memory, "forward": statistics.median(times[1:])}, output.float().cpu()


def held(model: Any) -> int:
    """The bytes of all tensors of a model, with the scales that bitsandbytes keeps beside its 4-bit weights."""
    import torch

    from envguard.runtime.modules import nbytes

    states = [each.quant_state for each in model.parameters() if getattr(each, "quant_state", None) is not None]
    scales = [each for state in states for each in state.as_dict().values() if isinstance(each, torch.Tensor)]
    sizes: dict[int, int] = {each.data_ptr(): each.nbytes for each in scales}
    return nbytes(model) + sum(sizes.values())


def full_precision(cls: Any, folder: str, device: str) -> Any:
    """The model in bfloat16."""
    import torch

    return cls.from_pretrained(folder, torch_dtype=torch.bfloat16).to("cuda:0" if device == "cuda" else device)


def bare_loader(spec: str, cls: Any, host: str, device: str, folder: str) -> Callable[[], Any]:
    """What a user writes without envguard."""
    import torch

    place = "cuda:0" if device == "cuda" else device
    if spec.startswith("modelopt"):
        return lambda: bare_modelopt(full_precision(cls, folder, device), spec.partition(":")[2])
    if spec.startswith("gguf"):
        file = gguf_file(spec, cls, device, folder)

        def single_file() -> Any:
            from diffusers import GGUFQuantizationConfig

            config = GGUFQuantizationConfig(compute_dtype=torch.bfloat16)
            return cls.from_single_file(file, config=folder, quantization_config=config, torch_dtype=torch.bfloat16).to(
                place
            )

        return single_file

    def load() -> Any:
        # transformers' bitsandbytes goes to a GPU unless it is told; diffusers maps a CPU at the price of quanto's int4
        arguments = {} if device == "cpu" and host == "diffusers" else {"device_map": {"": place}}
        config = bare_config(spec, host, device)
        return cls.from_pretrained(folder, quantization_config=config, torch_dtype=torch.bfloat16, **arguments)

    return load


def bare_modelopt(model: Any, scheme: str) -> Any:
    """Weights alone, compressed, with modelopt's own functions: neither host runs it with this release."""
    import modelopt.torch.quantization as mtq

    every: dict[str, dict[str, Any]] = {
        "fp8": {"num_bits": (4, 3), "axis": None},
        "int8": {"num_bits": 8, "axis": 0},
        "int4": {"num_bits": 4, "block_sizes": {-1: 128}},
        "nvfp4": {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}},
    }
    table: dict[str, Any] = {"*": {"enable": False}}
    if scheme in every:
        table["*weight_quantizer"] = {**every[scheme], "enable": True}
    else:  # nf4: one block of scales for each layer, because 0.43 cannot read back more
        for name, layer in model.named_modules():
            if hasattr(layer, "in_features"):
                blocks = {-1: 64, "scale_bits": 8, "scale_block_sizes": {-1: layer.weight.numel() // 64}}
                table[f"{name}.weight_quantizer"] = {"num_bits": 4, "block_sizes": blocks, "enable": True}
    model = mtq.quantize(model, {"quant_cfg": table, "algorithm": None})
    mtq.compress(model)
    return model


def guarded_loader(spec: str, cls: Any, device: str, folder: str) -> Callable[[], Any]:
    """The same through envguard."""
    import torch

    import envguard

    if spec.startswith("gguf"):
        file = gguf_file(spec, cls, device, folder)
        return lambda: envguard.require(spec, device=device, operation="load").load(
            cls, file, config=folder, compute_dtype=torch.bfloat16, torch_dtype=torch.bfloat16
        )
    four_bits = spec in ("bitsandbytes:nf4", "bitsandbytes:fp4")
    options: dict[str, Any] = {"compute_dtype": torch.bfloat16} if four_bits else {}
    host = "none" if spec.startswith("modelopt") else cls.__module__.partition(".")[0]
    return lambda: envguard.require(spec, host=host, device=device).load(
        cls, folder, torch_dtype=torch.bfloat16, **options
    )


def gguf_file(spec: str, cls: Any, device: str, folder: str) -> str:
    """The model as a GGUF file, written once by the guarded backend on the CPU."""
    import envguard

    scheme = spec.partition(":")[2]
    file = Path(folder) / f"{scheme}.gguf"
    if not file.exists():
        model = full_precision(cls, folder, "cpu")
        envguard.require("gguf", device="cpu").quantize(model, scheme, str(file))
    return str(file)


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    if "blocked" in found:
        return f"| {found['spec']} | {found['blocked']} |" + " |" * (len(COLUMNS) - 2)
    allowed = 1.02 * found["load bare"] + 0.05
    cells = (
        found["spec"],
        f"{found['load bare']:.2f} s",
        f"{found['load guarded']:.2f} s",
        f"{found['load guarded'] / allowed:.2f}",
        f"{found['memory']:.3f}",
        f"{found['estimate']:.3f}",
        f"{1000 * found['forward bare']:.1f} ms",
        f"{found['forward guarded'] / found['forward bare']:.2f} x",
        f"{found['error']:.4f}",
        "yes" if found["same"] else "NO",
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table; --one prints one spec's figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", metavar="SPEC")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--host", choices=("diffusers", "transformers"), default="diffusers")
    parser.add_argument("--parameters", type=int, default=580, metavar="MILLIONS")
    parser.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        warnings.simplefilter("ignore")
        print(json.dumps(one(asked.specs[0], asked.host, asked.device, asked.one)))
        return 0
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = (flux if asked.host == "diffusers" else llama)(asked.parameters).to(torch.bfloat16)
        count = sum(each.numel() for each in model.parameters())
        model.save_pretrained(folder)
        del model
        print(f"{count / 1e6:.0f} million parameters, {asked.host}, {asked.device}; {', '.join(versions())}\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        for spec in asked.specs or SPECS:
            command = [sys.executable, __file__, spec, "--device", asked.device, "--host", asked.host, "--one", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                print(f"| {spec} | failed: {last} |" + " |" * (len(COLUMNS) - 2), flush=True)
            else:
                print(row(json.loads(done.stdout.strip().splitlines()[-1])), flush=True)
    return 0


def versions() -> list[str]:
    """Name and version of each package that is installed."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
