"""(rules, environment, request) -> BackendReport. Pure: it never asks the machine.

The algebra: error unmet -> blocked; error undecided -> undecided; warning unmet -> degraded; warning undecided and
every info -> no effect; no outcome at all -> undecided. A rule whose prerequisite is unmet is skipped: one diagnosis,
not five.
"""

from __future__ import annotations

from envguard.errors import UnknownBackend
from envguard.frozen import replace
from envguard.judge import Finding, SeenDevice, Subject, examine
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
from envguard.rule import AcceleratorNeed, ArchitectureNeed, DistributionNeed, SchemeNeed
from envguard.versions import satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    from envguard.fixes import Installer, TorchFix
    from envguard.model import Verdict
    from envguard.rule import Rule
    from envguard.rulebook import RuleBook
    from envguard.versions import Clause, Wanted

    _Steps: TypeAlias = "tuple[tuple[_Row, ...], ...]"  # the rows of one id together, prerequisites first

_MOST_REMEMBERED = 2_000  # a row's outcomes by its facts: bounded, so that memory is flat over any number of snapshots


_BLOCKED = VERDICTS.index("blocked")
# An outcome without effect is as none at all: -1.
_RANKS = {
    **{("info", status): -1 for status in ("met", "unmet", "undecided", "skipped")},
    **{(severity, "skipped"): 0 for severity in ("error", "warning")},
    ("error", "unmet"): _BLOCKED,
    ("error", "undecided"): VERDICTS.index("undecided"),
    ("warning", "unmet"): VERDICTS.index("degraded"),
    ("warning", "undecided"): -1,
}


class _Row:
    """One rule, ready to be applied: it remembers what equal facts gave."""

    __slots__ = ("_skipped", "conditional", "host", "judge", "read", "remembered", "rule")

    def __init__(self, rule: Rule, request: Request, book: RuleBook) -> None:
        self.rule = rule
        builds = book.torch_builds if isinstance(rule.need, ArchitectureNeed) else ()
        self.read, self.judge = examine(rule.need, request, builds)
        self.conditional = rule.when.conditional
        self.host = request.host if rule.origin == "host" else None
        self.remembered: dict[Any, Outcome | None] = {}
        self._skipped: dict[str, Outcome] = {}

    def applies(self, subject: Subject) -> bool | None:
        """Whether the row is for this environment; None where a fact that decides it was not observed."""
        known, when, environment = True, self.rule.when, subject.environment
        for name, clauses in when.release:
            version = environment.version(name)
            fits = satisfies(version, clauses, "version") if isinstance(version, str) else None
            if version is None or fits is False:
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

    def look(self, subject: Subject) -> Outcome | None:
        """What the rule says about the environment, yet without a fix; None where it has nothing to say."""
        facts = self.read(subject)
        if self.host is not None:
            facts = facts, subject.environment.version(self.host)
        try:
            return self.remembered[facts]
        except KeyError:
            pass
        if self.host is None:
            outcome = self._outcome(self.judge(facts), self.rule.origin)
        else:
            outcome = self._outcome(self.judge(facts[0]), _host_origin(self.host, facts[1]))
        if len(self.remembered) >= _MOST_REMEMBERED:
            self.remembered.clear()
        self.remembered[facts] = outcome
        return outcome

    def _outcome(self, finding: Finding | None, origin: str) -> Outcome | None:
        if finding is None:
            return None
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

    def undecided(self, environment: Environment) -> Outcome | None:
        """The outcome where a fact that decides whether the rule applies was not observed."""
        if self.rule.severity == "info":
            return None
        unseen = [name for name, _ in self.rule.when.release if not isinstance(environment.version(name), str)]
        what = f"the version of {', '.join(unseen)}" if unseen else "a fact that decides whether the rule applies"
        origin = self.rule.origin if self.host is None else _host_origin(self.host, None)
        return self._outcome(Finding("undecided", self.rule.id, f"{what} was not observed"), origin)

    def skipped(self, because: str) -> Outcome:
        """The outcome where the rule was not looked at, because one that it depends on is not met."""
        made = self._skipped.get(because)
        if made is None:
            rule = self.rule
            message = f"not looked at: {because} is not met"
            made = Outcome(rule.id, "skipped", rule.severity, rule.kind, rule.origin, message, because=because)
            self._skipped[because] = made
        return made


