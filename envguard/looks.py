"""Many environments looked at with one set of steps: facts are read once, and equal facts judged once.

What is remembered are answers to a few facts each, never whole environments. One environment needs none of this.
"""

from __future__ import annotations

from _operator import itemgetter  # the C function alone

from envguard.judge.subject import facts_of, fields_of, names_of, parts_of, sections_of, versions_first
from envguard.model import NOT_OBSERVED, Unreadable
from envguard.rule import KernelsNeed, LinksNeed, OwnerNeed, RequiredInTurnNeed, RequirementsNeed, distributions_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias, TypeVar

    from envguard.judge.subject import Reader, Subject
    from envguard.rows import Found, Row, Step

    T = TypeVar("T")
    # The places of a group's facts, what is remembered of them, and the look at facts that are not.
    Look: TypeAlias = tuple[Callable[[Sequence[Any]], tuple[Any, ...]], dict[Any, Any], Callable[..., Any]]

_MOST_KEPT, _MOST_ANSWERS, _MOST_PARTS = 10_000, 500, 200


class Memory:
    """Answers by the facts that gave them.

    `known` holds those of the present generation and `before` those of the last one; what is asked for again moves on,
    what is not is forgotten.
    """

    __slots__ = ("_all", "before", "known")

    def __init__(self, memories: Memories) -> None:
        self.known: dict[Any, Any] = {}
        self.before: dict[Any, Any] = {}
        self._all = memories

    def again(self, facts: Any) -> Any:
        """The answer that `known` lacks; None where there is none."""
        answer = self.before.pop(facts, None)
        if answer is not None:
            self.keep(facts, answer)
        return answer

    def get(self, facts: Any) -> Any:
        """The answer to some facts; None where there is none."""
        return self.known.get(facts) or self.again(facts)

    def keep(self, facts: Any, answer: T) -> T:
        """Remember an answer that is true."""
        self._all.count()
        self.known[facts] = answer
        return answer


class Memories:
    """Memories of one size together, so that memory is flat over any number of environments.

    Where they are full, those that hold most begin a generation: few facts give few answers, which are asked for again
    and again, and what has always new facts does not push these out.
    """

    __slots__ = ("_each", "_kept")

    def __init__(self) -> None:
        self._each: list[Memory] = []
        self._kept = 0

    def new(self) -> Memory:
        """A memory like any other."""
        made = Memory(self)
        self._each.append(made)
        return made

    def count(self) -> None:
        """Note that an answer is about to be kept."""
        self._kept += 1
        if self._kept > _MOST_KEPT:
            self._age()

    def _age(self) -> None:
        most = max([len(memory.known) for memory in self._each])
        for memory in self._each:
            is_full = 2 * len(memory.known) >= most
            memory.before = dict(memory.known) if is_full else {}
            if is_full:
                memory.known.clear()  # the same object, which those who ask hold
        self._kept = 1 + sum([len(memory.known) for memory in self._each])


class Group:
    """Steps that read the same facts: what they say together is found by one look into a dictionary.

    Of a fact that only decides which rows apply, what counts is how it answers their conditions.
    """

    __slots__ = ("_alone", "conditions", "memory", "needs", "places", "rows", "steps")

    def __init__(self, members: list[tuple[int, Step]], memories: Memories) -> None:
        self.places = tuple([place for place, _ in members])
        self.steps = tuple([step for _, step in members])
        self.rows = tuple([row for step in self.steps for row in step.rows])
        self.memory = memories.new()
        self.needs = tuple(dict.fromkeys([read for step in self.steps for read in _needs(step)]))
        self.conditions: dict[Reader, dict[tuple[Any, Any], None]] = {}
        for read, test, wanted in [condition for step in self.steps for condition in step.conditions]:
            if read not in self.needs:
                self.conditions.setdefault(read, {})[test, wanted] = None
        self._alone = self.rows[0] if len(members) == 1 and _is_of_one_machine(self.steps[0]) else None

    def look(self, facts: tuple[Any, ...], subject: Subject) -> tuple[Found | None, ...]:
        """What each step says where the facts are not known."""
        if self._alone is not None and type(facts[0]) is tuple:  # with a path: what is not observed has none
            return (self._alone.judge(facts),)
        found: tuple[Found | None, ...] | None = self.memory.again(facts)
        if found is None:
            found = self.memory.keep(facts, tuple([step.look(subject) for step in self.steps]))
        return found


def _needs(step: Step) -> list[Reader]:
    """The readers of what decides the facts that a step tells."""
    return [part for read in step.needs for part in parts_of.get(read, (read,))]


