"""Files of packages judged for a target: what the command line's --requirements, --lock and --target mean."""

from __future__ import annotations

from envguard.checks import check_in, evaluator
from envguard.errors import BadInput
from envguard.frozen import replace
from envguard.lockfiles import describe, parse_target, read_lock, read_requirements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envguard.model import Environment, Operation, Report, Request
    from envguard.rule import Rule
    from envguard.rulebook import RuleBook


def check_file(
    book: RuleBook,
    specs: Sequence[str],
    *,
    lock: str | None = None,
    requirements: Sequence[str] = (),
    target: Iterable[str] = (),
    host: str,
    device: str,
    operation: Operation,
    ignore: Iterable[str] = (),
) -> Report:
    """The report on what a lock or some requirements install on a target, and which rules were not asked.

    Raises BadInput for a file that cannot be read and for a target that is none.
    """
    environment, subject = environment_of(book, lock, requirements, target)
    answerable = book.answerable()
    report = check_in(
        answerable,
        specs,
        environment,
        None,
        host=host,
        device=device,
        operation=operation,
        ignore=ignore,
        subject=subject,
    )
    return replace(report, not_asked=_not_asked(book, answerable, report))


def environment_of(
    book: RuleBook, lock: str | None, requirements: Sequence[str], target: Iterable[str]
) -> tuple[Environment, str]:
    """The environment that a file describes, and what to call it."""
    machine = parse_target(target)
    if lock is not None and requirements:
        raise BadInput("--lock and --requirements name two different things to look at: give one of them")
    listed = read_requirements(requirements, machine) if lock is None else read_lock(lock, machine)
    subject = f"{listed.name} for {machine.text or 'a target that was not told (--target)'}"
    return describe(listed, machine, book.torch_builds, book.variables()), subject


def _not_asked(book: RuleBook, answerable: RuleBook, report: Report) -> tuple[str, ...]:
    """The ids of the rules of which a row was left out of what was asked, in their order."""
    found: dict[str, None] = {}
    for backend in report.backends:
        asked = [rule.id for rule in _rules(answerable, backend.request)]
        every = [rule.id for rule in _rules(book, backend.request)]
        found.update((name, None) for name in dict.fromkeys(every) if every.count(name) > asked.count(name))
    return tuple(found)


def _rules(book: RuleBook, request: Request) -> tuple[Rule, ...]:
    """Every row for a request; without a scheme those of all, for which no evaluator needs to be made."""
    if request.scheme is not None:
        return evaluator(book, request).rules
    return book.rules(request.backend, operation=request.operation, host=request.host, device=request.device_kind)
