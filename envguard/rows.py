"""Rules made ready to be applied to any number of environments: facts are read once, and equal facts judged once.

What is remembered are answers to a few facts each, never whole environments.
"""

from __future__ import annotations

from _operator import itemgetter  # the C function alone

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
from envguard.model import VERDICTS, Fix, Outcome, Ranged, Unreadable
from envguard.rule import ArchitectureNeed, OwnerNeed
from envguard.versions import satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    from envguard.judge.subject import Reader, Subject
    from envguard.model import Environment, Request
    from envguard.rule import FixTemplate, Rule
    from envguard.rulebook import RuleBook

    # The row, what it says, how bad that is (a place in VERDICTS), and the fix that the outcome still wants.
    Found: TypeAlias = "tuple[Row, Outcome, int, FixTemplate | None]"

_MOST_KNOWN, _MOST_NEW = 500, 200

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


class Memory:
    """Answers by the facts that gave them, few enough that memory is flat over any number of environments.

    What was asked for once waits among the new ones, where facts that never come back cannot push out those that do.
    """

    __slots__ = ("_new", "known")

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}
        self._new: dict[Any, Any] = {}

    def again(self, facts: Any) -> Any:
        """The answer that `known` lacks and that was new before; None where there is none."""
        answer = self._new.pop(facts, None)
        if answer is not None:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[facts] = answer
        return answer

    def keep(self, facts: Any, answer: Any) -> None:
        """Remember an answer that is not None."""
        if len(self._new) >= _MOST_NEW:
            self._new.clear()
        self._new[facts] = answer


class Row:
    """One rule, ready to be applied: it remembers what equal facts gave."""

    __slots__ = (
        "_fix",
        "_judge",
        "_memory",
        "_skipped",
        "after",
        "for_all_schemes",
        "host",
        "readers",
        "rule",
    )

    def __init__(self, rule: Rule, request: Request, book: RuleBook) -> None:
        self.rule = rule
        builds = book.torch_builds if isinstance(rule.need, ArchitectureNeed) else ()
        read, self._judge = examine(rule.need, request, builds)
        self.after = rule.after
        self.for_all_schemes = rule.when.scheme is None and rule.when.not_scheme is None
        self.host = request.host if rule.origin == "host" else None
        self.readers: tuple[Reader, ...] = (read,) if self.host is None else (read, version_of(self.host))
        template = rule.fix
        self._fix = None if template.installs or template.unset else Fix(template.text or "", ())
        self._memory = Memory()
        self._skipped: dict[str, Found] = {}

    def applies(self, subject: Subject) -> bool | None:
        """Whether the row is for this environment; None where a fact that decides it was not observed."""
        known, when, environment = True, self.rule.when, subject.environment
        for name, clauses in when.release:
            version = environment.version(name)
            fits = (satisfies if isinstance(version, str) else in_range)(version, clauses, "version")
            if version is None or fits is False:
                return False
            known = known and fits is True
        for name in when.absent:
            entry = environment.distribution(name)
            if isinstance(entry, Unreadable):
                known = False
            elif entry is not None:
                return False
        if when.cuda_capability is not None:
            fits = has_capability(current_cuda(subject), when.cuda_capability)
            if fits is False:
                return False
            known = known and fits is True
        facts = [(environment.fact("environment_variables", name), values) for name, values in when.variable]
        if when.system is not None:
            facts.append((system_of(subject), when.system))
        if when.accelerator is not None:
            facts.append((device_kind(subject), when.accelerator))
        for fact, values in facts:
            if isinstance(fact, Unreadable):
                known = False
            elif fact is None or (fact if fact in values else fact.lower()) not in values:
                return False
        return True if known else None

    def look(self, subject: Subject) -> Found | None:
        """What the rule says about the environment; None where it has nothing to say."""
        facts = tuple([read(subject) for read in self.readers])
        answer: tuple[Found | None] | None = self._memory.known.get(facts) or self._memory.again(facts)
        if answer is None:
            answer = (self.judge(facts),)
            self._memory.keep(facts, answer)
        return answer[0]

    def judge(self, facts: tuple[Any, ...]) -> Found | None:
        """What the rule says about the facts that its readers gave."""
        finding = self._judge(facts[0])
        if finding is None:
            return None
        return self._found(finding, self.rule.origin if self.host is None else _host_origin(self.host, facts[1]))

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
        ranges = [fact.reason for fact in map(environment.version, unseen) if isinstance(fact, Ranged)]
        return self._found(Finding("undecided", needed, "; ".join(ranges) or "it was not observed"), origin)

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
    def readers(self) -> tuple[Reader, ...]:
        """The readers of every fact that decides what the step says."""
        readers: dict[Reader, None] = {}
        for row in self.rows:
            when = row.rule.when
            readers.update(dict.fromkeys([version_of(name) for name, _ in when.release]))
            readers.update(dict.fromkeys([variable_of(name) for name, _ in when.variable]))
            readers.update(dict.fromkeys([version_of(name) for name in when.absent]))
            if when.cuda_capability is not None:
                readers[current_cuda] = None
            if when.system is not None:
                readers[system_of] = None
            if when.accelerator is not None:
                readers[device_kind] = None
            readers.update(dict.fromkeys(row.readers))
        readers.pop(nothing, None)
        return tuple(readers)

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


