"""bitsandbytes, really run: what is quantized, what comes out, what is saved and read again, alone and in its hosts."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch

import envguard
from envguard.runtime import bitsandbytes as adapter

pytestmark = [
    pytest.mark.envguard("bnb", host="none"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]  # EnvguardWarning is a UserWarning
ERRORS = {"nf4": 0.15, "fp4": 0.2, "int8": 0.03}
MEMORY = {"nf4": 0.29, "fp4": 0.29, "int8": 0.52}


def schemes(host: str = "none", operation: str = "quantize") -> list[Any]:
    """Each scheme, with a mark that skips what the installed release does not run on the device."""
    return [
        pytest.param(scheme, marks=pytest.mark.envguard(f"bnb:{scheme}", host=host, operation=operation))
        for scheme in ERRORS
    ]


@pytest.fixture
def bnb(require_backend: Callable[..., envguard.Guarded]) -> envguard.Guarded:
    return require_backend("bnb", host="none")


def run(model: torch.nn.Module, bnb: envguard.Guarded, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model(models.inputs(dtype, width=model[0].in_features, device=bnb.device))  # type: ignore[index]
    return output


def size(model: torch.nn.Module) -> int:
    """Bytes of all tensors, scales included, which are no parameters of a Linear4bit."""
    tensors = {tensor.data_ptr(): tensor.detach().as_subclass(torch.Tensor) for tensor in model.state_dict().values()}
    return sum(tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize("scheme", schemes())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_plain_module_is_quantized_and_gives_nearly_the_same(
    bnb: envguard.Guarded, scheme: str, dtype: torch.dtype
) -> None:
    model = models.small(dtype)
    with torch.no_grad():
        wanted = model(models.inputs(dtype))
    full = size(model) * 2 // dtype.itemsize
    quantized = bnb.quantize(model, scheme)
    assert size(quantized) < (MEMORY[scheme] + 0.02) * full
    output = run(quantized, bnb, dtype)
    assert models.error(output, wanted) < ERRORS[scheme]
    assert output.dtype == dtype
    assert not quantized.training
    assert {tensor.device for tensor in quantized.parameters()} == {output.device}


@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "after it ran"])
@pytest.mark.parametrize("scheme", schemes())
def test_what_is_saved_is_read_again_bit_for_bit(bnb: envguard.Guarded, scheme: str, ran: bool, tmp_path: Path) -> None:
    quantized = bnb.quantize(models.small(), scheme)
    before = run(quantized, bnb) if ran else None
    bnb.save(quantized, str(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["envguard.json", "model.safetensors"]
    again = bnb.load(models.small, str(tmp_path))
    for name, tensor in bnb.quantize(models.small(), scheme).state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)  # that it ran has left no trace
    output = run(again, bnb)
    assert torch.equal(output, run(quantized, bnb))
    assert before is None or torch.equal(output, before)
    assert not again.training
    assert size(again) == size(quantized)


@pytest.mark.envguard("bnb:nf4", host="none")
@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "after it ran"])
def test_quantized_scales_are_saved_and_read_too(bnb: envguard.Guarded, ran: bool, tmp_path: Path) -> None:
    quantized, plain = bnb.quantize(models.small(), "nf4", double_quant=True), bnb.quantize(models.small(), "nf4")
    assert size(quantized) < size(plain)
    if ran:
        run(quantized, bnb)
    bnb.save(quantized, str(tmp_path))
    again = bnb.load(models.small, str(tmp_path))
    assert torch.equal(run(again, bnb), run(quantized, bnb))


def uneven(width: int, out: int) -> torch.nn.Module:
    """A layer whose scales differ from block to block, so that another's scale shows."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(width, out)).to(torch.bfloat16).eval()
    weight = model[0].weight.data
    blocks = torch.arange(weight.numel()).reshape(weight.shape) // 64
    weight.mul_(torch.where(blocks % 2 == 0, 1, 20))
    return model


