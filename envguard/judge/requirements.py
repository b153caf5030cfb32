"""Needs about what distributions declare: their requirements, those of their requirements, and their Python."""

from __future__ import annotations

from envguard.judge.subject import Finding, fields_of, shared, text_of, undecided
from envguard.markers import NOT_FOLLOWED, declared
from envguard.model import Unreadable
from envguard.versions import parse_clauses, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.model import Environment, Kind, Severity
    from envguard.rule import RequiredInTurnNeed, RequirementsNeed, RequiresPythonNeed
    from envguard.versions import Wanted


def requirements(need: RequirementsNeed) -> tuple[Reader, Judge]:
    """What a distribution itself declares is met."""
    name, imported, compared = need.distribution, need.imported, need.compared

    def read(subject: Subject) -> Any:
        environment = subject.environment
        entry = environment.distribution(name)
        if entry is None or isinstance(entry, Unreadable):
            return entry
        requires = entry.get("requires")
        if requires is None:
            return Unreadable(f"the requirements of {name} were not observed")
        wanted = declared(tuple(requires), subject.known)
        if wanted is None:
            return Unreadable(f"the metadata of {name} cannot be read: one of its requirements is malformed")
        if need.unused:
            wanted = tuple([each for each in wanted if each.name not in need.unused])
        versions = tuple([environment.version(each.name) for each in wanted])
        return entry["version"], wanted, versions, None in versions and _has_cuda(environment)

    def judge(facts: Any) -> Finding | None:
        needed = f"what {name} itself declares"
        if facts is None:
            return None
        if isinstance(facts, Unreadable):
            return undecided(needed, facts) if imported is None else None
        version, wanted, versions, has_cuda = facts
        wrong, unknown = _compared(wanted, versions)
        graver = [each for each in wrong if _counts(each[0].name, imported if each[2] else compared)]
        if has_cuda:  # what the packages would bring, the system has
            graver = [each for each in graver if not each[0].name.startswith("nvidia-")]
        if wrong:
            severity: Severity | None = None if graver else "warning"
            told = graver or wrong
            needed = f"{', '.join(each[0].text for each in told)} (declared by {name} {text_of(version)})"
            kind: Kind = "absent" if any(missing for _, _, missing in told) else "version"
            return Finding("unmet", needed, ", ".join(there for _, there, _ in told), kind, severity)
        open_ones = [there for each, there in unknown if _counts(each.name, imported)]
        if open_ones and imported is not None:
            return None
        if open_ones:
            return Finding("undecided", needed, "; ".join(open_ones))
        return Finding("met", needed, f"all {len(wanted)} requirements of {name} {text_of(version)}")

    return read, judge


def _has_cuda(environment: Environment) -> bool:
    """Whether the loader finds CUDA's libraries without NVIDIA's packages."""
    found = environment.section("system_libraries")
    return isinstance(found, dict) and any(name.startswith("libcudart") and found[name] for name in found)


def _compared(
    wanted: tuple[Wanted, ...], versions: tuple[Any, ...]
) -> tuple[list[tuple[Wanted, str, bool]], list[tuple[Wanted, str]]]:
    """The requirements that are not met, with what is there and whether nothing is; and those not known to be."""
    wrong, unknown = [], []
    for each, there in zip(wanted, versions):
        fits = satisfies(there, each.clauses, "specifier") if isinstance(there, str) else None
        if there is None or fits is False:
            wrong.append((each, f"{each.name} {text_of(there, 'is not installed')}", there is None))
        elif fits is None and (isinstance(there, Unreadable) or each.clauses):
            unknown.append((each, f"{each.name}: {text_of(there)}"))
    return wrong, unknown


def _counts(name: str, listed: tuple[str, ...] | None) -> bool:
    """Whether a list of names, and of beginnings of names with a star, holds a name; None holds every one."""
    if listed is None or name in listed:
        return True
    return any(each[-1] == "*" and name.startswith(each[:-1]) for each in listed)


def required_in_turn(need: RequiredInTurnNeed) -> tuple[Reader, Judge]:
    """What a distribution declares, and what that declares in turn, is installed."""
    name = need.distribution

    def read(subject: Subject) -> Any:
        if not isinstance(subject.environment.distribution(name), dict):
            return None  # another rule says so
        return _in_turn(subject, name)

    def judge(facts: Any) -> Finding | None:
        needed = f"all that {name} declares, and what that declares in turn"
        if facts is None:
            return None
        missing, unknown, count = facts
        if missing:
            needed = ", ".join(f"{wanted} (declared by {by})" for wanted, _, by in missing)
            return Finding("unmet", needed, ", ".join(f"{each} is not installed" for _, each, _ in missing), "absent")
        if unknown:
            return Finding("undecided", needed, "; ".join(unknown))
        return Finding("met", needed, f"all {count} of them")

    return read, judge


def _in_turn(subject: Subject, name: str) -> tuple[tuple[tuple[str, str, str], ...], tuple[str, ...], int]:
    """Requirement, name and declarer of each distribution that is missing; what is not known; how many there are."""
    environment = subject.environment
    known = subject.known
    missing, unknown = [], []
    pending: list[tuple[str, tuple[str, ...]]] = [(name, ())]
    seen = {name}
    while pending:
        by, extras = pending.pop()
        entry = environment.distribution(by)
        requires = entry.get("requires") if isinstance(entry, dict) else ()
        wanted = declared(tuple(requires), known, extras) if requires is not None else None
        if wanted is None:
            unknown.append(f"the requirements of {by} were not observed, or cannot be read")
            continue
        for each in wanted:
            if each.name in seen:
                continue
            seen.add(each.name)
            found = environment.distribution(each.name)
            if found is None:
                missing.append((each.text, each.name, by))
            elif isinstance(found, Unreadable):
                unknown.append(f"{each.name}: {found.reason}")
            elif each.name not in NOT_FOLLOWED:
                pending.append((each.name, each.extras))
    return tuple(missing), tuple(unknown), len(seen) - 1


def requires_python(need: RequiresPythonNeed) -> tuple[Reader, Judge]:
    """Python is one of those for which the installed distribution was made."""
    name = need.distribution

    def read(subject: Subject) -> Any:
        entry = subject.environment.distribution(name)
        wanted = entry.get("requires_python") if isinstance(entry, dict) else None
        if not isinstance(wanted, str):
            return None
        return wanted, entry["version"], subject.environment.fact("python", "version")

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        wanted, version, python = facts
        needed = f"Python {wanted} (declared by {name} {text_of(version)})"
        try:
            clauses = parse_clauses(wanted)
        except ValueError:
            return None
        if not isinstance(python, str):
            return None
        # a snapshot may say no more than 3.11, which is some 3.11.x
        fits = satisfies(python, clauses, "specifier")
        if fits is None or (not fits and python.count(".") == 1 and _begins_any(python, clauses)):
            return None
        return Finding("met" if fits else "unmet", needed, f"Python {python}")

    reader = shared(("requires_python", name), read)
    fields_of[reader] = name, "requires_python"
    return reader, judge


def _begins_any(python: str, clauses: Any) -> bool:
    return any(clause.version == python or clause.version.startswith(f"{python}.") for clause in clauses)
