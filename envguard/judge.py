"""One function for each kind of need: which facts it reads, and what they say about it.

`examine(need, ...)` gives two functions. The first reads the facts out of an environment, as something hashable; the
second turns those facts into a Finding and looks at nothing else, so that equal facts need judging only once.
"""

from __future__ import annotations

from envguard.cuda import carries, driver_runs, parse_capability
from envguard.frozen import Frozen
from envguard.model import NOT_OBSERVED, Unreadable
from envguard.rule import (
    AcceleratorNeed,
    ArchitectureNeed,
    CapabilityNeed,
    DeviceNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    MemoryNeed,
    OwnerNeed,
    PythonBuildNeed,
    PythonNeed,
    RequirementsNeed,
    RunsOnNeed,
    SchemeNeed,
    SystemNeed,
    ToolNeed,
    TorchBuildNeed,
    VariableNeed,
    VisibleNeed,
)
from envguard.versions import declared, key, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

    from envguard.model import Environment, Kind, Request, Severity, Status
    from envguard.rule import Need, TorchBuild

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
    """What the facts say about one need. `kind` and `severity` stand in for the rule's own where they are given."""

    status: Status
    needed: str
    found: str
    kind: Kind | None = None
    severity: Severity | None = None


class SeenDevice(Frozen):
    """A visible device, as far as rules compare it; what was not observed is None."""

    kind: str
    index: int | None
    name: str | None
    capability: str | None
    arch: str | None


_NOT_YET = object()


class Subject:
    """An environment as one request sees it; what several needs read is worked out once."""

    __slots__ = ("_device", "_devices", "environment", "request")

    def __init__(self, environment: Environment, request: Request) -> None:
        self.environment = environment
        self.request = request
        self._devices: Any = None
        self._device: Any = _NOT_YET

    @property
    def device(self) -> Any:
        """The device that the request is judged for, None where there is none, or Unreadable."""
        if self._device is _NOT_YET:
            self._device = select(self.devices, self.request)
        return self._device

    @property
    def devices(self) -> Any:
        """The visible devices that the request can mean, in order; or Unreadable."""
        if self._devices is None:
            listed = self.environment.section("accelerators")
            self._devices = listed if isinstance(listed, Unreadable) else _devices(listed or (), self.request)
        return self._devices


def _devices(listed: Any, request: Request) -> tuple[SeenDevice, ...]:
    kind = request.device_kind
    wanted = CUDA_KINDS if kind == "cuda" else AUTO_ORDER if kind == "auto" else (kind,)
    found = []
    for device in listed:
        if device["kind"] in wanted:
            seen = device.get
            found.append(
                SeenDevice(
                    device["kind"],
                    seen("index"),
                    seen("name"),
                    seen("compute_capability"),
                    seen("arch"),
                )
            )
    if len(found) > 1:
        found.sort(key=lambda device: (wanted.index(device.kind), -1 if device.index is None else device.index))
    return tuple(found)


def current_cuda(environment: Environment) -> Any:
    """The device that torch.cuda uses unless told otherwise, as (kind, compute capability), whatever was asked for."""
    listed = environment.section("accelerators")
    if listed is None or isinstance(listed, Unreadable):
        return listed
    found = [device for device in listed if device["kind"] in CUDA_KINDS]
    if not found:
        return None
    first = min(found, key=lambda device: device.get("index") or 0)
    return first["kind"], first.get("compute_capability")


def has_capability(device: Any, minimum: tuple[int, int]) -> bool | None:
    """Whether such a device has at least a compute capability; None where that was not observed. All of ROCm have."""
    if device is None or isinstance(device, Unreadable):
        return None if device else False
    kind, capability = device
    return True if kind == "rocm" else _at_least(capability, minimum)


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


def _text(fact: Any, absent: str = "none") -> str:
    if fact is None:
        return absent
    return fact.reason if isinstance(fact, Unreadable) else str(fact)


def _undecided(needed: str, *facts: Any) -> Finding:
    reasons = dict.fromkeys(fact.reason for fact in facts if isinstance(fact, Unreadable))
    return Finding("undecided", needed, "; ".join(reasons) or "not observed")


