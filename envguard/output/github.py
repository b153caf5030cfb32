"""A report as workflow commands of GitHub Actions: annotations on the run, and on the lines that name the packages.

GitHub shows ten annotations of each kind in a step, so one that sums all up comes first and the worst ones follow.
"""

from __future__ import annotations

from envguard.output.findings import all_backends, findings, headline, plans
from envguard.output.layout import prose, visible
from envguard.output.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envguard.model import Fix
    from envguard.output.findings import Anchor, Deciding, Finding, Judged, Places

_COMMANDS = {"error": "error", "undecided": "error", "warning": "warning", "note": "notice"}


def render(judged: Sequence[Judged], deciding: Deciding, places: Places) -> str:
    """One workflow command a line, without a last line end."""
    return "\n".join(_lines(judged, deciding, places))


def command(kind: str, message: str, title: str, anchor: Anchor | None = None) -> str:
    """A workflow command; the message keeps its line ends, and nothing in any text can begin another command."""
    properties = {"title": visible(title)}
    if anchor is not None:
        properties = {"file": visible(anchor.path), "line": str(anchor.line), **properties}
    said = ",".join([f"{name}={_property(value)}" for name, value in properties.items()])
    return f"::{kind} {said}::{_data(chr(10).join(map(visible, message.split(chr(10)))))}"


def _data(text: str) -> str:
    """Escaped as the runner unescapes what stands after the second `::`."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escaped as the runner unescapes the value of a property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _lines(judged: Sequence[Judged], deciding: Deciding, places: Places) -> Iterator[str]:
    yield _summary(judged, deciding)
    for each in judged:
        if each.report is None:
            yield command("error", each.error or "", f"envguard: {each.title} cannot be judged")
    for finding in findings(judged, deciding):
        title = f"{finding.word}: {', '.join(finding.rules)}"
        yield command(_COMMANDS[finding.level], "\n".join(_told(finding, len(judged) > 1)), title, places(finding))


def _summary(judged: Sequence[Judged], deciding: Deciding) -> str:
    refused = any(each.report is None for each in judged)
    backends = [backend for _, backend in all_backends(judged)]
    failed = refused or any(deciding.fails(backend.verdict) for backend in backends)
    degraded = deciding.asked and any(backend.verdict == "degraded" for backend in backends)
    lines: list[str] = []
    for each in judged:
        lines += [_about(each)] if len(judged) > 1 or each.report is None else []
        lines += [one_line(backend) for backend in each.report.backends] if each.report is not None else []
        lines += [f"{label}: {prose(text)}" for label, text in each.facts]
    lines += [f"To mend {visible(spec)}: {visible(' && '.join(plan.commands))}" for spec, plan in plans(judged)]
    kind = "error" if failed else "warning" if degraded else "notice"
    return command(kind, "\n".join(lines), f"envguard: {headline(judged, deciding)}")


def _about(judged: Judged) -> str:
    return f"{visible(judged.title)}: {'cannot be judged' if judged.report is None else judged.report.verdict}"


def _told(finding: Finding, several: bool) -> Iterator[str]:
    yield visible(f"{', '.join(finding.specs)}: {finding.said()}")
    if several:
        yield visible(f"In: {finding.judged.title}")
    for why in finding.whys:
        yield f"Why: {prose(why)}"
    for fix in finding.fixes:
        yield from _fix(fix)
    for source in finding.sources:
        yield f"Source: {visible(source)}"


def _fix(fix: Fix) -> Iterator[str]:
    if fix.text:
        yield f"Fix: {prose(fix.text)}"
    for line in fix.commands:
        yield f"{'' if fix.text else 'Fix: '}{visible(line)}"
