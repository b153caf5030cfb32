"""Needs about software: distributions and what they declare, import names, Python, the system, tools, variables."""

from __future__ import annotations

from envguard.judge.subject import (
    Broken,
    Finding,
    asked,
    in_range,
    nothing,
    system_of,
    text_of,
    undecided,
    variable_of,
    version_of,
)
from envguard.model import NOT_OBSERVED, Ranged, Unreadable
from envguard.versions import NOT_FOLLOWED, declared, key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.model import Kind, Request
    from envguard.rule import (
        DistributionNeed,
        OwnerNeed,
        PythonNeed,
        RequiredInTurnNeed,
        RequirementsNeed,
        SystemNeed,
        ToolNeed,
        VariableNeed,
        WeightsNeed,
    )


def distribution(need: DistributionNeed) -> tuple[Reader, Judge]:
    """A distribution is installed, in a version that meets the clauses."""
    wanted, comparison = need.wanted, need.comparison
    name, clauses, text = wanted.name, wanted.clauses, wanted.text

    def judge(version: Any) -> Finding:
        if version is None:
            return Finding("unmet", text, f"{name} is not installed", "absent")
        if isinstance(version, Unreadable):
            if isinstance(version, Broken) and not clauses:
                return Finding("unmet", text, f"{name}: installed, but its metadata gives no version", "broken")
            if isinstance(version, Ranged):
                fits = in_range(version, clauses, comparison) if clauses else True
                if fits is not None:
                    return Finding("met" if fits else "unmet", text, f"{name}{version.specifier}")
            return Finding("undecided", text, f"{name}: {version.reason}")
        if not clauses:
            return Finding("met", text, f"{name} {version}")
        fits = satisfies(version, clauses, comparison)
        if fits is None:
            return Finding("undecided", text, f"{name} {version}, {_between(version)}")
        return Finding("met" if fits else "unmet", text, f"{name} {version}")

    if need.fact == "version-file":
        return _file_version, judge
    return version_of(name), judge


def _file_version(subject: Subject) -> Any:
    return subject.environment.fact("torch_build", "version")


def _between(version: str) -> str:
    if key(version) is None:
        return "which is not a PEP 440 version"
    return "a pre-release between two releases, which may or may not have what is needed"


def requirements(need: RequirementsNeed) -> tuple[Reader, Judge]:
    """What a distribution itself declares is met."""
    name = need.distribution

    def read(subject: Subject) -> Any:
        environment = subject.environment
        entry = environment.distribution(name)
        if entry is None or isinstance(entry, Unreadable):
            return entry
        requires = entry.get("requires")
        if requires is None:
            return Unreadable(f"the requirements of {name} were not observed")
        wanted = declared(tuple(requires))
        if wanted is None:
            return Unreadable(f"the metadata of {name} cannot be read: one of its requirements is malformed")
        return entry["version"], wanted, tuple([environment.version(each.name) for each in wanted])

    def judge(facts: Any) -> Finding | None:
        needed = f"what {name} itself declares"
        if facts is None:
            return None
        if isinstance(facts, Unreadable):
            return undecided(needed, facts)
        version, declared, versions = facts
        wrong, unknown = [], []
        for wanted, there in zip(declared, versions):
            fits = None
            if isinstance(there, str):
                fits = satisfies(there, wanted.clauses, "specifier")
            if there is None or fits is False:
                wrong.append((wanted.text, f"{wanted.name} {text_of(there, 'is not installed')}"))
            elif fits is None:
                unknown.append(f"{wanted.name}: {text_of(there)}")
        if wrong:
            needed = f"{', '.join(text for text, _ in wrong)} (declared by {name} {version})"
            kind: Kind = "version" if all("not installed" not in there for _, there in wrong) else "absent"
            return Finding("unmet", needed, ", ".join(there for _, there in wrong), kind)
        if unknown:
            return Finding("undecided", needed, "; ".join(unknown))
        return Finding("met", needed, f"all {len(declared)} requirements of {name} {version}")

    return read, judge


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
    missing, unknown = [], []
    pending, seen = [name], {name}
    while pending:
        by = pending.pop()
        entry = environment.distribution(by)
        requires = entry.get("requires") if isinstance(entry, dict) else ()
        wanted = declared(tuple(requires)) if requires is not None else None
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
                pending.append(each.name)
    return tuple(missing), tuple(unknown), len(seen) - 1


