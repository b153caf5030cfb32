"""The bytes that weights will take: held to really quantized modules, and the arithmetic of what no CPU can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envguard import sizes
from envguard.modelfiles.folder import inspect, tensors_of
from envguard.modelfiles.tensors import Tensor
from envguard.shipped import load
from envguard.sizes import estimate, full_precision, stored

LINEAR = Tensor("blocks.0.attn.to_q.weight", "BF16", (512, 1024), 2**20)
COUNT = 512 * 1024
BIAS = Tensor("blocks.0.attn.to_q.bias", "BF16", (512,), 1024)
CONV = Tensor("proj.weight", "BF16", (16, 16, 3, 3), 4608)


def total(backend: str, scheme: str, *tensors: Tensor, host: str = "diffusers", **more: Any) -> int:
    return estimate(tensors, backend, scheme, host, **more).total


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("bitsandbytes:nf4", COUNT // 2 + COUNT // 64 * 4 + 64),
        ("bitsandbytes:int8", COUNT + 512 * 4),
        ("torchao:int4_weight_only", COUNT // 2 + COUNT // 128 * 4),
        ("torchao:float8_dynamic", COUNT + 4),
        ("torchao:nvfp4_dynamic", COUNT // 2 + COUNT // 16 + 4),
        ("torchao:uint3_weight_only", COUNT * 3 // 8 + COUNT // 64 * 6),
        ("quanto:int2", COUNT // 4 + COUNT // 128 * 4 + 4),
        ("gguf:Q8_0", COUNT // 32 * 34),
        ("gguf:Q4_K", COUNT // 256 * 144),
        ("modelopt:nvfp4", COUNT // 2 + COUNT // 16 + 8),
    ],
)
def test_a_linear_layer(spec: str, expected: int) -> None:
    size = estimate([LINEAR, BIAS], *spec.split(":"), "diffusers")
    assert size == sizes.Size(expected + 1024, expected, 1024)


def test_every_scheme_has_an_arithmetic() -> None:
    for backend in load().backends.values():
        for scheme in backend.schemes:
            assert 0 < total(backend.name, scheme, LINEAR) <= 4 * COUNT
    for backend, scheme in (("gguf", "Q4_K_M"), ("torchao", "int3"), ("none", "nf4")):
        with pytest.raises(ValueError, match="is not known"):
            total(backend, scheme, LINEAR)


@pytest.mark.parametrize(
    ("name", "host", "kept"),
    [
        ("lm_head.weight", "transformers", True),
        ("lm_head.weight", "none", False),
        ("model.embed_tokens.weight", "transformers", True),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "transformers", True),
        ("text_projection.weight", "transformers", True),
        ("x_embedder.weight", "diffusers", False),
        ("proj_out.weight", "diffusers", False),
        ("blocks.0.scale_shift_table", "diffusers", True),
        ("blocks.0.norm.weight", "diffusers", False),
    ],
)
def test_what_a_host_leaves_as_it_is(name: str, host: str, kept: bool) -> None:
    tensor = Tensor(name, "BF16", (64, 64), 8192)
    assert (total("bitsandbytes", "nf4", tensor, host=host) == 8192) is kept


def test_what_stays_in_float32_is_counted_so() -> None:
    embedder = Tensor("condition_embedder.time_embedder.linear_1.weight", "F32", (64, 64), 16384)
    table = Tensor("scale_shift_table", "F32", (1, 2, 64), 512)
    wan = {"class_name": "WanTransformer3DModel"}
    assert total("bitsandbytes", "nf4", embedder, table, **wan) == 16384 + 512
    assert full_precision([embedder, table, LINEAR], "diffusers", **wan).total == 16384 + 512 + LINEAR.nbytes
    assert full_precision([embedder, table], "diffusers").total == 8192 + 256


def test_words_of_the_configuration_are_embeddings_by_any_name() -> None:
    words = Tensor("model.words.weight", "BF16", (1000, 64), 128_000)
    assert total("quanto", "int8", words, host="transformers", config={"vocab_size": 1000}) == 128_000
    assert total("quanto", "int8", words, host="transformers", config={"text_config": {"vocab_size": 1000}}) == 128_000
    assert total("quanto", "int8", words, host="transformers", config={"vocab_size": "x"}) < 128_000


def test_a_shape_that_a_scheme_does_not_take_stays_as_it_is() -> None:
    odd = Tensor("a.weight", "BF16", (50, 72), 7200)
    for spec in ("torchao:int4_weight_only", "torchao:float8_dynamic", "torchao:nvfp4_weight_only", "gguf:Q8_0"):
        assert total(*spec.split(":"), odd) == 7200


def test_convolutions_stay() -> None:
    for spec in ("torchao:int8_weight_only", "modelopt:fp8"):
        assert total(*spec.split(":"), CONV) == 4608


def test_modules_that_are_left_out_stay() -> None:
    assert total("torchao", "int8_weight_only", LINEAR, skipped=("attn",)) == LINEAR.nbytes
    assert total("torchao", "int8_weight_only", LINEAR, skipped=("att", ".*")) < LINEAR.nbytes


def test_a_pattern_of_a_configuration_is_not_run_as_one() -> None:
    evil = "(a+)+" * 20
    assert total("bitsandbytes", "nf4", LINEAR, host="transformers", skipped=(evil,)) < LINEAR.nbytes


def test_weights_of_a_file_that_is_quantized_already() -> None:
    tensors = [Tensor("a", "Q4_K", (4, 256), 576), Tensor("b", "F32", (10,), 40), Tensor("c", "BF16", (10,), 20)]
    assert stored(tensors, "gguf", "diffusers").total == 576 + 20 + 20
    assert stored(tensors, "gguf", "transformers").kept == 2048 + 20 + 20
    four = [Tensor("a", "U8", (8,), 8), Tensor("b", "BF16", (8,), 16)]
    assert stored(four, "bitsandbytes", "diffusers") == sizes.Size(24, 8, 16)


SHAPES = st.lists(st.integers(0, 300), max_size=5).map(tuple)
SPECS = [(backend.name, scheme) for backend in load().backends.values() for scheme in backend.schemes]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SPECS), SHAPES, st.sampled_from(["diffusers", "transformers", "none"]))
def test_every_shape_has_a_size(spec: tuple[str, str], shape: tuple[int, ...], host: str) -> None:
    tensor = Tensor("a.weight", "BF16", shape, 0)
    size = estimate([tensor], *spec, host)
    assert size.total == size.quantized + size.kept >= 0


# Held to the backends themselves

NEEDS = pytest.mark.filterwarnings("ignore")


def held(model: Any) -> int:
    """Bytes of every storage that a module holds, those inside its quantized tensors too."""
    storages: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        _storages(tensor, storages)
    for module in model.modules():
        for name in ("SCB", "CB"):
            _storages(getattr(getattr(module, "state", None), name, None), storages)
    return sum(storages.values())


def _storages(tensor: Any, found: dict[int, int]) -> None:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            _storages(getattr(tensor, name), found)
        return
    storage = tensor.untyped_storage()
    found[storage.data_ptr()] = storage.nbytes()
    state = getattr(tensor, "quant_state", None)
    for each in (state, getattr(state, "state2", None)):
        for value in vars(each).values() if each is not None else ():
            _storages(value, found)
    _storages(getattr(tensor, "SCB", None), found)


NAMES = {"torch.bfloat16": "BF16", "torch.float32": "F32", "torch.int64": "I64"}


def headers(model: Any) -> list[Tensor]:
    """What the file of a module would say."""
    return [
        Tensor(name, NAMES[str(tensor.dtype)], tuple(tensor.shape), tensor.nbytes)
        for name, tensor in model.state_dict().items()
    ]


def block() -> Any:
    """Layers of several shapes, with and without a bias, and some that nobody quantizes."""
    import torch

    torch.manual_seed(0)
    layers: dict[str, Any] = {
        "word_embeddings": torch.nn.Embedding(100, 256),
        "to_q": torch.nn.Linear(256, 512, bias=False),
        "to_out": torch.nn.Linear(512, 256),
        "norm": torch.nn.LayerNorm(256),
        "narrow": torch.nn.Linear(64, 48),
        "conv": torch.nn.Conv2d(16, 32, 3),
    }
    return torch.nn.ModuleDict(layers).to(torch.bfloat16)


def close(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= 0.03 * theirs


def check_block(spec: str, quantize: Callable[[Any], Any]) -> None:
    model = block()
    expected = total(*spec.split(":"), *headers(model), host="none")
    assert close(full_precision(headers(model), "none").total, held(model))
    quantize(model)
    assert close(expected, held(model)), (expected, held(model))


@NEEDS
@pytest.mark.envguard("bitsandbytes", device="cpu", host="none")
@pytest.mark.parametrize("scheme", ["nf4", "fp4", "int8"])
def test_bitsandbytes(scheme: str) -> None:
    import bitsandbytes
    import torch

    def quantize(model: Any) -> None:
        for name, layer in model.items():
            if isinstance(layer, torch.nn.Linear):
                shape = (layer.in_features, layer.out_features, layer.bias is not None)
                if scheme == "int8":
                    made = bitsandbytes.nn.Linear8bitLt(*shape, has_fp16_weights=False)
                else:
                    made = bitsandbytes.nn.Linear4bit(*shape, quant_type=scheme, compress_statistics=False)
                made.load_state_dict(layer.state_dict())
                model[name] = made.to(torch.bfloat16).to("cpu")
                model[name].weight = model[name].weight.to("cpu")

    check_block(f"bitsandbytes:{scheme}", quantize)


@NEEDS
@pytest.mark.envguard("torchao", device="cpu", host="none")
@pytest.mark.parametrize("scheme", ["int8_weight_only", "int8_dynamic", "float8_weight_only", "nvfp4_weight_only"])
def test_torchao(scheme: str) -> None:
    import torchao.quantization as ao
    from torchao.prototype.mx_formats import NVFP4WeightOnlyConfig

    made = {
        "int8_weight_only": ao.Int8WeightOnlyConfig,
        "int8_dynamic": ao.Int8DynamicActivationInt8WeightConfig,
        "float8_weight_only": ao.Float8WeightOnlyConfig,
        "nvfp4_weight_only": NVFP4WeightOnlyConfig,
    }
    check_block(f"torchao:{scheme}", lambda model: ao.quantize_(model, made[scheme]()))


@NEEDS
@pytest.mark.envguard("quanto", device="cpu", host="none")
@pytest.mark.parametrize("scheme", ["int8", "float8", "int4", "int2"])
def test_quanto(scheme: str) -> None:
    from optimum import quanto

    def quantize(model: Any) -> None:
        weights = getattr(quanto, f"q{scheme}")
        quanto.quantize(model, weights=weights, include=["to_q", "to_out", "narrow"])
        quanto.freeze(model)

    check_block(f"quanto:{scheme}", quantize)


@NEEDS
@pytest.mark.envguard("bitsandbytes", device="cpu", host="transformers")
@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_a_language_model_in_transformers(tmp_path: Path, scheme: str) -> None:
    import torch
    import transformers

    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=1000, **shape)).to(torch.bfloat16)
    made.save_pretrained(tmp_path / "whole")
    (component,) = inspect(tmp_path / "whole").components
    asked = {"load_in_8bit": True} if scheme == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": scheme}
    quantized = transformers.LlamaForCausalLM.from_pretrained(
        tmp_path / "whole",
        dtype=torch.bfloat16,
        quantization_config=transformers.BitsAndBytesConfig(**asked),
        device_map="cpu",
    )
    expected = total("bitsandbytes", scheme, *tensors_of(component), host=component.host, config=component.config)
    assert close(expected, held(quantized))
    quantized.save_pretrained(tmp_path / "quantized")
    (again,) = inspect(tmp_path / "quantized").components
    assert again.quantized is not None
    assert again.quantized.spec == f"bitsandbytes:{scheme}"
    assert close(stored(tensors_of(again), "bitsandbytes", again.host).total, held(quantized))


@NEEDS
@pytest.mark.envguard("torchao:int8_weight_only", device="cpu", host="diffusers")
def test_a_diffusion_transformer_in_diffusers(tmp_path: Path) -> None:
    import diffusers
    import torch
    from torchao.quantization import Int8WeightOnlyConfig

    shape = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 32, "num_attention_heads": 4}
    rest = {"joint_attention_dim": 128, "pooled_projection_dim": 64, "axes_dims_rope": (8, 12, 12)}
    made = diffusers.FluxTransformer2DModel(**shape, **rest).to(torch.bfloat16)
    made.save_pretrained(tmp_path / "whole")
    (component,) = inspect(tmp_path / "whole").components
    quantized = diffusers.FluxTransformer2DModel.from_pretrained(
        tmp_path / "whole",
        torch_dtype=torch.bfloat16,
        quantization_config=diffusers.TorchAoConfig(Int8WeightOnlyConfig()),
    )
    expected = total("torchao", "int8_weight_only", *tensors_of(component), class_name=component.class_name)
    assert close(expected, held(quantized))
    quantized.save_pretrained(tmp_path / "quantized")
    (again,) = inspect(tmp_path / "quantized").components
    assert again.quantized is not None
    assert again.quantized.spec == "torchao:int8_weight_only"
    assert close(stored(tensors_of(again), "torchao", again.host).total, held(quantized))
