"""Which GPU architectures an installed torch build carries code for, read from its compiled libraries.

In this order:

1. libtorch_cuda and the like, in torch/lib or, as conda has it, in the prefix's lib: without one it is a CPU build.
2. The list that torch.cuda.get_arch_list() returns: a text that the build leaves in the constants of libtorch_python.
3. Where there is none: the headers of the GPU code itself, in the sections of libtorch_cuda that hold it. CUDA: chains
   of fatbins, whose payloads are not looked at; NVIDIA does not document them, the layout below is what nvcc 11.8 to
   13.2 write. HIP: clang's offload bundles; compressed ones do not show their targets.

Own code, by pread: an ELF library would cost its import, and the files are gigabytes. What is read is bounded, whatever
a file claims about itself.
"""

from __future__ import annotations

import os

from envguard.model import Unreadable
from envguard.probes.binaries import number, pread, sections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_GPU = ("torch_cuda", "torch_hip", "torch_cuda_cu")  # torch before 2.0 split it for some builds
_CUDA_CODE = (".nv_fatbin", "__nv_relfatbin", ".nv_fatb")  # of device code, of code linked at run time, in a DLL
_HIP_CODE = (".hip_fatbin", ".hip_fat")
_CONSTANTS = (".rodata", ".rdata")
_FATBIN, _HIP_BUNDLE, _HIP_COMPRESSED = b"\x50\xed\x55\xba", b"__CLANG_OFFLOAD_BUNDLE__", b"CCOB"
_CUDA_WORDS, _HIP_WORDS = (b"\0sm_", b"\0compute_"), (b"\0gfx",)
_PTX, _MACHINE_CODE = 1, 2
_VARIANTS = ((1 << 20, "a"), (1 << 21, "f"))  # flags of code for one architecture, for a family
_MOST_CONSTANTS, _MOST_BUNDLES = 16 << 20, 64
_MOST_HEADERS, _MOST_GAP = 4096, 256  # reads of fatbin headers; alignment between two fatbins
_PIECE = 1 << 20


def architectures(torch_folder: str) -> tuple[str, ...] | Unreadable | None:
    """("sm_80", "sm_90", "compute_90") or ("gfx90a", ...); None where the build has no GPU code."""
    library = _library(torch_folder, _GPU)
    if library is None:
        if _library(torch_folder, ("torch_cpu", "torch")) is None:
            return Unreadable(f"{torch_folder} has no torch libraries")
        return None
    try:
        bindings = _library(torch_folder, ("torch_python",))
        listed = flags(bindings, _HIP_WORDS if "torch_hip" in library else _CUDA_WORDS) if bindings else ()
        return listed or code(library)
    except (OSError, ValueError) as error:
        return Unreadable(f"the GPU architectures of {library} cannot be read: {error}")


def _library(torch_folder: str, names: tuple[str, ...]) -> str | None:
    # conda: prefix/lib/python3.12/site-packages/torch, and the libraries in prefix/lib
    prefix_lib = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(torch_folder))))
    for folder in (os.path.join(torch_folder, "lib"), prefix_lib):
        for name in names:
            for file in (f"lib{name}.so", f"{name}.dll"):
                path = os.path.join(folder, file)
                if os.path.isfile(path):
                    return path
    return None


