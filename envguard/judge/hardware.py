"""Needs about hardware: devices, their drivers, and whether the torch build is made for both."""

from __future__ import annotations

from envguard.judge.subject import (
    CUDA_KINDS,
    NAMES,
    Finding,
    SeenDevice,
    asked,
    device_kind,
    named,
    plain_machine,
    select,
    shared,
    text_of,
    undecided,
)
from envguard.model import Unreadable
from envguard.rule import FixTemplate
from envguard.versions import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from envguard.judge.subject import Judge, Reader, Subject
    from envguard.model import Request
    from envguard.rule import AcceleratorNeed, CapabilityNeed, DriverForCudaNeed, MemoryNeed, RunsOnNeed, TorchBuild


def runs_on(need: RunsOnNeed, request: Request) -> tuple[Reader, Judge]:
    """The device that the request comes to is of one of some kinds."""
    needed = f"a device of {' or '.join(need.kinds)}"
    if request.device_kind != "auto":
        return asked(needed, request.device_kind in need.kinds, f"device {request.device}")

    def judge(kind: Any) -> Finding | None:
        if kind is None:  # whether the backend needs one is another rule's question
            return None
        if isinstance(kind, Unreadable):
            return undecided(needed, kind)
        return Finding("met" if kind in need.kinds else "unmet", needed, f"device auto, which is {NAMES[kind]} here")

    return device_kind, judge


def accelerator(need: AcceleratorNeed, request: Request) -> tuple[Reader, Judge]:
    """The process sees a device of one of some kinds."""
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
            if subject.request.device_kind != "cuda" or not _lacks_driver(subject):
                return devices
            devices = ()
        accepted = tuple([device for device in devices if device.kind in kinds])
        if accepted:
            return accepted
        listed = environment.section("accelerators")
        others = () if isinstance(listed, Unreadable) else tuple(dict.fromkeys(each["kind"] for each in listed or ()))
        hidden = [environment.fact("drivers", name) for name in ("rocm_hidden", "level_zero_hidden")]
        why = tuple([text for text in hidden if isinstance(text, str)])
        return (), others, environment.fact("drivers", "nvidia"), environment.fact("host", "system"), why

    def judge(facts: Any) -> Finding:
        if isinstance(facts, Unreadable):
            return undecided(needed, facts)
        if facts[0]:
            device = select(facts, request)
            if isinstance(device, Unreadable):
                return undecided(needed, device)
            if device is None:
                return Finding("unmet", needed, f"{len(facts)} visible: {', '.join(map(named, facts))}")
            return Finding("met", needed, named(device))
        _, others, driver, system, hidden = facts
        if hidden:
            return Finding("unmet", needed, f"no GPU ({'; '.join(hidden)})", "configuration")
        if others:
            return Finding("unmet", needed, f"no such GPU, only {', '.join(NAMES.get(kind, kind) for kind in others)}")
        seen = "no NVIDIA driver" if driver is None and system != "Darwin" else ""
        return Finding("unmet", needed, f"no GPU{f' ({seen})' if seen else ''}")

    return shared(("accelerator", frozenset(kinds)), read), judge


def _lacks_driver(subject: Subject) -> bool:
    """Whether torch was built for CUDA and NVIDIA's driver is not there: then it has no device, whoever counts them."""
    status = subject.environment.fact("drivers", "nvidia_status")
    return status == "absent" and isinstance(subject.environment.fact("torch_build", "cuda"), str)


def _cuda_devices(subject: Subject) -> Any:
    """The selected device and all others of its kind, where the selected one is NVIDIA's; None where it is not."""
    devices, device = subject.devices, subject.device
    if isinstance(device, Unreadable):
        return device
    if device is None or device.kind != "cuda":
        return None
    if subject.request.device_index is not None:
        devices = (device,)
    return tuple([each for each in devices if each.kind == "cuda"])


def capability(need: CapabilityNeed) -> tuple[Reader, Judge]:
    """The NVIDIA device has a compute capability."""
    needed = f"compute capability {need.minimum[0]}.{need.minimum[1]} or newer"

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        if isinstance(facts, Unreadable):
            return undecided(needed, facts)
        return _weakest(facts, needed, lambda device: _at_least(device.capability, need.minimum), _capability_of)

    return _cuda_devices, judge


def has_capability(device: Any, minimum: tuple[int, int]) -> bool | None:
    """Whether what `current_cuda` gives has at least a compute capability; None where that was not observed.

    All of ROCm have.
    """
    if device is None or isinstance(device, Unreadable):
        return None if device else False
    kind, capability = device
    return True if kind == "rocm" else _at_least(capability, minimum)


def _capability_of(device: SeenDevice) -> str:
    return f"compute capability {device.capability}"


