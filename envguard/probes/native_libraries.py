"""The compiled libraries that backends carry, and where the loader finds what they link.

Of bitsandbytes the names of all, and in depth the one that it would load for this torch build; of torchao its torch
extensions, where torch is a CUDA build (without one they are not loaded). `everything` reads all in depth.

What a library links is looked for as the loader does: LD_LIBRARY_PATH, the RUNPATH of the library, the cache of
ldconfig, the default folders (`loader.py`), a conda environment's lib. Then among what torch has loaded before: the
libraries that its own libraries link, each found by its own RUNPATH, and those that torch/__init__.py loads by hand
from the nvidia-* packages, under the condition that stands in that file.
"""

from __future__ import annotations

import os
import sys

from envguard.probes import Observed
from envguard.probes.binaries import describe
from envguard.probes.folders import Folders, read
from envguard.probes.importer import Importer
from envguard.probes.libstdcxx import newest
from envguard.probes.loader import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from envguard.probes.binaries import Binary
    from envguard.probes.interpreter import Interpreter

PREFIXES = {"bitsandbytes": "libbitsandbytes", "torchao": "_C"}
_SUFFIXES = (".so", ".dll", ".dylib", ".pyd")
_NOT_LOOKED_FOR = (
    "libc.so.",
    "libm.so.",
    "libstdc++.so.",
    "libpthread.so.",
    "libdl.so.",
    "librt.so.",
    "libgcc_s.so.",
    "ld-",
)
_ROOTS = ("libtorch_global_deps.so", "libtorch_cuda.so", "libtorch_hip.so", "libtorch_xpu.so", "libtorch_python.so")
_MOST_LIBRARIES = 64  # of torch's own that are looked into
_BY_HAND_IF = b'"nvidia/cuda_runtime/lib/libcudart.so" not in'  # torch/__init__.py before it knew nvidia/cu13
_OF_CUDA = ("cudart64_", "cublas64_", "cublasLt64_", "cusparse64_", "nvJitLink_")


def carried(name: str, folders: Folders) -> tuple[list[dict[str, Any]], str] | None:
    """The compiled libraries in the package of a backend, by name, and its folder; None where there is no package."""
    found = Importer(folders, ()).find(name)
    if found is None or found.kind != "package":
        return None
    package = found.children[0]
    listed = folders.folder(package)
    if listed is None:
        return None
    names = sorted(each for each in listed.names if each.startswith(PREFIXES[name]) and each.endswith(_SUFFIXES))
    return [{"file": each, "path": f"{package}{os.sep}{each}"} for each in names], package


def look_into(library: dict[str, Any], *, architectures: bool) -> tuple[Binary | None, str | None]:
    """Add to the entry of a library what its headers say; its headers, and why they or the GPU code cannot be read."""
    path = library["path"]
    try:
        binary = describe(path)
    except (OSError, ValueError) as error:
        return None, f"{path} cannot be read: {error}"
    library["format"], library["machine"] = binary.format, binary.machine
    if binary.needs is not None:
        library["needs"] = list(binary.needs)
    if binary.format == "ELF":
        library["runpath"] = binary.runpath or binary.rpath  # the loader passes over RPATH where there is RUNPATH
        for key, prefix in (("glibc", "GLIBC_"), ("glibcxx", "GLIBCXX_"), ("cxxabi", "CXXABI_")):
            library[key] = newest(binary.versions, prefix)
    if architectures and binary.format != "Mach-O":
        from envguard.probes.torch_architectures import code

        try:
            library["gpu_archs"] = list(code(path))
        except (OSError, ValueError) as error:
            return binary, f"the GPU code of {path} cannot be read: {error}"
    return binary, None


def system_libraries(
    needs: Iterable[tuple[str, Binary, str]],
    interpreter: Interpreter,
    torch: str | None,
    environ: Mapping[str, str] = os.environ,
    root: str = "/",
) -> dict[str, str | None]:
    """Section `system_libraries`: for each name that a library needs the file that the loader takes, None for none.

    `needs` are such names with the library's headers and its folder; `torch` is torch's package.
    """
    wanted: dict[str, tuple[Binary, str]] = {}
    for name, binary, folder in needs:
        if sys.platform == "win32":
            if name.startswith(_OF_CUDA):
                wanted.setdefault(name, (binary, folder))
        elif not name.startswith((*_NOT_LOOKED_FOR, "libtorch", "libc10", "libshm")):
            wanted.setdefault(name, (binary, folder))
    if sys.platform == "win32":
        return _on_windows(tuple(wanted), torch, environ)
    found: dict[str, str | None] = dict(zip(wanted, find(tuple(wanted), environ, root)))
    for name, (binary, folder) in wanted.items():
        if found[name] is None:
            own = _present(_expanded(binary.runpath or binary.rpath, folder), name)
            found[name] = own or _present([os.path.join(prefix, "lib") for prefix in _conda(interpreter)], name)
    lacking = [name for name, path in found.items() if path is None]
    if lacking and torch is not None:
        loaded = loaded_by_torch(torch, lacking)
        found.update({name: loaded[name] for name in lacking if name in loaded})
        lacking = [name for name in lacking if name not in loaded]
        found.update(_by_hand(torch, lacking, interpreter.path))
        found.update(_of_rocm_sdk(torch, [name for name in lacking if found[name] is None], interpreter.path))
    return found


