"""The loader refuses what does not hold to the format, in one line with file, key and what was expected."""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import json
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import HEADER, book, pointers, row, tables

from envguard.errors import BadRules
from envguard.model import OPERATIONS
from envguard.rule import VariableNeed, When, WindowNeed
from envguard.rulebook import RuleBook
from envguard.rulefiles import check_tables, read_folder
from envguard.rulefiles.overlaps import overlap
from envguard.rulefiles.rows import DEVICES, SYSTEMS, WHEN_HOSTS
from envguard.shipped import compiled_source, rules_folder
from envguard.versions import parse_clauses

INSTALLED = row("torchao/installed", {"distribution": "torchao"}, kind="absent")
VERSION = row("torchao/version", {"distribution": "torchao>=0.7.0"}, after=["torchao/installed"])


def refusal(*rows: dict[str, Any], **more: Any) -> str:
    """The one line with which rows are refused."""
    return refused(tables(*rows, **more))


def refused(made: dict[str, Any]) -> str:
    with pytest.raises(BadRules) as caught:
        check_tables(made)
    text = str(caught.value)
    assert text.isprintable(), "one line, without control characters"
    return text


def changed(table: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path replaced."""
    made = deepcopy(table)
    holder = made
    *steps, last = path.split(".")
    for step in steps:
        holder = holder.setdefault(step, {})
    holder[last] = value
    return made


def test_rows_that_hold_to_the_format_are_accepted() -> None:
    check_tables(tables(INSTALLED, VERSION, releases={"torchao": ["0.7.0", "0.15.0", "0.18.0"]}))


# One table alone


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("surprise", "rule 1: surprise: unknown key"),
        ("when.surprise", "when: surprise: unknown key"),
        ("fix.surprise", "fix: surprise: unknown key"),
    ],
)
def test_an_unknown_key_of_a_rule_is_refused(path: str, named: str) -> None:
    text = refusal(changed(INSTALLED, path, "x"))
    assert text.startswith("torchao.toml: rule 1")
    assert named in text
    assert "expected one of" in text


def test_an_unknown_need_is_refused_with_the_known_ones() -> None:
    text = refusal(row("torchao/it", {"surprise": "x"}))
    assert text.startswith("torchao.toml: rule 1 torchao/it: need.surprise: expected one of distribution, ")


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "X", "unset": True},
        {"name": "X", "value": ["1"], "unset": False},
        {"name": "X", "not": ["0"], "unset": True},
        {"name": "X", "value": ["1"], "unobserved": "set"},
        {"name": "X", "unobserved": "unset"},
    ],
)
def test_a_variable_that_may_be_unset_needs_values_beside_it(variable: dict[str, Any]) -> None:
    assert "torchao/it: need.variable: expected name and value or not" in refusal(
        row("torchao/it", {"variable": variable})
    )


def test_rows_with_and_without_a_distribution_do_not_overlap() -> None:
    without = row("torchao/it", {"distribution": "torchao"}, when={"absent": ["optimum"]})
    book(without, row("torchao/it", {"distribution": "torchao"}, when={"release": {"optimum": ">=0.0.1"}}))
    assert "overlap" in refusal(without, row("torchao/it", {"distribution": "torchao"}))


@pytest.mark.parametrize(
    ("when", "key"),
    [({"absent": []}, "absent"), ({"absent": [1]}, "absent"), ({"cuda_capability": "7"}, "cuda_capability")],
)
def test_a_bad_condition_on_what_is_there_is_refused(when: dict[str, Any], key: str) -> None:
    assert f"torchao/it: when.{key}: expected" in refusal(row("torchao/it", {"distribution": "torchao"}, when=when))


def test_an_unknown_key_of_a_variable_is_refused() -> None:
    text = refusal(row("torchao/it", {"variable": {"name": "X", "not": ["0"], "is": "1"}}))
    assert "torchao/it: need.variable: expected name and value or not" in text


def test_an_unknown_key_of_a_backend_is_refused() -> None:
    assert refusal(header={**HEADER, "colour": "red"}).startswith("torchao.toml: backend: colour: unknown key")


def test_an_unknown_key_of_a_file_is_refused() -> None:
    assert refused({"torch.toml": {"rules": []}}).startswith("torch.toml: rules: unknown key, expected one of backend,")


def test_an_unknown_key_of_a_torch_build_is_refused() -> None:
    build = {"cuda": "13.0", "architectures": ["sm_80"], "python": "3.12"}
    assert refusal(torch_builds={"2.11.0": build}).startswith("releases.toml: torch-builds.2.11.0: python: unknown key")


@pytest.mark.parametrize("name", ["line\nbreak", "\x1b[31mred", "half\ud800"])
def test_a_key_cannot_forge_a_line(name: str) -> None:
    refusal(changed(INSTALLED, name, "x"))


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_need_is_wanted(count: int) -> None:
    need = dict(list({"distribution": "torchao", "driver": "working"}.items())[:count])
    text = refusal(row("torchao/it", need))
    assert f"torchao/it: need: expected exactly one need, found {count}" in text


@pytest.mark.parametrize("need", ["torchao", ["torchao"], 3])
def test_a_need_that_is_no_table_is_refused(need: Any) -> None:
    assert "need: expected exactly one need" in refusal({**INSTALLED, "need": need})


@pytest.mark.parametrize("name", ["id", "need", "severity", "kind", "why", "fix", "origin", "source", "checked"])
def test_a_rule_without_a_field_that_every_rule_has_is_refused(name: str) -> None:
    left = {key: value for key, value in INSTALLED.items() if key != name}
    assert refusal(left) == f"torchao.toml: rule 1: {name}: missing"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("id", "installed", "id: expected owner/name in lower case"),
        ("id", "torchao/Installed", "id: expected owner/name in lower case"),
        ("id", "a/b/c/d", "id: expected owner/name in lower case"),
        ("id", "torchao/installed\n", "id: expected owner/name in lower case"),
        ("id", 3, "id: expected text"),
        ("severity", "fatal", "severity: expected one of error, warning, info"),
        ("severity", ["error"], "severity: expected one of error, warning, info"),
        ("kind", "other", "kind: expected one of absent, version"),
        ("origin", "web", "origin: expected one of baseline, host"),
        ("why", "", "why: expected text"),
        ("why", " ", "why: expected text"),
        ("source", "", "source: expected text"),
        ("source", 7, "source: expected text"),
        ("checked", "2026-11-22", "checked: expected a date"),
        ("checked", datetime.datetime(2026, 11, 22, 1, 2, tzinfo=datetime.timezone.utc), "checked: expected a date"),
        ("checked", 20261122, "checked: expected a date"),
        ("fix", {}, "fix: expected at least one of install"),
        ("fix", "pip install torchao", "fix: expected a table"),
        ("fix.install", [], "fix.install: expected a list"),
        ("fix.install", ["torchao>="], "fix.install: expected a list"),
        ("fix.install", "torchao", "fix.install: expected a list"),
        ("fix.uninstall", [3], "fix.uninstall: expected a list"),
        ("fix.unset", [], "fix.unset: expected a list"),
        ("fix.torch", "cpu", "fix.torch: expected one of accelerator"),
        ("fix.text", "", "fix.text: expected text"),
        ("after", "torchao/installed", "after: expected a list"),
        ("after", ["installed"], "after: expected a list"),
        ("after", [], "after: expected a list"),
        ("when", "always", "when: expected a table"),
        ("when.backend", ["nothing"], "when.backend: expected a list of torchao"),
        ("when.backend", [], "when.backend: expected a list"),
        ("when.operation", ["train"], "when.operation: expected a list of quantize, load, save"),
        ("when.host", ["auto"], "when.host: expected a list of diffusers"),
        ("when.device", ["cuda:0"], "when.device: expected a list of auto"),
        ("when.system", ["linux"], "when.system: expected a list of Linux"),
        ("when.scheme", "int8", "when.scheme: expected a list"),
        ("when.scheme", [], "when.scheme: expected a list"),
        ("when.scheme", ["int9"], "when.scheme: torchao has no scheme 'int9'"),
        ("when.not_scheme", ["int9"], "when.not_scheme: torchao has no scheme 'int9'"),
        ("when.release", {"diffusers": "0.38"}, "when.release: expected distribution = version range"),
        ("when.release", {"diffusers": ">=zero"}, "when.release: expected distribution = version range"),
        ("when.release", {"diffusers": 38}, "when.release: expected distribution = version range"),
        ("when.release", {}, "when.release: expected distribution = version range"),
        ("when.release", [">=0.38"], "when.release: expected distribution = version range"),
        ("when.accelerator", ["cpu"], "when.accelerator: expected a list of cuda, rocm, xpu, mps"),
        ("when.accelerator", "cuda", "when.accelerator: expected a list"),
        ("when.variable", {}, "when.variable: expected NAME = [values]"),
        ("when.variable", {"X": []}, "when.variable: expected NAME = [values]"),
        ("when.variable", {"X": "1"}, "when.variable: expected NAME = [values]"),
        ("when.variable", ["X"], "when.variable: expected NAME = [values]"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(path: str, value: Any, expected: str) -> None:
    text = refusal(changed(INSTALLED, path, value))
    assert text.startswith("torchao.toml: ")
    assert expected in text


def test_scheme_and_not_scheme_exclude_each_other() -> None:
    text = refusal({**INSTALLED, "when": {"scheme": ["int8"], "not_scheme": ["fp8"]}})
    assert "when.not_scheme: expected one of scheme and not_scheme, found both" in text


@pytest.mark.parametrize("host", [{}, {"host": ["diffusers", "transformers"]}])
def test_a_rule_of_a_host_names_that_one_host(host: dict[str, Any]) -> None:
    assert "when.host: expected exactly one host" in refusal({**INSTALLED, "origin": "host", "when": host})
    check_tables(tables({**INSTALLED, "origin": "host", "when": {"host": ["diffusers"]}}))


NOT_OPTIONAL = {"import": "a", "distributions": ["a"], "optional": False}
NEEDS: dict[str, tuple[list[Any], list[Any]]] = {
    "distribution": (
        ["torchao", "nvidia-modelopt[hf]>=0.33.1,<0.44"],
        ["", ">=1", "torch>=x", "a; b", "a @ x", "²", 3, []],
    ),
    "any_of": (
        [["mslk-cuda>=1.0.0", "mslk"]],
        [[], "mslk", ["mslk", "mslk"], ["mslk~=1.0"], ["; a"], [3]],
    ),
    "requirements": (
        ["optimum-quanto", {"of": "torch"}, {"of": "torch", "imported": ["a"], "compared": ["b*"], "unused": ["c"]}],
        ["", " ", 3, ["a"], {}, {"imported": ["a"]}, {"of": ""}, {"of": "a", "imported": []}, {"of": "a", "other": 1}],
    ),
    "required_in_turn": (["nvidia-modelopt"], ["", " ", 3, ["a"]]),
    "owner": (
        ["torchao", {"import": "triton", "distributions": ["triton", "*"], "optional": True}],
        ["", "diffusers", 3, ["torchao"], {}, {"import": "a"}, {"import": "a", "distributions": []}, NOT_OPTIONAL],
    ),
    "copies": (["torchao>=0.7.0"], ["torchao", "", ">=1", 3]),
    "loaded": (
        ["torchao", {"import": "torch", "distribution": "torch"}],
        ["", "diffusers", 3, {}, {"import": "torch"}, {"import": "torch", "distribution": ""}],
    ),
    "without": (
        [{"backend": "torchao", "distributions": ["torchao-nightly"]}],
        ["torchao", {}, {"backend": "torchao"}, {"backend": "gguf-", "distributions": ["a"]}],
    ),
    "requires_python": (["torchao"], ["", 3, ["torchao"]]),
    "device": ([["cuda", "cpu"]], [[], "cuda", ["cuda:0"], ["gpu"], [3]]),
    "runs_on": ([["cuda", "cpu"]], [[], "cuda", ["cuda:0"], ["gpu"], [3]]),
    "scheme": ([["int8"]], [[], "int8", [3], ["int9"]]),
    "weights": ([["safetensors", "torch"]], [[], "torch", ["pickle"], [3]]),
    "accelerator": ([["cuda", "xpu"]], [[], "cuda", ["cpu"], ["auto"], [["cuda"]]]),
    "compute_capability": (["8.9", "12.0"], ["8", "8.", ".9", "8.9a", "٨.٩", "8.²", 8.9, -1, "-8.9"]),
    "memory": ([1, 7_500_000_000], [0, -1, 7.5e9, "7.5 GB", True]),
    "driver": (["working"], ["ok", "", True, ["working"]]),
    "visible": (["device"], ["devices", True, {}]),
    "torch_build": (["accelerator"], ["cuda", True]),
    "driver_for_cuda": (
        [{"12": "525.60.13"}],
        [{}, "525", {"12": 525}, {"12.0": "525"}, {"²": "525"}, {"12": "new"}, {"": "1"}],
    ),
    "architecture": (["device"], ["sm_80", True]),
    "native": (
        [{"torchao": "library"}, {"torchao": "links"}],
        ["library", {}, {"torchao": "there"}, {"diffusers": "library"}, {"torchao": "library", "bitsandbytes": "libc"}],
    ),
    "python": ([">=3.10", ">=3.10,<3.14"], ["3.10", "", "python>=3.10", 3.1, ">=x", [">=3.10"]]),
    "python_build": (["gil"], ["nogil", False]),
    "system": ([["Linux"]], [[], "Linux", ["linux"], ["BSD"]]),
    "tool": (["ninja", "nvcc"], ["make", "", ["ninja"]]),
    "links": (
        [
            "torchao",
            {"distribution": "a", "modules": ["a.b"]},
            {"distribution": "a", "modules": ["b"], "follow": ["c"], "lost": "info"},
        ],
        [
            "",
            3,
            [],
            {"distribution": "a"},
            {"distribution": "", "modules": ["a"]},
            {"distribution": "a", "modules": []},
            {"distribution": "a", "modules": ["a"], "follow": "b"},
            {"distribution": "a", "modules": ["a"], "else": 1},
        ],
    ),
    "kernels": (["torchao"], ["", " ", 3, ["torchao"]]),
    "window": (
        [
            {"distribution": "torchao", "other": "torch", "effects": ["import-fails", "aborts"]},
            {"distribution": "torchao", "other": "torch", "effects": ["aborts"], "told_by": "diffusers"},
        ],
        [
            {},
            "torchao",
            {"distribution": "torchao", "other": "torch"},
            {"distribution": "torchao", "other": "torch", "effects": []},
            {"distribution": "torchao", "other": "torch", "effects": ["breaks"]},
            {"distribution": "", "other": "torch", "effects": ["aborts"]},
            {"distribution": "torchao", "other": 3, "effects": ["aborts"]},
            {"distribution": "torchao", "other": "torch", "effects": ["aborts"], "told_by": ""},
            {"distribution": "torchao", "other": "torch", "effects": ["aborts"], "more": "x"},
        ],
    ),
    "variable": (
        [{"name": "X", "not": ["0"]}, {"name": "X", "value": ["1"]}, {"name": "X", "value": ["1"], "not": ["", "0"]}],
        [
            {},
            {"name": "X"},
            {"value": ["1"]},
            {"name": "", "not": ["0"]},
            {"name": "X", "not": []},
            {"name": "X", "value": "1"},
            "X",
        ],
    ),
}
"""Each need with values that hold to the format and values that do not."""


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (good, _) in NEEDS.items() for value in good])
def test_a_good_value_of_each_need_is_accepted(name: str, value: Any) -> None:
    check_tables(tables(row("torchao/it", {name: value})))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, bad) in NEEDS.items() for value in bad])
def test_a_bad_value_of_each_need_is_refused_by_name(name: str, value: Any) -> None:
    text = refusal(row("torchao/it", {name: value}))
    assert text.startswith(f"torchao.toml: rule 1 torchao/it: need.{name}: expected ") or f"need.{name}: " in text


WINDOW = {
    "distribution": "torchao",
    "releases": ">=0.17.0",
    "other": "torch",
    "needs": ">=2.10.0",
    "effect": "import-fails",
    "missing": ["torch.x"],
    "source": "torchao-0.17.0-py3-none-any.whl",
}
NEWEST = {"torchao": "0.18.0", "torch": "2.15.0"}
PAIR = row(
    "torchao/torch",
    {"window": {"distribution": "torchao", "other": "torch", "effects": ["import-fails"]}},
    fix={"window": ["torchao", "torch"]},
)


def paired(*windows: dict[str, Any], rule: dict[str, Any] = PAIR) -> dict[str, Any]:
    """Tables with a rule about a pair, and the rows of the table of released pairs."""
    return {**tables(INSTALLED, rule), "windows.toml": {"window": list(windows), "newest": NEWEST}}


def test_rows_about_pairs_are_accepted_and_become_the_need() -> None:
    made = paired({**WINDOW, "releases": ">=0.17.0,<0.18.0"}, {**WINDOW, "releases": ">=0.18.0", "needs": "none"})
    check_tables(made)
    need = RuleBook(made).rows("torchao/torch")[0].need
    assert isinstance(need, WindowNeed)
    assert [window.needs for window in need.windows] == [parse_clauses(">=2.10.0"), None]
    assert (need.newest, need.newest_other) == ("0.18.0", "2.15.0")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("surprise", 1, "window 1: surprise: unknown key"),
        ("distribution", "Torch_AO", "distribution: expected the normalized name"),
        ("other", "triton", "other: expected the newest release of triton that was read"),
        ("releases", "0.17.0", "releases: expected versions such as"),
        ("needs", "", "needs: expected versions such as"),
        ("needs", 3, "needs: expected versions such as"),
        ("effect", "breaks", "effect: expected one of import-fails"),
        ("source", "", "source: expected text"),
        ("missing", [], "missing: expected a list names"),
    ],
)
def test_a_bad_row_about_a_pair_is_refused_by_file_number_and_key(path: str, value: Any, expected: str) -> None:
    text = refused(paired(changed(WINDOW, path, value)))
    assert text.startswith("windows.toml: window 1: ")
    assert expected in text


def test_rows_about_the_same_releases_of_a_pair_are_refused() -> None:
    assert "window 2: releases: expected ranges that do not overlap" in refused(
        paired(WINDOW, {**WINDOW, "releases": ">=0.18.0"})
    )


def test_a_pair_that_no_rule_asks_for_and_a_rule_without_rows_are_refused() -> None:
    assert "no rule asks for aborts of torchao with torch" in refused(paired(WINDOW, {**WINDOW, "effect": "aborts"}))
    assert "need.window: expected a pair of windows.toml" in refused(paired())


def test_the_fix_of_a_pair_names_both_of_its_distributions() -> None:
    other = {**PAIR, "fix": {"window": ["torchao", "numpy"]}}
    assert "fix.window: expected the two distributions of the need" in refused(paired(WINDOW, rule=other))
    one = {**PAIR, "fix": {"window": ["torchao"]}}
    assert "fix.window: expected two distributions" in refused(paired(WINDOW, rule=one))


def test_rows_about_pairs_stand_in_a_file_of_their_own() -> None:
    assert "window: expected in windows.toml alone" in refused({"torch.toml": {"window": [WINDOW], "newest": NEWEST}})


def test_every_need_is_covered_here() -> None:
    schema = json.loads(Path(rules_folder(), "schema.json").read_text("utf-8"))
    assert set(NEEDS) == set(schema["properties"]["rule"]["items"]["properties"]["need"]["properties"])


@pytest.mark.parametrize("name", ["fact", "comparison"])
def test_a_version_says_which_fact_and_which_comparison_it_uses(name: str) -> None:
    left = {key: value for key, value in VERSION.items() if key != name}
    assert f"torchao/version: {name}: expected one of" in refusal(INSTALLED, left)
    assert f"{name}: expected only where a distribution's version is needed" in refusal({**INSTALLED, name: "metadata"})


def test_only_torch_has_a_version_file() -> None:
    assert "fact: expected metadata" in refusal(INSTALLED, {**VERSION, "fact": "version-file"})
    check_tables(
        tables(row("torch/version", {"distribution": "torch>=2.6"}, fact="version-file", comparison="specifier"))
    )


@pytest.mark.parametrize("clause", ["~=0.7", "==0.7.*", "!=0.7.*", "===0.7"])
def test_a_comparison_that_only_specifiers_know_is_refused_for_plain_versions(clause: str) -> None:
    """It would have no meaning between two plain versions, and end in an exception when the rule is applied."""
    need = {"distribution": f"torchao{clause}"}
    assert "torchao/it: need.distribution: " in refusal(row("torchao/it", need, fact="metadata", comparison="version"))
    assert "when.release: " in refusal({**INSTALLED, "when": {"release": {"diffusers": clause}}})
    check_tables(tables(row("torchao/it", need, fact="metadata", comparison="specifier")))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"name": ""}, "backend: name: expected text"),
        ({"name": ["torchao"]}, "backend: name: expected text"),
        ({"distribution": 3}, "backend: distribution: expected text"),
        ({"aliases": "ao"}, "backend: aliases: expected a list"),
        ({"install": []}, "backend: install: expected a list"),
        ({"install": ["torchao>="]}, "backend: install: expected a list"),
        ({"schemes": {}}, "backend.schemes: expected a table"),
        ({"schemes": ["int8"]}, "backend.schemes: expected a table"),
        ({"schemes": {"int8": "int8wo"}}, "backend: schemes.int8: expected a list"),
        ({"load_schemes": ["q4"]}, "backend.load_schemes: expected a table"),
    ],
)
def test_a_bad_value_of_a_backend_is_refused(header: dict[str, Any], expected: str) -> None:
    assert refusal(header={**HEADER, **header}).startswith(f"torchao.toml: {expected}")


@pytest.mark.parametrize("name", ["name", "distribution", "import_name", "extra", "install", "schemes"])
def test_a_backend_without_a_field_is_refused(name: str) -> None:
    header = {key: value for key, value in HEADER.items() if key != name}
    assert refusal(header=header) == f"torchao.toml: backend: {name}: missing"


def test_two_backends_of_one_name_are_refused() -> None:
    twice = {"a.toml": {"backend": HEADER}, "b.toml": {"backend": HEADER}}
    assert refused(twice).startswith("b.toml: backend.name: expected a name of its own")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"releases": {"torchao": ["0.15.0", "0.7.0"]}}, "releases.torchao: expected versions in order"),
        ({"releases": {"torchao": ["new"]}}, "releases.torchao: expected a list"),
        ({"releases": {"torchao": []}}, "releases.torchao: expected a list"),
        ({"releases": ["0.7.0"]}, "releases: expected a table"),
        ({"torch_builds": ["2.11.0"]}, "torch-builds: expected a table"),
        ({"pythons": ["torchao"]}, "pythons: expected a table"),
        ({"releases": {"torchao": ["0.7.0"]}, "pythons": {"torchao": ">=3.9"}}, "pythons.torchao: expected a table"),
        (
            {"releases": {"torchao": ["0.7.0"]}, "pythons": {"torchao": {"0.8.0": ">=3.9"}}},
            "pythons.torchao: expected a table of a release",
        ),
        (
            {"releases": {"torchao": ["0.7.0"]}, "pythons": {"torchao": {"0.7.0": "3.9"}}},
            "pythons.torchao.0.7.0: expected a specifier",
        ),
        ({"torch_builds": {"2.11.0": "13.0"}}, "torch-builds.2.11.0: expected a table"),
        ({"torch_builds": {"2.11.0": {"cuda": "13.0"}}}, "torch-builds.2.11.0: architectures: missing"),
        (
            {"torch_builds": {"2.11.0": {"cuda": 13.0, "architectures": ["sm_80"]}}},
            "torch-builds.2.11.0: cuda: expected",
        ),
        (
            {"torch_builds": {"2.11.0": {"cuda": "x", "architectures": ["sm_80"]}}},
            "torch-builds.2.11.0: cuda: expected",
        ),
        ({"torch_builds": {"new": {"cuda": "13.0", "architectures": ["sm_80"]}}}, "torch-builds.new: expected"),
    ],
)
def test_bad_releases_are_refused(more: dict[str, Any], expected: str) -> None:
    assert refusal(**more).startswith(f"releases.toml: {expected}")


@pytest.mark.parametrize("rows", [{"id": "a/b"}, "a/b", ["a/b"], [[]]])
def test_rules_that_are_no_tables_are_refused(rows: Any) -> None:
    assert refused({"torch.toml": {"rule": rows}}).startswith("torch.toml: rule")


# All tables together


def test_an_unknown_prerequisite_is_refused() -> None:
    text = refusal({**VERSION, "after": ["torchao/nowhere"]})
    assert text == "torchao.toml: torchao/version: after: expected the id of an error rule, found 'torchao/nowhere'"


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_prerequisite_that_is_no_error_rule_is_refused(severity: str) -> None:
    text = refusal({**INSTALLED, "severity": severity}, VERSION)
    assert text.startswith("torchao.toml: torchao/version: after: expected the id of an error rule")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_rules_that_wait_for_one_another_are_refused(length: int) -> None:
    names = [f"torchao/rule-{number}" for number in range(length)]
    rows = [
        row(name, {"driver": "working"}, after=[after])
        for name, after in zip(names, [*names[1:], names[0]], strict=True)
    ]
    assert re.search(r"^torchao.toml: torchao/rule-\d: after: rules wait for one another in a circle$", refusal(*rows))


def test_a_long_chain_of_prerequisites_is_accepted() -> None:
    names = [f"torchao/rule-{number}" for number in range(50)]
    rows = [row(name, {"driver": "working"}, after=[after]) for after, name in itertools.pairwise(names)]
    check_tables(tables(row(names[0], {"driver": "working"}), *reversed(rows)))


def test_a_scheme_has_to_belong_to_one_of_the_backends_of_its_row() -> None:
    other = {**HEADER, "name": "quanto", "aliases": [], "schemes": {"int2": []}}
    shared = row("platform/it", {"driver": "working"}, when={"backend": ["torchao", "quanto"], "scheme": ["int2"]})
    check_tables({**tables(), "quanto.toml": {"backend": other}, "platform.toml": {"rule": [shared]}})
    only = changed(shared, "when.backend", ["torchao"])
    text = refused({**tables(), "quanto.toml": {"backend": other}, "platform.toml": {"rule": [only]}})
    assert text == "platform.toml: platform/it: when.scheme: torchao has no scheme 'int2'"


DISJOINT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"operation": ["load"]}, {"operation": ["save", "quantize"]}),
    ({"host": ["diffusers"]}, {"host": ["transformers", "none"]}),
    ({"device": ["cuda"]}, {"device": ["auto", "cpu"]}),
    ({"system": ["Linux"]}, {"system": ["Windows"]}),
    ({"accelerator": ["cuda", "rocm"]}, {"accelerator": ["xpu"]}),
    ({"scheme": ["int8"]}, {"scheme": ["int4", "fp8"]}),
    ({"scheme": ["int8"]}, {"not_scheme": ["int8", "fp8"]}),
    ({"not_scheme": ["int8", "fp8"]}, {"scheme": ["int8"]}),
    ({"release": {"diffusers": "<0.39.0"}}, {"release": {"diffusers": ">=0.39.0"}}),
    ({"release": {"diffusers": "<=0.38.0"}}, {"release": {"diffusers": ">0.38.0"}}),
    ({"release": {"diffusers": ">=0.30,<0.36"}}, {"release": {"diffusers": ">=0.36,<0.40"}}),
    ({"release": {"diffusers": "==0.38.0"}}, {"release": {"diffusers": ">0.38.0"}}),
    ({"release": {"diffusers": "<0.39", "torch": ">=2.6"}}, {"release": {"diffusers": ">=0.39", "torch": ">=2.6"}}),
    ({"operation": ["load"], "host": ["diffusers"]}, {"operation": ["load"], "host": ["none"]}),
]

OVERLAPPING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"operation": ["load"]}),
    ({"operation": ["load", "save"]}, {"operation": ["save", "quantize"]}),
    ({"operation": ["load"]}, {"host": ["diffusers"]}),
    ({"scheme": ["int8"]}, {}),
    ({"scheme": ["int8", "int4"]}, {"not_scheme": ["int8"]}),
    ({"not_scheme": ["int8"]}, {"not_scheme": ["int4"]}),
    ({"scheme": ["int8"]}, {"scheme": ["int4", "int8"]}),
    ({"release": {"diffusers": "<=0.39.0"}}, {"release": {"diffusers": ">=0.39.0"}}),
    ({"release": {"diffusers": "<0.39.0"}}, {"release": {"torch": ">=2.6"}}),
    ({"release": {"diffusers": "!=0.39.0"}}, {"release": {"diffusers": "!=0.38.0"}}),
    ({"release": {"diffusers": ">=0.30,<0.37"}}, {"release": {"diffusers": ">=0.36,<0.40"}}),
    ({"release": {"Diffusers": ">=0.39.0"}}, {"release": {"diffusers": ">=0.39.0"}}),
    ({"device": ["cuda"]}, {"device": ["cuda"], "system": ["Linux"]}),
    ({"accelerator": ["cuda"]}, {"variable": {"X": ["1"]}}),
]


@pytest.mark.parametrize(("one", "other"), DISJOINT)
def test_rows_of_one_id_that_cannot_both_apply_are_accepted(one: dict[str, Any], other: dict[str, Any]) -> None:
    check_tables(tables({**INSTALLED, "when": one}, {**INSTALLED, "when": other}))


@pytest.mark.parametrize(("one", "other"), OVERLAPPING)
def test_rows_of_one_id_that_can_both_apply_are_refused(one: dict[str, Any], other: dict[str, Any]) -> None:
    text = refusal({**INSTALLED, "when": one}, {**INSTALLED, "when": other})
    assert text.startswith("torchao.toml: torchao/installed: when: expected rows that do not overlap")


def test_rows_of_one_id_for_different_backends_are_accepted() -> None:
    other = {**HEADER, "name": "quanto", "aliases": []}
    rows = [row("platform/it", {"driver": "working"}, when={"backend": [name]}) for name in ("torchao", "quanto")]
    made = {**tables(), "quanto.toml": {"backend": other}, "platform.toml": {"rule": rows}}
    check_tables(made)
    rows.append(row("platform/it", {"driver": "working"}))
    assert refused(made).startswith("platform.toml: platform/it: when: expected rows that do not overlap")


def some_of(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...] | None]:
    return st.none() | st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


VERSIONS = ("0.9", "1.0.dev1", "1.0rc1", "1.0", "1.0+local", "1.0.post1", "1.1.dev1", "1.1", "2")
BOUNDS = st.tuples(st.sampled_from([">=", ">", "<=", "<", "==", "!="]), st.sampled_from(("1.0", "1.1", "2"))).map(
    "".join
)
RANGES = st.lists(BOUNDS, min_size=1, max_size=2).map(",".join)
SCHEMES = ("int8", "int4", "fp8")
WHENS = st.builds(
    When,
    scheme=some_of(SCHEMES),
    not_scheme=st.none(),
    operation=some_of(OPERATIONS),
    host=some_of(WHEN_HOSTS),
    device=some_of(DEVICES),
    release=st.none().map(lambda _: ()) | RANGES.map(lambda text: (("diffusers", parse_clauses(text)),)),
    system=some_of(SYSTEMS),
) | st.builds(When, not_scheme=some_of(SCHEMES), host=some_of(WHEN_HOSTS))


def requests(one: When) -> Iterator[tuple[Any, ...]]:
    """Every request and machine to which a row applies; a release of diffusers stands for the machine."""
    from envguard.versions import satisfies

    ranges = dict(one.release)
    for scheme in (None, *SCHEMES):
        if (one.scheme is not None and scheme not in one.scheme) or (
            one.not_scheme is not None and scheme in one.not_scheme
        ):
            continue
        for version in VERSIONS:
            if "diffusers" in ranges and not satisfies(version, ranges["diffusers"], "version"):
                continue
            for rest in itertools.product(
                one.operation or OPERATIONS, one.host or WHEN_HOSTS, one.device or DEVICES, one.system or SYSTEMS
            ):
                yield (scheme, version, *rest)


@given(WHENS, WHENS)
def test_rows_that_apply_to_one_request_are_never_called_disjoint(one: When, other: When) -> None:
    rules = [_rule(when) for when in (one, other)]
    if not overlap(*rules):
        assert not set(requests(one)) & set(requests(other))
    assert overlap(*rules) == overlap(*reversed(rules))


def _rule(when: When) -> Any:
    from envguard.frozen import replace

    return replace(RuleBook(tables(INSTALLED)).rows()[0], when=when)


# Files


def write(folder: Path, text: str | bytes, name: str = "torchao.toml") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


RULE = """
[[rule]]
id = "torch/installed"
need = { distribution = "torch" }
severity = "error"
kind = "absent"
why = "Every backend works on torch tensors."
fix = { torch = "accelerator" }
origin = "baseline"
source = "torch 2.11.0"
checked = 2026-11-22
"""


@pytest.mark.parametrize(
    "text",
    [
        "[[rule]",
        "id = ",
        "a = 1\na = 2",
        "a = " + "[" * 5000,
        "a = " + "9" * 5000,
        "checked = 2026-13-45",
        b'why = "caf\xe9"',
        b"\xff\xfe",
        b'a = "\x00"',
    ],
    ids=["bracket", "no-value", "twice", "deep", "huge-number", "no-date", "latin-1", "utf-16", "nul"],
)
def test_what_is_no_toml_is_refused_with_its_file(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(BadRules) as caught:
        read_folder(str(write(tmp_path, text)))
    assert str(caught.value).startswith("torchao.toml: not TOML: ")
    assert str(caught.value).isprintable()


def test_a_folder_that_is_not_there_or_no_folder_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", write(tmp_path, RULE) / "torchao.toml"):
        with pytest.raises(BadRules, match=f"^{re.escape(str(path))}: cannot be read as a rules folder: "):
            read_folder(str(path))


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="only as an ordinary user: root may read all",
)
def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        with pytest.raises(BadRules, match="cannot be read as a rules folder: Permission denied"):
            read_folder(str(tmp_path))
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "torch.toml").mkdir()
    with pytest.raises(BadRules, match=r"torch\.toml: cannot be read: "):
        read_folder(str(tmp_path))


def test_files_that_are_no_toml_by_name_are_not_rules(tmp_path: Path) -> None:
    write(tmp_path, "not toml at all", "README.md")
    assert list(read_folder(str(write(tmp_path, RULE)))) == ["torchao.toml"]


def test_nothing_in_a_rules_file_is_executed(tmp_path: Path) -> None:
    rule = RULE.replace(
        "Every backend works on torch tensors.", "{__import__('os').mkdir('ran')} %(x)s $(touch ran) `x`"
    )
    source = compiled_source(str(write(tmp_path, rule)))
    before = sorted(os.listdir())
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    assert sorted(os.listdir()) == before
    assert namespace["TABLES"]["torchao.toml"]["rule"][0]["why"].startswith("{__import__(")


# The compiled form


def module(source: str, folder: Path) -> Any:
    """The compiled rules as the interpreter imports them."""
    path = folder / f"_compiled_{len(list(folder.iterdir()))}.py"  # each its own: bytecode is found by name and second
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("compiled_rules", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_compiled_rules_are_those_of_the_toml(tmp_path: Path) -> None:
    folder = rules_folder()
    compiled, read = RuleBook(module(compiled_source(folder), tmp_path).TABLES), RuleBook(read_folder(folder))
    assert compiled.rows() == read.rows()
    assert list(compiled.backends) == list(read.backends)
    for backend in read.backends:
        assert compiled.backends[backend] == read.backends[backend]
        assert compiled.rules(backend) == read.rules(backend)
    assert compiled.torch_builds == read.torch_builds
    assert compiled.oldest_drivers == read.oldest_drivers
    assert compiled.version == read.version
    assert all(compiled.releases(name) == read.releases(name) for name in ("torch", "torchao", "diffusers"))


def test_compiled_rules_of_another_state_of_the_folder_are_known_by_their_stamps(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    first = module(compiled_source(str(write(folder, RULE))), tmp_path).STAMPS
    second = module(compiled_source(str(write(folder, RULE + "# checked again"))), tmp_path).STAMPS
    assert first != second


def test_the_compiled_rules_are_refused_where_the_toml_is(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match="severity"):
        compiled_source(str(write(tmp_path, RULE.replace('"error"', '"fatal"'))))


# The loader and schema.json

SCHEMA = jsonschema.Draft202012Validator(
    json.loads(Path(rules_folder(), "schema.json").read_text("utf-8")), format_checker=jsonschema.FormatChecker()
)

ONLY_THE_LOADER = (
    r"after: expected the id of an error rule",
    r"after: rules wait for one another",
    r"do not overlap",
    r"has no scheme",
    r"when\.backend: expected a list of",
    r"need\.(owner|loaded|without|native): expected one of",
    r"when\.host: expected exactly one host",
    r"(fact|comparison): expected ",
    r"backend\.name: expected a name of its own",
    r"expected versions in order",
    r"need\.distribution: expected comparisons by",
    r"need\.any_of: expected a list of requirements",
    r"need\.memory: expected a number of bytes, found \d+\.0",  # to JSON Schema 1.0 is an integer
    r"found '\s+'",  # blank text
    # the schema knows the form of a version or a requirement, the loader PEP 440 itself
    r"expected (a list requirements|a requirement|versions such as|distribution = version range|a table of CUDA)",
)
"""Refusals for what a schema of one file cannot say: what other rows and files hold, what two keys mean together."""

VALUES: list[Any] = [
    "",
    "x",
    "torchao",
    "torchao>=0.15.0",
    ">=0.38.0",
    "8.9",
    "525.60.13",
    "a/b",
    "torchao/installed",
    "working",
    "device",
    "accelerator",
    "gil",
    "ninja",
    "cuda",
    0,
    1,
    -1,
    1.5,
    True,
    datetime.date(2026, 1, 2),
    [],
    [1],
    ["x"],
    ["x", "x"],
    ["cuda"],
    ["Linux"],
    ["load", "load"],
    ["torchao/installed"],
    ["torchao>=0.15.0"],
    [[]],
    {},
    {"x": "y"},
    {"x": 1},
    {"12": "525.60.13"},
    {"name": "X", "not": ["0"]},
    {"diffusers": ">=0.38.0"},
]
STRINGS = st.sampled_from(
    [
        "é",
        "a b",
        "A/B",
        "1/2",
        "٣.١",
        "torch >= 1",
        "torch[hf]",
        ">= 1",
        ">=1,",
        ",>=1",
        ">=1 ,<2",
        "torch(>=1)",
        "9" * 30,
    ]
)
SEED_WHEN = {
    "device": ["cuda"],
    "release": {"diffusers": ">=0.38.0"},
    "accelerator": ["cuda"],
    "variable": {"X": ["1"]},
}
SEEDS: list[dict[str, Any]] = [
    row("torchao/it", {name: value}, when=SEED_WHEN) for name, (good, _) in NEEDS.items() for value in good
]


def instance(table: Any) -> Any:
    """A table as an editor gives it to the schema: a TOML date is a string of format date."""
    made = deepcopy(table)
    rules = made.get("rule")
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict) and type(rule.get("checked")) is datetime.date:
            rule["checked"] = rule["checked"].isoformat()
    return made


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid file with one or two things changed, left out or added."""
    whole = deepcopy(tables(INSTALLED, draw(st.sampled_from(SEEDS)))["torchao.toml"])
    for _ in range(draw(st.integers(1, 2))):
        paths = list(pointers(whole))
        *steps, last = draw(st.sampled_from(paths))
        holder: Any = whole
        for step in steps:
            holder = holder[step]
        match draw(st.sampled_from(["change", "change", "text", "remove", "add"])):
            case "change":
                holder[last] = deepcopy(draw(st.sampled_from(VALUES)))
            case "text":
                holder[last] = draw(STRINGS)
            case "remove":
                del holder[last]
            case _:
                holder[draw(st.sampled_from(["surprise", "scheme", "after", "fact", "text", "not_scheme"]))] = deepcopy(
                    draw(st.sampled_from(VALUES))
                )
    return whole


def agree(table: dict[str, Any]) -> None:
    by_schema = next((error.message for error in SCHEMA.iter_errors(instance(table))), None)
    refused = None
    try:
        check_tables({"torchao.toml": table})
    except BadRules as error:
        refused = str(error)
    if refused is None or by_schema is not None:
        assert (refused is None) is (by_schema is None), refused or by_schema
    else:
        assert any(re.search(told, refused) for told in ONLY_THE_LOADER), refused


@given(mutated())
@example(tables(INSTALLED, VERSION)["torchao.toml"])
def test_the_loader_and_the_schema_agree(table: dict[str, Any]) -> None:
    agree(table)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, bad) in NEEDS.items() for value in bad])
def test_the_loader_and_the_schema_agree_on_bad_needs(name: str, value: Any) -> None:
    agree(tables(row("torchao/it", {name: value}))["torchao.toml"])


def test_the_schema_takes_every_shipped_file() -> None:
    for table in read_folder(rules_folder()).values():
        SCHEMA.validate(instance(table))


def test_a_variable_may_be_wanted_with_a_value_or_without_one() -> None:
    made = RuleBook(tables(row("torchao/it", {"variable": {"name": "X", "value": ["1"]}}))).rows()[0].need
    assert made == VariableNeed("X", ("1",), ())
