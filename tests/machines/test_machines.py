"""Real machines, recorded: nothing installed, all backends beside the CPU build of torch, and one NVIDIA H200 with all.

`envguard snapshot` wrote the files on those machines; folders of their owners are renamed.
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from envguard import Environment, check

HERE = Path(__file__).parent
NAMES = ("bare", "all-backends-cpu", "h200")
SCHEMAS = {
    name: json.loads((HERE.parent / "schemas" / f"{name}-1.schema.json").read_text("utf-8"))
    for name in ("snapshot", "report")
}


def recorded(name: str) -> Environment:
    return Environment.from_json((HERE / f"{name}.json").read_bytes())


def verdicts(name: str, **asked: str) -> dict[str, str]:
    report = check(environment=recorded(name), **asked)  # type: ignore[arg-type]
    return {backend.request.backend: backend.verdict for backend in report.backends}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_machine_and_its_report_hold_to_the_schemas(name: str) -> None:
    jsonschema.validate(json.loads((HERE / f"{name}.json").read_text("utf-8")), SCHEMAS["snapshot"])
    jsonschema.validate(json.loads(check(environment=recorded(name)).to_json()), SCHEMAS["report"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("host", ["auto", "diffusers", "transformers", "none"])
@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_nothing_is_undecided_on_a_machine_that_was_looked_at(name: str, host: str, device: str) -> None:
    report = check(environment=recorded(name), host=host, device=device)
    undecided = [o.message for b in report.backends for o in b.outcomes if o.status == "undecided"]
    assert undecided == []


def test_all_five_work_on_the_h200_and_modelopt_without_the_quantizer_of_diffusers() -> None:
    found = verdicts("h200")
    assert found.pop("modelopt") == "blocked"
    assert set(found.values()) == {"ok"}
    report = check("modelopt", environment=recorded("h200")).backends[0]
    errors = [o.rule for o in report.outcomes if o.status == "unmet" and o.severity == "error"]
    assert errors == ["diffusers/modelopt-compress"]
    assert check("modelopt", environment=recorded("h200"), host="none").ok


def test_the_h200_says_which_schemes_it_can_run() -> None:
    (report,) = check("torchao", environment=recorded("h200")).backends
    assert report.schemes is not None
    assert report.schemes["float8_dynamic"] == "ok"
    assert report.schemes["nvfp4_dynamic"] == "blocked"  # compute capability 9.0, it needs 10.0
    assert report.resolved_device is not None
    assert report.resolved_device.name == "NVIDIA H200"


def test_only_the_gpu_is_missing_beside_the_cpu_build() -> None:
    assert verdicts("all-backends-cpu") == {
        "bitsandbytes": "blocked",
        "gguf": "ok",
        "modelopt": "blocked",
        "quanto": "blocked",
        "torchao": "blocked",
    }
    report = check("bnb", "quanto", "torchao", environment=recorded("all-backends-cpu"))
    unmet = {o.rule for b in report.backends for o in b.outcomes if o.status == "unmet" and o.severity == "error"}
    assert unmet == {"platform/gpu"}


def test_on_a_cpu_the_installed_releases_decide() -> None:
    through_diffusers = verdicts("all-backends-cpu", device="cpu", host="diffusers")
    assert through_diffusers["torchao"] == through_diffusers["quanto"] == through_diffusers["gguf"] == "ok"
    assert through_diffusers["bitsandbytes"] == "blocked"
    assert verdicts("all-backends-cpu", device="cpu", host="transformers")["bitsandbytes"] == "ok"


def test_a_bare_machine_gets_an_install_line_for_each_backend() -> None:
    report = check(environment=recorded("bare"))
    assert {backend.verdict for backend in report.backends} == {"blocked"}
    for backend in report.backends:
        assert backend.plan is not None
        (command,) = backend.plan.commands
        assert command.startswith("/home/user/bare/bin/python")
        left = set(backend.plan.unsolved)
        assert left <= {"platform/gpu"}, left
