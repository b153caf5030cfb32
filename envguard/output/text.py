"""A report for people: what was looked at, a line a backend, then what fails and how to mend it.

Plain and greppable unless a terminal shows it. On the way of every check, so nothing slow is imported; `rich` is, where
a terminal is to be coloured.
"""

from __future__ import annotations

import os

from envguard.model import VERDICTS
from envguard.output.layout import PLAIN_WIDTH, UNDER_LABEL, can_show, clip, columns, make_page, pad, plain, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import IO, TextIO

    from envguard.model import BackendReport, Device, Fix, Outcome, Report, Request
    from envguard.output.layout import Line, Page

MARKS = {"ok": "✓", "degraded": "!", "undecided": "?", "blocked": "✗"}
ASCII_MARKS = {**MARKS, "ok": "+", "blocked": "x"}
_COLOURS = {"ok": "green", "degraded": "yellow", "undecided": "magenta", "blocked": "red"}
_STYLES = {
    **_COLOURS,
    **{f"{verdict} strong": f"bold {colour}" for verdict, colour in _COLOURS.items()},
    "strong": "bold",
    "faint": "dim",
    "command": "bold cyan",
    "": "",
}

# What is told, from the worst on: (status, severity) -> its place, its word and the verdict whose colour it has.
_TOLD = {
    ("unmet", "error"): (0, "error", "blocked"),
    ("undecided", "error"): (1, "undecided", "undecided"),
    ("unmet", "warning"): (2, "warning", "degraded"),
    ("unmet", "info"): (3, "note", "faint"),
}


def render(
    report: Report,
    *,
    color: bool = False,
    width: int = PLAIN_WIDTH,
    unicode: bool = True,
    survey: bool = False,
    encoding: str | None = None,
) -> str:
    """The report as text without a last line end.

    No line is wider than `width` columns, but for commands and URLs. `unicode=False` gives ASCII marks, and ASCII for
    everything else too unless `encoding` says what can be shown. `survey` says that no backend was asked for by name.
    """
    lines = report_lines(report, make_page(width, unicode, encoding), survey)
    if not color:
        return plain(lines)
    from io import StringIO

    text = StringIO()
    _write_coloured(lines, text, legacy_windows=False)
    return text.getvalue().removesuffix("\n")


def print_report(report: Report, stream: TextIO, environ: Mapping[str, str], survey: bool) -> None:
    """Write the report to a stream: coloured on a terminal that wants it, plain and 80 columns wide elsewhere."""
    write(lambda page: report_lines(report, page, survey), stream, environ)


def write(lines_on: Callable[[Page], Iterator[Line]], stream: TextIO, environ: Mapping[str, str]) -> None:
    """Write what is laid out on the page of a stream."""
    terminal = stream.isatty()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    page = make_page(
        _terminal_width(stream) if terminal else PLAIN_WIDTH, can_show("".join(MARKS.values()), encoding), encoding
    )
    lines = lines_on(page)
    if terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb":
        _write_coloured(lines, stream)
    else:
        stream.write(plain(lines) + "\n")


def one_line(backend: BackendReport, *, width: int | None = None) -> str:
    """One backend in one line, such as `bitsandbytes 0.41.0 blocked: needs bitsandbytes>=0.43.3, found 0.41.0`."""
    version = f" {backend.version}" if backend.version else ""
    causes = _causes(backend)
    cause = f": {causes[0].message}" if causes else ""
    line = visible(f"{_spec(backend.request)}{version} {backend.verdict}{cause}")
    return line if width is None else clip(line, width)


def _write_coloured(lines: Iterable[Line], file: IO[str], legacy_windows: bool | None = None) -> None:
    from rich.console import Console
    from rich.text import Text

    # Whether to colour is settled; rich finds out for itself (None) whether an old Windows console needs other means.
    console = Console(
        file=file, force_terminal=True, color_system="standard", no_color=False, legacy_windows=legacy_windows
    )
    # Text takes each piece as it stands: no markup, no emoji codes, no highlighting.
    text = Text("\n").join([Text.assemble(*((text, _STYLES[style]) for text, style in line)) for line in lines])
    console.print(text, soft_wrap=True)


