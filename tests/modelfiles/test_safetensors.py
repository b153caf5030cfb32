"""Safetensors headers: what the format holds is read, everything else is refused in one line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import safetensors_bytes, saved, with_header

from envguard.errors import BadModel
from envguard.modelfiles.safetensors import BITS, LARGEST, parse_header, read_header
from envguard.modelfiles.tensors import Tensor

ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
EMPTY = b'{"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}'
GOOD = safetensors_bytes({"a.weight": ("BF16", [3, 5]), "a.bias": ("F32", [3]), "b": ("I64", [])}, {"format": "pt"})


def refused(header: Any, data: int = 0) -> str:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    with pytest.raises(ValueError, match=r"expected|not JSON") as caught:
        parse_header(raw, data)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_header_gives_tensors_in_the_order_of_their_data(tmp_path: Path) -> None:
    header = read_header(saved(tmp_path, GOOD, "it.safetensors"))
    assert header.tensors == (
        Tensor("a.weight", "BF16", (3, 5), 30),
        Tensor("a.bias", "F32", (3,), 12),
        Tensor("b", "I64", (), 8),
    )
    assert header.metadata == {"format": "pt"}


def test_the_order_of_the_members_does_not_matter() -> None:
    late = {"dtype": "U8", "shape": [2], "data_offsets": [4, 6]}
    header = json.dumps({"late": late, "early": ENTRY}).encode()
    assert [tensor.name for tensor in parse_header(header, 6).tensors] == ["early", "late"]


def test_blanks_behind_the_header_and_no_metadata_are_fine() -> None:
    assert parse_header(b'{"__metadata__": null, "a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}}   \n', 0).tensors
    assert parse_header(b"{}", 0).tensors == ()


def test_long_metadata_is_read() -> None:
    header = json.dumps({"__metadata__": {"tags": "x" * 300_000}, "a": ENTRY}).encode()
    assert len(parse_header(header, 4).metadata["tags"]) == 300_000


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_is_measured_in_bits(dtype: str) -> None:
    (tensor,) = parse_header(safetensors_bytes({"a": (dtype, [8])}, data=False)[8:], BITS[dtype]).tensors
    assert tensor.nbytes == BITS[dtype]


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        ([], 0, "expected JSON that begins with {"),
        (b"", 0, "expected JSON that begins with {"),
        (b"{", 0, "expected a name in quotes"),
        (b'{"a":', 0, "not JSON"),
        (b'{"a" 1}', 0, "expected : behind a name"),
        (b'{"a\xff": 1}', 0, "expected UTF-8, found byte 0xff"),
        (b"{} x", 0, "expected nothing but blanks behind the JSON"),
        (b'{"a": 1,}', 0, "expected dtype, shape and data_offsets"),
        (b'{"a": {"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1, "'dtype' twice"),
        (b'{"a":' + EMPTY + b',"a":' + EMPTY + b"}", 0, "'a' twice"),
        ({"a": {**ENTRY, "dtype": "U9"}}, 4, "dtype: expected a known one, found 'U9'"),
        ({"a": {**ENTRY, "dtype": ["U8"]}}, 4, "dtype: expected a known one"),
        ({"a": {**ENTRY, "shape": 4}}, 4, "shape: expected"),
        ({"a": {**ENTRY, "shape": [1] * 33}}, 4, "at most 32 numbers"),
        ({"a": {**ENTRY, "shape": [4.0]}}, 4, "expected whole numbers"),
        ({"a": {**ENTRY, "shape": [True]}}, 4, "expected whole numbers"),
        ({"a": {**ENTRY, "shape": [-4]}}, 4, "expected whole numbers"),
        ({"a": {**ENTRY, "shape": [2**62, 2**62]}}, 4, "expected fewer than 2**63 bits"),
        ({"a": {**ENTRY, "shape": [5]}}, 4, "expected 5 bytes for U8 [5], found 4"),
        ({"a": {**ENTRY, "data_offsets": [4, 0]}}, 4, "expected 4 bytes for U8 [4], found -4"),
        ({"a": {**ENTRY, "data_offsets": [0]}}, 4, "expected dtype, shape and data_offsets (two)"),
        ({"a": {"dtype": "U8"}}, 4, "expected dtype, shape and data_offsets (two)"),
        ({"a": {**ENTRY, "dtype": "F4", "shape": [3]}}, 4, "expected whole bytes"),
        ({"a": ENTRY, "b": ENTRY}, 4, "it overlaps the one before"),
        ({"a": {**ENTRY, "data_offsets": [1, 5]}}, 5, "it leaves a hole before it"),
        ({"a": ENTRY}, 3, "data: expected 4 bytes, found 3: truncated"),
        ({"a": ENTRY}, 5, "something follows the last tensor"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__: 'a': expected a string"),
        ({"__metadata__": []}, 0, "expected an object"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', 0, "expected members of at most"),
        (b'{"a": ' + b"[" * 50_000, 0, "deep"),
        (b'{"a": {"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', 1, ""),
        (b'{"a": {"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', 1, "NaN is no JSON number"),
    ],
)  # fmt: skip
def test_what_does_not_hold_to_the_format_is_refused(header: Any, data: int, said: str) -> None:
    assert said in refused(header, data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected a safetensors file of 8 bytes or more, found 0"),
        (b"\xff" * 8, f"header: expected at most {LARGEST} bytes, found {2**64 - 1}"),
        (b"\x10" + bytes(7) + b"{}", "header: expected 16 bytes behind the first 8, found 2: truncated"),
    ],
)
def test_the_length_of_the_header_is_checked_before_it_is_read(tmp_path: Path, data: bytes, said: str) -> None:
    path = saved(tmp_path, data, "it.safetensors")
    with pytest.raises(BadModel, match=r"it\.safetensors: ") as caught:
        read_header(path)
    assert said in str(caught.value)


def test_a_path_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, "a\0b"):
        with pytest.raises(BadModel, match="cannot be read"):
            read_header(path)


def test_the_name_of_a_tensor_cannot_forge_a_line() -> None:
    assert "\n" not in refused({"a\nb" * 1000: {**ENTRY, "shape": [5]}}, 4)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    for header in (data, b"{" + data, b'{"a":' + data):
        with suppress(ValueError):
            parse_header(header, 0)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_gives_a_consistent_header_or_an_error(place: int, byte: int) -> None:
    data = bytearray(GOOD)
    data[place] = byte
    length = int.from_bytes(data[:8], "little")
    try:
        header = parse_header(bytes(data[8 : 8 + length]), max(len(data) - 8 - length, 0))
    except ValueError:
        return
    assert sum(tensor.nbytes for tensor in header.tensors) == len(data) - 8 - length


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    data = GOOD[:length]
    size = int.from_bytes(data[:8], "little")
    with pytest.raises(ValueError, match=r"expected|not JSON"):
        parse_header(data[8 : 8 + size], len(data) - 8 - size if len(data) >= 8 + size else 0)


DTYPES = st.sampled_from(sorted(name for name, bits in BITS.items() if bits >= 8))
SHAPES = st.lists(st.integers(0, 5), max_size=4)


@given(
    st.dictionaries(st.text(min_size=1, max_size=20).filter(lambda n: n != "__metadata__"), st.tuples(DTYPES, SHAPES))
)
def test_every_file_that_is_whole_is_read(tensors: dict[str, tuple[str, list[int]]]) -> None:
    data = safetensors_bytes(tensors)
    length = int.from_bytes(data[:8], "little")
    header = parse_header(data[8 : 8 + length], len(data) - 8 - length)
    assert {tensor.name: (tensor.dtype, list(tensor.shape)) for tensor in header.tensors} == tensors
    assert with_header(b"{}") == bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"{}"
