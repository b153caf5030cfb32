"""What the files of a machine say about an NVIDIA driver. All that a machine without one pays for.

The kernel module's version (/proc/driver/nvidia/version, /sys/module/nvidia/version), /dev/nvidiactl, what WSL and
Jetson have instead, and which libcuda and NVML the loader would take.
"""

from __future__ import annotations

import os
import sys

from envguard.frozen import Frozen
from envguard.probes import loader
from envguard.probes.folders import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES = ("nvcuda.dll", "nvml.dll") if sys.platform == "win32" else ("libcuda.so.1", "libnvidia-ml.so.1")
_TEGRA = ("dev/nvhost-ctrl-gpu", "dev/nvgpu", "dev/nvmap")


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
