"""Which released build of torch a machine runs, and the fix that puts it there."""

from __future__ import annotations

from envguard.cuda import driver_runs, parse_capability
from envguard.fixes import TorchFix, fits, narrow
from envguard.frozen import Frozen
from envguard.judge.subject import SeenDevice, plain_machine
from envguard.versions import Clause, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envguard.judge.subject import Subject
    from envguard.looks import Memories
    from envguard.model import Request
    from envguard.rule import TorchBuild
    from envguard.rulebook import RuleBook

_LAST_INTEL_MAC = "2.2.2"  # the newest on PyPI with a wheel for macosx_10_9_x86_64, looked up on 2026-11-22
_INDEX = "https://download.pytorch.org/whl"


class _Machine(Frozen):
    """What decides which torch build fits a machine; `installed` is the version that is there, without its local part,
    and `release` the same if it is a known one.
    """

    kind: str
    is_seen: bool
    capability: Any
    installed: str | None
    release: str | None
    system: Any
    machine: Any
    driver_major: int | None
    musl: bool
    python: str | None


class TorchBuilds:
    """The torch builds of machines; it remembers what equal facts gave."""

    __slots__ = ("_book", "_fitting", "_fixes", "_last", "_majors", "_releases", "_request", "_runs")

    def __init__(self, book: RuleBook, request: Request, memories: Memories) -> None:
        self._book = book
        self._request = request
        self._releases = frozenset([build.release for build in book.torch_builds])
        self._majors, self._fitting, self._fixes, self._runs = [memories.new() for _ in range(4)]
        self._last: tuple[Subject | None, Any] = None, None  # one subject is asked about several times

    def fix(self, subject: Subject, clauses: tuple[Clause, ...]) -> TorchFix:
        """The build that fits the machine and some clauses: those of every error rule, and of the one to mend."""
        machine = self._machine_of(subject)
        known: TorchFix | None = self._fixes.get((machine, clauses))
        if known is None:
            builds = self._that_fit(machine, clauses)
            known = self._fixes.keep((machine, clauses), torch_fix(self._book, machine, clauses, builds))
        return known

    def is_on_pypi(self, subject: Subject) -> bool:
        """Whether the plain name of torch and a version give the build for the machine."""
        machine = self._machine_of(subject)
        if machine.system == "Windows" or machine.musl or machine.kind in ("rocm", "xpu"):
            return False
        if not isinstance(machine.machine, str) or plain_machine(machine.machine) == "x86_64":
            return bool(machine.system != "Darwin")  # Intel Macs have no newer ones
        return bool(machine.system == "Darwin") or not machine.is_seen

    def keeps(self, subject: Subject, clauses: tuple[Clause, ...]) -> bool:
        """Whether the build that fits is one of the release that is installed."""
        release = self._machine_of(subject).release
        return release is not None and self.fix(subject, clauses).requirement == f"torch=={release}"

    def runnable(self, subject: Subject) -> tuple[Clause, ...]:
        """The releases whose wheels the machine's driver and device run, as bounds; none where all do, or where that is
        not known.
        """
        machine = self._machine_of(subject)
        if machine.kind != "cuda" or plain_machine(str(machine.machine)) != "x86_64":
            return ()
        asked = machine.driver_major, machine.capability
        known: tuple[tuple[Clause, ...]] | None = self._runs.get(asked)
        return (known or self._runs.keep(asked, (bounds_of(self._book, self._that_fit(machine, ())),)))[0]

    def _that_fit(self, machine: _Machine, clauses: tuple[Clause, ...]) -> tuple[TorchBuild, ...]:
        asked = machine.driver_major, machine.capability, clauses
        known: tuple[tuple[TorchBuild, ...]] | None = self._fitting.get(asked)
        return (known or self._fitting.keep(asked, (fitting(self._book, *asked),)))[0]

    def _machine_of(self, subject: Subject) -> _Machine:
        last = self._last  # read once: without a global lock another thread may ask about another subject
        if last[0] is not subject:
            last = self._last = subject, self._machine(subject)
        machine: _Machine = last[1]
        return machine

    def _machine(self, subject: Subject) -> _Machine:
        environment, device = subject.environment, subject.device
        fact = environment.fact
        installed = environment.version("torch")
        release = installed.partition("+")[0] if isinstance(installed, str) else None
        seen = isinstance(device, SeenDevice)
        return _Machine(
            device.kind if seen else self._request.device_kind,
            seen,
            device.capability if seen else None,
            release,
            release if release in self._releases else None,
            fact("host", "system"),
            fact("host", "machine"),
            self._driver_major(fact("drivers", "nvidia"), fact("drivers", "cuda")),
            str(fact("host", "libc")).startswith("musl"),
            subject.python,
        )

    def _driver_major(self, driver: Any, supported: Any) -> int | None:
        """The newest CUDA major that a driver runs, None where the driver is not known."""
        known: tuple[int | None] | None = self._majors.get((driver, supported))
        if known is None:
            oldest = self._book.oldest_drivers.items()
            majors = [major for major, first in oldest if driver_runs(f"{major}.0", first, driver, supported)]
            known = self._majors.keep((driver, supported), (max(majors, default=None),))
        return known[0]


