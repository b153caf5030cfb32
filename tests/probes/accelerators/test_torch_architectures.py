from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envguard.model import Unreadable
from envguard.probes import torch_architectures
from envguard.probes.torch_architectures import architectures, code, flags, parse_flags

# nvcc 13.0 -c k.cu -gencode arch=compute_75,code=sm_75 (and 90, 90a, 100f, PTX of 120), the section .nv_fatbin alone
NVCC = Path(__file__).parent / "data" / "nvcc-13.0.elf"


def number(value: int, width: int) -> bytes:
    return value.to_bytes(width, "little")


def entry(kind: int, architecture: int, flag: int = 0, header: int = 64, payload: bytes = b"x" * 8) -> bytes:
    start = number(kind, 2) + number(0x101, 2) + number(header, 4) + number(len(payload), 8) + bytes(12)
    return (start + number(architecture, 4) + bytes(8) + number(flag | 0x11, 8)).ljust(header, b"\0") + payload


def fatbin(*entries: bytes) -> bytes:
    return number(0xBA55ED50, 4) + number(1, 2) + number(16, 2) + number(sum(map(len, entries)), 8) + b"".join(entries)


def bundle(*targets: str) -> bytes:
    table = b""
    for target in targets:
        table += number(4096, 8) + number(100, 8) + number(len(target), 8) + target.encode()
    return (b"__CLANG_OFFLOAD_BUNDLE__" + number(len(targets), 8) + table).ljust(4096, b"\0") + bytes(100)


def elf(**sections: bytes) -> bytes:
    """A library with these sections; one `_` at the beginning stands for a dot."""
    names = [name if name.startswith("__") else f".{name[1:]}" for name in sections]
    names.append(".shstrtab")
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    body, rows = b"", [bytes(64)]
    for name, content in zip(names, [*sections.values(), strings], strict=True):
        at = strings.index(name.encode() + b"\0")
        rows.append((number(at, 4) + bytes(20) + number(64 + len(body), 8) + number(len(content), 8)).ljust(64, b"\0"))
        body += content
    start = (b"\x7fELF\x02\x01".ljust(40, b"\0") + number(64 + len(body), 8)).ljust(58, b"\0")
    return start + number(64, 2) + number(len(rows), 2) + number(len(rows) - 1, 2) + body + b"".join(rows)


def dll(name: str, content: bytes) -> bytes:
    table = (
        name.encode().ljust(8, b"\0") + number(len(content), 4) + bytes(4) + number(len(content), 4) + number(512, 4)
    )
    start = (
        b"MZ".ljust(60, b"\0")
        + number(64, 4)
        + b"PE\0\0"
        + bytes(2)
        + number(1, 2)
        + bytes(12)
        + number(0, 2)
        + bytes(2)
    )
    return (start + table.ljust(40, b"\0")).ljust(512, b"\0") + content


TEXT = b"\0hello sm_\0sm_75 sm_80 sm_90 compute_90\0sm_75\0gfx942\0"


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """The folder of an installed torch, with a library that every build has."""
    folder = tmp_path / "lib" / "python3.12" / "site-packages" / "torch"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "libtorch_cpu.so").write_bytes(b"")
    return folder


def test_a_cpu_build_has_none(torch: Path) -> None:
    assert architectures(str(torch)) is None


def test_a_folder_without_torch_libraries_is_unreadable(tmp_path: Path) -> None:
    assert isinstance(architectures(str(tmp_path)), Unreadable)


def test_the_list_that_torch_itself_gives_is_read(torch: Path) -> None:
    (torch / "lib" / "libtorch_cuda.so").write_bytes(b"")
    (torch / "lib" / "libtorch_python.so").write_bytes(elf(_text=b"sm_10", _rodata=TEXT))
    assert architectures(str(torch)) == ("sm_75", "sm_80", "sm_90", "compute_90")


def test_the_list_of_a_dll_is_read(torch: Path) -> None:
    (torch / "lib" / "torch_cuda.dll").write_bytes(b"")
    (torch / "lib" / "torch_python.dll").write_bytes(dll(".rdata", TEXT))
    assert architectures(str(torch)) == ("sm_75", "sm_80", "sm_90", "compute_90")


def test_a_rocm_build_names_its_targets(torch: Path) -> None:
    (torch / "lib" / "libtorch_hip.so").write_bytes(b"")
    (torch / "lib" / "libtorch_python.so").write_bytes(elf(_rodata=b"\0sm_70 sm_75\0gfx90a gfx942 gfx1100\0"))
    assert architectures(str(torch)) == ("gfx90a", "gfx942", "gfx1100")


def test_without_the_list_the_code_itself_is_looked_at(torch: Path) -> None:
    shutil.copy(NVCC, torch / "lib" / "libtorch_cuda.so")
    (torch / "lib" / "libtorch_python.so").write_bytes(elf(_rodata=b"\0nothing\0"))
    assert architectures(str(torch)) == ("sm_75", "sm_90", "sm_90a", "sm_100f", "compute_120")


