"""The verdict algebra: what some outcomes come to, and what never changes it for the better."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support import HEADER, book, evaluate, gpu, hide, hideable, machine, row, snapshot

from envguard.errors import UnknownBackend
from envguard.evaluate import Evaluator
from envguard.looks import Memories
from envguard.model import VERDICTS, BackendReport, Environment, Outcome, Report, Request, worst
from envguard.snapshots import from_data

MET: dict[str, Any] = {"device": ["auto"]}
UNMET: dict[str, Any] = {"device": ["mps"]}
UNDECIDED: dict[str, Any] = {"tool": "msvc"}
NEED = {"met": MET, "unmet": UNMET, "undecided": UNDECIDED}


def rows(*outcomes: str) -> list[dict[str, Any]]:
    """Rows that come out as told: `error unmet`, `warning met`, ..."""
    told = [outcome.split() for outcome in outcomes]
    return [row(f"torchao/rule-{n}", NEED[status], severity) for n, (severity, status) in enumerate(told)]


# The table of the algebra


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "undecided"),
        (["error met"], "ok"),
        (["error unmet"], "blocked"),
        (["error undecided"], "undecided"),
        (["error met", "warning met"], "ok"),
        (["error met", "warning unmet"], "degraded"),
        (["error met", "warning undecided"], "ok"),
        (["error met", "info unmet"], "ok"),
        (["error met", "info undecided"], "ok"),
        (["error undecided", "warning unmet"], "undecided"),
        (["error undecided", "error unmet"], "blocked"),
        (["error unmet", "error undecided"], "blocked"),
        (["error unmet", "warning unmet", "info unmet", "error met"], "blocked"),
    ],
)
def test_what_outcomes_come_to(outcomes: list[str], verdict: str) -> None:
    assert evaluate(rows(*outcomes), snapshot()).verdict == verdict


@pytest.mark.parametrize("outcome", ["info met", "info unmet", "info undecided", "warning undecided"])
def test_what_has_no_effect_has_none_where_it_is_alone_either(outcome: str) -> None:
    assert evaluate(rows(outcome), snapshot()).verdict == "undecided"


def test_a_finding_may_be_milder_than_its_rule_but_an_info_stays_one() -> None:
    two = machine(accelerators=[gpu(0, "9.0"), gpu(1, "7.5")])
    for severity, found in (("error", "warning"), ("warning", "warning"), ("info", "info")):
        (outcome,) = evaluate([row("torchao/it", {"compute_capability": "8.9"}, severity)], two).outcomes
        assert (outcome.status, outcome.severity) == ("unmet", found)


def test_a_rule_behind_a_milder_finding_is_not_skipped() -> None:
    two = machine(accelerators=[gpu(0, "9.0"), gpu(1, "7.5")])
    behind = row("torchao/behind", MET, after=["torchao/it"])
    report = evaluate([row("torchao/it", {"compute_capability": "8.9"}), behind], two)
    assert [outcome.status for outcome in report.outcomes] == ["unmet", "met"]


@pytest.mark.parametrize(
    "verdicts", [["ok"], ["ok", "degraded"], ["degraded", "undecided"], ["blocked", "undecided", "ok"]]
)
def test_a_report_is_as_good_as_its_worst_backend(verdicts: list[str]) -> None:
    backends = tuple(BackendReport(Request("torchao"), None, verdict, ()) for verdict in verdicts)  # type: ignore[arg-type]
    report = Report(backends, "it", "2026-11-22")
    assert report.verdict == max(verdicts, key=VERDICTS.index)
    assert report.ok is (report.verdict in ("ok", "degraded"))


def test_an_empty_report_is_not_ok() -> None:
    assert worst(()) == "undecided"
    assert not Report((), "it", "").ok


def test_an_unknown_backend_has_no_evaluator() -> None:
    with pytest.raises(UnknownBackend, match="unknown backend 'nowhere': known are torchao"):
        evaluate(rows("error met"), snapshot(), backend="nowhere")


# Which rows are for a request


def statuses(report: BackendReport) -> dict[str, str]:
    return {outcome.rule: outcome.status for outcome in report.outcomes}


@pytest.mark.parametrize(
    ("when", "request_", "applies"),
    [
        ({"scheme": ["int8"]}, {"scheme": "int8"}, True),
        ({"scheme": ["int8"]}, {"scheme": "fp8"}, False),
        ({"scheme": ["int8"]}, {}, False),
        ({"not_scheme": ["int8"]}, {"scheme": "int8"}, False),
        ({"not_scheme": ["int8"]}, {"scheme": "fp8"}, True),
        ({"not_scheme": ["int8"]}, {}, True),
        ({"operation": ["load"]}, {}, False),
        ({"operation": ["load"]}, {"operation": "load"}, True),
        ({"host": ["none"]}, {"host": "none"}, True),
        ({"host": ["none"]}, {"host": "diffusers"}, False),
        ({"device": ["cuda"]}, {"device": "cuda:1"}, True),
        ({"device": ["cuda"]}, {}, False),
        ({"system": ["Linux"]}, {}, True),
        ({"system": ["Windows"]}, {}, False),
        ({"release": {"diffusers": ">=0.42"}}, {}, True),
        ({"release": {"diffusers": "<0.42"}}, {}, False),
        ({"release": {"nowhere": ">=0"}}, {}, False),
        ({"release": {"diffusers": ">=0.42", "torch": "<2"}}, {}, False),
    ],
)
def test_a_row_is_for_the_requests_that_its_when_tells(
    when: dict[str, Any], request_: dict[str, Any], applies: bool
) -> None:
    report = evaluate([row("torchao/it", UNMET, when=when)], machine(), **request_)
    assert bool(report.outcomes) is applies


def test_rows_of_one_id_are_chosen_by_release() -> None:
    both = [
        row("torchao/it", UNMET, when={"release": {"diffusers": "<0.40"}}),
        row("torchao/it", MET, when={"release": {"diffusers": ">=0.40"}}),
    ]
    for release, status in (("0.39.9", ["unmet"]), ("0.40.0.dev1", ["unmet"]), ("0.40.0", ["met"])):
        data = machine(distributions={"diffusers": {"version": release}})
        assert [outcome.status for outcome in evaluate(both, data).outcomes] == status
    assert not evaluate(both, machine(distributions={})).outcomes


@pytest.mark.parametrize("when", [{"release": {"diffusers": ">=0.40"}}, {"system": ["Linux"]}])
@pytest.mark.parametrize(("severity", "verdict"), [("error", "undecided"), ("warning", "ok"), ("info", "ok")])
def test_a_row_of_which_it_is_not_known_whether_it_applies_is_undecided(
    when: dict[str, Any], severity: str, verdict: str
) -> None:
    report = evaluate([*rows("error met"), row("torchao/it", UNMET, severity, when=when)], snapshot())
    assert report.verdict == verdict
    assert statuses(report).get("torchao/it", "none") == ("none" if severity == "info" else "undecided")


def test_an_unknown_release_does_not_matter_where_another_condition_already_fails() -> None:
    data = snapshot(distributions={"torch": {"version": "1.13"}})
    it = row("torchao/it", UNMET, when={"release": {"diffusers": ">=0.40", "torch": ">=2"}})
    assert not evaluate([it], data).outcomes


# Prerequisites


def test_one_diagnosis_and_not_five() -> None:
    chain = [
        row("torchao/first", UNMET),
        row("torchao/second", UNMET, after=["torchao/first"]),
        row("torchao/third", UNMET, after=["torchao/second"]),
        row("torchao/fourth", UNMET, after=["torchao/third"]),
        row("torchao/fifth", UNMET, "warning", after=["torchao/fourth"]),
    ]
    first, *others = evaluate(chain, snapshot()).outcomes
    assert (first.status, first.because) == ("unmet", None)
    for outcome in others:
        assert (outcome.status, outcome.because) == ("skipped", "torchao/first")
        assert outcome.message == "not looked at: torchao/first is not met"
        assert outcome.fix is None
        assert outcome.found is None


@pytest.mark.parametrize("status", ["met", "undecided"])
def test_a_prerequisite_that_is_met_or_undecided_skips_nothing(status: str) -> None:
    report = evaluate([*rows(f"error {status}"), row("torchao/it", UNMET, after=["torchao/rule-0"])], snapshot())
    assert statuses(report)["torchao/it"] == "unmet"


def test_a_prerequisite_that_does_not_apply_skips_nothing() -> None:
    first = row("torchao/first", UNMET, when={"operation": ["load"]})
    report = evaluate([first, row("torchao/it", MET, after=["torchao/first"])], snapshot())
    assert statuses(report) == {"torchao/it": "met"}


def test_an_ignored_prerequisite_skips_nothing() -> None:
    both = [row("torchao/first", UNMET), row("torchao/it", UNMET, after=["torchao/first"])]
    report = evaluate(both, snapshot(), ignore=frozenset({"torchao/first"}))
    assert statuses(report) == {"torchao/first": "unmet", "torchao/it": "unmet"}
    assert report.verdict == "blocked"


# Ignored rules


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("error unmet", "degraded"),
        ("error undecided", "degraded"),
        ("error met", "ok"),
        ("warning unmet", "ok"),
        ("info unmet", "ok"),
    ],
)
def test_an_ignored_rule_does_not_decide(outcome: str, verdict: str) -> None:
    report = evaluate(rows(outcome, "error met"), snapshot(), ignore=frozenset({"torchao/rule-0"}))
    assert report.verdict == verdict
    assert report.outcomes[0].status == outcome.split()[1]
    assert [each.ignored for each in report.outcomes] == [True, False]


def test_an_ignored_error_stays_visible_with_its_fix() -> None:
    (outcome,) = evaluate(rows("error unmet"), snapshot(), ignore=frozenset({"torchao/rule-0"})).outcomes
    assert (outcome.status, outcome.severity, outcome.ignored) == ("unmet", "error", True)
    assert outcome.fix is not None
    assert outcome.fix.text == "Mend it."


# What an outcome carries


def test_an_unmet_outcome_carries_everything_that_a_reader_needs() -> None:
    it = row("torchao/version", {"distribution": "torchao>=1"}, fix={"install": ["torchao>=1"]})
    (outcome,) = evaluate([it], machine()).outcomes
    assert outcome.needed == "torchao>=1"
    assert outcome.found == "torchao 0.18.0"
    assert outcome.why == "It stops without it."
    assert outcome.source == "torchao v0.15.0 setup.py"
    assert outcome.origin == "baseline"
    assert outcome.fix is not None
    assert outcome.fix.commands == ("/home/user/venv/bin/python -m pip install 'torchao>=1'",)


def test_a_rule_of_a_host_says_of_which_release_it_is() -> None:
    it = row("diffusers/it", UNMET, origin="host", when={"host": ["diffusers"]})
    assert evaluate([it], machine()).outcomes[0].origin == "host:diffusers@0.42.1"
    assert evaluate([it], snapshot()).outcomes[0].origin == "host:diffusers"


def test_the_report_names_the_version_and_the_device() -> None:
    report = evaluate([row("torchao/it", {"accelerator": ["cuda"]})], machine())
    assert report.version == "0.18.0"
    assert report.resolved_device is not None
    assert (report.resolved_device.kind, report.resolved_device.index, report.resolved_device.name) == (
        "cuda",
        0,
        "NVIDIA L4",
    )


def test_an_evaluator_remembers_nothing_wrong_between_environments() -> None:
    rules = book(
        row("torchao/version", {"distribution": "torchao>=0.15"}), row("torchao/gpu", {"accelerator": ["cuda"]})
    )
    again = Evaluator(rules, Request("torchao"))
    for data in (machine(), machine(distributions={}), machine(accelerators=[]), snapshot(), machine(), snapshot()):
        assert again.evaluate(Environment(data)) == evaluate(rules, data)


def test_what_comes_back_is_remembered_and_what_does_not_is_forgotten() -> None:
    memories = Memories()
    often, seldom, once = memories.new(), memories.new(), memories.new()
    often.keep("often", "kept")
    seldom.keep("seldom", "kept")
    for number in range(100_000):
        once.keep(number, "once")
        if number % 1_000 == 0:
            assert often.get("often") == "kept"
    assert seldom.get("seldom") == "kept"  # facts that are always new push out nothing but one another
    assert once.get(0) is None
    assert once.get(99_999) == "once"
    assert len(once.known) + len(once.before) <= 20_000


REMEMBERED = book(
    row("torchao/installed", {"distribution": "torchao"}, fix={"install": ["torchao>=0.7"]}),
    row("torchao/version", {"distribution": "torchao>=0.15"}, fix={"install": ["torchao>=0.15"]}),
    row("torchao/import-owner", {"owner": "torchao"}, fix={"uninstall": ["ao"]}),
    row("torchao/build", {"torch_build": "accelerator"}, fix={"torch": "accelerator"}),
    row("torchao/gpu", {"accelerator": ["cuda"]}),
    row("torchao/linux", {"tool": "ninja"}, "warning", when={"system": ["Linux"]}),
)
BARE = machine(distributions={})


@settings(max_examples=50)
@given(st.lists(st.sampled_from(hideable(BARE)), max_size=8))
def test_what_was_judged_before_changes_no_report(paths: list[tuple[str | int, ...]]) -> None:
    again = Evaluator(REMEMBERED, Request("torchao"))
    for path in paths:
        for data in (hide(BARE, path), machine(), hide(BARE, path), hide(BARE, path)):
            alone = Evaluator(REMEMBERED, Request("torchao")).evaluate(Environment(data))
            assert again.evaluate(Environment(data)) == alone


# Properties

ERRORS = st.sampled_from(["error", "error", "error", "warning", "info"])
NEEDS: list[dict[str, Any]] = [
    MET,
    UNMET,
    {"scheme": ["int8"]},
    {"distribution": "alpha"},
    {"distribution": "alpha>=1.0"},
    {"distribution": "beta<2"},
    {"requirements": "alpha"},
    {"owner": "torchao"},
    {"accelerator": ["cuda", "xpu"]},
    {"compute_capability": "8.0"},
    {"torch_build": "accelerator"},
    {"driver_for_cuda": {"12": "525.60.13", "13": "580.65.06"}},
    {"architecture": "device"},
    {"python": ">=3.10"},
    {"python_build": "gil"},
    {"system": ["Linux"]},
    {"tool": "ninja"},
    {"variable": {"name": "X", "value": ["1"]}},
]
"""Every need that always says something where its fact is hidden. `driver`, `visible` and `memory` may then say
nothing:
a rule on the accelerator stands beside the first two, and the last is a warning."""

WHENS: list[dict[str, Any]] = [
    {},
    {},
    {"scheme": ["int8"]},
    {"not_scheme": ["int8", "fp8"]},
    {"operation": ["load"]},
    {"host": ["diffusers"]},
    {"device": ["auto"]},
    {"system": ["Linux"]},
    {"release": {"beta": ">=1.5"}},
    {"release": {"alpha": "<1.0", "beta": "<3"}},
    {"accelerator": ["cuda"]},
    {"variable": {"X": ["1", "yes"]}},
    {"scheme": ["fp8"], "release": {"alpha": ">=1.0"}},
]
TWINS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"release": {"alpha": "<1.0"}}, {"release": {"alpha": ">=1.0"}}),
    ({"system": ["Linux"]}, {"system": ["Windows", "Darwin"]}),
    ({"scheme": ["int8"]}, {"not_scheme": ["int8"]}),
]


@st.composite
def rule_sets(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few rows, later ones behind earlier errors, some of them in two rows of one id."""
    made: list[dict[str, Any]] = []
    errors: list[str] = []
    for number in range(draw(st.integers(1, 5))):
        rule_id, severity = f"torchao/rule-{number}", draw(ERRORS)
        more: dict[str, Any] = {}
        if draw(st.booleans()) and errors:
            more["after"] = draw(st.lists(st.sampled_from(errors), min_size=1, max_size=2, unique=True))
        twins = draw(st.integers(0, 3)) == 0
        whens = list(draw(st.sampled_from(TWINS))) if twins else [draw(st.sampled_from(WHENS))]
        made += [row(rule_id, deepcopy(draw(st.sampled_from(NEEDS))), severity, when=when, **more) for when in whens]
        if severity == "error":
            errors.append(rule_id)
    if draw(st.booleans()):
        made += [
            row("platform/nvidia-driver", {"driver": "working"}),
            row("platform/visible", {"visible": "device"}, after=["platform/nvidia-driver"]),
            row("platform/gpu", {"accelerator": ["cuda"]}, after=["platform/nvidia-driver", "platform/visible"]),
            row("platform/memory", {"memory": 7_500_000_000}, "warning", after=["platform/gpu"]),
        ]
    return made


