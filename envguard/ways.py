"""Ways out for two distributions whose installed releases do not work together.

Either may give way, as far as the rules that apply and the requirements of what else is installed leave it a release.
"""

from __future__ import annotations

from _bisect import bisect_left  # the C functions alone
from _operator import itemgetter

from envguard.fixes import contradict, narrow, newest_run
from envguard.frozen import Frozen
from envguard.judge.subject import text_of, version_of
from envguard.judge.windows import rows_for, serves, worst
from envguard.markers import holds, name_of
from envguard.rows import conditions
from envguard.rule import DistributionNeed, FixTemplate, KernelsNeed, LinksNeed, WindowNeed
from envguard.versions import Clause, Wanted, key, parse_wanted, public_release, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    from envguard.judge.subject import Subject
    from envguard.looks import Memories, Memory
    from envguard.model import Environment
    from envguard.rows import Row, Step
    from envguard.rulebook import RuleBook

    Clauses: TypeAlias = Mapping[str, tuple[Clause, ...]]
    Limits: TypeAlias = "Mapping[str, Sequence[_Limit]]"
    Demands: TypeAlias = Mapping[str, Sequence[tuple[str, Wanted]]]  # who asks, and for what


class Way(Frozen):
    """What to install so that a pair works, and the words for it; nothing to install where no way exists.

    `brief` names every way that there is.
    """

    wanted: Wanted | None
    text: str
    brief: str
    names_others: bool = False  # the text tells which installed distribution stands in the way


class Told(Frozen):
    """A way out as a fix, and in brief."""

    template: FixTemplate
    brief: str


class _Limit(Frozen):
    """What one half of a pair, that is there, asks of the other half."""

    need: WindowNeed
    half: str
    clauses: tuple[Clause, ...]


