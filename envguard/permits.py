"""Leave to run one backend for one request, given for a passing report alone.

A permit is what `runtime/` asks for before it imports a backend. Issued permits are kept here, so that an object of
this type that was made in another way is worth nothing.
"""

from __future__ import annotations

from envguard.errors import RequirementsNotMet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from envguard.model import Environment, Report, Request


class Permit:
    """What was asked and passed, and what was looked at: the backend's version and the file it is imported from."""

    __slots__ = ("device", "import_name", "origin", "report", "request", "scheme", "version")

    request: Request
    report: Report
    device: str
    import_name: str
    origin: str | None
    scheme: str
    version: str | None

    def __init__(self) -> None:
        raise TypeError("a permit is issued for a passing report alone")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a permit is frozen: cannot assign to {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a permit is frozen: cannot delete {name!r}")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a permit cannot be subclassed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a permit cannot be copied or pickled")


_issued: dict[int, Permit] = {}


def issue(report: Report, environment: Environment, import_name: str, undecided: str) -> Permit:
    """The permit for a report on one backend.

    Raises RequirementsNotMet where the report is blocked, or undecided without `undecided="allow"`.
    """
    (backend,) = report.backends
    if not passes(report, undecided):
        raise RequirementsNotMet(str(report), report)
    owner = environment.fact("import_owners", import_name)
    permit = object.__new__(Permit)
    values = {
        "request": backend.request,
        "report": report,
        "device": torch_device(report),
        "import_name": import_name,
        "origin": owner.get("origin") if isinstance(owner, dict) else None,
        "scheme": backend.request.scheme or "",
        "version": backend.version,
    }
    for name, value in values.items():
        object.__setattr__(permit, name, value)
    _issued[id(permit)] = permit
    return permit


def passes(report: Report, undecided: str) -> bool:
    """True for a report that lets its backend run."""
    return report.ok or (report.verdict == "undecided" and undecided == "allow")


def verify(permit: object) -> None:
    """Raises TypeError for what `issue` did not make."""
    if not isinstance(permit, Permit) or _issued.get(id(permit)) is not permit:
        raise TypeError("this permit was not issued: call envguard.require, and use what it returns")


def torch_device(report: Report) -> str:
    """The name that torch gives to the device that a report was made for; "cpu" where it found none."""
    device = report.backends[0].resolved_device
    if device is None or device.kind == "cpu":
        return "cpu"
    if device.kind == "mps":
        return "mps"
    kind = "cuda" if device.kind == "rocm" else device.kind  # ROCm's torch answers as CUDA
    return f"{kind}:{device.index or 0}"
