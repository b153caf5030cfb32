"""What mends an environment: a fix for each unmet rule, and one plan for all failing package rules together.

Many machines share the words of a fix, so these are written once with a sign in the interpreter's place.
"""

from __future__ import annotations

from envguard.carried import filled
from envguard.cuda import driver_runs, parse_capability
from envguard.fixes import PYTHON, TorchFix, anew, fits, installer, merge, narrow, plan_commands, render
from envguard.frozen import Frozen
from envguard.judge.subject import SeenDevice, plain_machine
from envguard.looks import Memories
from envguard.markers import declared, known_of
from envguard.model import Environment, Fix, Plan, with_fix
from envguard.rows import BLOCKED, applied
from envguard.versions import Clause, normalize, parse_wanted, satisfies
from envguard.ways import Pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from envguard.evaluate import Evaluator
    from envguard.fixes import Installer
    from envguard.judge.subject import Subject
    from envguard.model import Outcome
    from envguard.rows import Found, Row
    from envguard.rule import FixTemplate, TorchBuild
    from envguard.rulebook import RuleBook
    from envguard.versions import Wanted

    # The version clauses of rules that apply together, by distribution.
    Constraints: TypeAlias = Mapping[str, tuple[Clause, ...]]

_NOTHING_IGNORED: frozenset[str] = frozenset()
_LAST_INTEL_MAC = "2.2.2"  # the newest on PyPI with a wheel for macosx_10_9_x86_64, looked up on 2026-11-22
_INDEX = "https://download.pytorch.org/whl"


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
    musl: bool


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
        memories = Memories()
        self._constraints, self._fixes, self._attempts = memories.new(), memories.new(), memories.new()
        self._majors, self._fitting, self._torches = memories.new(), memories.new(), memories.new()
        self._loading = memories.new()
        self._pairs = Pairs(self._book, self._course.steps, memories)

    def mend(
        self, subject: Subject, looked: Sequence[Found | None], values: list[Any], judged: Sequence[Found]
    ) -> tuple[list[Outcome], Plan | None]:
        """The outcomes with their fixes, and the plan where package rules fail."""
        how, python = installer(subject.environment)
        rows = [found[0] for found in judged]
        rules = self._constraints_of(rows)
        constraints = self._pairs.limited(rules, subject)
        machine = self._machine(subject) if [1 for found in judged if found[3] and found[3].torch] else None
        judged = self._filled(judged, subject)
        outcomes = [found[1] for found in judged]
        for place, template in [(place, found[3]) for place, found in enumerate(judged) if found[3]]:
            outcome = outcomes[place]
            if template.window:
                way = self._pairs.way(rows[place], subject, rules, rows)
                message = f"{outcome.message}: {way.brief}"
                fix = self._fix(rows[place], way.template, None, rules, how)
            else:
                message = outcome.message
                fix = self._fix(rows[place], template, machine, constraints, how)
            outcomes[place] = with_fix(outcome, message, Fix(fix.text, _written(fix.commands, python)))
        failing = [found[0] for found in judged if found[2] == BLOCKED]
        packages = _package_fixes(judged)
        if not packages or how.install is None:
            return outcomes, None
        attempt, left = self._attempt(subject, machine, looked, values, rows, packages)
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

    def _constraints_of(self, rows: Sequence[Row]) -> Constraints:
        """Every version clause of the error rules among some that apply, by distribution."""
        asked = tuple([row for row in rows if row.constrains])
        known: Constraints | None = self._constraints.get(asked)
        if known is None:
            clauses: dict[str, tuple[Clause, ...]] = {}
            for row in asked:
                wanted: Wanted = row.rule.need.wanted  # type: ignore[union-attr, assignment]
                clauses[wanted.name] = (*clauses.get(wanted.name, ()), *wanted.clauses)
            known = self._constraints.keep(asked, clauses)
        return known

    def _fix(
        self, row: Row, template: FixTemplate, machine: _Machine | None, constraints: Constraints, how: Installer
    ) -> Fix:
        """The fix of an unmet rule, with PYTHON for the interpreter."""
        rule = row.rule
        torch = None
        if machine is not None and template.torch:
            own = rule.need.wanted.clauses if row.advises else ()  # type: ignore[union-attr]
            torch = self._torch(machine, (*constraints.get("torch", ()), *own))
        is_own = template is rule.fix
        names = row.wants if is_own else [wanted.name for wanted in (*template.install, *template.reinstall)]
        asked = row if is_own else template, how, torch, *map(constraints.get, names)
        known: Fix | None = self._fixes.get(asked)
        return known or self._fixes.keep(asked, render(template, constraints, how, torch))

    def _filled(self, judged: Sequence[Found], subject: Subject) -> Sequence[Found]:
        """Rows with their fixes, and in these the releases that they ask for by what they carry."""
        if not [1 for found in judged if found[3] and found[3].carried is not None]:
            return judged
        return [(*found[:3], self._filled_fix(found[3], subject)) for found in judged]

    def _filled_fix(self, fix: FixTemplate | None, subject: Subject) -> FixTemplate | None:
        if fix is None or fix.carried is None:
            return fix
        return filled(fix, self._book, self._backend, subject, self._loading)

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
            str(fact("host", "libc")).startswith("musl"),
        )

    def _torch(self, machine: _Machine, clauses: tuple[Clause, ...]) -> TorchFix:
        """The torch build that fits the machine and some clauses: those of every error rule, and of the one to mend."""
        asked = machine.driver_major, machine.capability, clauses
        builds: tuple[TorchBuild, ...] | None = self._fitting.get(asked)
        if builds is None:
            builds = self._fitting.keep(asked, fitting(self._book, *asked))
        known: TorchFix | None = self._torches.get((machine, clauses))
        return known or self._torches.keep((machine, clauses), torch_fix(self._book, machine, clauses, builds))

    def _driver_major(self, driver: Any, supported: Any) -> int | None:
        """The newest CUDA major that a driver runs, None where the driver is not known."""
        known: tuple[int | None] | None = self._majors.get((driver, supported))
        if known is None:
            oldest = self._book.oldest_drivers.items()
            majors = [major for major, first in oldest if driver_runs(f"{major}.0", first, driver, supported)]
            known = self._majors.keep((driver, supported), (max(majors, default=None),))
        return known[0]

    def _attempt(
        self,
        subject: Subject,
        machine: _Machine | None,
        looked: Sequence[Found | None],
        values: list[Any],
        rows: list[Row],
        packages: dict[Row, FixTemplate],
    ) -> tuple[_Attempt, list[Row]]:
        """One way out of all failing package rules, and the rows that fail after it: judged again, until what it
        installs fails no further rule.
        """
        looks = self._course.looks
        while True:
            rules = self._constraints_of(rows)
            constraints = self._pairs.limited(rules, subject)
            torch = None
            if [True for template in packages.values() if template.torch]:
                machine = machine or self._machine(subject)
                torch = self._torch(machine, constraints.get("torch", ()))
            fixes = {row: fix for row, fix in packages.items() if not fix.window}
            if len(fixes) < len(packages):  # pairs are mended as they are after everything else
                before = subject
                if fixes:
                    then, _ = apply(self._book, subject.environment, self._what(fixes, constraints, torch))
                    before = subject.after(then)
                ways = before, rules, rows
                fixes |= {row: self._pairs.way(row, *ways).template for row, fix in packages.items() if fix.window}
            attempt = self._what(fixes, constraints, torch)
            then, changed = apply(self._book, subject.environment, attempt)
            after = subject.after(then)
            again: Sequence[Found | None]
            if looks is None or not values:
                again = self._course.look_at_each(after)
            else:
                again = looks.part(changed).look(looked, values, after)
            judged = applied(again, _NOTHING_IGNORED)
            blocked = self._filled([found for found in judged if found[2] == BLOCKED], subject)
            left = [found[0] for found in blocked]
            failing = _package_fixes(blocked)
            if failing.keys() <= packages.keys():
                return attempt, left
            packages = {**failing, **packages}
            rows = list(dict.fromkeys([*rows, *[found[0] for found in judged]]))

    def _what(self, packages: dict[Row, FixTemplate], constraints: Constraints, torch: TorchFix | None) -> _Attempt:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        templates = packages.values()
        wanted = [each for template in templates for each in template.install]
        if f"{self._backend.name}/installed" in [row.rule.id for row in packages]:
            wanted += self._backend.install
        again = [each for template in templates for each in template.reinstall]
        own = [row if template is row.rule.fix else template for row, template in packages.items()]
        asked = torch, *own, *wanted, *[constraints.get(each.name) for each in (*wanted, *again)]
        known: _Attempt | None = self._attempts.get(asked)
        if known is None:
            uninstall = tuple(dict.fromkeys([name for template in templates for name in template.uninstall]))
            remove = tuple(dict.fromkeys([folder for template in templates for folder in template.remove]))
            reinstall = anew(again, constraints)
            made = _Attempt(self._book, merge(wanted, constraints), uninstall, torch, reinstall, remove)
            known = self._attempts.keep(asked, made)
        return known


