"""Rules of others: of a folder, or of an installed package that ships some. Data alone, read within bounds.

A package says so by an entry point of the group `envguard.rules`, whose value is the module path of a folder of its own
with `*.toml` files in it. The folder is found through the package's metadata and never imported.
"""

from __future__ import annotations

import os
import stat

from envguard.errors import BadRules
from envguard.rulefiles import added_to, parse_table
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.rulebook import RuleBook

GROUP = "envguard.rules"
_MOST_ENTRIES, _MOST_FILES, _MOST_BYTES, _MOST_ROWS = 10_000, 100, 1 << 20, 2_000
_MOST_METADATA = 1 << 24  # bytes; a RECORD of such length names a hundred thousand files
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def with_folder(book: RuleBook, folder: str) -> RuleBook:
    """A book with the rules of a folder. Raises BadRules: one line with file and key."""
    try:
        with os.scandir(folder) as entries:
            names = []
            for number, entry in enumerate(entries):
                if number >= _MOST_ENTRIES:
                    raise BadRules(f"{folder}: more than {_MOST_ENTRIES} entries, which no rules folder has")
                if entry.name.endswith(".toml"):
                    names.append(entry.name)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else error
        raise BadRules(str(error) if isinstance(error, BadRules) else f"{folder}: cannot be read: {why}") from None
    if not names:
        raise BadRules(f"{folder}: expected rules in files that end in .toml, found none")
    return added_to(book, _tables(folder, names, folder))


def with_packages(book: RuleBook, packages: Iterable[tuple[str, str]]) -> RuleBook:
    """A book with the rules of installed packages: folder of the search path and metadata folder of each.

    Of two with one name the first counts, as for Python. Raises BadRules: one line with package, file and key.
    """
    seen = set()
    for place, entry in packages:
        name = normalize(entry.partition("-")[0])
        if name in seen:
            continue
        seen.add(name)
        for module in _entry_points(os.path.join(place, entry)):
            base, folder, names = _located(name, module, place, entry)
            try:
                book = added_to(book, _tables(folder, names, base), name)
            except BadRules as error:
                raise BadRules(f"{name}: {error} (without it: ENVGUARD_ADDED_RULES=0)") from None
    return book


def _tables(folder: str, names: list[str], base: str) -> dict[str, Any]:
    """The tables of some files of a folder, none of which may lie outside `base`."""
    if len(names) > _MOST_FILES:
        raise BadRules(f"{folder}: more than {_MOST_FILES} files")
    tables: dict[str, Any] = {}
    rows = 0
    inside = os.path.realpath(base) + os.sep
    for name in sorted(names):
        path = os.path.join(folder, name)
        if not os.path.realpath(path).startswith(inside):
            raise BadRules(f"{path}: expected a file of the folder itself, found a link that leads out of it")
        table = tables[path] = parse_table(path, _read(path))
        more = table.get("rule", ())
        rows += len(more) if isinstance(more, list) else 0
        if rows > _MOST_ROWS:
            raise BadRules(f"{path}: more than {_MOST_ROWS} rules")
    return tables


def _read(path: str, most: int = _MOST_BYTES) -> bytes:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise BadRules(f"{path}: cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadRules(f"{path}: cannot be read: it is no file")
        data = file.read(most + 1)
    if len(data) > most:
        raise BadRules(f"{path}: longer than {most >> 20} MiB, which no such file is")
    return data


def _entry_points(metadata: str) -> list[str]:
    """The module paths that a distribution names in our group."""
    path = os.path.join(metadata, "entry_points.txt")
    if not os.path.exists(path):
        return []
    found, ours = [], False
    for line in _read(path).decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            ours = text == f"[{GROUP}]"
        elif ours and "=" in text and not text.startswith(("#", ";")):
            found.append(text.partition("=")[2].strip())
    return found


def _located(name: str, module: str, place: str, entry: str) -> tuple[str, str, list[str]]:
    """Where a module path lies: the folder that it is below, its own, and the rules files in it.

    What is installed lists its files in RECORD, an editable project its folder in a .pth file. Raises BadRules.
    """
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        raise BadRules(f"{name}: entry point {GROUP}: expected the module path of a folder, found {module[:100]!r}")
    record = _read(os.path.join(place, entry, "RECORD"), _MOST_METADATA).decode("utf-8", "replace").splitlines()
    files = [line.rpartition(",")[0].rpartition(",")[0].strip('"') for line in record]
    start = "/".join(parts) + "/"
    names = [file[len(start) :] for file in files if file.startswith(start) and file.endswith(".toml")]
    base = place
    if not names:
        for file in files:
            project = _project(os.path.join(place, file)) if file.endswith(".pth") and "/" not in file else None
            if project is not None and os.path.isdir(os.path.join(project, *parts)):
                base = project
                names = [each for each in os.listdir(os.path.join(base, *parts)) if each.endswith(".toml")]
    names = [each for each in names if "/" not in each and "\\" not in each]
    if not names:
        raise BadRules(f"{name}: entry point {GROUP}: no file that ends in .toml is installed in {module}")
    return base, os.path.join(base, *parts), names


def _project(path: str) -> str | None:
    """The folder that a .pth file adds to the search path; a line of code in it is not run, and is none."""
    for line in _read(path).decode("utf-8", "replace").splitlines():
        if line.strip() and not line.startswith(("import ", "import\t", "#")):
            return line.strip()
    return None
