"""torchao, really run: what is quantized, what comes out, what is saved and read again, alone and in its hosts.

Schemes that the installed release or the device does not have are skipped by their rules.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import models
import pytest
import torch

import envguard
from envguard.runtime.modules import nbytes
from envguard.versions import key

pytestmark = [
    pytest.mark.envguard("torchao", host="none"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
ERRORS = {
    "int8_weight_only": 0.02,  # 0.15.0's own version 2 of it: 0.11
    "int8_dynamic": 0.03,
    "int4_weight_only": 0.15,
    "int4_tile_packed": 0.15,
    "float8_weight_only": 0.06,
    "float8_dynamic": 0.08,
    "uint1_weight_only": 1.1,
    "uint2_weight_only": 0.6,
    "uint3_weight_only": 0.3,
    "uint4_weight_only": 0.15,
    "uint5_weight_only": 0.08,
    "uint6_weight_only": 0.04,
    "uint7_weight_only": 0.03,
    "nvfp4_weight_only": 0.2,
    "nvfp4_dynamic": 0.3,
    "mxfp8_dynamic": 0.1,
}
BITS = {"int8": 8.4, "int4": 4.6, "float8": 8.4, "nvfp4": 4.7, "mxfp8": 8.5}  # a weight's, with its share of scales


def bits(scheme: str) -> float:
    """An upper bound; uintN has two numbers, of 16 and of 32 bits, for 64 weights."""
    kind = scheme.partition("_")[0]
    return int(kind[4:]) + 1.0 if kind.startswith("uint") else BITS[kind]


def schemes(*names: str, host: str = "none", **options: str) -> list[Any]:
    """Schemes (all), with a mark that skips what the installed release does not run on the device."""
    return [
        pytest.param(name, marks=pytest.mark.envguard(f"torchao:{name}", host=host, **options))
        for name in names or ERRORS
    ]


@pytest.fixture
def torchao(require_backend: Callable[..., envguard.Guarded]) -> envguard.Guarded:
    return require_backend("torchao", host="none")


def run(model: torch.nn.Module, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model(models.inputs(dtype, device=str(next(model.parameters()).device)))
    return output


def at_least(version: str) -> bool:
    import torchao

    return bool(key(torchao.__version__.partition("+")[0]) >= key(version))  # type: ignore[operator]


@pytest.mark.parametrize("scheme", schemes())
def test_a_plain_module_is_quantized_and_gives_nearly_the_same(torchao: envguard.Guarded, scheme: str) -> None:
    model = models.small()
    wanted, full = run(model), nbytes(model)
    quantized = torchao.quantize(model, scheme)
    output = run(quantized)
    assert models.error(output, wanted) < ERRORS[scheme]
    if scheme != "int4_tile_packed":  # fills columns up to 1024
        assert nbytes(quantized) < (bits(scheme) / 16 + 0.02) * full
    assert str(output.device) == torchao.device
    assert output.dtype == torch.bfloat16
    assert not quantized.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("scheme", schemes("int8_weight_only", "int8_dynamic", "float8_weight_only"))
def test_other_dtypes_are_quantized_too(torchao: envguard.Guarded, scheme: str, dtype: torch.dtype) -> None:
    model = models.small(dtype)
    wanted = run(model, dtype)
    output = run(torchao.quantize(model, scheme), dtype)
    assert models.error(output, wanted) < ERRORS[scheme]
    assert output.dtype == dtype


@pytest.mark.parametrize("scheme", schemes())
def test_what_is_saved_is_read_again_bit_for_bit(torchao: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    quantized = torchao.quantize(models.small(), scheme)
    torchao.save(quantized, str(tmp_path))
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files in (["envguard.json", "model.safetensors"], ["envguard.json", "model.pt"])
    if scheme == "float8_weight_only" or at_least("0.18.0"):
        assert "model.safetensors" in files
    again = torchao.load(models.small, str(tmp_path))
    assert torch.equal(run(again), run(quantized))
    assert not again.training
    assert nbytes(again) == nbytes(quantized)
    assert [type(each) for each in again.parameters()] == [type(each) for each in quantized.parameters()]


LOAD = """
import sys, torch, envguard
sys.path.insert(0, sys.argv[3])
import models
torchao = envguard.require("torchao", host="none", device=sys.argv[4])
model = torchao.load(models.small, sys.argv[1])
with torch.no_grad():
    torch.save(model(models.inputs(device=torchao.device)).cpu(), sys.argv[2])
