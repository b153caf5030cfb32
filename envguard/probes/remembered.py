"""What slow probes found, and what a check came to, remembered between processes in the user's cache folder.

An answer a file. They only save time: none is read where somebody else could have written it, and whatever is wrong
with one means to look again.
"""

from __future__ import annotations

import os
import sys

from envguard.jsontext import parse, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_START = b'{"format":3,"key":'
_ENDING, _UNFINISHED = ".json", ".tmp"
_LONGEST = 1 << 22  # bytes
_MOST = 40  # answers


def is_off(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether nothing is to be remembered."""
    return environ.get("ENVGUARD_CACHE") == "0"


def folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str | None:
    """The folder of the answers, None where there is to be none (ENVGUARD_CACHE=0) or no place for it is known."""
    if is_off(environ):
        return None
    home = environ.get("USERPROFILE" if platform == "win32" else "HOME", "")
    if platform == "win32":
        base = environ.get("LOCALAPPDATA", "")
    elif platform == "darwin":
        base = os.path.join(home, "Library", "Caches") if home else ""
    else:
        base = environ.get("XDG_CACHE_HOME", "") or (os.path.join(home, ".cache") if home else "")
    return os.path.join(base, "envguard") if os.path.isabs(base) else None


def recall(key: str, folder: str | None) -> Any:
    """What was remembered under a key; None for nothing."""
    data = _read(folder, _name(key)) if folder else b""
    try:
        entry = parse(data.decode("ascii")) if data.startswith(_START) else None
        return entry["answer"] if entry and entry["key"] == key else None
    except (
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
        StopIteration,
        SystemError,
    ):  # the last of 3.10 and 3.11
        return None


def remember(key: str, answer: Any, folder: str | None) -> None:
    """Keep an answer (a JSON value) under a key. Where that cannot be done it is left."""
    if not folder:
        return
    text = written({"format": 3, "key": key, "answer": answer})
    new = os.path.join(folder, f"{os.getpid()}-{_name(key)}{_UNFINISHED}")
    try:
        if len(text) > _LONGEST or not _make(folder):
            return
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
            opened.write(text)
        os.replace(new, os.path.join(folder, _name(key)))
        _forget(folder)
    except OSError:
        _remove(new)


def _make(folder: str) -> bool:
    """Make the folder, in a home that is ours. False where somebody else could write there."""
    parent = os.path.dirname(folder)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if hasattr(os, "getuid") and os.stat(parent).st_uid != os.getuid():  # sudo that keeps HOME
        return False
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return _ours(os.stat(folder))


def _forget(folder: str) -> None:
    """Remove the oldest answers, so that there are never many."""
    with os.scandir(folder) as entries:
        endings = (_ENDING, _UNFINISHED)
        found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name.endswith(endings)]
    for _, path in sorted(found)[:-_MOST]:
        _remove(path)


def _name(key: str) -> str:
    """The file of a key; keys that share one displace each other."""
    import _imp  # built in; `hashlib` would take longer than all else here

    return _imp.source_hash(0, key.encode("utf-8", "surrogatepass")).hex() + _ENDING


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _read(folder: str, name: str) -> bytes:
    """A file; empty where it is missing or not ours."""
    try:
        if not _ours(os.stat(folder)):
            return b""
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(os.path.join(folder, name), flags)
        try:
            status = os.fstat(descriptor)
            return os.read(descriptor, min(status.st_size, _LONGEST)) if _ours(status) else b""
        finally:
            os.close(descriptor)
    except OSError:
        return b""


def _ours(status: os.stat_result) -> bool:
    """Whether nobody but this user can write there."""
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