def fitting(
    book: RuleBook, driver_major: int | None, capability: str | None, clauses: tuple[Clause, ...]
) -> tuple[TorchBuild, ...]:
    """The released torch builds that a driver and a device run and that meet some clauses, oldest first."""
    return tuple([build for build in book.torch_builds if fits(build, clauses, driver_major, capability)])


def bounds_of(book: RuleBook, builds: Sequence[TorchBuild]) -> tuple[Clause, ...]:
    """The bounds around some torch builds, the oldest first, of all that there are; none where they are all or none."""
    if not builds:
        return ()
    every = book.torch_builds
    above = every[every.index(builds[-1]) + 1 :]
    lower = (Clause(">=", builds[0].release),) if builds[0] != every[0] else ()
    return (*lower, Clause("<", above[0].release)) if above else lower


def torch_fix(
    book: RuleBook, machine: _Machine, clauses: tuple[Clause, ...], builds: tuple[TorchBuild, ...]
) -> TorchFix:
    """The torch build for the machine, of those that fit its driver, its device, and what the rules ask of torch."""
    if machine.kind == "rocm":
        return TorchFix("Install the ROCm build of torch for this machine: https://pytorch.org/get-started/locally")
    if machine.kind == "xpu":
        return _wanted(machine, "Install the Intel GPU build of torch.", f"torch{narrow(clauses)}", "xpu")
    if machine.musl:
        return TorchFix(
            "torch has no wheels for musl, the C library of Alpine Linux: use a system with glibc, such as the image"
            " python:3.12-slim."
        )
    if machine.system == "Darwin" and plain_machine(str(machine.machine)) == "x86_64":
        last = f"torch=={_LAST_INTEL_MAC}"
        if satisfies(_LAST_INTEL_MAC, clauses, "specifier"):
            return _wanted(machine, "Install the last torch with wheels for Intel Macs.", last)
        return TorchFix(f"The last torch with wheels for Intel Macs is {last}: use a Mac with Apple silicon, or Linux.")
    if machine.kind == "mps" or machine.system == "Darwin":
        requirement = f"torch{narrow(clauses)}"
        return _wanted(machine, f"Install {requirement}; its macOS build serves the GPU.", requirement)
    # what the wheels of another architecture hold is not in the table
    if isinstance(machine.machine, str) and plain_machine(machine.machine) != "x86_64":
        return TorchFix("Install a torch build for this machine: https://pytorch.org/get-started/locally")
    if not machine.is_seen and machine.driver_major is None:
        requirement = f"torch{narrow(clauses)}"
        return _wanted(machine, f"Install {requirement}.", requirement)
    if not builds:
        local = [build for build in book.local_builds if fits(build, clauses, machine.driver_major, machine.capability)]
        if local:
            build = local[-1]
            text = (
                f"The torch {build.release} build for CUDA {build.cuda} on PyTorch's own index has code for this GPU."
            )
            return _wanted(machine, text, f"torch=={build.release}", build.local)
        return TorchFix(
            "No released torch fits the driver, the GPU and the rules together: update the NVIDIA driver first."
        )
    for_python = [build for build in builds if book.is_for("torch", build.release, machine.python)]
    kept = next((build for build in for_python if build.release == machine.release), None)
    if not for_python:
        return TorchFix(
            f"No torch that the driver, the GPU and the rules allow is for Python {machine.python}: use another Python."
        )
    build = kept or for_python[-1]
    text = f"The torch {build.release} wheels are built for CUDA {build.cuda}, which this machine's driver and GPU run."
    requirement = f"torch=={build.release}" if kept else _below_the_next(book, build, clauses)
    if machine.system == "Windows":  # the Windows wheels on PyPI are CPU builds
        newest = parse_capability(machine.capability) or (0, 0)
        tag = "cu130" if build.cuda.startswith("13") else "cu128" if newest >= (10, 0) else "cu126"
        text = (
            f"On Windows the builds for CUDA are on an index of PyTorch's own; this driver and GPU run those of {tag}."
        )
        return _wanted(machine, text, requirement, tag)
    return _wanted(machine, text, requirement)


def _wanted(machine: _Machine, text: str, requirement: str, tag: str = "") -> TorchFix:
    """The fix that installs a build; the one that is there goes first where an installer would be content with it."""
    there = machine.installed
    replaces = there is not None and satisfies(there, parse_wanted(requirement).clauses, "specifier") is not False
    return TorchFix(text, requirement, f"{_INDEX}/{tag}" if tag else None, replaces)


def _below_the_next(book: RuleBook, build: TorchBuild, clauses: tuple[Clause, ...]) -> str:
    """Torch up to a build: a range leaves the installer the choice of what the inspected Python can have."""
    above = book.torch_builds[book.torch_builds.index(build) + 1 :]
    return f"torch{narrow((*clauses, Clause('<', above[0].release)) if above else clauses)}"
