"""A report as GitHub's Markdown, for job summaries and comments: a table of the backends, then what fails.

What others wrote stands in code spans where it is a fact, and has its punctuation escaped where it is a sentence:
neither markup nor HTML of theirs comes through.
"""

from __future__ import annotations

from envguard.output.findings import findings, headline, plans, spec_of
from envguard.output.layout import prose, visible
from envguard.output.text import MARKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envguard.model import BackendReport
    from envguard.output.findings import Deciding, Finding, Judged

_PUNCTUATION = frozenset("\\`*_{}[]<#|~&$")


def render(judged: Sequence[Judged], deciding: Deciding, rules: str) -> str:
    """One document, without a last line end."""
    return "\n".join(_lines(judged, deciding, rules))


def sentence(text: str) -> str:
    """Words made safe after other words: each punctuation mark that could be markup there is escaped."""
    return _escaped(prose(text))


def _escaped(shown: str) -> str:
    escaped = "".join([f"\\{sign}" if sign in _PUNCTUATION else sign for sign in shown])
    # A colon before anything but a space may be that of a URL or of an emoji.
    return escaped.replace(":", "\\:").replace("\\: ", ": ")


def cell(text: str) -> str:
    """A fact in a table: a code span, but with a pipe in it words.

    Whether a backslash in a code span keeps the pipe after it from ending the cell, parsers do not agree.
    """
    return _escaped(visible(text)) if "|" in text else code(text)


def code(text: str) -> str:
    """A code span that holds the text, whatever backticks are in it."""
    shown = visible(text) or " "
    longest = run = 0
    for sign in shown:
        run = run + 1 if sign == "`" else 0
        longest = max(longest, run)
    fence = "`" * (longest + 1)
    room = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{room}{shown}{room}{fence}"


def _lines(judged: Sequence[Judged], deciding: Deciding, rules: str) -> Iterator[str]:
    yield f"## envguard: {headline(judged, deciding)}"
    for each in judged:
        yield ""
        yield from _subject(each)
    for finding in findings(judged, deciding):
        yield ""
        yield from _told(finding, len(judged) > 1)
    for spec, plan in plans(judged):
        but = f", all but {', '.join(map(code, plan.unsolved))}" if plan.unsolved else ""
        yield ""
        yield f"To mend {code(spec)}{but}: {', '.join(map(code, plan.commands))}"
    yield ""
    yield f"Rules of {sentence(rules)}."


def _subject(judged: Judged) -> Iterator[str]:
    if judged.report is None:
        yield f"{code(judged.title)} cannot be judged: {sentence(judged.error or '')}"
        return
    yield f"- Looked at: {code(judged.title)}"
    for label, text in judged.facts:
        # at the start of an item a sign or a number would begin another block
        yield f"- {sentence(label) if label[:1].isalpha() else code(label)}: {sentence(text)}"
    yield ""
    yield "| | backend | version | verdict | for | cause |"
    yield "|---|---|---|---|---|---|"
    for backend in judged.report.backends:
        yield _row(backend)


def _row(backend: BackendReport) -> str:
    request = backend.request
    host = "no host library" if request.host == "none" else request.host
    asked = f"{request.operation}, {host}, {cell(request.device)}"
    version = cell(backend.version) if backend.version else ""
    causes = [each.message for each in backend.outcomes if _makes(each.status, each.severity)]
    more = f" (+{len(causes) - 1})" if len(causes) > 1 else ""
    cause = cell(causes[0]) + more if causes and backend.verdict != "ok" else ""
    spec = cell(spec_of(request))
    return f"| {MARKS[backend.verdict]} | {spec} | {version} | {backend.verdict} | {asked} | {cause} |"


def _makes(status: str, severity: str) -> bool:
    return (status == "unmet" and severity != "info") or (status, severity) == ("undecided", "error")


def _told(finding: Finding, several: bool) -> Iterator[str]:
    outcome = finding.outcome
    yield f"### {finding.word}: {', '.join(map(code, finding.rules))}"
    yield ""
    if several:
        yield f"- In: {code(finding.judged.title)}"
    yield f"- For: {', '.join(map(code, finding.specs))}"
    if outcome.needed is None or outcome.found is None:
        yield f"- Says: {sentence(outcome.message)}"
    if outcome.needed is not None:
        yield f"- Needed: {code(outcome.needed)}"
    if outcome.found is not None:
        yield f"- {'Unknown' if outcome.status == 'undecided' else 'Found'}: {code(outcome.found)}"
    for why in finding.whys:
        yield f"- Why: {sentence(why)}"
    for fix in finding.fixes:
        if fix.text:
            yield f"- Fix: {sentence(fix.text)}"
        for line in fix.commands:
            yield f"- {'Run' if fix.text else 'Fix: run'}: {code(line)}"
    for source in finding.sources:
        yield f"- Source: {code(source)}"
    if outcome.ignored:
        yield "- Ignored, as configured: still not met, but it does not block"
