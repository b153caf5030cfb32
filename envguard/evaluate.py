"""(rules, environment, request) -> BackendReport. Pure: it never asks the machine.

The algebra: error unmet -> blocked; error undecided -> undecided; warning unmet -> degraded; warning undecided and
every info -> no effect; no outcome at all -> undecided. A rule whose prerequisite is unmet is skipped: one diagnosis,
not five.
"""

from __future__ import annotations

from envguard.errors import UnknownBackend
from envguard.frozen import replace
from envguard.judge import Finding, SeenDevice, Subject, current_cuda, examine, has_capability
from envguard.model import (
    VERDICTS,
    BackendReport,
    Device,
    Environment,
    Fix,
    Outcome,
    Plan,
    Request,
    Unreadable,
)
from envguard.rule import (
    AcceleratorNeed,
    ArchitectureNeed,
    CapabilityNeed,
    DeviceNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    MemoryNeed,
    OwnerNeed,
    RunsOnNeed,
    SchemeNeed,
    SystemNeed,
    TorchBuildNeed,
    VisibleNeed,
)
from envguard.versions import satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from envguard.fixes import Constraints, Installer, TorchFix
    from envguard.model import Verdict
    from envguard.rule import Rule
    from envguard.rulebook import RuleBook
    from envguard.versions import Clause, Wanted

    _Found: TypeAlias = "tuple[_Row, Outcome, int]"  # the row, what it says, and how bad that is: a place in VERDICTS
    _Steps: TypeAlias = "tuple[_Step, ...]"  # prerequisites first
    _Seen: TypeAlias = "dict[_Step, _Found | None]"

_MOST_REMEMBERED = 500  # a row's outcomes by its facts: bounded, so that memory is flat over any number of snapshots


_BLOCKED = VERDICTS.index("blocked")
# An outcome without effect is as none at all: -1.
_RANKS = {
    **{("info", status): -1 for status in ("met", "unmet", "undecided", "skipped")},
    **{(severity, status): 0 for severity in ("error", "warning") for status in ("met", "skipped")},
    ("error", "unmet"): _BLOCKED,
    ("error", "undecided"): VERDICTS.index("undecided"),
    ("warning", "unmet"): VERDICTS.index("degraded"),
    ("warning", "undecided"): -1,
}


# Needs whose facts stay as they are, whatever is installed.
_ABOUT_THE_MACHINE = (
    AcceleratorNeed,
    CapabilityNeed,
    DeviceNeed,
    DriverNeed,
    MemoryNeed,
    RunsOnNeed,
    SystemNeed,
    VisibleNeed,
)


