"""What mends an environment: a fix for each unmet rule, and one plan for all failing package rules together.

Many machines share the words of a fix, so these are written once with a sign in the interpreter's place.
"""

from __future__ import annotations

from envguard.cuda import driver_runs, parse_capability
from envguard.fixes import PYTHON, TorchFix, fits, installer, merge, narrow, plan_commands, render
from envguard.frozen import Frozen, replace
from envguard.judge.subject import SeenDevice, Subject
from envguard.model import Environment, Fix, Plan
from envguard.rows import BLOCKED, Looks, applied, look_again
from envguard.rule import (
    ArchitectureNeed,
    DistributionNeed,
    DriverForCudaNeed,
    FixTemplate,
    KernelsNeed,
    LinksNeed,
    OwnerNeed,
    RequiredInTurnNeed,
    RequirementsNeed,
    TorchBuildNeed,
    WindowNeed,
)
from envguard.versions import Clause, declared, normalize, parse_wanted, satisfies
from envguard.ways import Way, limits, way_out, works

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from envguard.evaluate import Evaluator
    from envguard.fixes import Installer
    from envguard.model import Outcome
    from envguard.rows import Found, Row
    from envguard.rule import TorchBuild
    from envguard.rulebook import RuleBook
    from envguard.versions import Wanted

_MOST_REMEMBERED = 1_000  # keeps memory flat over any number of environments
# What the files say of one distribution, by the table of pairs: the effects whose rows tell the way out.
_EFFECTS = {LinksNeed: ("import-fails", "aborts"), KernelsNeed: ("kernels-skipped",)}
_NOTHING_IGNORED: frozenset[str] = frozenset()
_INDEX = "https://download.pytorch.org/whl"


