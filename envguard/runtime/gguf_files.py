"""GGUF files by gguf's own writer and reader: planned, written tensor by tensor, read back, turned into numbers.

Beside what llama.cpp's files hold, ours have `envguard.schema` and two fields of JSON: `envguard.config`, the model's
own configuration, so that no other file is needed, and `envguard.weights`, which tells the types of the numbers before
they were written.
"""

from __future__ import annotations

import json
import math
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from envguard.errors import BadInput, EnvguardError
from envguard.modelfiles import bounded_json
from envguard.modelfiles.gguf import read_header
from envguard.runtime.progress import steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

SCHEMA, CONFIG, WEIGHTS = "envguard.schema", "envguard.config", "envguard.weights"
VERSION = "envguard.gguf/1"

# What torch and GGUF hold alike (gguf 0.10.0 to 0.19.0, gguf/gguf_writer.py, add_tensor_info).
NATIVE = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
}
_FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


class Planned(NamedTuple):
    """A tensor and the GGMLQuantizationType that it is to have in the file.

    One that comes from a GGUF file, a uint8 tensor with a `quant_type` (diffusers' GGUFParameter), is written as it is.
    """

    name: str
    tensor: torch.Tensor
    kind: Any


class Weights(NamedTuple):
    """The types that floating-point tensors had before they were written: most of them, the others by name; and the
    further names of tied tensors.
    """

    dtype: torch.dtype | None = None
    others: Mapping[str, torch.dtype] = {}
    shared: Mapping[str, str] = {}

    def of(self, name: str) -> torch.dtype | None:
        """The type of one tensor, None where the file does not tell."""
        return self.others.get(name, self.dtype)


def planned(gguf: ModuleType, model: torch.nn.Module, quantized: Mapping[str, Any], linear: set[str]) -> list[Planned]:
    """Every tensor of a model's state dict with its type in the file; tied ones under each of their names.

    `quantized` maps names to the type they are to get. All others keep their numbers: as they are where GGUF has the
    type; bfloat16 as BF16 in the weights of `linear` layers, else as F32, because the hosts read BF16 in those alone.
    Raises BadInput for numbers that GGUF does not have.
    """
    kinds = gguf.GGMLQuantizationType
    found = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.device.type == "meta":
            raise BadInput(f"{name} is on torch's meta device and has no numbers to write: load the model first")
        if getattr(tensor, "quant_type", None) is not None:
            kind = tensor.quant_type
        elif name in quantized:
            kind = quantized[name]
        elif tensor.dtype is torch.bfloat16:
            kind = kinds.BF16 if name in linear and tensor.dim() > 1 else kinds.F32
        elif tensor.dtype in NATIVE:
            kind = kinds[NATIVE[tensor.dtype]]
        else:
            raise BadInput(f"{name} holds {tensor.dtype}, which a GGUF file cannot")
        found.append(Planned(name, tensor, kind))
    return found


def without_copies(tensors: Sequence[Planned]) -> tuple[list[Planned], dict[str, str]]:
    """Each tied tensor once, and its further names with that of the one kept."""
    first: dict[int, str] = {}
    kept, shared = [], {}
    for each in tensors:
        name = first.setdefault(id(each.tensor), each.name)
        if name == each.name:
            kept.append(each)
        else:
            shared[each.name] = name
    return kept, shared


def write(
    gguf: ModuleType, path: str, architecture: str, scheme: str, fields: Mapping[str, str], tensors: Sequence[Planned]
) -> None:
    """Write a file with gguf's own writer, and read it back with its reader.

    One tensor at a time is quantized, so that beside the model no second copy is in memory. Raises BadInput for numbers
    that the type cannot hold, EnvguardError where the file does not hold what was given.
    """
    writer = gguf.GGUFWriter(path, architecture)
    try:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        number = file_type(gguf, scheme)
        if number is not None:
            writer.add_file_type(number)
        for name, text in fields.items():
            writer.add_string(name, text)
        for each in tensors:
            _announce(gguf, writer, each)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for each in steps(tensors, f"gguf {scheme}"):
            writer.write_tensor_data(_encoded(gguf, each))
    finally:
        writer.close()
    _verify(gguf, path, tensors)


def file_type(gguf: ModuleType, scheme: str) -> int | None:
    """llama.cpp's number for files of a scheme; None for one that has none (LlamaFileType, gguf/constants.py)."""
    for name in (f"ALL_{scheme}", f"MOSTLY_{scheme}", f"MOSTLY_{scheme}_MOE"):
        if name in gguf.LlamaFileType.__members__:
            return int(gguf.LlamaFileType[name])
    return None