def _host_origin(host: str, version: Any) -> str:
    return f"host:{host}@{version}" if isinstance(version, str) else f"host:{host}"


def _rank(outcome: Outcome, ignore: frozenset[str]) -> int:
    """How bad an outcome is, as a place in VERDICTS; an ignored error is at best degraded, an ignored warning
    nothing.
    """
    if outcome.status == "met" and outcome.severity != "info":
        return 0
    rank = _RANKS[outcome.severity, outcome.status]
    if rank > 0 and outcome.rule in ignore:
        return 1 if outcome.severity == "error" else 0
    return rank


class _Surroundings:
    """What fixes need to know beyond their own rule, worked out only when something is unmet."""

    def __init__(self, evaluator: Evaluator, subject: Subject, judged: Sequence[tuple[_Row, Outcome]]) -> None:
        self.environment = subject.environment
        self._evaluator = evaluator
        self._subject = subject
        self._judged = judged
        self._constraints: Mapping[str, tuple[Clause, ...]] | None = None
        self._torch: TorchFix | None = None
        self._installer: Installer | None = None

    @property
    def installer(self) -> Installer:
        """How packages get into the environment."""
        if self._installer is None:
            from envguard.fixes import installer  # here: most checks have nothing to mend

            self._installer = installer(self.environment)
        return self._installer

    @property
    def constraints(self) -> Mapping[str, tuple[Clause, ...]]:
        """Every version clause of the error rules that apply, by distribution."""
        if self._constraints is None:
            self._constraints = _constraints([row.rule for row, _ in self._judged])
        return self._constraints

    @property
    def torch(self) -> TorchFix:
        """The torch build that fits this machine."""
        if self._torch is None:
            from envguard.plans import torch_fix

            self._torch = torch_fix(self._evaluator.book, self._subject, self.constraints.get("torch", ()))
        return self._torch


