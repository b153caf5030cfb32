"""Which scheme a host's serialized torchao configuration stands for."""

from __future__ import annotations

from typing import Any

import pytest

from envguard.modelfiles.quantized import from_config


@pytest.mark.parametrize(
    ("packing", "scheme"),
    [
        ("tile_packed_to_4d", "int4_tile_packed"),
        ({"_type": "Int4PackingFormat", "_data": "TILE_PACKED_TO_4D"}, "int4_tile_packed"),
        ("plain", "int4_weight_only"),
        (None, "int4_weight_only"),
    ],
)
def test_an_int4_packing_that_needs_no_kernel_package_is_a_scheme_of_its_own(packing: Any, scheme: str) -> None:
    data = {"group_size": 128} if packing is None else {"group_size": 128, "int4_packing_format": packing}
    kind = {"default": {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": data}}
    quantized = from_config({"quant_method": "torchao", "quant_type": kind})
    assert quantized is not None
    assert quantized.spec == f"torchao:{scheme}"