def _is_of_one_machine(step: Step) -> bool:
    """Whether nobody else has the same facts: they hold a path."""
    return step.alone and isinstance(step.rows[0].rule.need, OwnerNeed)


def grouped(steps: Sequence[Step]) -> list[list[tuple[int, Step]]]:
    """Steps and their places by the facts that decide them; those of fewer facts go with others that read these too,
    and those of what few environments tell with each other.
    """
    by_facts: dict[frozenset[Reader], list[tuple[int, Step]]] = {}
    groups = []
    seldom = []
    for place, step in enumerate(steps):
        if _is_of_one_machine(step):
            groups.append([(place, step)])
        else:
            reads = frozenset([*_needs(step), *[read for read, _, _ in step.conditions]])
            if all(read in fields_of or read in sections_of for read in reads):
                seldom.append((place, step))
                continue
            by_facts.setdefault(reads, []).append((place, step))
    by_size = sorted(by_facts, key=len)
    for number, reads in enumerate(by_size):
        needs = {read for _, step in by_facts[reads] for read in _needs(step)}
        for more in by_size[number + 1 :]:
            if reads < more and needs <= {read for _, step in by_facts[more] for read in _needs(step)}:
                by_facts[more] += by_facts.pop(reads)
                break
    return [*groups, *([seldom] if seldom else []), *by_facts.values()]


class _Answers(dict["Any", "tuple[Any, ...]"]):
    """A fact -> how it answers the conditions of each of some groups."""

    def __init__(self, asked: Sequence[Iterable[tuple[Any, Any]]]) -> None:
        self._asked = asked

    def __missing__(self, fact: Any) -> tuple[Any, ...]:
        # what is not observed and a version that is none answer alike, and are told apart in words, with the reason
        seen = fact if isinstance(fact, Unreadable) else isinstance(fact, str)
        made = tuple([(seen, *[test(fact, wanted) for test, wanted in tests]) for tests in self._asked])
        if len(self) >= _MOST_ANSWERS:
            self.clear()
        self[fact] = made
        return made


class _Facts:
    """Readers of facts; where nothing is unreadable, most facts are found without calling these."""

    __slots__ = ("_fields", "_names", "_others", "_parts", "_sections", "_versions", "readers")

    def __init__(self, readers: Iterable[Reader]) -> None:
        asked = list(dict.fromkeys(readers))
        self._names = [(names_of[read], read) for read in asked if read in names_of]
        self._versions = [(versions_first[read], read) for read in asked if read in versions_first]
        self._fields = [(*fields_of[read], read) for read in asked if read in fields_of]
        self._sections = [(sections_of[read], read) for read in asked if read in sections_of]
        parts: dict[str, list[tuple[str, Reader]]] = {}
        for read in asked:
            if read in facts_of:
                section, name = facts_of[read]
                parts.setdefault(section, []).append((name, read))
        self._parts = tuple(parts.items())
        found = [each[-1] for those in (self._names, self._versions, self._fields, self._sections) for each in those]
        found += [read for _, those in self._parts for _, read in those]
        self._others = [read for read in asked if read not in found]
        self.readers = [*found, *self._others]

    def read(self, subject: Subject) -> list[Any]:
        """The facts, in the order of `readers`."""
        data = subject.environment.data
        listed = data.get("distributions")
        if data.get("unreadable") or not listed or not data.get("distributions_complete"):
            return [read(subject) for read in self.readers]
        entry_of = listed.get
        values: list[Any] = [
            (entry["version"] or read(subject)) if (entry := entry_of(name)) else None for name, read in self._names
        ]
        values += [((entry := entry_of(name)) and entry["version"]) or read(subject) for name, read in self._versions]
        values += [
            read(subject) if (entry := entry_of(name)) and field in entry else None
            for name, field, read in self._fields
        ]
        values += [read(subject) if section in data else None for section, read in self._sections]
        for section, those in self._parts:
            if found := data.get(section):
                fact_of = found.get
                values += [fact_of(name, NOT_OBSERVED) for name, _ in those]
            else:
                values += [read(subject) for _, read in those]
        values += [read(subject) for read in self._others]
        return values


