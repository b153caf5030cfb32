"""Where the dynamic loader finds a library by its name, without loading it.

In the order of ld.so(8): LD_LIBRARY_PATH, the cache that ldconfig wrote, the default folders; last the folder in which
NixOS keeps driver libraries, where its patched programs look. Windows: System32, where drivers put theirs.
The cache is read as bytes: `ldconfig -p` would be a process, and the file has thousands of entries of which few matter.
"""

from __future__ import annotations

import os
import sys

from envguard.probes.folders import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal

NIXOS = "run/opengl-driver/lib"
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER, _ENTRY = 48, 24  # bytes
_LARGEST = 16 << 20  # of a cache that is read
_DEFAULTS = ("lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib")


def find(names: Sequence[str], environ: Mapping[str, str], root: str = "/") -> list[str | None]:
    """The file that the loader takes for each of `names`, None where it finds none."""
    if sys.platform == "win32":
        folder = os.path.join(environ.get("SYSTEMROOT") or environ.get("SystemRoot") or "C:\\Windows", "System32")
        return [next(_present((folder,), name), None) for name in names]
    asked = [entry or os.curdir for entry in environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")]
    folders = asked if environ.get("LD_LIBRARY_PATH") else []
    cache = _read(os.path.join(root, "etc/ld.so.cache"))
    machine = os.uname().machine
    multiarch = (f"lib/{machine}-linux-gnu", f"usr/lib/{machine}-linux-gnu")
    defaults = [os.path.join(root, folder) for folder in (*multiarch, *_DEFAULTS, NIXOS)]
    return [_first(name, folders, cache, defaults, root) for name in names]


def _first(name: str, folders: Sequence[str], cache: bytes, defaults: Sequence[str], root: str) -> str | None:
    cached = (os.path.join(root, path.lstrip("/")) for path in in_cache(cache, name))
    for found in (_present(folders, name), filter(_loads, cached), _present(defaults, name)):
        path = next(found, None)
        if path is not None:
            return path
    return None


def _present(folders: Sequence[str], name: str) -> Iterator[str]:
    paths = (os.path.join(folder, name) for folder in folders)
    return filter(_loads, paths)


def _loads(path: str) -> bool:
    # the loader passes over libraries of the other word size
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        start = os.read(descriptor, 5)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return start == (b"\x7fELF\x02" if sys.maxsize > 1 << 32 else b"\x7fELF\x01") or sys.platform == "win32"


def _read(path: str) -> bytes:
    try:
        return read(path, _LARGEST)
    except OSError:
        return b""


def in_cache(cache: bytes, name: str) -> list[str]:
    """The paths that ld.so.cache has for a library, in its order.

    An entry is 24 bytes: flags, offset of the name, offset of the path, and what it asks of system and processor.
    """
    start = cache.find(_MAGIC)  # an older cache may stand before it
    if start < 0 or cache.find(name.encode() + b"\0", start) < 0:
        return []
    order: Literal["little", "big"] = "big" if cache[start + 28 : start + 29] == b"\3" else "little"
    count = int.from_bytes(cache[start + 20 : start + 24], order)
    table = cache[start + _HEADER : start + _HEADER + min(count, len(cache) // _ENTRY) * _ENTRY]
    found = []
    for offset in _occurrences(cache[start:], name.encode() + b"\0"):
        for at in _occurrences(table, offset.to_bytes(4, order)):
            if at % _ENTRY == 4:
                place = start + int.from_bytes(table[at + 4 : at + 8], order)
                found.append((at, cache[place : cache.find(b"\0", place)].decode("utf-8", "surrogateescape")))
    return [path for _, path in sorted(found) if path.startswith("/")]


def _occurrences(data: bytes, wanted: bytes) -> Iterator[int]:
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)
