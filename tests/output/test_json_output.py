"""Reports as JSON: the published schema holds, nothing is lost, and remembering changes nothing."""

from __future__ import annotations

import json as stdlib_json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from output_samples import ALL_OK, DEGRADED, SAMPLES, backend, outcome, report, skipped
from output_strategies import REPORTS, TEXTS

from envguard._version import __version__
from envguard.model import BackendReport, Fix, Outcome, Plan, Report, Request
from envguard.output import json

SCHEMA = stdlib_json.loads((Path(__file__).parents[1] / "schemas" / "report-1.schema.json").read_text("utf-8"))
FIELDS = ["rule", "status", "severity", "kind", "origin", "message", "needed", "found", "why", "fix", "source"]


def _record(value: Any) -> Any:
    """A frozen record as the JSON value that it should become."""
    if isinstance(value, (Fix, Plan)) or type(value).__name__ == "Device":
        return {name: _record(getattr(value, name)) for name in value.__match_args__}
    if isinstance(value, tuple):
        return [_record(each) for each in value]
    if isinstance(value, str):  # a lone surrogate is no Unicode text: strict readers refuse it
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def _outcome(outcome: Outcome) -> dict[str, Any]:
    fields = {name: _record(getattr(outcome, name)) for name in FIELDS}
    if outcome.because is not None:
        fields["because"] = _record(outcome.because)
    if outcome.ignored:
        fields["ignored"] = True
    return fields


def _backend(backend: BackendReport) -> dict[str, Any]:
    request = ("backend", "scheme", "operation", "host", "device")
    fields: dict[str, Any] = {name: _record(getattr(backend.request, name)) for name in request}
    fields |= {name: _record(getattr(backend, name)) for name in ("version", "verdict", "resolved_device", "plan")}
    if backend.schemes is not None:
        fields["schemes"] = {_record(scheme): verdict for scheme, verdict in backend.schemes.items()}
    return {**fields, "outcomes": [_outcome(outcome) for outcome in backend.outcomes]}


def as_json(report: Report) -> dict[str, Any]:
    opt_out = {} if report.undecided == "block" else {"undecided": report.undecided}
    return {
        "schema": "envguard.report/1",
        "envguard": __version__,
        **{name: _record(getattr(report, name)) for name in ("rules", "subject", "interpreter", "taken_at", "verdict")},
        **opt_out,
        "backends": [_backend(backend) for backend in report.backends],
    }


@given(REPORTS)
def test_a_report_parses_back_whatever_its_strings_hold(report: Report) -> None:
    line = json.render(report)
    assert stdlib_json.loads(line) == as_json(report)
    assert line.isascii()
    assert line.isprintable()
    line.encode("utf-8")


@given(REPORTS)
def test_remembering_changes_nothing(report: Report) -> None:
    assert json.report_line(report) == json.render(report)
    assert json.report_line(report) == json.render(report)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "hostile"])  # its names break the id's pattern
def test_a_report_is_valid_by_the_published_schema(name: str) -> None:
    jsonschema.validate(stdlib_json.loads(json.render(SAMPLES[name].report)), SCHEMA)


@pytest.mark.parametrize("status", ["met", "unmet", "undecided"])
def test_an_outcome_always_carries_its_fields_in_their_order(status: str) -> None:
    bare = Outcome("a/b", status, "error", "version", "table", "text")  # type: ignore[arg-type]
    line = json.render(report(backend(Request("gguf"), None, "ok", bare)))
    assert list(stdlib_json.loads(line)["backends"][0]["outcomes"][0]) == FIELDS


def test_a_skipped_outcome_says_behind_which_rule() -> None:
    line = json.render(report(backend(Request("gguf"), None, "ok", skipped("a/b", "c/d"))))
    assert stdlib_json.loads(line)["backends"][0]["outcomes"][0]["because"] == "c/d"


def test_an_ignored_outcome_says_so_and_no_other_does() -> None:
    both = outcome("a/b", "n", "f", ignored=True), outcome("a/c", "n", "f")
    outcomes = stdlib_json.loads(json.render(report(backend(Request("gguf"), None, "ok", *both))))["backends"][0][
        "outcomes"
    ]
    assert [each.get("ignored") for each in outcomes] == [True, None]


def test_schemes_are_left_out_where_one_was_asked() -> None:
    asked = report(backend(Request("torchao", "int8_weight_only"), None, "ok", outcome("a/b", "n", "f", "met")))
    assert "schemes" not in stdlib_json.loads(json.render(asked))["backends"][0]
    assert stdlib_json.loads(json.render(DEGRADED))["backends"][0]["schemes"]["uint1_weight_only"] == "blocked"


def test_half_a_surrogate_pair_becomes_the_replacement_character_and_a_whole_one_stays() -> None:
    line = json.render(report(subject="a\udcff \U0001f600 C:\\udata"))
    assert stdlib_json.loads(line)["subject"] == "a\ufffd \U0001f600 C:\\udata"


def test_an_outcome_is_encoded_once_however_many_reports_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = json._outcome

    def counted(outcome: Outcome) -> str:
        encoded.append(outcome.rule)
        return encode(outcome)

    monkeypatch.setattr(json, "_outcome", counted)
    shared = outcome("shared/rule", "n", "f")
    lines = {
        json.report_line(report(backend(Request("gguf"), None, "ok", shared, outcome("own/rule", "n", str(number)))))
        for number in range(3)
    }
    assert len(lines) == 3
    assert encoded.count("shared/rule") == 1


def test_memory_stays_bounded_over_many_reports_and_long_strings() -> None:
    for number in range(2 * json._MOST_FRAGMENTS):
        many = outcome(f"a/rule-{number}", f"needs {number}", "f", source=str(number))
        json.report_line(report(backend(Request("gguf"), None, "ok", many, schemes={str(number): "ok"})))
        if number % 2:
            json.report_line(report(backend(Request("gguf"), None, "ok", many)))
    kept = json._fragments, json._new_fragments, json._halves, json._texts, json._verdicts
    assert json._fragments
    assert all(len(memory) <= json._MOST_FRAGMENTS for memory in kept)
    long = outcome("a/long", "n" * 1_000_000, "f")
    json.report_line(report(backend(Request("gguf"), None, "ok", long)))
    assert id(long) not in json._fragments
    assert "n" * 1_000_000 not in json._texts


@given(TEXTS)
def test_an_error_record_stands_in_for_a_bad_line(text: str) -> None:
    line = json.error_record(17, text)
    assert stdlib_json.loads(line) == {"schema": "envguard.error/1", "line": 17, "error": _record(text)}
    assert line.isprintable()


def test_a_report_gives_its_own_json() -> None:
    assert ALL_OK.to_json() == json.render(ALL_OK)
