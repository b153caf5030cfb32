"""The Python that is inspected: what it is, and what may be installed into it."""

from __future__ import annotations

import os

from envguard.probes.distributions import distributions
from envguard.probes.observed import Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.probes.folders import Folders
    from envguard.probes.interpreter import Interpreter


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