def some(values: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of its keys; each value a strategy."""
    return st.fixed_dictionaries({}, optional={name: deepen(value) for name, value in values.items()})


def deepen(value: Any) -> st.SearchStrategy[Any]:
    return value.map(deepcopy) if isinstance(value, st.SearchStrategy) else st.sampled_from(value).map(deepcopy)


VERSIONS = ["0.9", "1.0", "1.0rc1", "1.7", "2.0", "3.1", None, "odd"]
LISTED = st.none() | st.fixed_dictionaries(
    {"version": st.sampled_from(VERSIONS)},
    optional={"requires": st.sampled_from([[], ["beta>=1.5"], ["beta<1", "gamma"], ["gamma; extra == 'x'"], ["?"]])},
)
BUILDS = [
    None,
    {"version": "2.10.0+cpu", "cuda": None, "hip": None, "xpu": None},
    {"version": "2.10.0+cu128", "cuda": "12.8", "hip": None, "xpu": None, "arch_list": ["sm_80", "sm_90"]},
    {"version": "2.11.0+cu130", "cuda": "13.0", "hip": None, "xpu": None, "arch_list": ["sm_75", "compute_90"]},
    {"version": "2.10.0", "cuda": "12.8", "hip": None, "arch_list": None},
    {"version": "2.10.0+rocm7.1", "cuda": None, "hip": "7.1", "xpu": None},
    {"version": "2.10.0+xpu", "cuda": None, "hip": None, "xpu": "2025"},
]
DRIVERS = [
    {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0},
    {"nvidia": "580.65.06", "cuda": "13.0", "nvidia_status": "ok", "nvidia_devices": 2},
    {"nvidia": "570.86.10", "cuda": "12.8", "nvidia_status": "ok", "nvidia_devices": 1},
    {"nvidia": "470.256.02", "cuda": "11.4", "nvidia_status": "hung"},
    {"nvidia": "580.65.06", "cuda": None, "nvidia_status": "mismatch"},
    {
        "nvidia": "550.54.14",
        "cuda": "12.4",
        "nvidia_status": "ok",
        "nvidia_devices": 1,
        "libcuda": "/x/compat/libcuda.so",
    },
]
DEVICES = [
    [],
    [gpu(0, "8.9")],
    [gpu(0, "9.0"), gpu(1, "7.0")],
    [gpu(0, "7.5", memory_total=4_000_000_000)],
    [gpu(0, None)],
    [{"kind": "rocm", "index": 0, "name": "MI300X"}],
    [{"kind": "xpu", "index": 0}],
    [{"kind": "mps"}],
]
OWNERS = [
    {"origin": "/v/torchao/__init__.py", "distribution": "torchao", "distributions": ["torchao"], "kind": "package"},
    {"origin": "/w/torchao.py", "distribution": None, "distributions": [], "kind": "module"},
    {"origin": None, "distribution": "fork", "kind": "namespace"},
]
ENVIRONMENTS = some(
    {
        "python": some(
            {"version": ["3.9.18", "3.11.7", "odd"], "free_threaded": [True, False], "executable": ["/v/bin/python"]}
        ),
        "host": some({"system": ["Linux", "Windows", "Darwin"]}),
        "distributions": some({"alpha": LISTED, "beta": LISTED, "torch": LISTED, "gamma": LISTED}),
        "distributions_complete": [True, False],
        "import_owners": some({"torchao": st.sampled_from(OWNERS)}),
        "torch_build": st.sampled_from(BUILDS),
        "drivers": st.sampled_from(DRIVERS),
        "accelerators": st.sampled_from(DEVICES),
        "toolchain": some({"ninja": ["1.13", None]}),
        "environment_variables": some({"X": ["1", "0", None], "CUDA_VISIBLE_DEVICES": ["", "0", None]}),
    }
).map(lambda sections: snapshot(**sections))
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "scheme": st.sampled_from(["int8", "int4", "fp8"]),
        "operation": st.sampled_from(["quantize", "load"]),
        "host": st.sampled_from(["diffusers", "transformers", "none"]),
        "device": st.sampled_from(["auto", "cuda", "cuda:1", "cpu"]),
    },
)
SURE = row("torchao/sure", {"device": ["auto", "cuda", "rocm", "xpu", "mps", "cpu"]})
"""A rule that is met always: what a verdict is without any outcome is told apart from these properties."""
ids = st.sets(st.sampled_from([f"torchao/rule-{n}" for n in range(4)]), max_size=3).map(frozenset)
slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def algebra(outcomes: Iterable[Outcome]) -> str:
    """The contract's words, as plainly as they can be written."""
    without_effect = {
        ("warning", "undecided"),
        ("info", "met"),
        ("info", "unmet"),
        ("info", "undecided"),
        ("info", "skipped"),
    }
    found = {"undecided"}
    outcomes = [outcome for outcome in outcomes if (outcome.severity, outcome.status) not in without_effect]
    if outcomes:
        found = {"ok"}
    for outcome in outcomes:
        match outcome.severity, outcome.status, outcome.ignored:
            case "error", "unmet", False:
                found.add("blocked")
            case "error", "undecided", False:
                found.add("undecided")
            case "error", "unmet" | "undecided", True:
                found.add("degraded")
            case "warning", "unmet", False:
                found.add("degraded")
    return max(found, key=VERDICTS.index)


@given(rule_sets(), ENVIRONMENTS, REQUESTS, ids)
@slow
def test_the_verdict_is_that_of_the_algebra(
    made: list[dict[str, Any]], data: dict[str, Any], request_: dict[str, Any], ignore: frozenset[str]
) -> None:
    report = evaluate(made, data, ignore, **request_)
    assert report.verdict == algebra(report.outcomes)
    assert len(statuses(report)) == len(report.outcomes), "one outcome a rule"


@given(rule_sets(), ENVIRONMENTS, REQUESTS, ERRORS, st.integers(0, 5), st.booleans())
@slow
def test_an_unmet_rule_added_never_improves_a_verdict(
    made: list[dict[str, Any]],
    data: dict[str, Any],
    request_: dict[str, Any],
    severity: str,
    place: int,
    in_front: bool,
) -> None:
    made = [*made, SURE]
    before = evaluate(made, data, **request_)
    more = deepcopy(made)
    if in_front and severity == "error":
        for each in more:
            each["after"] = [*each.get("after", ()), "torchao/added"]
    more.insert(place, row("torchao/added", UNMET, severity))
    after = evaluate(more, data, **request_)
    assert VERDICTS.index(after.verdict) >= VERDICTS.index(before.verdict)


@given(rule_sets(), ENVIRONMENTS, REQUESTS, st.data())
@slow
def test_hiding_a_fact_never_turns_blocked_or_undecided_into_ok(
    made: list[dict[str, Any]], data: dict[str, Any], request_: dict[str, Any], choice: st.DataObject
) -> None:
    rules = book(*made, SURE)
    before = evaluate(rules, data, **request_)
    paths = hideable(data)
    assume(before.verdict in ("blocked", "undecided") and paths)
    for path in choice.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=6, unique=True)):
        after = evaluate(rules, hide(data, path), **request_)
        assert after.verdict in ("blocked", "undecided"), f"with /{'/'.join(map(str, path))} hidden"