class Looks:
    """Looks at environments with some steps; each fact is read once."""

    __slots__ = ("_answers", "_facts", "_groups", "_in_order", "_looks", "_parts", "_place_of")

    def __init__(self, steps: Sequence[Step]) -> None:
        memories = Memories()
        self._groups = [Group(members, memories) for members in grouped(steps)]
        for row in [row for group in self._groups if len(group.rows) > 1 for row in group.rows]:
            row.memory = memories.new()  # fewer facts decide about a row than about its group
        asking: dict[Reader, list[Group]] = {}
        for group in self._groups:
            for read in group.conditions:
                asking.setdefault(read, []).append(group)
        self._facts = _Facts([*[read for group in self._groups for read in group.needs], *asking])
        values: list[Any] = [*self._facts.readers] or [None]
        self._answers: list[tuple[int, int, _Answers]] = []
        for read, those in asking.items():
            answers = _Answers([group.conditions[read] for group in those])
            self._answers.append((self._facts.readers.index(read), len(values), answers))
            values += [(read, group) for group in those]
        self._place_of = {value: place for place, value in enumerate(values)}
        self._looks = [self._look_of(group) for group in self._groups]
        self._in_order = _in_order([place for group in self._groups for place in group.places])
        self._parts: dict[frozenset[str], Part] = {}

    def look(self, subject: Subject) -> tuple[Sequence[Found | None], list[Any]]:
        """What each step says, in their order, and the facts read."""
        values = self._facts.read(subject) or [None]
        for place, _, answers in self._answers:
            values += answers[values[place]]
        return self._in_order(_said(self._looks, values, subject)), values

    def part(self, changed: frozenset[str]) -> Part:
        """The groups with an error that can be met or unmet by the change of some distributions."""
        known = self._parts.get(changed)
        if known is None:
            if len(self._parts) >= _MOST_PARTS:
                self._parts.clear()
            known = self._parts[changed] = self._part(changed)
        return known

    def _part(self, changed: frozenset[str]) -> Part:
        touched = [group for group in self._groups if any(_can_change(row, changed) for row in group.rows)]
        touched = [group for group in touched if any(row.rule.severity == "error" for row in group.rows)]
        reads = dict.fromkeys([read for group in touched for read in (*group.needs, *group.conditions)])
        facts = _Facts([read for read in reads if _reads_one_of(read, changed)])
        places = [self._place_of[read] for read in facts.readers]
        answers = [each for each in self._answers if each[0] in places]
        back = [place for group in touched for place in group.places]
        return Part(facts, places, answers, [self._look_of(group) for group in touched], back)

    def _look_of(self, group: Group) -> Look:
        place_of = self._place_of
        own = [place_of[read] for read in group.needs] + [place_of[read, group] for read in group.conditions] or [0]
        # twice where there is one: `itemgetter` gives a tuple only for several
        return itemgetter(*(own if len(own) > 1 else own * 2)), group.memory.known, group.look


def _reads_one_of(read: Reader, changed: frozenset[str]) -> bool:
    """Whether a fact may be another one after the change of some distributions."""
    if read in names_of:
        return names_of[read] in changed
    if read in fields_of:
        return fields_of[read][0] in changed
    return read not in facts_of or facts_of[read][0] in _CHANGING


_CHANGING = ("torch_build", "import_owners")  # beside the distributions themselves


def _can_change(row: Row, changed: frozenset[str]) -> bool:
    """Whether the change of some distributions can change what a row says."""
    need, when = row.rule.need, row.rule.when
    if isinstance(need, RequirementsNeed | RequiredInTurnNeed | LinksNeed | KernelsNeed):  # may be about any of them
        return True
    decides = (*distributions_of(need), row.host, *[name for name, _ in when.release], *when.absent)
    return not changed.isdisjoint(decides)


class Part:
    """A second look at an environment of which only some distributions have changed."""

    __slots__ = ("_answers", "_back", "_facts", "_looks", "_places")

    def __init__(
        self,
        facts: _Facts,
        places: list[int],
        answers: list[tuple[int, int, _Answers]],
        looks: list[Look],
        back: list[int],
    ) -> None:
        self._facts = facts
        self._places = places
        self._answers = answers
        self._looks = looks
        self._back = back

    def look(self, looked: Sequence[Found | None], values: list[Any], subject: Subject) -> list[Found | None]:
        """What the steps say, by what they said before and the facts that were read then."""
        values = values.copy()
        for place, fact in zip(self._places, self._facts.read(subject)):
            values[place] = fact
        for place, first, answers in self._answers:
            made = answers[values[place]]
            values[first : first + len(made)] = made
        again = list(looked)
        for place, found in zip(self._back, _said(self._looks, values, subject)):
            again[place] = found
        return again


def _said(looks: list[Look], values: list[Any], subject: Subject) -> list[Found | None]:
    said: list[Found | None] = []
    for pick, known, look in looks:
        facts = pick(values)
        said += known.get(facts) or look(facts, subject)
    return said


def _in_order(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that puts what is in the order of some places into their own order."""
    return itemgetter(*sorted(range(len(places)), key=places.__getitem__)) if len(places) > 1 else tuple