class Group:
    """Steps that read the same facts: what they say together is found by one look into a dictionary."""

    __slots__ = ("_alone", "_of_one_machine", "memory", "places", "readers", "steps")

    def __init__(self, readers: tuple[Reader, ...], members: list[tuple[int, Step]]) -> None:
        self.readers = readers
        self.places = tuple([place for place, _ in members])
        self.steps = tuple([step for _, step in members])
        self.memory = Memory()
        row = self.steps[0].rows[0]
        self._alone = row if len(members) == 1 and self.steps[0].alone and row.readers == readers else None
        self._of_one_machine = self._alone is not None and isinstance(row.rule.need, OwnerNeed)

    def look(self, facts: tuple[Any, ...], subject: Subject) -> tuple[Found | None, ...]:
        """What each step says where the facts are not known."""
        found: tuple[Found | None, ...] | None
        if self._alone is not None and self._of_one_machine:  # nobody else has this path
            return (self._alone.judge(facts),)
        found = self.memory.again(facts)
        if found is None:
            if self._alone is not None:
                found = (self._alone.judge(facts),)
            else:
                found = tuple([step.look(subject) for step in self.steps])
            self.memory.keep(facts, found)
        return found


class Looks:
    """Some groups and the facts that they read, each of them once."""

    __slots__ = ("_looks", "_readers", "places")

    def __init__(self, groups: Iterable[Group]) -> None:
        self._readers: tuple[Reader, ...] = tuple(dict.fromkeys([read for group in groups for read in group.readers]))
        place_of = {read: place for place, read in enumerate(self._readers)}
        looks = []
        for group in groups:
            own = [place_of[read] for read in group.readers] or [0]
            # twice where there is one: `itemgetter` gives a tuple only for several
            facts_of: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*(own if len(own) > 1 else own * 2))
            looks.append((facts_of, group.memory.known, group.look))
        self._looks = tuple(looks)
        self.places = tuple([place for group in groups for place in group.places])

    def look(self, subject: Subject) -> list[Found | None]:
        """What the steps of the groups say, in the order of `places`."""
        facts = [read(subject) for read in self._readers] or [None]
        found: list[Found | None] = []
        for facts_of, known, look in self._looks:
            own = facts_of(facts)
            found += known.get(own) or look(own, subject)
        return found


class Course:
    """Steps in order, prerequisites first.

    The first environment is looked at step by step, because most checks have no other.
    """

    __slots__ = ("_all", "_in_order", "_is_new", "groups", "steps")

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.groups: tuple[Group, ...] = ()
        self._is_new = True
        self._all: Looks | None = None
        self._in_order: Callable[[Sequence[Any]], Sequence[Any]] = tuple

    def look(self, subject: Subject) -> Sequence[Found | None]:
        """What each step says, in their order."""
        if self._is_new:
            self._is_new = False
            return self.look_at_each(subject)
        if self._all is None:
            self._all = self._group()
        return self._in_order(self._all.look(subject))

    def look_at_each(self, subject: Subject) -> Sequence[Found | None]:
        """The same, without looking at steps of equal facts together."""
        return [step.look(subject) for step in self.steps]

    def _group(self) -> Looks:
        members: dict[tuple[Reader, ...], list[tuple[int, Step]]] = {}
        for place, step in enumerate(self.steps):
            members.setdefault(step.readers, []).append((place, step))
        self.groups = tuple([Group(readers, those) for readers, those in members.items()])
        looks = Looks(self.groups)
        back = sorted(range(len(self.steps)), key=looks.places.__getitem__)
        if len(back) > 1:
            self._in_order = itemgetter(*back)
        return looks


def look_again(looked: Sequence[Found | None], looks: Looks, subject: Subject) -> list[Found | None]:
    """What the steps say where only some of them can say anything new."""
    again = list(looked)
    for place, found in zip(looks.places, looks.look(subject)):
        again[place] = found
    return again


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
