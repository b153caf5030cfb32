"""optimum-quanto, really run: what is quantized, what comes out, what is saved and read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch

import envguard
from envguard.runtime.modules import nbytes

pytestmark = [
    pytest.mark.envguard("quanto", host="none"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
SCHEMES = ["int8", "float8"]  # int4 and int2 compile an extension: minutes


@pytest.fixture
def quanto(require_backend: Callable[..., envguard.Guarded]) -> envguard.Guarded:
    return require_backend("quanto", host="none")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_plain_module_is_quantized_and_gives_nearly_the_same(quanto: envguard.Guarded, scheme: str) -> None:
    model = models.small()
    wanted, full = model(models.inputs()), nbytes(model)
    quantized = quanto.quantize(model, scheme)
    assert models.error(quantized(models.inputs(device=quanto.device)), wanted) < {"int8": 0.02, "float8": 0.09}[scheme]
    assert nbytes(quantized) < 0.55 * full


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_saved_is_read_again_bit_for_bit(quanto: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    quantized = quanto.quantize(models.small(), scheme, exclude=["3"])
    quanto.save(quantized, str(tmp_path / "model"))
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["envguard.json", "model.safetensors"]
    again = quanto.load(models.small, str(tmp_path / "model"))
    x = models.inputs(device=quanto.device)
    assert torch.equal(again(x), quantized(x))
    assert not again.training
    assert nbytes(again) == nbytes(quantized)


def test_excluded_layers_stay_as_they_are(quanto: envguard.Guarded) -> None:
    quantized = quanto.quantize(models.small(), "int8", exclude=["3"])
    layers = list(quantized.children())
    assert type(layers[3]) is torch.nn.Linear
    assert type(layers[0]) is not torch.nn.Linear


def test_an_option_of_another_backend_is_refused_by_name(quanto: envguard.Guarded) -> None:
    with pytest.raises(
        envguard.UnknownOption, match=r"quanto has no option 'compute_dtype' to quantize; it has exclude"
    ):
        quanto.quantize(models.small(), "int8", compute_dtype=torch.bfloat16)


@pytest.mark.envguard("quanto:int8", host="diffusers")
def test_a_configuration_of_ones_own_is_no_way_around_the_rules(quanto: envguard.Guarded, tmp_path: Path) -> None:
    models.flux().save_pretrained(tmp_path)
    with pytest.raises(envguard.UnknownOption, match="quantization_config is what quanto was checked for"):
        quanto.load(type(models.flux()), str(tmp_path), "int8", quantization_config=object())


def test_what_is_quantized_is_not_quantized_again(quanto: envguard.Guarded) -> None:
    quantized = quanto.quantize(models.small(), "int8")
    with pytest.raises(envguard.BadInput, match="quantized already"):
        quanto.quantize(quantized, "int8")


def test_what_is_no_torch_module_is_refused(quanto: envguard.Guarded) -> None:
    with pytest.raises(envguard.BadInput, match=r"expected a torch\.nn\.Module, found str"):
        quanto.quantize("model", "int8")  # type: ignore[arg-type]


def test_a_model_in_full_precision_is_not_saved_as_a_quantized_one(quanto: envguard.Guarded, tmp_path: Path) -> None:
    with pytest.raises(envguard.BadInput, match="this Sequential is not quantized"):
        quanto.save(models.small(), str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())


@pytest.mark.envguard("quanto:int8", host="diffusers")
def test_flax_weights_are_told_with_where_the_conversion_stands(quanto: envguard.Guarded, tmp_path: Path) -> None:
    model = models.flux()
    model.save_config(tmp_path)
    (tmp_path / "diffusion_flax_model.msgpack").write_bytes(b"\x80")
    with pytest.raises(envguard.BadInput, match="envguard explain bitsandbytes/flax-weights"):
        quanto.load(type(model), str(tmp_path), "int8")


@pytest.mark.envguard("quanto:int8", host="diffusers")
def test_a_host_saves_over_a_folder_of_ours(quanto: envguard.Guarded, tmp_path: Path) -> None:
    model = models.flux()
    model.save_pretrained(tmp_path / "full")
    quanto.save(quanto.quantize(models.flux(), "float8"), str(tmp_path / "model"))
    quantized = quanto.load(type(model), str(tmp_path / "full"), "int8", torch_dtype=torch.bfloat16)
    quanto.save(quantized, str(tmp_path / "model"))
    again = quanto.load(type(model), str(tmp_path / "model"), "int8", torch_dtype=torch.bfloat16)
    assert torch.equal(models.run_flux(again), models.run_flux(quantized))


def test_a_model_without_linear_layers_is_refused(quanto: envguard.Guarded) -> None:
    with pytest.raises(envguard.BadInput, match="no linear layer"):
        quanto.quantize(torch.nn.Sequential(torch.nn.ReLU()), "int8")


def test_tensors_of_another_model_are_refused(quanto: envguard.Guarded, tmp_path: Path) -> None:
    quanto.save(quanto.quantize(models.small(), "int8"), str(tmp_path))
    with pytest.raises(envguard.BadInput, match="another model"):
        quanto.load(lambda: models.small(width=128), str(tmp_path))


def test_a_folder_of_another_backend_is_refused(quanto: envguard.Guarded, tmp_path: Path) -> None:
    quanto.save(quanto.quantize(models.small(), "int8"), str(tmp_path))
    description = json.loads((tmp_path / "envguard.json").read_text())
    (tmp_path / "envguard.json").write_text(json.dumps({**description, "backend": "torchao"}))
    with pytest.raises(envguard.BadInput, match="torchao"):
        quanto.load(models.small, str(tmp_path))


@pytest.mark.envguard("quanto:int8", host="diffusers")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_diffusers_loads_quantizes_saves_and_loads(quanto: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    model = models.flux()
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_flux(model)
    quantized = quanto.load(type(model), str(tmp_path / "full"), scheme, torch_dtype=torch.bfloat16)
    output = models.run_flux(quantized)
    assert models.error(output, wanted) < 0.2  # a GPU's kernel for float8 is the rougher one
    assert nbytes(quantized) < 0.7 * nbytes(model)
    quanto.save(quantized, str(tmp_path / "quantized"))
    again = quanto.load(type(model), str(tmp_path / "quantized"), torch_dtype=torch.bfloat16)
    assert torch.equal(models.run_flux(again), output)


@pytest.mark.envguard("quanto:int8", host="transformers")
def test_transformers_loads_quantizes_and_ours_saves(quanto: envguard.Guarded, tmp_path: Path) -> None:
    model = models.llama()
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_llama(model)
    quantized = quanto.load(type(model), str(tmp_path / "full"), "int8", dtype=torch.bfloat16)
    output = models.run_llama(quantized)
    assert models.error(output, wanted) < 0.05
    quanto.save(quantized, str(tmp_path / "quantized"))
    again = quanto.load(type(model), str(tmp_path / "quantized"))
    assert torch.equal(models.run_llama(again), output)


@pytest.mark.envguard("quanto:int8", host="diffusers")
def test_a_diffusers_model_in_memory_is_saved_with_its_own_config(quanto: envguard.Guarded, tmp_path: Path) -> None:
    quantized = quanto.quantize(models.flux(), "int8")
    quanto.save(quantized, str(tmp_path))
    again: Any = quanto.load(type(quantized), str(tmp_path))
    assert torch.equal(models.run_flux(again), models.run_flux(quantized))
