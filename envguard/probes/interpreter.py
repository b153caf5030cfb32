"""Which Python is inspected, the running one or another one that is asked once; and the facts about it.

Where each field comes from (running process / another interpreter):

- `executable`: sys.executable / the same, as that interpreter says it; symbolic links stay: a venv is one
- `version`: sys.version_info, written as in PEP 440
- `implementation`: sys.implementation.name, in the spelling of `platform_python_implementation` (PEP 508)
- `prefix`, `base_prefix`: sys
- `stdlib`: the folder of os.py / sysconfig; where PEP 668 looks for EXTERNALLY-MANAGED
- `path`: sys.path / the same after site, without the entry for the script's own folder
- `purelib`: built from the prefix and looked up in sys.path, sysconfig only where that fails / sysconfig
- `include`: built from the base prefix as sysconfig does / sysconfig, with the scheme of torch.utils.cpp_extension
- `free_threaded`: sys.abiflags, sysconfig only where there is none / sysconfig
- `machine`: os.uname, narrowed for a 32-bit Python; sys.version on Windows, where it names the build and not the host
- `suffixes`: the file name endings of extension modules, from the import system
"""

from __future__ import annotations

import os
import sys

from envguard.frozen import Frozen
from envguard.probes import Observed
from envguard.probes.distributions import distributions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envguard.probes.folders import Folders

SECONDS = 10.0  # that another interpreter has to answer

SYSTEMS = {"linux": "Linux", "win32": "Windows", "cygwin": "Windows", "darwin": "Darwin"}

_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalVM"}
_LEVELS = {"alpha": "a", "beta": "b", "candidate": "rc"}
_NARROW = {"x86_64": "i686", "aarch64": "armv8l"}


class Interpreter(Frozen):
    """One Python: the running process (`current`) or another interpreter or virtual environment."""

    executable: str
    version: str
    implementation: str
    prefix: str
    base_prefix: str
    stdlib: str
    path: tuple[str, ...]
    purelib: str
    include: str = ""
    free_threaded: bool = False
    machine: str = ""
    suffixes: tuple[str, ...] = (".so",)
    current: bool = False


def current() -> Interpreter:
    """The running process."""
    import _imp  # built in and loaded by every interpreter before anything else

    entries: list[object] = [*sys.path]  # programs put Path objects there too; the import system passes over them
    path = tuple(_absolute(entry) for entry in entries if isinstance(entry, str))
    return Interpreter(
        executable=sys.executable or "",
        version=version_text(sys.version_info),
        implementation=implementation_text(sys.implementation.name),
        prefix=sys.prefix,
        base_prefix=sys.base_prefix,
        stdlib=os.path.dirname(os.__file__),
        path=path,
        purelib=_purelib(path),
        include=_include(),
        free_threaded=_free_threaded(),
        machine=machine_text(os.uname().machine if hasattr(os, "uname") else "", sys.version, sys.maxsize > 1 << 32),
        suffixes=tuple(_imp.extension_suffixes()),
        current=True,
    )


def ask(executable: str, seconds: float = SECONDS) -> Interpreter:
    """Another interpreter: a path, a name on PATH, or the folder of a virtual or conda environment.

    Starts it once, without torch or anything else that is installed in it. Raises BadInterpreter.
    """
    from envguard.probes import other_interpreter

    return other_interpreter.ask(executable, seconds)


def python_facts(interpreter: Interpreter, folders: Folders | None = None) -> Observed:
    """Section `python`."""
    virtual = interpreter.prefix != interpreter.base_prefix
    value: dict[str, Any] = {
        "version": interpreter.version,
        "implementation": interpreter.implementation,
        "executable": interpreter.executable,
        "prefix": interpreter.prefix,
        "free_threaded": interpreter.free_threaded,
        # PEP 668 protects the Python of a system; a virtual environment made from it is the user's own
        "externally_managed": not virtual and os.path.isfile(os.path.join(interpreter.stdlib, "EXTERNALLY-MANAGED")),
        "writable": can_write(interpreter.purelib),
        "conda_prefix": interpreter.prefix if is_conda(interpreter.prefix) else None,
        "virtual_environment": virtual,
    }
    unreadable: dict[str, str] = {}
    found = distributions(interpreter.path, frozenset(("pip",)), folders)
    if "pip" not in found.value:
        unreadable["/python/pip"] = found.unreadable["/distributions/pip"]
    elif found.value["pip"] is None:
        value["pip"] = None
    elif found.value["pip"]["version"] is None:
        unreadable["/python/pip"] = found.unreadable["/distributions/pip/version"]
    else:
        value["pip"] = found.value["pip"]["version"]
    return Observed(value, unreadable)