class Pairs:
    """The pairs that a request is about; it remembers what equal versions gave."""

    def __init__(self, book: RuleBook, steps: Sequence[Step], memories: Memories) -> None:
        self._book = book
        self._releases = Releases(book, memories.new())
        rows = [row for step in steps for row in step.rows]
        pairs = [_Pair(row, self._releases, memories.new()) for row in rows if _is_of_pair(row)]
        self._readers = list(dict.fromkeys([read for pair in pairs for read in pair.readers]))
        self._pairs = [(itemgetter(*map(self._readers.index, pair.readers)), pair) for pair in pairs]
        self._ways, self._lines, self._shuts = memories.new(), memories.new(), memories.new()
        self._halves = frozenset([name for row in rows for name in row.rule.fix.window])
        self._last: tuple[Subject | None, Limits, Demands] = None, {}, {}  # one subject is asked about several times

    def limited(self, constraints: Clauses, subject: Subject, changing: Container[str] = ()) -> Clauses:
        """Constraints with the bounds that the installed halves of pairs set for the other halves.

        A half that is changing sets none, and neither does one that leaves no release: then that half has to change.
        """
        limits, _ = self._asked_of(subject)
        limited = {**constraints}
        for name, those in limits.items():
            for limit in those:
                both = (*limited.get(name, ()), *limit.clauses)
                if limit.half not in changing and not self._shut(name, both, subject.python):
                    limited[name] = both
        return limited

    def _shut(self, name: str, clauses: tuple[Clause, ...], python: str | None) -> bool:
        """Whether no release meets some clauses, or none that is for a Python."""
        asked = name, clauses, python
        known: tuple[bool] | None = self._shuts.get(asked)
        if known is None:
            known = self._shuts.keep(asked, (contradict(clauses) or self._book.lacks(name, clauses, python),))
        return known[0]

    def way(
        self, row: Row, subject: Subject, constraints: Clauses, rows: Iterable[Row], runnable: tuple[Clause, ...]
    ) -> Told:
        """The way out of the pair that a row is about; `rows` are those that apply, `runnable` is what bounds torch on
        this machine.
        """
        environment, order = subject.environment, row.rule.fix.window
        limits, demands = self._asked_of(subject)
        asked: list[Any] = [row, runnable if "torch" in order else None, subject.python]
        for name in order:
            own = frozenset([wanted.clauses for _, wanted in demands.get(name, ())])
            asked += environment.version(name), constraints.get(name), tuple(limits.get(name, ())), own
        key = tuple(asked)
        known: Told | None = self._ways.get(key)
        if known is None:
            asking = [each for each in rows if each.constrains and each.rule.need.wanted.name in order]  # type: ignore[union-attr]
            way = self._way(row, subject, constraints, asking, runnable)
            words = " ".join([each for each in (way.text, row.rule.fix.text) if each])
            template = FixTemplate(install=(way.wanted,) if way.wanted else (), text=words)
            known = Told(template, way.brief)
            if not way.names_others:
                self._ways.keep(key, known)
        return known

    def _way(
        self,
        row: Row,
        subject: Subject,
        constraints: Clauses,
        asking: Iterable[Row],
        runnable: tuple[Clause, ...],
    ) -> Way:
        environment, order, need = subject.environment, row.rule.fix.window, row.rule.need
        if not isinstance(need, WindowNeed):
            need = self._book.windows(order[0], order[1], _EFFECTS[type(need)])
            if _works(need, environment):
                names = " or of ".join(order)
                return Way(
                    None, f"Install another release of {names}, so that they fit.", f"another release of {names}"
                )
        ids: dict[str, list[str]] = {}
        for each in asking:
            if isinstance(each.rule.need, DistributionNeed) and each.rule.need.wanted.clauses:
                ids.setdefault(each.rule.need.wanted.name, []).append(each.rule.id)
        limits, demands = self._asked_of(subject)
        bounds = {}
        for name in order:
            declared = [
                _Bound(wanted.clauses, f"{by} {text_of(environment.version(by))} requires {wanted.text}")
                for by, wanted in demands.get(name, ())
            ]
            of_pairs = [
                _Bound(limit.clauses, f"{limit.half} {environment.version(limit.half)} needs another {name}")
                for limit in limits.get(name, ())
                if limit.need != need
            ]
            of_machine = (
                [_Bound(runnable, f"the driver and the GPU run torch{narrow(runnable)}")]
                if runnable and name == "torch"
                else []
            )
            own = _own_bound(name, constraints.get(name, ()), ids.get(name, ()))
            bounds[name] = [*declared, *own, *of_pairs, *of_machine]
        return way_out(self._releases, need, order, environment, constraints, bounds, subject.python)

    def _asked_of(self, subject: Subject) -> tuple[Limits, Demands]:
        """What the pairs that have to work together ask of their halves, and what other distributions declare."""
        last = self._last  # read once: without a global lock another thread may ask about another subject
        if last[0] is not subject:
            limits: dict[str, list[_Limit]] = {}
            facts = [read(subject) for read in self._readers]
            for pick, pair in self._pairs:
                for name, limit in pair.limits(pick(facts), subject):
                    limits.setdefault(name, []).append(limit)
            last = self._last = subject, limits, self._demanded(subject)
        return last[1], last[2]

    def _demanded(self, subject: Subject) -> Demands:
        """What installed distributions declare about halves of pairs, as far as that was observed."""
        demands: dict[str, list[tuple[str, Wanted]]] = {}
        for by, entry in (subject.environment.data.get("distributions") or {}).items():
            requires = entry and entry.get("requires")
            for wanted, marker in self._about_halves(tuple(requires)) if requires else ():
                if marker is None or holds(marker, subject.known) is not False:
                    demands.setdefault(wanted.name, []).append((by, wanted))
        return demands

    def _about_halves(self, requires: tuple[str, ...]) -> tuple[tuple[Wanted, str | None], ...]:
        """What some requirements bound of halves of pairs, and the marker of each."""
        known: tuple[tuple[tuple[Wanted, str | None], ...]] | None = self._lines.get(requires)
        if known is None:
            read = [_bounding(line) for line in requires if name_of(line) in self._halves]
            known = self._lines.keep(requires, (tuple([each for each in read if each is not None]),))
        return known[0]


class _Pair:
    """Two distributions that a row holds together, where it applies; also where half of them is not there yet."""

    __slots__ = ("_memory", "_need", "_releases", "_row", "readers")

    def __init__(self, row: Row, releases: Releases, memory: Memory) -> None:
        self._row = row
        self._need: WindowNeed = row.rule.need  # type: ignore[assignment]
        asked = [version_of(name) for name in _halves(self._need)]
        self.readers = list(dict.fromkeys([*asked, *[read for read, _, _ in conditions(row.rule.when)]]))
        self._releases = releases
        self._memory = memory

    def limits(self, facts: tuple[Any, ...], subject: Subject) -> tuple[tuple[str, _Limit], ...]:
        """What each half that is there asks of the other one, by the name of that; `facts` are what `readers` gave."""
        known: tuple[tuple[tuple[str, _Limit], ...]] | None = self._memory.get(facts)
        return (known or self._memory.keep(facts, (tuple(self._limits(subject)),)))[0]

    def _limits(self, subject: Subject) -> Iterator[tuple[str, _Limit]]:
        if self._row.applies(subject) is not False:
            one, other = _halves(self._need)
            for name, half in ((one, other), (other, one)):
                clauses = self._releases.above(self._need, name, subject.environment.version(half))
                if clauses:
                    yield name, _Limit(self._need, half, clauses)