class _Row:
    """One rule, ready to be applied: it remembers what equal facts gave."""

    __slots__ = ("_skipped", "after", "for_all_schemes", "host", "judge", "read", "remembered", "rule")

    def __init__(self, rule: Rule, request: Request, book: RuleBook) -> None:
        self.rule = rule
        builds = book.torch_builds if isinstance(rule.need, ArchitectureNeed) else ()
        self.read, self.judge = examine(rule.need, request, builds)
        self.after = rule.after
        self.for_all_schemes = rule.when.scheme is None and rule.when.not_scheme is None
        self.host = request.host if rule.origin == "host" else None
        self.remembered: dict[Any, _Found | None] = {}
        self._skipped: dict[str, _Found] = {}

    def applies(self, subject: Subject) -> bool | None:
        """Whether the row is for this environment; None where a fact that decides it was not observed."""
        known, when, environment = True, self.rule.when, subject.environment
        for name, clauses in when.release:
            version = environment.version(name)
            fits = satisfies(version, clauses, "version") if isinstance(version, str) else None
            if version is None or fits is False:
                return False
            known = known and fits is True
        for name in when.absent:
            entry = environment.distribution(name)
            if isinstance(entry, Unreadable):
                known = False
            elif entry is not None:
                return False
        if when.cuda_capability is not None:
            fits = has_capability(current_cuda(environment), when.cuda_capability)
            if fits is False:
                return False
            known = known and fits is True
        facts = [(environment.fact("environment_variables", name), values) for name, values in when.variable]
        if when.system is not None:
            facts.append((environment.fact("host", "system"), when.system))
        if when.accelerator is not None:
            device = subject.device
            facts.append((device.kind if isinstance(device, SeenDevice) else device, when.accelerator))
        for fact, values in facts:
            if isinstance(fact, Unreadable):
                known = False
            elif fact is None or (fact if fact in values else fact.lower()) not in values:
                return False
        return True if known else None

    def look(self, subject: Subject) -> _Found | None:
        """What the rule says about the environment, yet without a fix; None where it has nothing to say."""
        facts = self.read(subject)
        if self.host is not None:
            facts = facts, subject.environment.version(self.host)
        try:
            return self.remembered[facts]
        except KeyError:
            pass
        if self.host is None:
            found = self._found(self.judge(facts), self.rule.origin)
        else:
            found = self._found(self.judge(facts[0]), _host_origin(self.host, facts[1]))
        if len(self.remembered) >= _MOST_REMEMBERED:
            self.remembered.clear()
        self.remembered[facts] = found
        return found

    def _found(self, finding: Finding | None, origin: str) -> _Found | None:
        if finding is None:
            return None
        outcome = self._outcome(finding, origin)
        return self, outcome, _RANKS[outcome.severity, outcome.status]

    def _outcome(self, finding: Finding, origin: str) -> Outcome:
        rule = self.rule
        needed, found, severity = finding.needed, finding.found, finding.severity
        return Outcome(
            rule.id,
            finding.status,
            rule.severity if severity is None or rule.severity == "info" else severity,
            finding.kind or rule.kind,
            origin,
            f"needs {needed}, found {found}",
            needed,
            found,
            rule.why,
            None,
            rule.source,
            None,
            False,
        )

    def undecided(self, environment: Environment) -> _Found | None:
        """The outcome where a fact that decides whether the rule applies was not observed."""
        if self.rule.severity == "info":
            return None
        unseen = [name for name, _ in self.rule.when.release if not isinstance(environment.version(name), str)]
        what = f"the version of {', '.join(unseen)}" if unseen else "a fact about the machine"
        origin = self.rule.origin if self.host is None else _host_origin(self.host, None)
        needed = f"{what}, which decides whether the rule applies"
        return self._found(Finding("undecided", needed, "it was not observed"), origin)

    def skipped(self, because: str) -> _Found:
        """The outcome where the rule was not looked at, because one that it depends on is not met."""
        made = self._skipped.get(because)
        if made is None:
            rule = self.rule
            message = f"not looked at: {because} is not met"
            outcome = Outcome(rule.id, "skipped", rule.severity, rule.kind, rule.origin, message, because=because)
            made = self._skipped[because] = self, outcome, _RANKS[rule.severity, "skipped"]
        return made


