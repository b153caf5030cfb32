"""Makes model files byte by byte, whole and broken ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from envguard.modelfiles.gguf import BLOCKS, TYPES
from envguard.modelfiles.safetensors import BITS

NUMBERS = {name: number for number, (name, _, _) in TYPES.items()}


def safetensors_bytes(
    tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str] | None = None, data: bool = True
) -> bytes:
    """A safetensors file whose data are zeros; `data=False` leaves them out."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + product(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return with_header(json.dumps(header).encode(), end if data else 0)


def with_header(header: bytes, data: int = 0) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(data)


def product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def field(name: str | bytes, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def u32(name: str, value: int) -> bytes:
    return field(name, 4, struct.pack("<I", value))


def text_field(name: str, value: str | bytes) -> bytes:
    return field(name, 8, string(value))


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def info(name: str | bytes, shape: list[int], dtype: int | str, offset: int) -> bytes:
    """A tensor of the header; `shape` in torch's order."""
    number = NUMBERS[dtype] if isinstance(dtype, str) else dtype
    sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return string(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", number, offset)


def gguf_start(tensors: int, fields: int, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, fields)


def gguf_bytes(
    tensors: dict[str, tuple[str, list[int]]], fields: list[bytes] | None = None, alignment: int = 32
) -> bytes:
    """A GGUF file whose data are zeros."""
    fields = fields or []
    header, offset = b"", 0
    for name, (dtype, shape) in tensors.items():
        numbers, size = BLOCKS[dtype]
        header += info(name, shape, dtype, offset)
        offset = -(-(offset + product(shape) // numbers * size) // alignment) * alignment
    made = gguf_start(len(tensors), len(fields)) + b"".join(fields) + header
    return made + bytes(-len(made) % alignment + offset)


def saved(folder: Path, data: bytes, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
