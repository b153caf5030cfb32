"""Asks the NVIDIA driver what is there: a program of its own, because nobody can end a thread that a hung driver holds.

    python -I -S nvml_child.py nvml FOLDER             FOLDER holds nvidia-ml-py
    python -I -S nvml_child.py nvml FOLDER libcuda     and say whether libcuda can be loaded
    python -I -S nvml_child.py cuda                    by libcuda, where the driver comes without NVML

It prints a fact a line, its fields parted by tabs, as soon as it has it, and `end`. `!3 Not Supported` in place of a
value says why there is none. Nothing here may import envguard: -S leaves site-packages out.

NVML through nvidia-ml-py, not by hand: it knows the structures of every driver. Its import costs two bare interpreter
starts; half of that is ctypes.util, which it imports and never uses, so it gets an empty one.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOT_SUPPORTED, _NO_FUNCTION = 3, 13
_SM_CLOCK = 1


def say(*fields: object) -> None:
    """Print one fact."""
    cells = ("".join(letter if letter.isprintable() else "?" for letter in str(field)) for field in fields)
    os.write(1, ("\t".join(cells) + "\n").encode("utf-8", "backslashreplace"))


def nvml(folder: str, with_libcuda: bool) -> None:
    """Ask NVML."""
    unused: Any = type(sys)("ctypes.util")
    unused.find_library = None
    sys.modules["ctypes.util"] = unused
    sys.path.append(folder)
    try:
        library: Any = __import__("pynvml")
    except Exception as error:  # noqa: BLE001  a foreign module of that name may raise anything
        say("error", "import", 0, f"{type(error).__name__}: {error}")
        return

    def ask(name: str, *arguments: Any) -> Any:
        # a value, or the refusal as text
        try:
            value = getattr(library, name)(*arguments)
        except AttributeError:
            return f"!{_NO_FUNCTION} {name} is unknown"
        except library.NVMLError as error:
            return f"!{error.value} {error}"
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    started = ask("nvmlInit")
    if started is not None:
        code, _, text = started[1:].partition(" ")
        say("error", "init", code, text, _opened())
        return
    say("driver", ask("nvmlSystemGetDriverVersion"))
    say("cuda", ask("nvmlSystemGetCudaDriverVersion_v2"))
    count = ask("nvmlDeviceGetCount")
    say("count", count)
    names = []
    for index in range(count if isinstance(count, int) else 0):
        device = ask("nvmlDeviceGetHandleByIndex", index)
        if isinstance(device, str):
            say("denied", index, device)
            continue
        mode = ask("nvmlDeviceGetMigMode", device)
        mig = mode[0] if not isinstance(mode, str) else 0 if _code(mode) in (_NOT_SUPPORTED, _NO_FUNCTION) else mode
        names.append((index, device, _describe(ask, device)))
        say("device", index, *names[-1][2], mig)
        if mig == 1:
            _instances(ask, index, device)
    if len({each[2][1] for each in names}) > 1:
        for index, device, _ in names:
            cores, clock = ask("nvmlDeviceGetNumGpuCores", device), ask("nvmlDeviceGetMaxClockInfo", device, _SM_CLOCK)
            if isinstance(cores, int) and isinstance(clock, int):
                say("speed", index, cores * clock)
    if with_libcuda:
        loaded = _libcuda()
        say("libcuda", f"!0 {loaded}" if isinstance(loaded, OSError) else "loaded")
    say("end")


def _libcuda() -> Any:
    import ctypes

    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        return error


def _describe(ask: Any, device: Any) -> tuple[Any, ...]:
    capability = ask("nvmlDeviceGetCudaComputeCapability", device)
    memory = ask("nvmlDeviceGetMemoryInfo", device)
    return (
        ask("nvmlDeviceGetUUID", device),
        ask("nvmlDeviceGetName", device),
        capability if isinstance(capability, str) else f"{capability[0]}.{capability[1]}",
        *((memory, memory) if isinstance(memory, str) else (memory.total, memory.free)),
    )


def _instances(ask: Any, index: int, device: Any) -> None:
    most = ask("nvmlDeviceGetMaxMigDeviceCount", device)
    for number in range(most if isinstance(most, int) else 0):
        instance = ask("nvmlDeviceGetMigDeviceHandleByIndex", device, number)
        if not isinstance(instance, str):
            uuid, name, _, total, free = _describe(ask, instance)
            places = ask("nvmlDeviceGetGpuInstanceId", instance), ask("nvmlDeviceGetComputeInstanceId", instance)
            say("mig", index, uuid, name, total, free, *places)


def _code(refusal: str) -> int:
    return int(refusal[1:].partition(" ")[0])


def _opened() -> str:
    # a control group may deny what the permissions of the file allow; opening may hang, so it is tried here
    try:
        os.close(os.open("/dev/nvidiactl", os.O_RDWR))
    except PermissionError:
        return "denied"
    except OSError:
        return "failed"
    return "opened"


def cuda() -> None:
    """Ask libcuda: this initialises CUDA, in this process alone."""
    import ctypes

    library = _libcuda()
    if isinstance(library, OSError):
        say("error", "cuda", 0, library, _opened())
        return
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
        say("cuda", number.value)
    code = library.cuInit(0)
    if code == 100:  # CUDA_ERROR_NO_DEVICE
        say("count", 0)
        say("end")
        return
    if code:
        say("error", "cuda", code, "cuInit failed", _opened())
        return
    library.cuDeviceGetCount(ctypes.byref(number))
    count = number.value
    say("count", count)
    for index in range(count):
        say("device", index, *_describe_cuda(ctypes, library, index), "!0 libcuda does not say")
    say("end")


def _describe_cuda(ctypes: Any, library: Any, index: int) -> tuple[Any, ...]:
    device, number, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(device), index)
    name, raw = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
    library.cuDeviceGetName(name, 256, device)
    capability = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(str(number.value))
    code = library.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    # the function is of CUDA 9.2
    known = hasattr(library, "cuDeviceGetUuid") and library.cuDeviceGetUuid(raw, device) == 0
    digits = raw.raw.hex()
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return (
        f"GPU-{'-'.join(parts)}" if known else "!0 this libcuda gives none",
        name.value.decode("utf-8", "replace"),
        ".".join(capability),
        total.value if code == 0 else f"!{code} cuDeviceTotalMem failed",
        "!0 libcuda gives it to a running program only",
    )


if __name__ == "__main__":
    if sys.argv[1] == "nvml":
        nvml(sys.argv[2], "libcuda" in sys.argv[3:])
    else:
        cuda()
    os._exit(0)  # the library's own clean-up may hang
