"""The header of a GGUF file: its metadata, and the place and type of each tensor; not a byte of the data.

gguf's own reader takes every count in the file at its word: 49 bytes make it run for ever. Here nothing is believed
that the file is too short for, and the vocabularies of language models (some 500 000 strings) are stepped over.
"""

from __future__ import annotations

import os
from struct import Struct

from envguard.errors import BadModel
from envguard.frozen import Frozen
from envguard.modelfiles.bounded_json import shown
from envguard.modelfiles.opening import opened
from envguard.modelfiles.tensors import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO, TypeAlias

    Scalar: TypeAlias = int | float | bool | str

# number -> name, numbers in a block, bytes of a block: gguf 0.19.0 gguf/constants.py, GGMLQuantizationType
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
BLOCKS = {name: (numbers, size) for name, numbers, size in TYPES.values()}

# number -> llama.cpp's name of a whole file: gguf 0.19.0 gguf/constants.py, LlamaFileType
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
}

LARGEST = 64 * 1024 * 1024  # bytes of a header; one with a vocabulary of 260 000 words has 15 million
_MOST_FIELDS, _MOST_TENSORS, _MOST_STRINGS = 16_384, 65_536, 2_000_000
_MOST_DIMENSIONS = 8  # ggml has 4, and files of video models 5
_DEEPEST = 4
_LONGEST_NAME, _LONGEST_KEPT = 1024, 1024
_MOST_KEPT = 8 * 1024 * 1024  # bytes of names and strings
_WINDOW = 256 * 1024

_U32, _U64 = Struct("<I"), Struct("<Q")
_SCALARS = {
    0: Struct("<B"),
    1: Struct("<b"),
    2: Struct("<H"),
    3: Struct("<h"),
    4: _U32,
    5: Struct("<i"),
    6: Struct("<f"),
    7: Struct("<?"),
    10: _U64,
    11: Struct("<q"),
    12: Struct("<d"),
}
_UINT32, _STRING, _ARRAY = 4, 8, 9


class GgufHeader(Frozen):
    """`metadata` holds numbers and short strings, no lists; `file_type` is llama.cpp's name, if one is given."""

    version: int
    metadata: Mapping[str, Scalar]
    tensors: tuple[Tensor, ...]
    file_type: str | None
    alignment: int
    data_start: int

    @property
    def scheme(self) -> str:
        """The type of the file, else that of most of its bytes."""
        if self.file_type is not None:
            return self.file_type
        by_type: dict[str, int] = {}
        for tensor in self.tensors:
            by_type[tensor.dtype] = by_type.get(tensor.dtype, 0) + tensor.nbytes
        return max(by_type, key=lambda name: by_type[name], default="F32")


def read_header(path: str | os.PathLike[str]) -> GgufHeader:
    """The header of a file, checked against the file's size. Raises BadModel."""
    name = os.fspath(path)
    file, size = opened(name)
    try:
        with file:
            return parse_header(file, size)
    except ValueError as error:
        raise BadModel(f"{name}: {error}") from None
    except OSError as error:
        raise BadModel(f"{name}: cannot be read: {error.strerror}") from None