def _conda(interpreter: Interpreter) -> list[str]:
    """The prefixes whose lib stands in the RPATH of the executable, before everything else."""
    prefixes = dict.fromkeys([interpreter.prefix, interpreter.base_prefix])
    return [prefix for prefix in prefixes if os.path.isdir(os.path.join(prefix, "conda-meta"))]


def _expanded(runpath: str | None, folder: str) -> list[str]:
    folders = (runpath or "").split(":")
    return [each.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", folder) for each in folders if each]


def _present(folders: Sequence[str], name: str) -> str | None:
    for folder in folders:
        path = f"{folder}{os.sep}{name}"
        if os.path.isfile(path):
            return path
    return None


def loaded_by_torch(torch: str, wanted: Iterable[str]) -> dict[str, str]:
    """Of some names those that torch's own libraries bring with them, by file name or by SONAME, with the file."""
    lib = os.path.join(torch, "lib")
    left = set(wanted)
    found: dict[str, str] = {}
    pending = [path for name in _ROOTS if os.path.isfile(path := os.path.join(lib, name))]
    seen = set(pending)
    places: dict[str, None] = {lib: None}
    while pending and left and len(seen) <= _MOST_LIBRARIES:
        path = pending.pop(0)
        try:
            binary = describe(path)
        except (OSError, ValueError):
            continue
        for name in {binary.soname or "", os.path.basename(path)} & left:
            found[name] = path
            left.discard(name)
        # what an RPATH names holds for the libraries below it too
        places.update(dict.fromkeys(_expanded(binary.runpath or binary.rpath, os.path.dirname(path))))
        for need in binary.needs or ():
            place = None if need.startswith(_NOT_LOOKED_FOR) else _present(tuple(places), need)
            if place is not None and place not in seen:
                seen.add(place)
                if need in left:  # what has that name is loaded by it
                    found[need] = place
                    left.discard(need)
                pending.append(place)
    return found


def _by_hand(torch: str, names: Iterable[str], path: tuple[str, ...]) -> dict[str, str]:
    """Of some names those that torch/__init__.py itself loads from the nvidia-* packages."""
    there = {name: place for name in names if (place := _of_nvidia(name, path)) is not None}
    if not there:
        return {}
    try:
        text = read(os.path.join(torch, "__init__.py"))
    except OSError:
        return there
    if _BY_HAND_IF in text and not any(os.path.isdir(os.path.join(each, "nvidia", "cuda_runtime")) for each in path):
        return {}
    return {name: place for name, place in there.items() if f'"{name.partition(".so")[0]}.so'.encode() in text}


def _of_nvidia(name: str, path: tuple[str, ...]) -> str | None:
    for folder in path:
        try:
            packages = os.listdir(os.path.join(folder, "nvidia"))
        except OSError:
            continue
        found = _present([os.path.join(folder, "nvidia", each, "lib") for each in sorted(packages)], name)
        if found is not None:
            return found
    return None


def _of_rocm_sdk(torch: str, names: Iterable[str], path: tuple[str, ...]) -> dict[str, str]:
    """Of some names those in the packages of ROCm itself, which a torch made for them loads in torch/_rocm_init.py."""
    wanted = tuple(names)
    if not wanted or not os.path.isfile(os.path.join(torch, "_rocm_init.py")):
        return {}
    folders: list[str] = []
    for folder in path:
        try:
            listed = os.listdir(folder)
        except OSError:
            continue
        folders += [os.path.join(folder, each, "lib") for each in sorted(listed) if each.startswith("_rocm_sdk")]
    return {name: place for name in wanted if (place := _present(folders, name)) is not None}


def _on_windows(names: tuple[str, ...], torch: str | None, environ: Mapping[str, str]) -> dict[str, str | None]:
    folders = [os.path.join(torch, "lib")] if torch else []
    if environ.get("CUDA_PATH"):
        folders.append(os.path.join(environ["CUDA_PATH"], "bin"))
    folders += [each for each in environ.get("PATH", "").split(os.pathsep) if each]
    return {name: _present(folders, name) for name in names}


def native_libraries(
    names: Iterable[str],
    chosen: Callable[[str, tuple[str, ...]], frozenset[str]],
    interpreter: Interpreter,
    folders: Folders,
    torch: str | None,
) -> tuple[Observed, dict[str, str | None]]:
    """Sections `native_libraries` and `system_libraries`.

    `chosen` says which of a backend's libraries to read in depth.
    """
    value: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    needs: list[tuple[str, Binary, str]] = []
    for name in names:
        found = carried(name, folders)
        if found is None:
            continue
        libraries, package = found
        value[name] = libraries
        files = chosen(name, tuple([library["file"] for library in libraries]))
        for place, library in enumerate(libraries):
            if library["file"] not in files:
                continue
            gpu = "cuda" in library["file"] or "rocm" in library["file"]
            binary, reason = look_into(library, architectures=gpu)
            if reason is not None:
                field = "" if binary is None else "/gpu_archs"
                unreadable[f"/native_libraries/{name}/{place}{field}"] = reason
            if binary is not None:
                needs += [(need, binary, package) for need in binary.needs or ()]
    return Observed(value, unreadable), system_libraries(needs, interpreter, torch)
