"""What mends an environment: a fix for each unmet rule, and one plan for all failing package rules together.

Many machines share the words of a fix, so these are written once with a sign in the interpreter's place.
"""

from __future__ import annotations

from envguard.cuda import driver_runs, parse_capability
from envguard.fixes import PYTHON, TorchFix, fits, installer, merge, narrow, plan_commands, render
from envguard.frozen import Frozen, replace
from envguard.judge.subject import SeenDevice
from envguard.looks import Memories
from envguard.model import Environment, Fix, Plan, with_fix
from envguard.rows import BLOCKED, applied
from envguard.versions import Clause, declared, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from envguard.evaluate import Evaluator
    from envguard.fixes import Installer
    from envguard.judge.subject import Subject
    from envguard.model import Outcome
    from envguard.rows import Found, Row
    from envguard.rule import TorchBuild
    from envguard.rulebook import RuleBook
    from envguard.versions import Wanted

    # By distribution: the releases whose compiled library loads here, and whether the installed one has to go first.
    Carried: TypeAlias = Mapping[str, "tuple[Wanted, bool] | None"]
    # The version clauses of rules that apply together, by distribution.
    Constraints: TypeAlias = Mapping[str, tuple[Clause, ...]]

_NOTHING_IGNORED: frozenset[str] = frozenset()
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
        self._releases = frozenset([build.release for build in self._book.torch_builds])
        memories = Memories()
        self._constraints, self._fixes, self._attempts = memories.new(), memories.new(), memories.new()
        self._majors, self._fitting, self._torches = memories.new(), memories.new(), memories.new()
        self._loads = memories.new()

    def mend(
        self, subject: Subject, looked: Sequence[Found | None], values: list[Any], judged: Sequence[Found]
    ) -> tuple[list[Outcome], Plan | None]:
        """The outcomes with their fixes, and the plan where package rules fail."""
        how, python = installer(subject.environment)
        rows = [found[0] for found in judged]
        constraints = self._constraints_of(rows)
        machine = self._machine(subject) if [1 for found in judged if found[3] and found[0].installs_torch] else None
        carried = self._carried([found[0] for found in judged if found[3]], subject)
        outcomes = [found[1] for found in judged]
        for place in [place for place, found in enumerate(judged) if found[3]]:
            fix = self._fix(rows[place], machine, constraints, how, carried)
            outcomes[place] = with_fix(outcomes[place], Fix(fix.text, _written(fix.commands, python)))
        failing = [found[0] for found in judged if found[2] == BLOCKED]
        packages = [row for row in failing if _is_package_fix(row, carried)]
        if not packages or how.install is None:
            return outcomes, None
        attempt, left = self._attempt(subject, machine, looked, values, rows, packages)
        names = tuple([row.rule.id for row in left])
        resolves = tuple([row.rule.id for row in failing if row.rule.id not in names])
        if not resolves:
            return outcomes, None
        commands = attempt.commands.get(how)
        if commands is None:
            commands = plan_commands(how, attempt.requirements, attempt.uninstall, attempt.torch)
            attempt.commands[how] = commands
        return outcomes, Plan(_written(commands, python), resolves, names)

    def _constraints_of(self, rows: Sequence[Row]) -> Constraints:
        """Every version clause of the error rules among some that apply, by distribution."""
        asked = tuple([row for row in rows if row.constrains])
        known: Constraints | None = self._constraints.get(asked)
        if known is None:
            clauses: dict[str, tuple[Clause, ...]] = {}
            for row in asked:
                wanted = row.rule.need.wanted  # type: ignore[union-attr]
                clauses[wanted.name] = (*clauses.get(wanted.name, ()), *wanted.clauses)
            known = self._constraints.keep(asked, clauses)
        return known

    def _fix(
        self, row: Row, machine: _Machine | None, constraints: Constraints, how: Installer, carried: Carried
    ) -> Fix:
        """The fix of an unmet rule, with PYTHON for the interpreter."""
        rule = row.rule
        torch = None
        if machine is not None and row.installs_torch:
            own = rule.need.wanted.clauses if row.advises else ()  # type: ignore[union-attr]
            torch = self._torch(machine, (*constraints.get("torch", ()), *own))
        template = rule.fix
        loading = carried.get(template.carried) if template.carried else None
        bounds = (*row.wants, template.carried) if loading else row.wants
        asked = row, how, torch, loading, *[constraints.get(name or "") for name in bounds]
        known: Fix | None = self._fixes.get(asked)
        if known is None:
            if loading is not None:
                wanted, again = loading
                away = (wanted.name,) if again else ()
                template = replace(
                    template, install=(*template.install, wanted), uninstall=(*template.uninstall, *away)
                )
            known = self._fixes.keep(asked, render(template, constraints, how, torch))
        return known

    def _carried(self, rows: Sequence[Row], subject: Subject) -> Carried:
        """The releases for each distribution that a fix asks for by its compiled library."""
        names = [row.rule.fix.carried for row in rows if row.rule.fix.carried]
        return {name: self._loading(name, subject) for name in dict.fromkeys(names) if name}

    def _loading(self, name: str, subject: Subject) -> tuple[Wanted, bool] | None:
        """The releases of a distribution whose compiled library loads here; and whether the installer would be content
        with the installed one, which then has to go first.
        """
        from envguard.judge.native import facts_of, releases_that_load

        environment = subject.environment
        facts = facts_of(subject, name)
        python, torch = environment.fact("python", "version"), environment.version("torch")
        asked = name, facts, python, torch
        known: tuple[tuple[Wanted, bool] | None] | None = self._loads.get(asked)
        if known is None:
            loads = {} if facts is None else releases_that_load(facts, python, torch, self._book.native(name))
            floor = next((wanted.clauses for wanted in self._backend.install if wanted.name == name), ())
            wanted = _run_of({each: fits and satisfies(each, floor, "version") for each, fits in loads.items()}, name)
            there = environment.version(name)
            kept = satisfies(there, wanted.clauses, "specifier") if wanted and isinstance(there, str) else None
            known = self._loads.keep(asked, (None if wanted is None else (wanted, kept is not False),))
        return known[0]

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
        packages: list[Row],
    ) -> tuple[_Attempt, list[Row]]:
        """One way out of all failing package rules, and the rows that fail after it: judged again, until what it
        installs fails no further rule.
        """
        looks = self._course.looks
        while True:
            constraints = self._constraints_of(rows)
            torch = None
            if [True for row in packages if row.installs_torch]:
                machine = machine or self._machine(subject)
                torch = self._torch(machine, constraints.get("torch", ()))
            attempt = self._what(packages, constraints, torch, self._carried(packages, subject))
            then, changed = apply(self._book, subject.environment, attempt)
            after = subject.after(then)
            again: Sequence[Found | None]
            if looks is None or not values:
                again = self._course.look_at_each(after)
            else:
                again = looks.part(changed).look(looked, values, after)
            judged = applied(again, _NOTHING_IGNORED)
            left = [found[0] for found in judged if found[2] == BLOCKED]
            others = [row for row in left if row not in packages]
            carried = self._carried(others, subject)
            more = [row for row in others if _is_package_fix(row, carried)]
            if not more:
                return attempt, left
            packages = packages + more
            rows = list(dict.fromkeys([*rows, *[found[0] for found in judged]]))

    def _what(
        self, packages: list[Row], constraints: Constraints, torch: TorchFix | None, carried: Carried
    ) -> _Attempt:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        loading = [each for each in carried.values() if each is not None]
        wanted = [*[each for row in packages for each in row.rule.fix.install], *[each for each, _ in loading]]
        if f"{self._backend.name}/installed" in [row.rule.id for row in packages]:
            wanted += self._backend.install
        asked = torch, *packages, *loading, *[constraints.get(each.name) for each in wanted]
        known: _Attempt | None = self._attempts.get(asked)
        if known is None:
            away = [name for row in packages for name in row.rule.fix.uninstall]
            uninstall = tuple(dict.fromkeys([*away, *[each.name for each, again in loading if again]]))
            known = self._attempts.keep(asked, _Attempt(self._book, merge(wanted, constraints), uninstall, torch))
        return known