@given(rule_sets(), ENVIRONMENTS, REQUESTS, st.randoms())
@slow
def test_the_order_of_the_rules_never_matters(
    made: list[dict[str, Any]], data: dict[str, Any], request_: dict[str, Any], random: Any
) -> None:
    one = evaluate(made, data, **request_)
    mixed = list(made)
    random.shuffle(mixed)
    other = evaluate(mixed, data, **request_)
    assert (one.verdict, one.schemes, one.resolved_device) == (other.verdict, other.schemes, other.resolved_device)
    assert sorted(one.outcomes, key=lambda each: each.rule) == sorted(other.outcomes, key=lambda each: each.rule)


@given(rule_sets(), ENVIRONMENTS, REQUESTS, ids)
@slow
def test_the_verdict_of_each_scheme_is_that_of_asking_for_it(
    made: list[dict[str, Any]], data: dict[str, Any], request_: dict[str, Any], ignore: frozenset[str]
) -> None:
    rules = book(*made)
    request_ = {name: value for name, value in request_.items() if name != "scheme"}
    schemes = evaluate(rules, data, ignore, **request_).schemes
    alone = {scheme: evaluate(rules, data, ignore, scheme=scheme, **request_) for scheme in HEADER["schemes"]}
    assert schemes == {scheme: report.verdict for scheme, report in alone.items()}
    assert all(report.schemes is None for report in alone.values())


