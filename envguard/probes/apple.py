"""The GPU of a Mac with Apple silicon, as torch's MPS backend sees it.

- it is there from macOS 12.3 on (pytorch.org/docs/stable/notes/mps.html), whose kernel is Darwin 21.4, in a Python
  that was built for arm64: under Rosetta torch has no MPS
- its name is the processor's; asking for it starts a process, so only a full snapshot does
- its memory is the machine's: not looked at
"""

from __future__ import annotations

import os

from envguard.model import Unreadable
from envguard.probes import Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIRST = (21, 4)


def apple(machine: str, release: str, full: bool = False) -> Observed:
    """The devices of kind `mps`, from os.uname(); with their names where `full` is set."""
    version = parse_release(release)
    if machine != "arm64" or version < _FIRST:
        return Observed([])
    device: dict[str, Any] = {"kind": "mps", "index": 0}
    if not full:
        return Observed([device])
    name = _name()
    if isinstance(name, Unreadable):
        return Observed([device], {"/accelerators/0/name": name.reason})
    return Observed([{**device, "name": name}])


def parse_release(release: str) -> tuple[int, ...]:
    """(21, 4) of Darwin's release `21.4.0`; () of anything else."""
    parts = release.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isascii() and part.isdecimal() for part in parts) else ()


def _name() -> str | Unreadable:
    import subprocess

    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=5, env={"PATH": os.defpath}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Unreadable(f"sysctl does not say: {error}")
    return answer.stdout.strip() or Unreadable("sysctl does not say")
