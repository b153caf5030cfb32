"""The small files in which a kernel says what it knows."""

from __future__ import annotations

import os


def text(path: str, most: int = 1 << 14) -> str:
    """The text of a file, "" where there is none or it may not be read: for /proc and /sys both mean "says nothing"."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, most).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
