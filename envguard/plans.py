"""What mends an environment: a fix for each unmet rule, and one plan for all failing package rules together.

Many machines share the words of a fix, so these are written once with a sign in the interpreter's place.
"""

from __future__ import annotations

from envguard.cuda import driver_runs, parse_capability
from envguard.fixes import PYTHON, TorchFix, anew, fits, installer, merge, narrow, plan_commands, render
from envguard.frozen import Frozen, replace
from envguard.judge.subject import SeenDevice, Subject
from envguard.markers import declared, known_of
from envguard.model import Environment, Fix, Plan
from envguard.rows import BLOCKED, Looks, applied, look_again
from envguard.rule import (
    AnyNeed,
    ArchitectureNeed,
    CopiesNeed,
    DistributionNeed,
    DriverForCudaNeed,
    LoadedNeed,
    OwnerNeed,
    RequiredInTurnNeed,
    RequirementsNeed,
    RequiresPythonNeed,
    TorchBuildNeed,
    WithoutNeed,
)
from envguard.versions import Clause, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from envguard.evaluate import Evaluator
    from envguard.fixes import Installer
    from envguard.model import Outcome
    from envguard.rows import Found, Row
    from envguard.rule import FixTemplate, TorchBuild
    from envguard.rulebook import RuleBook
    from envguard.versions import Wanted

_MOST_REMEMBERED = 1_000  # keeps memory flat over any number of environments
_NOTHING_IGNORED: frozenset[str] = frozenset()
_INDEX = "https://download.pytorch.org/whl"


class _Constraints:
    """The version clauses of rules that apply together, by distribution. Equal ones are one object."""

    __slots__ = ("clauses",)

    def __init__(self, clauses: Mapping[str, tuple[Clause, ...]]) -> None:
        self.clauses = clauses


class _Machine(Frozen):
    """What decides which torch build fits a machine. `release` is the installed one, if it is a released one."""

    kind: str
    is_seen: bool
    capability: Any
    has_torch: bool
    release: str | None
    system: Any
    machine: Any
    driver_major: int | None


class _Attempt:
    """What a plan installs and takes out, and its commands for each kind of installer."""

    __slots__ = ("commands", "owners", "reinstall", "remove", "requirements", "torch", "uninstall", "wanted")

    def __init__(
        self,
        book: RuleBook,
        requirements: tuple[str, ...],
        uninstall: tuple[str, ...],
        torch: TorchFix | None,
        reinstall: tuple[str, ...],
        remove: tuple[str, ...],
    ) -> None:
        self.requirements = requirements
        self.uninstall = uninstall
        self.torch = torch
        self.reinstall = reinstall
        self.remove = remove
        own = (torch.requirement,) if torch is not None and torch.requirement else ()
        self.wanted = tuple([parse_wanted(text) for text in (*requirements, *own, *reinstall)])
        self.commands: dict[Installer, tuple[str, ...]] = {}
        installed = [wanted.name for wanted in self.wanted]
        self.owners = {
            backend.import_name: {"distribution": backend.distribution, "origin": None, "kind": "package"}
            for backend in book.backends.values()
            if backend.distribution in installed
        }


