"""Machines with released versions at random, by the shipped rules: what is remembered, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from check_stream import made, unique
from hypothesis import given, settings
from hypothesis import strategies as st
from installing import carried_out, install_commands
from support import hide, hideable

from envguard.evaluate import Evaluator
from envguard.fixes import contradict
from envguard.model import Environment, Request
from envguard.shipped import load
from envguard.versions import parse_wanted, satisfies

SHIPPED = load()
REQUESTS = [
    Request("torchao"),
    Request("bitsandbytes", "nf4", "load", "transformers", "cuda"),
    Request("quanto", "int4"),
    Request("modelopt", None, "quantize", "transformers"),
    Request("gguf", None, "load"),
]
REMEMBERING = [Evaluator(SHIPPED, request) for request in REQUESTS]
SELDOM: list[dict[str, Any]] = [
    {"import_links": {"diffusers": [{"module": "diffusers.x", "name": "torchao.y", "needed_from": "torchao"}]}},
    {"compiled_kernels": {"torchao": {"loaded": False, "reason": "because"}}},
    {"loaded_modules": {"torchao": {"version": "0.1.0", "file": None}, "torch": {"version": "2.0.0", "file": None}}},
    {"unreadable": {"/distributions/torchao": "denied", "/accelerators": "denied", "/torch_build/cuda": "denied"}},
    {"distributions_complete": False},
    {"accelerators": []},
    {"torch_build": None},
]
"""What only some machines tell."""


@st.composite
def machines(draw: st.DrawFn) -> dict[str, Any]:
    """A machine of released versions, or of versions that nobody released, some facts of which are not observed."""
    data = draw(st.sampled_from([made, made, made, unique]))(draw(st.integers(0, 10**6)))
    listed = [name for name, entry in data["distributions"].items() if entry]
    if draw(st.integers(0, 3)) == 0:
        entry = data["distributions"][draw(st.sampled_from(listed))]
        entry |= {"duplicates": ["1.0"], "copies": ["/a/one", "/a/two"], "requires_python": ">=3.12"}
    for _ in range(draw(st.integers(0, 3))):
        data = hide(data, draw(st.sampled_from(hideable(data))))
    for more in draw(st.lists(st.sampled_from(SELDOM), max_size=2)):
        data |= more
    return data


@given(st.lists(machines(), min_size=1, max_size=3), st.sampled_from(range(len(REQUESTS))))
@settings(deadline=None, max_examples=150)
def test_what_was_judged_before_changes_no_report(fleet: list[dict[str, Any]], place: int) -> None:
    for data in fleet:
        alone = Evaluator(SHIPPED, REQUESTS[place]).evaluate(Environment(data))
        assert REMEMBERING[place].evaluate(Environment(data)) == alone


NO_DRIVER = {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0}
KINDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no GPU": {"accelerators": [], "drivers": NO_DRIVER},
    "Mac": {
        "host": {"system": "Darwin", "machine": "arm64", "libc": None},
        "torch_build": {"cuda": None, "hip": None, "xpu": None, "arch_list": None},
        "drivers": NO_DRIVER,
        "accelerators": [{"kind": "mps", "index": 0, "name": "Apple M3"}],
    },
    "Intel": {
        "torch_build": {"cuda": None, "hip": None, "xpu": "20250101", "arch_list": None},
        "drivers": {**NO_DRIVER, "level_zero": "1.3"},
        "accelerators": [{"kind": "xpu", "index": 0, "name": "Intel Arc"}],
    },
    "older": {
        "accelerators": [{"kind": "cuda", "index": 0, "name": "Quadro P1000", "compute_capability": "6.1"}],
    },
}
"""What makes a CUDA machine one of another kind."""


@st.composite
def failing(draw: st.DrawFn) -> dict[str, Any]:
    """A machine that can be written to: of any kind, with requirements of others and with metadata left over."""
    data = made(draw(st.integers(0, 10**6)))
    data["python"]["writable"] = True
    python = ".".join(data["python"]["version"].split(".")[:2])
    for name, entry in data["distributions"].items():
        if entry and not SHIPPED.is_for(name, entry["version"].partition("+")[0], python):
            entry["version"] = SHIPPED.newest(name, (), python)
    data["torch_build"]["version"] = data["distributions"]["torch"]["version"]
    for section, facts in draw(st.sampled_from(list(KINDS.values()))).items():
        data[section] = facts if isinstance(facts, list) else {**data[section], **facts}
    if draw(st.booleans()):
        line = draw(st.sampled_from(["torch==2.7.0", "torch<2.9", "transformers<5", "torchao<0.15", "torch>=2.12"]))
        data["distributions"]["another"] = {"version": "1.0", "requires": [line]}
    listed = [name for name, entry in data["distributions"].items() if entry]
    if draw(st.booleans()):
        data["distributions"][draw(st.sampled_from(listed))] |= {"duplicates": ["0.1"], "copies": ["/s/one", "/s/two"]}
    return data


def unmet(judge: Evaluator, data: dict[str, Any]) -> dict[str, bool]:
    """The rules that are not met, and whether each blocks."""
    outcomes = judge.evaluate(Environment(data)).outcomes
    return {each.rule: each.severity == "error" for each in outcomes if each.status == "unmet"}


@given(failing(), st.sampled_from(REMEMBERING))
@settings(deadline=None, max_examples=150)
def test_every_fix_mends_its_rule_and_every_plan_all_that_it_says(data: dict[str, Any], judge: Evaluator) -> None:
    report = judge.evaluate(Environment(data))
    for each in report.outcomes:
        if each.fix is not None and each.fix.commands:
            assert each.rule not in unmet(judge, carried_out(data, each.fix.commands, SHIPPED)), each
    if report.plan is not None:
        after = unmet(judge, carried_out(data, report.plan.commands, SHIPPED))
        assert {rule for rule, blocks in after.items() if blocks} <= set(report.plan.unsolved), report.plan


def test_the_simulated_installer_refuses_what_no_release_meets() -> None:
    data = made(0)
    with pytest.raises(LookupError, match=r"no known release is torchao>=0.15.0,<0.13.0"):
        carried_out(data, ["p -m pip install 'torchao>=0.15.0,<0.13.0'"], SHIPPED)
    after = carried_out(data, ["p -m pip uninstall --yes torch", "p -m pip install 'torchao>=0.15.0'"], SHIPPED)
    assert after["distributions"]["torch"] is None
    assert after["torch_build"] is None
    assert after["distributions"]["torchao"]["version"] == SHIPPED.releases("torchao")[-1]


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_no_command_asks_for_a_release_that_cannot_be(number: int) -> None:
    environment = Environment(made(number))
    for judge in REMEMBERING:
        report = judge.evaluate(environment)
        fixes = [command for each in report.outcomes for command in (each.fix.commands if each.fix else ())]
        for text in asked_for([*fixes, *(report.plan.commands if report.plan else ())]):
            wanted = parse_wanted(text)
            known = SHIPPED.releases_read(wanted.name)
            assert not contradict(wanted.clauses), text
            assert not known or any(satisfies(version, wanted.clauses, "specifier") for version in known), text


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_a_plan_asks_for_no_distribution_twice_and_leaves_what_no_package_can_mend(number: int) -> None:
    environment = Environment(made(number))
    for judge in REMEMBERING:
        plan = judge.evaluate(environment).plan
        names = [parse_wanted(text).name for text in asked_for(plan.commands if plan else ())]
        assert len(names) == len(set(names)), plan
        assert {rule.rpartition("/")[2] for rule in (plan.unsolved if plan else ())} <= NOT_OF_PACKAGES, plan


NOT_OF_PACKAGES = {"gpu", "driver", "compute-capability", "int4-compute-capability", "library-architectures", "device"}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("uv pip install --python /a/python --reinstall-package torch 'torch>=2.6'", ["torch>=2.6"]),
        ("p -m pip uninstall --yes torch && p -m pip install --index-url https://x 'torch==2.6'", ["torch==2.6"]),
        ('p -m pip install "nvidia-modelopt[hf]>=0.43" requests', ["nvidia-modelopt[hf]>=0.43", "requests"]),
        ("uv pip install --python p --reinstall-package torch torch", ["torch"]),
        ("unset BNB_CUDA_VERSION", []),
    ],
)
def test_what_a_command_asks_for_is_read_out_of_it(command: str, wanted: list[str]) -> None:
    assert list(asked_for([command])) == wanted


def asked_for(commands: Sequence[str]) -> Iterator[str]:
    """What the install commands among some ask for."""
    for asked, _, _ in install_commands(commands):
        yield from asked
