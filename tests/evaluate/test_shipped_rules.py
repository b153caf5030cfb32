"""The rules that ship, on machines with exactly one thing wrong."""

from __future__ import annotations

from typing import Any

import pytest
from support import everything, gpu, hide, hideable

from envguard.evaluate import Evaluator
from envguard.model import BackendReport, Environment, Request
from envguard.rulebook import RuleBook
from envguard.shipped import load

BOOK: RuleBook = load()
DEVICES = ("auto", "cuda", "cpu")
EVALUATORS = {
    (backend, device): Evaluator(BOOK, Request(backend, device=device))
    for backend in BOOK.backends
    for device in DEVICES
}
HUNG = {"nvidia": "580.95.05", "cuda": None, "nvidia_status": "hung", "nvidia_devices": None}


def installed(**versions: str | None) -> dict[str, Any]:
    """The distributions of `everything`, some in another version or not installed (None)."""
    listed: dict[str, Any] = everything()["distributions"]
    for name, version in versions.items():
        listed[name.replace("_", "-")] = None if version is None else {"version": version, "requires": []}
    return listed


def owned(name: str, **owner: Any) -> dict[str, Any]:
    owners = everything()["import_owners"]
    return {**owners, name: {**owners[name], **owner}}


WRONG: dict[str, dict[str, Any]] = {
    "nothing": everything(),
    "no GPU": everything(accelerators=[], drivers={"nvidia": None, "nvidia_status": "absent", "nvidia_devices": 0}),
    "old GPU": everything(accelerators=[gpu(0, "7.0", name="Tesla V100")]),
    "small GPU": everything(accelerators=[gpu(memory_total=4_000_000_000)]),
    "CPU torch": everything(torch_build={"version": "2.11.0+cpu", "cuda": None, "hip": None, "xpu": None}),
    "old driver": everything(
        drivers={"nvidia": "570.86.10", "cuda": "12.8", "nvidia_status": "ok", "nvidia_devices": 1}
    ),
    "hung driver": everything(drivers=HUNG, accelerators=[]),
    "hidden GPU": everything(accelerators=[], environment_variables={"CUDA_VISIBLE_DEVICES": ""}),
    "torch missing": everything(distributions=installed(torch=None), torch_build=None),
    "accelerate old": everything(distributions=installed(accelerate="0.25.0")),
    "diffusers old": everything(distributions=installed(diffusers="0.30.0")),
    "backends old": everything(
        distributions=installed(
            bitsandbytes="0.41.0", torchao="0.6.1", gguf="0.9.1", optimum_quanto="0.2.5", nvidia_modelopt="0.30.0"
        )
    ),
    "backends missing": everything(
        distributions=installed(bitsandbytes=None, torchao=None, gguf=None, optimum_quanto=None, nvidia_modelopt=None)
    ),
    "backends without version": everything(
        distributions={
            **installed(),
            **{
                name: {"version": None}
                for name in ("bitsandbytes", "torchao", "gguf", "optimum-quanto", "nvidia-modelopt")
            },
        }
    ),
    "gguf shadowed": everything(import_owners=owned("gguf", origin="/w/gguf.py", distribution=None, distributions=[])),
    "torchao a placeholder": everything(import_owners=owned("torchao", origin=None, kind="placeholder")),
    "wrong device number": everything(accelerators=[gpu(3)]),
}


def reports(data: dict[str, Any]) -> dict[tuple[str, str], BackendReport]:
    environment = Environment(data)
    return {key: evaluator.evaluate(environment) for key, evaluator in EVALUATORS.items()}


def passes(verdict: str) -> bool:
    return verdict in ("ok", "degraded")


def test_where_nothing_is_wrong_every_backend_runs_on_its_gpu() -> None:
    for (backend, device), report in reports(WRONG["nothing"]).items():
        if device != "cpu":
            assert report.verdict == "ok", f"{backend}: {[o.message for o in report.outcomes if o.status != 'met']}"


@pytest.mark.parametrize("wrong", WRONG)
def test_hiding_a_fact_never_turns_blocked_or_undecided_into_ok(wrong: str) -> None:
    """For every backend, device and scheme; `degraded` would be ok too, because it lets a model load."""
    data = WRONG[wrong]
    before = reports(data)
    for path in hideable(data):
        for key, after in reports(hide(data, path)).items():
            hidden = f"{key} with /{'/'.join(map(str, path))} hidden"
            assert passes(before[key].verdict) or not passes(after.verdict), hidden
            for scheme, verdict in (after.schemes or {}).items():
                assert passes((before[key].schemes or {})[scheme]) or not passes(verdict), f"{hidden}: {scheme}"


@pytest.mark.parametrize("wrong", WRONG)
def test_the_verdict_of_each_scheme_is_that_of_asking_for_it(wrong: str) -> None:
    for (backend, device), report in reports(WRONG[wrong]).items():
        alone = {
            scheme: Evaluator(BOOK, Request(backend, scheme, device=device)).evaluate(Environment(WRONG[wrong])).verdict
            for scheme in BOOK.backends[backend].schemes
        }
        assert report.schemes == alone, f"{backend} on {device}"


@pytest.mark.parametrize("wrong", [name for name in WRONG if name != "nothing"])
def test_every_unmet_rule_says_what_is_needed_what_was_found_why_and_how_to_mend_it(wrong: str) -> None:
    for report in reports(WRONG[wrong]).values():
        for outcome in report.outcomes:
            if outcome.status == "unmet":
                assert all((outcome.needed, outcome.found, outcome.why, outcome.source, outcome.fix)), outcome.rule
                assert outcome.fix is not None
                assert outcome.fix.text
                assert "None" not in f"{outcome.message} {outcome.fix}", outcome.rule


@pytest.mark.parametrize(
    "wrong", ["accelerate old", "backends old", "backends missing", "CPU torch", "torch missing", "old driver"]
)
def test_a_plan_resolves_what_it_says(wrong: str) -> None:
    for (backend, device), report in reports(WRONG[wrong]).items():
        failing = {o.rule for o in report.outcomes if (o.status, o.severity) == ("unmet", "error")}
        if report.plan is None:
            assert not any(o.fix and o.fix.commands for o in report.outcomes if o.rule in failing), (
                f"{backend} on {device}"
            )
        else:
            assert set(report.plan.resolves) <= failing
            assert not set(report.plan.resolves) & set(report.plan.unsolved)
            assert report.plan.commands
