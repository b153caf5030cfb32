"""The NVIDIA driver and the devices that CUDA shows this process.

In this order; each step answers alone where it can:

1. The process: where torch has initialised CUDA, its devices of that moment count, whatever the variables say now.
2. Files: the kernel module's version (/proc/driver/nvidia/version, /sys/module/nvidia/version), /dev/nvidiactl, what
   WSL (/dev/dxg) and Jetson (/dev/nvhost-ctrl-gpu, /dev/nvgpu, /dev/nvmap) have instead, and which libcuda and NVML
   the loader would take. None of them: there is no driver. This costs file lookups and no import.
3. NVML, asked by a process of its own (nvml_child.py): a driver that hangs holds a thread for good, and a process can
   be left behind. CUDA is not initialised.
4. libcuda, asked in the same way, on Jetson and where a container was given no NVML. That process initialises CUDA.
5. The variables (visible.py) pick and number the devices.

No devices are observed where there is nothing to open; whatever keeps an existing driver from answering makes them
unreadable, with the reason, which `nvidia_reason` repeats beside `nvidia_status`.
"""

from __future__ import annotations

import os
import sys

from envguard.frozen import Frozen
from envguard.model import Unreadable
from envguard.probes import Observed, loader, visible
from envguard.probes.accelerators import LIBRARIES, Traces, read_traces
from envguard.probes.child import start
from envguard.probes.visible import Gpu, Instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from envguard.probes.child import Child

SECONDS = 5.0
_CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nvml_child.py")


class Answer(Frozen):
    """What the child process said."""

    driver: Any = None
    cuda: Any = None
    count: Any = None
    gpus: tuple[Gpu, ...] = ()
    denied: int = 0
    libcuda: Any = None
    error: tuple[str, int, str, str] | None = None  # what failed, code, text, whether /dev/nvidiactl could be opened
    complete: bool = False


class Pending:
    """A question on its way: what the files say, and the process that was asked or else the status and the reason."""

    __slots__ = ("asked", "limit", "traces")

    def __init__(self, traces: Traces, asked: Child | tuple[str | None, str], limit: float) -> None:
        self.traces = traces
        self.asked = asked
        self.limit = limit


def nvidia(
    environ: Mapping[str, str],
    root: str = "/",
    limit: float = SECONDS,
    pending: Pending | None = None,
) -> tuple[Observed, Observed]:
    """The sections `drivers` (its NVIDIA part) and `accelerators` (its CUDA part), within `limit` seconds.

    `pending` is what `begin` returned, where other work was done meanwhile.
    """
    devices = initialised_devices(sys.modules)
    if devices and devices[0]["kind"] == "cuda":
        return _initialised(read_traces(environ, root), devices)
    pending = pending or begin(environ, root, limit)
    traces = pending.traces
    if isinstance(pending.asked, tuple):
        return _failed(traces, Answer(), *pending.asked)
    output, ended = pending.asked.read()
    try:
        answer = parse_answer(output)
    except (ValueError, IndexError) as error:
        return _failed(traces, Answer(), None, f"the answer about the NVIDIA driver cannot be read: {error}")
    if answer.complete:
        return _answered(traces, answer, environ)
    status, reason = failure(answer, traces, ended, pending.limit)
    return _failed(traces, answer, status, reason)


def begin(environ: Mapping[str, str], root: str = "/", limit: float = SECONDS) -> Pending:
    """Read the files and, where they leave a question, start the process that asks the driver."""
    traces = read_traces(environ, root)
    return Pending(traces, _ask(traces, environ, root, limit), limit)


