"""NVIDIA ModelOpt, really run: what is quantized, what comes out, what is saved and read again."""

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
    pytest.mark.envguard("modelopt", host="none"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
ERRORS = {"fp8": 0.06, "int8": 0.02, "int4": 0.15, "nf4": 0.15, "nvfp4": 0.2}
BYTES = {"fp8": 0.52, "int8": 0.53, "int4": 0.28, "nf4": 0.28, "nvfp4": 0.31}
WITH_INPUTS = ["fp8", "int8", "nvfp4"]


def run_on_data(model: torch.nn.Module) -> None:
    """Calibration for `models.small`."""
    model(models.inputs(device=str(model.get_parameter("0.bias").device)))


@pytest.fixture(params=list(ERRORS))
def scheme(request: pytest.FixtureRequest, require_backend: Callable[..., envguard.Guarded]) -> str:
    """Each scheme that this device runs."""
    require_backend(f"modelopt:{request.param}", host="none")
    return str(request.param)


@pytest.fixture
def modelopt(require_backend: Callable[..., envguard.Guarded]) -> envguard.Guarded:
    return require_backend("modelopt", host="none")


def test_a_plain_module_is_quantized_and_gives_nearly_the_same(modelopt: envguard.Guarded, scheme: str) -> None:
    model = models.small()
    wanted, full = model(models.inputs()), nbytes(model)
    quantized = modelopt.quantize(model, scheme)
    assert models.error(quantized(models.inputs(device=modelopt.device)), wanted) < ERRORS[scheme]
    assert nbytes(quantized) < BYTES[scheme] * full + 8192  # what is not quantized is small


def test_what_is_saved_is_read_again_bit_for_bit(modelopt: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    quantized = modelopt.quantize(models.small(), scheme, exclude=["3"])
    modelopt.save(quantized, str(tmp_path / "model"))
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["envguard.json", "model.safetensors"]
    again = modelopt.load(models.small, str(tmp_path / "model"))
    x = models.inputs(device=modelopt.device)
    assert torch.equal(again(x), quantized(x))
    assert not again.training
    assert nbytes(again) == nbytes(quantized)


@pytest.mark.parametrize("scheme", WITH_INPUTS, indirect=True)
def test_with_data_the_inputs_are_quantized_too_and_read_again(
    modelopt: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    model = models.small()
    wanted = model(models.inputs())
    weights_alone = modelopt.quantize(models.small(), scheme)
    quantized = modelopt.quantize(model, scheme, calibrate=run_on_data)
    x = models.inputs(device=modelopt.device)
    output = quantized(x)
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    assert not torch.equal(output, weights_alone(x))
    modelopt.save(quantized, str(tmp_path))
    assert torch.equal(modelopt.load(models.small, str(tmp_path))(x), output)


@pytest.mark.parametrize("scheme", ["int4", "nf4"], indirect=True)
def test_data_for_weights_alone_is_refused(modelopt: envguard.Guarded, scheme: str) -> None:
    with pytest.raises(envguard.BadInput, match="no use for calibrate"):
        modelopt.quantize(models.small(), scheme, calibrate=run_on_data)


def test_nothing_is_printed(modelopt: envguard.Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    modelopt.quantize(models.small(), "int8")
    assert capsys.readouterr().out == ""


def test_excluded_layers_and_those_that_are_no_linear_layers_stay_as_they_are(modelopt: envguard.Guarded) -> None:
    model = torch.nn.Sequential(models.small(), torch.nn.Conv1d(4, 4, 1), torch.nn.Embedding(8, 8))
    quantized = modelopt.quantize(model, "int8", exclude=["0.3"])
    left = [type(each) for each in quantized.modules() if type(each).__module__.startswith("torch.nn.modules")]
    assert left.count(torch.nn.Linear) == 1
    assert torch.nn.Conv1d in left
    assert torch.nn.Embedding in left


@pytest.mark.parametrize("scheme", ["fp8", "nvfp4"], indirect=True)
def test_a_layer_of_zeros_stays_as_it_is_and_gives_no_nan(modelopt: envguard.Guarded, scheme: str) -> None:
    model = models.small()
    torch.nn.init.zeros_(model.get_submodule("3").weight)  # type: ignore[arg-type]
    output = modelopt.quantize(model, scheme)(models.inputs(device=modelopt.device))
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.parametrize("scheme", ["int8", "int4", "nf4"], indirect=True)
def test_a_layer_of_zeros_gives_zeros(modelopt: envguard.Guarded, scheme: str) -> None:
    model = models.small()
    torch.nn.init.zeros_(model.get_submodule("3").weight)  # type: ignore[arg-type]
    output = modelopt.quantize(model, scheme)(models.inputs(device=modelopt.device))
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.parametrize("scheme", ["int4", "nf4", "nvfp4"], indirect=True)
def test_layers_that_do_not_fit_the_blocks_are_named(modelopt: envguard.Guarded, scheme: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(256, 7), torch.nn.Linear(7, 9)).to(torch.bfloat16)
    with pytest.raises(envguard.BadInput, match=r"exclude=\['1'\]"):
        modelopt.quantize(model, scheme)
    modelopt.quantize(model, scheme, exclude=["1"])


def test_an_option_of_another_backend_is_refused_by_name(modelopt: envguard.Guarded) -> None:
    wanted = r"modelopt has no option 'compute_dtype' to quantize; it has exclude, calibrate"
    with pytest.raises(envguard.UnknownOption, match=wanted):
        modelopt.quantize(models.small(), "int8", compute_dtype=torch.bfloat16)


def test_another_scheme_than_the_required_one_is_refused(require_backend: Callable[..., envguard.Guarded]) -> None:
    with pytest.raises(envguard.SchemeConflict, match="modelopt:int8 was required"):
        require_backend("modelopt:int8", host="none").quantize(models.small(), "int4")


def test_what_is_quantized_is_not_quantized_again(modelopt: envguard.Guarded) -> None:
    quantized = modelopt.quantize(models.small(), "int8")
    with pytest.raises(envguard.BadInput, match="quantized already"):
        modelopt.quantize(quantized, "int8")


def test_a_model_without_linear_layers_is_refused(modelopt: envguard.Guarded) -> None:
    with pytest.raises(envguard.BadInput, match="no linear layer"):
        modelopt.quantize(torch.nn.Sequential(torch.nn.ReLU()), "int8")


def test_what_modelopt_leaves_as_it_is_is_an_error(modelopt: envguard.Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    import modelopt.torch.quantization as mtq

    monkeypatch.setattr(mtq, "compress", lambda model: None)
    with pytest.raises(envguard.BadInput, match="did not compress 0, without saying so"):
        modelopt.quantize(models.small(), "int8")


def test_tensors_of_another_model_are_refused(modelopt: envguard.Guarded, tmp_path: Path) -> None:
    modelopt.save(modelopt.quantize(models.small(), "int8"), str(tmp_path))
    with pytest.raises(envguard.BadInput, match="another model"):
        modelopt.load(lambda: models.small(width=128), str(tmp_path))


@pytest.mark.parametrize("lacking", ["0.weight", "0.weight_quantizer._scale", "0.bias"])
def test_a_saved_model_that_lacks_a_tensor_is_refused(modelopt: envguard.Guarded, tmp_path: Path, lacking: str) -> None:
    from safetensors.torch import load_file, save_file

    modelopt.save(modelopt.quantize(models.small(), "int8"), str(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in tensors.items() if name != lacking}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(envguard.BadInput, match=r"0(\.bias)? (lacks|is missing)"):
        modelopt.load(models.small, str(tmp_path))


@pytest.mark.parametrize("changed", [{"dtype": "load"}, {"dtype": "int8"}, {"shape": [512]}, {"shape": [256, 512]}])
def test_a_layout_that_was_changed_is_refused(
    modelopt: envguard.Guarded, tmp_path: Path, changed: dict[str, Any]
) -> None:
    modelopt.save(modelopt.quantize(models.small(), "int8"), str(tmp_path))
    description = json.loads((tmp_path / "envguard.json").read_text())
    description["layout"]["0"].update(changed)
    (tmp_path / "envguard.json").write_text(json.dumps(description))
    with pytest.raises(envguard.BadInput, match="0"):
        modelopt.load(models.small, str(tmp_path))


def test_a_diffusers_model_is_loaded_quantized_saved_and_loaded(
    modelopt: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    pytest.importorskip("diffusers")
    model = models.flux()
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_flux(model)
    quantized = modelopt.load(
        type(model), str(tmp_path / "full"), scheme, exclude=["proj_out"], torch_dtype=torch.bfloat16
    )
    assert type(quantized.proj_out) is torch.nn.Linear
    assert quantized.dtype == torch.bfloat16  # of which pipelines make its inputs
    output = models.run_flux(quantized)
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    assert nbytes(quantized) < 0.7 * nbytes(model)
    modelopt.save(quantized, str(tmp_path / "quantized"))
    again = modelopt.load(type(model), str(tmp_path / "quantized"))
    assert torch.equal(models.run_flux(again), output)


def test_a_transformers_model_is_loaded_quantized_saved_and_loaded(
    modelopt: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    model = models.llama()
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_llama(model)
    quantized = modelopt.load(type(model), str(tmp_path / "full"), scheme, dtype=torch.bfloat16, exclude=["lm_head"])
    output = models.run_llama(quantized)
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    modelopt.save(quantized, str(tmp_path / "quantized"))
    again = modelopt.load(type(model), str(tmp_path / "quantized"))
    assert torch.equal(models.run_llama(again), output)