def _named(device: SeenDevice) -> str:
    number = "" if device.index is None else f" {device.index}"
    place = f"{NAMES.get(device.kind, device.kind)} device{number}"
    return f"{device.name} ({place})" if device.name else place


def examine(  # noqa: RET503 - `_no_judge` never returns
    need: Need, request: Request, builds: tuple[TorchBuild, ...]
) -> tuple[Reader, Judge]:
    """The reader of the facts that a need is about, and the judge of those facts."""
    match need:
        case DistributionNeed():
            return _distribution(need)
        case RequirementsNeed():
            return _requirements(need)
        case OwnerNeed():
            return _owner(need)
        case DeviceNeed():
            return _asked(" or ".join(need.kinds), request.device_kind in need.kinds, f"device {request.device}")
        case RunsOnNeed():
            return _runs_on(need, request)
        case SchemeNeed():
            schemes = need.schemes
            return _asked(f"one of {', '.join(schemes)}", request.scheme in schemes, f"scheme {request.scheme}")
        case AcceleratorNeed():
            return _accelerator(need, request)
        case CapabilityNeed():
            return _capability(need)
        case MemoryNeed():
            return _memory(need)
        case DriverNeed():
            return _driver()
        case VisibleNeed():
            return _visible()
        case TorchBuildNeed():
            return _torch_build(request)
        case DriverForCudaNeed():
            return _driver_for_cuda(need)
        case ArchitectureNeed():
            return _architecture(builds)
        case PythonNeed():
            return _python(need)
        case PythonBuildNeed():
            return _python_build()
        case SystemNeed():
            return _system(need)
        case ToolNeed():
            return _tool(need)
        case VariableNeed():
            return _variable(need)
        case _:
            _no_judge(need)


def _no_judge(need: NoReturn) -> NoReturn:
    """What the type checker proves never to be called: every kind of need has its judge."""
    raise AssertionError(f"no judge for {need!r}")


def _asked(needed: str, met: bool, found: str) -> tuple[Reader, Judge]:
    finding = Finding("met" if met else "unmet", needed, found)
    return (lambda subject: None), (lambda facts: finding)


def _runs_on(need: RunsOnNeed, request: Request) -> tuple[Reader, Judge]:
    needed = f"a device of {' or '.join(need.kinds)}"
    if request.device_kind != "auto":
        return _asked(needed, request.device_kind in need.kinds, f"device {request.device}")

    def read(subject: Subject) -> Any:
        device = subject.device
        return device.kind if isinstance(device, SeenDevice) else device

    def judge(kind: Any) -> Finding | None:
        if kind is None:  # whether the backend needs one is another rule's question
            return None
        if isinstance(kind, Unreadable):
            return _undecided(needed, kind)
        return Finding("met" if kind in need.kinds else "unmet", needed, f"device auto, which is {NAMES[kind]} here")

    return read, judge


def _distribution(need: DistributionNeed) -> tuple[Reader, Judge]:
    wanted, comparison = need.wanted, need.comparison
    name, clauses, text = wanted.name, wanted.clauses, wanted.text

    def read_file(subject: Subject) -> Any:
        return subject.environment.fact("torch_build", "version")

    def read_version(subject: Subject) -> Any:
        return subject.environment.version(name)

    def read_presence(subject: Subject) -> Any:
        version = subject.environment.version(name)
        if isinstance(version, Unreadable) and isinstance(subject.environment.distribution(name), dict):
            return Unreadable(_BROKEN)
        return version

    def judge(version: Any) -> Finding:
        if version is None:
            return Finding("unmet", text, f"{name} is not installed", "absent")
        if isinstance(version, Unreadable):
            if version.reason == _BROKEN:
                return Finding("unmet", text, f"{name}: {_BROKEN}", "broken")
            return Finding("undecided", text, f"{name}: {version.reason}")
        if not clauses:
            return Finding("met", text, f"{name} {version}")
        fits = satisfies(version, clauses, comparison)
        if fits is None:
            return Finding("undecided", text, f"{name} {version}, {_between(version)}")
        return Finding("met" if fits else "unmet", text, f"{name} {version}")

    if need.fact == "version-file":
        return read_file, judge
    return read_version if clauses else read_presence, judge


