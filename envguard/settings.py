"""`[tool.envguard]` of the nearest pyproject.toml: what a project decided for the command line and the pytest plugin.

It has one key, `ignore`, a list of rule ids. A file without that table costs one small read; no other file is read.
"""

from __future__ import annotations

import os
import sys

from envguard.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from envguard.rulebook import RuleBook

_FILE = "pyproject.toml"
_MOST = 1 << 20  # bytes: no pyproject.toml that a person wrote is as long


def ignored(folder: str, book: Callable[[], RuleBook]) -> tuple[str, ...]:
    """The rules that the project around a folder ignores. Raises BadInput: one line that names file and key."""
    path = _nearest(folder)
    table = _table(path) if path is not None else None
    if path is None or table is None:
        return ()
    where = f"{path}: tool.envguard"
    for name in table:
        if name != "ignore":
            raise BadInput(f"{where}.{name if name.isprintable() else repr(name)}: unknown key, expected ignore")
    ids = table.get("ignore", [])
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise BadInput(f"{where}.ignore: expected a list of rule ids such as torchao/version")
    known(f"{where}.ignore", ids, book())
    return tuple(ids)


def known(where: str, ids: Iterable[str], book: RuleBook) -> None:
    """Raises BadInput, in one line with the near names, for an id that no rule has."""
    unknown = [each for each in ids if each not in book.ids()]
    if unknown:
        from envguard.checks import near

        question = near(unknown[0], book.ids())
        raise BadInput(f"{where}: no rule has the id {unknown[0]!r}{question} (envguard rules lists them)")


def _nearest(folder: str) -> str | None:
    """The pyproject.toml of a folder, or of the nearest one above it."""
    while True:
        path = os.path.join(folder, _FILE)
        if os.path.isfile(path):
            return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _table(path: str) -> dict[str, Any] | None:
    """The table of a file, None where there is none. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    plain = data.replace(b" ", b"")
    if b"[tool.envguard" not in plain and b"\nenvguard.ignore" not in plain:
        return None
    if len(data) > _MOST:
        raise BadInput(f"{path}: longer than {_MOST} bytes")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: Any = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise BadInput(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and what int() says of a number of 5000 digits
        raise BadInput(f"{path}: not TOML: {error}") from error
    tool = content.get("tool")
    table = tool.get("envguard") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise BadInput(f"{path}: tool.envguard: expected a table")
    return table
