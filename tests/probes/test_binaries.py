from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.probes.binaries import describe, sections
from envguard.probes.libstdcxx import newest


def built(folder: Path, name: str, *words: str, text: str = "int main_of_it(void) { return 1; }\n") -> Path:
    """A compiled library; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    source = folder / f"{name}.c"
    source.write_text(text)
    target = folder / name
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source), *words], check=True)
    return target


def test_what_the_loader_reads_is_read(tmp_path: Path) -> None:
    built(tmp_path, "libneeded.so.3", "-Wl,-soname,libneeded.so.3")
    path = built(
        tmp_path,
        "libit.so",
        "-Wl,-soname,libother.so",
        "-Wl,--no-as-needed",
        str(tmp_path / "libneeded.so.3"),
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib:/opt/lib",
        text='#include <stdio.h>\nvoid it(void) { puts("it"); }\n',
    )
    binary = describe(str(path))
    assert (binary.format, binary.soname, binary.rpath) == ("ELF", "libother.so", None)
    assert binary.machine == os.uname().machine
    assert binary.runpath == "$ORIGIN/../lib:/opt/lib"
    assert binary.needs is not None
    assert binary.needs[0] == "libneeded.so.3"
    assert newest(binary.versions, "GLIBC_")


def libraries() -> list[str]:
    """Real libraries of this machine."""
    import _ctypes
    import _ssl

    found = [getattr(_ssl, "__file__", None), getattr(_ctypes, "__file__", None)]
    for folder in ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"):
        found += [os.path.join(folder, name) for name in ("libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1")]
    return [path for path in found if path and os.path.isfile(path)]


@pytest.mark.parametrize("path", libraries())
def test_the_headers_are_those_that_pyelftools_reads(path: str) -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    with open(path, "rb") as file:
        elf = elffile.ELFFile(file)
        dynamic = elf.get_section_by_name(".dynamic")
        tags = [(tag.entry.d_tag, tag) for tag in dynamic.iter_tags()]
        needs = tuple(tag.needed for name, tag in tags if name == "DT_NEEDED")
        runpath = next((tag.runpath for name, tag in tags if name == "DT_RUNPATH"), None)
        soname = next((tag.soname for name, tag in tags if name == "DT_SONAME"), None)
        wanted = elf.get_section_by_name(".gnu.version_r")
        versions = {
            each.name
            for _, own in (wanted.iter_versions() if wanted is not None else ())
            for each in own
            if not each.entry["vna_flags"] & 2
        }
        named = {section.name: (section["sh_offset"], section["sh_size"]) for section in elf.iter_sections()}
    binary = describe(path)
    assert (binary.needs, binary.runpath, binary.soname) == (needs, runpath, soname)
    assert set(binary.versions) == versions
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert {name: found[-1] for name, found in sections(descriptor).items()} == named
    finally:
        os.close(descriptor)


def test_a_library_for_another_machine_says_which(tmp_path: Path) -> None:
    path = built(tmp_path, "libit.so")
    data = bytearray(path.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    path.write_bytes(data)
    assert describe(str(path)).machine == "aarch64"
    data[18:20] = (9999).to_bytes(2, "little")
    path.write_bytes(data)
    assert describe(str(path)).machine == "ELF machine 9999"
    data[4] = 1  # 32 bits: no more is read
    path.write_bytes(data)
    assert describe(str(path)).needs is None


def dll(*names: str, machine: int = 0x8664) -> bytes:
    """A PE file with one section, which holds its imports."""
    virtual, place = 0x1000, 0x200
    texts = b"".join(name.encode() + b"\0" for name in names)
    table = 20 * (len(names) + 1)
    entries, at = b"", virtual + table
    for name in names:
        entries += struct.pack("<5I", 0, 0, 0, at, 0)
        at += len(name) + 1
    body = entries + bytes(20) + texts
    optional = struct.pack("<H", 0x20B) + bytes(110) + struct.pack("<4I", 0, 0, virtual, table) + bytes(112)
    header = b"PE\0\0" + struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, len(optional), 0) + optional
    section = b".rdata\0\0" + struct.pack("<4I", len(body), virtual, len(body), place) + bytes(16)
    start = b"MZ" + bytes(58) + struct.pack("<I", 64)
    return (start + header + section).ljust(place, b"\0") + body


def test_a_dll_says_its_machine_and_imports(tmp_path: Path) -> None:
    path = tmp_path / "it.dll"
    path.write_bytes(dll("cublas64_12.dll", "KERNEL32.dll"))
    binary = describe(str(path))
    assert (binary.format, binary.machine, binary.needs) == ("PE", "x86_64", ("cublas64_12.dll", "KERNEL32.dll"))
    path.write_bytes(dll(machine=0xAA64))
    assert describe(str(path)).machine == "aarch64"


@pytest.mark.parametrize(
    ("data", "machine"),
    [
        (struct.pack("<II", 0xFEEDFACF, 0x0100000C) + bytes(24), "aarch64"),
        (struct.pack("<II", 0xFEEDFACF, 0x01000007) + bytes(24), "x86_64"),
        (
            struct.pack(">II", 0xCAFEBABE, 2)
            + struct.pack(">5I", 0x01000007, 3, 0, 0, 0)
            + struct.pack(">5I", 0x0100000C, 0, 0, 0, 0),
            "x86_64 and aarch64",
        ),
    ],
)
def test_a_library_of_macos_says_its_machines(tmp_path: Path, data: bytes, machine: str) -> None:
    path = tmp_path / "it.dylib"
    path.write_bytes(data)
    assert describe(str(path))[:2] == ("Mach-O", machine)


@pytest.mark.parametrize(
    "data", [b"", b"MZ", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"#!/bin/sh\n", b"\0" * 64]
)
def test_what_is_no_library_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "it.so"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"\bits?\b"):
        describe(str(path))


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        describe(str(tmp_path))


REAL = next(iter(libraries()), None)


@pytest.mark.skipif(REAL is None, reason="no library of the system")
@given(
    changes=st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 1 << 16),
)
def test_a_damaged_library_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    assert REAL is not None
    data = bytearray(Path(REAL).read_bytes()[: max(cut, 64)])
    for place, value in changes:
        if place < len(data):
            data[place] = value
    path = tmp_path_factory.mktemp("damaged") / "it.so"
    path.write_bytes(data)
    try:
        binary = describe(str(path))
    except (OSError, ValueError):
        return
    assert len(binary.needs or ()) <= 1024
