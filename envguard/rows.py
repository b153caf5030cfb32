"""Rules made ready to be applied to environments: which row is for one, and what it says about it."""

from __future__ import annotations

from envguard.judge import examine
from envguard.judge.hardware import has_capability
from envguard.judge.subject import (
    Finding,
    current_cuda,
    device_kind,
    in_range,
    nothing,
    system_of,
    variable_of,
    version_of,
)
from envguard.model import VERDICTS, Fix, Outcome, Unreadable
from envguard.rule import ArchitectureNeed, DistributionNeed, NativeNeed
from envguard.versions import satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias, TypeVar

    from envguard.judge.subject import Reader, Subject
    from envguard.looks import Looks, Memory
    from envguard.model import Environment, Request
    from envguard.rule import FixTemplate, Rule, When
    from envguard.rulebook import RuleBook
    from envguard.versions import Clause

    T = TypeVar("T")
    # The row, what it says, how bad that is (a place in VERDICTS), and the fix that the outcome still wants.
    Found: TypeAlias = "tuple[Row, Outcome, int, FixTemplate | None]"
    # A reader, a test of its fact, and what is wanted of it.
    Condition: TypeAlias = "tuple[Reader, Callable[[Any, Any], bool | None], Any]"

BLOCKED = VERDICTS.index("blocked")
# An outcome without effect is as none at all: -1.
_RANKS = {
    **{("info", status): -1 for status in ("met", "unmet", "undecided", "skipped")},
    **{(severity, status): 0 for severity in ("error", "warning") for status in ("met", "skipped")},
    ("error", "unmet"): BLOCKED,
    ("error", "undecided"): VERDICTS.index("undecided"),
    ("warning", "unmet"): VERDICTS.index("degraded"),
    ("warning", "undecided"): -1,
}


def conditions(when: When) -> list[Condition]:
    """What a row asks of the environment before it applies: a reader, a test of its fact, and what is wanted."""
    asked: list[Condition] = [(version_of(name), _is_in_range, clauses) for name, clauses in when.release]
    asked += [(version_of(name), _is_absent, None) for name in when.absent]
    asked += [(variable_of(name), _is_one_of, values) for name, values in when.variable]
    if when.cuda_capability is not None:
        asked.append((current_cuda, has_capability, when.cuda_capability))
    if when.system is not None:
        asked.append((system_of, _is_one_of, when.system))
    if when.accelerator is not None:
        asked.append((device_kind, _is_one_of, when.accelerator))
    return asked


def _is_in_range(version: Any, clauses: tuple[Clause, ...]) -> bool | None:
    if isinstance(version, str):
        return satisfies(version, clauses, "version")
    return False if version is None else in_range(version, clauses, "version")


def _is_absent(version: Any, _: None) -> bool | None:
    return None if type(version) is Unreadable else version is None


def _is_one_of(fact: Any, values: tuple[str, ...]) -> bool | None:
    if isinstance(fact, Unreadable):
        return None
    return fact is not None and (fact in values or fact.lower() in values)