def _is_package_fix(row: Row, carried: Carried) -> bool:
    """Whether installing can mend a rule: of a compiled library, only where some release carries it."""
    fix = row.rule.fix
    others = bool(fix.install or fix.uninstall or fix.torch)
    return row.installs and (others or carried.get(fix.carried or "") is not None)


def _run_of(fitting: Mapping[str, bool | None], name: str) -> Wanted | None:
    """The newest unbroken run of fitting releases as a requirement; None where none fits.

    A release of which that is not known is taken for the nearest one of its line, else the nearest later one.
    """
    known = list(fitting)
    fits = [_as_in_its_line(place, known, fitting) for place in range(len(known))]
    wanted = True if True in fits else None
    if wanted not in fits:
        return None
    first = last = len(fits) - 1 - fits[::-1].index(wanted)
    while first > 0 and fits[first - 1] is wanted:
        first -= 1
    above = f",<{known[last + 1]}" if last + 1 < len(known) else ""
    return parse_wanted(f"{name}>={known[first]}{above}")


def _as_in_its_line(place: int, known: Sequence[str], fitting: Mapping[str, bool | None]) -> bool | None:
    line = known[place].rpartition(".")[0]
    later, earlier = known[place:], known[:place][::-1]
    same = [fitting[each] for each in (*later, *earlier) if each.rpartition(".")[0] == line]
    return next((each for each in (*same, *[fitting[each] for each in later]) if each is not None), None)


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
    if machine.kind == "mps" or machine.system == "Darwin":
        return TorchFix("Install torch; its macOS build serves the GPU.", "torch")
    # what the wheels of another architecture hold is not in the table
    if isinstance(machine.machine, str) and machine.machine not in ("x86_64", "AMD64"):
        return TorchFix("Install a torch build for this machine: https://pytorch.org/get-started/locally")
    if not machine.is_seen:
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
    if "native_libraries" in data:  # a wheel that is installed anew brings its own
        carried = data["native_libraries"]
        data["native_libraries"] = {name: carried[name] for name in carried if name not in changed}
    if "torch" in changed:  # its build brings the libraries of its CUDA
        found = data.get("system_libraries") or {}
        data["system_libraries"] = {name: path for name, path in found.items() if path is not None}
    data["import_owners"] = {**(data.get("import_owners") or {}), **attempt.owners}
    return Environment(data), frozenset(changed)


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
