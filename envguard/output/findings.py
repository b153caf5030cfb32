"""What the formats of other tools have in common: the subjects of a check, and what there is to tell of each.

`text` and `json` do not need it, so nothing here has to be quick.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Literal, TypeAlias

    from envguard.model import BackendReport, Fix, Outcome, Plan, Report, Request, Verdict

    Level: TypeAlias = Literal["error", "undecided", "warning", "note"]
    Places: TypeAlias = Callable[["Finding"], "Anchor | None"]

LEVELS: tuple[Level, ...] = ("error", "undecided", "warning", "note")  # the worst first


class Anchor(Frozen):
    """A line of a file of the project, its path relative to the project's root and written with `/`."""

    path: str
    line: int


class Judged(Frozen):
    """One subject: its report, or why it cannot be judged and on which line of the input it stands.

    `details` are facts about it that no rule tells: label and text.
    """

    name: str
    report: Report | None
    error: str | None = None
    line: int | None = None
    details: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """Its name, with the line where it has one."""
        return self.name if self.line is None else f"{self.name} line {self.line}"

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The details, and of a file how much it cannot answer."""
        if self.report is None or not self.report.not_asked:
            return self.details
        what = f"{len(self.report.not_asked)} rules that only the machine can tell, taken to be met"
        return (*self.details, ("Not asked", f"{what} (--format json lists them)"))


class Deciding(Frozen):
    """What makes the command line fail, so that another tool says so of the same: see the table of exit statuses."""

    asked: bool = True
    strict: bool = False
    allow_undecided: bool = False

    def level(self, outcome: Outcome) -> Level | None:
        """How much an outcome weighs here; None where there is nothing to tell.

        In a survey nothing was asked for, so what does not work is a note.
        """
        found = self._level(outcome)
        return "note" if found is not None and not self.asked and not self.strict else found

    def _level(self, outcome: Outcome) -> Level | None:
        match outcome.status, outcome.severity:
            case "unmet", "error" if not outcome.ignored:
                return "error"
            case "unmet", "error":  # which degrades
                return "error" if self.strict else "warning"
            case "unmet", "warning" if not outcome.ignored:
                return "error" if self.strict else "warning"
            case "unmet", _:
                return "note"
            case "undecided", "error":
                return "note" if self.allow_undecided else "undecided"
        return None

    def fails(self, verdict: Verdict) -> bool:
        """Whether a verdict gives an exit status other than 0."""
        if not self.asked and not self.strict:
            return False
        undecided = verdict == "undecided" and not self.allow_undecided
        return verdict == "blocked" or undecided or (self.strict and verdict == "degraded")


class Finding:
    """One thing to tell about a subject, however many backends it concerns."""

    def __init__(self, level: Level, judged: Judged, place: int, outcome: Outcome) -> None:
        self.level = level
        self.judged = judged
        self.place = place  # of the subject among all
        self.outcome = outcome
        # Dicts as ordered sets.
        self.rules: dict[str, None] = {}
        self.requests: dict[Request, None] = {}
        self.whys: dict[str, None] = {}
        self.fixes: dict[Fix, None] = {}
        self.sources: dict[str, None] = {}

    def add(self, request: Request, outcome: Outcome) -> None:
        """Another outcome that says the same."""
        self.rules[outcome.rule] = None
        self.requests[request] = None
        if outcome.why:
            self.whys[outcome.why] = None
        if outcome.fix:
            self.fixes[outcome.fix] = None
        self.sources[f"{outcome.source} ({outcome.origin})" if outcome.source else outcome.origin] = None

    @property
    def specs(self) -> list[str]:
        """What was asked for, each once."""
        return list(dict.fromkeys(map(spec_of, self.requests)))

    @property
    def word(self) -> str:
        """What stands before it: error, undecided, warning or note, and whether it is ignored."""
        return f"{self.level}, ignored" if self.outcome.ignored else self.level

    def said(self) -> str:
        """What is needed and what was found, in one sentence."""
        outcome = self.outcome
        if outcome.needed is None or outcome.found is None:
            return outcome.message
        unknown = outcome.status == "undecided"
        return f"needs {outcome.needed}, {'not known' if unknown else 'found'}: {outcome.found}"


def findings(judged: Sequence[Judged], deciding: Deciding, *, by_rule: bool = False) -> list[Finding]:
    """Everything worth telling, the worst first; what needs and found the same in one subject is told once.

    `by_rule` keeps apart what different rules say. Notes are for whoever asks about one backend.
    """
    told: dict[tuple[object, ...], Finding] = {}
    for place, each in enumerate(judged):
        backends = each.report.backends if each.report is not None else ()
        for backend in backends:
            for outcome in backend.outcomes:
                level = deciding.level(outcome)
                if level is None or (outcome.severity == "info" and len(backends) > 1):
                    continue
                same = outcome.needed or outcome.message, outcome.found or outcome.message
                key = place, level, outcome.ignored, outcome.status, *same, outcome.rule if by_rule else None
                if key not in told:
                    told[key] = Finding(level, each, place, outcome)
                told[key].add(backend.request, outcome)
    return sorted(told.values(), key=lambda finding: (LEVELS.index(finding.level), -len(finding.requests)))


def spec_of(request: Request) -> str:
    """`backend` or `backend:scheme`."""
    return request.backend if request.scheme is None else f"{request.backend}:{request.scheme}"


def all_backends(judged: Iterable[Judged]) -> Iterator[tuple[Judged, BackendReport]]:
    """Each backend of each subject."""
    for each in judged:
        for backend in each.report.backends if each.report is not None else ():
            yield each, backend


def plans(judged: Sequence[Judged]) -> Iterator[tuple[str, Plan]]:
    """The one way out for each backend that has one, under its spec and, where there are several subjects, theirs."""
    for each, backend in all_backends(judged):
        if backend.plan is not None and backend.plan.commands:
            spec = spec_of(backend.request)
            yield f"{spec} in {each.title}" if len(judged) > 1 else spec, backend.plan


def headline(judged: Sequence[Judged], deciding: Deciding) -> str:
    """One line about all of it: how many of what was asked for are in which verdict."""
    counts: dict[str, int] = {}
    for _, backend in all_backends(judged):
        counts[backend.verdict] = counts.get(backend.verdict, 0) + 1
    order = ("blocked", "undecided", "degraded", "ok")
    said = [f"{counts[verdict]} {verdict}" for verdict in order if verdict in counts]
    refused = sum(each.report is None for each in judged)
    if refused:
        said.append(f"{refused} that cannot be judged")
    subjects = f" in {len(judged)} environments" if len(judged) > 1 else ""
    survey = "" if deciding.asked or deciding.strict else " (a survey: nothing was asked for by name)"
    return f"{', '.join(said) or 'nothing was looked at'}{subjects}{survey}"


def names_of(finding: Finding, distributions: Mapping[str, str]) -> list[str]:
    """The packages that a finding is about, the closest first: at the line of one of them it is shown.

    `distributions` gives the distribution of each backend.
    """
    names: dict[str, None] = {}
    if finding.outcome.needed is not None:
        names[_leading_name(finding.outcome.needed)] = None
    for rule in finding.rules:
        owner = rule.split("/")[-2:][0]
        names[distributions.get(owner, owner)] = None
    for request in finding.requests:
        names[distributions.get(request.backend, request.backend)] = None
    return [name for name in names if name]


def _leading_name(needed: str) -> str:
    """The name that a requirement begins with, "" where it is none."""
    end = next((place for place, sign in enumerate(needed) if not (sign.isalnum() or sign in "-_.")), len(needed))
    rest = needed[end:].lstrip()
    return needed[:end] if not rest or rest[0] in "[<>=!~;@(" else ""