def shape_of(gguf: ModuleType, each: Planned) -> tuple[int, ...]:
    """The shape of a planned tensor in numbers; that of its bytes differs."""
    shape = tuple(each.tensor.shape)
    if getattr(each.tensor, "quant_type", None) is None:
        return shape
    block, size = gguf.GGML_QUANT_SIZES[each.kind]
    return (*shape[:-1], shape[-1] // size * block)


def most_bytes(gguf: ModuleType, tensors: Sequence[Planned]) -> str:
    """The type that most bytes of some tensors have."""
    sizes: dict[str, int] = {}
    for each in tensors:
        block, size = gguf.GGML_QUANT_SIZES[each.kind]
        sizes[each.kind.name] = sizes.get(each.kind.name, 0) + math.prod(shape_of(gguf, each)) // block * size
    return max(sizes, key=lambda name: sizes[name], default="F32")


def _announce(gguf: ModuleType, writer: Any, each: Planned) -> None:
    block, size = gguf.GGML_QUANT_SIZES[each.kind]
    shape = shape_of(gguf, each)
    if each.kind.name in NATIVE.values():
        count = math.prod(shape)
        writer.add_tensor_info(each.name, shape, np.dtype(np.float32), count * size, raw_dtype=each.kind)
        return
    in_bytes = (*shape[:-1], shape[-1] // block * size)
    count = math.prod(in_bytes)
    writer.add_tensor_info(each.name, in_bytes, np.dtype(np.uint8), count, raw_dtype=each.kind)


def _encoded(gguf: ModuleType, each: Planned) -> Any:
    """The bytes of a tensor as a NumPy array."""
    tensor = each.tensor
    if getattr(tensor, "quant_type", None) is not None:
        return torch.Tensor.as_subclass(tensor.detach(), torch.Tensor).to("cpu").numpy()
    tensor = tensor.detach().to("cpu")
    if each.kind.name == NATIVE.get(tensor.dtype):
        return tensor.contiguous().numpy()
    tensor = tensor.float().contiguous()
    # the extremes tell it (NaN is both of them) ten times as fast as isfinite on every number
    if tensor.numel() and not all(math.isfinite(extreme) for extreme in tensor.aminmax()):
        raise BadInput(f"{each.name} holds NaN, infinity or what float32 cannot hold: {each.kind.name} cannot")
    with np.errstate(over="ignore"):
        encoded = gguf.quants.quantize(tensor.numpy(), each.kind)
    if each.kind.name == "F16" and not np.isfinite(encoded).all():
        raise BadInput(f"{each.name} holds numbers beyond 65504, the largest of F16: choose BF16 or F32")
    return encoded


def _verify(gguf: ModuleType, path: str, tensors: Sequence[Planned]) -> None:
    expected = [(each.name, shape_of(gguf, each), each.kind) for each in tensors]
    found = [(each.name, tuple(reversed(each.shape.tolist())), each.tensor_type) for each in read(gguf, path).tensors]
    if found != expected:
        wrong = next((pair for pair in zip(expected, found) if pair[0] != pair[1]), (len(expected), len(found)))
        raise EnvguardError(f"gguf's reader does not find what its writer was given: {wrong[0]}, but {wrong[1]}")


def read(gguf: ModuleType, path: str) -> Any:
    """A file by gguf's reader; the header must have been looked at before. Raises BadInput."""
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise BadInput(f"{path}: gguf cannot read it: {error}") from None


def text(reader: Any, name: str) -> str | None:
    """The value of a string field, None where there is none."""
    field = reader.fields.get(name)
    if field is None or [kind.name for kind in field.types] != ["STRING"]:
        return None
    return bytes(field.parts[field.data[0]]).decode("utf-8", "replace")


def numbers(gguf: ModuleType, tensor: Any) -> torch.Tensor:
    """A tensor of a reader as numbers: those of quantized types as float32."""
    data = np.asarray(tensor.data)
    if tensor.tensor_type.name in NATIVE.values():
        return torch.from_numpy(np.array(data))
    return torch.from_numpy(np.asarray(gguf.quants.dequantize(data, tensor.tensor_type)))


def described(tensors: Sequence[Planned], shared: Mapping[str, str]) -> str:
    """The text of the field `envguard.weights`."""
    dtypes = {each.name: str(each.tensor.dtype).partition(".")[2] for each in tensors if _is_float(each)}
    names = list(dtypes.values())
    most = max(set(names), key=names.count, default=None)
    others = {name: dtype for name, dtype in dtypes.items() if dtype != most}
    return json.dumps({"dtype": most, "others": others, "shared": dict(shared)})


def _is_float(each: Planned) -> bool:
    return getattr(each.tensor, "quant_type", None) is None and each.tensor.is_floating_point()


def own(gguf: ModuleType, path: str) -> tuple[Weights, dict[str, Any] | None]:
    """What a file of ours tells of its weights, and the model's configuration where it has one; nothing for others'.

    Those of language models hold a vocabulary, over which gguf's reader takes seconds: ours are known by their header.
    Raises BadInput for what `described` did not write.
    """
    if read_header(path).metadata.get(SCHEMA) != VERSION:
        return Weights(), None
    reader = read(gguf, path)
    config = _parsed(reader, CONFIG, path)
    return _weights(reader, path), config


def _weights(reader: Any, path: str) -> Weights:
    found = _parsed(reader, WEIGHTS, path) or {}
    most = found.get("dtype")
    known = {each.name for each in reader.tensors}
    try:
        return Weights(
            None if most is None else _FLOATS[most],
            {name: _FLOATS[dtype] for name, dtype in found["others"].items()},
            {alias: next(iter({name} & known)) for alias, name in found["shared"].items()},
        )
    except (AttributeError, KeyError, StopIteration, TypeError):
        raise BadInput(f"{path}: metadata {WEIGHTS!r} is not what envguard writes") from None


def _parsed(reader: Any, name: str, path: str) -> dict[str, Any] | None:
    found = text(reader, name)
    if found is None:
        return None
    try:
        value = bounded_json.loads(found.encode())
    except ValueError as error:
        raise BadInput(f"{path}: metadata {name!r}: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: metadata {name!r}: expected a JSON object")
    return value


@contextmanager
def folder_with(config: dict[str, Any]) -> Iterator[str]:
    """A temporary folder that holds a configuration as config.json, where the hosts look for one."""
    with tempfile.TemporaryDirectory(prefix="envguard-") as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        yield folder