def _at_least(capability: Any, minimum: tuple[int, int]) -> bool | None:
    from envguard.cuda import parse_capability  # here: most checks see no device

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
        return Finding("undecided", needed, f"{named(devices[0])}: compute capability not observed")
    if not first:
        return Finding("unmet", needed, f"{what(devices[0])} of {named(devices[0])}")
    for device in devices[1:]:
        if fits(device) is False:
            return Finding("unmet", needed, f"{what(device)} of {named(device)}, not the first device", None, "warning")
    return Finding("met", needed, f"{what(devices[0])} of {named(devices[0])}")


def memory(need: MemoryNeed) -> tuple[Reader, Judge]:
    """The device has enough memory."""
    needed = f"{need.minimum / 1e9:g} GB of GPU memory"

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        memory, device = facts
        found = f"{min(memory, 10**18) / 1e9:.1f} GB on {named(device)}"
        return Finding("met" if memory >= need.minimum else "unmet", needed, found)

    return _memory, judge


def _memory(subject: Subject) -> Any:
    device = subject.device
    if device is None or isinstance(device, Unreadable):
        return None
    for entry in subject.environment.section("accelerators"):
        if entry["kind"] == device.kind and entry.get("index") == device.index:
            memory = entry.get("memory_total")
            return (memory, device) if isinstance(memory, int | float) else None
    return None


def driver() -> tuple[Reader, Judge]:
    """The NVIDIA driver answers."""
    needed = "an NVIDIA driver that answers"

    def judge(facts: Any) -> Finding | None:
        status, driver, devices = facts
        if status == "ok":
            return Finding("met", needed, f"driver {driver}" if isinstance(driver, str) else "a device that answers")
        if status == "absent" or (driver is None and status not in _DRIVER_STATES):
            return None
        if status is None or isinstance(status, Unreadable):
            return undecided(needed, status, driver)
        reasons = dict.fromkeys(fact.reason for fact in (driver, devices) if isinstance(fact, Unreadable))
        detail = "; ".join(reason for reason in reasons if reason != "not observed")
        versions = f" (driver {driver})" if isinstance(driver, str) else ""
        return Finding(
            "unmet", needed, f"{_DRIVER_STATES.get(status, status)}{versions}{f': {detail}' if detail else ''}"
        )

    return _driver, judge


def _driver(subject: Subject) -> Any:
    devices = subject.devices
    environment = subject.environment
    if not isinstance(devices, Unreadable) and devices:
        return "ok", environment.fact("drivers", "nvidia"), None
    return environment.fact("drivers", "nvidia_status"), environment.fact("drivers", "nvidia"), devices


_DRIVER_STATES = {
    "hung": "the NVIDIA driver does not answer",
    "mismatch": "the NVIDIA kernel module and its library are of different versions",
    "half-installed": "the NVIDIA driver is only half installed",
    "denied": "this user may not open the NVIDIA devices",
}


_NOT_THE_VARIABLE = FixTemplate(
    text="CUDA_VISIBLE_DEVICES is not set: something else hides them. See that this user may open /dev/nvidia*, and"
    " that a container was started with the GPUs (docker run --gpus all)."
)


def visible() -> tuple[Reader, Judge]:
    """No variable hides the machine's devices."""
    needed = "GPUs of the machine visible to this process"

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
            found = f"{devices} in the machine, none of them visible to CUDA{why}"
            return Finding("unmet", needed, found, fix=_NOT_THE_VARIABLE if masks is None else None)
        if not known and physical is not None and isinstance(masks, str) and masks.strip() in ("", "-1"):
            return Finding(
                "unmet", needed, f"CUDA_VISIBLE_DEVICES={masks!r} hides every NVIDIA device{_emptiness(masks)}"
            )
        return None

    return _visible, judge


def _visible(subject: Subject) -> Any:
    devices, environment = subject.devices, subject.environment
    masks = environment.fact("environment_variables", "CUDA_VISIBLE_DEVICES")
    if isinstance(devices, Unreadable):
        # without any device this is the reason, and with devices it is too
        empty = subject.request.device_kind == "cuda" and isinstance(masks, str) and masks.strip() in ("", "-1")
        return (0, devices, masks, None) if empty else None
    if devices:
        return len(devices), None, None, None
    physical = environment.fact("drivers", "nvidia_devices")
    hidden = environment.fact("drivers", "nvidia_hidden")  # what the probe says of it, beyond the variable
    return 0, physical, masks, hidden


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
    told = [fact for fact in (cuda, hip, xpu) if isinstance(fact, Unreadable) and fact.reason != "not observed"]
    return told[0] if told else Unreadable("what torch was built for was not observed")


def _cuda_build(subject: Subject) -> Any:
    """What `Subject.build` is where torch was built for CUDA, or may have been; None where there is no such build."""
    build = subject.build
    return None if build is None or isinstance(build, Unreadable) or build[1] is None else build


