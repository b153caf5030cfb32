"""GGUF headers: what the format holds is read, everything else is refused in one line and at once."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import array, field, gguf_bytes, gguf_start, info, saved, string, text_field, u32

from envguard.errors import BadModel
from envguard.modelfiles import gguf
from envguard.modelfiles.gguf import FILE_TYPES, TYPES, read_header
from envguard.modelfiles.tensors import Tensor

GOOD = gguf_bytes(
    {"blk.0.weight": ("Q4_K", [3, 512]), "norm": ("F32", [7]), "one": ("BF16", [])},
    [
        text_field("general.architecture", "flux"),
        u32("general.file_type", 15),
        field("tokens", 9, array(8, 3, string("a") + string("bc") + string("x" * 5000))),
        field("scores", 9, array(6, 3, bytes(12))),
        field("nested", 9, array(9, 2, array(4, 1, bytes(4)) + array(8, 1, string("y")))),
        field("yes", 7, b"\1"),
        text_field("long", "z" * 2000),
    ],
)


def refused(tmp_path: Path, data: bytes) -> str:
    path = saved(tmp_path, data, "it.gguf")
    with pytest.raises(BadModel) as caught:
        read_header(path)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_header_gives_tensors_and_metadata(tmp_path: Path) -> None:
    header = read_header(saved(tmp_path, GOOD, "it.gguf"))
    assert header.version == 3
    assert header.tensors == (
        Tensor("blk.0.weight", "Q4_K", (3, 512), 3 * 2 * 144),
        Tensor("norm", "F32", (7,), 28),
        Tensor("one", "BF16", (), 2),
    )
    assert header.metadata == {"general.architecture": "flux", "general.file_type": 15, "yes": True}
    assert (header.file_type, header.scheme, header.alignment) == ("Q4_K_M", "Q4_K_M", 32)
    assert header.data_start % 32 == 0


def test_without_a_file_type_the_type_of_most_bytes_counts(tmp_path: Path) -> None:
    data = gguf_bytes({"a": ("Q8_0", [64, 64]), "b": ("F32", [7]), "c": ("F32", [7])})
    header = read_header(saved(tmp_path, data, "it.gguf"))
    assert (header.file_type, header.scheme) == (None, "Q8_0")


def test_an_alignment_of_its_own_is_used(tmp_path: Path) -> None:
    data = gguf_bytes({"a": ("I8", [7]), "b": ("I8", [7])}, [u32("general.alignment", 64)], alignment=64)
    assert read_header(saved(tmp_path, data, "it.gguf")).alignment == 64


def test_a_file_without_tensors_is_a_file(tmp_path: Path) -> None:
    assert read_header(saved(tmp_path, gguf_start(0, 0), "it.gguf")).tensors == ()


def test_the_file_that_makes_ggufs_reader_run_for_ever_is_refused(tmp_path: Path) -> None:
    endless = gguf_start(0, 1) + field("a", 9, array(9, 2**40))
    assert len(endless) == 49
    assert refused(tmp_path, endless) == "metadata 'a': expected fewer lists in lists, found 1099511627776"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "header: expected a GGUF file of 24 bytes or more, found 0"),
        (gguf_start(0, 0, magic=b"GGML"), "header: expected a file that begins with b'GGUF', found b'GGML'"),
        (gguf_start(0, 0, version=1), "header: expected GGUF version 2 or 3, found 1"),
        (gguf_start(0, 0, version=0), "header: expected GGUF version 2 or 3, found 0"),
        (gguf_start(0, 0, version=3 << 24), "found a big-endian one"),
        (gguf_start(2**64 - 1, 0), "header: expected at most 65536 tensors, found 18446744073709551615"),
        (gguf_start(0, 2**64 - 1), "header: expected at most 16384 fields, found 18446744073709551615"),
        (gguf_start(9, 0), "header: expected a file long enough for 9 tensors, found 24 bytes"),
        (gguf_start(0, 1) + struct.pack("<Q", 2**63) + bytes(30), "expected a name of at most 1024 bytes"),
        (gguf_start(0, 1) + string(b"\xff") + bytes(30), "expected a name in UTF-8, found b'\\xff'"),
        (gguf_start(0, 1) + field("a", 13, bytes(8)), "metadata 'a': expected a type from 0 to 12, found 13"),
        (gguf_start(0, 1) + field("abcdefgh", 4, b""), "expected a file of 48 bytes or more, found 44: truncated"),
        (gguf_start(0, 1) + field("a", 8, struct.pack("<Q", 2**64 - 1)), "metadata 'a': expected a file of"),
        (gguf_start(0, 1) + field("a", 8, struct.pack("<Q", 9)), "metadata 'a': expected a file of 54 bytes or more"),
        (gguf_start(0, 1) + field("a", 9, array(4, 2**62)), "metadata 'a': expected a file of"),
        (gguf_start(0, 1) + field("a", 9, array(8, 2**62)), "metadata 'a': expected at most 2000000 strings in lists"),
        (gguf_start(0, 1) + field("a", 9, array(8, 1, struct.pack("<Q", 2**63))), "metadata 'a': expected a file of"),
        (gguf_start(0, 1) + field("a", 9, array(13, 1)), "metadata 'a': expected a list of a type from 0 to 12"),
        (gguf_start(0, 1) + field("a", 9, array(9, 1) * 9), "metadata 'a': expected lists at most 4 deep"),
        (gguf_start(0, 2) + u32("a", 1) * 2, "metadata field 2 of 2: expected each name once, found 'a' again"),
        (gguf_start(0, 1) + u32("general.alignment", 0), "expected a power of two (UINT32), found 0"),
        (gguf_start(0, 1) + u32("general.alignment", 33), "expected a power of two (UINT32), found 33"),
        (gguf_start(0, 1) + text_field("general.alignment", "32"), "expected a power of two (UINT32), found '32'"),
        (gguf_start(1, 0) + info("a", [1] * 9, "F32", 0), "tensor 'a': expected at most 8 dimensions, found 9"),
        (gguf_start(1, 0) + string("a") + struct.pack("<I", 2**32 - 1) + bytes(9), "at most 8 dimensions"),
        (gguf_start(1, 0) + info("a", [2**40, 2**40], "F32", 0), "tensor 'a': expected fewer than 2**63 numbers"),
        (gguf_start(1, 0) + info("a", [0, 2**63], "F32", 0), "tensor 'a': expected fewer than 2**63 numbers"),
        (gguf_start(1, 0) + info("a", [8], 4, 0), "tensor 'a': expected a type that gguf 0.19.0 knows, found 4"),
        (gguf_start(1, 0) + info("a", [2, 33], "Q8_0", 0), "tensor 'a': expected rows in blocks of 32 for Q8_0"),
        (gguf_start(1, 0) + info("a", [], "Q8_0", 0), "tensor 'a': expected rows in blocks of 32 for Q8_0"),
        (gguf_start(1, 0) + info("a", [8], "F32", 8) + bytes(99), "expected data at a multiple of 32, found 8"),
        (gguf_start(1, 0) + info("a", [99], "F32", 0) + bytes(99), "tensor 'a': expected a file of"),
        (gguf_start(1, 0) + info("a", [9], "F32", 2**64 - 32) + bytes(99), "tensor 'a': expected a file of"),
        (gguf_start(2, 0) + info("a", [9], "I8", 0) * 2 + bytes(99), "tensor 'a': expected each name once"),
        (gguf_start(2, 0) + info("a", [40], "I8", 0) + info("b", [9], "I8", 32) + bytes(199), "expected data from 40"),
    ],
)  # fmt: skip
def test_what_does_not_hold_to_the_format_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    assert said in refused(tmp_path, data)


def test_a_header_that_does_not_end_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, gguf_start(0, 1) + field("a", 9, array(0, 2**40)), "it.gguf")
    with path.open("r+b") as file:
        file.truncate(2**41)  # a sparse file: no such place is taken on the disk
    with pytest.raises(BadModel, match="expected a header of at most"):
        read_header(path)


def test_a_path_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, "a\0b"):
        with pytest.raises(BadModel, match="cannot be read"):
            read_header(path)


@given(st.data())
def test_changed_bytes_give_a_consistent_header_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = bytearray(GOOD[: data.draw(st.integers(0, len(GOOD)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = saved(tmp_path_factory.getbasetemp(), bytes(changed), "changed.gguf")
    try:
        header = read_header(path)
    except BadModel:
        return
    assert header.data_start + sum(tensor.nbytes for tensor in header.tensors) <= len(changed) + 31


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = saved(tmp_path_factory.getbasetemp(), gguf_start(1, 1) + data, "random.gguf")
    with pytest.raises(BadModel):
        read_header(path)


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = saved(tmp_path_factory.getbasetemp(), GOOD[:length], "cut.gguf")
    try:
        read_header(path)
    except BadModel:
        return
    assert length > len(GOOD) - 32  # the padding behind the last tensor may be missing


@pytest.mark.envguard("gguf", device="cpu", host="none")
def test_the_types_are_those_of_the_installed_gguf() -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

    for kind in GGMLQuantizationType:
        assert TYPES[int(kind)] == (kind.name, *GGML_QUANT_SIZES[kind])
    for file_type in LlamaFileType:
        if file_type.name != "GUESSED":
            assert FILE_TYPES[int(file_type)] == file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_")


@pytest.mark.envguard("gguf", device="cpu", host="none")
def test_what_ggufs_writer_writes_is_read_as_its_reader_reads_it(tmp_path: Path) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

    writer = GGUFWriter(tmp_path / "it.gguf", "flux")
    writer.add_file_type(7)
    writer.add_token_list([f"word {number}" for number in range(1000)])
    writer.add_tensor(
        "a",
        quants.quantize(np.ones((6, 64), np.float32), GGMLQuantizationType.Q8_0),
        raw_dtype=GGMLQuantizationType.Q8_0,
    )
    writer.add_tensor("b", np.ones((2, 3, 5), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = read_header(tmp_path / "it.gguf"), GGUFReader(tmp_path / "it.gguf")
    assert ours.data_start == theirs.data_offset
    assert ours.file_type == "Q8_0"
    assert [(t.name, t.dtype, list(t.shape), t.nbytes) for t in ours.tensors] == [
        (t.name, t.tensor_type.name, list(reversed(t.shape.tolist())), t.n_bytes) for t in theirs.tensors
    ]


def test_the_numbers_of_types_have_one_name_each() -> None:
    assert len(gguf.BLOCKS) == len(TYPES)
    assert len(set(FILE_TYPES.values())) == len(FILE_TYPES)
