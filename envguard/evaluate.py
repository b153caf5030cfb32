"""(rules, environment, request) -> BackendReport. Pure: it never asks the machine.

The algebra: error unmet -> blocked; error undecided -> undecided; warning unmet -> degraded; warning undecided and
every info -> no effect; no outcome at all -> undecided. A rule whose prerequisite is unmet is skipped: one diagnosis,
not five.
"""

from __future__ import annotations

from _operator import itemgetter  # the C function alone

from envguard.frozen import replace
from envguard.judge.subject import SeenDevice, Subject
from envguard.model import VERDICTS, BackendReport, Device, Environment, Request
from envguard.rows import BLOCKED, Course, Row, Step, applied
from envguard.rule import AcceleratorNeed, SchemeNeed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from envguard.model import Verdict
    from envguard.plans import Mender
    from envguard.rows import Found
    from envguard.rule import Rule
    from envguard.rulebook import RuleBook

_NOTHING_IGNORED: frozenset[str] = frozenset()


class Evaluator:
    """Judges environments for one request; made once, it judges any number of them."""

    def __init__(self, book: RuleBook, request: Request) -> None:
        if request.backend not in book.backends:
            from envguard.errors import UnknownBackend

            raise UnknownBackend(f"unknown backend {request.backend!r}: known are {', '.join(book.backends)}")
        self.book = book
        self.request = request
        self.backend = book.backends[request.backend]
        rules = book.rules(request.backend, operation=request.operation, host=request.host, device=request.device_kind)
        self._rows = [Row(rule, request, book) for rule in rules if not isinstance(rule.need, SchemeNeed)]
        self._scheme_rows = [rule for rule in rules if isinstance(rule.need, SchemeNeed)]
        self._order = {rule.id: place for place, rule in reversed(list(enumerate(rules)))}
        self._steps: dict[str | None, tuple[Step, ...]] = {}
        self._known_steps: dict[tuple[Row, ...], Step] = {}
        self._needs_accelerator = any(isinstance(row.rule.need, AcceleratorNeed) for row in self._rows)
        self._course: Course | None = None
        self._schemes: _Schemes | None = None
        self._mender: Mender | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every row that can apply to the request, whatever the environment; without a scheme, those of all schemes."""
        if self.request.scheme is None:
            return (*(row.rule for row in self._rows), *self._scheme_rows)
        return tuple(row.rule for step in self.steps(self.request.scheme) for row in step.rows)

    @property
    def course(self) -> Course:
        """The steps of the request."""
        if self._course is None:
            self._course = Course(self.steps(self.request.scheme))
        return self._course

    def steps(self, scheme: str | None) -> tuple[Step, ...]:
        """The rows for a scheme, those of one id together, prerequisites first."""
        steps = self._steps.get(scheme)
        if steps is None:
            asked = replace(self.request, scheme=scheme)
            rows = [row for row in self._rows if _is_for_scheme(row.rule, scheme)]
            if scheme is not None:
                rows += [Row(rule, asked, self.book) for rule in self._scheme_rows if _is_for_scheme(rule, scheme)]
            rows.sort(key=lambda row: self._order[row.rule.id])
            groups: dict[str, list[Row]] = {}
            for row in rows:
                groups.setdefault(row.rule.id, []).append(row)
            steps = self._steps[scheme] = tuple([self._step(tuple(group)) for group in groups.values()])
        return steps

    def signature(self, scheme: str) -> Any:
        """What tells schemes with other rules, or with another answer to the same rule, apart."""
        own = [_is_for_scheme(row.rule, scheme) for row in self._rows if not row.for_all_schemes]
        asked = [rule for rule in self._scheme_rows if _is_for_scheme(rule, scheme)]
        return *own, *[(id(rule), scheme in rule.need.schemes) for rule in asked]  # type: ignore[union-attr]

    def _step(self, rows: tuple[Row, ...]) -> Step:
        """The step of some rows, the same one for all schemes that share them."""
        step = self._known_steps.get(rows)
        if step is None:
            step = self._known_steps[rows] = Step(rows)
        return step

    def evaluate(self, environment: Environment, *, ignore: frozenset[str] = _NOTHING_IGNORED) -> BackendReport:
        """The report of one environment: every rule that applied, and without a scheme the verdict of each scheme.

        Rules whose id is in `ignore` do not decide: an ignored error stays unmet and visible, and the verdict is at
        best degraded.
        """
        subject = Subject(environment, self.request)
        looked, values = self.course.look(subject)
        judged = applied(looked, ignore)
        worst = max(
            [rank_of(found, ignore) for found in judged] if ignore else [found[2] for found in judged], default=-1
        )
        plan = None
        if [True for found in judged if found[3]]:
            if self._mender is None:
                from envguard.plans import Mender  # here: most checks have nothing to mend

                self._mender = Mender(self)
            outcomes, plan = self._mender.mend(subject, looked, values, judged)
        else:
            outcomes = [found[1] for found in judged]
        if ignore:
            outcomes = [replace(each, ignored=True) if each.rule in ignore else each for each in outcomes]
        return BackendReport(
            self.request,
            self._version(environment),
            verdict_of(worst),
            tuple(outcomes),
            self._verdicts(subject, looked, judged, ignore) if self.request.scheme is None else None,
            self._device(subject),
            plan if worst == BLOCKED else None,
        )

    def _verdicts(
        self, subject: Subject, looked: Sequence[Found | None], judged: Sequence[Found], ignore: frozenset[str]
    ) -> dict[str, Verdict]:
        if self._schemes is None:
            names = (*self.backend.schemes, *(self.backend.load_schemes if self.request.operation == "load" else ()))
            self._schemes = _Schemes(self, names)
        return self._schemes.verdicts(subject, looked, judged, ignore)

    def _version(self, environment: Environment) -> str | None:
        version = environment.version(self.backend.distribution)
        return version if isinstance(version, str) else None

    def _device(self, subject: Subject) -> Device | None:
        if self.request.device_kind == "cpu":
            return Device("cpu")
        device = subject.device
        if isinstance(device, SeenDevice):
            if not self._needs_accelerator and device.kind != "mps":
                fact = subject.environment.fact
                if all(fact("torch_build", name) is None for name in ("cuda", "hip", "xpu")):
                    return Device("cpu")  # the CPU build of torch runs beside the GPU
            return Device(device.kind, device.index, device.name)
        return None if self._needs_accelerator or device is not None else Device("cpu")


def rank_of(found: Found, ignore: frozenset[str]) -> int:
    """How bad an outcome is, as a place in VERDICTS; an ignored error is at best degraded, an ignored warning none."""
    _, outcome, rank, _ = found
    if rank > 0 and outcome.rule in ignore:
        return 1 if outcome.severity == "error" else 0
    return rank


def verdict_of(rank: int) -> Verdict:
    """The verdict that the worst rank gives."""
    return "undecided" if rank < 0 else VERDICTS[rank]


class _Schemes:
    """The verdicts of all schemes of a request; schemes with the same rules are judged once.

    A rule is skipped only behind an unmet error, which decides the verdict anyway: so the worst of all steps is the
    verdict, and the steps that all schemes share are counted once.
    """

    def __init__(self, evaluator: Evaluator, names: Sequence[str]) -> None:
        self._names = names
        alike: dict[Any, list[str]] = {}
        for scheme in names:
            alike.setdefault(evaluator.signature(scheme), []).append(scheme)
        classes = [(schemes, evaluator.steps(schemes[0])) for schemes in alike.values()]
        known = evaluator.course.steps
        shared = set(known).intersection(*[steps for _, steps in classes])
        every = dict.fromkeys([*known, *[step for _, steps in classes for step in steps]])
        self._course = Course(tuple(every)[len(known) :])
        place_of = {step: place for place, step in enumerate(every)}
        self._shared = _worst_at([place_of[step] for step in shared])
        self._classes = [
            (schemes, _worst_at([place_of[step] for step in steps if step not in shared])) for schemes, steps in classes
        ]

    def verdicts(
        self, subject: Subject, looked: Sequence[Found | None], judged: Sequence[Found], ignore: frozenset[str]
    ) -> dict[str, Verdict]:
        """The verdict of each scheme, from what the steps without a scheme said and what those of its own say."""
        failing = [found for found in judged if found[2] == BLOCKED and found[0].for_all_schemes]
        if failing and any(rank_of(found, ignore) == BLOCKED for found in failing):
            return dict.fromkeys(self._names, "blocked")
        every = (*looked, *self._course.look(subject)[0])
        if ignore:
            ranks = [-1 if found is None else rank_of(found, ignore) for found in every]
        else:
            ranks = [-1 if found is None else found[2] for found in every]
        ranks.append(-1)
        common = self._shared(ranks)
        verdicts: dict[str, Verdict] = {}
        for schemes, worst in self._classes:
            verdicts.update(dict.fromkeys(schemes, verdict_of(max(common, worst(ranks)))))
        return verdicts


def _worst_at(places: list[int]) -> Callable[[Sequence[int]], int]:
    """The worst rank at some places of a list whose last one is -1."""
    pick = itemgetter(-1, -1, *places)
    return lambda ranks: max(pick(ranks))


def _is_for_scheme(rule: Rule, scheme: str | None) -> bool:
    when = rule.when
    return (when.scheme is None or scheme in when.scheme) and (when.not_scheme is None or scheme not in when.not_scheme)
