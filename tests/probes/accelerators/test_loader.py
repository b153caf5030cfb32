from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.probes import loader

ELF = "\x7fELF\x02" if sys.maxsize > 1 << 32 else "\x7fELF\x01"
Root = Callable[[dict[str, str]], str]
posix = pytest.mark.skipif(sys.platform == "win32", reason="the loader of Windows has no such files")


def cache(*entries: tuple[str, str]) -> bytes:
    """An ld.so.cache as ldconfig of glibc 2.32 writes it."""
    texts, table = b"", b""
    start = 48 + 24 * len(entries)
    for name, path in entries:
        at = start + len(texts)
        texts += name.encode() + b"\0" + path.encode() + b"\0"
        flags, key, value = 0x303, at, at + len(name) + 1
        table += b"".join(number.to_bytes(4, "little") for number in (flags, key, value, 0)) + bytes(8)
    header = b"glibc-ld.so.cache1.1" + len(entries).to_bytes(4, "little") + len(texts).to_bytes(4, "little") + b"\2"
    return header.ljust(48, b"\0") + table + texts


@posix
def test_the_search_path_goes_before_the_cache_and_the_cache_before_the_default_folders(root: Root) -> None:
    place = root({"own/libx.so.1": ELF, "opt/x/libx.so.1": ELF, "usr/lib/libx.so.1": ELF, "etc/": ""})
    Path(place, "etc/ld.so.cache").write_bytes(cache(("libx.so.1", "/opt/x/libx.so.1")))
    environ = {"LD_LIBRARY_PATH": f"/no/such/folder:{place}/own"}
    assert loader.find(["libx.so.1"], environ, place) == [f"{place}/own/libx.so.1"]
    assert loader.find(["libx.so.1"], {}, place) == [f"{place}/opt/x/libx.so.1"]
    os.unlink(f"{place}/etc/ld.so.cache")
    assert loader.find(["libx.so.1", "liby.so"], {}, place) == [f"{place}/usr/lib/libx.so.1", None]


@posix
def test_what_is_no_library_of_this_word_size_is_passed_over(root: Root) -> None:
    other = "\x7fELF\x01" if sys.maxsize > 1 << 32 else "\x7fELF\x02"
    place = root({"a/libx.so.1": other, "b/libx.so.1": "INPUT(libx.so.2)", "c/libx.so.1": ELF})
    environ = {"LD_LIBRARY_PATH": ":".join(f"{place}/{name}" for name in "abc")}
    assert loader.find(["libx.so.1"], environ, place) == [f"{place}/c/libx.so.1"]


@posix
def test_nixos_keeps_driver_libraries_in_a_folder_of_its_own(root: Root) -> None:
    place = root({"run/opengl-driver/lib/libcuda.so.1": ELF})
    assert loader.find(["libcuda.so.1"], {}, place) == [f"{place}/run/opengl-driver/lib/libcuda.so.1"]


def test_only_the_whole_name_is_found_in_the_cache() -> None:
    data = cache(("liblibx.so.1", "/a/liblibx.so.1"), ("libx.so.1", "/b/libx.so.1"), ("libx.so.12", "/c/libx.so.12"))
    assert loader.in_cache(data, "libx.so.1") == ["/b/libx.so.1"]


def test_several_entries_of_a_name_keep_their_order() -> None:
    data = cache(("libx.so.1", "/compat/libx.so.1"), ("libx.so.1", "/usr/libx.so.1"))
    assert loader.in_cache(data, "libx.so.1") == ["/compat/libx.so.1", "/usr/libx.so.1"]


def test_a_cache_after_one_of_the_older_form_is_read() -> None:
    # the old form stands first, offsets count from the new one
    data = b"ld.so-1.7.0\0\0\0\0\0" + cache(("libx.so.1", "/b/libx.so.1"))
    assert loader.in_cache(data, "libx.so.1") == ["/b/libx.so.1"]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_broken_cache_has_no_libraries_but_absolute_paths(noise: bytes, at: int) -> None:
    data = bytearray(cache(("libx.so.1", "/b/libx.so.1")))
    data[at : at + len(noise)] = noise
    assert all(path.startswith("/") for path in loader.in_cache(bytes(data), "libx.so.1"))


@pytest.mark.skipif(shutil.which("ldconfig", path="/sbin:/usr/sbin") is None, reason="needs ldconfig")
def test_ldconfig_agrees() -> None:
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    assert program is not None
    listed = subprocess.run([program, "-p"], capture_output=True, text=True, check=False).stdout.splitlines()
    data = loader._read("/etc/ld.so.cache")
    for line in listed[1:200]:
        name, arrow, path = line.partition(" => ")
        if arrow:
            assert path in loader.in_cache(data, name.split()[0])
