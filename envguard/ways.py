"""Ways out for two distributions whose installed releases do not work together.

Either may give way, as far as the rules that apply and the requirements of what else is installed leave it a release.
"""

from __future__ import annotations

from envguard.fixes import newest_run
from envguard.frozen import Frozen, replace
from envguard.judge.subject import version_of
from envguard.judge.windows import rows_for, worst
from envguard.markers import holds, known_of
from envguard.rule import DistributionNeed, FixTemplate, KernelsNeed, LinksNeed, WindowNeed
from envguard.versions import Clause, Wanted, key, normalize, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from envguard.judge.subject import Subject
    from envguard.looks import Memory
    from envguard.model import Environment
    from envguard.rows import Row, Step
    from envguard.rulebook import RuleBook

    Clauses = Mapping[str, tuple[Clause, ...]]


class Way(Frozen):
    """What to install so that a pair works, and the words for it; nothing to install where no way exists.

    `brief` names every way that there is.
    """

    wanted: Wanted | None
    text: str
    brief: str
    more: str = ""

    @property
    def template(self) -> FixTemplate:
        """The way as a fix; `more` is what a rule says beside it."""
        words = " ".join([each for each in (self.text, self.more) if each])
        return FixTemplate(install=(self.wanted,) if self.wanted else (), text=words)


class Pairs:
    """The pairs that a request is about; it remembers what equal versions gave."""

    def __init__(self, book: RuleBook, steps: Sequence[Step], memory: Memory) -> None:
        self._book = book
        rows = [row for step in steps for row in step.rows if row.rule.severity == "error"]
        self._rows = [(row, row.rule.need) for row in rows if isinstance(row.rule.need, WindowNeed)]
        self._readers = [version_of(name) for name in {n for _, need in self._rows for n in _halves(need)}]
        self._limits = memory

    def limited(self, constraints: Clauses, subject: Subject) -> Clauses:
        """Constraints with the bounds that the installed halves of pairs set for the other halves."""
        if not self._rows:
            return constraints
        needs = self._needs(subject)
        asked = tuple([read(subject) for read in self._readers]), *map(id, needs)
        known: tuple[Clauses] | None = self._limits.get(asked)
        more = (known or self._limits.keep(asked, (limits(self._book, needs, subject.environment),)))[0]
        bounded = {name: (*constraints.get(name, ()), *bounds) for name, bounds in more.items()}
        return {**constraints, **bounded} if more else constraints

    def way(self, row: Row, subject: Subject, constraints: Clauses, rows: Iterable[Row]) -> Way:
        """The way out of the pair that a row is about; `rows` are those that apply."""
        order = row.rule.fix.window
        environment, need = subject.environment, row.rule.need
        if not isinstance(need, WindowNeed):
            need = self._book.windows(order[0], order[1], _EFFECTS[type(need)])
            if works(need, environment):
                names = " or of ".join(order)
                text = f"Install another release of {names}, so that they fit."
                return Way(None, text, f"another release of {names}", row.rule.fix.text or "")
        asking: dict[str, list[str]] = {}
        for each in rows:
            if each.constrains and isinstance(each.rule.need, DistributionNeed) and each.rule.need.wanted.clauses:
                asking.setdefault(each.rule.need.wanted.name, []).append(each.rule.id)
        others = [each for each in self._needs(subject) if each != need]
        way = way_out(self._book, need, order, environment, constraints, asking, others)
        return replace(way, more=row.rule.fix.text or "")

    def _needs(self, subject: Subject) -> list[WindowNeed]:
        """The pairs that have to work together here, also where half of one is not there yet."""
        return [need for row, need in self._rows if row.applies(subject) is not False]


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


def limits(book: RuleBook, needs: Iterable[WindowNeed], environment: Environment) -> dict[str, tuple[Clause, ...]]:
    """Upper bounds that the installed half of each pair sets for the other half."""
    bounds: dict[str, tuple[Clause, ...]] = {}
    for need in needs:
        for name, other in ((need.distribution, need.other), (need.other, need.distribution)):
            there = environment.version(other)
            released = book.releases(name)
            if not isinstance(there, str) or not released:
                continue
            good = [version for version in released if _fits(need, name, version, there)]
            if good and good[-1] != released[-1]:
                above = released[released.index(good[-1]) + 1]
                bounds[name] = (*bounds.get(name, ()), Clause("<", above))
    return bounds