class Row:
    """One rule, ready to be applied: it remembers what equal facts gave."""

    __slots__ = (
        "_conditions",
        "_fix",
        "_judge",
        "_skipped",
        "advises",
        "after",
        "constrains",
        "for_all_schemes",
        "host",
        "memory",
        "readers",
        "rule",
        "wants",
    )

    def __init__(self, rule: Rule, request: Request, book: RuleBook) -> None:
        self.rule = rule
        builds = (*book.local_builds, *book.torch_builds) if isinstance(rule.need, ArchitectureNeed) else ()
        wheels = book.native(rule.need.distribution) if isinstance(rule.need, NativeNeed) else None
        read, self._judge = examine(rule.need, request, builds, wheels)
        self.after = rule.after
        self.for_all_schemes = rule.when.scheme is None and rule.when.not_scheme is None
        self.host = request.host if rule.origin == "host" else None
        self.readers: tuple[Reader, ...] = (read,) if self.host is None else (read, version_of(self.host))
        template = rule.fix
        self.wants = tuple([wanted.name for wanted in template.install])
        bounds = isinstance(rule.need, DistributionNeed)
        self.constrains = bounds and rule.severity == "error"
        self.advises = bounds and rule.severity != "error"
        is_text = not (template.installs or template.unset or template.carried)
        self._fix = Fix(template.text or "", ()) if is_text else None
        self.memory: Memory | None = None  # most checks look at one environment
        self._conditions: list[Condition] | None = None
        self._skipped: dict[str, Found] = {}

    def applies(self, subject: Subject) -> bool | None:
        """Whether the row is for this environment; None where a fact that decides it was not observed."""
        known = True
        if self._conditions is None:
            self._conditions = conditions(self.rule.when)
        for read, test, wanted in self._conditions:
            holds = test(read(subject), wanted)
            if holds is False:
                return False
            known = known and holds is True
        return True if known else None

    def look(self, subject: Subject) -> Found | None:
        """What the rule says about the environment; None where it has nothing to say."""
        facts = tuple([read(subject) for read in self.readers])
        if self.memory is None:
            return self.judge(facts)
        answer: tuple[Found | None] | None = self.memory.get(facts)
        return (answer or self.memory.keep(facts, (self.judge(facts),)))[0]

    def judge(self, facts: tuple[Any, ...]) -> Found | None:
        """What the rule says about the facts that its readers gave."""
        finding = self._judge(facts[0])
        if finding is None:
            return None
        origin = finding.origin or (self.rule.origin if self.host is None else _host_origin(self.host, facts[1]))
        return self._found(finding, origin)

    def _found(self, finding: Finding, origin: str) -> Found:
        rule = self.rule
        status, needed, found, severity = finding.status, finding.needed, finding.found, finding.severity
        if severity is None or rule.severity == "info":
            severity = rule.severity
        fix = self._fix if status == "unmet" and finding.fix is None else None
        message = f"needs {needed}, found {found}"
        outcome = Outcome(
            rule.id,
            status,
            severity,
            finding.kind or rule.kind,
            origin,
            message,
            needed,
            found,
            rule.why,
            fix,
            rule.source,
            None,
            False,
        )
        wanted = (finding.fix or rule.fix) if status == "unmet" and fix is None else None
        return self, outcome, _RANKS[severity, status], wanted

    def undecided(self, environment: Environment) -> Found | None:
        """The outcome where a fact that decides whether the rule applies was not observed."""
        if self.rule.severity == "info":
            return None
        unseen = [name for name, _ in self.rule.when.release if not isinstance(environment.version(name), str)]
        what = f"the version of {', '.join(unseen)}" if unseen else "a fact about the machine"
        origin = self.rule.origin if self.host is None else _host_origin(self.host, None)
        needed = f"{what}, which decides whether the rule applies"
        facts = [fact for fact in map(environment.version, unseen) if isinstance(fact, Unreadable)]
        reasons = dict.fromkeys(fact.reason for fact in facts if fact.reason != "not observed")
        return self._found(Finding("undecided", needed, "; ".join(reasons) or "it was not observed"), origin)

    def skipped(self, because: str) -> Found:
        """The outcome where the rule was not looked at, because one that it depends on is not met."""
        made = self._skipped.get(because)
        if made is None:
            rule = self.rule
            message = f"not looked at: {because} is not met"
            outcome = Outcome(rule.id, "skipped", rule.severity, rule.kind, rule.origin, message, because=because)
            made = self._skipped[because] = self, outcome, _RANKS[rule.severity, "skipped"], None
        return made


def _host_origin(host: str, version: Any) -> str:
    return f"host:{host}@{version}" if isinstance(version, str) else f"host:{host}"


class Step:
    """The rows of one id, of which an environment gets one or none."""

    __slots__ = ("alone", "rows")

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows
        self.alone = len(rows) == 1 and not rows[0].rule.when.conditional

    @property
    def needs(self) -> tuple[Reader, ...]:
        """The readers of the facts that the outcome tells."""
        readers = dict.fromkeys([read for row in self.rows for read in row.readers])
        readers.pop(nothing, None)
        return tuple(readers)

    @property
    def conditions(self) -> list[Condition]:
        """What decides which row applies, beyond the facts that the outcome tells."""
        needs = self.needs
        asked = [condition for row in self.rows for condition in conditions(row.rule.when)]
        return [condition for condition in asked if condition[0] not in needs]

    def look(self, subject: Subject) -> Found | None:
        """What the row for this environment says; an undecided outcome where it cannot be said which row that is."""
        if self.alone:
            return self.rows[0].look(subject)
        unknown: Row | None = None
        for row in self.rows:
            applies = row.applies(subject)
            if applies:
                return row.look(subject)
            if applies is None and (unknown is None or row.rule.severity == "error"):
                unknown = row
        return unknown.undecided(subject.environment) if unknown is not None else None


class Course:
    """Steps in order, prerequisites first.

    The first environment is looked at step by step, because most checks have no other.
    """

    __slots__ = ("_is_new", "looks", "steps")

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.looks: Looks | None = None
        self._is_new = True

    def look(self, subject: Subject) -> tuple[Sequence[Found | None], list[Any]]:
        """What each step says, in their order, and the facts that `looks` has read for it."""
        if self._is_new:
            self._is_new = False
            return self.look_at_each(subject), []
        if self.looks is None:
            from envguard.looks import Looks

            self.looks = Looks(self.steps)
        return self.looks.look(subject)

    def look_at_each(self, subject: Subject) -> Sequence[Found | None]:
        """The same, without looking at steps of equal facts together."""
        return [step.look(subject) for step in self.steps]


def applied(looked: Sequence[Found | None], ignore: frozenset[str]) -> list[Found]:
    """What steps say where they say anything; a rule behind an unmet error is skipped."""
    judged = [found for found in looked if found is not None]
    ranks = [found[2] for found in judged]
    if BLOCKED not in ranks:
        return judged
    unmet: dict[str, str] = {}  # the id of each error rule that is not met or was skipped -> the one to blame
    for place in range(ranks.index(BLOCKED), len(judged)):
        row = judged[place][0]
        for each in row.after:
            if each in unmet:
                unmet[row.rule.id] = unmet[each]
                judged[place] = row.skipped(unmet[each])
                break
        else:
            if ranks[place] == BLOCKED and row.rule.id not in ignore:
                unmet[row.rule.id] = row.rule.id
    return judged