@pytest.mark.parametrize("scheme", schemes())
@pytest.mark.parametrize(("width", "out"), [(256, 40), (64, 32), (128, 1), (96, 512), (100, 36), (96, 33), (33, 5)])
def test_a_layer_of_any_size_is_right_or_refused(
    bnb: envguard.Guarded, scheme: str, width: int, out: int, tmp_path: Path
) -> None:
    def make() -> torch.nn.Module:
        return uneven(width, out)

    with torch.no_grad():
        wanted = make()(models.inputs(width=width))
    try:
        quantized = bnb.quantize(make(), scheme)
    except envguard.BadInput as error:  # what the release has no code for, or wrong code
        assert bnb.device == "cpu"
        assert scheme != "int8"
        assert width % 64 or out % 64
        assert "the sizes of 0: nothing is left to quantize" in str(error)  # noqa: PT017
        return
    output = run(quantized, bnb)
    assert models.error(output, wanted) < 1.5 * ERRORS[scheme]
    bnb.save(quantized, str(tmp_path))
    assert torch.equal(run(bnb.load(make, str(tmp_path)), bnb), output)


@pytest.mark.envguard("bnb:nf4", host="none")
def test_what_the_cpu_gets_wrong_is_left_as_it_is_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bnb = envguard.require("bnb:nf4", host="none", device="cpu")
    monkeypatch.setattr(adapter, "_reads_rows", lambda functional, width: width != 80)

    def make() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(80, 64), torch.nn.Linear(64, 80)).to(torch.bfloat16).eval()

    with pytest.warns(envguard.EnvguardWarning, match="the sizes of 0: left in full precision"):
        quantized = bnb.quantize(make())
    assert [type(layer) is torch.nn.Linear for layer in quantized.children()] == [True, False]
    bnb.save(quantized, str(tmp_path))
    assert torch.equal(run(bnb.load(make, str(tmp_path)), bnb), run(quantized, bnb))
    monkeypatch.setattr(adapter.Bitsandbytes, "_fits", lambda *_: False)
    with pytest.raises(envguard.BadInput, match="the sizes of 1 wrongly on this CPU"):
        bnb.load(make, str(tmp_path))


@pytest.mark.parametrize("scheme", schemes())
def test_excluded_layers_stay_as_they_are(bnb: envguard.Guarded, scheme: str) -> None:
    layers = list(bnb.quantize(models.small(), scheme, exclude=["3"]).children())
    assert type(layers[3]) is torch.nn.Linear
    assert type(layers[0]) is not torch.nn.Linear


@pytest.mark.envguard("bnb:nf4", host="none")
def test_the_compute_type_is_that_of_the_input_or_the_one_asked_for(bnb: envguard.Guarded, tmp_path: Path) -> None:
    assert bnb.quantize(models.small(), "nf4")[0].compute_dtype is None  # type: ignore[index]
    for given in (torch.float32, "float32", "torch.float32"):
        quantized: Any = bnb.quantize(models.small(), "nf4", compute_dtype=given)
        assert quantized[0].compute_dtype == torch.float32
    bnb.save(quantized, str(tmp_path))
    assert bnb.load(models.small, str(tmp_path))[0].compute_dtype == torch.float32


@pytest.mark.envguard("bnb:int8", host="none")
def test_the_threshold_is_that_of_the_hosts_or_the_one_asked_for(bnb: envguard.Guarded, tmp_path: Path) -> None:
    assert bnb.quantize(models.small(), "int8")[0].state.threshold == 6.0  # type: ignore[index]
    quantized: Any = bnb.quantize(models.small(), "int8", threshold=0.5)
    assert quantized[0].state.threshold == 0.5
    bnb.save(quantized, str(tmp_path))
    again = bnb.load(models.small, str(tmp_path))
    assert again[0].state.threshold == 0.5
    assert torch.equal(run(again, bnb), run(quantized, bnb))


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("nf4", {"threshold": 6.0}, "bitsandbytes:nf4 has no option 'threshold' .*it has exclude, compute_dtype"),
        ("int8", {"double_quant": True}, "bitsandbytes:int8 has no option 'double_quant' .*it has exclude, threshold"),
        ("int8", {"calibrate": print}, "bitsandbytes has no option 'calibrate'"),
        ("nf4", {"bnb_4bit_use_double_quant": True}, "it has exclude, compute_dtype, double_quant, threshold"),
    ],
)
def test_an_option_that_a_scheme_does_not_have_is_refused_by_name(
    bnb: envguard.Guarded, scheme: str, options: dict[str, Any], message: str
) -> None:
    model = models.small()
    with pytest.raises(envguard.UnknownOption, match=message):
        bnb.quantize(model, scheme, **options)
    assert type(model[0]) is torch.nn.Linear  # type: ignore[index]


