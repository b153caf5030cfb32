"""A report as JUnit XML: a test suite for each backend of each subject, a test case for each rule.

A case fails where its outcome makes the command line fail: unmet is a failure, undecided an error. What does not
decide (a warning, a rule behind another one) is skipped with its reason, so that a report is green where the exit
status is 0. The order of the elements is that of the schema that Jenkins publishes.
"""

from __future__ import annotations

from envguard.output.findings import spec_of
from envguard.output.layout import prose, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envguard.model import BackendReport, Outcome, Report
    from envguard.output.findings import Deciding, Judged

_ELEMENTS = {"error": "failure", "undecided": "error", "warning": "skipped", "note": "skipped"}
_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"))


class _Suite:
    """The cases of a suite, and how many of them are what."""

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.properties: list[tuple[str, str]] = []
        self.cases: list[str] = []
        self.counts = dict.fromkeys(("failure", "error", "skipped"), 0)

    def add(self, name: str, element: str | None = None, *, kind: str = "", message: str = "", text: str = "") -> None:
        """A case; without an element it passes, and `text` is what it prints."""
        suite = self.name.replace(".", "_")  # a dot would begin another package
        start = f'    <testcase classname="{_xml(f"envguard.{suite}")}" name="{_xml(name)}" time="0"'
        if element is not None:
            self.counts[element] += 1
            inside = f'<{element} type="{_xml(kind)}" message="{_xml(message)}">{_body(text)}</{element}>'
        else:
            inside = f"<system-out>{_body(text)}</system-out>" if text else ""
        self.cases.append(f"{start}>{inside}</testcase>" if inside else f"{start}/>")

    def lines(self) -> Iterator[str]:
        """The suite as XML."""
        given = "".join([f' {name}="{_xml(value)}"' for name, value in self.attributes.items()])
        counts = f'{_counts([self])} skipped="{self.counts["skipped"]}"'
        yield f'  <testsuite name="{_xml(self.name)}" {counts}{given} time="0">'
        if self.properties:
            yield "    <properties>"
            yield from [
                f'      <property name="{_xml(name)}" value="{_xml(value)}"/>' for name, value in self.properties
            ]
            yield "    </properties>"
        yield from self.cases
        yield "  </testsuite>"


def render(judged: Sequence[Judged], deciding: Deciding) -> str:
    """One XML document, without a last line end."""
    suites = [suite for each in judged for suite in _suites(each, deciding, len(judged) > 1)]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<testsuites name="envguard" {_counts(suites)} time="0">',
            *[line for suite in suites for line in suite.lines()],
            "</testsuites>",
        ]
    )


def _xml(text: str) -> str:
    """Escaped for an attribute or an element, on one line.

    What XML 1.0 cannot hold at all does not show itself either, so `visible` makes an escape of it.
    """
    text = visible(text)
    for sign, escape in _ESCAPES:
        text = text.replace(sign, escape)
    return text


def _body(text: str) -> str:
    """Escaped for an element, each line by itself."""
    return "\n".join(map(_xml, text.split("\n")))


def _counts(suites: Sequence[_Suite]) -> str:
    failures, errors = (sum(suite.counts[name] for suite in suites) for name in ("failure", "error"))
    return f'tests="{sum(len(suite.cases) for suite in suites)}" failures="{failures}" errors="{errors}"'


def _suites(judged: Judged, deciding: Deciding, several: bool) -> Iterator[_Suite]:
    before = f"{judged.title}: " if several else ""
    if judged.report is None:
        suite = _Suite(f"{before}input", {})
        suite.add("can be judged", "error", kind="input", message=judged.error or "", text=judged.error or "")
        yield suite
        return
    for backend in judged.report.backends:
        suite = _Suite(f"{before}{spec_of(backend.request)}", _when(judged.report))
        suite.properties = [*_properties(judged.report, backend), *judged.facts]
        for outcome in backend.outcomes:
            _case(suite, outcome, deciding)
        if not backend.outcomes:
            element = "error" if deciding.fails(backend.verdict) else "skipped"
            suite.add("any rule", element, kind=backend.verdict, message="no rule said anything about it")
        yield suite


def _case(suite: _Suite, outcome: Outcome, deciding: Deciding) -> None:
    level = deciding.level(outcome)
    if level is not None:
        word = f"{level}, ignored" if outcome.ignored else level
        suite.add(
            outcome.rule,
            _ELEMENTS[level],
            kind=f"{word}: {outcome.kind}",
            message=outcome.message,
            text="\n".join(_told(outcome)),
        )
    elif outcome.status in ("skipped", "undecided"):
        suite.add(outcome.rule, "skipped", kind=outcome.status, message=outcome.message)
    else:
        suite.add(outcome.rule, text=outcome.message)


def _told(outcome: Outcome) -> Iterator[str]:
    if outcome.needed is not None:
        yield f"needed: {visible(outcome.needed)}"
    if outcome.found is not None:
        yield f"{'unknown' if outcome.status == 'undecided' else 'found'}: {visible(outcome.found)}"
    if outcome.why:
        yield f"why: {prose(outcome.why)}"
    if outcome.fix is not None:
        if outcome.fix.text:
            yield f"fix: {prose(outcome.fix.text)}"
        yield from [visible(line) for line in outcome.fix.commands]
    yield f"source: {visible(outcome.source or outcome.origin)}"


def _properties(report: Report, backend: BackendReport) -> list[tuple[str, str]]:
    request = backend.request
    made = {
        "subject": report.subject,
        "interpreter": report.interpreter,
        "rules": report.rules,
        "operation": request.operation,
        "host": request.host,
        "device": request.device,
        "version": backend.version,
        "verdict": backend.verdict,
        "not_asked": ", ".join(report.not_asked) or None,
    }
    return [(name, value) for name, value in made.items() if value is not None]


def _when(report: Report) -> dict[str, str]:
    """When it was looked at, where that is a time as JUnit writes it: without a zone."""
    from datetime import datetime, timezone

    try:
        taken = datetime.strptime(report.taken_at or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return {}
    return {"timestamp": taken.strftime("%Y-%m-%dT%H:%M:%S")}
