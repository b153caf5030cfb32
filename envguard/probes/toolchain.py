"""The tools with which kernels are compiled on the user's machine, as torch.utils.cpp_extension looks for them.

Paths, not versions: a version would mean to start each tool. What is found is what a program started now would find, so
the PATH of this process counts, also for another interpreter: an environment that is not active has its ninja in vain.
"""

from __future__ import annotations

import os

from envguard.probes import Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from envguard.probes.interpreter import Interpreter

_WINDOWS = os.name == "nt"


def toolchain(interpreter: Interpreter, environ: Mapping[str, str]) -> Observed:
    """Section `toolchain`: nvcc, ninja, cxx, cc, python_headers, cuda_home, msvc; a path each, null = not found."""
    home = cuda_home(environ)
    named = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    header = os.path.join(interpreter.include, "Python.h")
    msvc = visual_cpp(environ) if _WINDOWS else None
    return Observed(
        {
            # a variable that names a folder settles it for torch, whatever PATH holds
            "nvcc": which("nvcc", f"{named}{os.sep}bin")
            if named
            else (which("nvcc", f"{home}{os.sep}bin") if home else None) or which("nvcc", environ.get("PATH", "")),
            "ninja": which("ninja", environ.get("PATH", "")),
            "cxx": _compiler(environ, "CXX", ("cl",) if _WINDOWS else ("c++",)) or msvc,
            # Triton, which compiles its launchers in C, takes the first of these
            "cc": _compiler(environ, "CC", ("cl", "gcc", "clang") if _WINDOWS else ("gcc", "clang", "cc")) or msvc,
            "python_headers": header if os.path.isfile(header) else None,
            "cuda_home": home,
            "msvc": msvc,
        }
    )


def which(name: str, path: str) -> str | None:
    """The program of that name in the folders of a PATH (shutil.which costs more to import than all of this to run)."""
    endings = (".exe", ".cmd", ".bat", "") if _WINDOWS else ("",)
    for folder in path.split(os.pathsep):
        for ending in endings if folder else ():
            program = os.path.join(folder, name + ending)
            if os.access(program, os.X_OK) and os.path.isfile(program):
                return program
    return None


def cuda_home(environ: Mapping[str, str]) -> str | None:
    """The CUDA toolkit that torch takes: CUDA_HOME or CUDA_PATH, that of nvcc on PATH, the usual place.

    A toolkit has a `bin` or an `include` folder: an empty /usr/local/cuda, or a variable that points nowhere, is none.
    """
    named = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    if named:
        return named if _is_toolkit(named) else None
    compiler = which("nvcc", environ.get("PATH", ""))
    if compiler:
        return os.path.dirname(os.path.dirname(compiler))
    return next(filter(_is_toolkit, _usual_homes(environ)), None)


def visual_cpp(environ: Mapping[str, str]) -> str | None:
    """The newest Microsoft C++ compiler: the one of an opened developer prompt, else among the installed ones."""
    on_path = which("cl", environ.get("PATH", ""))
    if on_path:
        return on_path
    found = []
    for variable in ("ProgramFiles", "ProgramFiles(x86)"):
        # <year>/<edition>/VC/Tools/MSVC/<version>: numbers of one length, so the largest name is the newest
        for edition in _below(environ.get(variable, ""), "Microsoft Visual Studio", 2):
            for tools in _below(edition, os.path.join("VC", "Tools", "MSVC"), 1):
                for host in ("Hostx64", "HostARM64", "Hostarm64"):
                    for target in ("x64", "arm64"):
                        program = os.path.join(tools, "bin", host, target, "cl.exe")
                        if os.path.isfile(program):
                            found.append((os.path.basename(tools), program))
    return max(found)[1] if found else None


def _compiler(environ: Mapping[str, str], variable: str, usual: tuple[str, ...]) -> str | None:
    path = environ.get("PATH", "")
    # "ccache g++ -m64": the first word is what is started
    words = environ.get(variable, "").split()
    if words:
        return which(words[0], path) if os.path.basename(words[0]) == words[0] else _program(words[0])
    return next((program for program in (which(name, path) for name in usual) if program), None)


def _program(path: str) -> str | None:
    return path if os.access(path, os.X_OK) and os.path.isfile(path) else None


def _is_toolkit(path: str) -> bool:
    return os.path.isdir(os.path.join(path, "bin")) or os.path.isdir(os.path.join(path, "include"))


def _usual_homes(environ: Mapping[str, str]) -> Iterator[str]:
    if _WINDOWS:
        yield from sorted(_below(environ.get("ProgramFiles", ""), r"NVIDIA GPU Computing Toolkit\CUDA", 1))
    else:
        yield "/usr/local/cuda"


def _below(folder: str, name: str, levels: int) -> list[str]:
    """The folders so many levels below `folder/name`."""
    found = [os.path.join(folder, name)] if folder else []
    for _ in range(levels):
        found = [os.path.join(place, entry) for place in found for entry in _entries(place)]
    return found


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