def can_write(folder: str) -> bool:
    """True where files can be made in a folder, or where it can be made itself. Read-only mounts count as no.

    Nothing is written to find out. On Windows the system does not tell without that: there only a missing folder is no.
    """
    while not os.path.isdir(folder):
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
    return os.access(folder, os.W_OK | os.X_OK)


def is_conda(prefix: str) -> bool:
    """True for the root of a conda environment. CONDA_PREFIX would name the active one, which may be another."""
    return os.path.isdir(os.path.join(prefix, "conda-meta"))


def system_fact(machine: str = "") -> Observed:
    """The operating system, which another interpreter runs on too, an architecture, and glibc where it says so itself;
    as section `host` has them.
    """
    system = SYSTEMS.get(sys.platform)
    value = {"machine": machine} if machine else {}
    glibc = glibc_text() if system == "Linux" else None
    if glibc:
        value["libc"] = glibc
    if system is None:
        return Observed(value, {"/host/system": f"{sys.platform} is not a system that envguard knows"})
    return Observed({"system": system, **value})


def glibc_text() -> str | None:
    """`glibc 2.36`, None where the C library is another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError, AttributeError):
        return None


def implementation_text(name: str) -> str:
    """`sys.implementation.name` as PEP 508 writes `platform_python_implementation`: CPython, PyPy."""
    return _IMPLEMENTATIONS.get(name, name)


def version_text(info: Sequence[Any]) -> str:
    """`sys.version_info` as PEP 440 writes it: 3.13.0, 3.15.0a2, 3.14.0rc1."""
    major, minor, micro, level, serial = info
    return f"{major}.{minor}.{micro}" + (f"{_LEVELS[level]}{serial}" if level in _LEVELS else "")


def machine_text(uname: str, version: str, wide: bool) -> str:
    """The architecture that a Python was built for, from os.uname().machine ("" on Windows) and sys.version."""
    if not uname:
        bits = version[version.rfind("[") :].upper()
        return next((name for name in ("ARM64", "AMD64", "ARM") if f"({name})" in bits), "x86")
    return uname if wide else _NARROW.get(uname, uname)


def _absolute(entry: str) -> str:
    # "" is the working directory of the moment; one that is gone holds no modules
    if entry and os.path.isabs(entry):
        return entry
    try:
        return os.path.abspath(entry)
    except FileNotFoundError:
        return entry


def _purelib(path: tuple[str, ...]) -> str:
    short = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if os.name == "nt":
        usual = os.path.join(sys.prefix, "Lib", "site-packages")
    else:
        name = "pypy" if sys.implementation.name == "pypy" else "python"
        thread = "t" if "t" in sys.abiflags else ""
        usual = f"{sys.prefix}/lib/{name}{short}{thread}/site-packages"
    if usual in path:
        return usual
    # Debian's own Python installs into dist-packages; the first one under the prefix is where pip writes
    for entry in path:
        if entry.startswith(sys.prefix) and entry.endswith("-packages"):
            return entry
    import sysconfig

    return sysconfig.get_path("purelib")


def _include() -> str:
    if os.name == "nt":
        return os.path.join(sys.base_prefix, "Include")
    name = "pypy" if sys.implementation.name == "pypy" else "python"
    return f"{sys.base_prefix}/include/{name}{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"


def _free_threaded() -> bool:
    flags = getattr(sys, "abiflags", None)
    if flags is not None:
        return "t" in flags
    import sysconfig

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
