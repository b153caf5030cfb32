"""The headers of compiled libraries: for which machine, what they link, which versions of libc and libstdc++ they need.

ELF by its program headers, as the loader reads it; PE with the DLLs that it imports; of Mach-O the machine. Own code:
importing an ELF library costs more than a check, and here a library takes five small reads. A test holds the answers
equal to those of pyelftools. What is read is bounded, whatever a file claims about itself.
"""

from __future__ import annotations

import os

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Sections: TypeAlias = dict[str, list[tuple[int, int]]]  # name -> (offset, size) in the file

_ELF = {
    3: "i386",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_PE = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64"}
_MACH = {7: "i386", 0x01000007: "x86_64", 0x0100000C: "aarch64"}
_LOAD, _DYNAMIC = 1, 2  # kinds of program headers
_NEEDED, _STRINGS, _STRINGS_SIZE, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29  # tags of the dynamic section
_VERNEED, _VERNEED_COUNT = 0x6FFFFFFE, 0x6FFFFFFF
_HEAD, _TEXTS, _TABLE = 4096, 1 << 16, 1 << 14  # bytes of the first read, of names, of a table
_MOST_SECTIONS, _MOST_NAMES, _MOST_SLICES, _MOST_IMPORTS = 512, 1 << 16, 16, 256
_MOST_NEEDS = 1024


class Binary(Frozen):
    """What the headers of a library say; None or () where its format does not tell, or nothing of the kind is there."""

    format: str
    machine: str
    needs: tuple[str, ...] | None = None
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    versions: tuple[str, ...] = ()


def describe(path: str) -> Binary:
    """The headers of a library. Raises OSError, and ValueError where it is none."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        start = pread(descriptor, _HEAD, 0)
        if start[:4] == b"\x7fELF":
            return _elf(descriptor, start)
        if start[:2] == b"MZ":
            return _pe(descriptor, start)
        return _mach(start)
    finally:
        os.close(descriptor)


def _elf(descriptor: int, start: bytes) -> Binary:
    if len(start) < 64:
        raise ValueError("it is cut off")
    order = "<" if start[5:6] != b"\2" else ">"
    machine = int.from_bytes(start[18:20], "little" if order == "<" else "big")
    name = _ELF.get(machine, f"ELF machine {machine}")
    if start[4:6] != b"\x02\x01":  # of another word size or byte order: no Python here loads it
        return Binary("ELF", name if machine != 21 else "ppc64")
    width, count = number(start, 54, 2), number(start, 56, 2)
    if width != 56 or count > 128 or len(start) < 64:
        raise ValueError("its program headers are not valid")
    first = number(start, 32, 8)
    headers = start[first : first + width * count]
    if len(headers) < width * count:
        headers = pread(descriptor, width * count, first)
    loads, dynamic = [], b""
    for at in range(0, len(headers) - width + 1, width):
        kind = number(headers, at, 4)
        offset, address, size = (number(headers, at + place, 8) for place in (8, 16, 32))
        if kind == _LOAD:
            loads.append((address, offset, size))
        elif kind == _DYNAMIC:
            dynamic = pread(descriptor, min(size, _TABLE), offset)
    tags: dict[int, int] = {}
    needed: list[int] = []
    seen = 0
    for at in range(0, len(dynamic) - 15, 16):
        tag, value = number(dynamic, at, 8), number(dynamic, at + 8, 8)
        if tag == 0:
            break
        if tag == _NEEDED and len(needed) < _MOST_NEEDS:
            needed.append(value)
        tags[tag] = value
        seen += 1
    if not seen:
        raise ValueError("it has no dynamic section")
    names = _Texts(descriptor, _place(loads, tags.get(_STRINGS, 0)), tags.get(_STRINGS_SIZE, 0))
    versions = _version_needs(descriptor, loads, tags, names) if _VERNEED in tags else ()
    soname, rpath, runpath = (names.at(tags[tag]) if tag in tags else None for tag in (_SONAME, _RPATH, _RUNPATH))
    return Binary("ELF", name, tuple([names.at(each) for each in needed]), soname, rpath, runpath, versions)


def _place(loads: list[tuple[int, int, int]], address: int) -> int:
    """Where in the file an address lies."""
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError("its dynamic section points outside itself")


class _Texts:
    """The table of names, of which the first part is read at once: mostly the names that are wanted stand in it."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size = descriptor, offset, size
        self._data = pread(descriptor, min(size, _TEXTS), offset)

    def at(self, place: int) -> str:
        if place >= self._size:
            raise ValueError("one of its names lies outside the table of names")
        data = self._data[place : place + 4096]
        if b"\0" not in data:
            data = pread(self._descriptor, min(4096, self._size - place), self._offset + place)
        return data.partition(b"\0")[0].decode("utf-8", "replace")


def _version_needs(
    descriptor: int, loads: list[tuple[int, int, int]], tags: dict[int, int], names: _Texts
) -> tuple[str, ...]:
    """The symbol versions that are needed, weak ones too: the loader passes over those it lacks, but says so."""
    table = pread(descriptor, _TABLE, _place(loads, tags[_VERNEED]))
    found: dict[str, None] = {}
    at = 0
    for _ in range(min(tags.get(_VERNEED_COUNT, 0), 256)):
        entry = at + number(table, at + 8, 4)
        for _ in range(min(number(table, at + 2, 2), 256)):
            if entry + 16 > len(table):
                break
            if not number(table, entry + 4, 2) & 2:  # VER_FLG_WEAK
                found[names.at(number(table, entry + 8, 4))] = None
            step = number(table, entry + 12, 4)
            if not step:
                break
            entry += step
        step = number(table, at + 12, 4)
        if not step or at + step + 16 > len(table):
            break
        at += step
    return tuple(found)


def _pe(descriptor: int, start: bytes) -> Binary:
    at = number(start, 60, 4)
    header = pread(descriptor, 264, at)
    if header[:4] != b"PE\0\0" or len(header) < 152:
        raise ValueError("it is no PE file")
    machine = number(header, 4, 2)
    name = _PE.get(machine, f"PE machine {machine:#x}")
    wide = number(header, 24, 2) == 0x20B
    directory = 24 + (112 if wide else 96) + 8  # the second: imports
    rows = _pe_rows(descriptor, at, header)
    needs: list[str] = []
    address = number(header, directory, 4)
    if address and len(header) >= directory + 8:
        table = pread(descriptor, 20 * _MOST_IMPORTS, _pe_place(rows, address))
        for entry in range(0, len(table) - 19, 20):
            named = number(table, entry + 12, 4)
            if not named:
                break
            text = pread(descriptor, 256, _pe_place(rows, named)).partition(b"\0")[0]
            needs.append(text.decode("ascii", "replace"))
    return Binary("PE", name, tuple(needs))


def _pe_place(rows: list[tuple[str, int, int, int, int]], address: int) -> int:
    for _, virtual, size, offset, _ in rows:
        if virtual <= address < virtual + size:
            return address - virtual + offset
    raise ValueError("its imports lie outside its sections")


def _pe_rows(descriptor: int, at: int, header: bytes) -> list[tuple[str, int, int, int, int]]:
    """The sections of a PE file: name, virtual address, virtual size, offset and size in the file."""
    count = min(number(header, 6, 2), _MOST_SECTIONS)
    table = pread(descriptor, 40 * count, at + 24 + number(header, 20, 2))
    rows = []
    for row in range(0, len(table) - 39, 40):
        name = table[row : row + 8].rstrip(b"\0").decode("ascii", "replace")
        size, virtual, length, offset = (number(table, row + place, 4) for place in (8, 12, 16, 20))
        rows.append((name, virtual, size or length, offset, length))
    return rows


def _mach(start: bytes) -> Binary:
    magic = start[:4]
    if magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        kind = number(start, 4, 4)
        return Binary("Mach-O", _MACH.get(kind, f"Mach-O machine {kind:#x}"))
    if magic == b"\xca\xfe\xba\xbe":  # several machines in one file, and the magic of Java's class files
        count = int.from_bytes(start[4:8], "big")
        if 0 < count <= _MOST_SLICES:
            kinds = [int.from_bytes(start[8 + 20 * each : 12 + 20 * each], "big") for each in range(count)]
            return Binary("Mach-O", " and ".join([_MACH.get(kind, f"Mach-O machine {kind:#x}") for kind in kinds]))
    raise ValueError("it is no library of a known form")


def sections(descriptor: int) -> Sections:
    """The named sections of an ELF or PE file. Raises OSError, ValueError."""
    start = pread(descriptor, 64, 0)
    if start[:4] == b"\x7fELF":
        return _elf_sections(descriptor, start)
    if start[:2] == b"MZ":
        return _pe_sections(descriptor, start)
    raise ValueError("it is no library of a known form")


def _elf_sections(descriptor: int, start: bytes) -> Sections:
    if start[4:6] != b"\x02\x01" or len(start) < 64:
        raise ValueError("it is no 64-bit little-endian ELF file")
    width, count, names = number(start, 58, 2), number(start, 60, 2), number(start, 62, 2)
    if width != 64 or count > _MOST_SECTIONS or names >= count:
        raise ValueError("its section table is not valid")
    table = pread(descriptor, width * count, number(start, 40, 8))
    rows = [table[at : at + width] for at in range(0, len(table) - width + 1, width)]
    if len(rows) < count:
        raise ValueError("its section table is cut off")
    strings = pread(descriptor, min(number(rows[names], 32, 8), _MOST_NAMES), number(rows[names], 24, 8))
    found: Sections = {}
    for row in rows:
        at = number(row, 0, 4)
        name = strings[at : max(strings.find(b"\0", at), at)].decode("ascii", "replace")
        found.setdefault(name, []).append((number(row, 24, 8), number(row, 32, 8)))
    return found


def _pe_sections(descriptor: int, start: bytes) -> Sections:
    at = number(start, 60, 4)
    header = pread(descriptor, 24, at)
    if header[:4] != b"PE\0\0" or len(header) < 24:
        raise ValueError("it is no PE file")
    found: Sections = {}
    for name, _, size, offset, length in _pe_rows(descriptor, at, header):
        # what the file holds is padded to its alignment; the size in memory is the true one
        found.setdefault(name, []).append((offset, min(size, length)))
    return found


def number(data: bytes, at: int, width: int) -> int:
    """A little-endian number."""
    return int.from_bytes(data[at : at + width], "little")


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes at a place of a file. Raises OSError, and ValueError for a place that no file has."""
    if offset >= 1 << 63:
        raise ValueError("it points outside itself")
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)