def flags(path: str, starts: tuple[bytes, ...] = _CUDA_WORDS) -> tuple[str, ...]:
    """The list of architectures that libtorch_python names, () where it names none. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        found: tuple[str, ...] = ()
        for name in _CONSTANTS:
            for offset, size in sections(descriptor).get(name, ()):
                found = max(found, _in_constants(descriptor, offset, min(size, _MOST_CONSTANTS), starts), key=len)
        return found
    finally:
        os.close(descriptor)


def _in_constants(descriptor: int, offset: int, size: int, starts: tuple[bytes, ...]) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    tail = b"\0"
    for start in range(offset, offset + size, _PIECE):
        data = tail + pread(descriptor, min(_PIECE, offset + size - start), start)
        found = max(found, parse_flags(data, starts), key=len)
        tail = data[-1024:]  # a text may lie across two pieces
    return found


def parse_flags(constants: bytes, starts: tuple[bytes, ...] = _CUDA_WORDS) -> tuple[str, ...]:
    """The longest list of architectures among the texts of a library, each between zero bytes."""
    found: tuple[str, ...] = ()
    for start in starts:
        at = constants.find(start)
        while at >= 0:
            end = constants.find(b"\0", at + 1)
            words = constants[at + 1 : end].split() if 0 < end - at < 1024 else []
            if len(words) > len(found) and all(map(_is_architecture, words)):
                found = tuple(word.decode() for word in words)
            at = constants.find(start, at + 1)
    return found


def _is_architecture(word: bytes) -> bool:
    if word.startswith(b"gfx"):
        return 3 <= len(word) - 3 <= 5 and word[3:].isalnum() and word[3:4].isdigit()
    number = word.partition(b"_")[2]
    return word.startswith((b"sm_", b"compute_")) and 2 <= len(number) <= 4 and number.rstrip(b"af").isdigit()


def code(path: str) -> tuple[str, ...]:
    """The architectures of the GPU code in a library: machine code first, then PTX. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        carried = sections(descriptor)
        found: set[str] = set()
        left = _MOST_HEADERS
        for name in _CUDA_CODE:
            for offset, size in carried.get(name, ()):
                for architecture in _fatbins(descriptor, offset, size):
                    found.add(architecture)
                    left -= 1
                    if left <= 0:
                        return _sorted(found)
        for name in _HIP_CODE:
            for offset, size in carried.get(name, ()):
                found.update(_hip(descriptor, offset, size))
    finally:
        os.close(descriptor)
    if not found:
        raise ValueError("it has no section of GPU code that is known")
    return _sorted(found)


def _sorted(found: set[str]) -> tuple[str, ...]:
    def place(architecture: str) -> tuple[bool, int, str]:
        number = architecture.partition("_")[2].rstrip("af")
        return architecture.startswith("compute"), int(number) if number.isdigit() else 0, architecture

    return tuple(sorted(found, key=place))


def _fatbins(descriptor: int, offset: int, size: int) -> Iterator[str]:
    """The architectures of a section of fatbins, one for each of their entries.

    A fatbin: magic, u16 version, u16 size of this header, u64 size of what follows. An entry: u16 kind, u16 version,
    u32 size of this header, u64 size of its payload, u32 at 28 architecture, u64 at 40 flags.
    """
    position, end, reads = offset, offset + size, 0
    while position + 16 <= end and reads < _MOST_HEADERS:
        data = pread(descriptor, min(_MOST_GAP, end - position), position)
        reads += 1
        skip = data.find(_FATBIN)
        if skip < 0:
            if not any(data):  # the end of a section may be padded
                return
            raise ValueError("its GPU code is of an unknown form")
        position += skip
        header = data[skip : skip + 16] if skip + 16 <= len(data) else pread(descriptor, 16, position)
        if len(header) < 16:
            raise ValueError("its GPU code is cut off")
        entry = position + number(header, 6, 2)
        position = entry + number(header, 8, 8)
        while entry + 64 <= min(position, end) and reads < _MOST_HEADERS:
            facts = pread(descriptor, 64, entry)
            reads += 1
            if len(facts) < 64:
                raise ValueError("its GPU code is cut off")
            kind, architecture, bits = number(facts, 0, 2), number(facts, 28, 4), number(facts, 40, 8)
            if kind in (_PTX, _MACHINE_CODE) and 10 <= architecture < 1000:
                variant = next((letter for bit, letter in _VARIANTS if bits & bit), "")
                yield f"{'compute' if kind == _PTX else 'sm'}_{architecture}{variant}"
            entry += max(number(facts, 4, 4), 64) + number(facts, 8, 8)


def _hip(descriptor: int, offset: int, size: int) -> set[str]:
    """The targets of the offload bundles in a section.

    A bundle: magic, u64 count; for each of its entries u64 offset, u64 size, u64 length of the name, name.
    """
    found: set[str] = set()
    for _ in range(_MOST_BUNDLES):
        data = pread(descriptor, min(size, 1 << 13), offset)
        if data.startswith(_HIP_COMPRESSED):
            raise ValueError("its GPU code is compressed")
        if not data.startswith(_HIP_BUNDLE):
            break
        at, furthest = 32, 0
        for _ in range(number(data, 24, 8)):
            if at + 24 > len(data):
                break
            start, length, name_length = (number(data, at + place, 8) for place in (0, 8, 16))
            name = data[at + 24 : at + 24 + name_length]
            furthest = max(furthest, start + length)
            target = name.decode("ascii", "replace").partition(":")[0].rpartition("-")[2]
            if _is_architecture(target.encode()):
                found.add(target)
            at += 24 + name_length
        step = -(-furthest // 4096) * 4096  # the bundles of a section are aligned to pages
        if step == 0 or step >= size:
            break
        offset, size = offset + step, size - step
    return found
