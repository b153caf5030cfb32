"""What was asked -> a Report: specs are resolved, the facts that their rules read observed, and the rules applied.

All that a command line's check needs of the rooms below; `guard.py` makes the public functions of it.
"""

from __future__ import annotations

from envguard.evaluate import Evaluator
from envguard.frozen import Frozen
from envguard.model import Environment, Report, Request
from envguard.probes.wanted import Look
from envguard.specs import resolve_host, resolve_spec, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from envguard.model import BackendReport, Operation
    from envguard.probes.interpreter import Interpreter
    from envguard.rulebook import RuleBook


class Examined(Frozen):
    """A report and the environment that it was made from.

    `look` is where that comes from, None for a recorded environment and where one look did not do.
    """

    report: Report
    environment: Environment
    look: Look | None = None


def check_in(
    book: RuleBook,
    specs: Sequence[str],
    environment: Environment | None,
    interpreter: Any,
    *,
    host: str,
    device: str,
    operation: Operation,
    ignore: Iterable[str] = (),
    subject: str | None = None,
) -> Report:
    """The report of a check by the rules given; without an environment, `interpreter()` tells which to look at."""
    return examine(
        book,
        specs,
        environment,
        interpreter,
        host=host,
        device=device,
        operation=operation,
        ignore=ignore,
        subject=subject,
    ).report


def examine(
    book: RuleBook,
    specs: Sequence[str],
    environment: Environment | None,
    interpreter: Any,
    *,
    host: str,
    device: str,
    operation: Operation,
    ignore: Iterable[str] = (),
    subject: str | None = None,
    weights: str | None = None,
    seen: Look | None = None,
) -> Examined:
    """`check_in`, with the environment that the report was made from; `seen` is a look just taken for the same."""
    question = Question(book, specs, host=host, device=device, operation=operation, ignore=ignore, weights=weights)
    looked_at = None
    if environment is None:
        looked_at = interpreter()
        if seen is None:
            seen = look(book, question.asked, looked_at, host=host, device=device, operation=operation)
        environment = seen.environment
    executable = looked_at.executable if looked_at else None
    subject = subject or executable or "a recorded environment"
    report = question.put_to(environment, subject, executable)
    if looked_at is not None and any(_wants_requirements(book, each) for each in report.backends):
        from envguard.probes.observe import with_requirements  # here: few checks end in two releases that do not fit

        environment = with_requirements(environment, looked_at)
        report, seen = question.put_to(environment, subject, executable), None
    return Examined(report, environment, seen)


def _wants_requirements(book: RuleBook, report: BackendReport) -> bool:
    """Whether which of two distributions can give way is a question of what all others require."""
    pairs = book.ids_with_pairs
    return any(each.status in ("unmet", "skipped") and each.rule in pairs for each in report.outcomes)


class Question:
    """What is asked of any number of environments, resolved once. Raises what `resolve_spec` and `validate` do."""

    def __init__(
        self,
        book: RuleBook,
        specs: Sequence[str],
        *,
        host: str,
        device: str,
        operation: Operation,
        ignore: Iterable[str] = (),
        weights: str | None = None,
    ) -> None:
        validate(host, device, operation)
        self.asked = _resolve(book, tuple(specs))
        self._book = book
        self._host = host
        self._rest = device, weights
        self._operation = operation
        self._ignore = frozenset(ignore)
        self._evaluators: dict[Any, list[Evaluator]] = {}

    def put_to(self, environment: Environment, subject: str, executable: str | None = None) -> Report:
        """The report of one environment."""
        host = resolve_host(self._host, environment)
        evaluators = self._evaluators.get(host)
        if evaluators is None:
            asked = [Request(*each, self._operation, host, *self._rest) for each in self.asked]
            evaluators = self._evaluators[host] = [evaluator(self._book, request) for request in asked]
        reports = tuple([report_on(each, environment, self._ignore) for each in evaluators])
        return Report(reports, subject, self._book.version, environment.data.get("taken_at"), executable)


def _resolve(book: RuleBook, specs: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """Backend and scheme of each spec, of all backends where there is none; worked out once for many environments."""
    asked = "specs", specs
    if asked not in book.remembered:
        book.remember(asked, tuple([resolve_spec(book, spec) for spec in (specs or book.backends)]))
    resolved: tuple[tuple[str, str | None], ...] = book.remembered[asked]
    return resolved


_evaluators: dict[tuple[RuleBook, Request], Evaluator] = {}


def evaluator(book: RuleBook, request: Request) -> Evaluator:
    """The evaluator of a request, made once a process."""
    try:
        return _evaluators[book, request]
    except KeyError:
        made = _evaluators[book, request] = Evaluator(book, request)
        return made


def report_on(judge: Evaluator, environment: Environment, ignore: frozenset[str]) -> BackendReport:
    """One backend's report."""
    return judge.evaluate(environment, ignore=ignore)


def look(
    book: RuleBook,
    asked: Iterable[tuple[str, str | None]],
    interpreter: Interpreter,
    *,
    host: str,
    device: str,
    operation: Operation,
) -> Look:
    """Observe what the rules of some requests read, and nothing else."""
    from envguard.probes.folders import Folders
    from envguard.probes.observe import host_in, observe
    from envguard.probes.rule_facts import wanted_by

    folders = Folders(interpreter.path)
    resolved = host_in(folders, host)
    rules = [
        rule
        for backend, scheme in asked
        for rule in evaluator(book, Request(backend, scheme, operation, resolved, device)).rules
    ]
    wanted = wanted_by(rules)
    return Look(wanted, resolved, observe(wanted, interpreter, folders))