def _is_of_pair(row: Row) -> bool:
    return row.rule.severity == "error" and isinstance(row.rule.need, WindowNeed)


# What the files say of one distribution, by the table of pairs: the effects whose rows tell the way out.
_EFFECTS: dict[type, tuple[str, ...]] = {LinksNeed: ("import-fails", "aborts"), KernelsNeed: ("kernels-skipped",)}


def _halves(need: WindowNeed) -> tuple[str, str]:
    return need.distribution, need.other


class _Bound(Frozen):
    """Why a distribution cannot have just any release: who asks, and for what."""

    clauses: tuple[Clause, ...]
    text: str


class _Side(Frozen):
    """One of the two distributions: what is installed, and the releases that would work with the other one.

    `possible` are the newest of those that nothing else excludes, without a gap; `above` is the first release after
    them, `excluded_by` says what excludes the rest.
    """

    name: str
    version: str
    possible: tuple[str, ...]
    above: str | None
    excluded_by: str


class Releases:
    """The known releases of one half of a pair that work with the other half; it remembers what it found."""

    def __init__(self, book: RuleBook, memory: Memory) -> None:
        self._book = book
        self._known = memory

    def all(self, name: str) -> tuple[str, ...]:
        """Every release of a distribution of which something is known, oldest first."""
        known: tuple[tuple[str, ...]] | None = self._known.get(name)
        return (known or self._known.keep(name, (self._book.releases_read(name),)))[0]

    def serving(self, need: WindowNeed, name: str, there: Any) -> tuple[str, ...]:
        """Those of one half that work with what is there of the other, as far as that is known."""
        asked = need.distribution, need.other, need.effects, name, self._place(need, name, there)
        known: tuple[tuple[str, ...]] | None = self._known.get(asked)
        if known is None:
            known = self._known.keep(asked, (self._serving(need, name, there),))
        return known[0]

    def _place(self, need: WindowNeed, name: str, there: Any) -> Any:
        """What stands for the version of the half beside `name`: of a plain release its place among the bounds of the
        rows, because releases with the same place are served alike.
        """
        if not isinstance(there, str):
            return None
        bounds = self._bounds(need, need.other if name == need.distribution else need.distribution)
        parsed = key(there)
        public = None if parsed is None else public_release(parsed)
        if bounds is None or public is None:
            return there
        place = bisect_left(bounds, public)
        return place, place < len(bounds) and bounds[place] == public

    def _bounds(self, need: WindowNeed, half: str) -> list[Any] | None:
        """The versions with which rows compare one half, in order; None where they do so in other ways too."""
        asked = need.distribution, need.other, need.effects, half, "bounds"
        known: tuple[list[Any] | None] | None = self._known.get(asked)
        if known is None:
            of_first = half == need.distribution
            clauses = [clause for row in need.windows for clause in (row.releases if of_first else row.needs or ())]
            keys = [key(clause.version) if clause.operator in _ORDERED else None for clause in clauses]
            found = [each for each in keys if each is not None and each == public_release(each)]
            known = self._known.keep(asked, (sorted(found) if len(found) == len(keys) else None,))
        return known[0]

    def _serving(self, need: WindowNeed, name: str, there: Any) -> tuple[str, ...]:
        """As `fits` says of each: a row answers once for all releases that it is about."""
        released = self.all(name)
        if not isinstance(there, str):
            return tuple([version for version in released if fits(need, name, version, there)])
        if name == need.distribution:
            open_rows = {place for place, row in enumerate(need.windows) if serves(row, there) is not False}
            about = zip(released, self._rows_of_each(need))
            return tuple([version for version, told in about if not any(map(open_rows.isdisjoint, told))])
        serving = set(released)
        for effect in need.effects:
            rows = rows_for(need, effect, there)
            if None not in rows:
                serving &= set().union(*[self._served(need, need.windows.index(row)) for row in rows])
        return tuple([version for version in released if version in serving])

    def _rows_of_each(self, need: WindowNeed) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each release of a pair's first half the rows of each effect that may be about it, where one surely is."""
        asked = need.distribution, need.other, need.effects, "rows"
        known: tuple[tuple[tuple[int, ...], ...], ...] | None = self._known.get(asked)
        if known is None:
            made = []
            for version in self.all(need.distribution):
                told = [rows_for(need, effect, version) for effect in need.effects]
                made.append(tuple([tuple(map(need.windows.index, rows)) for rows in told if None not in rows]))
            known = self._known.keep(asked, tuple(made))
        return known

    def _served(self, need: WindowNeed, place: int) -> frozenset[str]:
        """The releases of a pair's other half that may serve a row."""
        asked = need.distribution, need.other, need.effects, place
        known: tuple[frozenset[str]] | None = self._known.get(asked)
        if known is None:
            row = need.windows[place]
            found = frozenset([version for version in self.all(need.other) if serves(row, version) is not False])
            known = self._known.keep(asked, (found,))
        return known[0]

    def is_for(self, name: str, version: str, python: str | None) -> bool:
        """Whether a release is for a Python, as far as that is known."""
        return self._book.is_for(name, version, python)

    def meeting(self, name: str, clauses: tuple[Clause, ...]) -> tuple[str, ...]:
        """Those that meet some clauses."""
        known: tuple[tuple[str, ...]] | None = self._known.get((name, clauses))
        if known is None:
            found = tuple([version for version in self.all(name) if satisfies(version, clauses, "specifier")])
            known = self._known.keep((name, clauses), (found,))
        return known[0]

    def possible(
        self, need: WindowNeed, name: str, there: Any, bounds: frozenset[tuple[Clause, ...]], python: str | None
    ) -> tuple[tuple[str, ...], str | None]:
        """The newest of those for a Python that work with what is there of the other half and that nothing excludes,
        without a gap; and the first release after them.
        """
        asked = need.distribution, need.other, need.effects, name, self._place(need, name, there), bounds, python
        known: tuple[tuple[str, ...], str | None] | None = self._known.get(asked)
        if known is None:
            released, serving = self.all(name), self.serving(need, name, there)
            allowed = set(released).intersection(*[self.meeting(name, clauses) for clauses in bounds])
            allowed = {each for each in allowed if self._book.is_for(name, each, python)}
            run = newest_run({each: each in serving for each in released if each in allowed})
            above = released[released.index(run[-1]) + 1 :] if run else ()
            known = self._known.keep(asked, (run, above[0] if above else None))
        return known

    def above(self, need: WindowNeed, name: str, there: Any) -> tuple[Clause, ...]:
        """The upper bound that what is there of one half sets for the other."""
        if not isinstance(there, str):
            return ()
        asked = need.distribution, need.other, need.effects, name, self._place(need, name, there), "above"
        known: tuple[tuple[Clause, ...]] | None = self._known.get(asked)
        if known is None:
            released, good = self.all(name), self.serving(need, name, there)
            later = released[released.index(good[-1]) + 1 :] if good else ()
            known = self._known.keep(asked, ((Clause("<", later[0]),) if later else (),))
        return known[0]