def _constraints(rules: Iterable[Rule]) -> dict[str, tuple[Clause, ...]]:
    found: dict[str, tuple[Clause, ...]] = {}
    for rule in rules:
        need = rule.need
        if isinstance(need, DistributionNeed) and rule.severity == "error":
            found[need.wanted.name] = (*found.get(need.wanted.name, ()), *need.wanted.clauses)
    return found


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
        self._classes: tuple[_Steps, list[tuple[tuple[str, ...], _Steps]]] | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every row that can apply to the request, whatever the environment; without a scheme, those of all schemes."""
        if self.request.scheme is None:
            return (*(row.rule for row in self._rows), *self._scheme_rows)
        return tuple(row.rule for rows in self._for(self.request.scheme) for row in rows)

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
            steps = self._steps[scheme] = tuple(tuple(group) for group in groups.values())
        return steps

    def evaluate(self, environment: Environment, *, ignore: frozenset[str] = frozenset()) -> BackendReport:
        """The report of one environment: every rule that applied, and without a scheme the verdict of each scheme.

        Rules whose id is in `ignore` do not decide: an ignored error stays unmet and visible, and the verdict is at
        best degraded.
        """
        subject = Subject(environment, self.request)
        seen: dict[_Row, Outcome | None] = {}
        judged = self._judge(self._for(self.request.scheme), subject, seen, ignore)
        surroundings = _Surroundings(self, subject, judged)
        outcomes = tuple(
            [_with_fix(row.rule, each, surroundings) if each.status == "unmet" else each for row, each in judged]
        )
        if ignore:
            outcomes = tuple([replace(each, ignored=True) if each.rule in ignore else each for each in outcomes])
        verdict = verdict_of(outcomes, ignore)
        return BackendReport(
            self.request,
            self._version(environment),
            verdict,
            outcomes,
            self._schemes(subject, seen, ignore) if self.request.scheme is None else None,
            self._device(subject),
            self._plan(judged, surroundings) if verdict == "blocked" else None,
        )

    def _judge(
        self, steps: _Steps, subject: Subject, seen: dict[_Row, Outcome | None], ignore: frozenset[str]
    ) -> list[tuple[_Row, Outcome]]:
        """The outcome of each step that has one, with the row that gave it."""
        judged: list[tuple[_Row, Outcome]] = []
        unmet: dict[str, str] = {}  # the id of each error rule that is not met or was skipped -> the one to blame
        for rows in steps:
            row: _Row | None = rows[0]
            outcome: Outcome | None = None
            if rows[0].conditional:
                row, outcome = _choose(rows, subject)
            if row is not None:
                if unmet and row.rule.after:
                    because = next((unmet[each] for each in row.rule.after if each in unmet), None)
                    if because is not None:
                        unmet[row.rule.id] = because
                        judged.append((row, row.skipped(because)))
                        continue
                outcome = seen[row] = row.look(subject)
            if outcome is not None:
                judged.append((row or rows[0], outcome))
                if outcome.status == "unmet" and outcome.severity == "error" and outcome.rule not in ignore:
                    unmet[outcome.rule] = outcome.rule
        return judged

    def _schemes(
        self, subject: Subject, seen: dict[_Row, Outcome | None], ignore: frozenset[str]
    ) -> dict[str, Verdict]:
        """The verdict of each scheme; schemes with the same rules are judged once.

        A rule is skipped only behind an unmet error, which decides the verdict anyway: so the worst of all rows is the
        verdict, and the rows that all schemes share are counted once.
        """
        if self._classes is None:
            self._classes = self._scheme_classes()
        shared, classes = self._classes
        common = self._worst(shared, subject, seen, ignore)
        verdicts: dict[str, Verdict] = {}
        for schemes, steps in classes:
            rank = common if common == _BLOCKED else max(common, self._worst(steps, subject, seen, ignore))
            verdict = "undecided" if rank < 0 else VERDICTS[rank]
            for scheme in schemes:
                verdicts[scheme] = verdict
        return verdicts

    def _scheme_classes(self) -> tuple[_Steps, list[tuple[tuple[str, ...], _Steps]]]:
        """The steps that all schemes share, and for each group of schemes with equal rules the steps of its own."""
        names = {**self.backend.schemes, **(self.backend.load_schemes if self.request.operation == "load" else {})}
        by_scheme = {scheme: self._for(scheme) for scheme in names}
        shared = [step for step in self._for(None) if all(step in steps for steps in by_scheme.values())]
        classes: dict[Any, tuple[list[str], _Steps]] = {}
        for scheme, steps in by_scheme.items():
            own = tuple(step for step in steps if step not in shared)
            signature = tuple(_signature(row, scheme) for step in own for row in step)
            classes.setdefault(signature, ([], own))[0].append(scheme)
        return tuple(shared), [(tuple(schemes), own) for schemes, own in classes.values()]

    def _worst(self, steps: _Steps, subject: Subject, seen: dict[_Row, Outcome | None], ignore: frozenset[str]) -> int:
        """The rank of the worst verdict of some steps, -1 where none has an outcome."""
        worst = -1
        for rows in steps:
            row: _Row | None = rows[0]
            outcome: Outcome | None = None
            if rows[0].conditional:
                row, outcome = _choose(rows, subject)
            if row is not None:
                if row not in seen:
                    seen[row] = row.look(subject)
                outcome = seen[row]
            if outcome is not None:
                worst = max(worst, _rank(outcome, ignore))
        return worst

    def _version(self, environment: Environment) -> str | None:
        version = environment.version(self.backend.distribution)
        return version if isinstance(version, str) else None

    def _device(self, subject: Subject) -> Device | None:
        if self.request.device_kind == "cpu":
            return Device("cpu")
        device = subject.device
        if isinstance(device, SeenDevice):
            return Device(device.kind, device.index, device.name)
        needs_one = any(isinstance(row.rule.need, AcceleratorNeed) for row in self._rows)
        return Device("cpu") if device is None and not needs_one else None

    def _plan(self, judged: Sequence[tuple[_Row, Outcome]], surroundings: _Surroundings) -> Plan | None:
        failing = [row.rule for row, each in judged if each.status == "unmet" and each.severity == "error"]
        packages = [rule for rule in failing if rule.fix.install or rule.fix.uninstall or rule.fix.torch]
        if not packages or surroundings.installer.install is None:
            return None
        from envguard.fixes import merge, plan_commands
        from envguard.plans import apply

        how = surroundings.installer
        torch = surroundings.torch if any(rule.fix.torch for rule in packages) else None
        uninstall = tuple(dict.fromkeys(name for rule in packages for name in rule.fix.uninstall))
        requirements = merge(self._wanted(packages), surroundings.constraints)
        commands = plan_commands(how, requirements, uninstall, torch)
        wanted = (*requirements, torch.requirement) if torch is not None and torch.requirement else requirements
        after = Subject(apply(self.book, surroundings.environment, wanted, uninstall, torch), self.request)
        left = [
            outcome.rule
            for _, outcome in self._judge(self._for(self.request.scheme), after, {}, frozenset())
            if outcome.status == "unmet" and outcome.severity == "error"
        ]
        resolves = tuple([rule.id for rule in failing if rule.id not in left])
        return Plan(commands, resolves, tuple(left)) if resolves else None

    def _wanted(self, packages: Sequence[Rule]) -> list[Wanted]:
        """What to install: each failing rule's own fix, and for a missing backend all that belongs to it."""
        wanted = [each for rule in packages for each in rule.fix.install]
        if any(rule.id == f"{self.backend.name}/installed" for rule in packages):
            wanted += self.backend.install
        return wanted