class _Step:
    """The rows of one id, of which an environment gets one or none."""

    __slots__ = ("_accelerator", "_chosen", "_cuda", "_names", "_system", "_variables", "look", "reads", "rows")

    def __init__(self, rows: tuple[_Row, ...]) -> None:
        self.rows = rows
        whens = [row.rule.when for row in rows]
        named = [
            *(name for when in whens for name, _ in when.release),
            *(name for when in whens for name in when.absent),
        ]
        self._names = tuple(dict.fromkeys(named))
        self._cuda = any(when.cuda_capability is not None for when in whens)
        self._variables = tuple(dict.fromkeys(name for when in whens for name, _ in when.variable))
        self._system = any(when.system is not None for when in whens)
        self._accelerator = any(when.accelerator is not None for when in whens)
        self.reads = _distributions_read(rows)
        self._chosen: dict[Any, _Row | _Found | None] = {}
        # What the row for this environment says; an undecided outcome where it cannot be said which row that is.
        alone = len(rows) == 1 and not whens[0].conditional
        self.look: Callable[[Subject], _Found | None] = rows[0].look if alone else self._look

    def _look(self, subject: Subject) -> _Found | None:
        environment = subject.environment
        facts: Any = [environment.version(name) for name in self._names]
        if self._system:
            facts.append(environment.fact("host", "system"))
        if self._accelerator:
            device = subject.device
            facts.append(device.kind if isinstance(device, SeenDevice) else device)
        if self._cuda:
            facts.append(current_cuda(environment))
        for name in self._variables:
            facts.append(environment.fact("environment_variables", name))
        facts = tuple(facts)
        try:
            chosen = self._chosen[facts]
        except KeyError:
            if len(self._chosen) >= _MOST_REMEMBERED:
                self._chosen.clear()
            chosen = self._chosen[facts] = self._choose(subject)
        return chosen.look(subject) if isinstance(chosen, _Row) else chosen

    def _choose(self, subject: Subject) -> _Row | _Found | None:
        unknown: _Row | None = None
        for row in self.rows:
            applies = row.applies(subject)
            if applies:
                return row
            if applies is None and (unknown is None or row.rule.severity == "error"):
                unknown = row
        return unknown.undecided(subject.environment) if unknown is not None else None


def _distributions_read(rows: tuple[_Row, ...]) -> frozenset[str] | None:
    """The distributions whose change can change what some rows say; None where any can."""
    found: set[str] = set()
    for row in rows:
        need, when = row.rule.need, row.rule.when
        found.update(name for name, _ in when.release)
        found.update(when.absent)
        if row.host is not None:
            found.add(row.host)
        if isinstance(need, DistributionNeed):
            found.add(need.wanted.name)
        elif isinstance(need, OwnerNeed):
            found.add(need.distribution)
        elif isinstance(need, TorchBuildNeed | DriverForCudaNeed | ArchitectureNeed):
            found.add("torch")
        elif not isinstance(need, _ABOUT_THE_MACHINE):
            return None
    return frozenset(found)


def _host_origin(host: str, version: Any) -> str:
    return f"host:{host}@{version}" if isinstance(version, str) else f"host:{host}"


def _rank(found: _Found, ignore: frozenset[str]) -> int:
    """How bad an outcome is, as a place in VERDICTS; an ignored error is at best degraded, an ignored warning none."""
    _, outcome, rank = found
    if rank > 0 and outcome.rule in ignore:
        return 1 if outcome.severity == "error" else 0
    return rank


class _Surroundings:
    """What fixes need to know beyond their own rule, worked out only when something is unmet."""

    def __init__(self, evaluator: Evaluator, subject: Subject, judged: Sequence[_Found]) -> None:
        self.environment = subject.environment
        self._evaluator = evaluator
        self.subject = subject
        self._judged = judged
        self._constraints: Constraints | None = None
        self._torch: dict[tuple[Clause, ...], TorchFix] = {}
        self._installer: Installer | None = None

    @property
    def installer(self) -> Installer:
        """How packages get into the environment."""
        if self._installer is None:
            from envguard.fixes import installer  # here: most checks have nothing to mend

            self._installer = installer(self.environment)
        return self._installer

    @property
    def constraints(self) -> Constraints:
        """Every version clause of the error rules that apply, by distribution."""
        if self._constraints is None:
            self._constraints = self._evaluator.constraints(tuple([found[0] for found in self._judged]))
        return self._constraints

    def torch(self, rule: Rule) -> TorchFix:
        """The torch build that fits this machine, every error rule and the rule that is to be mended."""
        clauses = self.constraints.on("torch")
        if rule.severity != "error" and isinstance(rule.need, DistributionNeed):
            clauses = (*clauses, *rule.need.wanted.clauses)
        known = self._torch.get(clauses)
        if known is None:
            from envguard.plans import torch_fix

            known = self._torch[clauses] = torch_fix(self._evaluator.book, self.subject, clauses)
        return known


