"""The C++ library of the machine, and the newest symbol versions that it offers.

The libstdc++.so.6 beside a conda Python comes first: its executable carries an RPATH to that folder, which the loader
looks into before LD_LIBRARY_PATH, also when a virtual environment was made from it. Then as for every library. A wheel
that brings a libstdc++ of its own has it under another name.
"""

from __future__ import annotations

import os
import sys

from envguard.probes import Observed
from envguard.probes.folders import read
from envguard.probes.loader import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

_VERDEF = 0x6FFFFFFD  # the type of the section .gnu.version_d
_LARGEST = 1 << 26  # bytes of a library that is read
_PREFIXES = {"libstdcxx": "GLIBCXX_", "cxxabi": "CXXABI_"}


def libstdcxx(base_prefix: str, environ: Mapping[str, str], root: str = "/") -> Observed:
    """The facts `libstdcxx` and `cxxabi` of section `host`; null where the loader finds no libstdc++."""
    file = libstdcxx_file(base_prefix, environ, root) if sys.platform == "linux" else None
    try:
        versions = [] if file is None else defined_versions(read(file, _LARGEST))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Observed({}, {f"/host/{key}": f"{file} cannot be read: {reason}" for key in _PREFIXES})
    return Observed({key: newest(versions, prefix) for key, prefix in _PREFIXES.items()})


def newest(versions: Iterable[str], prefix: str) -> str | None:
    """The highest of the versions that begin with a prefix such as GLIBCXX_."""
    numbers = [name[len(prefix) :].split(".") for name in versions if name.startswith(prefix)]
    plain = [tuple(map(int, parts)) for parts in numbers if all(part.isdecimal() for part in parts)]
    return ".".join(map(str, max(plain))) if plain else None


def defined_versions(library: bytes) -> list[str]:
    """The symbol versions that an ELF library offers (section .gnu.version_d). Raises ValueError for other files."""
    if library[:4] != b"\x7fELF" or len(library) < 64:
        raise ValueError("it is not an ELF file")
    wide = library[4] == 2
    order: Literal["little", "big"] = "little" if library[5] == 1 else "big"

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(library[at : at + size], order)

    word = 8 if wide else 4
    step_at, offset_at, link_at, info_at = (58, 24, 40, 44) if wide else (46, 16, 24, 28)
    table = number(40 if wide else 32, word)
    step, count = number(step_at, 2), number(step_at + 2, 2)
    for section in range(table, table + step * count, step or 1):
        if number(section + 4) == _VERDEF:
            at = number(section + offset_at, word)
            texts = number(table + step * number(section + link_at) + offset_at, word)
            names = []
            for _ in range(number(section + info_at)):
                begin = texts + number(at + number(at + 12))
                names.append(library[begin : library.find(b"\0", begin)].decode("ascii", "replace"))
                step = number(at + 16)
                if step == 0:
                    break
                at += step
            return names
    raise ValueError("it has no table of versions")


def libstdcxx_file(base_prefix: str, environ: Mapping[str, str], root: str = "/") -> str | None:
    """The libstdc++.so.6 that a library loaded by this Python would get."""
    own = os.path.join(base_prefix, "lib", "libstdc++.so.6")
    if os.path.isdir(os.path.join(base_prefix, "conda-meta")) and os.path.isfile(own):
        return own
    return find(("libstdc++.so.6",), environ, root)[0]