class Mender:
    """Writes the fixes and the plans of environments for one request; it remembers what equal facts gave."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._book = evaluator.book
        self._backend = evaluator.backend
        self._request = evaluator.request
        self._course = evaluator.course
        self._releases = frozenset([build.release for build in self._book.torch_builds])
        self._remembered: dict[Any, Any] = {}
        self._constraints: dict[Any, _Constraints] = {}

    def mend(
        self, subject: Subject, looked: Sequence[Found | None], judged: Sequence[Found]
    ) -> tuple[list[Outcome], Plan | None]:
        """The outcomes with their fixes, and the plan where package rules fail."""
        how, python = installer(subject.environment)
        rows = [found[0] for found in judged]
        constraints = self._constraints_of(rows)
        machine = self._machine(subject) if [1 for found in judged if found[3] and found[3].torch] else None
        outcomes: list[Outcome] = []
        for row, outcome, _, template in judged:
            if template is not None:
                fix = self._fix(row, template, machine, constraints, how)
                outcomes.append(replace(outcome, fix=Fix(fix.text, _written(fix.commands, python))))
            else:
                outcomes.append(outcome)
        failing = [row for row, _, rank, _ in judged if rank == BLOCKED]
        packages = _package_fixes(judged)
        if not packages or how.install is None:
            return outcomes, None
        attempt, left = self._attempt(subject, machine, looked, rows, packages)
        names = tuple([row.rule.id for row in left])
        resolves = tuple([row.rule.id for row in failing if row.rule.id not in names])
        if not resolves:
            return outcomes, None
        commands = attempt.commands.get(how)
        if commands is None:
            commands = plan_commands(
                how, attempt.requirements, attempt.uninstall, attempt.torch, attempt.reinstall, attempt.remove
            )
            attempt.commands[how] = commands
        return outcomes, Plan(_written(commands, python), resolves, names)

    def _remember(self, asked: Any, answer: Any) -> Any:
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[asked] = answer
        return answer

    def _constraints_of(self, rows: Sequence[Row]) -> _Constraints:
        """Every version clause of the error rules among some that apply."""
        asked = tuple(rows)
        known = self._constraints.get(asked)
        if known is None:
            clauses: dict[str, tuple[Clause, ...]] = {}
            for row in rows:
                need = row.rule.need
                if isinstance(need, DistributionNeed) and row.rule.severity == "error":
                    clauses[need.wanted.name] = (*clauses.get(need.wanted.name, ()), *need.wanted.clauses)
            if len(self._constraints) >= _MOST_REMEMBERED:
                self._constraints.clear()
            known = self._constraints.setdefault(tuple(clauses.items()), _Constraints(clauses))
            self._constraints[asked] = known
        return known

    def _fix(
        self, row: Row, template: FixTemplate, machine: _Machine | None, constraints: _Constraints, how: Installer
    ) -> Fix:
        """The fix of an unmet rule, with PYTHON for the interpreter."""
        rule = row.rule
        torch = None
        if machine is not None and template.torch:
            own = row if rule.severity != "error" and isinstance(rule.need, DistributionNeed) else None
            torch = self._torch(machine, constraints, own)
        asked = row if template is rule.fix else template, constraints, how, torch
        known: Fix | None = self._remembered.get(asked)
        return known or self._remember(asked, render(template, constraints.clauses, how, torch))

    def _machine(self, subject: Subject) -> _Machine:
        environment, device = subject.environment, subject.device
        fact = environment.fact
        installed = environment.version("torch")
        has_torch = isinstance(installed, str)
        release = installed.partition("+")[0] if has_torch else None
        seen = isinstance(device, SeenDevice)
        return _Machine(
            device.kind if seen else self._request.device_kind,
            seen,
            device.capability if seen else None,
            has_torch,
            release if release in self._releases else None,
            fact("host", "system"),
            fact("host", "machine"),
            self._driver_major(fact("drivers", "nvidia"), fact("drivers", "cuda")),
        )

    def _torch(self, machine: _Machine, constraints: _Constraints, own: Row | None) -> TorchFix:
        """The torch build that fits the machine, every error rule and the rule that is to be mended."""
        asked = constraints, own, *machine  # type: ignore[misc]
        known: TorchFix | None = self._remembered.get(asked)
        if known is None:
            clauses = constraints.clauses.get("torch", ())
            if own is not None and isinstance(own.rule.need, DistributionNeed):
                clauses = (*clauses, *own.rule.need.wanted.clauses)
            known = self._remember(asked, torch_fix(self._book, machine, clauses))
        return known

    def _driver_major(self, driver: Any, supported: Any) -> int | None:
        """The newest CUDA major that a driver runs, None where the driver is not known."""
        asked = driver, supported
        if asked not in self._remembered:
            oldest = self._book.oldest_drivers.items()
            majors = [major for major, first in oldest if driver_runs(f"{major}.0", first, driver, supported)]
            return self._remember(asked, max(majors, default=None))  # type: ignore[no-any-return]
        major: int | None = self._remembered[asked]
        return major

    def _attempt(
        self,
        subject: Subject,
        machine: _Machine | None,
        looked: Sequence[Found | None],
        rows: list[Row],
        packages: dict[Row, FixTemplate],
    ) -> tuple[_Attempt, list[Row]]:
        """One way out of all failing package rules, and the rows that fail after it: judged again, until what it
        installs fails no further rule.
        """
        while True:
            constraints = self._constraints_of(rows)
            torch = None
            if [True for template in packages.values() if template.torch]:
                machine = machine or self._machine(subject)
                torch = self._torch(machine, constraints, None)
            own = tuple([fix for row, fix in packages.items() if fix is not row.rule.fix])
            asked = constraints, tuple(packages), own, torch
            attempt: _Attempt | None = self._remembered.get(asked)
            if attempt is None:
                attempt = self._remember(asked, self._what(packages, constraints, torch))
            then, changed = apply(self._book, subject.environment, attempt)
            after = Subject(then, self._request)
            if self._course.groups:
                again: Sequence[Found | None] = look_again(looked, self._touched(changed), after)
            else:
                again = self._course.look_at_each(after)
            judged = applied(again, _NOTHING_IGNORED)
            left = [row for row, _, rank, _ in judged if rank == BLOCKED]
            failing = _package_fixes(judged)
            if failing.keys() <= packages.keys():
                return attempt, left
            packages = {**failing, **packages}
            rows = list(dict.fromkeys([*rows, *[found[0] for found in judged]]))

    def _what(self, packages: dict[Row, FixTemplate], constraints: _Constraints, torch: TorchFix | None) -> _Attempt:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        templates = packages.values()
        uninstall = tuple(dict.fromkeys([name for template in templates for name in template.uninstall]))
        remove = tuple(dict.fromkeys([folder for template in templates for folder in template.remove]))
        wanted = [each for template in templates for each in template.install]
        if any(row.rule.id == f"{self._backend.name}/installed" for row in packages):
            wanted += self._backend.install
        again = [each for template in templates for each in template.reinstall]
        reinstall = anew(again, constraints.clauses)
        return _Attempt(self._book, merge(wanted, constraints.clauses), uninstall, torch, reinstall, remove)

    def _touched(self, changed: frozenset[str]) -> Looks:
        """The groups of steps that can say something else after some distributions have changed."""
        known: Looks | None = self._remembered.get(changed)
        if known is None:
            groups = self._course.groups
            rows = [[row for step in group.steps for row in step.rows] for group in groups]
            touched = [group for group, own in zip(groups, rows) if any(_can_change(row, changed) for row in own)]
            known = self._remember(changed, Looks(touched))
        return known


def _package_fixes(judged: Sequence[Found]) -> dict[Row, FixTemplate]:
    """The rows that block, and whose fix changes packages, with that fix."""
    return {row: fix for row, _, rank, fix in judged if rank == BLOCKED and fix is not None and fix.installs}


def _written(commands: tuple[str, ...], python: str) -> tuple[str, ...]:
    """Commands for one interpreter."""
    return tuple([command.replace(PYTHON, python) for command in commands])


def _can_change(row: Row, changed: frozenset[str]) -> bool:
    """Whether the change of some distributions can change what a row says."""
    need = row.rule.need
    if isinstance(need, RequirementsNeed | RequiredInTurnNeed):  # may declare any of them
        return True
    if isinstance(need, AnyNeed):
        return not changed.isdisjoint([wanted.name for wanted in need.wanted])
    if isinstance(need, OwnerNeed | WithoutNeed):
        return not changed.isdisjoint(need.distributions)
    if isinstance(need, DistributionNeed | CopiesNeed):
        read = need.wanted.name
    elif isinstance(need, LoadedNeed | RequiresPythonNeed):
        read = need.distribution
    else:
        read = "torch" if isinstance(need, TorchBuildNeed | DriverForCudaNeed | ArchitectureNeed) else ""
    when = row.rule.when
    decides = (*(name for name, _ in when.release), *when.absent)
    return read in changed or row.host in changed or any(name in changed for name in decides)


def torch_fix(book: RuleBook, machine: _Machine, clauses: tuple[Clause, ...]) -> TorchFix:
    """The torch build that fits the machine: its driver, its device, and what the rules ask of torch."""
    if machine.kind == "rocm":
        return TorchFix("Install the ROCm build of torch for this machine: https://pytorch.org/get-started/locally")
    if machine.kind == "xpu":
        return TorchFix("Install the Intel GPU build of torch.", "torch", f"{_INDEX}/xpu", machine.has_torch)
    if machine.kind == "mps" or machine.system == "Darwin":
        return TorchFix("Install torch; its macOS build serves the GPU.", "torch")
    # what the wheels of another architecture hold is not in the table
    if isinstance(machine.machine, str) and machine.machine not in ("x86_64", "AMD64"):
        return TorchFix("Install a torch build for this machine: https://pytorch.org/get-started/locally")
    if not machine.is_seen:
        requirement = f"torch{narrow(clauses)}"
        return TorchFix(f"Install {requirement}.", requirement)
    fitting = [build for build in book.torch_builds if fits(build, clauses, machine.driver_major, machine.capability)]
    if not fitting:
        return TorchFix(
            "No released torch fits the driver, the GPU and the rules together: update the NVIDIA driver first."
        )
    kept = next((build for build in fitting if build.release == machine.release), None)
    build = kept or fitting[-1]
    text = f"The torch {build.release} wheels are built for CUDA {build.cuda}, which this machine's driver and GPU run."
    requirement = f"torch=={build.release}" if kept else _below_the_next(book, build, clauses)
    if machine.system == "Windows":  # the Windows wheels on PyPI are CPU builds
        newest = parse_capability(machine.capability) or (0, 0)
        tag = "cu130" if build.cuda.startswith("13") else "cu128" if newest >= (10, 0) else "cu126"
        text = (
            f"On Windows the builds for CUDA are on an index of PyTorch's own; this driver and GPU run those of {tag}."
        )
        return TorchFix(text, requirement, f"{_INDEX}/{tag}", machine.has_torch)
    return TorchFix(text, requirement, None, machine.has_torch)


def _below_the_next(book: RuleBook, build: TorchBuild, clauses: tuple[Clause, ...]) -> str:
    """Torch up to a build: a range leaves the installer the choice of what the inspected Python can have."""
    above = book.torch_builds[book.torch_builds.index(build) + 1 :]
    return f"torch{narrow((*clauses, Clause('<', above[0].release)) if above else clauses)}"


def apply(book: RuleBook, environment: Environment, attempt: _Attempt) -> tuple[Environment, frozenset[str]]:
    """The environment as it would be after a plan, and the distributions that the plan changes.

    The installer is taken to choose the newest of the known releases that fit.
    """
    data = dict(environment.data)
    listed = dict(data.get("distributions") or {})
    changed = {*attempt.uninstall}
    known = known_of(environment)
    for name in attempt.uninstall:
        listed[name] = None
    for wanted in attempt.wanted:
        name = wanted.name
        changed.add(name)
        if name == "torch" and attempt.torch is not None:
            listed["torch"] = None  # an unfitting build is replaced, whatever its version
        if (listed.get(name) or {}).get("duplicates"):
            listed[name] = {**listed[name], "duplicates": []}
        if _install(book, listed, wanted, changed, known) and name == "torch":
            data["torch_build"] = _build_after(book, listed["torch"]["version"])
    data["distributions"] = listed
    data["import_owners"] = {**(data.get("import_owners") or {}), **attempt.owners}
    return Environment(data), frozenset(changed)


def _install(
    book: RuleBook, listed: dict[str, Any], wanted: Wanted, changed: set[str], known: Mapping[str, str]
) -> bool:
    """Put a distribution where the installer would: kept if it fits, then with what it declares. True if it changed."""
    entry = listed.get(wanted.name)
    if entry is None or not entry["version"] or not satisfies(entry["version"], wanted.clauses, "specifier"):
        version = book.newest(wanted.name, wanted.clauses)
        listed[wanted.name] = {"version": version, "requires": []}  # the installer sees to what the new one declares
        return True
    for need in declared(tuple(entry.get("requires", ())), known) or ():
        there = listed.get(need.name)
        if there is None or not there["version"] or not satisfies(there["version"], need.clauses, "specifier"):
            listed[need.name] = {"version": book.newest(need.name, need.clauses), "requires": []}
            changed.add(need.name)
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