"""


@pytest.mark.parametrize(
    "scheme", schemes("int8_weight_only", "int4_weight_only", "uint4_weight_only", "nvfp4_weight_only")
)
def test_a_new_process_reads_what_was_saved(torchao: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    quantized = torchao.quantize(models.small(), scheme)
    torchao.save(quantized, str(tmp_path / "model"))
    output = str(tmp_path / "output.pt")
    here = str(Path(models.__file__).parent)
    command = [sys.executable, "-c", LOAD, str(tmp_path / "model"), output, here, torchao.device]
    subprocess.run(command, check=True, capture_output=True)
    assert torch.equal(torch.load(output, weights_only=True), run(quantized).cpu())


def test_a_linear_layer_alone_is_a_model(torchao: envguard.Guarded, tmp_path: Path) -> None:
    torch.manual_seed(0)
    quantized = torchao.quantize(torch.nn.Linear(256, 64).bfloat16(), "float8_weight_only")
    torchao.save(quantized, str(tmp_path))
    again = torchao.load(lambda: torch.nn.Linear(256, 64), str(tmp_path))
    assert torch.equal(run(again), run(quantized))


def test_excluded_layers_stay_as_they_are(torchao: envguard.Guarded, tmp_path: Path) -> None:
    quantized: Any = torchao.quantize(models.small(), "int8_weight_only", exclude=["3"])
    assert type(quantized[3].weight) is torch.nn.Parameter
    assert type(quantized[0].weight) is not torch.nn.Parameter
    torchao.save(quantized, str(tmp_path))
    assert torch.equal(run(torchao.load(models.small, str(tmp_path))), run(quantized))


@pytest.mark.parametrize(
    "scheme", schemes("int8_weight_only", "int4_weight_only", "int4_tile_packed", "uint4_weight_only")
)
def test_smaller_groups_are_more_exact_and_take_more_memory(torchao: envguard.Guarded, scheme: str) -> None:
    wanted = run(models.small())
    usual = torchao.quantize(models.small(), scheme)
    inexact = scheme == "int4_weight_only" and torchao.device.startswith("cuda")
    with pytest.warns(envguard.EnvguardWarning, match="int4_tile_packed") if inexact else nullcontext():
        fine = torchao.quantize(models.small(), scheme, group_size=32)
    assert nbytes(fine) > nbytes(usual)
    if inexact:
        assert models.error(run(fine), wanted) < 3 * ERRORS[scheme]
    elif scheme != "int8_weight_only":  # whose error is what bfloat16 rounds
        assert models.error(run(fine), wanted) < models.error(run(usual), wanted)


def test_groups_are_saved_and_read_again(torchao: envguard.Guarded, tmp_path: Path) -> None:
    quantized = torchao.quantize(models.small(), "int8_weight_only", group_size=64)
    torchao.save(quantized, str(tmp_path))
    assert torch.equal(run(torchao.load(models.small, str(tmp_path))), run(quantized))


@pytest.mark.parametrize("scheme", schemes("float8_weight_only", "float8_dynamic", "int8_dynamic"))
def test_a_scale_for_the_whole_tensor_where_the_release_has_it(torchao: envguard.Guarded, scheme: str) -> None:
    wanted = run(models.small())
    if scheme != "float8_dynamic" and not at_least("0.18.0"):
        with pytest.raises(envguard.UnknownOption, match=f"'granularity' for {scheme}; it has exclude"):
            torchao.quantize(models.small(), scheme, granularity="tensor")
        return
    outputs = [run(torchao.quantize(models.small(), scheme, granularity=each)) for each in ("tensor", "row")]
    assert not torch.equal(*outputs)
    assert all(models.error(output, wanted) < 2 * ERRORS[scheme] for output in outputs)


def test_a_granularity_that_does_not_exist_is_refused(torchao: envguard.Guarded) -> None:
    with pytest.raises((envguard.BadInput, envguard.UnknownOption), match="granularity"):
        torchao.quantize(models.small(), "float8_weight_only", granularity="column")


def test_an_option_of_another_backend_is_refused_by_name(torchao: envguard.Guarded) -> None:
    has = "exclude, group_size, granularity, packing_format"
    with pytest.raises(envguard.UnknownOption, match=f"torchao has no option 'calibrate' to quantize; it has {has}"):
        torchao.quantize(models.small(), "int8_weight_only", calibrate=print)


@pytest.mark.parametrize(
    ("scheme", "option"),
    [
        ("float8_weight_only", {"group_size": 32}),
        ("int8_weight_only", {"packing_format": "plain"}),
        ("nvfp4_weight_only", {"granularity": "row"}),
    ],
)
@pytest.mark.envguard("torchao:nvfp4_weight_only", host="none")
def test_an_option_of_another_scheme_is_refused_by_name(
    torchao: envguard.Guarded, scheme: str, option: dict[str, Any]
) -> None:
    with pytest.raises(envguard.UnknownOption, match=f"{next(iter(option))!r} for {scheme}; it has exclude"):
        torchao.quantize(models.small(), scheme, **option)


def test_what_is_quantized_is_not_quantized_again(torchao: envguard.Guarded) -> None:
    quantized = torchao.quantize(models.small(), "int8_weight_only")
    with pytest.raises(envguard.BadInput, match="quantized already"):
        torchao.quantize(quantized, "int8_weight_only")


def test_what_torchao_itself_has_quantized_is_not_quantized_again(torchao: envguard.Guarded) -> None:
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    model = models.small()
    quantize_(model, Float8WeightOnlyConfig())
    with pytest.raises(envguard.BadInput, match="0 is quantized already"):
        torchao.quantize(model, "int8_weight_only")


def test_another_scheme_than_the_required_one_is_a_conflict(require_backend: Callable[..., envguard.Guarded]) -> None:
    torchao = require_backend("torchao:int8_weight_only", host="none")
    with pytest.raises(envguard.SchemeConflict):
        torchao.quantize(models.small(), "float8_weight_only")


def test_a_model_without_linear_layers_is_refused(torchao: envguard.Guarded) -> None:
    with pytest.raises(envguard.BadInput, match="no linear layer"):
        torchao.quantize(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3)), "int8_weight_only")


@pytest.mark.parametrize("scheme", schemes("nvfp4_weight_only", "uint4_weight_only", "int4_weight_only"))
def test_layers_of_other_shapes_stay_as_they_are_and_are_named(
    torchao: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    def make() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(256, 24), torch.nn.Linear(24, 256), torch.nn.Linear(256, 64))

    with pytest.warns(envguard.EnvguardWarning, match=r"leaves \d of 3 linear layers as they are.*1 \(256 x 24\)"):
        quantized: Any = torchao.quantize(make().bfloat16(), scheme)
    assert type(quantized[1].weight) is torch.nn.Parameter
    assert type(quantized[2].weight) is not torch.nn.Parameter
    torchao.save(quantized, str(tmp_path))
    assert torch.equal(run(torchao.load(make, str(tmp_path))), run(quantized))


@pytest.mark.envguard("torchao:nvfp4_weight_only", host="none")
def test_a_model_of_which_no_layer_fits_is_refused(torchao: envguard.Guarded) -> None:
    with pytest.raises(envguard.BadInput, match=r"none of the 1 linear layers, for their shapes: 0 \(8 x 20\)"):
        torchao.quantize(torch.nn.Sequential(torch.nn.Linear(20, 8)).bfloat16(), "nvfp4_weight_only")


@pytest.mark.envguard("torchao:int4_tile_packed", host="none")
def test_what_torchao_cannot_pack_is_named_with_its_layer(torchao: envguard.Guarded) -> None:
    with pytest.raises(
        envguard.BadInput, match=r"cannot quantize 0 \(torch.float32, 512 x 256\) on cuda:0: Only bfloat16"
    ):
        torchao.quantize(models.small(torch.float32), "int4_tile_packed")


@pytest.mark.envguard("torchao:int4_weight_only", device="cuda", host="none")
@pytest.mark.parametrize("packing", ["plain", "tile_packed_to_4d"])
def test_int4_is_packed_as_asked(
    require_backend: Callable[..., envguard.Guarded], packing: str, tmp_path: Path
) -> None:
    torchao = require_backend("torchao:int4_weight_only", device="cuda", host="none")
    quantized: Any = torchao.quantize(models.small(), packing_format=packing)
    wanted = {"plain": "Int4Tensor", "tile_packed_to_4d": "Int4TilePackedTo4dTensor"}[packing]
    assert type(quantized[0].weight).__name__ == wanted
    torchao.save(quantized, str(tmp_path))
    assert torch.equal(run(torchao.load(models.small, str(tmp_path))), run(quantized))


def test_tensors_of_another_model_are_refused(torchao: envguard.Guarded, tmp_path: Path) -> None:
    torchao.save(torchao.quantize(models.small(), "int8_weight_only"), str(tmp_path))
    with pytest.raises(envguard.BadInput, match="another model"):
        torchao.load(lambda: models.small(width=128), str(tmp_path))


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"tensor_names": "no JSON"},
        {"tensor_names": '["quantized.0.weight"]'},
        {"tensor_names": '["quantized.0.weight"]', "quantized.0.weight": '{"_type": "os.system", "_data": "ls"}'},
        {"tensor_names": '["weight"]', "weight": '{"_type": "Float8Tensor", "_data": {}}'},
    ],
)
def test_a_layout_that_is_not_torchaos_is_refused(
    torchao: envguard.Guarded, tmp_path: Path, layout: dict[str, str]
) -> None:
    torchao.save(torchao.quantize(models.small(), "float8_weight_only"), str(tmp_path))
    description = json.loads((tmp_path / "envguard.json").read_text())
    (tmp_path / "envguard.json").write_text(json.dumps({**description, "layout": layout}))
    with pytest.raises(envguard.BadInput, match=r"layout|do not fit"):
        torchao.load(models.small, str(tmp_path))


@pytest.mark.parametrize("scheme", schemes("int4_weight_only", "uint4_weight_only"))
def test_a_torch_file_with_other_objects_is_refused(torchao: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    torchao.save(torchao.quantize(models.small(), scheme), str(tmp_path))
    if (tmp_path / "model.safetensors").exists():  # int4 on CUDA
        return
    torch.save({"0.weight": print}, tmp_path / "model.pt")
    with pytest.raises(envguard.BadInput, match=r"cannot read .*saved with torchao .*(print|getattr|builtins)"):
        torchao.load(models.small, str(tmp_path))
    (tmp_path / "model.pt").write_bytes(b"no torch file")
    with pytest.raises(envguard.BadInput, match="cannot read"):
        torchao.load(models.small, str(tmp_path))


HOST_SCHEMES = [
    *("int8_weight_only", "int8_dynamic", "int4_weight_only", "int4_tile_packed", "float8_weight_only"),
    *("float8_dynamic", "uint4_weight_only", "nvfp4_weight_only"),
]


@pytest.mark.parametrize("scheme", schemes(*HOST_SCHEMES, host="diffusers"))
def test_diffusers_loads_quantizes_saves_and_loads(
    require_backend: Callable[..., envguard.Guarded], scheme: str, tmp_path: Path
) -> None:
    torchao = require_backend(f"torchao:{scheme}", host="diffusers")
    model = models.flux(heads=8 if scheme == "float8_dynamic" else 4)  # no layer of 128 x 128, see _mistaken
    model.save_pretrained(tmp_path / "full")
    wanted, full = models.run_flux(model), nbytes(model)
    # 16 columns, which do not divide into uint4's groups of 64
    quantized = torchao.load(type(model), str(tmp_path / "full"), torch_dtype=torch.bfloat16, exclude=["x_embedder"])
    output = models.run_flux(quantized)
    assert type(quantized.x_embedder.weight) is torch.nn.Parameter
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    if scheme != "int4_tile_packed":
        assert nbytes(quantized) < (bits(scheme) / 16 + 0.15) * full
    torchao.save(quantized, str(tmp_path / "quantized"))
    if at_least("0.18.0"):
        files = sorted(file.name for file in (tmp_path / "quantized").iterdir())
        assert files == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = torchao.load(type(model), str(tmp_path / "quantized"))
    assert torch.equal(models.run_flux(again), output)
    with pytest.raises(envguard.BadInput, match="quantized already"):
        torchao.quantize(again)
    torchao.save(again, str(tmp_path / "again"))
    assert torch.equal(models.run_flux(torchao.load(type(model), str(tmp_path / "again"))), output)


@pytest.mark.parametrize("scheme", schemes(*HOST_SCHEMES, host="transformers"))
def test_transformers_loads_quantizes_saves_and_loads(
    require_backend: Callable[..., envguard.Guarded], scheme: str, tmp_path: Path
) -> None:
    torchao = require_backend(f"torchao:{scheme}", host="transformers")
    model = models.llama(width=256 if scheme == "float8_dynamic" else 128)
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_llama(model)
    quantized = torchao.load(type(model), str(tmp_path / "full"), torch_dtype=torch.bfloat16)
    output = models.run_llama(quantized)
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    assert type(quantized.lm_head.weight) is torch.nn.Parameter
    torchao.save(quantized, str(tmp_path / "quantized"))
    again = torchao.load(type(model), str(tmp_path / "quantized"))
    assert torch.equal(models.run_llama(again), output)


@pytest.mark.parametrize("scheme", schemes("int8_weight_only", "uint4_weight_only", host="diffusers"))
def test_a_diffusers_model_in_memory_is_saved_with_its_own_config(
    torchao: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    quantized: Any = torchao.quantize(models.flux(), scheme, exclude=["x_embedder"])
    torchao.save(quantized, str(tmp_path))
    again: Any = torchao.load(type(quantized), str(tmp_path))
    assert torch.equal(models.run_flux(again), models.run_flux(quantized))


@pytest.mark.parametrize("scheme", schemes("int8_weight_only", "int4_weight_only", host="transformers"))
def test_a_transformers_model_in_memory_comes_back_with_its_rounded_buffers(
    torchao: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    quantized: Any = torchao.quantize(models.llama(), scheme)
    assert quantized.model.rotary_emb.inv_freq.dtype == torch.bfloat16  # no state dict has it
    torchao.save(quantized, str(tmp_path))
    again: Any = torchao.load(type(quantized), str(tmp_path))
    assert torch.equal(models.run_llama(again), models.run_llama(quantized))


@pytest.mark.envguard("torchao:int8_weight_only", host="diffusers")
def test_an_option_to_load_what_is_quantized_already_is_refused(
    require_backend: Callable[..., envguard.Guarded], tmp_path: Path
) -> None:
    torchao = require_backend("torchao:int8_weight_only", host="diffusers")
    model = models.flux()
    model.save_pretrained(tmp_path / "full")
    torchao.save(torchao.load(type(model), str(tmp_path / "full"), torch_dtype=torch.bfloat16), str(tmp_path / "q"))
    with pytest.raises(envguard.UnknownOption, match="exclude"):
        torchao.load(type(model), str(tmp_path / "q"), exclude=["x_embedder"])
