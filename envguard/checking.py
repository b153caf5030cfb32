"""Joins rules, probes and verdicts: a check of this machine or of a recorded one, and a snapshot."""

from __future__ import annotations

from envguard.evaluate import Evaluator
from envguard.model import DEVICE_KINDS, HOSTS, OPERATIONS, Environment, Report, Request
from envguard.shipped import load
from envguard.specs import resolve_host, resolve_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from envguard.model import BackendReport, Operation
    from envguard.probes.interpreter import Interpreter
    from envguard.rulebook import RuleBook


def check(
    *specs: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    environment: Environment | None = None,
    ignore: Iterable[str] = (),
) -> Report:
    """What the rules say about some backends here, or in a recorded environment.

    `specs` are `backend` or `backend:scheme` ("bnb:nf4"); none means all backends. `host` is the library in which the
    backend runs (auto, diffusers, transformers, none), `device` is auto, cuda, cuda:N, rocm, xpu, mps or cpu,
    `operation` is quantize, load or save. `ignore` holds ids of rules that do not decide. Never imports torch or a
    backend.

    Raises UnknownBackend or UnknownScheme for a bad spec, ValueError for a bad host, device or operation, or for an id
    to ignore that no rule has.
    """
    from envguard.probes.interpreter import current

    ignore = tuple(ignore)
    unknown = [rule for rule in ignore if rule not in load().ids()]
    if unknown:
        raise ValueError(f"ignore: no rule has the id {unknown[0]!r} (envguard rules lists them)")
    return check_in(load(), specs, environment, current, host=host, device=device, operation=operation, ignore=ignore)


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
    """`check` with the rules given; without an environment, `interpreter()` tells which one to look at."""
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
) -> tuple[Report, Environment]:
    """The report, and the environment that it was made from."""
    validate(host, device, operation)
    asked = _resolve(book, tuple(specs))
    looked_at = None
    if environment is None:
        looked_at = interpreter()
        environment = look(book, asked, looked_at, host=host, device=device, operation=operation)
    reports = [
        report_on(book, environment, backend, scheme, host=host, device=device, operation=operation, ignore=ignore)
        for backend, scheme in asked
    ]
    executable = looked_at.executable if looked_at else None
    report = Report(
        tuple(reports),
        subject or (executable or "a recorded environment"),
        book.version,
        environment.data.get("taken_at"),
        executable,
    )
    return report, environment


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


def report_on(
    book: RuleBook,
    environment: Environment,
    backend: str,
    scheme: str | None,
    *,
    host: str,
    device: str,
    operation: Operation,
    ignore: Iterable[str] = (),
) -> BackendReport:
    """One backend's report for a recorded environment."""
    request = Request(backend, scheme, operation, resolve_host(host, environment), device)
    return evaluator(book, request).evaluate(environment, ignore=frozenset(ignore))


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


def snapshot() -> Environment:
    """Every fact about this process's environment and machine, as schema envguard.snapshot/1 describes it."""
    from envguard.probes.interpreter import current

    return snapshot_of(current())


def snapshot_of(interpreter: Interpreter) -> Environment:
    """Every fact about an interpreter's environment and the machine."""
    from envguard.probes.observe import full_snapshot

    owners = tuple((backend.import_name, backend.distribution) for backend in load().backends.values())
    return full_snapshot(interpreter, owners)