def _package_fixes(judged: Sequence[Found]) -> dict[Row, FixTemplate]:
    """The rows that block, and whose fix changes packages, with that fix."""
    return {row: fix for row, _, rank, fix in judged if rank == BLOCKED and fix and fix.installs}


def _written(commands: tuple[str, ...], python: str) -> tuple[str, ...]:
    """Commands for one interpreter."""
    return tuple([command.replace(PYTHON, python) for command in commands])


def fitting(
    book: RuleBook, driver_major: int | None, capability: str | None, clauses: tuple[Clause, ...]
) -> tuple[TorchBuild, ...]:
    """The released torch builds that a driver and a device run and that meet some clauses, oldest first."""
    return tuple([build for build in book.torch_builds if fits(build, clauses, driver_major, capability)])


def torch_fix(
    book: RuleBook, machine: _Machine, clauses: tuple[Clause, ...], builds: tuple[TorchBuild, ...]
) -> TorchFix:
    """The torch build for the machine, of those that fit its driver, its device, and what the rules ask of torch."""
    if machine.kind == "rocm":
        return TorchFix("Install the ROCm build of torch for this machine: https://pytorch.org/get-started/locally")
    if machine.kind == "xpu":
        return TorchFix("Install the Intel GPU build of torch.", "torch", f"{_INDEX}/xpu", machine.has_torch)
    if machine.musl:
        return TorchFix(
            "torch has no wheels for musl, the C library of Alpine Linux: use a system with glibc, such as the image"
            " python:3.12-slim."
        )
    if machine.system == "Darwin" and plain_machine(str(machine.machine)) == "x86_64":
        last = f"torch=={_LAST_INTEL_MAC}"
        if satisfies(_LAST_INTEL_MAC, clauses, "specifier"):
            return TorchFix("Install the last torch with wheels for Intel Macs.", last)
        return TorchFix(f"The last torch with wheels for Intel Macs is {last}: use a Mac with Apple silicon, or Linux.")
    if machine.kind == "mps" or machine.system == "Darwin":
        return TorchFix("Install torch; its macOS build serves the GPU.", "torch")
    # what the wheels of another architecture hold is not in the table
    if isinstance(machine.machine, str) and plain_machine(machine.machine) != "x86_64":
        return TorchFix("Install a torch build for this machine: https://pytorch.org/get-started/locally")
    if not machine.is_seen and machine.driver_major is None:
        requirement = f"torch{narrow(clauses)}"
        return TorchFix(f"Install {requirement}.", requirement)
    if not builds:
        local = [build for build in book.local_builds if fits(build, clauses, machine.driver_major, machine.capability)]
        if local:
            build = local[-1]
            text = (
                f"The torch {build.release} build for CUDA {build.cuda} on PyTorch's own index has code for this GPU."
            )
            return TorchFix(text, f"torch=={build.release}", f"{_INDEX}/{build.local}", machine.has_torch)
        return TorchFix(
            "No released torch fits the driver, the GPU and the rules together: update the NVIDIA driver first."
        )
    kept = next((build for build in builds if build.release == machine.release), None)
    build = kept or builds[-1]
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
    if data.get("distributions") is None:  # what was not observed before is not seen to be absent afterwards
        data["distributions_complete"] = False
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
    if "native_libraries" in data:  # a wheel that is installed anew brings its own
        told = data["native_libraries"]
        data["native_libraries"] = {name: told[name] for name in told if name not in changed}
    if "torch" in changed:  # its build brings the libraries of its CUDA
        found = data.get("system_libraries") or {}
        data["system_libraries"] = {name: path for name, path in found.items() if path is not None}
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
