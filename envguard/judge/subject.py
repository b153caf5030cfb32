"""An environment as one request sees it, and the readers of facts that needs and conditions of rules share."""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.markers import known_of
from envguard.model import Ranged, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    from envguard.model import Environment, Kind, Request, Severity, Status
    from envguard.rule import FixTemplate
    from envguard.versions import Clause

    Reader: TypeAlias = Callable[["Subject"], Any]
    Judge: TypeAlias = Callable[[Any], "Finding | None"]

CUDA_KINDS = ("cuda", "rocm")  # torch answers for ROCm under the name of CUDA
AUTO_ORDER = ("cuda", "rocm", "xpu", "mps")
NAMES = {
    "cuda": "CUDA",
    "rocm": "ROCm",
    "xpu": "Intel XPU",
    "mps": "Apple MPS",
    "npu": "NPU",
    "hpu": "HPU",
    "cpu": "CPU",
}


class Finding(Frozen):
    """What the facts say about one need. What of `kind` to `origin` is given stands in for the rule's own."""

    status: Status
    needed: str
    found: str
    kind: Kind | None = None
    severity: Severity | None = None
    fix: FixTemplate | None = None
    origin: str | None = None


class SeenDevice(Frozen):
    """A visible device, as far as rules compare it; what was not observed is None."""

    kind: str
    index: int | None
    name: str | None
    capability: str | None
    arch: str | None


_NOT_YET = object()


class Broken(Unreadable):
    """The version of a distribution that is installed, but whose metadata gives none."""

    reason: str


class Subject:
    """An environment as one request sees it; what several needs read is worked out once.

    `devices` are the visible devices that the request can mean, in order; or Unreadable. `device` is the one that it is
    judged for, None where there is none, or Unreadable.
    """

    __slots__ = ("_build", "_known", "device", "devices", "environment", "request")

    def __init__(self, environment: Environment, request: Request) -> None:
        self.environment = environment
        self.request = request
        self._known: Mapping[str, str] | None = None
        listed = environment.section("accelerators")
        self.devices: Any = listed if isinstance(listed, Unreadable) else _devices(listed or (), request)
        self.device: Any = select(self.devices, request)
        self._build: Any = _NOT_YET

    def after(self, environment: Environment) -> Subject:
        """The environment after a change that leaves Python, the system and the devices as they are."""
        changed = Subject.__new__(Subject)
        changed.environment, changed.request, changed._build = environment, self.request, _NOT_YET
        changed._known = self._known
        changed.devices, changed.device = self.devices, self.device
        return changed

    @property
    def known(self) -> Mapping[str, str]:
        """The marker variables that are known."""
        if self._known is None:
            self._known = known_of(self.environment)
        return self._known

    @property
    def python(self) -> str | None:
        """The inspected Python as releases are for it, such as 3.12; None where it was not observed."""
        return self.known.get("python_version")

    @property
    def build(self) -> Any:
        """The version, CUDA, HIP and XPU of the torch build; None where torch is not there, or Unreadable."""
        if self._build is _NOT_YET:
            self._build = _build(self.environment)
        return self._build


def _devices(listed: Any, request: Request) -> tuple[SeenDevice, ...]:
    kind = request.device_kind
    wanted = CUDA_KINDS if kind == "cuda" else AUTO_ORDER if kind == "auto" else (kind,)
    found = [_seen_device(device) for device in listed if device["kind"] in wanted]
    if len(found) > 1:
        found.sort(key=lambda device: (wanted.index(device.kind), -1 if device.index is None else device.index))
    return tuple(found)


def _seen_device(device: Any) -> SeenDevice:
    """What rules compare of a device; equal devices are one object, because dictionaries find that at once."""
    seen = device.get
    facts = device["kind"], seen("index"), seen("name"), seen("compute_capability"), seen("arch")
    known = _known_devices.get(facts)
    if known is None:
        of_name = None
        if facts[0] == "cuda" and facts[3] is None and isinstance(facts[2], str):
            from envguard.gpus import capability_of  # here: a probe gives the capability itself

            of_name = capability_of(facts[2])
        if len(_known_devices) >= _MOST_DEVICES:
            _known_devices.clear()
        known = _known_devices[facts] = SeenDevice(*facts[:3], facts[3] or of_name, facts[4])
    return known


_known_devices: dict[Any, SeenDevice] = {}
_MOST_DEVICES = 1_000  # keeps memory flat over any number of snapshots


def _build(environment: Environment) -> Any:
    section = environment.section("torch_build")
    if section is None:
        return _NO_VERSION_FILE if isinstance(environment.version("torch"), str) else None
    fact = environment.fact
    version = fact("torch_build", "version")
    if isinstance(version, Unreadable):
        version = environment.version("torch")
        cuda = _cuda_of(version) if isinstance(section, Unreadable) else None
        if cuda is not None:
            return version, cuda, None, None
    return version, fact("torch_build", "cuda"), fact("torch_build", "hip"), fact("torch_build", "xpu")


def _cuda_of(version: Any) -> str | None:
    """12.6 of 2.8.0+cu126: PyTorch's own index names its builds so."""
    digits = version.partition("+cu")[2] if isinstance(version, str) else ""
    return f"{digits[:2]}.{digits[2:]}" if digits.isascii() and digits.isdigit() and len(digits) in (3, 4) else None