def parse_header(file: BinaryIO, size: int) -> GgufHeader:
    """The header of an open file of so many bytes. Raises ValueError: place, what was expected and what was found."""
    cursor = _Cursor(file, size)
    version, tensors, fields = _start(cursor)
    metadata, types = _fields(cursor, fields)
    infos = [_info(cursor, number) for number in range(tensors)]
    alignment = _alignment(metadata, types)
    data_start = -(-cursor.place // alignment) * alignment
    found = _placed(infos, alignment, data_start, cursor.size)
    number = metadata.get("general.file_type")
    file_type = FILE_TYPES.get(number) if type(number) is int else None
    return GgufHeader(version, metadata, found, file_type, alignment, data_start)


class _Malformed(ValueError):
    """Place, what was expected and what was found."""


class _Cursor:
    """Reads a file from its beginning, a window at a time, and steps over what nobody wants."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self._limit = min(size, LARGEST)
        self._window = b""
        self._start = 0  # of the window, in the file
        self.place = 0  # in the file
        self.where = "header"
        self._kept = 0
        self.strings = 0

    def number(self, form: Struct) -> int | float | bool:
        self._need(form.size)
        (value,) = form.unpack_from(self._window, self.place - self._start)
        self.place += form.size
        return value  # type: ignore[no-any-return]

    def count(self, form: Struct) -> int:
        return int(self.number(form))

    def text(self, what: str) -> str:
        """A name, which has to be short and UTF-8."""
        length = self.count(_U64)
        if length > _LONGEST_NAME:
            raise _Malformed(f"{self.where}: expected {what} of at most {_LONGEST_NAME} bytes, found {length}")
        data = self._bytes(length)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise _Malformed(f"{self.where}: expected {what} in UTF-8, found {data[:40]!r}") from None

    def string(self) -> str | None:
        """A value; None for a long one, which is stepped over."""
        length = self.count(_U64)
        if length > _LONGEST_KEPT:
            self.skip(length)
            return None
        return self._bytes(length).decode("utf-8", "replace")

    def _bytes(self, length: int) -> bytes:
        self._need(length)
        start = self.place - self._start
        self.place += length
        self._kept += length
        if self._kept > _MOST_KEPT:
            raise _Malformed(f"{self.where}: expected names of at most {_MOST_KEPT} bytes together, found more")
        return self._window[start : start + length]

    def skip(self, length: int) -> None:
        if self.place + length > self._limit:
            self._missing(length)
        self.place += length

    def skip_strings(self, count: int) -> None:
        """Step over strings, some ten million a second: a language model has half a million of them."""
        self.strings += count
        if self.strings > _MOST_STRINGS:
            raise _Malformed(f"{self.where}: expected at most {_MOST_STRINGS} strings in lists, found {self.strings}")
        if self.place + 8 * count > self._limit:
            self._missing(8 * count)
        unpack = _U64.unpack_from
        while count:
            self._need(8)
            window, start = self._window, self._start
            last = len(window) - 8
            place = self.place - start
            while count and place <= last:
                place += 8 + unpack(window, place)[0]
                count -= 1
            self.place = start + place
            if self.place > self._limit:
                self._missing(0)

    def _need(self, length: int) -> None:
        """Have so many bytes in the window."""
        place = self.place - self._start
        if place >= 0 and place + length <= len(self._window):
            return
        if self.place + length > self._limit:
            self._missing(length)
        self._file.seek(self.place)
        self._window = self._file.read(max(_WINDOW, length))
        self._start = self.place
        if len(self._window) < length:
            self._missing(length)

    def _missing(self, length: int) -> None:
        end = min(self.place + length, 2**64)
        if end > self.size:
            raise _Malformed(f"{self.where}: expected a file of {end} bytes or more, found {self.size}: truncated")
        raise _Malformed(f"{self.where}: expected a header of at most {LARGEST} bytes, found a longer one")


def _start(cursor: _Cursor) -> tuple[int, int, int]:
    if cursor.size < 24:
        raise _Malformed(f"header: expected a GGUF file of 24 bytes or more, found {cursor.size}")
    magic = cursor.count(_U32).to_bytes(4, "little")
    if magic != b"GGUF":
        raise _Malformed(f"header: expected a file that begins with b'GGUF', found {magic!r}")
    version = cursor.count(_U32)
    if version & 0xFFFF == 0 and version:
        raise _Malformed("header: expected a little-endian file, found a big-endian one (gguf-convert-endian turns it)")
    if version not in (2, 3):
        raise _Malformed(f"header: expected GGUF version 2 or 3, found {version}")
    tensors, fields = cursor.count(_U64), cursor.count(_U64)
    for what, count, most, least in (("tensors", tensors, _MOST_TENSORS, 24), ("fields", fields, _MOST_FIELDS, 13)):
        if count > most:
            raise _Malformed(f"header: expected at most {most} {what}, found {count}")
        if count * least > cursor.size:
            raise _Malformed(f"header: expected a file long enough for {count} {what}, found {cursor.size} bytes")
    return version, tensors, fields


def _fields(cursor: _Cursor, count: int) -> tuple[dict[str, Scalar], dict[str, int]]:
    metadata: dict[str, Scalar] = {}
    types: dict[str, int] = {}
    for number in range(count):
        cursor.where = f"metadata field {number + 1} of {count}"
        key = cursor.text("a name")
        if key in types:
            raise _Malformed(f"{cursor.where}: expected each name once, found {shown(key)} again")
        cursor.where = f"metadata {shown(key)}"
        types[key] = kind = cursor.count(_U32)
        if kind in _SCALARS:
            metadata[key] = cursor.number(_SCALARS[kind])
        elif kind == _STRING:
            text = cursor.string()
            if text is not None:
                metadata[key] = text
        elif kind == _ARRAY:
            _skip_array(cursor)
        else:
            raise _Malformed(f"{cursor.where}: expected a type from 0 to 12, found {kind}")
    return metadata, types


def _skip_array(cursor: _Cursor) -> None:
    """Step over a list, and over lists in it."""
    waiting = [1]  # how many lists are still to come, by depth
    while waiting:
        if not waiting[-1]:
            waiting.pop()
            continue
        waiting[-1] -= 1
        kind, count = cursor.count(_U32), cursor.count(_U64)
        if kind in _SCALARS:
            cursor.skip(_SCALARS[kind].size * count)
        elif kind == _STRING:
            cursor.skip_strings(count)
        elif kind == _ARRAY:
            cursor.strings += count
            if cursor.strings > _MOST_STRINGS // 10:
                raise _Malformed(f"{cursor.where}: expected fewer lists in lists, found {count}")
            if len(waiting) == _DEEPEST:
                raise _Malformed(f"{cursor.where}: expected lists at most {_DEEPEST} deep, found deeper ones")
            waiting.append(count)
        else:
            raise _Malformed(f"{cursor.where}: expected a list of a type from 0 to 12, found {kind}")


def _alignment(metadata: Mapping[str, Scalar], types: Mapping[str, int]) -> int:
    kind = types.get("general.alignment")
    if kind is None:
        return 32
    alignment = metadata.get("general.alignment")
    if kind != _UINT32 or type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise _Malformed(f"metadata 'general.alignment': expected a power of two (UINT32), found {alignment!r}")
    return alignment


def _info(cursor: _Cursor, number: int) -> tuple[int, Tensor]:
    """Where a tensor's data begin, and the tensor."""
    cursor.where = f"tensor {number + 1}"
    name = cursor.text("a name")
    cursor.where = f"tensor {shown(name)}"
    dimensions = cursor.count(_U32)
    if dimensions > _MOST_DIMENSIONS:
        raise _Malformed(f"{cursor.where}: expected at most {_MOST_DIMENSIONS} dimensions, found {dimensions}")
    sizes = [cursor.count(_U64) for _ in range(dimensions)]
    kind, offset = cursor.count(_U32), cursor.count(_U64)
    if kind not in TYPES:
        raise _Malformed(f"{cursor.where}: expected a type that gguf 0.19.0 knows, found {kind}")
    dtype, numbers, size = TYPES[kind]
    count = 1
    for each in sizes:
        count *= each
    if max(sizes, default=0) >= 2**63 or count >= 2**63:
        raise _Malformed(f"{cursor.where}: expected fewer than 2**63 numbers, found dimensions {sizes}")
    if (sizes[0] if sizes else 1) % numbers:
        raise _Malformed(f"{cursor.where}: expected rows in blocks of {numbers} for {dtype}, found dimensions {sizes}")
    return offset, Tensor(name, dtype, tuple(reversed(sizes)), count // numbers * size)


def _placed(infos: list[tuple[int, Tensor]], alignment: int, data_start: int, size: int) -> tuple[Tensor, ...]:
    """The tensors in the order of the header, once it is known that each lies in the file and on no other."""
    seen = set()
    for offset, tensor in infos:
        where = f"tensor {shown(tensor.name)}"
        if tensor.name in seen:
            raise _Malformed(f"{where}: expected each name once, found it twice")
        seen.add(tensor.name)
        if offset % alignment:
            raise _Malformed(f"{where}: expected data at a multiple of {alignment}, found {offset}")
        end = data_start + offset + tensor.nbytes
        if end > size:
            raise _Malformed(f"{where}: expected a file of {end} bytes or more, found {size}: truncated")
    end = 0
    for offset, tensor in sorted(infos, key=lambda info: (info[0], info[1].nbytes)):
        if offset < end:
            raise _Malformed(f"tensor {shown(tensor.name)}: expected data from {end} on, found {offset}: it overlaps")
        end = offset + tensor.nbytes
    return tuple([tensor for _, tensor in infos])