def torch_build(request: Request) -> tuple[Reader, Judge]:
    """The torch build is for the kind of device that is asked for."""
    asked = request.device_kind

    def read(subject: Subject) -> Any:
        device = subject.device
        kind = asked
        if kind in ("auto", "cuda") and isinstance(device, SeenDevice):
            kind = device.kind
        return kind, subject.build, device if kind == "auto" else None

    def judge(facts: Any) -> Finding | None:
        kind, build, unseen = facts
        if isinstance(build, Unreadable):
            return undecided("a torch build for a GPU", build)
        if kind == "auto" and unseen is None:  # no GPU was seen, which another rule tells
            return None
        if build is None or kind in ("cpu", "mps"):
            return None
        needed = "a torch build for a GPU" if kind == "auto" else f"a torch build for {NAMES[kind]}"
        kinds = _build_kinds(build)
        version = f"torch {text_of(build[0])}"
        if isinstance(kinds, Unreadable):
            return Finding("undecided", needed, f"{version}: {kinds.reason}")
        if not kinds:
            return Finding("unmet", needed, f"torch is a CPU build ({text_of(build[0])})")
        made = " and ".join(NAMES[each] for each in kinds)
        if isinstance(unseen, Unreadable):
            return Finding("undecided", needed, f"{version}, built for {made}; the GPU: {unseen.reason}")
        matches = kind == "auto" or kind in kinds or (asked == "cuda" and kind == "cuda" and kinds == ("rocm",))
        return Finding("met" if matches else "unmet", needed, f"{version}, built for {made}")

    return shared(("torch_build", asked), read), judge


def driver_for_cuda(need: DriverForCudaNeed) -> tuple[Reader, Judge]:
    """The driver runs torch's CUDA."""
    oldest = dict(need.oldest)

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        torch, cuda, driver, supported, library = facts
        if isinstance(cuda, Unreadable):
            return undecided("an NVIDIA driver new enough for torch's CUDA", cuda)
        major = key(cuda)
        first = oldest.get(major[1][0]) if major else None
        needed = (
            f"an NVIDIA driver {first} or newer for CUDA {cuda} of torch {text_of(torch)}"
            if first
            else (f"an NVIDIA driver that supports CUDA {cuda} of torch {text_of(torch)}")
        )
        has = f"driver {text_of(driver)}" + (f", which supports CUDA {supported}" if isinstance(supported, str) else "")
        from envguard.cuda import driver_runs

        fits = driver_runs(cuda, first, driver, supported)
        if fits is None:
            return Finding("undecided", needed, has)
        if not fits and isinstance(library, str) and "compat" in library:
            # NVIDIA's forward compatibility package brings a newer libcuda than the driver's own
            return Finding("undecided", needed, f"{has}, behind a compatibility library ({library})")
        return Finding("met" if fits else "unmet", needed, has)

    return _driver_and_cuda, judge


def _driver_and_cuda(subject: Subject) -> Any:
    device = subject.device
    if device is None or (isinstance(device, SeenDevice) and device.kind != "cuda"):
        return None
    build = _cuda_build(subject)
    if build is None:
        return None
    drivers = [subject.environment.fact("drivers", name) for name in ("nvidia", "cuda", "libcuda")]
    return build[0], build[1], *drivers


def architecture(builds: tuple[TorchBuild, ...]) -> tuple[Reader, Judge]:
    """The torch build carries code for the device."""
    needed = "a torch build with code for the GPU"

    def judge(facts: Any) -> Finding | None:
        if facts is None:
            return None
        devices, torch, cuda, carried, machine = facts
        if isinstance(devices, Unreadable):
            return undecided(needed, devices)
        released = carried is None or isinstance(carried, Unreadable)
        if released:
            # what the wheels of another machine hold is not in the table
            known = builds if not isinstance(machine, str) or plain_machine(machine) == "x86_64" else ()
            carried = _released_architectures(torch, cuda, known)
        # a build of one's own may carry less than the released one of that version
        from envguard.cuda import carries

        if carried is None or (released and carries(carried, devices[0].capability) is not False):
            return Finding("undecided", needed, f"the architectures of torch {text_of(torch)} were not observed")
        what = f"torch {text_of(torch)} carries {', '.join(carried) or 'none'}; the device needs sm_"

        def words(device: SeenDevice) -> str:
            return f"{what}{str(device.capability).replace('.', '')} (compute capability {device.capability})"

        return _weakest(devices, needed, lambda device: carries(carried, device.capability), words)

    return _devices_and_code, judge


def _devices_and_code(subject: Subject) -> Any:
    devices = _cuda_devices(subject)
    if devices is None:
        return None
    build = _cuda_build(subject)
    if build is None:
        return None
    listed = subject.environment.fact("torch_build", "arch_list")
    carried = tuple(listed) if isinstance(listed, list) else listed
    return devices, build[0], build[1], carried, subject.environment.fact("host", "machine")


def _released_architectures(torch: Any, cuda: Any, builds: tuple[TorchBuild, ...]) -> tuple[str, ...] | None:
    """What the release on the package index carries, if the installed one is that build."""
    release, _, local = torch.partition("+") if isinstance(torch, str) else ("", "", "")
    wanted = key(release)
    for build in builds:
        if key(build.release) == wanted and build.cuda == cuda and build.local in ("", local):
            return build.architectures
    return None