def _ask(traces: Traces, environ: Mapping[str, str], root: str, limit: float) -> Child | tuple[Any, str]:
    # the process that was started, or the status and the reason where the files have said it all
    if traces.control and not os.access(os.path.join(root, "dev/nvidiactl"), os.R_OK | os.W_OK):
        return "denied", "this user may not open /dev/nvidiactl"
    below = traces.kernel or sys.platform == "win32"
    if below and traces.libcuda is not None and (traces.tegra or traces.nvml is None):
        return _start(["cuda"], environ, limit, traces)
    if traces.nvml is None:
        if traces.kernel:
            return "half-installed", _no_libraries(traces)
        if traces.libcuda is None:
            return "absent", ""
        return "half-installed", f"{traces.libcuda} is there, but no NVIDIA kernel module and no NVIDIA device"
    folder = _folder_of_pynvml()
    if folder is None:
        return None, "the package nvidia-ml-py, which asks the NVIDIA driver, is not installed"
    return _start(["nvml", folder, *([] if traces.libcuda else ["libcuda"])], environ, limit, traces)


def parse_answer(output: str) -> Answer:
    """The facts that nvml_child.py printed, complete or not. Raises ValueError or IndexError for anything else."""
    facts: dict[str, Any] = {}
    gpus: dict[int, dict[str, Any]] = {}
    denied = 0
    for line in output.split("\n")[:-1]:  # a process that is killed may leave half a line
        key, *cells = line.split("\t")
        if key == "device":
            gpus[int(cells[0])] = _gpu(cells[1:])
        elif key == "mig":
            gpus[int(cells[0])]["instances"] += (_instance(cells[1:]),)
        elif key == "speed":
            gpus[int(cells[0])]["speed"] = int(cells[1])
        elif key == "denied":
            denied += 1
        elif key == "error":
            facts["error"] = (cells[0], int(cells[1]), cells[2], cells[3] if len(cells) > 3 else "")
        elif key == "count":
            facts["count"] = _number(cells[0])
        elif key == "cuda":
            facts["cuda"] = _cuda_version(_number(cells[0]))
        elif key in ("driver", "libcuda"):
            facts[key] = _value(cells[0])
        elif key == "end":
            facts["complete"] = True
        else:
            raise ValueError(f"{key[:40]!r} is no fact")
    return Answer(gpus=tuple(Gpu(**gpus[index]) for index in sorted(gpus)), denied=denied, **facts)


def _value(cell: str) -> Any:
    return Unreadable(cell[1:].partition(" ")[2] or "not observed") if cell.startswith("!") else cell


def _number(cell: str) -> Any:
    value = _value(cell)
    return value if isinstance(value, Unreadable) else int(value)


def _cuda_version(number: Any) -> Any:
    return number if isinstance(number, Unreadable) else f"{number // 1000}.{number % 1000 // 10}"


def _gpu(cells: Sequence[str]) -> dict[str, Any]:
    uuid, name, capability = (_value(cell) for cell in cells[:3])
    total, free, mig = (_number(cell) for cell in (cells[3], cells[4], cells[5]))
    return {
        "uuid": uuid,
        "name": name,
        "capability": capability,
        "memory_total": total,
        "memory_free": free,
        "mig": mig if isinstance(mig, Unreadable) else mig == 1,
        "instances": (),
    }


def _instance(cells: Sequence[str]) -> Instance:
    numbers = [_number(cell) for cell in (cells[2], cells[3], cells[4], cells[5])]
    return Instance(_value(cells[0]), _value(cells[1]), *numbers)


def failure(answer: Answer, traces: Traces, ended: str, limit: float) -> tuple[str | None, str]:
    """`nvidia_status` and the reason, for an answer that is not complete; `ended` says how its process did."""
    if ended == "hung":
        return "hung", f"the NVIDIA driver did not answer within {limit:g} s"
    if answer.error is None:
        if ended.startswith("SIG"):
            return "half-installed", f"asking the NVIDIA driver crashed ({ended})"
        return None, f"the process that asks the NVIDIA driver {ended}"
    where, code, words, opened = answer.error
    if where == "import":
        return None, f"nvidia-ml-py cannot be imported: {words}"
    if opened == "denied":
        return "denied", f"this user may not open /dev/nvidiactl ({words})"
    if where == "init" and code == 4:
        return "denied", f"this user may not use the NVIDIA driver ({words})"
    if (where, code) in (("init", 18), ("cuda", 803)):
        version = _library_version(traces.nvml or traces.libcuda)
        library = f"the library {version}" if version else "its library of another version"
        return "mismatch", f"the NVIDIA kernel module is {traces.module or 'of one version'}, {library}"
    if where == "init" and code == 9:
        if traces.module is not None and not traces.control:
            return "half-installed", _no_libraries(traces)
        return "half-installed", "the NVIDIA libraries are installed, but the kernel module is not loaded"
    name = "NVML" if where == "init" else "libcuda"
    return "half-installed", f"{name} does not start: {words}" + (f" (error {code})" if code else "")