def test_schemes_with_rows_of_one_id_for_different_releases_are_judged_apart() -> None:
    whens = [{"scheme": ["int8"], "release": {"alpha": "<1.0"}}, {"scheme": ["fp8"], "release": {"alpha": ">=1.0"}}]
    made = [row("torchao/types", {"scheme": ["int4"]}, when=when) for when in whens]
    data = machine(distributions={"alpha": {"version": "1.0"}})
    schemes = evaluate([*rows("error met"), *made], data).schemes
    assert schemes == {"int8": "ok", "int4": "ok", "fp8": "blocked"}


def test_schemes_that_can_only_be_loaded_are_told_for_loading_alone() -> None:
    rules = book(*rows("error met"), header={**HEADER, "load_schemes": {"Q4_K_M": []}})
    assert set(evaluate(rules, snapshot()).schemes or ()) == {"int8", "int4", "fp8"}
    assert set(evaluate(rules, snapshot(), operation="load").schemes or ()) == {"int8", "int4", "fp8", "Q4_K_M"}


@given(rule_sets(), ENVIRONMENTS, REQUESTS, ids)
@slow
def test_a_skipped_rule_names_the_unmet_one_that_it_waits_for(
    made: list[dict[str, Any]], data: dict[str, Any], request_: dict[str, Any], ignore: frozenset[str]
) -> None:
    report = evaluate(made, data, ignore, **request_)
    after = {each["id"]: set(each.get("after", ())) for each in made}
    blocking = {o.rule for o in report.outcomes if (o.status, o.severity, o.ignored) == ("unmet", "error", False)}
    skipped = {o.rule for o in report.outcomes if o.status == "skipped"}
    for outcome in report.outcomes:
        if outcome.status == "skipped":
            assert outcome.because in blocking
            assert outcome.because in outcome.message
            assert after[outcome.rule] & (blocking | skipped)
        else:
            assert outcome.because is None