_BROKEN = "installed, but its metadata gives no version"


def _between(version: str) -> str:
    if key(version) is None:
        return "which is not a PEP 440 version"
    return "a pre-release between two releases, which may or may not have what is needed"


def _requirements(need: RequirementsNeed) -> tuple[Reader, Judge]:
    name = need.distribution

    def read(subject: Subject) -> Any:
        environment = subject.environment
        entry = environment.distribution(name)
        if entry is None or isinstance(entry, Unreadable):
            return entry
        requires = entry.get("requires")
        if requires is None:
            return Unreadable(f"the requirements of {name} were not observed")
        wanted = declared(tuple(requires))
        if wanted is None:
            return Unreadable(f"the metadata of {name} cannot be read: one of its requirements is malformed")
        return entry["version"], wanted, tuple([environment.version(each.name) for each in wanted])

    def judge(facts: Any) -> Finding | None:
        needed = f"what {name} itself declares"
        if facts is None:
            return None
        if isinstance(facts, Unreadable):
            return _undecided(needed, facts)
        version, declared, versions = facts
        wrong, unknown = [], []
        for wanted, there in zip(declared, versions):
            fits = None
            if isinstance(there, str):
                fits = satisfies(there, wanted.clauses, "specifier")
            if there is None or fits is False:
                wrong.append((wanted.text, f"{wanted.name} {_text(there, 'is not installed')}"))
            elif fits is None:
                unknown.append(f"{wanted.name}: {_text(there)}")
        if wrong:
            needed = f"{', '.join(text for text, _ in wrong)} (declared by {name} {version})"
            kind: Kind = "version" if all("not installed" not in there for _, there in wrong) else "absent"
            return Finding("unmet", needed, ", ".join(there for _, there in wrong), kind)
        if unknown:
            return Finding("undecided", needed, "; ".join(unknown))
        return Finding("met", needed, f"all {len(declared)} requirements of {name} {version}")

    return read, judge


def _owner(need: OwnerNeed) -> tuple[Reader, Judge]:
    name, distribution = need.import_name, need.distribution
    needed = f"{name} imported from the distribution {distribution}"

    def read(subject: Subject) -> Any:
        owners = subject.environment.section("import_owners")
        if owners is None or isinstance(owners, Unreadable):
            return owners
        if name not in owners:
            return Unreadable(f"where {name} is imported from was not observed")
        owner = owners[name]
        others = tuple(owner.get("distributions", ()))
        return owner.get("distribution", _UNSEEN), others, owner.get("origin"), owner.get("kind", _UNSEEN)

    def judge(facts: Any) -> Finding:
        if facts is None or isinstance(facts, Unreadable):
            return _undecided(needed, facts)
        owner, others, origin, kind = facts
        if kind == "placeholder":
            return Finding("unmet", needed, f"a placeholder without code ({_text(origin, 'no file')})")
        if kind == "missing":
            return Finding("unmet", needed, f"{name} cannot be found by Python, though its metadata is there")
        if owner == distribution or distribution in others:
            if kind is _UNSEEN and not (isinstance(origin, str) and origin.endswith(_CODE)):
                return Finding(
                    "undecided", needed, f"{distribution}, of which it was not observed whether it holds code"
                )
            return Finding("met", needed, f"{distribution} ({_text(origin, 'namespace package')})")
        if owner is _UNSEEN:
            return Finding("undecided", needed, f"{_text(origin, 'a file')}, whose owner was not observed")
        if owner is None:
            return Finding(
                "unmet", needed, f"{_text(origin, 'a file')}, which belongs to no distribution and shadows it"
            )
        return Finding("unmet", needed, f"the distribution {owner} ({_text(origin, 'no file')})")

    return read, judge


_UNSEEN = Unreadable("owner not observed")
_CODE = (".py", ".pyc", ".so", ".pyd")