@pytest.mark.parametrize("dtype", ["int7", "int8", torch.int8, 8])
def test_a_compute_type_that_is_none_is_refused(bnb: envguard.Guarded, dtype: Any) -> None:
    with pytest.raises(envguard.BadInput, match="compute_dtype: expected float32"):
        bnb.quantize(models.small(), "nf4", compute_dtype=dtype)


@pytest.mark.parametrize("model", [models.small(torch.float64), models.small().to("meta")], ids=["float64", "meta"])
def test_weights_that_cannot_be_quantized_are_refused_before_anything_is_changed(
    bnb: envguard.Guarded, model: Any
) -> None:
    layers = list(model.children())
    with pytest.raises(envguard.BadInput, match=r"the weight of 0 has"):
        bnb.quantize(model, "nf4")
    assert list(model.children()) == layers


def test_what_is_quantized_is_not_quantized_again(bnb: envguard.Guarded) -> None:
    quantized = bnb.quantize(models.small(), "int8")
    with pytest.raises(envguard.BadInput, match="quantized already"):
        bnb.quantize(quantized, "int8")


def test_a_model_without_linear_layers_is_refused(bnb: envguard.Guarded) -> None:
    with pytest.raises(envguard.BadInput, match="no linear layer"):
        bnb.quantize(torch.nn.Sequential(torch.nn.ReLU()), "nf4")


