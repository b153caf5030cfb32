"""A model on disk against the rules and the memory of a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import run, saved
from model_files import gguf_bytes, safetensors_bytes, text_field, u32
from model_files import saved as saved_bytes
from support import everything, gpu, snapshot

import envguard
from envguard.errors import BadInput, BadModel
from envguard.model import Environment, Unreadable
from envguard.models import ModelReport, check_model

SCHEMAS = Path(__file__).parent / "schemas"
LINEAR = {f"blocks.{number}.to_q.weight": ("BF16", [256, 256]) for number in range(4)}
BYTES = 4 * 256 * 256 * 2
NF4_BYTES = 4 * (256 * 256 // 2 + 256 * 256 // 64 * 4 + 64)
FLUX = {"_class_name": "FluxTransformer2DModel", "_diffusers_version": "0.42.1"}
T5 = {"architectures": ["T5EncoderModel"], "model_type": "t5"}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def machine(free: int | None = 10**9, **sections: Any) -> Environment:
    device = gpu(memory_free=free) if free is not None else gpu()
    return Environment(everything(accelerators=[device], **sections))


def model(folder: Path, config: dict[str, Any], name: str, data: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    saved_bytes(folder, safetensors_bytes(LINEAR) if data is None else data, name)
    return folder


def flux(folder: Path, **more: Any) -> Path:
    return model(folder, {**FLUX, **more}, "diffusion_pytorch_model.safetensors")


def pipeline(folder: Path) -> Path:
    flux(folder / "transformer")
    model(folder / "text_encoder_2", {**T5, "quantization_config": NF4}, "model.safetensors")
    index = {"transformer": ["diffusers", "Flux"], "text_encoder_2": ["transformers", "T5EncoderModel"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", **index}), encoding="utf-8")
    return folder


def valid(report: ModelReport) -> dict[str, Any]:
    """The report as JSON, which holds to its schema, and so does the one inside."""
    made: dict[str, Any] = json.loads(report.to_json())
    for name, value in (("model-report-1", made), ("report-1", made["report"])):
        jsonschema.validate(value, json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8")))
    return made


def test_what_was_asked_is_judged_and_measured(tmp_path: Path) -> None:
    report = check_model(str(flux(tmp_path)), "bnb:nf4", environment=machine())
    (component,) = report.components
    assert (component.operation, component.spec, component.verdict) == ("quantize", "bitsandbytes:nf4", "ok")
    assert component.size is not None
    assert (component.size.total, component.full) == (NF4_BYTES, BYTES)
    assert (report.total, report.full, report.free, report.fits) == (NF4_BYTES, BYTES, 10**9, True)
    assert (report.verdict, report.ok, report.alternatives) == ("ok", True, ())
    assert report.device.name == "NVIDIA L4"
    assert valid(report)["components"][0]["backends"] == [0]


def test_each_component_of_a_pipeline_is_judged_in_its_own_library(tmp_path: Path) -> None:
    report = check_model(str(pipeline(tmp_path)), "quanto:int8", environment=machine())
    assert [
        (c.component.name, c.operation, c.spec, [(r.request.host, r.request.operation) for r in c.reports])
        for c in report.components
    ] == [
        ("transformer", "quantize", "quanto:int8", [("diffusers", "quantize")]),
        ("text_encoder_2", "load", "bitsandbytes:nf4", [("transformers", "load")]),
    ]
    assert report.kind == "diffusers pipeline"
    assert report.full is None  # of packed numbers it cannot be said what they were
    valid(report)


def test_a_host_that_was_asked_for_stands_in_for_all(tmp_path: Path) -> None:
    report = check_model(str(pipeline(tmp_path)), "quanto:int8", host="none", environment=machine())
    assert {r.request.host for c in report.components for r in c.reports} == {"none"}


def test_weights_that_do_not_fit_are_degraded_and_what_would_fit_is_told(tmp_path: Path) -> None:
    report = check_model(str(flux(tmp_path)), "torchao:int8wo", environment=machine(free=200_000))
    assert (report.fits, report.verdict) == (False, "degraded")
    fitting = {each.spec: each.total for each in report.alternatives if each.fits}
    assert fitting["bitsandbytes:nf4"] == NF4_BYTES
    assert "torchao:int8_dynamic" not in fitting
    assert report.alternatives[0].spec.startswith("torchao:")
    text = str(report)
    assert "its weights take 267.3 kB: they do not fit in 200.0 kB" in text
    assert "bitsandbytes would take: nf4 147.7 kB, fp4 147.7 kB" in text
    valid(report)


def test_an_alternative_passes_the_rules_of_every_component(tmp_path: Path) -> None:
    everywhere = check_model(str(flux(tmp_path)), environment=machine()).alternatives
    without = everything()["distributions"] | {"bitsandbytes": None}
    nowhere = check_model(str(flux(tmp_path)), environment=machine(distributions=without)).alternatives
    assert {each.spec.partition(":")[0] for each in everywhere} > {"bitsandbytes", "torchao"}
    assert not [each for each in nowhere if each.spec.startswith("bitsandbytes")]


def test_without_a_backend_all_are_surveyed_and_none_decides(tmp_path: Path) -> None:
    report = check_model(str(flux(tmp_path)), environment=machine())
    assert list(report.components[0].reports) == list(report.report.backends)
    assert (len(report.report.backends), report.decides, report.verdict) == (5, False, "ok")
    assert "bitsandbytes would take: int8" in str(report)
    valid(report)


def test_a_model_that_is_quantized_decides_without_being_asked(tmp_path: Path) -> None:
    missing = everything()["distributions"] | {"bitsandbytes": None}
    report = check_model(str(flux(tmp_path, quantization_config=NF4)), environment=machine(distributions=missing))
    assert (report.decides, report.verdict) == (True, "blocked")
    unmet = [outcome.rule for outcome in report.report.backends[0].outcomes if outcome.status == "unmet"]
    assert unmet[:1] == ["bitsandbytes/installed"]


def test_every_type_in_a_gguf_file_has_to_be_read_by_its_host(tmp_path: Path) -> None:
    data = gguf_bytes({"a": ("Q8_0", [4, 256]), "b": ("TQ1_0", [1, 256])}, [u32("general.file_type", 7)])
    report = check_model(str(saved_bytes(tmp_path, data, "it.gguf")), environment=machine())
    assert report.components[0].spec == "gguf:Q8_0"
    assert [r.request.scheme for r in report.components[0].reports] == ["Q8_0", "TQ1_0"]
    assert report.verdict == "blocked"
    fine = gguf_bytes({"a": ("Q8_0", [4, 256]), "b": ("F32", [4])}, [text_field("general.architecture", "flux")])
    assert check_model(str(saved_bytes(tmp_path, fine, "it.gguf")), environment=machine()).verdict == "ok"


@pytest.mark.parametrize("spec", ["bnb:nf4", "bnb", None])
def test_flax_weights_are_told_with_their_conversion(tmp_path: Path, spec: str | None) -> None:
    path = model(tmp_path, FLUX, "diffusion_flax_model.msgpack", b"")
    report = check_model(str(path), spec, environment=machine())
    (outcome,) = [o for b in report.report.backends for o in b.outcomes if o.rule == "bitsandbytes/flax-weights"]
    assert (outcome.status, outcome.kind) == ("unmet", "configuration")
    assert outcome.fix is not None
    assert "load_flax_checkpoint_in_pytorch_model" in outcome.fix.text
    assert report.verdict == ("blocked" if spec else "ok")
    assert (report.total, report.fits) == (None, None)
    assert "flax weights, which are not read" in str(report)
    valid(report)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    report = check_model(
        str(model(tmp_path, FLUX, "diffusion_pytorch_model.bin", b"\x80")), "bnb:nf4", environment=machine()
    )
    assert (report.components[0].component.weights, report.total, report.verdict) == ("torch", None, "ok")


@pytest.mark.parametrize(
    ("device", "sections", "kind"),
    [
        ("auto", {"accelerators": []}, "cpu"),
        ("cpu", {}, "cpu"),
        ("cuda:1", {"accelerators": [gpu(0), gpu(1)]}, "cuda"),
        ("cuda", {"accelerators": None}, "cuda"),
    ],
)
def test_free_memory_that_was_not_observed_is_not_guessed(
    tmp_path: Path, device: str, sections: dict[str, Any], kind: str
) -> None:
    data = everything()
    data.pop("accelerators")
    if sections.get("accelerators") is not None:
        for entry in sections["accelerators"]:
            entry.pop("memory_total")
        data.update(sections)
    report = check_model(str(flux(tmp_path)), "quanto:int8", device=device, environment=Environment(data))
    assert report.device.kind == kind
    assert isinstance(report.free, Unreadable)
    assert report.fits is None
    assert valid(report)["free"] is None
    assert "free memory unknown" in str(report)


def test_the_whole_memory_counts_where_the_free_one_is_not_known(tmp_path: Path) -> None:
    report = check_model(str(flux(tmp_path)), "quanto:int8", environment=machine(free=None))
    assert report.free == 24_000_000_000


def test_this_machine_is_looked_at_where_none_is_given(tmp_path: Path) -> None:
    report = check_model(str(flux(tmp_path)), "quanto:int8", device="cpu")
    assert report.device.kind == "cpu"
    assert isinstance(report.free, (int, Unreadable))
    assert report.interpreter is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"spec": "bnb:nf5"}, "unknown scheme 'nf5'"),
        ({"spec": "bnd"}, "unknown backend 'bnd'"),
        ({"host": "keras"}, "unknown host 'keras'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_model(str(flux(tmp_path)), environment=machine(), **arguments)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    path = flux(tmp_path)
    (path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadModel, match="found none: is all downloaded"):
        check_model(str(path), environment=machine())


def test_a_bad_model_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadModel):
        envguard.check_model(str(tmp_path))
    assert issubclass(BadModel, BadInput)


# The command line


def check(path: Path, *words: str, **sections: Any) -> Any:
    recorded = saved(path.parent, machine(**sections).data, "machine.json")
    return run("check", "--model", str(path), "--snapshot", recorded, *words)


def test_the_command_line_prints_the_model_and_the_rules(tmp_path: Path) -> None:
    done = check(flux(tmp_path / "m"), "--backend", "bnb:nf4")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"envguard: {tmp_path / 'm'} (diffusers model)" or not lines[0].endswith(")")
    assert "✓ model     diffusers   524.3 kB   147.7 kB  bitsandbytes:nf4" in lines
    assert all(len(line) <= 80 for line in lines if "://" not in line)


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_the_command_line_prints_json(tmp_path: Path, format: str) -> None:
    done = check(flux(tmp_path / "m"), "--format", format)
    assert done.status == 0
    assert done.out.count("\n") == 1
    assert json.loads(done.out)["schema"] == "envguard.model-report/1"


@pytest.mark.parametrize(
    ("words", "sections", "status"),
    [
        ((), {}, 0),
        (("--backend", "bnb:nf4"), {}, 0),
        (("--backend", "bnb:nf4"), {"distributions": {}, "distributions_complete": True}, 1),
        (("--backend", "bnb:nf4"), {"distributions": {}, "distributions_complete": False}, 3),
        (("--backend", "bnb:nf4", "--allow-undecided"), {"distributions": {}, "distributions_complete": False}, 0),
        ((), {"distributions": {}, "distributions_complete": True}, 0),
        (("--strict",), {"distributions": {}, "distributions_complete": True}, 1),
        (("--backend", "bnb:nf4"), {"free": 1000}, 0),
        (("--backend", "bnb:nf4", "--strict"), {"free": 1000}, 1),
    ],
)
def test_the_exit_status(tmp_path: Path, words: tuple[str, ...], sections: dict[str, Any], status: int) -> None:
    assert check(flux(tmp_path / "m"), *words, **sections).status == status


def test_a_hostile_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    for number, data in enumerate(
        [b"GGUF" + b"\xff" * 45, b"\xff" * 49, b"\x08" + bytes(7) + b'{"a": 1}', b"", b"\x80\x02."]
    ):
        path = saved_bytes(tmp_path, data, f"{number}.gguf" if data.startswith(b"GGUF") else f"{number}.safetensors")
        assert str(path) in run("check", "--model", str(path)).refused()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "bnb", "--backend", "torchao"), "--model takes one --backend"),
        (("--for", "load"), "leave --for out"),
        (("--backend", "bnb:nf5"), "unknown scheme 'nf5'"),
    ],
)
def test_bad_usage_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    assert said in check(flux(tmp_path / "m"), *words).refused()


def test_a_model_is_judged_in_one_recorded_environment(tmp_path: Path) -> None:
    path = str(flux(tmp_path / "m"))
    one, other = (saved(tmp_path, snapshot(), name) for name in ("a.json", "b.json"))
    two = run("check", "--model", path, "--snapshot", one, "--snapshot", other)
    assert "expected one snapshot, found 2" in two.refused()
    bad = run("check", "--model", path, "--snapshot", saved(tmp_path, "{", "bad.json"))
    assert "bad.json: " in bad.refused()
