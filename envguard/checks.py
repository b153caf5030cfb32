"""What was asked -> a Report: specs are resolved, the facts that their rules read observed, and the rules applied.

All that a command line's check needs of the rooms below; `guard.py` makes the public functions of it.
"""

from __future__ import annotations

from envguard.evaluate import Evaluator
from envguard.model import DEVICE_KINDS, HOSTS, OPERATIONS, Environment, Report, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from envguard.model import BackendReport, Operation
    from envguard.probes.interpreter import Interpreter
    from envguard.rulebook import RuleBook


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
    )[0]


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
) -> tuple[Report, Environment]:
    """`check_in`, with the environment that the report was made from."""
    question = Question(book, specs, host=host, device=device, operation=operation, ignore=ignore, weights=weights)
    looked_at = None
    if environment is None:
        looked_at = interpreter()
        environment = look(book, question.asked, looked_at, host=host, device=device, operation=operation)
    executable = looked_at.executable if looked_at else None
    subject = subject or executable or "a recorded environment"
    report = question.put_to(environment, subject, executable)
    if looked_at is not None and any(_wants_requirements(book, each) for each in report.backends):
        from envguard.probes.observe import with_requirements  # here: few checks end in two releases that do not fit

        environment = with_requirements(environment, looked_at)
        report = question.put_to(environment, subject, executable)
    return report, environment


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


def validate(host: str, device: str, operation: str) -> None:
    """Raises ValueError, in one line, for a host, device or operation that does not exist."""
    if host not in HOSTS:
        raise ValueError(f"unknown host {host!r}: expected one of {', '.join(HOSTS)}")
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation {operation!r}: expected one of {', '.join(OPERATIONS)}")
    kind, colon, index = device.partition(":")
    numbered = kind in ("cuda", "rocm", "xpu") and index.isascii() and index.isdigit() and len(index) < 6
    if kind not in DEVICE_KINDS or (colon and not numbered):
        raise ValueError(
            f"unknown device {device!r}: expected one of {', '.join(DEVICE_KINDS)}, or an index as in cuda:0"
        )


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
) -> Environment:
    """Observe what the rules of some requests read, and nothing else."""
    from envguard.probes.folders import Folders
    from envguard.probes.observe import hosts_in, observe, wanted_by

    folders = Folders(interpreter.path)
    resolved = resolve_host(host, hosts_in(folders) if host == "auto" else Environment({}))
    rules = [
        rule
        for backend, scheme in asked
        for rule in evaluator(book, Request(backend, scheme, operation, resolved, device)).rules
    ]
    return observe(wanted_by(rules), interpreter, folders)


def resolve_host(host: str, environment: Environment) -> Any:
    """`auto` is diffusers if installed, else transformers, else diffusers."""
    if host != "auto":
        return host
    if environment.distribution("diffusers") is None and isinstance(environment.distribution("transformers"), dict):
        return "transformers"
    return "diffusers"


def resolve_spec(book: RuleBook, spec: str) -> tuple[str, str | None]:
    """Backend and scheme of a spec, by name or alias; `-`, `_` and case do not matter.

    Raises UnknownBackend or UnknownScheme, which list the near names.
    """
    name, colon, scheme = spec.partition(":")
    backend = next(
        (b for b in book.backends.values() if _plain(name) in map(_plain, (b.name, *b.aliases, b.distribution))), None
    )
    if backend is None:
        from envguard.errors import UnknownBackend

        known = sorted({alias for b in book.backends.values() for alias in (b.name, *b.aliases)})
        raise UnknownBackend(f"unknown backend {name!r}{near(name, known)}; known are {', '.join(book.backends)}")
    if not colon:
        return backend.name, None
    schemes = {**backend.schemes, **backend.load_schemes}
    for official, aliases in schemes.items():
        if _plain(scheme) in map(_plain, (official, *aliases)):
            return backend.name, official
    from envguard.errors import UnknownScheme

    known = [each for official, aliases in schemes.items() for each in (official, *aliases)]
    raise UnknownScheme(
        f"unknown scheme {scheme!r} of {backend.name}{near(scheme, known)}; known are {', '.join(backend.schemes)}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def near(name: str, known: Sequence[str]) -> str:
    """A question after the near names, for a name that is close to known ones; else nothing."""
    if len(name) > 100:  # is near to none of them, and to find that out takes seconds for 10 MB
        return ""
    from difflib import get_close_matches

    by_plain = {_plain(each): each for each in known}
    near = [by_plain[each] for each in get_close_matches(_plain(name), list(by_plain), n=3)]
    return f", did you mean {' or '.join(near)}?" if near else ""
