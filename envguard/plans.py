"""What an environment would be after a fix: the torch build that fits the machine, and a plan applied to a snapshot."""

from __future__ import annotations

from envguard.cuda import driver_runs, parse_capability
from envguard.fixes import TorchFix, fits, narrow
from envguard.judge.subject import SeenDevice
from envguard.model import Environment
from envguard.versions import Clause, declared, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envguard.judge.subject import Subject
    from envguard.rule import TorchBuild
    from envguard.rulebook import RuleBook
    from envguard.versions import Wanted


def torch_fix(book: RuleBook, subject: Subject, clauses: tuple[Clause, ...]) -> TorchFix:
    """The torch build that fits the machine: its driver, its device, and what the rules ask of torch."""
    environment = subject.environment
    device = subject.device
    kind = device.kind if isinstance(device, SeenDevice) else subject.request.device_kind
    installed = environment.version("torch")
    system = environment.fact("host", "system")
    if kind == "rocm":
        return TorchFix("Install the ROCm build of torch for this machine: https://pytorch.org/get-started/locally")
    if kind == "xpu":
        return TorchFix("Install the Intel GPU build of torch.", "torch", f"{_INDEX}/xpu", isinstance(installed, str))
    if kind == "mps" or system == "Darwin":
        return TorchFix("Install torch; its macOS build serves the GPU.", "torch")
    machine = environment.fact("host", "machine")
    if isinstance(machine, str) and machine not in (
        "x86_64",
        "AMD64",
    ):  # what the wheels there hold is not in the table
        return TorchFix("Install a torch build for this machine: https://pytorch.org/get-started/locally")
    if not isinstance(device, SeenDevice):
        requirement = f"torch{narrow(clauses)}"
        return TorchFix(f"Install {requirement}.", requirement)
    major = _driver_major(book, environment.fact("drivers", "nvidia"), environment.fact("drivers", "cuda"))
    fitting = _fitting(book, clauses, major, device.capability)
    if not fitting:
        return TorchFix(
            "No released torch fits the driver, the GPU and the rules together: update the NVIDIA driver first."
        )
    same = installed.partition("+")[0] if isinstance(installed, str) else None
    kept = next((build for build in fitting if build.release == same), None)
    build = kept or fitting[-1]
    text = f"The torch {build.release} wheels are built for CUDA {build.cuda}, which this machine's driver and GPU run."
    requirement = f"torch=={build.release}" if kept else _below_the_next(book, build, clauses)
    if system == "Windows":  # the Windows wheels on PyPI are CPU builds
        newest = parse_capability(device.capability) or (0, 0)
        tag = "cu130" if build.cuda.startswith("13") else "cu128" if newest >= (10, 0) else "cu126"
        text = (
            f"On Windows the builds for CUDA are on an index of PyTorch's own; this driver and GPU run those of {tag}."
        )
        return TorchFix(text, requirement, f"{_INDEX}/{tag}", same is not None)
    return TorchFix(text, requirement, None, same is not None)


def _fitting(
    book: RuleBook, clauses: tuple[Clause, ...], major: int | None, capability: str | None
) -> tuple[TorchBuild, ...]:
    """The released torch builds that the driver and the device run and the rules accept, oldest first."""
    asked = "fitting", clauses, major, capability
    if asked not in book.remembered:
        found = [build for build in book.torch_builds if fits(build, clauses, major, capability)]
        book.remember(asked, tuple(found))
    fitting: tuple[TorchBuild, ...] = book.remembered[asked]
    return fitting


def _below_the_next(book: RuleBook, build: TorchBuild, clauses: tuple[Clause, ...]) -> str:
    """Torch up to a build: a range leaves the installer the choice of what the inspected Python can have."""
    above = book.torch_builds[book.torch_builds.index(build) + 1 :]
    return f"torch{narrow((*clauses, Clause('<', above[0].release)) if above else clauses)}"


_INDEX = "https://download.pytorch.org/whl"


def _driver_major(book: RuleBook, driver: Any, supported: Any) -> int | None:
    """The newest CUDA major that a driver runs, None where the driver is not known."""
    asked = "driver", driver, supported
    if asked not in book.remembered:
        oldest = book.oldest_drivers.items()
        majors = [major for major, first in oldest if driver_runs(f"{major}.0", first, driver, supported)]
        book.remember(asked, max(majors, default=None))
    major: int | None = book.remembered[asked]
    return major


def apply(
    book: RuleBook,
    environment: Environment,
    requirements: Sequence[str],
    uninstall: Sequence[str],
    torch: TorchFix | None,
) -> tuple[Environment, frozenset[str]]:
    """The environment as it would be after a plan, and the distributions that the plan changes.

    The installer is taken to choose the newest of the known releases that fit.
    """
    data = dict(environment.data)
    listed = dict(data.get("distributions") or {})
    owners = dict(data.get("import_owners") or {})
    for name in uninstall:
        listed[name] = None
    for text in requirements:
        wanted = parse_wanted(text)
        if wanted.name == "torch" and torch is not None:
            listed["torch"] = None  # an unfitting build is replaced, whatever its version
        if _install(book, listed, wanted) and wanted.name == "torch":
            data["torch_build"] = _build_after(book, listed["torch"]["version"])
        for backend in book.backends.values():
            if backend.distribution == wanted.name:
                owners[backend.import_name] = {"distribution": wanted.name, "origin": None, "kind": "package"}
    data.update(distributions=listed, import_owners=owners)
    before = environment.data.get("distributions") or {}
    named = [name for name, entry in listed.items() if before.get(name) is not entry]
    return Environment(data), frozenset([*named, *(parse_wanted(text).name for text in requirements)])


def _install(book: RuleBook, listed: dict[str, Any], wanted: Wanted) -> bool:
    """Put a distribution where the installer would: kept if it fits, then with what it declares. True if it changed."""
    entry = listed.get(wanted.name)
    if entry is None or not entry["version"] or not satisfies(entry["version"], wanted.clauses, "specifier"):
        version = book.newest(wanted.name, wanted.clauses)
        listed[wanted.name] = {"version": version, "requires": []}  # the installer sees to what the new one declares
        return True
    for need in declared(tuple(entry.get("requires", ()))) or ():
        there = listed.get(need.name)
        if there is None or not there["version"] or not satisfies(there["version"], need.clauses, "specifier"):
            listed[need.name] = {"version": book.newest(need.name, need.clauses), "requires": []}
    return False


def _build_after(book: RuleBook, version: str | None) -> dict[str, Any]:
    build = next((build for build in book.torch_builds if build.release == version), None)
    if build is None:
        return {"version": version} if version else {}
    return {
        "version": build.release,
        "cuda": build.cuda,
        "hip": None,
        "xpu": None,
        "arch_list": list(build.architectures),
    }