_NO_VERSION_FILE = Unreadable("torch is installed, but its version file was not found")


def select(devices: Any, request: Request) -> Any:
    """The device that a request is judged for: the one that it names, else the first; None where there is none."""
    if isinstance(devices, Unreadable):
        return devices
    if request.device_index is None:
        return devices[0] if devices else None
    for device in devices:
        if device.index == request.device_index:
            return device
    return _UNNUMBERED if any(device.index is None for device in devices) else None


_UNNUMBERED = Unreadable("the numbers of the devices were not observed")


def text_of(fact: Any, absent: str = "none") -> str:
    """A fact as the texts of findings tell it."""
    if fact is None:
        return absent
    return fact.reason if isinstance(fact, Unreadable) else str(fact)


def undecided(needed: str, *facts: Any) -> Finding:
    """The finding where facts were not observed."""
    reasons = dict.fromkeys(fact.reason for fact in facts if isinstance(fact, Unreadable))
    return Finding("undecided", needed, "; ".join(reasons) or "not observed")


def named(device: SeenDevice) -> str:
    """A device as the texts of findings tell it."""
    number = "" if device.index is None else f" {device.index}"
    place = f"{NAMES.get(device.kind, device.kind)} device{number}"
    return f"{device.name} ({place})" if device.name else place


def plain_machine(machine: str) -> str:
    """One name for machines that systems call by several."""
    return {"AMD64": "x86_64", "ARM64": "aarch64", "arm64": "aarch64"}.get(machine, machine)


def in_range(version: Any, clauses: tuple[Clause, ...], comparison: str) -> bool | None:
    """Whether every version of a range meets some clauses, or none does; None where some do, or for no range."""
    if not isinstance(version, Ranged) or not version.specifier:
        return None
    from envguard.ranges import settles  # here: only a file gives a range
    from envguard.versions import parse_clauses

    try:
        return settles(parse_clauses(version.specifier), clauses, comparison)
    except ValueError:
        return None


# Readers that are the same function for the same fact, so that whoever looks up facts reads each of them once.
_readers: dict[Any, Reader] = {}
# How a look at many environments (`looks.py`) knows what a shared reader gives without calling it:
names_of: dict[Reader, str] = {}  # the version of a distribution
facts_of: dict[Reader, tuple[str, str]] = {}  # a fact of a section
versions_first: dict[Reader, str] = {}  # the version of a distribution where there is one
fields_of: dict[Reader, tuple[str, str]] = {}  # None where a distribution's entry has no such field
sections_of: dict[Reader, str] = {}  # None where there is no such section
parts_of: dict[Reader, tuple[Reader, ...]] = {}  # what equal facts of other readers decide


def version_of(name: str) -> Reader:
    """The reader of a distribution's version: Broken where it is installed, but its metadata gives none."""
    known = _readers.get((name,))
    if known is not None:
        return known

    def read(subject: Subject) -> Any:
        environment = subject.environment
        try:
            version = environment.data["distributions"][name]["version"]
            if version is not None:
                return version
        except (KeyError, TypeError):
            pass
        version = environment.version(name)
        if type(version) is Unreadable and isinstance(environment.distribution(name), dict):
            return Broken(version.reason)
        return version

    names_of[read] = name
    _readers[name,] = read
    return read


def shared(facts: object, read: Reader) -> Reader:
    """The first of the readers that were made for the same facts."""
    return _readers.setdefault(facts, read)


def optional(section: str, read: Reader) -> Reader:
    """A shared reader that gives None where there is no such section."""
    sections_of[read] = section
    return read


def told_in(section: str) -> Reader:
    """The reader of the names about which a section tells something."""

    def read(subject: Subject) -> Any:
        found = subject.environment.data.get(section)
        return frozenset([name for name in found if found[name] is not None]) if found else None

    return optional(section, shared(("told", section), read))


def fact_of(section: str, name: str) -> Reader:
    """The reader of a fact that is a plain value."""
    known = _readers.get((section, name))
    if known is None:
        known = _readers[section, name] = lambda subject: subject.environment.fact(section, name)
        facts_of[known] = section, name
    return known


def variable_of(name: str) -> Reader:
    """The reader of an environment variable."""
    return fact_of("environment_variables", name)


system_of = fact_of("host", "system")


def device_kind(subject: Subject) -> Any:
    """The kind of the device that the request is judged for."""
    device = subject.device
    return device.kind if isinstance(device, SeenDevice) else device


def current_cuda(subject: Subject) -> Any:
    """The device that torch.cuda uses unless told otherwise, as (kind, compute capability), whatever was asked for."""
    listed = subject.environment.section("accelerators")
    if listed is None or isinstance(listed, Unreadable):
        return listed
    found = [device for device in listed if device["kind"] in CUDA_KINDS]
    if not found:
        return None
    first = min(found, key=lambda device: device.get("index") or 0) if len(found) > 1 else found[0]
    return first["kind"], first.get("compute_capability")


def nothing(subject: Subject) -> None:
    """The reader of a need that the request alone decides."""


def asked(needed: str, met: bool, found: str) -> tuple[Reader, Judge]:
    """What the request alone decides."""
    finding = Finding("met" if met else "unmet", needed, found)
    return nothing, (lambda facts: finding)
