"""Needs about software: distributions and what they declare, import names, Python, the system, tools, variables."""

from __future__ import annotations

from envguard.judge.subject import (
    Broken,
    Finding,
    asked,
    fact_of,
    in_range,
    nothing,
    shared,
    system_of,
    text_of,
    undecided,
    variable_of,
    version_of,
)
from envguard.model import NOT_OBSERVED, Ranged, Unreadable
from envguard.rule import FixTemplate
from envguard.versions import key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.libraries import Wheels
    from envguard.model import Request
    from envguard.rule import (
        AnyNeed,
        DistributionNeed,
        NativeNeed,
        PythonNeed,
        SystemNeed,
        ToolNeed,
        VariableNeed,
        WeightsNeed,
    )


def distribution(need: DistributionNeed) -> tuple[Reader, Judge]:
    """A distribution is installed, in a version that meets the clauses."""
    if need.module is not None:
        from envguard.judge.owners import presence

        return presence(need.wanted, need.module)
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
        return fact_of("torch_build", "version"), judge
    return version_of(name), judge


def any_of(need: AnyNeed) -> tuple[Reader, Judge]:
    """One of several distributions is installed, in a version that meets its clauses."""
    readers = [version_of(wanted.name) for wanted in need.wanted]
    needed = " or ".join([wanted.text for wanted in need.wanted])

    def judge(versions: Any) -> Finding:
        told, unknown = [], False
        for wanted, version in zip(need.wanted, versions):
            fits = satisfies(version, wanted.clauses, "version") if isinstance(version, str) else None
            if fits:
                return Finding("met", needed, f"{wanted.name} {version}")
            unknown = unknown or (fits is None and version is not None)
            told.append(f"{wanted.name} {text_of(version, 'is not installed')}")
        if unknown:
            return Finding("undecided", needed, ", ".join(told))
        absent = all(version is None for version in versions)
        return Finding("unmet", needed, ", ".join(told), "absent" if absent else "version")

    return (lambda subject: tuple([read(subject) for read in readers])), judge


def _between(version: str) -> str:
    if key(version) is None:
        return "which is not a PEP 440 version"
    return "a pre-release between two releases, which may or may not have what is needed"


def native(need: NativeNeed, wheels: Wheels | None) -> tuple[Reader, Judge]:
    """What has to hold of a compiled library. Where there is nothing to load, the judges of that are not imported."""
    name = need.distribution

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        from envguard.judge.native import judge_library

        return judge_library(need, facts, wheels)

    return _native_of(name, need.aspect), judge


def _native_of(name: str, aspect: str) -> Reader:
    """The reader of what decides about the compiled libraries of a distribution; needs that ask the same share it."""

    def read(subject: Subject) -> Any:
        if subject.device is None:
            return None  # without a GPU there is nothing to load for one
        if name != "bitsandbytes":  # what torch extensions need, their files alone tell, and they are built for CUDA
            build = subject.build
            files = subject.environment.fact("native_libraries", name)
            built = None if build is None or isinstance(build, Unreadable) else build[1]
            if not isinstance(files, list) or not isinstance(built, str):
                return None
        from envguard.judge.native import asked_by, facts_of

        facts = facts_of(subject, name)
        return None if facts is None else asked_by(aspect, facts)

    alike = aspect if aspect in ("libc", "architectures") else "the others"
    return shared(("native", name, alike), read)


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

    return fact_of("python", "free_threaded"), judge


def system(need: SystemNeed) -> tuple[Reader, Judge]:
    """The operating system is one of some."""
    needed = " or ".join(need.systems)

    def judge(system: Any) -> Finding:
        if not isinstance(system, str):
            return undecided(needed, system)
        return Finding("met" if system in need.systems else "unmet", needed, system)

    return system_of, judge


def tool(need: ToolNeed) -> tuple[Reader, Judge]:
    """A build tool is found; nvcc where torch looks for it, which is CUDA_HOME if that is set."""
    name = need.tool
    needed = _TOOLS.get(name, name)

    def read(subject: Subject) -> Any:
        fact = subject.environment.fact
        found = fact("toolchain", name)
        if name != "nvcc" or isinstance(found, str):
            return found
        homes = [(each, fact("environment_variables", each)) for each in ("CUDA_HOME", "CUDA_PATH")]
        home = next(((each, value) for each, value in homes if isinstance(value, str) and value), None)
        return found, home, fact("toolchain", "cuda_home")

    def judge(facts: Any) -> Finding:
        found, home, toolkit = facts if type(facts) is tuple else (facts, None, "")
        if home is not None and (found is None or toolkit is None):
            what = "which is no CUDA toolkit" if toolkit is None else "which has no bin/nvcc"
            remedy = FixTemplate(
                unset=(home[0],),
                text=f"Unset {home[0]}, or let it name a CUDA toolkit of torch's CUDA version, which has bin/nvcc.",
            )
            return Finding("unmet", needed, f"{home[0]}={home[1]}, {what}", None, None, remedy)
        if isinstance(found, Unreadable):
            return undecided(needed, found)
        return Finding("unmet", needed, "not found", "absent") if found is None else Finding("met", needed, str(found))

    return shared(("tool", name), read), judge


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
