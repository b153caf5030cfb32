"""Which devices a process sees, from the variables that CUDA, ROCm and SYCL read. Pure functions.

CUDA (CUDA Programming Guide, "CUDA Environment Variables"; MIG User Guide, "CUDA Device Enumeration"), in its order:

1. CUDA_DEVICE_ORDER numbers the devices: PCI_BUS_ID, or FASTEST_FIRST (default): the fastest first, the others in bus
   order. NVIDIA calls the measure "a simple heuristic"; ours is cores times clock, bus order where one is not known.
2. CUDA_VISIBLE_DEVICES picks: unset is all, empty is none. The first entry decides the form: numbers (read like
   strtoul, `1gpu2` is 1) or UUIDs (`GPU-` and `MIG-`, a unique beginning is enough; `MIG-GPU-<uuid>/<gi>/<ci>`). The
   first entry that names no device ends the list. A device named twice leaves none: torch.cuda._parse_visible_devices,
   whose tests say they follow driver 525, and nvitop, which asks libcuda, agree on that.
3. A device with MIG enabled stands for its instances: since driver 570 for one compute instance of each of its GPU
   instances; before, CUDA sees one instance in all and, beside it, no whole device. Without instances it is not seen.
"""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.model import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    # the entries of a list -> positions of devices, and why the list ends early (None: it does not)
    Chosen: TypeAlias = tuple[list[Any], str | None]

SEVERAL_INSTANCES = 570  # the first driver in which one process sees more than one MIG instance
_DIGITS = "0123456789"


class Instance(Frozen):
    """A MIG compute instance. What was not observed is Unreadable."""

    uuid: Any
    name: Any = None
    memory_total: Any = None
    memory_free: Any = None
    gpu_instance: Any = None
    compute_instance: Any = None


class Gpu(Frozen):
    """A physical NVIDIA device that this user may open. What was not observed is Unreadable."""

    uuid: Any
    name: Any = None
    capability: Any = None
    memory_total: Any = None
    memory_free: Any = None
    mig: Any = False
    instances: tuple[Instance, ...] = ()
    speed: int | None = None


class Visible(Frozen):
    """Devices in the numbering of the process, and why the others are hidden (None: no other)."""

    devices: tuple[Any, ...]
    hidden: str | None = None


def cuda(gpus: Sequence[Gpu], environ: Mapping[str, str], driver: int = 0) -> Visible | Unreadable:
    """What CUDA shows of `gpus` (in bus order), as pairs (Gpu, Instance or None); `driver` is its major version."""
    ordered = cuda_order(gpus, environ.get("CUDA_DEVICE_ORDER"))
    value = environ.get("CUDA_VISIBLE_DEVICES")
    why: list[str] = []
    if value is None:
        named: list[Any] = [(gpu, None) for gpu in ordered]
    else:
        chosen = _cuda_entries(value, ordered)
        if isinstance(chosen, Unreadable):
            return chosen
        named, end = chosen
        if end is not None:
            why.append(f"CUDA_VISIBLE_DEVICES={_shown(value)}: {end}")
        elif {id(gpu) for gpu, _ in named} != {id(gpu) for gpu in ordered}:
            why.append(f"CUDA_VISIBLE_DEVICES={_shown(value)} leaves {len(named)} of {_count(len(ordered))}")
    devices = _instances(named, driver >= SEVERAL_INSTANCES, why)
    return Visible(tuple(devices), "; ".join(why) or None)


def cuda_order(gpus: Sequence[Gpu], order: str | None) -> list[Gpu]:
    """The devices as CUDA_DEVICE_ORDER numbers them, from bus order."""
    ordered = list(gpus)
    speeds = [gpu.speed for gpu in gpus]
    if order != "PCI_BUS_ID" and len(speeds) > 1 and None not in speeds:
        fastest = speeds.index(max(speed for speed in speeds if speed is not None))
        ordered.insert(0, ordered.pop(fastest))
    return ordered


def _shown(value: str) -> str:
    # a message is recorded as the variable is: not with a secret in it
    from envguard.probes.variables import looks_like_secret

    return "..." if looks_like_secret(value) else repr(value if len(value) <= 200 else f"{value[:197]}...")


def _count(number: int) -> str:
    return f"{number} device" if number == 1 else f"{number} devices"