_ORDERED = (">=", "<=", ">", "<", "==", "!=")


def way_out(
    releases: Releases,
    need: WindowNeed,
    order: Sequence[str],
    environment: Environment,
    constraints: Clauses,
    bounds: Mapping[str, Sequence[_Bound]],
    python: str | None,
) -> Way:
    """The way out of a pair that does not work: the first of `order` that can give way does.

    `constraints` are the clauses of the rules that apply, `bounds` why not every release will do, and
    `python` is the Python that they have to be for.
    """
    sides = [_side(releases, need, name, environment, bounds[name], python) for name in order]
    giving = next((side for side in sides if side.possible), None)
    if giving is None:
        reasons = " And ".join([side.excluded_by for side in sides if side.excluded_by])
        names = " and ".join([side.name for side in sides])
        return Way(None, f"No releases of {names} fit here. {reasons}", f"no releases of {names} fit here", True)
    staying = next(side for side in sides if side is not giving)
    text = _words(giving)
    brief = _spec(giving)
    if staying.possible:
        text = f"{text}, or {_lower(_words(staying))}."
        brief += f", or {_spec(staying)}"
    else:
        text = f"{text}. {staying.excluded_by}"
    allowed = releases.meeting(giving.name, constraints.get(giving.name, ()))
    return Way(parse_wanted(giving.name + _range(giving, allowed)), text, brief, not staying.possible)


