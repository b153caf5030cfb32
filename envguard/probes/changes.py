"""Whether anything may have changed since a check, seen in a fraction of a millisecond.

Installing, upgrading or removing a package changes a folder of the search path, since its metadata folder bears its
version; what the rest of a check reads are variables, sys.path and whether CUDA has been initialised. None of it is
recorded.
"""

from __future__ import annotations

import os
import sys

from envguard.probes.variables import RECORDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def stamp() -> tuple[Any, ...]:
    """Equal stamps, nothing changed: the search path with its folders' times (ns), variables, CUDA's state."""
    environ = os.environ.get
    torch = sys.modules.get("torch.cuda")
    return (
        tuple([(entry, _changed(entry)) for entry in sys.path]),
        tuple([environ(name) for name in RECORDED]),
        environ("PATH"),
        bool(torch is not None and torch.is_initialized()),
    )


def _changed(folder: str) -> int | None:
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except (OSError, ValueError):
        return None