def _cuda_entries(value: str, ordered: Sequence[Gpu]) -> Chosen | Unreadable:
    if not value.strip():
        return [], "it is set, but empty"
    entries = value.split(",")
    if not value.startswith(("GPU-", "MIG-")):
        numbers = _each(entries, lambda entry: _within(strtoul(entry), len(ordered)))
        return [(ordered[number], None) for number in numbers[0]], numbers[1]
    forms = {entry[:4] for entry in entries}
    if forms >= {"GPU-", "MIG-"}:
        # torch ends the list there, nvitop goes on, NVIDIA's text does not say
        return Unreadable(f"CUDA_VISIBLE_DEVICES={_shown(value)} mixes GPU and MIG UUIDs")
    if value.startswith("GPU-"):
        uuids = [gpu.uuid for gpu in ordered]
        found = _each(entries, lambda entry: _beginning(entry, "GPU-", uuids))
        return [(ordered[number], None) for number in found[0]], found[1]
    pairs = [(gpu, instance) for gpu in ordered for instance in gpu.instances]
    found = _each(entries, lambda entry: _mig(entry, pairs))
    return [pairs[number] for number in found[0]], found[1]


def _each(entries: Iterable[str], read: Callable[[str], int | None]) -> Chosen:
    # one pass, as the driver's own text has it: an entry that names no device ends the list
    chosen: list[Any] = []
    for entry in entries:
        number = read(entry)
        if number is None:
            return chosen, f"{_shown(entry.strip())} names no device and ends the list"
        if number in chosen:
            return [], f"{_shown(entry.strip())} names a device twice, which leaves none"
        chosen.append(number)
    return chosen, None


def strtoul(text: str) -> int | None:
    """The number at the beginning of a text, after white space and one sign; None where there is none."""
    text = text.lstrip(" \t\n\v\f\r")
    sign = text[:1] if text[:1] in ("+", "-") else ""
    rest = text[len(sign) :]
    digits = rest[: len(rest) - len(rest.lstrip(_DIGITS))]
    if not digits:
        return None
    number = int(digits.lstrip("0")[:32] or "0")  # more digits name no device either, and int() refuses thousands
    if number < 2**64:
        number %= 2**32  # libcuda keeps an int of it
    return -number if sign == "-" else number


def _within(number: int | None, count: int) -> int | None:
    return number if number is not None and 0 <= number < count else None


def _beginning(entry: str, form: str, uuids: Sequence[Any]) -> int | None:
    """The one device whose UUID an entry begins; libcuda reads no further than a whole UUID, in either case of
    letters.
    """
    if not entry.startswith(form) or len(entry) == len(form):
        return None
    begun = entry.lower()
    whole = [uuid.lower() if isinstance(uuid, str) else "" for uuid in uuids]
    matches = [at for at, uuid in enumerate(whole) if uuid and (uuid.startswith(begun) or begun.startswith(uuid))]
    return matches[0] if len(matches) == 1 else None


def _mig(entry: str, pairs: Sequence[tuple[Gpu, Instance]]) -> int | None:
    parts = entry.split("/")
    if not entry.startswith("MIG-GPU-") or len(parts) != 3:
        return _beginning(entry, "MIG-", [instance.uuid for _, instance in pairs])
    gpu, places = parts[0][len("MIG-") :], (strtoul(parts[1]), strtoul(parts[2]))
    owners = [owner for owner, _ in pairs if isinstance(owner.uuid, str) and owner.uuid.startswith(gpu)]
    if any(owner is not owners[0] for owner in owners):
        return None
    for at, (owner, instance) in enumerate(pairs):
        if owners and owner is owners[0] and (instance.gpu_instance, instance.compute_instance) == places:
            return at
    return None


def _instances(named: Sequence[Any], several: bool, why: list[str]) -> list[Any]:
    seen: list[Any] = []
    taken: list[Any] = []  # the GPU instances that have a compute instance in `seen`
    for gpu, instance in named:
        if instance is None and gpu.mig is not True:
            seen.append((gpu, None))
        elif instance is None and not gpu.instances:
            why.append(f"{_name(gpu)} has MIG enabled and no instance")
        for each in (instance,) if instance is not None else gpu.instances if gpu.mig is True else ():
            place = (id(gpu), each.gpu_instance)
            if place not in taken:
                taken.append(place)
                seen.append((gpu, each))
    first = next((pair for pair in seen if pair[1] is not None), None)
    if first is None or several or len(seen) == 1:
        return seen
    why.append(f"drivers before {SEVERAL_INSTANCES} show a process one MIG instance and nothing beside it")
    return [first]


def _name(gpu: Gpu) -> str:
    return next((text for text in (gpu.uuid, gpu.name) if isinstance(text, str)), "a device")


