"""The pages of rules/reference/ say what the rules say, and link to one another."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project_files import ROOT

from envguard.output.explain import explain
from envguard.rulebook import RuleBook
from envguard.rulefiles import read_folder


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("maintain_reference", ROOT / "tests" / "maintain" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


reference = script()
BOOK = RuleBook(read_folder(str(ROOT / "rules")))
PAGES: dict[str, str] = reference.pages(BOOK)


def test_the_pages_are_those_that_the_rules_give() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "rules" / "reference").glob("*.md")}
    stale = sorted(name for name in {*PAGES, *there} if PAGES.get(name) != there.get(name))
    assert not stale, f"run python tests/maintain/reference.py: {', '.join(stale)}"


def test_every_backend_has_a_page_and_every_rule_a_heading() -> None:
    assert {f"{name}.md" for name in BOOK.backends} < set(PAGES)
    headings = [line for page in PAGES.values() for line in page.splitlines() if line.startswith("## ")]
    for name in BOOK.ids():
        assert headings.count(f"## {reference.escaped(name)}") == 1, name


def test_every_link_leads_to_a_heading() -> None:
    anchors = {
        name: {reference.anchor(line[3:].replace("\\", "")) for line in page.splitlines() if line.startswith("## ")}
        for name, page in PAGES.items()
    }
    for page in PAGES.values():
        for target, fragment in re.findall(r"\]\(([\w.-]+\.md)#([^)]+)\)", page):
            assert fragment in anchors[target], (target, fragment)


@pytest.mark.parametrize("rule", [BOOK.ids()[0], "torch/driver", "diffusers/torchao-version"])
def test_a_page_says_what_explain_prints(rule: str) -> None:
    said = " ".join(explain(BOOK.rows(rule), releases=BOOK.releases).split())
    page = "\n".join(PAGES.values()).split(f"## {reference.escaped(rule)}\n")[1].split("\n## ")[0]
    for line in page.splitlines():
        if line.startswith("- **Why"):
            text = re.sub(r"\\(.)", r"\1", line.partition("**: ")[2])
            assert text.replace(" ", "") in said.replace(" ", "")


@given(st.text())
def test_no_text_of_a_rule_breaks_its_line_or_opens_a_tag(text: str) -> None:
    shown = reference.escaped(text)
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(\\\\)*[<|`*]", shown)
