"""quantization_config in the forms that the hosts write: backend and scheme, or one line about what is not known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.errors import BadModel
from envguard.modelfiles.quantized import Quantized, from_config, from_quanto_map, from_tensors
from envguard.modelfiles.tensors import Tensor
from envguard.shipped import load


def ao(name: str, **data: Any) -> dict[str, Any]:
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": name, "_version": 2, "_data": data}}}


KNOWN = [
    # diffusers 0.42.1 and transformers 5.23, saved by them
    ({"quant_method": "bitsandbytes", "_load_in_4bit": True, "_load_in_8bit": False, "load_in_4bit": True,
      "load_in_8bit": False, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False}, "bitsandbytes:nf4"),
    ({"quant_method": "bitsandbytes", "_load_in_4bit": True}, "bitsandbytes:fp4"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 6.0}, "bitsandbytes:int8"),
    ({"load_in_8bit": True}, "bitsandbytes:int8"),
    (ao("Int8WeightOnlyConfig"), "torchao:int8_weight_only"),
    (ao("Int8DynamicActivationInt8WeightConfig"), "torchao:int8_dynamic"),
    (ao("Int4WeightOnlyConfig", group_size=64), "torchao:int4_weight_only"),
    (ao("Int4WeightOnlyConfig", int4_packing_format={"_type": "Int4PackingFormat", "_data": "TILE_PACKED_TO_4D"}),
     "torchao:int4_tile_packed"),
    (ao("Float8WeightOnlyConfig"), "torchao:float8_weight_only"),
    (ao("Float8DynamicActivationFloat8WeightConfig"), "torchao:float8_dynamic"),
    (ao("UIntXWeightOnlyConfig", dtype={"_type": "torch.dtype", "_data": "uint4"}), "torchao:uint4_weight_only"),
    (ao("NVFP4WeightOnlyConfig"), "torchao:nvfp4_weight_only"),
    (ao("NVFP4DynamicActivationNVFP4WeightConfig"), "torchao:nvfp4_dynamic"),
    (ao("MXDynamicActivationMXWeightConfig"), "torchao:mxfp8_dynamic"),
    # diffusers up to 0.37, transformers 4
    ({"quant_method": "torchao", "quant_type": "int8wo", "quant_type_kwargs": {}}, "torchao:int8_weight_only"),
    ({"quant_method": "torchao", "quant_type": "int8dq"}, "torchao:int8_dynamic"),
    ({"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs": {"group_size": 32}},
     "torchao:int4_weight_only"),
    ({"quant_method": "torchao", "quant_type": "float8wo_e5m2"}, "torchao:float8_weight_only"),
    ({"quant_method": "torchao", "quant_type": "float8dq_e4m3_row"}, "torchao:float8_dynamic"),
    ({"quant_method": "torchao", "quant_type": "uint5wo"}, "torchao:uint5_weight_only"),
    ({"quant_method": "torchao", "quant_type": "uintx_weight_only", "quant_type_kwargs": {"dtype": "torch.uint3"}},
     "torchao:uint3_weight_only"),
    ({"quant_method": "quanto", "weights_dtype": "int4", "modules_to_not_convert": None}, "quanto:int4"),
    ({"quant_method": "quanto", "weights": "float8", "activations": None}, "quanto:float8"),
    ({"quant_method": "modelopt", "quant_type": "FP8", "weight_only": True}, "modelopt:fp8"),
    ({"quant_method": "modelopt", "quant_type": "INT8_INT8"}, "modelopt:int8"),
    ({"quant_method": "modelopt", "quant_type": "NVFP4", "block_quantize": 16}, "modelopt:nvfp4"),
    ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "config_groups": {}}, "modelopt:int4"),
    ({"producer": {"name": "modelopt", "version": "0.43.0"},
      "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16,
                       "exclude_modules": ["lm_head"]}}, "modelopt:nvfp4"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "spec"), KNOWN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_configuration_gives_backend_and_scheme(config: dict[str, Any], spec: str) -> None:
    found = from_config(config)
    assert found is not None
    assert found.spec == spec
    assert found.scheme in load().backends[found.backend].schemes


@pytest.mark.parametrize(
    "config", [{}, {"quant_method": "gguf", "gguf_file": "x.gguf"}, {"quant_method": "bitsandbytes"}]
)
def test_a_configuration_that_asks_for_nothing_gives_nothing(config: dict[str, Any]) -> None:
    assert from_config(config) is None


def test_what_changes_the_size_is_kept() -> None:
    four = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}
    found = from_config({**four, "llm_int8_skip_modules": ["proj_out", 7]})
    assert found == Quantized(
        "bitsandbytes", "fp4", "load_in_4bit, fp4, double quant", ("proj_out",), (("double_quant", True),)
    )
    grouped = from_config(ao("Int4WeightOnlyConfig", group_size=64))
    assert grouped is not None
    assert grouped.options == (("group_size", 64),)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "torchao, quanto, gguf, modelopt, found 'gptq'"),
        ({"quant_method": "fp8"}, "found 'fp8', which envguard does not know"),
        ({"quant_method": "compressed-tensors"}, "found 'compressed-tensors'"),
        ({"quant_method": 4}, "quant_method: expected one of"),
        ({"bits": 4}, "quant_method: expected one of"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True}, "found both"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf5"}, "one of nf4, fp4"),
        ({"quant_method": "torchao", "quant_type": "autoquant"}, "found 'autoquant'"),
        ({"quant_method": "torchao", "quant_type": {"a": 1, "b": 2}}, "quant_type: expected one of"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig"}}}, "found 'Intx"),
        ({"quant_method": "torchao"}, "quant_type: expected one of"),
        (ao("MXDynamicActivationMXWeightConfig", weight_dtype={"_type": "torch.dtype", "_data": "float4_e2m1fn_x2"}),
         "found 'MXDynamic"),
        ({"quant_method": "quanto", "weights": "int3"}, "expected one of float8, int8, int4, int2, found 'int3'"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "found 'MIXED_PRECISION'"),
        ({"quant_method": "modelopt", "quant_algo": "FP8_UNHEARD"}, "found 'FP8_UNHEARD'"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(config: dict[str, Any], said: str) -> None:
    with pytest.raises(BadModel) as caught:
        from_config(config)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2)
KEYS = st.sampled_from(
    [
        *("quant_method", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "quant_type", "weights"),
        *("weights_dtype", "quant_algo", "quantization", "producer", "group_size", "exclude_modules"),
    ]
)


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES)), st.sampled_from(KNOWN))
def test_any_object_is_read_or_refused(changes: dict[str, Any], known: tuple[dict[str, Any], str]) -> None:
    try:
        found = from_config({**known[0], **changes})
    except BadModel as error:
        refusal = str(error)
    else:
        refusal = ""
        assert found is None or found.scheme in load().backends[found.backend].schemes
    assert "\n" not in refusal


def test_the_names_of_tensors_give_bitsandbytes_away() -> None:
    def named(name: str) -> tuple[Tensor, ...]:
        return (Tensor("a.weight", "U8", (8, 1), 8), Tensor(name, "U8", (8,), 8))

    for name, scheme in (("a.weight.quant_state.bitsandbytes__nf4", "nf4"), ("a.SCB", "int8")):
        found = from_tensors(named(name))
        assert found is not None
        assert found.spec == f"bitsandbytes:{scheme}"
    assert from_tensors(named("b.weight")) is None


def test_quantos_own_map_gives_the_weights_of_most_modules() -> None:
    entries = {"a": {"weights": "qint4"}, "b": {"weights": "qfloat8_e4m3fn"}, "c": {"weights": "qfloat8_e4m3fn"}}
    found = from_config(from_quanto_map(entries))
    assert found is not None
    assert found.spec == "quanto:float8"
