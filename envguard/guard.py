"""Joins the rooms: check, available, require, snapshot. The only maker of guarded backends."""

from __future__ import annotations

from envguard.errors import EnvguardWarning, RequirementsNotMet
from envguard.evaluate import Evaluator
from envguard.frozen import replace
from envguard.guarded import Guarded, guarded
from envguard.model import DEVICE_KINDS, HOSTS, OPERATIONS, Environment, Report, Request
from envguard.permits import issue, passes
from envguard.shipped import load
from envguard.specs import resolve_host, resolve_spec
from envguard.wanted import wanted_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal

    from envguard.model import BackendReport, Host, Operation
    from envguard.permits import Permit
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
    from envguard.probes.observe import hosts_in, observe

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


def available(
    spec: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    *,
    undecided: Literal["block", "allow"] = "block",
) -> bool:
    """True exactly where `require` with the same arguments would pass; never raises for a bad environment.

    Raises UnknownBackend, UnknownScheme or ValueError for arguments that no environment could meet.
    """
    return passes(_Checks(spec, host, device, operation, undecided).report, undecided)


def require(
    spec: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    *,
    undecided: Literal["block", "allow"] = "block",
) -> Guarded:
    """The guarded backend, once its rules have passed in this environment.

    `undecided="allow"` lets pass what could not be observed; the report records it, and it covers the later checks of
    this guarded backend. A degraded backend passes with one EnvguardWarning.
    Raises RequirementsNotMet (an ImportError, with `.report`), UnknownBackend, UnknownScheme, ValueError.
    """
    try:
        return _passed[spec, host, device, operation, undecided]
    except KeyError:
        pass
    checks = _Checks(spec, host, device, operation, undecided)
    if not passes(checks.report, undecided):
        raise RequirementsNotMet(str(checks.report), checks.report)
    checks.warn_if_degraded(checks.report, stacklevel=3)
    made = _passed[spec, host, device, operation, undecided] = guarded(checks)
    return made


_passed: dict[tuple[str, str, str, str, str], Guarded] = {}


class _Checks:
    """The checks behind one guarded backend: the report that it was made from, and those before each of its calls."""

    def __init__(self, spec: str, host: str, device: str, operation: Operation, undecided: str) -> None:
        if undecided not in ("block", "allow"):
            raise ValueError(f"undecided: expected 'block' or 'allow', found {undecided!r}")
        self._book = load()
        self._device = device
        self._undecided = undecided
        self._warned: set[str] = set()
        self._permits: dict[tuple[str | None, Operation, Host], tuple[object, Permit]] = {}
        self.report = self._look(spec, operation, host)[0]

    def scheme(self, name: str) -> str:
        """The official name of a scheme of the backend. Raises UnknownScheme."""
        return resolve_spec(self._book, f"{self._backend}:{name}")[1] or name

    def permit(self, scheme: str | None, operation: Operation, host: Host) -> Permit:
        """The permit for a call, looked for again only where something may have changed. Raises RequirementsNotMet."""
        from envguard.probes.changes import stamp

        now = stamp()
        then, permit = self._permits.get((scheme, operation, host), (None, None))
        if permit is None or then != now:
            spec = f"{self._backend}:{scheme}" if scheme else self._backend
            report, environment = self._look(spec, operation, host)
            permit = issue(report, environment, self._book.backends[self._backend].import_name, self._undecided)
            self._permits[scheme, operation, host] = now, permit
            self.warn_if_degraded(report, stacklevel=5)  # warn_if_degraded, permit, loading, guarded, its caller
        return permit

    def warn_if_degraded(self, report: Report, stacklevel: int) -> None:
        """One EnvguardWarning for what is lost, once for each rule."""
        lost = [o for b in report.backends for o in b.outcomes if o.status == "unmet" and o.severity != "info"]
        new = [outcome for outcome in lost if outcome.rule not in self._warned]
        if new:
            import warnings

            self._warned.update(outcome.rule for outcome in new)
            text = "; ".join(f"{outcome.rule}: {outcome.message}" for outcome in new)
            warnings.warn(f"{self._backend} runs degraded: {text}", EnvguardWarning, stacklevel=stacklevel)

    @property
    def _backend(self) -> str:
        return self.report.backends[0].request.backend

    def _look(self, spec: str, operation: Operation, host: str) -> tuple[Report, Environment]:
        from envguard.probes.interpreter import current

        report, environment = examine(
            self._book, (spec,), None, current, host=host, device=self._device, operation=operation
        )
        return replace(report, undecided=self._undecided), environment