@given(rule_sets(), ENVIRONMENTS, REQUESTS, ids)
@slow
def test_ignoring_rules_never_makes_anything_ok_that_was_blocked(
    made: list[dict[str, Any]], data: dict[str, Any], request_: dict[str, Any], ignore: frozenset[str]
) -> None:
    before, after = evaluate(made, data, **request_), evaluate(made, data, ignore, **request_)
    assert VERDICTS.index(after.verdict) <= VERDICTS.index(before.verdict) or before.verdict == after.verdict
    if any(o.ignored and o.status == "unmet" and o.severity == "error" for o in after.outcomes):
        assert after.verdict != "ok"
    for outcome in after.outcomes:
        assert outcome.ignored is (outcome.rule in ignore)


@given(ENVIRONMENTS, REQUESTS)
@slow
def test_every_environment_here_is_a_snapshot(data: dict[str, Any], request_: dict[str, Any]) -> None:
    assert from_data(data).data is data


# Hiding, where it is not obvious


def never_ok(needs: list[dict[str, Any]], data: dict[str, Any], path: tuple[str | int, ...], **request: Any) -> None:
    made = [SURE, *(row(f"torchao/rule-{number}", need) for number, need in enumerate(needs))]
    rules = book(*made, torch_builds={"2.10.0": {"cuda": "12.8", "architectures": ["sm_80", "sm_90"]}})
    assert evaluate(rules, data, **request).verdict in ("blocked", "undecided")
    assert evaluate(rules, hide(data, path), **request).verdict in ("blocked", "undecided")


