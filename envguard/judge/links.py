"""Needs about what the installed files themselves say: the imports of a package, and its compiled kernels."""

from __future__ import annotations

from envguard.judge.subject import Finding, optional, shared, text_of, undecided
from envguard.model import NOT_OBSERVED, Unreadable
from envguard.rule import FixTemplate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.model import Request
    from envguard.rule import KernelsNeed, LinksNeed

_MOST_NAMED = 3
_NOTHING_TO_DO = FixTemplate(text="Nothing has to be done where this feature is not wanted.")


def links(need: LinksNeed, request: Request) -> tuple[Reader, Judge]:
    """Every name is there that an import needs.

    A snapshot that tells nothing about imports is judged by its versions alone, by the table of released pairs. Where
    a caught failure is no more than a note, only one about the backend asked for is told.
    """
    name = need.distribution
    noted = need.lost == "info"

    def read(subject: Subject) -> Any:
        environment = subject.environment
        found = environment.fact("import_links", name)
        if found == NOT_OBSERVED or found is None:
            return None
        version = text_of(environment.version(name), "")
        if isinstance(found, Unreadable):
            return version, found
        losses = [each for each in found if each.get("certain", True)]
        failing = [each for each in losses if each.get("effect", "import-fails") == "import-fails"]
        if noted and not failing:
            losses = [each for each in losses if _is_about(each, request.backend)]
        told = [_told(each, subject) for each in (failing or losses)[:_MOST_NAMED]]
        return version, bool(failing), tuple(told)

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        if isinstance(facts[1], Unreadable):
            return undecided(f"all that the import of {name} needs", facts[1])
        version, fails, told = facts
        package = f"{name} {version}"
        if not told:
            return Finding("met", f"all that the import of {package} needs", "every name is there")
        needed = "; ".join([f"{what}, which {package} imports ({where})" for what, where, _ in told])
        found = ", ".join(dict.fromkeys([there for _, _, there in told]))
        if fails:
            return Finding("unmet", needed, found, "broken")
        fix = _NOTHING_TO_DO if noted else None
        return Finding("unmet", needed, f"{found}: {name} goes on without that feature", "broken", need.lost, fix)

    return optional("import_links", shared(("links", name, noted and request.backend), read)), judge


def _is_about(loss: Mapping[str, Any], backend: str) -> bool:
    """Whether what is lost is of a backend's package, or of the module of a host that is there for it."""
    parts = f"{loss['needed_from']}.{loss['module']}".lower().split(".")
    return backend.lower().replace("-", "_") in parts


def _told(loss: Mapping[str, Any], subject: Subject) -> tuple[str, str, str]:
    """What is needed, where that stands, and what is there instead."""
    module, name, source = str(loss["module"]), str(loss["name"]), str(loss["needed_from"])
    file = loss.get("file") or module
    line = loss.get("line")
    where = f"{file}:{line}" if line else str(file)
    top = source.partition(".")[0]
    version = subject.environment.version(top.lower().replace("_", "-"))
    if source in (name, top) and (name == top or name.startswith(f"{top}.")):  # a module
        missing = f"the module {name}"
        there = f"{top} {version}, which lacks {name}" if isinstance(version, str) else f"{top} is not installed"
        return missing, where, there
    if source == module:  # it refuses by itself
        return str(loss.get("error") or name), where, text_of(version) if version is None else f"{top} {version}"
    there = f"{top} {version}, which lacks {name}" if isinstance(version, str) else f"a {top} that lacks {name}"
    return f"{name} of {source}", where, there


def kernels(need: KernelsNeed) -> tuple[Reader, Judge]:
    """The package lets its compiled kernels load."""
    name = need.distribution
    needed = f"the compiled kernels of {name}"

    def read(subject: Subject) -> Any:
        found = subject.environment.fact("compiled_kernels", name)
        if found == NOT_OBSERVED or found is None:
            return None
        if isinstance(found, Unreadable):
            return found
        return found.get("loaded"), found.get("reason"), text_of(subject.environment.version("torch"))

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        if isinstance(facts, Unreadable):
            return undecided(needed, facts)
        loaded, reason, torch = facts
        if loaded is None:
            return Finding("undecided", needed, str(reason or "not observed"))
        if loaded:
            return Finding("met", needed, f"they are loaded with torch {torch}")
        return Finding("unmet", needed, f"torch {torch}, with which they are not loaded: {reason or 'no reason given'}")

    return optional("compiled_kernels", shared(("kernels", name), read)), judge
