"""The GPUs that this process can use and their drivers: NVIDIA, AMD, Intel and Apple joined.

Devices stand in torch's order of kinds (cuda, rocm, xpu, mps), each kind with its own numbering. Where one kind could
not be read, those before it stand alone; where there are none before it, the whole section is unreadable.
"""

from __future__ import annotations

import os
import sys

from envguard.probes import Observed, loader
from envguard.probes.nvidia_traces import read_traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SECONDS = 5.0
_NOTHING = {"nvidia_status": "absent", "nvidia_devices": 0, **dict.fromkeys(("nvidia", "cuda", "libcuda"))}
_ABSENT = "absent"  # for `pending`
# On Windows nothing but these files tells of other GPUs; the drivers bring them
_WINDOWS = {
    "rocm": ("AMD", ("amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")),
    "level_zero": ("Intel", ("ze_loader.dll",)),
}


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
