"""Where a project names a package: the lines of its dependency files at which an annotation can be shown.

The files are only looked through for names. What they require is nobody's business here, so a file that does not hold
to its format names what its lines name.
"""

from __future__ import annotations

import os
import re

from envguard.output.findings import Anchor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LARGEST = 16 * 1024 * 1024  # bytes; a lock file of a thousand packages has a tenth of that
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock")

_TABLE = re.compile(r"\s*\[{1,2}\s*([^\[\]\"'{}]+?)\s*\]{1,2}\s*(#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_STRING = re.compile(r"""["']\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?=["'\[<>=!~;@(\s])""")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?=$|[\[<>=!~;@(#\s])")
_LOCKED = re.compile(r"""name\s*=\s*["']([A-Za-z0-9][A-Za-z0-9._-]*)["']\s*$""")
_SEPARATORS = re.compile(r"[-_.]+")


def find_anchors(
    folder: str, root: str | None = None, first: Sequence[str] = ()
) -> Callable[[Sequence[str]], Anchor | None]:
    """For the names of some packages, the line of a dependency file in a folder that names the first of them.

    Where no line names one, it is the first line of the first such file; None where there is no such file. Paths are
    relative to `root`, where the folder lies inside it, else to the folder. Files that were judged themselves come
    `first`.
    """
    prefix = _prefix(folder, root)
    found: list[tuple[str, dict[str, int]]] = []
    for name, read in {**_judged(folder, first), **_files(folder)}.items():
        text = _text(os.path.join(folder, name))
        if text is not None:
            lines: dict[str, int] = {}
            for package, line in read(text):
                lines.setdefault(normal(package), line)
            found.append((prefix + name, lines))

    def anchor(names: Sequence[str]) -> Anchor | None:
        for name in map(normal, names):
            for path, lines in found:
                if name in lines:
                    return Anchor(path, lines[name])
        return Anchor(found[0][0], 1) if found else None

    return anchor


def normal(name: str) -> str:
    """A distribution's name as the index compares it."""
    return _SEPARATORS.sub("-", name).lower()


def named_in_pyproject(text: str) -> Iterator[tuple[str, int]]:
    """Each package that a dependency table of a pyproject.toml names, and its line."""
    table = key = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        heading = _TABLE.match(line)
        if heading is not None:
            table, key = heading[1].replace(" ", ""), ""
            continue
        named = _KEY.match(line)
        if named is not None:
            key = named[1]
        if table.startswith("tool.") and table.endswith("dependencies"):  # of poetry: the key is the name
            if named is not None:
                yield key, number
        elif _holds_requirements(table, key):
            for name in _STRING.findall(line):
                yield name, number


def _holds_requirements(table: str, key: str) -> bool:
    if table == "project":
        return key == "dependencies"
    return table in ("project.optional-dependencies", "dependency-groups")


def named_in_requirements(text: str) -> Iterator[tuple[str, int]]:
    """Each package that a line of a requirements file begins with."""
    for number, line in enumerate(text.splitlines(), 1):
        named = _REQUIREMENT.match(line)
        if named is not None:
            yield named[1], number


def named_in_lock(text: str) -> Iterator[tuple[str, int]]:
    """Each package of a lock file in TOML: uv.lock, pylock.toml, poetry.lock, pdm.lock."""
    for number, line in enumerate(text.splitlines(), 1):
        named = _LOCKED.match(line)
        if named is not None:
            yield named[1], number


def _judged(folder: str, paths: Sequence[str]) -> dict[str, Callable[[str], Iterator[tuple[str, int]]]]:
    """Those of some paths that lie inside a folder, by what they are called in it."""
    made: dict[str, Callable[[str], Iterator[tuple[str, int]]]] = {}
    for path in paths:
        inside = _prefix(path, folder)[:-1] if path != "-" else ""
        if inside:
            lock = inside.endswith((".lock", ".toml"))
            made[inside] = named_in_lock if lock else named_in_requirements
    return made


def _files(folder: str) -> dict[str, Callable[[str], Iterator[tuple[str, int]]]]:
    """What people write comes before what tools write."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    requirements = [name for name in names if name.startswith("requirements") and name.endswith((".txt", ".in"))]
    locks = [name for name in names if name in _LOCKS or (name.startswith("pylock.") and name.endswith(".toml"))]
    return {
        **dict.fromkeys(["pyproject.toml"] if "pyproject.toml" in names else [], named_in_pyproject),
        **dict.fromkeys(requirements, named_in_requirements),
        **dict.fromkeys(locks, named_in_lock),
    }


def _text(path: str) -> str | None:
    """The file's text, None where it cannot be read: an annotation does without its line then."""
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError:
        return None


def _prefix(folder: str, root: str | None) -> str:
    if not root:
        return ""
    try:
        inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(root))
    except (OSError, ValueError):  # the folder is gone; on Windows, another drive
        return ""
    if inside == os.curdir or inside.split(os.sep)[0] == os.pardir:
        return ""
    return inside.replace(os.sep, "/") + "/"