def test_another_scheme_than_the_required_one_is_a_conflict(require_backend: Callable[..., envguard.Guarded]) -> None:
    nf4 = require_backend("bnb:nf4", host="none")
    with pytest.raises(envguard.SchemeConflict, match="nf4 was required, but int8"):
        nf4.quantize(models.small(), "int8")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors of a saved model."""
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def pack(**values: Any) -> torch.Tensor:
    return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)


STATE = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [512, 256]}
CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "no scales": ("nf4", lambda t: t.pop("0.weight.absmax")),
    "too few scales": ("nf4", lambda t: t.update({"0.weight.absmax": t["0.weight.absmax"][:-1].clone()})),
    "scales of another type": ("nf4", lambda t: t.update({"0.weight.absmax": t["0.weight.absmax"].half()})),
    "too short a weight": ("nf4", lambda t: t.update({"0.weight": t["0.weight"][:-1].clone()})),
    "too short a map": ("nf4", lambda t: t.update({"0.weight.quant_map": torch.zeros(15)})),
    "no state": ("nf4", lambda t: t.pop("0.weight.quant_state.bitsandbytes__nf4")),
    "no JSON": ("nf4", lambda t: t.update({"0.weight.quant_state.bitsandbytes__nf4": torch.zeros(3).byte()})),
    "another type": (
        "nf4",
        lambda t: t.update({"0.weight.quant_state.bitsandbytes__nf4": pack(**STATE | {"quant_type": "fp4"})}),
    ),
    "another shape": (
        "nf4",
        lambda t: t.update({"0.weight.quant_state.bitsandbytes__nf4": pack(**STATE | {"shape": [256, 512]})}),
    ),
    "no block": (
        "nf4",
        lambda t: t.update({"0.weight.quant_state.bitsandbytes__nf4": pack(**STATE | {"blocksize": 0})}),
    ),
    "no dtype": (
        "nf4",
        lambda t: t.update({"0.weight.quant_state.bitsandbytes__nf4": pack(**STATE | {"dtype": "load"})}),
    ),
    "int8 without scales": ("int8", lambda t: t.pop("0.SCB")),
    "int8 with too few scales": ("int8", lambda t: t.update({"0.SCB": t["0.SCB"][:-1].clone()})),
    "int8 of floats": ("int8", lambda t: t.update({"0.weight": t["0.weight"].half()})),
}


@pytest.mark.envguard("bnb:nf4", host="none")
@pytest.mark.parametrize("name", CHANGES)
def test_tensors_that_are_no_such_weight_are_refused_before_a_kernel_reads_them(
    bnb: envguard.Guarded, name: str, tmp_path: Path
) -> None:
    scheme, change = CHANGES[name]
    bnb.save(bnb.quantize(models.small(), scheme), str(tmp_path))
    rewrite(tmp_path, change)
    with pytest.raises(envguard.BadInput, match=f"the saved tensors of 0 are no {scheme} weight"):
        bnb.load(models.small, str(tmp_path))


@pytest.mark.envguard("bnb:nf4", host="none")
@pytest.mark.parametrize("part", ["absmax", "nested_absmax", "nested_quant_map"])
def test_quantized_scales_that_are_too_short_are_refused(bnb: envguard.Guarded, part: str, tmp_path: Path) -> None:
    bnb.save(bnb.quantize(models.small(), "nf4", double_quant=True), str(tmp_path))
    rewrite(tmp_path, lambda t: t.update({f"0.weight.{part}": t[f"0.weight.{part}"][:-1].clone()}))
    with pytest.raises(envguard.BadInput, match=part):
        bnb.load(models.small, str(tmp_path))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"7": {}}, "no linear layer '7'"),
        ({"1": {}}, "no linear layer '1'"),
        ({"0": None}, "saved options of 0"),
        ({"0": {"device": "cpu"}}, "saved options of 0"),
        ({"0": {"threshold": "high"}}, "saved options of 0"),
        ({"0": {"compute_dtype": "bfloat16"}}, "saved options of 0"),
        ({}, "do not fit"),
    ],
)
def test_a_description_of_other_layers_is_refused(
    bnb: envguard.Guarded, layout: dict[str, Any], message: str, tmp_path: Path
) -> None:
    bnb.save(bnb.quantize(models.small(), "int8"), str(tmp_path))
    description = json.loads((tmp_path / "envguard.json").read_text())
    (tmp_path / "envguard.json").write_text(json.dumps({**description, "layout": layout}))
    with pytest.raises(envguard.BadInput, match=message):
        bnb.load(models.small, str(tmp_path))


@pytest.mark.envguard("bnb:nf4", host="transformers")
@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "after it ran"])
@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("scheme", schemes("transformers"))
def test_transformers_loads_quantizes_saves_and_loads(
    bnb: envguard.Guarded,
    scheme: str,
    ran: bool,
    double_quant: bool,
    tmp_path: Path,
    require_backend: Callable[..., envguard.Guarded],
) -> None:
    if scheme == "int8":
        if double_quant:
            return
        require_backend("bnb:int8", host="transformers", operation="load")
    model = models.llama()
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_llama(model)
    options = {"double_quant": True} if double_quant else {}
    quantized = bnb.load(type(model), str(tmp_path / "full"), scheme, dtype=torch.bfloat16, **options)
    assert str(quantized.device) == bnb.device
    assert type(quantized.lm_head) is torch.nn.Linear
    assert size(quantized) < 0.75 * size(model)
    if ran:
        before = models.run_llama(quantized)
        assert models.error(before, wanted) < 2 * ERRORS[scheme]
    bnb.save(quantized, str(tmp_path / "quantized"))
    assert json.loads((tmp_path / "quantized" / "config.json").read_text())["quantization_config"]
    output = models.run_llama(quantized)
    again = bnb.load(type(model), str(tmp_path / "quantized"), scheme, dtype=torch.bfloat16)
    assert torch.equal(models.run_llama(again), output)
    assert not ran or torch.equal(output, before)


@pytest.mark.envguard("bnb:nf4", host="transformers")
def test_the_options_reach_the_host(bnb: envguard.Guarded, tmp_path: Path) -> None:
    model = models.llama()
    model.save_pretrained(tmp_path)
    quantized = bnb.load(type(model), str(tmp_path), "nf4", compute_dtype="bfloat16", exclude=["mlp", "lm_head"])
    layer = quantized.model.layers[0]
    assert type(layer.mlp.up_proj) is torch.nn.Linear
    assert type(layer.self_attn.q_proj) is not torch.nn.Linear
    assert layer.self_attn.q_proj.compute_dtype == torch.bfloat16
    eight = bnb.load(type(model), str(tmp_path), "int8", threshold=2.0)
    assert eight.model.layers[0].mlp.up_proj.state.threshold == 2.0
    with pytest.raises(envguard.UnknownOption, match="bitsandbytes:int8 has no option 'compute_dtype' to load"):
        bnb.load(type(model), str(tmp_path), "int8", compute_dtype="bfloat16")


@pytest.mark.envguard("bnb:nf4", host="transformers")
@pytest.mark.parametrize(("width", "inner"), [(64, 200), (96, 320)])
def test_layers_of_any_size_are_right_or_refused_in_transformers(
    bnb: envguard.Guarded, width: int, inner: int, tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=width, intermediate_size=inner, num_hidden_layers=1, num_attention_heads=4
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    model.save_pretrained(tmp_path)
    try:
        quantized = bnb.load(LlamaForCausalLM, str(tmp_path), "nf4", dtype=torch.bfloat16)
    except envguard.BadInput as error:
        assert bnb.device == "cpu"
        assert "Name these layers in exclude" in str(error)  # noqa: PT017
        quantized = bnb.load(
            LlamaForCausalLM, str(tmp_path), "nf4", dtype=torch.bfloat16,
            exclude=["lm_head", "self_attn", "up_proj", "gate_proj"] if width % 64 else ["lm_head", "down_proj"],
        )  # fmt: skip
    assert models.error(models.run_llama(quantized), models.run_llama(model)) < 0.2


@pytest.mark.parametrize("scheme", schemes())
@pytest.mark.parametrize("double_quant", [None, True])
def test_a_state_dict_changes_nothing(bnb: envguard.Guarded, scheme: str, double_quant: bool | None) -> None:
    quantized = bnb.quantize(models.small(), scheme, double_quant=None if scheme == "int8" else double_quant)
    fresh = {name: tensor.clone() for name, tensor in quantized.state_dict().items()}
    output = run(quantized, bnb)
    for copied in (quantized, copy.deepcopy(quantized)):
        assert all(torch.equal(tensor, fresh[name]) for name, tensor in copied.state_dict().items())
        assert torch.equal(run(copied, bnb), output)


@pytest.mark.parametrize("scheme", schemes())
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.envguard("bnb:nf4", host="transformers")
def test_a_transformers_model_in_memory_is_saved_with_its_own_config(
    bnb: envguard.Guarded, scheme: str, tied: bool, tmp_path: Path
) -> None:
    model = models.llama()
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    quantized: Any = bnb.quantize(model, scheme, exclude=["lm_head"] if tied else [])
    output = models.run_llama(quantized)
    bnb.save(quantized, str(tmp_path))
    again = bnb.load(type(model), str(tmp_path))
    assert torch.equal(models.run_llama(again), output)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("scheme", schemes())
def test_a_diffusers_model_in_memory_is_saved_with_its_own_config(
    bnb: envguard.Guarded, scheme: str, tmp_path: Path
) -> None:
    pytest.importorskip("diffusers")
    model = models.flux()
    wanted = models.run_flux(model)
    quantized: Any = bnb.quantize(model, scheme)
    output = models.run_flux(quantized)
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    bnb.save(quantized, str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "FluxTransformer2DModel"
    again = bnb.load(type(quantized), str(tmp_path))
    assert torch.equal(models.run_flux(again), output)


@pytest.mark.parametrize("scheme", schemes("diffusers"))
def test_diffusers_loads_quantizes_saves_and_loads(bnb: envguard.Guarded, scheme: str, tmp_path: Path) -> None:
    model = models.flux()
    model.save_pretrained(tmp_path / "full")
    wanted = models.run_flux(model)
    quantized = bnb.load(type(model), str(tmp_path / "full"), scheme, torch_dtype=torch.bfloat16)
    output = models.run_flux(quantized)
    assert models.error(output, wanted) < 2 * ERRORS[scheme]
    bnb.save(quantized, str(tmp_path / "quantized"))
    again = bnb.load(type(model), str(tmp_path / "quantized"), scheme, torch_dtype=torch.bfloat16)
    assert torch.equal(models.run_flux(again), output)


def test_diffusers_is_refused_on_a_cpu_before_it_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    model = models.flux()
    model.save_pretrained(tmp_path)
    bnb = envguard.require("bnb", host="none", device="cpu")
    with pytest.raises(envguard.RequirementsNotMet, match="diffusers/bitsandbytes-device"):
        bnb.load(type(model), str(tmp_path), "nf4")


def test_flax_weights_are_the_outcome_of_a_rule_with_the_conversion_as_its_fix(
    require_backend: Callable[..., envguard.Guarded], tmp_path: Path
) -> None:
    bnb = require_backend("bnb:nf4", host="transformers")
    model = models.llama()
    model.config.save_pretrained(tmp_path)
    (tmp_path / "flax_model.msgpack").write_bytes(b"\x80")
    with pytest.raises(envguard.RequirementsNotMet) as raised:
        bnb.load(type(model), str(tmp_path))
    outcomes = raised.value.report.backends[0].outcomes
    (outcome,) = [each for each in outcomes if each.status == "unmet" and each.severity == "error"]
    assert outcome.rule == "bitsandbytes/flax-weights"
    assert outcome.fix is not None
    assert "load_flax_checkpoint_in_pytorch_model" in outcome.fix.text
