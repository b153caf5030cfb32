"""Intel GPUs, as the XPU build of torch sees them, from files alone.

- devices: the render nodes of /dev/dri whose PCI vendor is Intel; at bus address 0000:00:02.0 it is the one inside the
  processor, which torch leaves out where there is another (c10/xpu/XPUFunctions.cpp)
- they are visible where the loader finds Level Zero and Intel's driver for it
- Level Zero's version: the file that libze_loader.so.1 is a link to
- names and memory are in none of these files
"""

from __future__ import annotations

import os

from envguard.model import Unreadable
from envguard.probes import Observed, loader, visible
from envguard.probes.folders import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_INTEL = "0x8086"
_INTEGRATED = "0000:00:02.0"
_LIBRARIES = ("libze_loader.so.1", "libze_intel_gpu.so.1")


def intel(environ: Mapping[str, str], root: str = "/") -> tuple[Observed, Observed]:
    """The Level Zero part of `drivers` and the devices of kind `xpu`."""
    addresses = _addresses(root)
    if not addresses:
        return Observed({"level_zero": None}), Observed([])
    library, driver = loader.find(_LIBRARIES, environ, root)
    drivers: dict[str, Any] = {"level_zero": _version(library)}
    unreadable: dict[str, str] = {}
    if library is not None and drivers["level_zero"] is None:
        del drivers["level_zero"]
        unreadable["/drivers/level_zero"] = f"{library} does not name its version"
    if library is None or driver is None:
        missing = _LIBRARIES[0] if library is None else _LIBRARIES[1]
        drivers["level_zero_reason"] = f"an Intel GPU is there, but no {missing}"
        return Observed(drivers, unreadable), Observed([])
    discrete = [address for address in addresses if address != _INTEGRATED]
    seen = visible.xpu(len(discrete or addresses), environ)
    if isinstance(seen, Unreadable):
        return Observed(drivers, unreadable), Observed(None, {"/accelerators": seen.reason})
    if seen.hidden:
        drivers["level_zero_hidden"] = seen.hidden
    return Observed(drivers, unreadable), Observed(
        [{"kind": "xpu", "index": index, "name": None} for index in range(len(seen.devices))]
    )


def _addresses(root: str) -> list[str]:
    # PCI addresses of the render nodes that are Intel's and that this user may open, in bus order
    try:
        nodes = [name for name in os.listdir(os.path.join(root, "dev/dri")) if name.startswith("renderD")]
    except OSError:
        return []
    found = []
    for node in nodes:
        device = os.path.join(root, "sys/class/drm", node, "device")
        if text(os.path.join(device, "vendor")).strip() == _INTEL and os.access(
            os.path.join(root, "dev/dri", node), os.R_OK | os.W_OK
        ):
            found.append(os.path.basename(os.path.realpath(device)))
    return sorted(found)


def _version(library: str | None) -> str | None:
    version = os.path.basename(os.path.realpath(library)).partition(".so.")[2] if library else ""
    return version if "." in version else None