def _is_for_scheme(rule: Rule, scheme: str | None) -> bool:
    when = rule.when
    return (when.scheme is None or scheme in when.scheme) and (when.not_scheme is None or scheme not in when.not_scheme)


def _choose(rows: tuple[_Row, ...], subject: Subject) -> tuple[_Row | None, Outcome | None]:
    """The row of an id that is for this environment, or an undecided outcome where that cannot be said."""
    unknown: _Row | None = None
    for row in rows:
        applies = row.applies(subject)
        if applies:
            return row, None
        if applies is None and (unknown is None or row.rule.severity == "error"):
            unknown = row
    return None, unknown.undecided(subject.environment) if unknown is not None else None


def _with_fix(rule: Rule, outcome: Outcome, surroundings: _Surroundings) -> Outcome:
    """An unmet outcome with its fix written for the environment."""
    template = rule.fix
    if template.install or template.uninstall or template.torch or template.unset:
        from envguard.fixes import render

        torch = surroundings.torch if template.torch else None
        fix = render(template, surroundings.constraints, surroundings.installer, torch)
    else:
        fix = Fix(template.text or "", ())
    return replace(outcome, fix=fix)


def verdict_of(outcomes: Iterable[Outcome], ignore: frozenset[str] = frozenset()) -> Verdict:
    """The verdict of some outcomes, by the algebra above."""
    rank = max([_rank(each, ignore) for each in outcomes], default=-1)
    return "undecided" if rank < 0 else VERDICTS[rank]


def _signature(row: _Row, scheme: str) -> Any:
    need = row.rule.need
    return (id(row.rule), scheme in need.schemes) if isinstance(need, SchemeNeed) else row
