"""The public functions: check, available, require, snapshot. The only maker of guarded backends."""

from __future__ import annotations

from envguard.checks import check_in
from envguard.frozen import replace
from envguard.shipped import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, NoReturn

    from envguard.model import Environment, Operation, Report
    from envguard.probes.interpreter import Interpreter


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
    from envguard.errors import RequirementsNotMet

    try:
        _guarded(spec, host, device, operation, undecided)
    except RequirementsNotMet:
        return False
    return True


def require(
    spec: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    *,
    undecided: Literal["block", "allow"] = "block",
) -> Guarded:
    """The guarded backend, once its rules have passed in this environment.

    `undecided="allow"` lets pass what could not be observed; the report records it. A degraded backend passes with one
    EnvguardWarning.
    Raises RequirementsNotMet (an ImportError, with `.report`), UnknownBackend, UnknownScheme, ValueError.
    """
    try:
        return _passed[spec, host, device, operation, undecided]
    except KeyError:
        pass
    guarded = _guarded(spec, host, device, operation, undecided)
    _warn_if_degraded(guarded.report)
    _passed[spec, host, device, operation, undecided] = guarded
    return guarded


_passed: dict[tuple[str, str, str, str, str], Guarded] = {}


def _guarded(spec: str, host: str, device: str, operation: Operation, undecided: str) -> Guarded:
    if undecided not in ("block", "allow"):
        raise ValueError(f"undecided: expected 'block' or 'allow', found {undecided!r}")
    report = check(spec, host=host, device=device, operation=operation)
    if report.verdict == "blocked" or (report.verdict == "undecided" and undecided != "allow"):
        from envguard.errors import RequirementsNotMet

        raise RequirementsNotMet(str(report), report)
    return Guarded(replace(report, undecided=undecided), _SEAL)


def _warn_if_degraded(report: Report) -> None:
    lost = [o for b in report.backends for o in b.outcomes if o.status == "unmet" and o.severity != "info"]
    if lost:
        import warnings

        from envguard.errors import EnvguardWarning

        text = "; ".join(f"{outcome.rule}: {outcome.message}" for outcome in lost)
        warnings.warn(f"{report.backends[0].request.backend} runs degraded: {text}", EnvguardWarning, stacklevel=3)


_SEAL = object()


class Guarded:
    """A backend whose rules have passed: proof and key in one.

    Only `require` makes one; constructing, copying and pickling it fail, because a copy would prove nothing.
    """

    __slots__ = ("report",)

    report: Report

    def __init__(self, report: Report, seal: object = None) -> None:
        if seal is not _SEAL:
            raise TypeError("a guarded backend is made by envguard.require alone, from a report that passed")
        object.__setattr__(self, "report", report)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a guarded backend is frozen: cannot assign to {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a guarded backend is frozen: cannot delete {name!r}")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a guarded backend cannot be subclassed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a guarded backend cannot be copied or pickled: call envguard.require where it is needed")

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.report.backends[0].request.backend

    @property
    def scheme(self) -> str | None:
        """The scheme that was asked for, the default of quantize and load."""
        return self.report.backends[0].request.scheme

    def __repr__(self) -> str:
        request = self.report.backends[0].request
        return f"<guarded {request.backend}{f':{request.scheme}' if request.scheme else ''} ({self.report.verdict})>"