def test_the_libraries_of_a_conda_environment_are_found_in_its_prefix(torch: Path) -> None:
    (torch / "lib" / "libtorch_cpu.so").unlink()
    shutil.copy(NVCC, torch.parents[2] / "libtorch_cuda.so")
    assert architectures(str(torch)) == ("sm_75", "sm_90", "sm_90a", "sm_100f", "compute_120")


def test_a_library_that_cannot_be_read_is_unreadable_with_its_name(torch: Path) -> None:
    (torch / "lib" / "libtorch_cuda.so").write_bytes(b"<html>")
    found = architectures(str(torch))
    assert isinstance(found, Unreadable)
    assert "libtorch_cuda.so" in found.reason


def test_a_text_across_two_pieces_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_architectures, "_PIECE", 16)
    path = tmp_path / "x.so"
    path.write_bytes(elf(_rodata=bytes(7) + TEXT))
    assert flags(str(path)) == ("sm_75", "sm_80", "sm_90", "compute_90")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"\0sm_80\0", ("sm_80",)),
        (b"\0sm_80 sm_90a sm_100f\0", ("sm_80", "sm_90a", "sm_100f")),
        (b"\0compute_90 sm_80\0", ("compute_90", "sm_80")),
        (b"\0sm_80", ()),
        (b"sm_80\0", ()),
        (b"\0sm_80 or newer\0", ()),
        (b"\0sm_\0sm_8\0sm_80x\0", ()),
    ],
)
def test_only_whole_lists_of_architectures_count(text: bytes, found: tuple[str, ...]) -> None:
    assert parse_flags(text) == found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (elf(_nv_fatbin=fatbin(entry(2, 80), entry(2, 90), entry(1, 90, header=96))), ("sm_80", "sm_90", "compute_90")),
        (elf(_nv_fatbin=fatbin(entry(2, 100, header=112)) * 3), ("sm_100",)),
        (elf(_nv_fatbin=fatbin(entry(2, 75)) + bytes(24) + fatbin(entry(2, 86)) + bytes(40)), ("sm_75", "sm_86")),
        (elf(_nv_fatbin=fatbin(entry(2, 90, 1 << 20), entry(2, 100, 1 << 21))), ("sm_90a", "sm_100f")),
        (elf(_nv_fatbin=fatbin(entry(2, 80)), __nv_relfatbin=fatbin(entry(1, 80))), ("sm_80", "compute_80")),
        (elf(_nv_fatbin=fatbin(entry(64, 80), entry(2, 80))), ("sm_80",)),
        (dll(".nv_fatb", fatbin(entry(2, 120))), ("sm_120",)),
        (
            elf(_hip_fatbin=bundle("host-x86_64-unknown-linux--", "hipv4-amdgcn-amd-amdhsa--gfx90a:sramecc+:xnack-")),
            ("gfx90a",),
        ),
    ],
)
def test_the_headers_of_gpu_code_name_its_architectures(tmp_path: Path, content: bytes, found: tuple[str, ...]) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(content)
    assert code(str(path)) == found


def test_every_bundle_of_a_section_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    first = bundle("hipv4-amdgcn-amd-amdhsa--gfx90a")
    path.write_bytes(elf(_hip_fatbin=first.ljust(8192, b"\0") + bundle("hipv4-amdgcn-amd-amdhsa--gfx942")))
    assert code(str(path)) == ("gfx90a", "gfx942")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF\x01\x01" + bytes(80),
        elf(_text=b"x"),
        elf(_nv_fatbin=b"y" * 300),
        elf(_hip_fatbin=b"CCOB" + bytes(100)),
        elf(_nv_fatbin=fatbin(entry(2, 80)))[:-10],
        b"MZ" + bytes(100),
    ],
)
def test_what_has_no_code_of_a_known_form_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        code(str(path))


def test_a_chain_without_end_is_left_in_time(tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    empty = number(0xBA55ED50, 4) + number(1, 2) + number(0, 2) + number(0, 8)  # says that the next one is itself
    path.write_bytes(elf(_nv_fatbin=empty * 4, __nv_relfatbin=fatbin(entry(2, 80))))
    assert code(str(path)) == ("sm_80",)


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_library_is_read_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = data.draw(
        st.sampled_from(
            [
                elf(_rodata=TEXT, _nv_fatbin=fatbin(entry(2, 80), entry(1, 80)) * 2),
                elf(_hip_fatbin=bundle("hipv4-amdgcn-amd-amdhsa--gfx90a")),
                dll(".nv_fatb", fatbin(entry(2, 120))),
            ]
        )
    )
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        noise = data.draw(st.one_of(st.binary(max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))))
        damaged[at : at + len(noise)] = noise
    path = tmp_path_factory.getbasetemp() / "damaged.so"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    for read in (code, flags):
        try:
            found = read(str(path))
        except (OSError, ValueError):
            continue
        assert all(name.startswith(("sm_", "compute_", "gfx")) for name in found)