def _no_libraries(traces: Traces) -> str:
    module = f"the NVIDIA kernel module {traces.module}" if traces.module else "an NVIDIA device"
    missing = [] if traces.control or traces.wsl or traces.tegra else ["no /dev/nvidiactl"]
    missing += [] if traces.libcuda else [f"no {LIBRARIES[0]}"]
    hint = "" if traces.control or traces.wsl or traces.tegra else " (a container started without its GPUs?)"
    return f"{module} is there, but {' and '.join(missing)}{hint}"


def _library_version(path: str | None) -> str | None:
    # libnvidia-ml.so.1 is a link to libnvidia-ml.so.550.54.14
    version = os.path.basename(os.path.realpath(path)).partition(".so.")[2] if path else ""
    return version if "." in version else None


def _failed(traces: Traces, answer: Answer, status: str | None, reason: str) -> tuple[Observed, Observed]:
    unreadable: dict[str, str] = {}
    drivers: dict[str, Any] = {"libcuda": traces.libcuda}
    if reason:
        drivers["nvidia_reason"] = reason
    _put(drivers, unreadable, "/drivers", "nvidia_status", Unreadable(reason) if status is None else status)
    # below the libraries there is nothing: no version, no device
    empty = status == "absent" or (status == "half-installed" and not traces.kernel and sys.platform != "win32")
    unknown = Unreadable(reason)
    for name, value in (
        ("nvidia", traces.module or answer.driver or (None if empty else unknown)),
        ("cuda", answer.cuda or (None if status == "absent" else unknown)),
        ("nvidia_devices", traces.gpus or answer.count or (0 if empty else unknown)),
    ):
        _put(drivers, unreadable, "/drivers", name, value)
    if empty:
        return Observed(drivers, unreadable), Observed([])
    return Observed(drivers, unreadable), Observed(None, {"/accelerators": reason})


def _put(section: dict[str, Any], unreadable: dict[str, str], pointer: str, name: str, value: Any) -> None:
    if isinstance(value, Unreadable):
        unreadable[f"{pointer}/{name}"] = value.reason
    else:
        section[name] = value


def _answered(traces: Traces, answer: Answer, environ: Mapping[str, str]) -> tuple[Observed, Observed]:
    if isinstance(answer.count, Unreadable):
        return _failed(traces, answer, "half-installed", f"NVML does not count the devices: {answer.count.reason}")
    if isinstance(answer.libcuda, Unreadable):
        reason = f"the NVIDIA driver answers, but {LIBRARIES[0]} cannot be loaded: {answer.libcuda.reason}"
        return _failed(traces, answer, "half-installed", reason)
    if answer.denied and not answer.gpus:
        return _failed(traces, answer, "denied", f"this user may not open any of the {answer.denied} NVIDIA devices")
    unreadable: dict[str, str] = {}
    drivers: dict[str, Any] = {"nvidia_status": "ok", "nvidia_devices": answer.count}
    unnamed = Unreadable("the loader finds it in a place that was not looked at") if answer.libcuda else None
    _put(drivers, unreadable, "/drivers", "libcuda", traces.libcuda or unnamed)
    driver = answer.driver if isinstance(answer.driver, str) else traces.module
    _put(drivers, unreadable, "/drivers", "nvidia", driver or answer.driver or Unreadable("libcuda does not say"))
    _put(drivers, unreadable, "/drivers", "cuda", answer.cuda or Unreadable("the driver does not say"))
    major = visible.strtoul(driver or "") or 0
    seen = visible.cuda(answer.gpus, environ, major)
    if isinstance(seen, Unreadable):
        return Observed(drivers, unreadable), Observed(None, {"/accelerators": seen.reason})
    hidden = [seen.hidden] if seen.hidden else []
    if answer.denied:
        hidden.append(f"this user may not open {answer.denied} of {answer.count} NVIDIA devices")
    if hidden:
        drivers["nvidia_hidden"] = "; ".join(hidden)
    return Observed(drivers, unreadable), accelerators(seen.devices)