def _accelerator(need: AcceleratorNeed, request: Request) -> tuple[Reader, Judge]:
    kinds = {*need.kinds, *(CUDA_KINDS if "cuda" in need.kinds else ())}
    *firsts, last = [NAMES[kind] for kind in need.kinds]
    names = f"{', '.join(firsts)} or {last}" if firsts else last
    needed = (
        f"a GPU ({names})"
        if request.device_index is None
        else f"{NAMES[request.device_kind]} device {request.device_index}"
    )

    def read(subject: Subject) -> Any:
        environment = subject.environment
        devices = subject.devices
        if isinstance(devices, Unreadable):
            return devices
        accepted = tuple([device for device in devices if device.kind in kinds])
        if accepted:
            return accepted
        others = tuple(dict.fromkeys(each["kind"] for each in environment.section("accelerators") or ()))
        hidden = [environment.fact("drivers", name) for name in ("rocm_hidden", "level_zero_hidden")]
        why = tuple([text for text in hidden if isinstance(text, str)])
        return (), others, environment.fact("drivers", "nvidia"), environment.fact("host", "system"), why

    def judge(facts: Any) -> Finding:
        if isinstance(facts, Unreadable):
            return _undecided(needed, facts)
        if facts[0]:
            device = select(facts, request)
            if isinstance(device, Unreadable):
                return _undecided(needed, device)
            if device is None:
                return Finding("unmet", needed, f"{len(facts)} visible: {', '.join(map(_named, facts))}")
            return Finding("met", needed, _named(device))
        _, others, driver, system, hidden = facts
        if hidden:
            return Finding("unmet", needed, f"no GPU ({'; '.join(hidden)})", "configuration")
        if others:
            return Finding("unmet", needed, f"no such GPU, only {', '.join(NAMES.get(kind, kind) for kind in others)}")
        seen = "no NVIDIA driver" if driver is None and system != "Darwin" else ""
        return Finding("unmet", needed, f"no GPU{f' ({seen})' if seen else ''}")

    return read, judge


def _cuda_devices(subject: Subject) -> Any:
    """The selected device and all others of its kind, where the selected one is NVIDIA's; None where it is not."""
    devices = subject.devices
    device = select(devices, subject.request)
    if isinstance(device, Unreadable):
        return device
    if device is None or device.kind != "cuda":
        return None
    if subject.request.device_index is not None:
        devices = (device,)
    return tuple([each for each in devices if each.kind == "cuda"])


def _capability(need: CapabilityNeed) -> tuple[Reader, Judge]:
    needed = f"compute capability {need.minimum[0]}.{need.minimum[1]} or newer"

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        if isinstance(facts, Unreadable):
            return _undecided(needed, facts)
        return _weakest(facts, needed, lambda device: _at_least(device.capability, need.minimum), _capability_of)

    return _cuda_devices, judge


def _capability_of(device: SeenDevice) -> str:
    return f"compute capability {device.capability}"


def _at_least(capability: Any, minimum: tuple[int, int]) -> bool | None:
    parsed = parse_capability(capability)
    return None if parsed is None else parsed >= minimum


def _weakest(
    devices: tuple[SeenDevice, ...],
    needed: str,
    fits: Callable[[SeenDevice], bool | None],
    what: Callable[[SeenDevice], str],
) -> Finding:
    """The first device decides; a weaker one beside it is a warning, because the hosts use the first."""
    first = fits(devices[0])
    if first is None:
        return Finding("undecided", needed, f"{_named(devices[0])}: compute capability not observed")
    if not first:
        return Finding("unmet", needed, f"{what(devices[0])} of {_named(devices[0])}")
    for device in devices[1:]:
        if fits(device) is False:
            return Finding(
                "unmet", needed, f"{what(device)} of {_named(device)}, not the first device", None, "warning"
            )
    return Finding("met", needed, f"{what(devices[0])} of {_named(devices[0])}")


def _memory(need: MemoryNeed) -> tuple[Reader, Judge]:
    needed = f"{need.minimum / 1e9:g} GB of GPU memory"

    def read(subject: Subject) -> Any:
        device = subject.device
        if device is None or isinstance(device, Unreadable):
            return None
        for entry in subject.environment.section("accelerators"):
            if entry["kind"] == device.kind and entry.get("index") == device.index:
                memory = entry.get("memory_total")
                return (memory, device) if isinstance(memory, int | float) else None
        return None

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        memory, device = facts
        found = f"{min(memory, 10**18) / 1e9:.1f} GB on {_named(device)}"
        return Finding("met" if memory >= need.minimum else "unmet", needed, found)

    return read, judge