def test_hiding_the_index_of_a_device_does_not_make_another_one_of_it() -> None:
    data = machine(accelerators=[gpu(3)])
    never_ok([{"accelerator": ["cuda"]}], data, ("accelerators", 0, "index"), device="cuda:0")


@pytest.mark.parametrize("kind", ["placeholder", "missing"])
def test_hiding_that_a_package_holds_no_code_does_not_make_it_whole(kind: str) -> None:
    owner = {"origin": None, "distribution": "torchao", "distributions": ["torchao"], "kind": kind}
    never_ok([{"owner": "torchao"}], machine(import_owners={"torchao": owner}), ("import_owners", "torchao", "kind"))


def test_hiding_the_architectures_of_a_build_of_ones_own_does_not_make_it_the_released_one() -> None:
    own = {"version": "2.10.0+mine", "cuda": "12.8", "hip": None, "xpu": None, "arch_list": ["sm_50"]}
    never_ok([{"architecture": "device"}], machine(torch_build=own), ("torch_build", "arch_list"))


def test_hiding_that_torch_has_no_cuda_does_not_let_its_version_speak() -> None:
    odd = {"version": "2.10.0+cu128", "cuda": None, "hip": None, "xpu": None}
    never_ok([{"torch_build": "accelerator"}], machine(torch_build=odd), ("torch_build", "cuda"))


def test_hiding_the_state_of_a_driver_does_not_mend_it() -> None:
    hung = {"nvidia": "570.86.10", "nvidia_status": "hung"}
    never_ok([{"driver": "working"}], snapshot(drivers=hung), ("drivers", "nvidia_status"))