class _Constraints:
    """The version clauses of rules that apply together, by distribution. Equal ones are one object."""

    __slots__ = ("asking", "clauses")

    def __init__(self, clauses: Mapping[str, tuple[Clause, ...]], asking: Mapping[str, tuple[str, ...]]) -> None:
        self.clauses = clauses
        self.asking = asking

    def with_limits(self, more: Mapping[str, tuple[Clause, ...]]) -> _Constraints:
        """The same with bounds that some installed distributions set for others."""
        clauses = {**self.clauses, **{name: (*self.clauses.get(name, ()), *bounds) for name, bounds in more.items()}}
        return _Constraints(clauses, self.asking)


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

    __slots__ = ("commands", "owners", "requirements", "torch", "uninstall", "wanted")

    def __init__(
        self, book: RuleBook, requirements: tuple[str, ...], uninstall: tuple[str, ...], torch: TorchFix | None
    ) -> None:
        self.requirements = requirements
        self.uninstall = uninstall
        self.torch = torch
        own = (torch.requirement,) if torch is not None and torch.requirement else ()
        self.wanted = tuple([parse_wanted(text) for text in (*requirements, *own)])
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
        rows = [row for step in self._course.steps for row in step.rows if row.rule.severity == "error"]
        self._paired = [row for row in rows if isinstance(row.rule.need, WindowNeed)]
        self._releases = frozenset([build.release for build in self._book.torch_builds])
        self._remembered: dict[Any, Any] = {}
        self._constraints: dict[Any, _Constraints] = {}

    def mend(
        self, subject: Subject, looked: Sequence[Found | None], judged: Sequence[Found]
    ) -> tuple[list[Outcome], Plan | None]:
        """The outcomes with their fixes, and the plan where package rules fail."""
        how, python = installer(subject.environment)
        rows = [found[0] for found in judged]
        rules = self._constraints_of(rows)
        constraints = self._limited(rules, subject)
        machine = self._machine(subject) if [1 for found in judged if found[3] and found[0].installs_torch] else None
        outcomes: list[Outcome] = []
        for row, outcome, _, wants_fix in judged:
            if wants_fix and row.rule.fix.window:
                way = self._way(row, subject, rules)
                fix = self._fix_of_pair(row, way, rules, how)
                message = f"{outcome.message}: {way.brief}"
                outcomes.append(replace(outcome, message=message, fix=Fix(fix.text, _written(fix.commands, python))))
            elif wants_fix:
                fix = self._fix(row, machine, constraints, how)
                outcomes.append(replace(outcome, fix=Fix(fix.text, _written(fix.commands, python))))
            else:
                outcomes.append(outcome)
        failing = [row for row, _, rank, _ in judged if rank == BLOCKED]
        packages = [row for row in failing if row.installs]
        if not packages or how.install is None:
            return outcomes, None
        attempt, left = self._attempt(subject, machine, looked, rows, packages)
        names = tuple([row.rule.id for row in left])
        resolves = tuple([row.rule.id for row in failing if row.rule.id not in names])
        if not resolves:
            return outcomes, None
        commands = attempt.commands.get(how)
        if commands is None:
            commands = plan_commands(how, attempt.requirements, attempt.uninstall, attempt.torch)
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
            asking: dict[str, tuple[str, ...]] = {}
            for row in rows:
                need = row.rule.need
                if isinstance(need, DistributionNeed) and row.rule.severity == "error":
                    clauses[need.wanted.name] = (*clauses.get(need.wanted.name, ()), *need.wanted.clauses)
                    if need.wanted.clauses:
                        asking[need.wanted.name] = (*asking.get(need.wanted.name, ()), row.rule.id)
            if len(self._constraints) >= _MOST_REMEMBERED:
                self._constraints.clear()
            known = self._constraints.setdefault(tuple(clauses.items()), _Constraints(clauses, asking))
            self._constraints[asked] = known
        return known

    def _pairs(self, subject: Subject) -> list[WindowNeed]:
        """The pairs that have to work together here, also where half of one is not there yet."""
        return [
            row.rule.need
            for row in self._paired
            if isinstance(row.rule.need, WindowNeed) and row.applies(subject) is not False
        ]

    def _limited(self, constraints: _Constraints, subject: Subject) -> _Constraints:
        """Constraints with the bounds that the installed halves of pairs set for the others; equal ones are one."""
        more = limits(self._book, self._pairs(subject), subject.environment)
        if not more:
            return constraints
        asked = "limited", constraints, tuple(more.items())
        known: _Constraints | None = self._remembered.get(asked)
        return known or self._remember(asked, constraints.with_limits(more))

    def _way(self, row: Row, subject: Subject, constraints: _Constraints) -> Way:
        need = row.rule.need
        if not isinstance(need, WindowNeed):
            one, other = row.rule.fix.window
            need = self._book.windows(one, other, _EFFECTS[type(need)])
            if works(need, subject.environment):
                names = " or of ".join(row.rule.fix.window)
                return Way(
                    None, f"Install another release of {names}, so that they fit.", f"another release of {names}"
                )
        others = [each for each in self._pairs(subject) if each != need]
        return way_out(
            self._book,
            need,
            row.rule.fix.window,
            subject.environment,
            constraints.clauses,
            constraints.asking,
            others,
        )

    def _fix_of_pair(self, row: Row, way: Way, constraints: _Constraints, how: Installer) -> Fix:
        """The fix of two distributions that do not work together, with PYTHON for the interpreter."""
        words = [each for each in (way.text, row.rule.fix.text) if each]
        template = FixTemplate(install=(way.wanted,) if way.wanted else (), text=" ".join(words))
        return render(template, constraints.clauses, how, None)

    def _fix(self, row: Row, machine: _Machine | None, constraints: _Constraints, how: Installer) -> Fix:
        """The fix of an unmet rule, with PYTHON for the interpreter."""
        rule = row.rule
        torch = None
        if machine is not None and row.installs_torch:
            own = row if rule.severity != "error" and isinstance(rule.need, DistributionNeed) else None
            torch = self._torch(machine, constraints, own)
        asked = row, constraints, how, torch
        known: Fix | None = self._remembered.get(asked)
        return known or self._remember(asked, render(rule.fix, constraints.clauses, how, torch))

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
        packages: list[Row],
    ) -> tuple[_Attempt, list[Row]]:
        """One way out of all failing package rules, and the rows that fail after it: judged again, until what it
        installs fails no further rule.
        """
        while True:
            rules = self._constraints_of(rows)
            constraints = self._limited(rules, subject)
            torch = None
            if [True for row in packages if row.installs_torch]:
                machine = machine or self._machine(subject)
                torch = self._torch(machine, constraints, None)
            ways = self._ways(subject, packages, rules, constraints, torch)
            asked = constraints, tuple(packages), torch, ways
            attempt: _Attempt | None = self._remembered.get(asked)
            if attempt is None:
                attempt = self._remember(asked, self._what(packages, constraints, torch, ways))
            then, changed = apply(self._book, subject.environment, attempt)
            after = Subject(then, self._request)
            if self._course.groups:
                again: Sequence[Found | None] = look_again(looked, self._touched(changed), after)
            else:
                again = self._course.look_at_each(after)
            judged = applied(again, _NOTHING_IGNORED)
            left = [row for row, _, rank, _ in judged if rank == BLOCKED]
            more = [row for row in left if row.installs and row not in packages]
            if not more:
                return attempt, left
            packages = packages + more
            rows = list(dict.fromkeys([*rows, *[found[0] for found in judged]]))

    def _ways(
        self,
        subject: Subject,
        packages: list[Row],
        rules: _Constraints,
        constraints: _Constraints,
        torch: TorchFix | None,
    ) -> tuple[Wanted, ...]:
        """The ways out of pairs, as they are after everything else of a plan."""
        pairs = [row for row in packages if row.rule.fix.window]
        if not pairs:
            return ()
        rest = [row for row in packages if not row.rule.fix.window]
        if rest:
            after, _ = apply(self._book, subject.environment, self._what(rest, constraints, torch))
            subject = Subject(after, self._request)
        ways = [self._way(row, subject, rules).wanted for row in pairs]
        return tuple([wanted for wanted in ways if wanted is not None])

    def _what(
        self, packages: list[Row], constraints: _Constraints, torch: TorchFix | None, ways: tuple[Wanted, ...] = ()
    ) -> _Attempt:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        uninstall = tuple(dict.fromkeys([name for row in packages for name in row.rule.fix.uninstall]))
        wanted = [*(each for row in packages for each in row.rule.fix.install), *ways]
        if any(row.rule.id == f"{self._backend.name}/installed" for row in packages):
            wanted += self._backend.install
        return _Attempt(self._book, merge(wanted, constraints.clauses), uninstall, torch)

    def _touched(self, changed: frozenset[str]) -> Looks:
        """The groups of steps that can say something else after some distributions have changed."""
        known: Looks | None = self._remembered.get(changed)
        if known is None:
            groups = self._course.groups
            rows = [[row for step in group.steps for row in step.rows] for group in groups]
            touched = [group for group, own in zip(groups, rows) if any(_can_change(row, changed) for row in own)]
            known = self._remember(changed, Looks(touched))
        return known