class Evaluator:
    """Judges environments for one request; made once, it judges any number of them."""

    def __init__(self, book: RuleBook, request: Request) -> None:
        if request.backend not in book.backends:
            raise UnknownBackend(f"unknown backend {request.backend!r}: known are {', '.join(book.backends)}")
        self.book = book
        self.request = request
        self.backend = book.backends[request.backend]
        rules = book.rules(request.backend, operation=request.operation, host=request.host, device=request.device_kind)
        self._rows = [_Row(rule, request, book) for rule in rules if not isinstance(rule.need, SchemeNeed)]
        self._scheme_rows = [rule for rule in rules if isinstance(rule.need, SchemeNeed)]
        self._order = {rule.id: place for place, rule in reversed(list(enumerate(rules)))}
        self._steps: dict[str | None, _Steps] = {}
        self._constraints: dict[tuple[_Row, ...], Constraints] = {}
        self._needs_accelerator = any(isinstance(row.rule.need, AcceleratorNeed) for row in self._rows)
        self._known_steps: dict[tuple[_Row, ...], _Step] = {}
        self._classes: tuple[_Steps, list[tuple[tuple[str, ...], _Steps]]] | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every row that can apply to the request, whatever the environment; without a scheme, those of all schemes."""
        if self.request.scheme is None:
            return (*(row.rule for row in self._rows), *self._scheme_rows)
        return tuple(row.rule for step in self._for(self.request.scheme) for row in step.rows)

    def constraints(self, rows: tuple[_Row, ...]) -> Constraints:
        """The version clauses of some rows that apply together."""
        known = self._constraints.get(rows)
        if known is None:
            from envguard.fixes import Constraints

            found: dict[str, tuple[Clause, ...]] = {}
            for row in rows:
                need = row.rule.need
                if isinstance(need, DistributionNeed) and row.rule.severity == "error":
                    found[need.wanted.name] = (*found.get(need.wanted.name, ()), *need.wanted.clauses)
            if len(self._constraints) >= _MOST_REMEMBERED:
                self._constraints.clear()
            known = self._constraints[rows] = Constraints(found)
        return known

    def _for(self, scheme: str | None) -> _Steps:
        """The rows for a scheme, those of one id together, prerequisites first."""
        steps = self._steps.get(scheme)
        if steps is None:
            asked = Request(
                self.request.backend, scheme, self.request.operation, self.request.host, self.request.device
            )
            rows = [row for row in self._rows if _is_for_scheme(row.rule, scheme)]
            if scheme is not None:
                rows += [_Row(rule, asked, self.book) for rule in self._scheme_rows if _is_for_scheme(rule, scheme)]
            rows.sort(key=lambda row: self._order[row.rule.id])
            groups: dict[str, list[_Row]] = {}
            for row in rows:
                groups.setdefault(row.rule.id, []).append(row)
            steps = self._steps[scheme] = tuple(self._step(tuple(group)) for group in groups.values())
        return steps

    def _step(self, rows: tuple[_Row, ...]) -> _Step:
        """The step of some rows, the same one for all schemes that share them."""
        step = self._known_steps.get(rows)
        if step is None:
            step = self._known_steps[rows] = _Step(rows)
        return step

    def evaluate(self, environment: Environment, *, ignore: frozenset[str] = frozenset()) -> BackendReport:
        """The report of one environment: every rule that applied, and without a scheme the verdict of each scheme.

        Rules whose id is in `ignore` do not decide: an ignored error stays unmet and visible, and the verdict is at
        best degraded.
        """
        subject = Subject(environment, self.request)
        seen: _Seen = {}
        judged = self._judge(self._for(self.request.scheme), subject, seen, ignore)
        surroundings = _Surroundings(self, subject, judged)
        outcomes = tuple(
            [_with_fix(row.rule, each, surroundings) if each.status == "unmet" else each for row, each, _ in judged]
        )
        if ignore:
            outcomes = tuple([replace(each, ignored=True) if each.rule in ignore else each for each in outcomes])
        worst = max(
            [_rank(found, ignore) for found in judged] if ignore else [rank for _, _, rank in judged], default=-1
        )
        return BackendReport(
            self.request,
            self._version(environment),
            _verdict(worst),
            outcomes,
            self._schemes(subject, judged, seen, ignore) if self.request.scheme is None else None,
            self._device(subject),
            self._plan(judged, seen, surroundings) if worst == _BLOCKED else None,
        )

    def _judge(self, steps: _Steps, subject: Subject, seen: _Seen, ignore: frozenset[str]) -> list[_Found]:
        """What each step found, where it found anything; a rule behind an unmet error is skipped."""
        judged: list[_Found] = []
        unmet: dict[str, str] = {}  # the id of each error rule that is not met or was skipped -> the one to blame
        for step in steps:
            try:
                found = seen[step]
            except KeyError:
                found = seen[step] = step.look(subject)
            if found is None:
                continue
            row, outcome, rank = found
            if unmet and row.after:
                because = next((unmet[each] for each in row.after if each in unmet), None)
                if because is not None:
                    unmet[outcome.rule] = because
                    judged.append(row.skipped(because))
                    continue
            judged.append(found)
            if rank == _BLOCKED and outcome.rule not in ignore:
                unmet[outcome.rule] = outcome.rule
        return judged

    def _schemes(
        self, subject: Subject, judged: Sequence[_Found], seen: _Seen, ignore: frozenset[str]
    ) -> dict[str, Verdict]:
        """The verdict of each scheme; schemes with the same rules are judged once.

        A rule is skipped only behind an unmet error, which decides the verdict anyway: so the worst of all steps is the
        verdict, and the steps that all schemes share are counted once.
        """
        if any(found[0].for_all_schemes and _rank(found, ignore) == _BLOCKED for found in judged):
            return dict.fromkeys(self._scheme_names(), "blocked")
        if self._classes is None:
            self._classes = self._scheme_classes()
        shared, classes = self._classes
        common = self._worst(shared, subject, seen, ignore)
        verdicts: dict[str, Verdict] = {}
        for schemes, steps in classes:
            rank = common if common == _BLOCKED else max(common, self._worst(steps, subject, seen, ignore))
            verdicts.update(dict.fromkeys(schemes, _verdict(rank)))
        return verdicts

    def _scheme_names(self) -> tuple[str, ...]:
        """The schemes that the operation knows."""
        return (*self.backend.schemes, *(self.backend.load_schemes if self.request.operation == "load" else ()))

    def _scheme_classes(self) -> tuple[_Steps, list[tuple[tuple[str, ...], _Steps]]]:
        """The steps that all schemes share, and for each group of schemes with equal rules the steps of its own."""
        by_scheme = {scheme: self._for(scheme) for scheme in self._scheme_names()}
        shared = [step for step in self._for(None) if all(step in steps for steps in by_scheme.values())]
        classes: dict[Any, tuple[list[str], _Steps]] = {}
        for scheme, steps in by_scheme.items():
            own = tuple(step for step in steps if step not in shared)
            signature = tuple(_signature(row, scheme) for step in own for row in step.rows)
            classes.setdefault(signature, ([], own))[0].append(scheme)
        return tuple(shared), [(tuple(schemes), own) for schemes, own in classes.values()]

    def _worst(self, steps: _Steps, subject: Subject, seen: _Seen, ignore: frozenset[str]) -> int:
        """The rank of the worst that some steps find, -1 where they find nothing."""
        worst = -1
        for step in steps:
            if step not in seen:
                seen[step] = step.look(subject)
            found = seen[step]
            if found is not None:
                rank = _rank(found, ignore) if ignore else found[2]
                worst = max(worst, rank)
        return worst

    def _version(self, environment: Environment) -> str | None:
        version = environment.version(self.backend.distribution)
        return version if isinstance(version, str) else None

    def _device(self, subject: Subject) -> Device | None:
        if self.request.device_kind == "cpu":
            return Device("cpu")
        device = subject.device
        if isinstance(device, SeenDevice):
            build = subject.environment
            without = all(build.fact("torch_build", name) is None for name in ("cuda", "hip", "xpu"))
            if without and not self._needs_accelerator and device.kind != "mps":
                return Device("cpu")  # the CPU build of torch runs beside the GPU
            return Device(device.kind, device.index, device.name)
        return None if self._needs_accelerator or device is not None else Device("cpu")

    def _plan(self, judged: Sequence[_Found], seen: _Seen, surroundings: _Surroundings) -> Plan | None:
        """One way out of all failing package rules: judged again, until what it installs fails no further rule."""
        failing = [row.rule for row, _, rank in judged if rank == _BLOCKED]
        packages = [rule for rule in failing if _is_about_packages(rule)]
        how = surroundings.installer
        if not packages or how.install is None:
            return None
        from envguard.fixes import plan_commands
        from envguard.plans import apply, torch_fix

        subject, steps = surroundings.subject, self._for(self.request.scheme)
        rows = [row for row, *_ in judged]
        while True:
            constraints = self.constraints(tuple(dict.fromkeys(rows)))
            wants_torch = any(rule.fix.torch for rule in packages)
            torch = torch_fix(self.book, subject, constraints.on("torch")) if wants_torch else None
            uninstall = tuple(dict.fromkeys([name for rule in packages for name in rule.fix.uninstall]))
            requirements = constraints.merge(self._wanted(packages))
            wanted = (*requirements, torch.requirement) if torch is not None and torch.requirement else requirements
            then, changed = apply(self.book, surroundings.environment, wanted, uninstall, torch)
            kept = {step: found for step, found in seen.items() if step.reads is not None and not step.reads & changed}
            rejudged = self._judge(steps, Subject(then, self.request), kept, frozenset())
            left = [row.rule for row, _, rank in rejudged if rank == _BLOCKED]
            more = [rule for rule in left if rule not in packages and _is_about_packages(rule)]
            if not more:
                break
            packages += more
            rows += [row for row, *_ in rejudged]
        names = tuple([rule.id for rule in left])
        resolves = tuple([rule.id for rule in failing if rule.id not in names])
        return Plan(plan_commands(how, requirements, uninstall, torch), resolves, names) if resolves else None

    def _wanted(self, packages: Sequence[Rule]) -> tuple[Wanted, ...]:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        wanted = [each for rule in packages for each in rule.fix.install]
        if any(rule.id == f"{self.backend.name}/installed" for rule in packages):
            wanted += self.backend.install
        return tuple(wanted)


def _is_for_scheme(rule: Rule, scheme: str | None) -> bool:
    when = rule.when
    return (when.scheme is None or scheme in when.scheme) and (when.not_scheme is None or scheme not in when.not_scheme)


def _is_about_packages(rule: Rule) -> bool:
    return bool(rule.fix.install or rule.fix.uninstall or rule.fix.torch)


def _with_fix(rule: Rule, outcome: Outcome, surroundings: _Surroundings) -> Outcome:
    """An unmet outcome with its fix written for the environment."""
    template = rule.fix
    if template.install or template.uninstall or template.torch or template.unset:
        from envguard.fixes import render

        torch = surroundings.torch(rule) if template.torch else None
        fix = render(template, surroundings.constraints, surroundings.installer, torch)
    else:
        fix = Fix(template.text or "", ())
    return replace(outcome, fix=fix)


def _verdict(rank: int) -> Verdict:
    return "undecided" if rank < 0 else VERDICTS[rank]


def _signature(row: _Row, scheme: str) -> Any:
    need = row.rule.need
    return (id(row.rule), scheme in need.schemes) if isinstance(need, SchemeNeed) else row