def _driver() -> tuple[Reader, Judge]:
    needed = "an NVIDIA driver that answers"

    def read(subject: Subject) -> Any:
        devices = subject.devices
        environment = subject.environment
        if not isinstance(devices, Unreadable) and devices:
            return "ok", environment.fact("drivers", "nvidia"), None
        return environment.fact("drivers", "nvidia_status"), environment.fact("drivers", "nvidia"), devices

    def judge(facts: Any) -> Finding | None:
        status, driver, devices = facts
        if status == "ok":
            return Finding("met", needed, f"driver {driver}" if isinstance(driver, str) else "a device that answers")
        if status == "absent" or (driver is None and status not in _DRIVER_STATES):
            return None
        if status is None or isinstance(status, Unreadable):
            return _undecided(needed, status, driver)
        reasons = dict.fromkeys(fact.reason for fact in (driver, devices) if isinstance(fact, Unreadable))
        detail = "; ".join(reason for reason in reasons if reason != "not observed")
        versions = f" (driver {driver})" if isinstance(driver, str) else ""
        return Finding(
            "unmet", needed, f"{_DRIVER_STATES.get(status, status)}{versions}{f': {detail}' if detail else ''}"
        )

    return read, judge


_DRIVER_STATES = {
    "hung": "the NVIDIA driver does not answer",
    "mismatch": "the NVIDIA kernel module and its library are of different versions",
    "half-installed": "the NVIDIA driver is only half installed",
    "denied": "this user may not open the NVIDIA devices",
}


def _visible() -> tuple[Reader, Judge]:
    needed = "GPUs of the machine visible to this process"

    def read(subject: Subject) -> Any:
        devices, environment = subject.devices, subject.environment
        if isinstance(devices, Unreadable):
            return None
        if devices:
            return len(devices), None, None, None
        physical = environment.fact("drivers", "nvidia_devices")
        hidden = environment.fact("drivers", "nvidia_hidden")  # what the probe says of it, beyond the variable
        return 0, physical, environment.fact("environment_variables", "CUDA_VISIBLE_DEVICES"), hidden

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        seen, physical, masks, hidden = facts
        if seen:
            return Finding("met", needed, f"{seen} visible")
        known = isinstance(physical, int)
        if known and physical > 0:
            devices = f"{physical} NVIDIA device{'s' if physical > 1 else ''}"
            if isinstance(masks, str):
                return Finding("unmet", needed, f"CUDA_VISIBLE_DEVICES={masks!r} hides {devices}{_emptiness(masks)}")
            why = f" ({hidden})" if isinstance(hidden, str) else ""
            return Finding("unmet", needed, f"{devices} in the machine, none of them visible to CUDA{why}")
        if not known and physical is not None and isinstance(masks, str) and masks.strip() in ("", "-1"):
            return Finding(
                "unmet", needed, f"CUDA_VISIBLE_DEVICES={masks!r} hides every NVIDIA device{_emptiness(masks)}"
            )
        return None

    return read, judge


def _emptiness(masks: str) -> str:
    return ": it is set, but empty" if not masks.strip() else ""


def _build_kinds(build: Any) -> Any:
    """The accelerator kinds that a torch build was made for, () for a CPU build; Unreadable where nothing tells."""
    version, cuda, hip, xpu = build
    kinds = [kind for kind, value in (("cuda", cuda), ("rocm", hip), ("xpu", xpu)) if isinstance(value, str)]
    if kinds:
        return tuple(kinds)
    if isinstance(version, str) and version.endswith("+cpu"):
        return ()
    if cuda is None and not isinstance(version, Unreadable):
        unseen = [fact for fact in (hip, xpu) if isinstance(fact, Unreadable) and fact.reason != "not observed"]
        return unseen[0] if unseen else ()
    return Unreadable("what torch was built for was not observed")


