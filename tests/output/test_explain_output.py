"""Rules shown to people and to scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from output_strategies import TEXTS

from envguard.frozen import replace
from envguard.output.explain import explain, need_text, rules_table, when_text
from envguard.output.layout import columns
from envguard.rule import (
    AcceleratorNeed,
    AnyNeed,
    ArchitectureNeed,
    CapabilityNeed,
    CopiesNeed,
    DeviceNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    FixTemplate,
    LoadedNeed,
    MemoryNeed,
    OwnerNeed,
    PythonBuildNeed,
    PythonNeed,
    RequirementsNeed,
    RequiresPythonNeed,
    Rule,
    SchemeNeed,
    SystemNeed,
    ToolNeed,
    TorchBuildNeed,
    VariableNeed,
    VisibleNeed,
    When,
    WithoutNeed,
)
from envguard.versions import parse_clauses, parse_wanted


def release(name: str, clauses: str) -> Any:
    return ((name, parse_clauses(clauses)),)


NEW = Rule(
    id="diffusers/torchao-version",
    when=When(backend=("torchao",), host=("diffusers",), release=release("diffusers", ">=0.38.0")),
    need=DistributionNeed(parse_wanted("torchao>=0.15.0")),
    severity="error",
    kind="version",
    why="diffusers refuses older releases: 'The minimum required version of `torchao` is 0.15.0'.",
    fix=FixTemplate(install=(parse_wanted("torchao>=0.15.0"),)),
    origin="host",
    source="diffusers v0.38.0 src/diffusers/quantizers/torchao/torchao_quantizer.py",
    checked="2026-11-22",
    after=("torchao/installed",),
    file="diffusers.toml",
)
OLD = replace(
    NEW,
    when=When(backend=("torchao",), host=("diffusers",), release=release("diffusers", ">=0.32.0,<0.38.0")),
    need=DistributionNeed(parse_wanted("torchao>=0.7.0")),
    fix=FixTemplate(install=(parse_wanted("torchao>=0.7.0"),), text="Restart Python."),
)


def test_one_row_shows_all_of_the_rule() -> None:
    assert explain([NEW]).split("\n") == [
        "diffusers/torchao-version",
        "  needed  torchao>=0.15.0",
        "  match   as version, read from metadata",
        "  for     torchao; host diffusers; diffusers from 0.38.0 on",
        "  effect  error: blocks (version)",
        "  why     diffusers refuses older releases: 'The minimum required version of",
        "          `torchao` is 0.15.0'.",
        "  fix     install torchao>=0.15.0",
        "  after   torchao/installed (skipped where not met)",
        "  source  diffusers v0.38.0",
        "          src/diffusers/quantizers/torchao/torchao_quantizer.py (host)",
        "  checked 2026-11-22, in diffusers.toml",
    ]


def test_several_rows_share_what_they_have_in_common() -> None:
    lines = explain([OLD, NEW]).split("\n")
    assert sum("source" in line for line in lines) == 1
    assert lines[lines.index("row 1 of 2") :] == [
        "row 1 of 2",
        "  needed  torchao>=0.7.0",
        "  for     torchao; host diffusers; diffusers from 0.32.0 on, before 0.38.0",
        "  fix     install torchao>=0.7.0; Restart Python.",
        "",
        "row 2 of 2",
        "  needed  torchao>=0.15.0",
        "  for     torchao; host diffusers; diffusers from 0.38.0 on",
        "  fix     install torchao>=0.15.0",
    ]


@pytest.mark.parametrize(
    ("need", "text"),
    [
        (DistributionNeed(parse_wanted("nvidia-modelopt[hf]>=0.33.1,<0.44")), "nvidia-modelopt[hf]>=0.33.1,<0.44"),
        (RequirementsNeed("optimum-quanto"), "what the installed optimum-quanto itself requires"),
        (OwnerNeed("optimum", ("optimum-quanto",)), "import optimum loads the distribution optimum-quanto"),
        (
            OwnerNeed("triton", ("triton", "*"), True),
            "import triton loads the distribution triton or *, where there is such a module",
        ),
        (AnyNeed((parse_wanted("mslk-cuda>=1.0.0"), parse_wanted("mslk"))), "mslk-cuda>=1.0.0 or mslk"),
        (CopiesNeed(parse_wanted("torchao>=0.7.0")), "one copy of the metadata of torchao"),
        (LoadedNeed("torch", "torch"), "torch imported in the version of torch that is installed"),
        (
            WithoutNeed(("bitsandbytes-windows",), "bitsandbytes", "bitsandbytes"),
            "none of bitsandbytes-windows beside bitsandbytes",
        ),
        (RequiresPythonNeed("torch"), "the Python that the installed torch requires"),
        (
            RequirementsNeed("a", ("b",)),
            "what the installed a itself requires (to be missing counts in full for b; the rest as a warning)",
        ),
        (DeviceNeed(("cuda", "xpu")), "device cuda or xpu asked for"),
        (SchemeNeed(("nf4",)), "scheme nf4"),
        (AcceleratorNeed(("cuda", "xpu", "mps")), "a visible device of kind cuda, xpu or mps"),
        (CapabilityNeed((8, 9)), "compute capability >= 8.9"),
        (MemoryNeed(7_500_000_000), "device memory of at least 7.5 GB"),
        (DriverNeed(), "an NVIDIA driver that answers, where there is one"),
        (VisibleNeed(), "no environment variable that hides every device"),
        (TorchBuildNeed(), "a torch built for the device"),
        (
            DriverForCudaNeed(((12, "525.60.13"), (13, "580.65.06"))),
            "an NVIDIA driver for the CUDA of torch (at least: CUDA 12: 525.60.13, CUDA 13: 580.65.06)",
        ),
        (ArchitectureNeed(), "a torch build with code for the device's architecture"),
        (PythonNeed(parse_clauses(">=3.10"), ">=3.10"), "Python >=3.10"),
        (PythonBuildNeed(), "a Python that is not free-threaded"),
        (SystemNeed(("Linux",)), "Linux"),
        (ToolNeed("ninja"), "the build tool ninja"),
        (VariableNeed("X", ("1", "true"), ()), "X set to 1 or true"),
        (VariableNeed("X", (), ("0",)), "X not set to 0"),
        (VariableNeed("X", (), ()), "X set"),
    ],
)
def test_every_need_has_words(need: Any, text: str) -> None:
    assert need_text(need) == text


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (When(), ""),
        (When(backend=("gguf",)), ""),
        (
            When(backend=("gguf", "torchao"), scheme=("a", "b"), operation=("load",)),
            "gguf, torchao; scheme a or b; to load",
        ),
        (
            When(not_scheme=("nf4",), device=("auto",), system=("Windows",)),
            "any scheme but nf4; device auto; on Windows",
        ),
        (When(release=release("torch", ">2,<=3,!=2.5,==2.*")), "torch after 2, up to 3, not 2.5, 2.* alone"),
    ],
)
def test_a_condition_leaves_out_what_the_owner_says(when: When, text: str) -> None:
    assert when_text(when, "gguf") == text


@pytest.mark.parametrize(
    ("fix", "text"),
    [
        (FixTemplate(uninstall=("a", "b")), "uninstall a, b"),
        (FixTemplate(torch=True), "install a torch build that fits the machine's driver"),
        (FixTemplate(unset=("X",), text="Then restart."), "unset X; Then restart."),
    ],
)
def test_every_fix_has_words(fix: FixTemplate, text: str) -> None:
    assert f"\n  fix     {text}\n" in explain([replace(NEW, fix=fix)])


def test_a_rule_for_all_says_so_and_a_note_says_that_it_has_no_effect() -> None:
    text = explain([replace(NEW, when=When(), severity="info", after=())])
    assert "\n  for     every request\n" in text
    assert "\n  effect  info: a note, without effect (version)\n" in text
    assert "after" not in text


def test_the_table_has_a_line_a_row_with_its_condition() -> None:
    general = replace(NEW, id="gguf/version", when=When(backend=("gguf",)), need=ToolNeed("ninja"), severity="warning")
    assert rules_table([NEW, general]).split("\n") == [
        "diffusers/torchao-version  error    torchao>=0.15.0 [torchao; host diffusers;",
        "                                    diffusers from 0.38.0 on]",
        "gguf/version               warning  the build tool ninja",
    ]


def test_the_table_as_json_holds_each_row_whole() -> None:
    rows = json.loads(rules_table([NEW, OLD], "json"))
    assert rows == [json.loads(line) for line in rules_table([NEW, OLD], "jsonl").split("\n")]
    assert rows[1] == {
        "id": "diffusers/torchao-version",
        "needed": "torchao>=0.7.0",
        "when": {"backend": ["torchao"], "host": ["diffusers"], "release": {"diffusers": ">=0.32.0,<0.38.0"}},
        "severity": "error",
        "kind": "version",
        "why": "diffusers refuses older releases: 'The minimum required version of `torchao` is 0.15.0'.",
        "fix": {"install": ["torchao>=0.7.0"], "uninstall": [], "torch": False, "unset": [], "text": "Restart Python."},
        "after": ["torchao/installed"],
        "origin": "host",
        "source": "diffusers v0.38.0 src/diffusers/quantizers/torchao/torchao_quantizer.py",
        "checked": "2026-11-22",
        "file": "diffusers.toml",
    }


def test_an_empty_table_is_empty() -> None:
    assert [rules_table([], "text"), rules_table([], "json"), rules_table([], "jsonl")] == ["", "[]", ""]


@given(TEXTS, TEXTS, TEXTS)
def test_rules_of_others_are_shown_safely_in_80_columns(name: str, words: str, scheme: str) -> None:
    foreign = replace(
        NEW,
        id=name,
        why=words,
        source=words,
        fix=FixTemplate(text=words),
        need=ToolNeed(words),
        when=When(scheme=(scheme,)),
    )
    for text in (explain([foreign, NEW]), rules_table([foreign, NEW]), explain([foreign], unicode=False)):
        assert all(line.isprintable() and (columns(line) <= 80 or "://" in line) for line in text.split("\n"))
    assert explain([foreign], unicode=False).isascii()


RELEASES = {"diffusers": ("0.31.0", "0.32.0", "0.37.1", "0.38.0", "0.42.1"), "transformers": ("4.46.3", "5.23.0")}


def held(rule: Rule) -> str:
    """The line that says in which releases a row holds."""
    lines = explain([rule], releases=lambda name: RELEASES.get(name, ()), width=200).split("\n")
    return next((line.removeprefix("  holds   ") for line in lines if line.startswith("  holds ")), "")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (">=0.38.0", "diffusers since 0.38.0"),
        ("<0.38.0", "diffusers until 0.37.1"),
        (">=0.32.0,<0.38.0", "diffusers since 0.32.0 until 0.37.1"),
        (">=0.30.0", "in every release of diffusers (up to 0.42.1, the newest known)"),
        (">=0.43.0", "in no release of diffusers up to 0.42.1, the newest known"),
    ],
)
def test_a_row_says_since_and_until_which_releases_it_holds(bounds: str, said: str) -> None:
    assert held(replace(NEW, when=When(host=("diffusers",), release=release("diffusers", bounds)))) == said


def test_a_row_for_two_hosts_speaks_of_both() -> None:
    when = When(host=("diffusers", "transformers"), release=release("transformers", ">=5.0.0"))
    every = "in every release of diffusers (up to 0.42.1, the newest known)"
    assert held(replace(NEW, when=when)) == f"{every}; transformers since 5.23.0"


def test_a_row_of_no_host_says_nothing_of_releases() -> None:
    assert held(replace(NEW, when=When(release=release("torch", ">=2.6.0")))) == ""
    assert held(replace(NEW, when=When(host=("none",)))) == ""