def _works(need: WindowNeed, environment: Environment) -> bool:
    """Whether the table knows nothing against the pair that is installed."""
    version = environment.version(need.distribution)
    return not isinstance(version, str) or fits(need, need.distribution, version, environment.version(need.other))


def fits(need: WindowNeed, name: str, version: str, there: Any) -> bool:
    """Whether a release of one half of a pair works with what is there of the other, as far as that is known."""
    if not isinstance(there, str):
        rows = [row for effect in need.effects for row in rows_for(need, effect, version)]
        return name == need.other or not any(row is not None and row.needs is None for row in rows)
    one, other = (version, there) if name == need.distribution else (there, version)
    return worst(need, one, other)[1] is not False


def _side(
    releases: Releases,
    need: WindowNeed,
    name: str,
    environment: Environment,
    bounds: Sequence[_Bound],
    python: str | None,
) -> _Side:
    other = need.other if name == need.distribution else need.distribution
    there, version = environment.version(other), environment.version(name)
    serving = releases.serving(need, name, there)
    possible, above = releases.possible(need, name, there, frozenset([bound.clauses for bound in bounds]), python)
    return _Side(
        name,
        str(version),
        possible,
        above,
        "" if possible else _why_not(releases, name, serving, bounds, there, other, python),
    )


def _own_bound(name: str, clauses: tuple[Clause, ...], ids: Iterable[str]) -> list[_Bound]:
    """What the rules that apply ask of a distribution."""
    wanted = name + ",".join([clause.operator + clause.version for clause in clauses])
    return [_Bound(clauses, f"{', '.join(ids)} asks for {wanted}")] if clauses else []


def _why_not(
    releases: Releases,
    name: str,
    serving: Sequence[str],
    bounds: Sequence[_Bound],
    there: Any,
    other: str,
    python: str | None,
) -> str:
    """What excludes every release of a distribution that would serve."""
    if not serving:
        return f"No known release of {name} works with {other} {there}."
    for bound in bounds:
        if set(serving).isdisjoint(releases.meeting(name, bound.clauses)):
            return f"{name} cannot give way: {bound.text}."
    reasons = [bound.text for bound in bounds]
    if not all(releases.is_for(name, version, python) for version in serving):
        reasons.append(f"others are not for Python {python}")
    return f"{name} cannot give way: {'; '.join(reasons)}." if reasons else ""


def _bounding(line: str) -> tuple[Wanted, str | None] | None:
    """A requirement and its marker; None where it is for an extra, cannot be read, or leaves every version."""
    text, _, marker = line.partition(";")
    try:
        wanted = parse_wanted(text.strip())
    except ValueError:
        return None
    return (wanted, marker or None) if wanted.clauses and "extra" not in marker else None


def _range(side: _Side, allowed: Sequence[str]) -> str:
    """The possible releases as a specifier: no bound where nothing that the rules allow is beyond it."""
    lower = f">={side.possible[0]}" if side.possible[0] != allowed[0] else ""
    upper = f"<{side.above}" if side.above else ""
    if len(side.possible) == 1 and lower and upper:
        return f"=={side.possible[0]}"
    return ",".join([bound for bound in (lower, upper) if bound]) or f">={side.possible[0]}"


def _words(side: _Side) -> str:
    """The way of one distribution, from what is there to the releases that work."""
    newer, older = _around(side)
    if len(side.possible) == 1:
        return f"{'Upgrade' if newer else 'Go back'} to {side.name}=={side.possible[0]}"
    if newer and not older:
        return f"Upgrade {side.name} to {newer[0]} or newer" + (f", before {side.above}" if side.above else "")
    return f"Install {_spec(side)}"


def _spec(side: _Side) -> str:
    """The same as short as it can be said."""
    newer, older = _around(side)
    if len(side.possible) == 1:
        return f"{side.name}=={side.possible[0]}"
    if newer and not older:
        return f"{side.name}>={newer[0]}"
    return f"{side.name}<{side.above}" if side.above else f"{side.name}>={side.possible[0]}"


def _around(side: _Side) -> tuple[list[str], list[str]]:
    """The releases that work, newer and older than the one that is there."""
    mine = key(side.version) or ()
    newer = [version for version in side.possible if (key(version) or ()) > mine]
    return newer, [version for version in side.possible if version not in newer]


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
