"""What mends an environment: a fix for each unmet rule, and one plan for all failing package rules together.

Many machines share the words of a fix, so these are written once with a sign in the interpreter's place.
"""

from __future__ import annotations

from envguard.carried import filled
from envguard.fixes import PYTHON, TorchFix, anew, contradict, installer, merge, narrow, plan_commands, render
from envguard.looks import Memories
from envguard.markers import declared, known_of
from envguard.model import Environment, Fix, Plan, with_fix
from envguard.rows import BLOCKED, applied
from envguard.rule import FixTemplate
from envguard.torchbuilds import TorchBuilds
from envguard.versions import Clause, normalize, parse_wanted, satisfies
from envguard.ways import Pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    from envguard.evaluate import Evaluator
    from envguard.fixes import Installer
    from envguard.judge.subject import Subject
    from envguard.model import Outcome
    from envguard.rows import Found, Row
    from envguard.rulebook import RuleBook
    from envguard.versions import Wanted

    # The version clauses of rules that apply together, by distribution.
    Constraints: TypeAlias = Mapping[str, tuple[Clause, ...]]

_NOTHING_IGNORED: frozenset[str] = frozenset()


class _Attempt:
    """What a plan installs and takes out, and its commands for each kind of installer."""

    __slots__ = (
        "anew",
        "commands",
        "owners",
        "reinstall",
        "remove",
        "requirements",
        "torch",
        "uninstall",
        "wanted",
    )

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
        self.anew = [wanted for wanted in map(parse_wanted, reinstall) if not _is_exact(wanted)]
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
        memories = Memories()
        self._constraints, self._fixes, self._attempts = memories.new(), memories.new(), memories.new()
        self._loading = memories.new()
        self._torch = TorchBuilds(self._book, self._request, memories)
        self._pairs = Pairs(self._book, self._course.steps, memories)

    def mend(
        self, subject: Subject, looked: Sequence[Found | None], values: list[Any], judged: Sequence[Found]
    ) -> tuple[list[Outcome], Plan | None]:
        """The outcomes with their fixes, and the plan where package rules fail."""
        how, python = installer(subject.environment)
        rows = [found[0] for found in judged]
        rules = self._constraints_of(rows)
        constraints = self._pairs.limited(rules, subject)
        judged = self._filled(judged, subject)
        outcomes = [found[1] for found in judged]
        for place, template in [(place, found[3]) for place, found in enumerate(judged) if found[3]]:
            outcome = outcomes[place]
            if template.window:
                way = self._pairs.way(rows[place], subject, rules, rows, self._torch.runnable(subject))
                message = f"{outcome.message}: {way.brief}"
                fix = self._fix_of_pair(rows[place], way.template, subject, rules, how)
            else:
                message = outcome.message
                fix = self._fix(rows[place], template, subject, constraints, how)
            outcomes[place] = with_fix(outcome, message, Fix(fix.text, _written(fix.commands, python)))
        failing = [found[0] for found in judged if found[2] == BLOCKED]
        packages = _package_fixes(judged)
        if not packages or how.install is None:
            return outcomes, None
        attempt, left = self._attempt(subject, looked, values, rows, packages)
        names = tuple([row.rule.id for row in left])
        resolves = tuple([row.rule.id for row in failing if row.rule.id not in names])
        if not resolves or not self._is_possible(attempt, subject):
            return outcomes, None
        commands = attempt.commands.get(how)
        if commands is None:
            commands = plan_commands(
                how, attempt.requirements, attempt.uninstall, attempt.torch, attempt.reinstall, attempt.remove
            )
            attempt.commands[how] = commands
        return outcomes, Plan(_written(commands, python), resolves, names)

    def _is_possible(self, attempt: _Attempt, subject: Subject) -> bool:
        """Whether an installer finds a release of all that is wanted."""
        python, version = subject.python, subject.environment.version
        return not any(
            contradict(each.clauses)
            or (self._book.lacks(each.name, each.clauses, python) and not _meets(version(each.name), each.clauses))
            for each in attempt.wanted
        )

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

    def _fix(self, row: Row, template: FixTemplate, subject: Subject, constraints: Constraints, how: Installer) -> Fix:
        """The fix of an unmet rule, with PYTHON for the interpreter."""
        rule = row.rule
        torch = None
        if template.torch:
            own = rule.need.wanted.clauses if row.advises else ()  # type: ignore[union-attr]
            torch = self._torch.fix(subject, (*constraints.get("torch", ()), *own))
        is_own = template is rule.fix
        names = row.wants if is_own else [wanted.name for wanted in (*template.install, *template.reinstall)]
        python = subject.python
        wanted = [(each.name, (*each.clauses, *constraints.get(each.name, ()))) for each in template.install]
        lacking = tuple([f"{name}{narrow(those)}" for name, those in wanted if self._book.lacks(name, those, python)])
        asked = row if is_own else template, how, torch, lacking and (python, lacking), *map(constraints.get, names)
        known: Fix | None = self._fixes.get(asked)
        return known or self._fixes.keep(asked, render(template, constraints, how, torch, lacking, python))

    def _fix_of_pair(
        self, row: Row, template: FixTemplate, subject: Subject, rules: Constraints, how: Installer
    ) -> Fix:
        """The fix of a pair; where the way is another torch, in the build for the machine."""
        clauses = _clauses_for_torch((template,))
        if not clauses or self._torch.is_on_pypi(subject):
            return self._fix(row, template, subject, rules, how)
        asked = {**rules, "torch": (*rules.get("torch", ()), *clauses)}
        return self._fix(row, FixTemplate(torch=True, text=template.text), subject, asked, how)

    def _filled(self, judged: Sequence[Found], subject: Subject) -> Sequence[Found]:
        """Rows with their fixes, and in these the releases that they ask for by what they carry."""
        if not [1 for found in judged if found[3] and found[3].carried is not None]:
            return judged
        return [(*found[:3], self._filled_fix(found[3], subject)) for found in judged]

    def _filled_fix(self, fix: FixTemplate | None, subject: Subject) -> FixTemplate | None:
        if fix is None or fix.carried is None:
            return fix
        return filled(fix, self._book, self._backend, subject, self._loading)

    def _attempt(
        self,
        subject: Subject,
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
            fixes = {row: fix for row, fix in packages.items() if not fix.window}
            attempt = self._what(fixes, rules, subject)
            if len(fixes) < len(packages):  # pairs are mended as they are after everything else
                before = subject.after(apply(self._book, subject.environment, attempt)[0]) if fixes else subject
                ways = before, rules, rows, self._torch.runnable(subject)
                fixes |= {row: self._pairs.way(row, *ways).template for row, fix in packages.items() if fix.window}
                attempt = self._what(fixes, rules, subject)
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

    def _what(self, packages: dict[Row, FixTemplate], rules: Constraints, subject: Subject) -> _Attempt:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        templates = packages.values()
        wanted = [each for template in templates for each in template.install]
        clauses = _clauses_for_torch(templates)
        builds = [True for template in templates if template.torch] or (clauses and not self._torch.is_on_pypi(subject))
        if builds:
            wanted = [each for each in wanted if each.name != "torch"]
        changing = {each.name for each in wanted if not _is_met(each, rules, subject.environment)}
        if builds and not self._torch.keeps(subject, (*rules.get("torch", ()), *clauses)):
            changing.add("torch")
        constraints = self._pairs.limited(rules, subject, changing)
        torch = self._torch.fix(subject, (*constraints.get("torch", ()), *clauses)) if builds else None
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


def _clauses_for_torch(fixes: Iterable[FixTemplate]) -> tuple[Clause, ...]:
    """What some fixes ask of torch, where they install it as they do any distribution."""
    return tuple([clause for fix in fixes for each in fix.install if each.name == "torch" for clause in each.clauses])


def _is_met(wanted: Wanted, rules: Constraints, environment: Environment) -> bool:
    """Whether an installer leaves a distribution as it is that has to meet the rules too."""
    return _meets(environment.version(wanted.name), (*wanted.clauses, *rules.get(wanted.name, ())))


def _meets(version: Any, clauses: tuple[Clause, ...]) -> bool:
    return isinstance(version, str) and satisfies(version, clauses, "specifier") is True


def _written(commands: tuple[str, ...], python: str) -> tuple[str, ...]:
    """Commands for one interpreter."""
    return tuple([command.replace(PYTHON, python) for command in commands])


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
    python = known.get("python_version")
    for name in attempt.uninstall:
        listed[name] = None
    for wanted in attempt.wanted:
        name = wanted.name
        changed.add(name)
        if (name == "torch" and attempt.torch is not None) or wanted in attempt.anew:
            listed[name] = None  # an unfitting build is replaced, whatever its version
        if (listed.get(name) or {}).get("duplicates"):
            listed[name] = {**listed[name], "duplicates": []}
        if _install(book, listed, wanted, changed, known, python) and name == "torch":
            system = environment.fact("host", "system")
            data["torch_build"] = _build_after(book, listed["torch"]["version"], attempt.torch, system)
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


def _is_exact(wanted: Wanted) -> bool:
    """Whether one release alone is wanted."""
    return any(clause.operator == "==" for clause in wanted.clauses)


def _is_about(name: str, told: Any, changed: set[str]) -> bool:
    """Whether what the files of a distribution say is about some that a plan changes."""
    lacking = [str(each.get("needed_from", "")).partition(".")[0] for each in told or () if isinstance(each, dict)]
    return name in changed or not changed.isdisjoint(map(normalize, lacking))


def _install(
    book: RuleBook,
    listed: dict[str, Any],
    wanted: Wanted,
    changed: set[str],
    known: Mapping[str, str],
    python: str | None,
) -> bool:
    """Put a distribution where the installer would: kept if it fits, then with what it declares. True if it changed."""
    entry = listed.get(wanted.name)
    if entry is None or not entry["version"] or not satisfies(entry["version"], wanted.clauses, "specifier"):
        version = book.newest(wanted.name, wanted.clauses, python)
        listed[wanted.name] = {"version": version, "requires": []}  # the installer sees to what the new one declares
        return True
    for need in declared(tuple(entry.get("requires", ())), known) or ():
        there = listed.get(need.name)
        if there is None or not there["version"] or not satisfies(there["version"], need.clauses, "specifier"):
            listed[need.name] = {"version": book.newest(need.name, need.clauses, python), "requires": []}
            changed.add(need.name)
    return False


def _build_after(book: RuleBook, version: str | None, torch: TorchFix | None, system: Any) -> dict[str, Any]:
    """The torch build that an installer takes from PyPI, or from the index of a fix."""
    tag = (torch.index or "").rpartition("/")[2] if torch else ""
    if version is None or (tag and not tag.startswith("cu")):
        return {"version": f"{version}+{tag}"} if version else {}
    if system == "Darwin":
        return {"version": version, "cuda": None, "hip": None, "xpu": None, "arch_list": None}
    every = [build for build in (*book.local_builds, *book.torch_builds) if build.release == version]
    build = next((build for build in every if build.local == tag), every[-1] if every else None)
    if build is None:
        return {"version": version}
    cuda = f"{tag[2:-1]}.{tag[-1]}" if tag else build.cuda
    return {"version": version, "cuda": cuda, "hip": None, "xpu": None, "arch_list": list(build.architectures)}