def owner(need: OwnerNeed) -> tuple[Reader, Judge]:
    """An import name is loaded from its distribution."""
    name, distribution = need.import_name, need.distribution
    needed = f"{name} imported from the distribution {distribution}"

    def read(subject: Subject) -> Any:
        owners = subject.environment.section("import_owners")
        if owners is None or isinstance(owners, Unreadable):
            return owners
        if name not in owners:
            return Unreadable(f"where {name} is imported from was not observed")
        owner = owners[name]
        others = tuple(owner.get("distributions", ()))
        return owner.get("distribution", _UNSEEN), others, owner.get("origin"), owner.get("kind", _UNSEEN)

    def judge(facts: Any) -> Finding:
        if facts is None or isinstance(facts, Unreadable):
            return undecided(needed, facts)
        owner, others, origin, kind = facts
        if kind == "placeholder":
            return Finding("unmet", needed, f"a placeholder without code ({text_of(origin, 'no file')})")
        if kind == "missing":
            return Finding("unmet", needed, f"{name} cannot be found by Python, though its metadata is there")
        if owner == distribution or distribution in others:
            if kind is _UNSEEN and not (isinstance(origin, str) and origin.endswith(_CODE)):
                return Finding(
                    "undecided", needed, f"{distribution}, of which it was not observed whether it holds code"
                )
            return Finding("met", needed, f"{distribution} ({text_of(origin, 'namespace package')})")
        if owner is _UNSEEN:
            return Finding("undecided", needed, f"{text_of(origin, 'a file')}, whose owner was not observed")
        if owner is None:
            return Finding(
                "unmet", needed, f"{text_of(origin, 'a file')}, which belongs to no distribution and shadows it"
            )
        return Finding("unmet", needed, f"the distribution {owner} ({text_of(origin, 'no file')})")

    return read, judge


_UNSEEN = Unreadable("owner not observed")
_CODE = (".py", ".pyc", ".so", ".pyd")


def python(need: PythonNeed) -> tuple[Reader, Judge]:
    """The Python version meets the clauses."""
    needed = f"Python {need.text}"

    def judge(version: Any) -> Finding:
        fits = satisfies(version, need.clauses, "specifier") if isinstance(version, str) else None
        if isinstance(version, Ranged):
            fits = in_range(version, need.clauses, "specifier")
            version = version.specifier if fits is not None else version
        if fits is None:
            return Finding("undecided", needed, text_of(version))
        return Finding("met" if fits else "unmet", needed, f"Python {version}")

    return _python_version, judge


def _python_version(subject: Subject) -> Any:
    version = subject.environment.fact("python", "version")
    if isinstance(version, Unreadable):
        specifier = subject.environment.fact("python", "specifier")  # of a file that is for a range of versions
        return Ranged(version.reason, specifier) if isinstance(specifier, str) else version
    return version


def python_build() -> tuple[Reader, Judge]:
    """Python has a global interpreter lock."""
    needed = "a Python with a global interpreter lock"

    def judge(free: Any) -> Finding:
        if not isinstance(free, bool):
            return undecided(needed, free)
        return Finding("unmet" if free else "met", needed, "a free-threaded build" if free else "the usual build")

    return (lambda subject: subject.environment.fact("python", "free_threaded")), judge


def system(need: SystemNeed) -> tuple[Reader, Judge]:
    """The operating system is one of some."""
    needed = " or ".join(need.systems)

    def judge(system: Any) -> Finding:
        if not isinstance(system, str):
            return undecided(needed, system)
        return Finding("met" if system in need.systems else "unmet", needed, system)

    return system_of, judge


def tool(need: ToolNeed) -> tuple[Reader, Judge]:
    """A build tool is found."""
    needed = _TOOLS.get(need.tool, need.tool)

    def judge(found: Any) -> Finding:
        if isinstance(found, Unreadable):
            return undecided(needed, found)
        return Finding("unmet", needed, "not found", "absent") if found is None else Finding("met", needed, str(found))

    return (lambda subject: subject.environment.fact("toolchain", need.tool)), judge


_TOOLS = {
    "ninja": "the ninja program on PATH",
    "cxx": "a C++ compiler",
    "cc": "a C compiler",
    "python_headers": "Python's C headers (Python.h)",
    "nvcc": "the CUDA compiler nvcc",
    "cuda_home": "a CUDA toolkit folder",
    "msvc": "Microsoft's C++ compiler",
}


def weights(need: WeightsNeed, request: Request) -> tuple[Reader, Judge]:
    """The model that was named is stored in one of these forms; without a model there is nothing to judge."""
    if request.weights is None:
        return nothing, (lambda facts: None)
    fits = request.weights in need.forms
    return asked(f"weights stored as {' or '.join(need.forms)}", fits, f"{request.weights} weights")


def variable(need: VariableNeed) -> tuple[Reader, Judge]:
    """An environment variable has a value that is allowed."""
    name = need.name
    allowed = " or ".join(f"{name}={value}" for value in need.allowed)
    if need.unset:
        allowed += f", or {name} not set"
    refused = " or ".join(map(repr, need.refused))
    needed = allowed or (f"{name} other than {refused}" if refused else name)

    def judge(value: Any) -> Finding:
        if value == NOT_OBSERVED and need.assumed_unset:
            value = None
        if isinstance(value, Unreadable):
            return undecided(needed, value)
        plain = value.lower() if isinstance(value, str) else None
        fits = plain in need.allowed if need.allowed else plain not in need.refused
        fits = fits or (need.unset and value is None)
        return Finding("met" if fits else "unmet", needed, f"{name} is not set" if value is None else f"{name}={value}")

    return variable_of(name), judge
