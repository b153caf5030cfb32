"""Which releases of a backend carry a compiled library that a machine loads, as what a fix installs."""

from __future__ import annotations

from envguard.fixes import newest_run
from envguard.frozen import Frozen, replace
from envguard.versions import Wanted, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envguard.judge.subject import Subject
    from envguard.looks import Memory
    from envguard.rule import Backend, FixTemplate
    from envguard.rulebook import RuleBook


class Carried(Frozen):
    """The releases to install; `again`: the installed one goes first, because an installer would be content with it."""

    wanted: Wanted
    again: bool


def filled(fix: FixTemplate, book: RuleBook, backend: Backend, subject: Subject, memory: Memory) -> FixTemplate:
    """A fix with the releases that it asks for by the compiled library that they carry, as far as there are any."""
    carried = _loading(book, backend, fix.carried or "", subject, memory)
    if carried is None:
        return fix
    away = (carried.wanted.name,) if carried.again else ()
    return replace(fix, install=(*fix.install, carried.wanted), uninstall=(*fix.uninstall, *away))


def _loading(book: RuleBook, backend: Backend, name: str, subject: Subject, memory: Memory) -> Carried | None:
    """The releases of a distribution whose library loads here; None where none is known to."""
    from envguard.judge.native import facts_of, releases_for, releases_that_load, what_loads

    environment, wheels = subject.environment, book.native(name)
    facts = facts_of(subject, name)
    if facts is None or wheels is None:
        return None
    here = name, what_loads(facts)
    loading = memory.get(here) or memory.keep(here, releases_that_load(here[1], wheels))
    versions = name, environment.fact("python", "version"), environment.version("torch")
    suiting = memory.get(versions) or memory.keep(versions, releases_for(*versions[1:], wheels))
    there = environment.version(name)
    asked = name, there, loading, suiting
    known: tuple[Carried | None] | None = memory.get(asked)
    if known is None:
        floor = next((wanted.clauses for wanted in backend.install if wanted.name == name), ())
        released = [each.version for each in wheels.all()]
        fitting = {
            version: suits and loads and satisfies(version, floor, "version")
            for version, suits, loads in zip(released, suiting, loading)
        }
        wanted = _run_of(fitting, name)
        fits = satisfies(there, wanted.clauses, "specifier") if wanted and isinstance(there, str) else None
        known = memory.keep(asked, (None if wanted is None else Carried(wanted, fits is not False),))
    return known[0]


def _run_of(fitting: Mapping[str, bool | None], name: str) -> Wanted | None:
    """The newest unbroken run of fitting releases as a requirement; None where none fits.

    A release of which that is not known is taken for the nearest one of its line, else the nearest later one.
    """
    known = list(fitting)
    run = newest_run({version: _as_in_its_line(place, known, fitting) for place, version in enumerate(known)})
    if not run:
        return None
    later = known[known.index(run[-1]) + 1 :]
    above = f",<{later[0]}" if later else ""
    return parse_wanted(f"{name}>={run[0]}{above}")


def _as_in_its_line(place: int, known: Sequence[str], fitting: Mapping[str, bool | None]) -> bool | None:
    line = known[place].rpartition(".")[0]
    later, earlier = known[place:], known[:place][::-1]
    same = [fitting[each] for each in (*later, *earlier) if each.rpartition(".")[0] == line]
    return next((each for each in (*same, *[fitting[each] for each in later]) if each is not None), None)
