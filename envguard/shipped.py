"""The rules that ship with envguard, and those that others add to them.

The compiled rows that the build writes are preferred, because parsing the TOML costs more than a whole check; in a
checkout they count only while the files are the ones they were made from. A test holds the two forms equal.
"""

from __future__ import annotations

import os
import sys

from envguard.rulebook import RuleBook
from envguard.rulepackages import shipping_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.rulebook import Tables


def stamps(folder: str) -> tuple[tuple[str, int, int], ...]:
    """Name, size and modification time (ns) of every rules file: equal stamps, equal rules."""
    with os.scandir(folder) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".toml")]
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))


_loaded: RuleBook | None = None
_used: tuple[tuple[str, ...], RuleBook | None] = (), None  # the folders of `use`, and what came of them


def load(folders: Iterable[str] = ()) -> RuleBook:
    """The rules: our own, those of installed packages that ship some, and those of some folders; read once a process.

    Raises BadRules where a file does not hold to the format.
    """
    global _loaded
    if _loaded is None:
        book = RuleBook(_compiled_tables() or _read_tables())
        packages = shipping_rules(os.environ, sys.path)
        if packages:
            from envguard.addedrules import with_packages

            book = with_packages(book, packages)
        _loaded = book
    folders = tuple(folders)
    if not folders:
        return _loaded
    from envguard.addedrules import with_folder

    book = _loaded
    for folder in folders:
        book = with_folder(book, folder)
    return book


def use(folders: Iterable[str]) -> RuleBook:
    """`load`, from now on with these folders for everybody in this process, as a project's settings ask."""
    global _loaded, _used
    asked = tuple(folders)
    if asked and (asked, _loaded) != _used:
        _loaded = load(asked)
        _used = asked, _loaded
    return load()


def rules_folder() -> str:
    """The checkout's own `rules/` where there is one (an editable install would otherwise read a stale copy), else the
    one in the wheel.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.dirname(package)
    try:
        with open(os.path.join(checkout, "pyproject.toml"), encoding="utf-8") as project:
            if 'name = "envguard-quant"' in project.read(1000):
                return os.path.join(checkout, "rules")
    except OSError:
        pass
    return os.path.join(package, "_rules")


def _compiled_tables() -> Tables | None:
    try:
        from envguard import _compiled
    except ImportError:
        return None
    folder = rules_folder()
    tables: Any = _compiled.TABLES
    made: Tables = tables
    if folder.endswith("_rules"):  # a wheel's rules and their compiled form were built together
        return made
    try:
        return made if stamps(folder) == _compiled.STAMPS else None
    except OSError:
        return None  # reading the files will say what is wrong with them


def _read_tables() -> Tables:
    from envguard.rulefiles import read_folder

    return read_folder(rules_folder())


def compiled_source(folder: str) -> str:
    """Python source of a folder's checked tables, which the build puts beside this file as `_compiled.py`.

    Raises BadRules where a file does not hold to the format.
    """
    from envguard.rulefiles import plain, read_folder

    tables = _constant(plain(read_folder(folder)))
    head = '"""The rules of `rules/*.toml`, written by the build. Do not edit."""'
    return f"{head}\n\nSTAMPS = {stamps(folder)!r}\nTABLES = {tables!r}\n"


def _constant(value: Any) -> Any:
    """A table with tuples for its lists: bytecode holds a tuple ready-made and builds a list anew."""
    if isinstance(value, dict):
        return {name: _constant(item) for name, item in value.items()}
    return tuple(map(_constant, value)) if isinstance(value, list) else value