def _terminal_width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or PLAIN_WIDTH
    except (OSError, ValueError):  # a terminal of a kind that has no size
        return PLAIN_WIDTH


def report_lines(report: Report, page: Page, survey: bool) -> Iterator[Line]:
    """The report, line by line."""
    problems = _problems(report)
    yield from _headline(report, page)
    yield []
    yield from _table(report, page)
    yield from _paragraph(_schemes(report, page))
    yield from _paragraph(_tried(report, page))
    for problem in problems:
        yield from _paragraph(_problem(problem, page, len(report.backends) > 1))
    yield from _paragraph(_counts(report, page))
    yield from _plans(report, problems, page, survey)
    yield from _paragraph(_not_asked(report, page))


def _paragraph(lines: Iterator[Line]) -> Iterator[Line]:
    """The lines with an empty one before them, or nothing where there are none."""
    for index, line in enumerate(lines):
        if not index:
            yield []
        yield line


# What was looked at, and for what


def _headline(report: Report, page: Page) -> Iterator[Line]:
    yield from page.wrap([("envguard: ", "strong")], page.show(report.subject + _recorded(report)), "  ", "strong")
    asked: dict[str, dict[str, None]] = {}  # what was asked -> the devices that it came to, each once
    for backend in report.backends:
        devices = asked.setdefault(_asked(backend.request), {})
        if backend.resolved_device is not None:
            devices[_device(backend.resolved_device, backend.request.device)] = None
    for question, devices in asked.items():
        came_to = f" ({', '.join(devices)})" if any(devices) else ""
        yield from page.wrap([("to ", "faint")], page.show(question + came_to), "   ", "faint")
    if report.undecided == "allow":
        yield [("what could not be observed was let pass", "undecided")]


def _recorded(report: Report) -> str:
    """Whose environment it was and when, where it was recorded; nothing for an interpreter that was looked at now."""
    if report.interpreter is not None and report.interpreter in report.subject:
        return ""
    taken = None if report.taken_at is None else f"taken {report.taken_at}"
    details = [detail for detail in (report.interpreter, taken) if detail]
    return f" ({', '.join(details)})" if details else ""


def _asked(request: Request) -> str:
    host = "without a host library" if request.host == "none" else f"with {request.host}"
    return f"{request.operation} {host} on device {request.device}"


def _device(device: Device, asked: str) -> str:
    place = device.kind if device.index is None else f"{device.kind}:{device.index}"
    if place == asked:
        return device.name or ""
    return f"{place} {device.name}" if device.name else place


# A line a backend


