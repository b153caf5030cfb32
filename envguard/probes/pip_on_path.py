"""What the Python has into which the `pip` on PATH installs: the usual reason why an installed package is not here.

That Python is read from the first lines of the script, and its packages from a list of its folder: nothing is started.
"""

from __future__ import annotations

import os

from envguard.probes.folders import text
from envguard.probes.toolchain import which
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envguard.probes.interpreter import Interpreter


def pip_on_path(interpreter: Interpreter, environ: Mapping[str, str]) -> str | None:
    """The Python of the pip on PATH where that is of another environment than the interpreter; None where it is of this
    one, or cannot be told.
    """
    pip = which("pip", environ.get("PATH", ""))
    if pip is None:
        return None
    if pip.endswith(".exe"):  # a program in the folder Scripts of an environment
        other = os.path.join(os.path.dirname(os.path.dirname(pip)), "python.exe")
        prefix = os.path.dirname(other)
    else:
        other = shebang(text(pip, 1 << 10))
        prefix = os.path.dirname(os.path.dirname(other))
    if not os.path.isabs(other) or os.path.basename(other) == "env":
        return None
    return None if _same(prefix, interpreter.prefix) else other


def installed_there(python: str, names: Iterable[str]) -> list[str]:
    """Which of some distributions the environment of a Python has."""
    prefix = os.path.dirname(os.path.dirname(python))
    library = os.path.join(prefix, "lib")
    places = [os.path.join(library, each, "site-packages") for each in _entries(library) if each.startswith("python")]
    places.append(os.path.join(os.path.dirname(python), "Lib", "site-packages"))  # Windows
    entries = [entry for place in places for entry in _entries(place) if entry.endswith(".dist-info")]
    there = {normalize(entry.partition("-")[0]) for entry in entries}
    return sorted(there.intersection(names))


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def shebang(script: str) -> str:
    """The interpreter that a script names in its first line, "" where it names none.

    Where the path is too long or has a space, installers write a line for /bin/sh and the path in the second one.
    """
    first, _, rest = script.partition("\n")
    if not first.startswith("#!"):
        return ""
    if first.strip() != "#!/bin/sh":
        return first[2:].strip().partition(" ")[0]
    _, found, command = rest.partition("\n")[0].partition("exec' ")
    if command.startswith('"'):
        return command[1:].partition('"')[0]
    return command.partition(" ")[0] if found else ""


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.normcase(one) == os.path.normcase(other)
