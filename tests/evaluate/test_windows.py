"""Pairs of releases: what the table says of them, and which of the two gives way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import evaluate, row, snapshot, tables

from envguard.looks import Memories
from envguard.model import BackendReport, Outcome, Request
from envguard.rule import WindowNeed
from envguard.rulebook import RuleBook
from envguard.shipped import load
from envguard.ways import Releases, fits

PAIR = {"distribution": "torchao", "other": "torch"}
WINDOWS = [
    {**PAIR, "releases": ">=0.12.0,<0.13.0", "needs": "<2.9.0", "effect": "aborts", "source": "w"},
    {**PAIR, "releases": ">=0.18.0", "needs": ">=2.10.0", "effect": "import-fails", "missing": ["t.S"], "source": "w"},
    {**PAIR, "releases": ">=0.14.0,<0.15.0", "needs": "none", "effect": "kernels-skipped", "source": "w"},
    {**PAIR, "releases": ">=0.15.0,<0.16.0", "needs": "==2.9.1", "effect": "kernels-skipped", "source": "w"},
    {**PAIR, "releases": ">=0.16.0", "needs": ">=2.10.0", "effect": "kernels-skipped", "source": "w"},
]
NEWEST = {"torchao": "0.18.0", "torch": "2.11.0"}
RELEASES = {
    "torchao": ["0.11.0", "0.12.0", "0.13.0", "0.14.0", "0.15.0", "0.16.0", "0.17.0", "0.18.0"],
    "torch": ["2.8.0", "2.9.0", "2.9.1", "2.10.0", "2.11.0"],
}
FIX = {"window": ["torchao", "torch"]}
IMPORTS = row("torchao/torch", {"window": {**PAIR, "effects": ["import-fails", "aborts"]}}, fix=FIX, origin="table")
KERNELS = row(
    "torchao/kernels",
    {"window": {**PAIR, "effects": ["kernels-skipped"]}},
    "warning",
    fix=FIX,
    after=["torchao/torch"],
)
FLOOR = row("host/torchao", {"distribution": "torchao>=0.15.0"}, fix={"install": ["torchao>=0.15.0"]})


def book(*rules: dict[str, Any]) -> RuleBook:
    made = tables(*(rules or (IMPORTS, KERNELS)), releases=RELEASES)
    return RuleBook({**made, "windows.toml": {"window": WINDOWS, "newest": NEWEST}})


def report(
    *rules: dict[str, Any], requires: dict[str, list[str]] | None = None, **versions: str | None
) -> BackendReport:
    """The report on some installed versions; `requires` are further distributions and what they declare."""
    listed: dict[str, Any] = {
        name: None if version is None else {"version": version} for name, version in versions.items()
    }
    listed |= {name: {"version": "1.0", "requires": lines} for name, lines in (requires or {}).items()}
    return evaluate(book(*rules), snapshot(distributions=listed))


def said(rule: str, *rules: dict[str, Any], **more: Any) -> Outcome:
    return next(outcome for outcome in report(*rules, **more).outcomes if outcome.rule == rule)


@pytest.mark.parametrize(
    ("torchao", "torch", "status"),
    [
        ("0.18.0", "2.10.0", "met"),
        ("0.18.0", "2.10.0+cu130", "met"),
        ("0.18.0", "2.9.1", "unmet"),
        ("0.18.0", "2.9.1+cu128", "unmet"),
        ("0.18.0+git1234", "2.9.1", "unmet"),
        ("0.17.0", "2.8.0", "met"),
        ("0.12.0", "2.9.0", "unmet"),
        ("0.12.0", "2.8.0", "met"),
        ("0.13.0", "2.9.0", "met"),
    ],
)
def test_a_pair_is_judged_by_the_row_of_its_release(torchao: str, torch: str, status: str) -> None:
    assert said("torchao/torch", torchao=torchao, torch=torch).status == status


@pytest.mark.parametrize(
    ("torchao", "torch", "status"),
    [
        ("0.18.0", "2.10.0.dev20251001", "undecided"),  # 2.9 is too old, 2.10 is not
        ("0.18.0", "2.10.0a0+gitb4e4ee8", "undecided"),  # a build of NVIDIA's
        ("0.18.0", "2.9.0a0+git1234567", "unmet"),
        ("0.18.0", "2.11.0.dev20251101+cu130", "met"),
        ("0.18.0.dev20260301", "2.9.1", "undecided"),  # 0.17 works with it, 0.18 does not
        ("0.18.0.dev20260301", "2.10.0", "met"),
        ("0.12.0.dev1", "2.9.0", "undecided"),  # 0.11 has no row, 0.12 aborts
        ("unknown", "2.9.0", "undecided"),
    ],
)
def test_a_pre_release_between_two_answers_is_undecided(torchao: str, torch: str, status: str) -> None:
    assert said("torchao/torch", torchao=torchao, torch=torch).status == status


def test_both_sides_what_is_missing_and_both_ways_out_are_named() -> None:
    outcome = said("torchao/torch", torchao="0.18.0", torch="2.9.1")
    assert outcome.needed == "torch>=2.10.0 for torchao 0.18.0 (t.S)"
    assert outcome.found == "torch 2.9.1"
    assert outcome.message.endswith(": torchao<0.18.0, or torch>=2.10.0")
    assert outcome.fix is not None
    assert outcome.fix.text == "Install torchao<0.18.0, or upgrade torch to 2.10.0 or newer."
    assert [command.rpartition(" ")[2] for command in outcome.fix.commands] == ["'torchao>=0.13.0,<0.18.0'"]


def test_what_another_distribution_requires_leaves_one_way() -> None:
    outcome = said("torchao/torch", torchao="0.18.0", torch="2.9.1", requires={"vllm": ["torch==2.9.1"]})
    assert outcome.fix is not None
    assert outcome.fix.text == "Install torchao<0.18.0. torch cannot give way: vllm 1.0 requires torch==2.9.1."
    assert outcome.message.endswith(": torchao<0.18.0")


def test_the_other_one_gives_way_where_the_first_cannot() -> None:
    outcome = said("torchao/torch", torchao="0.18.0", torch="2.9.1", requires={"app": ["torchao>=0.18"]})
    assert outcome.fix is not None
    assert outcome.fix.text.startswith("Upgrade torch to 2.10.0 or newer. torchao cannot give way: app 1.0 requires")
    assert "torch>=2.10.0" in outcome.fix.commands[-1]


def test_a_rule_on_the_first_one_counts_as_what_it_asks_for() -> None:
    outcome = said("torchao/torch", IMPORTS, FLOOR, torchao="0.18.0", torch="2.9.1")
    assert outcome.fix is not None
    assert "'torchao>=0.15.0,<0.18.0'" in outcome.fix.commands[0]


def test_where_three_packages_leave_no_release_the_two_that_conflict_are_named() -> None:
    requires = {"app": ["torchao>=0.18"], "vllm": ["torch==2.9.1"]}
    made = report(torchao="0.18.0", torch="2.9.1", requires=requires)
    outcome = made.outcomes[0]
    assert outcome.fix is not None
    assert outcome.fix.commands == ()
    assert outcome.fix.text.startswith("No releases of torchao and torch fit here.")
    assert "app 1.0 requires torchao>=0.18" in outcome.fix.text
    assert "vllm 1.0 requires torch==2.9.1" in outcome.fix.text
    assert made.plan is None or made.plan.unsolved == ("torchao/torch",)


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("torch==2.9.1; extra == 'gpu'", False),
        ("torch==2.9.1; platform_system == 'Windows'", False),
        ("torch==2.9.1; platform_system == 'Linux'", True),
        ("torch==2.9.1; implementation_name == 'cpython'", True),
        ("torch==2.9.1; implementation_name == 'of no known interpreter'", True),
        ("torch==2.9.1; platform_release == 'of a machine that nobody told'", True),
        ("torchvision==0.24", False),
        ("Torch (==2.9.1)", True),
        ("not a requirement !", False),
    ],
)
def test_a_requirement_counts_where_its_condition_holds(line: str, counts: bool) -> None:
    listed = {
        "torchao": {"version": "0.18.0"},
        "torch": {"version": "2.9.1"},
        "vllm": {"version": "1.0", "requires": [line]},
    }
    made = evaluate(book(), snapshot(distributions=listed, host={"system": "Linux"}))
    assert made.outcomes[0].fix is not None
    assert ("cannot give way" in made.outcomes[0].fix.text) is counts


def test_the_plan_is_judged_again_with_the_release_that_gives_way() -> None:
    made = report(torchao="0.18.0", torch="2.9.1")
    assert made.plan is not None
    assert made.plan.resolves == ("torchao/torch",)
    assert made.plan.unsolved == ()
    assert "'torchao>=0.13.0,<0.18.0'" in made.plan.commands[0]


def test_what_is_installed_anew_works_with_what_is_there() -> None:
    missing = row("torchao/installed", {"distribution": "torchao"}, kind="absent", fix={"install": ["torchao>=0.7.0"]})
    made = report(missing, {**IMPORTS, "after": ["torchao/installed"]}, torchao=None, torch="2.9.1")
    assert made.outcomes[0].fix is not None
    assert "'torchao>=0.7.0,<0.18.0'" in made.outcomes[0].fix.commands[0]
    assert made.plan is not None
    assert made.plan.unsolved == ()
    assert "<0.18.0" in made.plan.commands[0]


def test_skipped_kernels_degrade_and_name_the_release_that_has_them() -> None:
    made = report(torchao="0.16.0", torch="2.9.1+cu128")
    assert made.verdict == "degraded"
    outcome = made.outcomes[1]
    assert outcome.needed == "torch>=2.10.0 for the compiled kernels of torchao 0.16.0"
    assert outcome.found == "torch 2.9.1+cu128, with which they are skipped"
    assert outcome.fix is not None
    assert outcome.fix.text == "Go back to torchao==0.15.0, or upgrade torch to 2.10.0 or newer."


def test_kernels_that_no_release_serves_ask_for_another_one_of_the_first() -> None:
    outcome = report(torchao="0.14.0", torch="2.9.1").outcomes[1]
    assert outcome.needed == "another torchao than 0.14.0, which no torch serves"
    assert outcome.fix is not None
    assert outcome.fix.text.startswith(
        "Upgrade to torchao==0.15.0. No known release of torch works with torchao 0.14.0"
    )


def test_a_pair_with_one_absent_is_not_judged() -> None:
    assert report(torchao="0.18.0", torch=None).outcomes == ()
    assert report(torchao=None, torch="2.9.1").outcomes == ()


def test_one_side_alone_decides_where_the_other_makes_no_difference() -> None:
    assert said("torchao/torch", torchao="0.13.0").status == "met"
    assert said("torchao/torch", torchao="0.18.0").status == "undecided"
    assert said("torchao/torch", torch="2.9.1").status == "undecided"
    assert said("torchao/torch", IMPORTS, torch="2.8.5").status == "undecided"
    assert said("torchao/kernels", torchao="0.14.0").status == "unmet"


def test_releases_newer_than_the_table_are_judged_by_its_newest_and_say_so() -> None:
    newer = said("torchao/torch", torchao="0.19.0", torch="2.9.1")
    assert newer.status == "unmet"
    assert newer.found == "torch 2.9.1 (judged as torchao 0.18.0, the newest that the table knows)"
    both = said("torchao/torch", torchao="0.19.0", torch="2.12.0+cu130")
    assert both.status == "met"
    assert both.found is not None
    assert both.found.endswith("(judged as torchao 0.18.0 and torch 2.11.0, the newest that the table knows)")
    assert "judged as" not in (said("torchao/torch", torchao="0.18.0+cu130", torch="2.11.0+cu130").found or "")


def test_what_the_files_tell_stands_before_the_table() -> None:
    data = snapshot(
        distributions={"torchao": {"version": "0.18.0"}, "torch": {"version": "2.9.1"}},
        import_links={"torchao": []},
        compiled_kernels={"torchao": {"loaded": True, "reason": None}},
    )
    assert evaluate(book(), data).outcomes == ()


def test_no_way_goes_back_to_releases_that_nobody_read() -> None:
    releases = {**RELEASES, "torch": ["1.13.0", *RELEASES["torch"]]}
    made = tables(IMPORTS, KERNELS, releases=releases)
    for oldest, told in (({}, True), ({"torch": "2.8.0"}, False)):
        book_of = RuleBook({**made, "windows.toml": {"window": BACK, "newest": NEWEST, "oldest": oldest}})
        listed = {"torchao": {"version": "0.12.0"}, "torch": {"version": "2.9.1"}}
        fix = evaluate(book_of, snapshot(distributions=listed)).outcomes[0].fix
        assert fix is not None
        assert ("torch==1.13.0" in fix.text) is told


BACK = [{**PAIR, "releases": "<0.19.0", "needs": "<2.0", "effect": "import-fails", "source": "w"}]


def test_what_reading_does_not_tell_counts_beside_the_files() -> None:
    rows = [{**WINDOWS[0], "unseen": True}, *WINDOWS[1:]]
    made = RuleBook({**tables(IMPORTS, KERNELS, releases=RELEASES), "windows.toml": {"window": rows, "newest": NEWEST}})
    listed = {"torchao": {"version": "0.12.0"}, "torch": {"version": "2.9.1"}}
    outcome = evaluate(made, snapshot(distributions=listed, import_links={"torchao": []})).outcomes[0]
    assert outcome.status == "unmet"
    assert outcome.found == "torch 2.9.1, with which the whole process is aborted"


def test_the_plan_of_what_the_files_tell_is_judged_by_the_table() -> None:
    links = row("torchao/links", {"links": {"distribution": "torchao", "modules": ["torchao"]}}, fix=FIX)
    loss = {"module": "torchao", "name": "ScalingType", "needed_from": "torch.nn.functional", "effect": "import-fails"}
    data = snapshot(
        distributions={"torchao": {"version": "0.18.0"}, "torch": {"version": "2.9.1"}},
        import_links={"torchao": [loss]},
    )
    made = evaluate(book(links, {**IMPORTS, "after": ["torchao/links"]}), data)
    assert made.outcomes[0].status == "unmet"
    assert made.plan is not None
    assert made.plan.resolves == ("torchao/links",)
    assert "'torchao>=0.13.0,<0.18.0'" in made.plan.commands[0]


def test_a_loss_that_the_table_does_not_know_asks_for_another_release() -> None:
    links = row("torchao/links", {"links": {"distribution": "torchao", "modules": ["torchao"]}}, fix=FIX)
    loss = {"module": "torchao", "name": "x", "needed_from": "torch.y", "effect": "import-fails"}
    listed = {"torchao": {"version": "0.17.0"}, "torch": {"version": "2.9.1"}}
    outcome = evaluate(book(links, IMPORTS), snapshot(distributions=listed, import_links={"torchao": [loss]})).outcomes[
        0
    ]
    assert outcome.fix is not None
    assert outcome.fix.text == "Install another release of torchao or of torch, so that they fit."
    assert outcome.fix.commands == ()


SHIPPED = load()
PAIRS = [row.need for row in SHIPPED.rows() if isinstance(row.need, WindowNeed)]


@given(st.sampled_from(PAIRS), st.booleans(), st.data())
@settings(deadline=None, max_examples=300)
def test_the_releases_that_serve_are_those_that_fit_one_by_one(
    need: WindowNeed, first: bool, data: st.DataObject
) -> None:
    name, other = (need.distribution, need.other) if first else (need.other, need.distribution)
    near = [
        version + more for version in SHIPPED.releases(other) for more in ("", "rc1", ".post1", ".1.dev0", "+cu126")
    ]
    asked: list[Any] = data.draw(
        st.lists(st.sampled_from([*near, "0.0.1", "99", "2!1", "nonsense"]) | st.none(), min_size=1, max_size=8)
    )
    releases = Releases(SHIPPED, Memories().new())  # one for all: what it remembers of one is no answer to another
    for there in [*asked, *asked]:
        fitting = tuple([version for version in releases.all(name) if fits(need, name, version, there)])
        assert releases.serving(need, name, there) == fitting


def of_fleet(**changes: Any) -> dict[str, Any]:
    """A machine on which torchao is too old for diffusers, and torch for the torchao that diffusers asks for."""
    versions = {"torch": "2.5.1+cu124", "torchao": "0.13.0", "diffusers": "0.39.0", "accelerate": "1.13.0"}
    data = snapshot(
        python={"version": "3.12.3", "executable": "python3", "writable": True, "pip": "25.0"},
        host={"system": "Linux", "machine": "x86_64", "libc": "glibc 2.39"},
        distributions={name: {"version": version, "requires": []} for name, version in versions.items()},
        distributions_complete=True,
        torch_build={"version": "2.5.1+cu124", "cuda": "12.4", "hip": None, "xpu": None, "arch_list": ["sm_80"]},
        drivers={"nvidia": "580.95.05", "cuda": "13.0", "nvidia_status": "ok"},
        accelerators=[{"kind": "cuda", "index": 0, "name": "NVIDIA A100", "compute_capability": "8.0"}],
    )
    return {**data, **changes}


def of_shipped(data: dict[str, Any], rule: str = "torchao/torch") -> tuple[BackendReport, Outcome]:
    made = evaluate(SHIPPED, data, Request("torchao"))
    return made, next(each for each in made.outcomes if each.rule == rule)


@pytest.mark.parametrize(
    ("facts", "rule", "fix", "plan"),
    [
        pytest.param(
            {},
            "diffusers/torchao-version",
            "'torchao>=0.15.0'",
            "'torchao>=0.15.0' 'torch>=2.10.0'",
            id="a half that the plan changes bounds nothing",
        ),
        pytest.param(
            {"drivers": {"nvidia": "550.127.08", "cuda": "12.4", "nvidia_status": "ok"}},
            "torchao/torch",
            "'torch>=2.6.0,<2.11.0'",
            "'torchao>=0.15.0' 'torch==2.10.0'",
            id="a torch that the driver does not run is no way out",
        ),
    ],
)
def test_a_pair_is_mended_by_what_can_be_installed_together(
    facts: dict[str, Any], rule: str, fix: str, plan: str
) -> None:
    made, outcome = of_shipped(of_fleet(**facts), rule)
    assert outcome.fix is not None
    assert outcome.fix.commands == (f"python3 -m pip install {fix}",)
    assert made.plan is not None
    assert made.plan.unsolved == ()
    assert made.plan.commands == (f"python3 -m pip install {plan}",)


def test_the_gpu_is_told_where_it_keeps_torch_from_giving_way() -> None:
    maxwell = [{"kind": "cuda", "index": 0, "name": "NVIDIA GeForce GTX 980", "compute_capability": "5.2"}]
    data = of_fleet(accelerators=maxwell)
    data["distributions"] |= {"torch": {"version": "2.7.1"}, "torchao": {"version": "0.18.0"}}
    _, outcome = of_shipped(data)
    assert outcome.fix is not None
    assert outcome.fix.text.endswith("torch cannot give way: the driver and the GPU run torch<2.8.0.")
    assert outcome.fix.commands == ("python3 -m pip install 'torchao>=0.15.0,<0.18.0'",)


def test_on_windows_another_torch_comes_from_the_index_of_its_builds() -> None:
    windows = {"system": "Windows", "machine": "AMD64", "libc": None}
    made, outcome = of_shipped(of_fleet(host=windows))
    assert outcome.fix is not None
    assert "--index-url https://download.pytorch.org/whl/cu130" in outcome.fix.commands[-1]
    assert made.plan is not None
    assert made.plan.unsolved == ()
    assert [command.count("torch>=") for command in made.plan.commands] == [1, 0]


def test_a_release_without_wheels_for_the_python_is_no_way_out() -> None:
    newest = of_fleet(python={"version": "3.14.1", "executable": "python3", "writable": True, "pip": "25.0"})
    newest["distributions"] |= {"torch": {"version": "2.14.1"}, "torchao": {"version": "0.12.0"}, "diffusers": None}
    asked = Request("torchao", host="none")
    outcome = next(each for each in evaluate(SHIPPED, newest, asked).outcomes if each.rule == "torchao/torch")
    assert outcome.fix is not None
    assert outcome.fix.text.startswith("Upgrade torchao to 0.13.0 or newer. torch cannot give way: ")
    assert outcome.fix.text.endswith("others are not for Python 3.14.")
    older = {**newest, "python": {**newest["python"], "version": "3.12.3"}}
    outcome = next(each for each in evaluate(SHIPPED, older, asked).outcomes if each.rule == "torchao/torch")
    assert outcome.fix is not None
    assert "or go back to torch" in outcome.fix.text or "or install torch<2.9.0" in outcome.fix.text