def way_out(
    book: RuleBook,
    need: WindowNeed,
    order: Sequence[str],
    environment: Environment,
    constraints: Clauses,
    asking: Mapping[str, Sequence[str]],
    others: Iterable[WindowNeed] = (),
) -> Way:
    """The way out of a pair that does not work: the first of `order` that can give way does.

    `constraints` are the clauses of the rules that apply, `asking` the ids of those rules; `others` are further pairs,
    which the way has to leave whole.
    """
    needs = (need, *others)
    sides = [_side(book, needs, need, name, environment, constraints, asking) for name in order]
    giving = next((side for side in sides if side.possible), None)
    if giving is None:
        reasons = " And ".join([side.excluded_by for side in sides if side.excluded_by])
        names = " and ".join([side.name for side in sides])
        return Way(None, f"No releases of {names} fit here. {reasons}", f"no releases of {names} fit here")
    staying = next(side for side in sides if side is not giving)
    text = _words(giving)
    brief = _spec(giving)
    if staying.possible:
        text = f"{text}, or {_lower(_words(staying))}."
        brief += f", or {_spec(staying)}"
    else:
        text = f"{text}. {staying.excluded_by}"
    released = book.releases(giving.name)
    allowed = [version for version in released if satisfies(version, constraints.get(giving.name, ()), "specifier")]
    return Way(parse_wanted(giving.name + _range(giving, allowed)), text, brief)


def works(need: WindowNeed, environment: Environment) -> bool:
    """Whether the table knows nothing against the pair that is installed."""
    version = environment.version(need.distribution)
    return not isinstance(version, str) or _fits(need, need.distribution, version, environment.version(need.other))


def _fits(need: WindowNeed, name: str, version: str, there: Any) -> bool:
    """Whether a release of one half of a pair works with what is there of the other, as far as that is known."""
    if not isinstance(there, str):
        rows = [row for effect in need.effects for row in rows_for(need, effect, version)]
        return name == need.other or not any(row is not None and row.needs is None for row in rows)
    one, other = (version, there) if name == need.distribution else (there, version)
    return worst(need, one, other)[1] is not False


def _side(
    book: RuleBook,
    needs: tuple[WindowNeed, ...],
    need: WindowNeed,
    name: str,
    environment: Environment,
    constraints: Clauses,
    asking: Mapping[str, Sequence[str]],
) -> _Side:
    other = need.other if name == need.distribution else need.distribution
    there, version = environment.version(other), environment.version(name)
    serving = [each for each in book.releases(name) if _fits(need, name, each, there)]
    bounds = _bounds_on(name, environment)
    own = constraints.get(name, ())
    if own:
        rules = ", ".join(asking.get(name, ()))
        bounds.append(_Bound(own, f"{rules} asks for {name}{','.join([c.operator + c.version for c in own])}"))
    for each in needs:
        if each is not need and name in (each.distribution, each.other):
            half = each.other if name == each.distribution else each.distribution
            found = environment.version(half)
            if isinstance(found, str):
                clauses = limits(book, (each,), environment).get(name, ())
                bounds.append(_Bound(clauses, f"{half} {found} needs another {name}"))
    released = book.releases(name)
    allowed = [each for each in released if all(satisfies(each, bound.clauses, "specifier") for bound in bounds)]
    possible = newest_run({each: each in serving for each in allowed})
    above = released[released.index(possible[-1]) + 1 :] if possible else ()
    return _Side(
        name,
        str(version),
        possible,
        above[0] if above else None,
        _why_not(name, serving, bounds, there, other),
    )


def _why_not(name: str, serving: Sequence[str], bounds: Sequence[_Bound], there: Any, other: str) -> str:
    """What excludes every release of a distribution that would serve."""
    if not serving:
        return f"No known release of {name} works with {other} {there}."
    for bound in bounds:
        if not any(satisfies(each, bound.clauses, "specifier") for each in serving):
            return f"{name} cannot give way: {bound.text}."
    return f"{name} cannot give way: {'; '.join([bound.text for bound in bounds])}." if bounds else ""


def _bounds_on(name: str, environment: Environment) -> list[_Bound]:
    """What the other installed distributions declare about one, as far as their requirements were observed."""
    bounds = []
    known = known_of(environment)
    for by, entry in (environment.data.get("distributions") or {}).items():
        for line in (entry or {}).get("requires") or ():
            if _names(line, name):
                wanted = _applying(line, known)
                if wanted is not None and wanted.clauses:
                    bounds.append(_Bound(wanted.clauses, f"{by} {entry.get('version')} requires {wanted.text}"))
    return bounds


def _names(line: str, name: str) -> bool:
    """Whether a requirement is about a distribution."""
    end = next((index for index, sign in enumerate(line) if sign in "<>=!~[ (;@"), len(line))
    return normalize(line[:end]) == name


def _applying(line: str, known: Mapping[str, str]) -> Wanted | None:
    """A requirement that holds where some marker variables are known; one that cannot be judged is taken to hold."""
    text, _, marker = line.partition(";")
    if "extra" in marker or (marker and holds(marker, known) is False):
        return None
    try:
        return parse_wanted(text.strip())
    except ValueError:
        return None


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