def rocm(uuids: Sequence[str | None], environ: Mapping[str, str]) -> Visible:
    """What ROCm's torch sees of devices with these UUIDs (`GPU-` and 16 hexadecimal digits), as positions.

    ROCR_VISIBLE_DEVICES first (ROCr, amd_filter_device.cpp), then HIP_VISIBLE_DEVICES or, where that is unset,
    CUDA_VISIBLE_DEVICES over what is left (HIP, rocdevice.cpp). HIP takes an empty value for none given; torch takes it
    for none visible, and it is torch that a backend asks.
    """
    left, why = list(range(len(uuids))), []
    value = environ.get("ROCR_VISIBLE_DEVICES")
    if value is not None:
        chosen, end = _rocr(value, uuids)
        why += _hides("ROCR_VISIBLE_DEVICES", value, end, chosen, left)
        left = chosen
    name = "CUDA_VISIBLE_DEVICES" if environ.get("HIP_VISIBLE_DEVICES") is None else "HIP_VISIBLE_DEVICES"
    value = environ.get(name)
    if value is not None:
        chosen, end = _hip(value, [uuids[position] for position in left])
        chosen = [left[number] for number in chosen]
        why += _hides(name, value, end, chosen, left)
        left = chosen
    return Visible(tuple(left), "; ".join(why) or None)


def _hides(name: str, value: str, end: str | None, chosen: Sequence[int], before: Sequence[int]) -> list[str]:
    if len(chosen) == len(before):
        return []
    return [
        f"{name}={_shown(value)} leaves {len(chosen)} of {_count(len(before))}"
        if end is None
        else f"{name}={_shown(value)}: {end}"
    ]


def _rocr(value: str, uuids: Sequence[str | None]) -> Chosen:
    if not value:
        return [], "it is set, but empty"
    upper = [uuid.upper() if uuid else None for uuid in uuids]
    chosen: list[int] = []
    for entry in value.split(","):
        token = entry.strip().upper()
        number = _beginning(token, "GPU-", upper) if token.startswith("G") else _within(_strtol(token), len(uuids))
        if number is None or number in chosen:
            return chosen, f"{_shown(entry.strip())} names no further device and ends the list"
        chosen.append(number)
    return chosen, None


def _strtol(token: str) -> int | None:
    # base 0 and to the end of the text, as ROCr reads it: 0X1 is 1, 010 is 8
    digits = token.lstrip("+-")
    base = 16 if digits.startswith("0X") else 8 if digits.startswith("0") and len(digits) > 1 else 10
    try:
        return int(token, base) if token.isascii() and "_" not in token else None
    except ValueError:
        return None


def _hip(value: str, uuids: Sequence[str | None]) -> Chosen:
    if not value:
        return [], "it is set, but empty"
    chosen: list[int] = []
    for entry in value.split(","):
        number = next((at for at, uuid in enumerate(uuids) if "GPU-" in entry and uuid and entry in uuid), None)
        if number is None:
            number = _within(strtoul(entry), len(uuids))
            if number is None or entry != str(number):
                return chosen, f"{_shown(entry)} names no device and ends the list"
        if number not in chosen:
            chosen.append(number)
    return chosen, None


def xpu(count: int, environ: Mapping[str, str]) -> Visible | Unreadable:
    """What SYCL shows of `count` Intel GPUs, as positions: ZE_AFFINITY_MASK, then ONEAPI_DEVICE_SELECTOR.

    Lists of whole devices are read; for masks of tiles, filters with `!` and the like the answer is Unreadable.
    """
    left, why = list(range(count)), []
    mask = environ.get("ZE_AFFINITY_MASK")
    if mask:
        numbers = _numbers(mask)
        if numbers is None:
            return Unreadable(
                f"ZE_AFFINITY_MASK={_shown(mask)} is of a form that is not read: a list of device numbers is"
            )
        chosen = [position for position in left if position in numbers]
        why += _hides("ZE_AFFINITY_MASK", mask, None, chosen, left)
        left = chosen
    selector = environ.get("ONEAPI_DEVICE_SELECTOR")
    if selector is not None:
        places = _oneapi(selector, len(left))
        if places is None:
            return Unreadable(
                f"ONEAPI_DEVICE_SELECTOR={_shown(selector)} is of a form that is not read: one backend:devices pair is"
            )
        chosen = [left[place] for place in places]
        why += _hides("ONEAPI_DEVICE_SELECTOR", selector, None, chosen, left)
        left = chosen
    return Visible(tuple(left), "; ".join(why) or None)


def _numbers(text: str) -> list[int] | None:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 8 for part in parts):
        return None
    return [int(part) for part in parts]


def _oneapi(selector: str, count: int) -> list[int] | None:
    backend, colon, devices = selector.strip().lower().partition(":")
    if not colon or backend not in ("level_zero", "*", "opencl", "cuda", "hip", "native_cpu"):
        return None
    numbers = _numbers(devices)
    if numbers is None and devices not in ("*", "gpu", "cpu", "fpga"):
        return None
    if backend not in ("level_zero", "*") or devices in ("cpu", "fpga"):
        return []  # torch takes its XPU devices from Level Zero alone
    return list(range(count)) if numbers is None else [place for place in range(count) if place in numbers]
