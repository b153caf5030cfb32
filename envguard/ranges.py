"""A range of versions against another: what every version of it says, where they all say the same."""

from __future__ import annotations

from envguard.versions import key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from envguard.versions import Clause


def settles(given: tuple[Clause, ...], wanted: tuple[Clause, ...], comparison: str) -> bool | None:
    """True where every release that meets `given` meets `wanted`, False where none does; None where some do, or where
    no release meets `given`.

    Between two neighbouring bounds of either side nothing changes, so one version between each two, and the bounds
    themselves, speak for all.
    """
    bounds = {bound for clause in (*given, *wanted) for bound in _bounds(clause)}
    answers = set()
    for version in _samples(bounds):
        if satisfies(version, given, "specifier"):
            answers.add(satisfies(version, wanted, comparison))
    return answers.pop() if len(answers) == 1 else None


def _bounds(clause: Clause) -> Iterator[str]:
    """The versions at which a clause can change its mind."""
    version = clause.version.removesuffix(".*").partition("+")[0]
    yield version
    parsed = key(version)
    if parsed is None:
        return
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    if clause.version.endswith(".*") or clause.operator == "~=":
        prefix = numbers if clause.version.endswith(".*") else numbers[:-1]
        if prefix:  # ==2.6.* ends where 2.7 begins, and so does ~=2.6.1
            yield ".".join(map(str, (*prefix[:-1], prefix[-1] + 1)))


def _samples(bounds: set[str]) -> Iterator[str]:
    yield "0"
    for version in bounds:
        parsed = key(version)
        if parsed is None:
            continue
        yield version
        epoch = f"{parsed[0]}!" if parsed[0] else ""
        # the release next after it that no bound names
        yield f"{epoch}{'.'.join(map(str, (*parsed[1], *([0] * 9), 1)))}"
