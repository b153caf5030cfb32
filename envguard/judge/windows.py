"""Pairs of releases that work together, by the table that was read from the released wheels."""

from __future__ import annotations

from envguard.frozen import replace
from envguard.judge.subject import Finding, parts_of, shared, told_in, undecided, version_of
from envguard.model import Unreadable
from envguard.versions import key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.rule import Window, WindowNeed
    from envguard.versions import Clause


def window(need: WindowNeed) -> tuple[Reader, Judge]:
    """The versions of two distributions are a pair that works, as far as some effects go."""
    read_one, read_other = version_of(need.distribution), version_of(need.other)
    section = "compiled_kernels" if need.effects == ("kernels-skipped",) else "import_links"
    unseen = replace(need, windows=tuple([row for row in need.windows if row.unseen]))

    read_told = told_in(section)

    def read(subject: Subject) -> Any:
        return read_one(subject), read_other(subject), need.told_by in (read_told(subject) or ())

    reader = shared(("window", need.distribution, need.other, section, need.told_by), read)
    parts_of[reader] = read_one, read_other, read_told

    def judge(facts: Any) -> Finding | None:
        version, other, files_told = facts
        asked = unseen if files_told else need  # the installed files tell more than versions
        if not asked.windows or version is None or other is None:  # whether they are there is another rule's question
            return None
        pair = f"releases of {need.distribution} and {need.other} that work together"
        if isinstance(version, Unreadable):
            if isinstance(other, str) and all(serves(row, other) for row in asked.windows):
                return Finding("met", pair, f"{need.other} {other}, which serves every release of {need.distribution}")
            return undecided(pair, version)
        if isinstance(other, Unreadable):
            return _without_other(asked, version, other, pair)
        return _judged(asked, version, other, pair)

    return reader, judge


def _without_other(need: WindowNeed, version: str, other: Unreadable, pair: str) -> Finding:
    """What the version of one alone says: some releases ask for nothing, and some work with no release of the other."""
    rows = [rows_for(need, effect, version) for effect in need.effects]
    if all(those == [None] for those in rows):
        return Finding("met", pair, f"{need.distribution} {version}, which works with every {need.other}")
    for those in rows:
        if len(those) == 1 and those[0] is not None and those[0].needs is None:
            return Finding("unmet", _needed(need, those[0], version), f"{need.distribution} {version}")
    return undecided(pair, other)


def _judged(need: WindowNeed, version: str, other: str, pair: str) -> Finding:
    there = f"{need.other} {other}"
    if key(version) is None or key(other) is None:
        return Finding("undecided", pair, f"{need.distribution} {version} and {there}: not both are PEP 440 versions")
    note = _newer(need, version, other)
    failing, fits = worst(need, version, other)
    if failing is None:
        return Finding("met", pair, f"{need.distribution} {version} and {there}{note}")
    needed = _needed(need, failing, version)
    if fits is False:
        return Finding("unmet", needed, f"{there}{_EFFECTS[failing.effect]}{note}")
    between = "a pre-release between two releases, which may or may not have what is needed"
    return Finding("undecided", needed, f"{need.distribution} {version} and {there}, {between}")


_EFFECTS = {
    "import-fails": "",
    "aborts": ", with which the whole process is aborted",
    "kernels-skipped": ", with which they are skipped",
    "feature-lost": "",
}


def _needed(need: WindowNeed, row: Window, version: str) -> str:
    one = f"{need.distribution} {version}"
    if row.needs is None:
        return f"another {need.distribution} than {version}, which no {need.other} serves"
    wanted = need.other + ",".join([clause.operator + clause.version for clause in row.needs])
    purpose = f"the compiled kernels of {one}" if row.effect == "kernels-skipped" else one
    missing = f" ({', '.join(row.missing)})" if row.missing else ""
    return f"{wanted} for {purpose}{missing}"


def _newer(need: WindowNeed, version: str, other: str) -> str:
    """What to say where a release is newer than all that the table was made from."""
    newer = [
        f"{name} {newest}"
        for name, there, newest in (
            (need.distribution, version, need.newest),
            (need.other, other, need.newest_other),
        )
        if newest and (key(there) or ()) > (key(newest) or ()) and not satisfies(there, _same(newest), "specifier")
    ]
    return f" (judged as {' and '.join(newer)}, the newest that the table knows)" if newer else ""


def _same(version: str) -> tuple[Clause, ...]:
    from envguard.versions import parse_clauses

    return parse_clauses(f"=={version}")


def worst(need: WindowNeed, version: str, other: str) -> tuple[Window | None, bool | None]:
    """The row that a pair does not fit, and False; None instead where it may fit; no row where it fits them all."""
    doubtful: Window | None = None
    for effect in need.effects:
        rows = rows_for(need, effect, version)
        answers = [True if row is None else serves(row, other) for row in rows]
        unfit = [row for row, answer in zip(rows, answers) if answer is not True]
        if unfit and unfit[0] is not None:
            if True not in answers and None not in answers:
                return unfit[0], False
            doubtful = doubtful or unfit[0]
    return doubtful, None if doubtful else True


def rows_for(need: WindowNeed, effect: str, version: str) -> list[Window | None]:
    """The rows that may be about a version, None for "no row": of a release one, of a pre-release between two both."""
    windows = [row for row in need.windows if row.effect == effect]
    for row in windows:
        if satisfies(version, row.releases, "specifier"):
            return [row]
    around: list[Window | None] = [row for row in windows if satisfies(version, row.releases, "specifier") is None]
    # a bound that is no other row's bound has releases without a row on its other side
    return around if len(around) > 1 else [*around, None]


def serves(row: Window, other: str) -> bool | None:
    """Whether a version of the other distribution is one that a row asks for; None for a pre-release of a bound."""
    return False if row.needs is None else satisfies(other, row.needs, "specifier")