def _read_build(subject: Subject) -> Any:
    environment = subject.environment
    section = environment.section("torch_build")
    if section is None:
        installed = isinstance(environment.version("torch"), str)
        return Unreadable("torch is installed, but its version file was not found") if installed else None
    facts = [environment.fact("torch_build", name) for name in ("version", "cuda", "hip", "xpu")]
    if isinstance(facts[0], Unreadable):
        facts[0] = environment.version("torch")
    return tuple(facts)


def _cuda_build(subject: Subject) -> Any:
    """What `_read_build` reads where torch was built for CUDA, or may have been; None where there is no such build."""
    build = _read_build(subject)
    return None if build is None or isinstance(build, Unreadable) or build[1] is None else build


def _torch_build(request: Request) -> tuple[Reader, Judge]:
    asked = request.device_kind

    def read(subject: Subject) -> Any:
        device = subject.device
        kind = asked
        if kind in ("auto", "cuda") and isinstance(device, SeenDevice):
            kind = device.kind
        return kind, _read_build(subject), device if kind == "auto" else None

    def judge(facts: Any) -> Finding | None:
        kind, build, unseen = facts
        if isinstance(build, Unreadable):
            return _undecided("a torch build for a GPU", build)
        if kind == "auto" and unseen is None:  # no GPU was seen, which another rule tells
            return None
        if build is None or kind in ("cpu", "mps"):
            return None
        needed = "a torch build for a GPU" if kind == "auto" else f"a torch build for {NAMES[kind]}"
        kinds = _build_kinds(build)
        version = f"torch {_text(build[0])}"
        if isinstance(kinds, Unreadable):
            return Finding("undecided", needed, f"{version}: {kinds.reason}")
        if not kinds:
            return Finding("unmet", needed, f"torch is a CPU build ({_text(build[0])})")
        made = " and ".join(NAMES[each] for each in kinds)
        if isinstance(unseen, Unreadable):
            return Finding("undecided", needed, f"{version}, built for {made}; the GPU: {unseen.reason}")
        matches = kind == "auto" or kind in kinds or (asked == "cuda" and kind == "cuda" and kinds == ("rocm",))
        return Finding("met" if matches else "unmet", needed, f"{version}, built for {made}")

    return read, judge


def _driver_for_cuda(need: DriverForCudaNeed) -> tuple[Reader, Judge]:
    oldest = dict(need.oldest)

    def read(subject: Subject) -> Any:
        device = subject.device
        if device is None or (isinstance(device, SeenDevice) and device.kind != "cuda"):
            return None
        build = _cuda_build(subject)
        if build is None:
            return None
        drivers = [subject.environment.fact("drivers", name) for name in ("nvidia", "cuda", "libcuda")]
        return build[0], build[1], *drivers

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        torch, cuda, driver, supported, library = facts
        if isinstance(cuda, Unreadable):
            return _undecided("an NVIDIA driver new enough for torch's CUDA", cuda)
        major = key(cuda)
        first = oldest.get(major[1][0]) if major else None
        needed = (
            f"an NVIDIA driver {first} or newer for CUDA {cuda} of torch {_text(torch)}"
            if first
            else (f"an NVIDIA driver that supports CUDA {cuda} of torch {_text(torch)}")
        )
        has = f"driver {_text(driver)}" + (f", which supports CUDA {supported}" if isinstance(supported, str) else "")
        fits = driver_runs(cuda, first, driver, supported)
        if fits is None:
            return Finding("undecided", needed, has)
        if not fits and isinstance(library, str) and "compat" in library:
            # NVIDIA's forward compatibility package brings a newer libcuda than the driver's own
            return Finding("undecided", needed, f"{has}, behind a compatibility library ({library})")
        return Finding("met" if fits else "unmet", needed, has)

    return read, judge


