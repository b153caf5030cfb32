"""The GPUs that this process can use and their drivers: NVIDIA, AMD, Intel and Apple joined.

Devices stand in torch's order of kinds (cuda, rocm, xpu, mps), each kind with its own numbering. Where one kind could
not be read, those before it stand alone; where there are none before it, the whole section is unreadable.

Here is also all that a machine without a GPU pays for: the traces that drivers leave in its files. A maker's own module
is loaded only where there are some.
"""

from __future__ import annotations

import os
import sys

from envguard.frozen import Frozen
from envguard.probes import Observed, loader
from envguard.probes.folders import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LIBRARIES = ("nvcuda.dll", "nvml.dll") if sys.platform == "win32" else ("libcuda.so.1", "libnvidia-ml.so.1")
_TEGRA = ("dev/nvhost-ctrl-gpu", "dev/nvgpu", "dev/nvmap")
SECONDS = 5.0
_NOTHING = {"nvidia_status": "absent", "nvidia_devices": 0, **dict.fromkeys(("nvidia", "cuda", "libcuda"))}
_ABSENT = "absent"  # for `pending`
# On Windows nothing but these files tells of other GPUs; the drivers bring them
_WINDOWS = {
    "rocm": ("AMD", ("amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")),
    "level_zero": ("Intel", ("ze_loader.dll",)),
}


class Traces(Frozen):
    """What the files say: module version, device nodes, and the libraries that the loader finds."""

    module: str | None = None
    control: bool = False
    wsl: bool = False
    tegra: bool = False
    libcuda: str | None = None
    nvml: str | None = None
    gpus: int | None = None

    @property
    def kernel(self) -> bool:
        """Whether there is anything below the libraries. WSL has the same node for the GPUs of all makers."""
        library = self.libcuda is not None or self.nvml is not None
        return self.module is not None or self.control or self.tegra or (self.wsl and library)

    @property
    def none(self) -> bool:
        """Whether there is no driver."""
        return not self.kernel and self.libcuda is None and self.nvml is None


def begin(environ: Mapping[str, str], system: str, root: str = "/", limit: float = SECONDS) -> Any:
    """Start what takes long, to be given to `accelerators` as `pending` after other work."""
    if system == "Darwin" or _initialised():
        return None
    if read_traces(environ, root).none:
        return _ABSENT
    from envguard.probes import nvidia

    return nvidia.begin(environ, root, limit)


def accelerators(
    environ: Mapping[str, str],
    system: str,
    root: str = "/",
    limit: float = SECONDS,
    pending: Any = None,
    full: bool = False,
) -> tuple[Observed, Observed]:
    """The sections `drivers` and `accelerators`; a value of None for the latter means that it could not be read."""
    if system == "Darwin":
        from envguard.probes.apple import apple

        own = os.uname()
        drivers = Observed({**_NOTHING, "rocm": None, "level_zero": None})
        return drivers, apple(own.machine, own.release, full)
    parts = [_nvidia(environ, root, limit, pending)]
    if system == "Windows":
        parts += _windows(environ)
    else:
        parts += [_amd(environ, root), _intel(environ, root)]
    return _joined([part[0] for part in parts]), _devices([part[1] for part in parts])


def _initialised() -> list[dict[str, Any]] | None:
    if "torch" not in sys.modules:
        return None
    from envguard.probes.nvidia import initialised_devices

    return initialised_devices(sys.modules)


def _nvidia(environ: Mapping[str, str], root: str, limit: float, pending: Any) -> tuple[Observed, Observed]:
    if pending is _ABSENT or (pending is None and not _initialised() and read_traces(environ, root).none):
        return Observed(_NOTHING), Observed([])
    from envguard.probes.nvidia import nvidia

    return nvidia(environ, root, limit, pending)


def _amd(environ: Mapping[str, str], root: str) -> tuple[Observed, Observed]:
    if not any(os.path.exists(os.path.join(root, place)) for place in ("dev/kfd", "sys/module/amdgpu")):
        return Observed({"rocm": None}), Observed([])
    from envguard.probes.amd import amd

    drivers, devices = amd(environ, root)
    initialised = _initialised()
    if initialised and initialised[0]["kind"] == "rocm":
        return drivers, Observed(initialised)
    return drivers, devices


def _intel(environ: Mapping[str, str], root: str) -> tuple[Observed, Observed]:
    if not os.path.exists(os.path.join(root, "dev/dri")):
        return Observed({"level_zero": None}), Observed([])
    from envguard.probes.intel import intel

    return intel(environ, root)


def _windows(environ: Mapping[str, str]) -> list[tuple[Observed, Observed]]:
    parts = []
    for name, (maker, libraries) in _WINDOWS.items():
        found = next(filter(None, loader.find(libraries, environ)), None)
        if found is None:
            parts.append((Observed({name: None}), Observed([])))
        else:
            reason = f"{found} is there; {maker} GPUs are not looked at on Windows"
            parts.append((Observed({}, {f"/drivers/{name}": reason}), Observed(None, {"/accelerators": reason})))
    return parts


def _joined(parts: list[Observed]) -> Observed:
    value: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for part in parts:
        value.update(part.value)
        unreadable.update(part.unreadable)
    return Observed(value, unreadable)


def _devices(parts: list[Observed]) -> Observed:
    value: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for part in parts:
        if part.value is None:
            return Observed(value or None, {**unreadable, **part.unreadable})
        value += part.value
        unreadable.update(part.unreadable)
    return Observed(value, unreadable)


def read_traces(environ: Mapping[str, str], root: str = "/") -> Traces:
    """What the files say about the driver."""
    libcuda, nvml = loader.find(LIBRARIES, environ, root)
    if sys.platform == "win32":
        return Traces(libcuda=libcuda, nvml=nvml, control=False)
    module = parse_nvrm(text(os.path.join(root, "proc/driver/nvidia/version")))
    if module is None:
        module = text(os.path.join(root, "sys/module/nvidia/version")).strip() or None
    there = os.path.exists
    return Traces(
        module=module,
        control=there(os.path.join(root, "dev/nvidiactl")),
        wsl=there(os.path.join(root, "dev/dxg")),
        tegra=any(there(os.path.join(root, node)) for node in _TEGRA),
        libcuda=libcuda,
        nvml=nvml,
        gpus=_entries(os.path.join(root, "proc/driver/nvidia/gpus")) if module is not None else None,
    )


def parse_nvrm(content: str) -> str | None:
    """The version in /proc/driver/nvidia/version, of the closed and of the open kernel module."""
    for word in content.partition("\n")[0].split():
        parts = word.split(".")
        if len(parts) > 1 and all(part.isascii() and part.isdecimal() for part in parts):
            return word
    return None


def _entries(folder: str) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None