def accelerators(devices: Sequence[tuple[Gpu, Instance | None]]) -> Observed:
    """The section `accelerators` for devices in CUDA's order."""
    entries: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for index, (gpu, instance) in enumerate(devices):
        entry: dict[str, Any] = {"kind": "cuda", "index": index}
        source = gpu if instance is None else instance
        for name, value in (
            ("name", source.name),
            ("compute_capability", gpu.capability),
            ("memory_total", source.memory_total),
            ("memory_free", source.memory_free),
            ("mig", gpu.mig),
            ("uuid", source.uuid),
        ):
            _put(entry, unreadable, f"/accelerators/{index}", name, value)
        entries.append(entry)
    return Observed(entries, unreadable)


def initialised_devices(modules: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The devices of a torch that has initialised CUDA (or ROCm) in this process; None where none has.

    Free memory is left out: asking for it makes a context on every device.
    """
    cuda = getattr(modules.get("torch"), "cuda", None)
    if cuda is None or not getattr(cuda, "is_initialized", bool)():
        return None
    hip = getattr(modules["torch"].version, "hip", None)
    devices: list[dict[str, Any]] = []
    for index in range(cuda.device_count()):
        facts = cuda.get_device_properties(index)
        device = {"kind": "rocm" if hip else "cuda", "index": index, "name": facts.name}
        if hip:
            device["arch"] = facts.gcnArchName.partition(":")[0]
        else:
            device["compute_capability"] = f"{facts.major}.{facts.minor}"
        device["memory_total"] = facts.total_memory
        uuid = getattr(facts, "uuid", None)  # torch 2.5 and newer
        if uuid is not None:
            device["uuid"] = f"GPU-{uuid}"
        devices.append(device)
    return devices


def _initialised(traces: Traces, devices: list[dict[str, Any]]) -> tuple[Observed, Observed]:
    unreadable: dict[str, str] = {}
    drivers: dict[str, Any] = {"nvidia_status": "ok", "libcuda": traces.libcuda}
    reason = Unreadable("CUDA is initialised in this process; the driver was not asked again")
    ask = getattr(sys.modules["torch"]._C, "_cuda_getDriverVersion", None)
    _put(drivers, unreadable, "/drivers", "nvidia", traces.module or reason)
    _put(drivers, unreadable, "/drivers", "cuda", _cuda_version(ask()) if ask else reason)
    _put(drivers, unreadable, "/drivers", "nvidia_devices", traces.gpus or reason)
    return Observed(drivers, unreadable), Observed(devices)


def _folder_of_pynvml() -> str | None:
    # ours first: the folder that envguard itself lies in
    beside = os.path.dirname(os.path.dirname(os.path.dirname(_CHILD)))
    for folder in (beside, *sys.path):
        if os.path.isabs(folder) and (
            os.path.isfile(os.path.join(folder, "pynvml.py")) or os.path.isdir(os.path.join(folder, "pynvml"))
        ):
            return folder
    return None


def _start(arguments: list[str], environ: Mapping[str, str], limit: float, traces: Traces) -> Child | tuple[None, str]:
    import time

    if not sys.executable or getattr(sys, "frozen", False):
        return None, "the NVIDIA driver is asked by a second Python, and this program has none"
    asked = {key: value for key, value in environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    asked["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    library = traces.nvml or traces.libcuda or ""
    if loader.NIXOS in library:
        asked["LD_LIBRARY_PATH"] = ":".join(filter(None, (asked.get("LD_LIBRARY_PATH"), os.path.dirname(library))))
    command = [sys.executable, "-I", "-S", _CHILD, *arguments]
    until = time.monotonic() + limit
    try:
        return start(command, asked, until)
    except OSError as error:
        return None, f"the process that asks the NVIDIA driver does not start: {error.strerror or error}"