def _table(report: Report, page: Page) -> Iterator[Line]:
    shown = [
        (backend, page.show(_spec(backend.request)), page.show(backend.version or "-")) for backend in report.backends
    ]
    names = min(max((columns(name) for _, name, _ in shown), default=0), page.width // 3)
    versions = min(max((columns(version) for _, _, version in shown), default=0), page.width // 5)
    marks = MARKS if page.unicode else ASCII_MARKS
    verdicts = max((len(backend.verdict) for backend in report.backends), default=0)
    for backend, name, version in shown:
        line: Line = [
            (marks[backend.verdict], f"{backend.verdict} strong"),
            (" " + pad(page.clip(name, names), names), "strong"),
            ("  " + pad(page.clip(version, versions), versions), ""),
            ("  " + pad(backend.verdict, verdicts), backend.verdict),
        ]
        room = page.width - sum(columns(text) for text, _ in line) - 2
        cause = _short_cause(backend, page, room)
        yield [*line, ("  " + cause, "")] if cause else line


def _spec(request: Request) -> str:
    return request.backend if request.scheme is None else f"{request.backend}:{request.scheme}"


def _short_cause(backend: BackendReport, page: Page, room: int) -> str:
    """What was found comes first: it is what tells one cause from another where the line is too short for both."""
    causes = _causes(backend)
    if not causes:
        return ""
    cause, *others = causes
    own = False
    if cause.found is None or cause.needed is None:
        said = cause.message
    else:
        own = backend.version is not None and cause.found.endswith(backend.version)  # it stands in the line already
        said = f"needs {cause.needed}" if own else f"{cause.found}, needs {cause.needed}"
        if cause.kind == "absent":
            said = cause.found
    more = f" (+{len(others)})" if others else ""
    shown = page.show(said)
    if cause.found is not None and not own and columns(shown) > room - len(more):
        shown = page.show(cause.found)
    return page.clip(shown, room - len(more)) + more


def _causes(backend: BackendReport) -> list[Outcome]:
    """The outcomes that made the verdict what it is."""
    made_by: Mapping[str, Callable[[Outcome], bool]] = {
        "blocked": lambda outcome: (outcome.status, outcome.severity, outcome.ignored) == ("unmet", "error", False),
        "undecided": lambda outcome: (outcome.status, outcome.severity) == ("undecided", "error"),
        "degraded": lambda outcome: outcome.status == "unmet" and (outcome.severity == "warning" or outcome.ignored),
    }
    made = made_by.get(backend.verdict)
    return [outcome for outcome in backend.outcomes if made(outcome)] if made else []


# Which schemes work here


def _schemes(report: Report, page: Page) -> Iterator[Line]:
    """A line a verdict, for each backend whose schemes say more than its own line does."""
    refused = None
    for backend in report.backends:
        name = page.show(backend.request.backend)
        by_verdict: dict[str, list[str]] = {}
        for scheme, its in (backend.schemes or {}).items():
            by_verdict.setdefault(its, []).append(page.show(scheme))
        if set(by_verdict) <= {backend.verdict} - {"ok", "degraded"}:
            continue
        for verdict in VERDICTS:
            if verdict in by_verdict:
                start: Line = [(f"{page.clip(name, 40)} schemes ", "strong"), (f"{verdict}: ", verdict)]
                yield from page.wrap(start, " ".join(by_verdict[verdict]), "  ")
                if refused is None and verdict in ("undecided", "blocked"):
                    refused = f"{name}:{by_verdict[verdict][0]}"
    if refused:
        yield from page.wrap([], f"(to see why: --backend {refused})", "  ", "faint")


def _tried(report: Report, page: Page) -> Iterator[Line]:
    """A line for each child process of a deep look that met or could not meet its end: other rules met are counted."""
    for backend in report.backends:
        for outcome in backend.outcomes:
            if outcome.origin == "deep" and outcome.status in ("met", "skipped"):
                word, style = ("works", "ok") if outcome.status == "met" else ("not tried", "faint")
                start: Line = [
                    (f"{page.clip(page.show(backend.request.backend), 40)} ", "strong"),
                    (f"{word}: ", style),
                ]
                yield from page.wrap(start, page.show(outcome.message), "  ")


# What fails


class _Problem:
    """One thing that is wrong, however many rules and backends say so."""

    def __init__(self, outcome: Outcome, place: int) -> None:
        self.outcome = outcome
        self._place = place
        # Dicts as ordered sets.
        self.rules: dict[str, None] = {}
        self.specs: dict[str, None] = {}
        self.whys: dict[str, None] = {}
        self.fixes: dict[Fix, dict[str, None]] = {}  # and of which backends each is
        self.sources: dict[str, None] = {}

    def order(self) -> tuple[int, bool, int]:
        """The worst comes first, and of those what most backends fail."""
        return self._place, self.outcome.ignored, -len(self.specs)

    def add(self, spec: str, outcome: Outcome) -> None:
        self.rules[outcome.rule] = None
        self.specs[spec] = None
        if outcome.why:
            self.whys[outcome.why] = None
        if outcome.fix:
            self.fixes.setdefault(outcome.fix, {})[spec] = None
        self.sources[f"{outcome.source} ({outcome.origin})" if outcome.source else outcome.origin] = None


def _problems(report: Report) -> list[_Problem]:
    """Everything worth telling, the worst first; what needs and found the same is told once."""
    problems: dict[tuple[object, ...], _Problem] = {}
    for backend in report.backends:
        spec = _spec(backend.request)
        for outcome in backend.outcomes:
            told = _TOLD.get((outcome.status, outcome.severity))
            if told is None or (outcome.severity == "info" and len(report.backends) > 1):
                continue  # notes are for whoever asks about one backend
            same = outcome.needed or outcome.message, outcome.found or outcome.message
            key = told[0], outcome.ignored, *same
            if key not in problems:
                problems[key] = _Problem(outcome, told[0])
            problems[key].add(spec, outcome)
    return sorted(problems.values(), key=_Problem.order)


def _problem(problem: _Problem, page: Page, several: bool) -> Iterator[Line]:
    outcome = problem.outcome
    _, word, style = _TOLD[outcome.status, outcome.severity]
    strong = style if style == "faint" else f"{style} strong"
    ignored = ", ignored" if outcome.ignored else ""
    rules = page.show(", ".join(problem.rules))
    owners = {rule.rpartition("/")[0].rpartition("/")[2] for rule in problem.rules}
    specs = page.show(f" (for {', '.join(problem.specs)})") if several and owners != set(problem.specs) else ""
    yield from page.wrap([(f"{word}{ignored}: ", strong)], rules + specs, "  ", "strong")
    if outcome.needed is None or outcome.found is None:
        yield from page.field("says", page.show(outcome.message))
    if outcome.needed is not None:
        yield from page.field("needed", page.show(outcome.needed))
    if outcome.found is not None:
        yield from page.field("unknown" if outcome.status == "undecided" else "found", page.show(outcome.found))
    for why in problem.whys:
        yield from page.field("why", page.prose(why))
    apart = len(problem.fixes) > 1 and len(problem.specs) > 1
    for fix, specs_of in problem.fixes.items():
        yield from _fix(fix, f"for {', '.join(specs_of)}: " if apart else "", page)
    for source in problem.sources:
        yield from page.field("source", page.show(source))
    if ignored:
        yield from page.field("ignored", "as configured: still not met, but it does not block")


def _fix(fix: Fix, whose: str, page: Page) -> Iterator[Line]:
    if fix.text:
        yield from page.field("fix", page.show(whose) + page.prose(fix.text))
        yield from page.commands(fix.commands, UNDER_LABEL)
    elif fix.commands:
        yield [("  fix", "faint")]
        yield from page.commands(fix.commands, UNDER_LABEL)


# How it all comes to pass


def _counts(report: Report, page: Page) -> Iterator[Line]:
    outcomes = [outcome.status for backend in report.backends for outcome in backend.outcomes]
    words = {"met": "met", "unmet": "not met", "undecided": "not observed", "skipped": "skipped behind one not met"}
    counts = {status: sum(status == each for each in outcomes) for status in words}
    said = ", ".join(f"{count} {words[status]}" for status, count in counts.items() if count)
    if said:
        yield from page.wrap([("rules: ", "faint")], said, "  ", "faint")


def _not_asked(report: Report, page: Page) -> Iterator[Line]:
    """What a file cannot answer, where one was judged."""
    if report.not_asked:
        what = (
            f"{len(report.not_asked)} rules that only the machine can tell, taken to be met (--format json lists them)"
        )
        yield from page.wrap([("not asked: ", "faint")], page.show(what), "  ", "faint")


def _plans(report: Report, problems: list[_Problem], page: Page, survey: bool) -> Iterator[Line]:
    """One way out for each backend; backends that share it share the paragraph."""
    plans: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for backend in report.backends:
        if backend.plan is not None and backend.plan.commands:
            plans.setdefault((backend.plan.commands, backend.plan.unsolved), []).append(_spec(backend.request))
    if len(problems) == 1 and all(commands in [fix.commands for fix in problems[0].fixes] for commands, _ in plans):
        return  # its fix has just been told
    for (commands, unsolved), specs in plans.items():
        whole = len(report.backends) == 1 and not survey
        what = "all of it" if whole and not unsolved else ", ".join(specs)
        but = f", all but {', '.join(unsolved)}" if unsolved else ""
        yield []
        yield from page.wrap([], page.show(f"To {'use' if survey else 'mend'} {what}{but}:"), "  ", "strong")
        yield from page.commands(commands, "  ")
