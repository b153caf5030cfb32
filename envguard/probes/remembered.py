"""What slow probes found, remembered between processes in one file of the user's cache folder.

The file only saves time. It is not read where somebody else could have written it, and whatever is wrong with it means
that the probe looks again.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FORMAT = 1
_LONGEST = 1 << 21  # bytes
_MOST = 24  # answers


def file(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str | None:
    """The cache file, None where there is to be none (ENVGUARD_CACHE=0) or no place for it is known."""
    if environ.get("ENVGUARD_CACHE") == "0":
        return None
    home = environ.get("USERPROFILE" if platform == "win32" else "HOME", "")
    if platform == "win32":
        base = environ.get("LOCALAPPDATA", "")
    elif platform == "darwin":
        base = os.path.join(home, "Library", "Caches") if home else ""
    else:
        base = environ.get("XDG_CACHE_HOME", "") or (os.path.join(home, ".cache") if home else "")
    return os.path.join(base, "envguard", "facts.json") if os.path.isabs(base) else None


def recall(key: str, path: str | None) -> Any:
    """What was remembered under a key; None for nothing."""
    data = _read(path) if path else b""
    start = data.find(b"\n" + _name(key) + b":")
    if start < 0:
        return None
    end = data.find(b"\n", start + 1)
    entry = _parsed(data[start:end].partition(b":")[2].rstrip(b",")) if end > 0 else None
    return entry["answer"] if isinstance(entry, dict) and entry.get("key") == key and "answer" in entry else None


def remember(key: str, answer: Any, path: str | None) -> None:
    """Keep an answer (a JSON value) under a key. Where that cannot be done it is left."""
    if not path:
        return
    import json
    import tempfile

    entries = _entries(_read(path))
    name = json.loads(_name(key))
    entries.pop(name, None)
    while len(entries) >= _MOST:
        del entries[next(iter(entries))]
    entries[name] = {"key": key, "answer": answer}
    # an entry a line: to recall one, the others need not be read
    lines = ",\n".join([f"{json.dumps(each)}:{json.dumps(entries[each], separators=(',', ':'))}" for each in entries])
    folder = os.path.dirname(path)
    written = None
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if not _ours(folder):
            return
        handle, written = tempfile.mkstemp(dir=folder, prefix="facts-", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="ascii", newline="\n") as opened:
            opened.write(f'{{"format":{_FORMAT},"entries":{{\n{lines}\n}}}}\n')
        os.replace(written, path)
    except OSError:
        if written:
            _remove(written)


def _name(key: str) -> bytes:
    """A short name for a key, quoted; keys that share one displace each other."""
    from binascii import crc32

    return b'"%08x"' % crc32(key.encode("utf-8", "surrogatepass"))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _read(path: str) -> bytes:
    """The file; empty where it is missing, not ours or of another format."""
    try:
        if not _ours(os.path.dirname(path)) or not _ours(path):
            return b""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            data = os.read(descriptor, _LONGEST)
        finally:
            os.close(descriptor)
    except OSError:
        return b""
    return data if data.startswith(b'{"format":%d,"entries":{\n' % _FORMAT) else b""


def _entries(data: bytes) -> dict[str, Any]:
    """All that is remembered; nothing where any of it is broken."""
    table = _parsed(data)
    entries = table.get("entries") if isinstance(table, dict) else None
    return entries if isinstance(entries, dict) else {}


def _parsed(data: bytes) -> Any:
    """A JSON value, None where it is none."""
    try:
        return parse(data.decode("ascii"))
    except (ValueError, LookupError, TypeError, RecursionError, StopIteration):
        return None


def _ours(path: str) -> bool:
    """Whether nobody but this user can write there."""
    if not hasattr(os, "getuid"):
        return True
    status = os.stat(path)
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def parse(text: str) -> Any:
    """A JSON text. By CPython's own scanner where there is one: to import `json` takes longer than to read the file."""
    try:
        from _json import make_scanner, scanstring
    except ImportError:
        from json import loads

        return loads(text)
    context: Any = _Context(scanstring)
    value, end = make_scanner(context)(text, 0)
    if text[end:].strip():
        raise ValueError("more than one JSON value")
    return value


class _Context:
    """What the scanner asks how to read."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    array_hook = None

    def __init__(self, scanstring: Any) -> None:
        self.parse_string = scanstring
        self.memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        """NaN and the like, which nothing here writes."""
        raise ValueError(name)