def _written(commands: tuple[str, ...], python: str) -> tuple[str, ...]:
    """Commands for one interpreter."""
    return tuple([command.replace(PYTHON, python) for command in commands])


def _can_change(row: Row, changed: frozenset[str]) -> bool:
    """Whether the change of some distributions can change what a row says."""
    need = row.rule.need
    if isinstance(need, RequirementsNeed | RequiredInTurnNeed | LinksNeed | KernelsNeed):  # may be about any of them
        return True
    if isinstance(need, DistributionNeed):
        read = need.wanted.name
    elif isinstance(need, OwnerNeed):
        read = need.distribution
    elif isinstance(need, WindowNeed):
        return need.distribution in changed or need.other in changed
    elif isinstance(need, LinksNeed | KernelsNeed):
        return True
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
    for name in attempt.uninstall:
        listed[name] = None
    for wanted in attempt.wanted:
        name = wanted.name
        changed.add(name)
        if name == "torch" and attempt.torch is not None:
            listed["torch"] = None  # an unfitting build is replaced, whatever its version
        if _install(book, listed, wanted, changed) and name == "torch":
            data["torch_build"] = _build_after(book, listed["torch"]["version"])
    data["distributions"] = listed
    stale = changed | book.paired_with(changed)
    for section in ("import_links", "compiled_kernels"):  # what other files say is not known before they are there
        if data.get(section):
            data[section] = {name: told for name, told in data[section].items() if not _is_about(name, told, stale)}
    data["import_owners"] = {**(data.get("import_owners") or {}), **attempt.owners}
    return Environment(data), frozenset(changed)


def _is_about(name: str, told: Any, changed: set[str]) -> bool:
    """Whether what the files of a distribution say is about some that a plan changes."""
    lacking = [str(each.get("needed_from", "")).partition(".")[0] for each in told or () if isinstance(each, dict)]
    return name in changed or not changed.isdisjoint(map(normalize, lacking))


def _install(book: RuleBook, listed: dict[str, Any], wanted: Wanted, changed: set[str]) -> bool:
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
