"""The main memory that is free: what the kernel calls available, or less where a control group allows less."""

from __future__ import annotations

import os

from envguard.model import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def free_memory(root: str = "/") -> Any:
    """Bytes, or Unreadable.

    In this order: MemAvailable of /proc/meminfo, cut to what the control group (version 2, then 1) leaves; the pages
    that sysconf calls available. macOS tells neither.
    """
    available = parse_meminfo(_text(os.path.join(root, "proc/meminfo")))
    if available is None:
        available = _pages()
    left = _left(root)
    known = [number for number in (available, left) if number is not None]
    return min(known) if known else Unreadable("the system does not say how much memory is free")


def parse_meminfo(text: str) -> int | None:
    """MemAvailable in bytes."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            words = rest.split()
            return int(words[0]) * 1024 if words and words[0].isdigit() else None
    return None


def _left(root: str) -> int | None:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = os.path.join(root, "sys/fs/cgroup")
        most, now = _text(os.path.join(folder, limit)).strip(), _text(os.path.join(folder, used)).strip()
        if most.isdigit() and now.isdigit():  # "max" where there is no limit
            return max(int(most) - int(now), 0)
    return None


def _pages() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; macOS
        return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""
