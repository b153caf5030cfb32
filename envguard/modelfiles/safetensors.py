"""The header of a safetensors file, checked as the safetensors crate checks it, and for what it lets pass.

A file is eight bytes (the length of the header), the header (JSON: tensor -> dtype, shape and data_offsets, and under
`__metadata__` strings by name), and the data, which the tensors fill without holes and without sharing a byte. The
crate takes the last of two members of one name; here that is refused.
"""

from __future__ import annotations

import os

from envguard.errors import BadModel
from envguard.frozen import Frozen
from envguard.modelfiles.bounded_json import Members, blanks_end, shown, text_of
from envguard.modelfiles.opening import opened
from envguard.modelfiles.tensors import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# bits of one number; the names of safetensors 0.8 (safetensors/src/tensor.rs, Dtype)
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
LARGEST = (
    16 * 1024 * 1024
)  # bytes of a header: the crate's 100 million take seconds to read, the largest models have 1 million
_MOST_DIMENSIONS = 32
_LARGEST_SIZE = 2**63


class SafetensorsHeader(Frozen):
    """The tensors of a file in the order of their data, and the strings that it was saved with."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def read_header(path: str | os.PathLike[str]) -> SafetensorsHeader:
    """The header of a file, checked against the file's size. Raises BadModel."""
    name = os.fspath(path)
    file, size = opened(name)
    with file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        data = file.read(length) if len(start) == 8 and length <= min(LARGEST, size - 8) else b""
    try:
        if len(start) < 8:
            raise ValueError(f"expected a safetensors file of 8 bytes or more, found {len(start)}")
        if length > LARGEST:
            raise ValueError(f"header: expected at most {LARGEST} bytes, found {length} (no safetensors file, perhaps)")
        if length > size - 8:
            raise ValueError(f"header: expected {length} bytes behind the first 8, found {max(size - 8, 0)}: truncated")
        return parse_header(data, size - 8 - length)
    except ValueError as error:
        raise BadModel(f"{name}: {error}") from None


def parse_header(header: bytes, data_size: int) -> SafetensorsHeader:
    """A header's JSON, for so many bytes of data. Raises ValueError: place, what was expected and what was found."""
    try:
        text = text_of(header)
        found, metadata = _members(text)
    except ValueError as error:
        raise ValueError(f"header: {error}") from None
    found.sort()
    end = 0
    for start, stop, tensor in found:
        if start != end:
            fault = "overlaps the one before" if start < end else "leaves a hole before it"
            raise ValueError(f"tensor {shown(tensor.name)}: expected data from {end} on, found {start}: it {fault}")
        end = stop
    if end != data_size:
        cut = ": truncated" if end > data_size else ": something follows the last tensor"
        raise ValueError(f"data: expected {end} bytes, found {data_size}{cut}")
    return SafetensorsHeader(tuple([tensor for _, _, tensor in found]), metadata)


def _members(text: str) -> tuple[list[tuple[int, int, Tensor]], dict[str, str]]:
    found: list[tuple[int, int, Tensor]] = []
    metadata: dict[str, str] = {}
    members = Members(text)
    if text[:1] != "{":
        raise ValueError(f"expected JSON that begins with {{, found {text[:20]!r}")
    for name in members:
        if name == "__metadata__":
            metadata = _metadata(members)
        else:
            found.append(_tensor(name, members.value()))
    if blanks_end(text, members.end) != len(text):
        raise ValueError(f"expected nothing but blanks behind the JSON, found {text[members.end :][:20]!r}")
    return found, metadata


def _metadata(members: Members) -> dict[str, str]:
    if members.text.startswith("null", members.end):
        members.skip_to(members.end + 4)
        return {}
    inner = members.members()
    metadata = {}
    for name in inner:
        text = inner.string()
        if text is None:
            raise ValueError(f"__metadata__: {shown(name)}: expected a string")
        metadata[name] = text
    members.skip_to(inner.end)
    return metadata


def _tensor(name: str, entry: Any) -> tuple[int, int, Tensor]:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tensor {shown(name)}: expected dtype, shape and data_offsets (two)") from None
    bits = BITS.get(dtype) if type(dtype) is str else None
    if bits is None:
        raise ValueError(f"tensor {shown(name)}: dtype: expected a known one, found {shown(str(dtype))}")
    if type(shape) is not list or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"tensor {shown(name)}: shape: expected at most {_MOST_DIMENSIONS} numbers in a list")
    count = 1
    for size in (*shape, start, end):
        if type(size) is not int or not 0 <= size < _LARGEST_SIZE:
            raise ValueError(f"tensor {shown(name)}: expected whole numbers below 2**63, found {shown(str(size))}")
    for size in shape:
        count *= size
    if count * bits >= _LARGEST_SIZE:
        raise ValueError(f"tensor {shown(name)}: shape: expected fewer than 2**63 bits, found {shape[:6]}")
    if count * bits % 8:
        raise ValueError(f"tensor {shown(name)}: expected whole bytes, found {count} numbers of {bits} bits")
    if end - start != count * bits // 8:
        raise ValueError(
            f"tensor {shown(name)}: data_offsets: expected {count * bits // 8} bytes for {dtype} {shape[:6]},"
            f" found {end - start}"
        )
    return start, end, Tensor(name, dtype, tuple(shape), end - start)