def _architecture(builds: tuple[TorchBuild, ...]) -> tuple[Reader, Judge]:
    needed = "a torch build with code for the GPU"

    def read(subject: Subject) -> Any:
        devices = _cuda_devices(subject)
        if devices is None:
            return None
        build = _cuda_build(subject)
        if build is None:
            return None
        listed = subject.environment.fact("torch_build", "arch_list")
        carried = tuple(listed) if isinstance(listed, list) else listed
        return devices, build[0], build[1], carried

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        devices, torch, cuda, carried = facts
        if isinstance(devices, Unreadable):
            return _undecided(needed, devices)
        released = carried is None or isinstance(carried, Unreadable)
        if released:
            carried = _released_architectures(torch, cuda, builds)
        # a build of one's own may carry less than the released one of that version
        if carried is None or (released and carries(carried, devices[0].capability) is not False):
            return Finding("undecided", needed, f"the architectures of torch {_text(torch)} were not observed")
        what = f"torch {_text(torch)} carries {', '.join(carried) or 'none'}; the device needs sm_"

        def words(device: SeenDevice) -> str:
            return f"{what}{str(device.capability).replace('.', '')} (compute capability {device.capability})"

        return _weakest(devices, needed, lambda device: carries(carried, device.capability), words)

    return read, judge


def _released_architectures(torch: Any, cuda: Any, builds: tuple[TorchBuild, ...]) -> tuple[str, ...] | None:
    """What the release on the package index carries, if the installed one is that build."""
    wanted = key(torch.partition("+")[0]) if isinstance(torch, str) else None
    for build in builds:
        if key(build.release) == wanted and build.cuda == cuda:
            return build.architectures
    return None


def _python(need: PythonNeed) -> tuple[Reader, Judge]:
    needed = f"Python {need.text}"

    def judge(version: Any) -> Finding:
        fits = satisfies(version, need.clauses, "specifier") if isinstance(version, str) else None
        if fits is None:
            return Finding("undecided", needed, _text(version))
        return Finding("met" if fits else "unmet", needed, f"Python {version}")

    return (lambda subject: subject.environment.fact("python", "version")), judge


def _python_build() -> tuple[Reader, Judge]:
    needed = "a Python with a global interpreter lock"

    def judge(free: Any) -> Finding:
        if not isinstance(free, bool):
            return _undecided(needed, free)
        return Finding("unmet" if free else "met", needed, "a free-threaded build" if free else "the usual build")

    return (lambda subject: subject.environment.fact("python", "free_threaded")), judge


def _system(need: SystemNeed) -> tuple[Reader, Judge]:
    needed = " or ".join(need.systems)

    def judge(system: Any) -> Finding:
        if not isinstance(system, str):
            return _undecided(needed, system)
        return Finding("met" if system in need.systems else "unmet", needed, system)

    return (lambda subject: subject.environment.fact("host", "system")), judge


def _tool(need: ToolNeed) -> tuple[Reader, Judge]:
    needed = _TOOLS.get(need.tool, need.tool)

    def judge(found: Any) -> Finding:
        if isinstance(found, Unreadable):
            return _undecided(needed, found)
        return Finding("unmet", needed, "not found", "absent") if found is None else Finding("met", needed, str(found))

    return (lambda subject: subject.environment.fact("toolchain", need.tool)), judge


_TOOLS = {
    "ninja": "the ninja program on PATH",
    "cxx": "a C++ compiler",
    "cc": "a C compiler",
    "python_headers": "Python's C headers (Python.h)",
    "nvcc": "the CUDA compiler nvcc",
    "cuda_home": "a CUDA toolkit folder",
    "msvc": "Microsoft's C++ compiler",
}


def _variable(need: VariableNeed) -> tuple[Reader, Judge]:
    name = need.name
    allowed = " or ".join(f"{name}={value}" for value in need.allowed)
    if need.unset:
        allowed += f", or {name} not set"
    refused = " or ".join(map(repr, need.refused))
    needed = allowed or (f"{name} other than {refused}" if refused else name)

    def judge(value: Any) -> Finding:
        if value == NOT_OBSERVED and need.assumed_unset:
            value = None
        if isinstance(value, Unreadable):
            return _undecided(needed, value)
        plain = value.lower() if isinstance(value, str) else None
        fits = plain in need.allowed if need.allowed else plain not in need.refused
        fits = fits or (need.unset and value is None)
        return Finding("met" if fits else "unmet", needed, f"{name} is not set" if value is None else f"{name}={value}")

    return (lambda subject: subject.environment.fact("environment_variables", name)), judge
