"""`[tool.envguard]` of the nearest pyproject.toml: what a project decided for the command line and the pytest plugin.

A file without that table costs one small read; no other file is read.
"""

from __future__ import annotations

import os
import sys

from envguard.frozen import Frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from envguard.errors import BadInput
    from envguard.rulebook import RuleBook

_FILE = "pyproject.toml"
_MOST = 1 << 20  # bytes: no pyproject.toml that a person wrote is as long
_SIGNS = (b"tool.envguard", b"\nenvguard.", b"\nenvguard={", b"{envguard")  # without spaces and quotes
_SPECS = "a list of backends such as bnb:nf4"
_KEYS = {
    "backends": _SPECS,
    "host": "auto, diffusers, transformers or none",
    "device": "a device such as cuda or cpu",
    "ignore": "a list of rule ids such as torchao/version",
    "required": _SPECS,
    "rules": "a list of folders of further rules, from where the file lies",
}


class Settings(Frozen):
    """The table; what it does not say is None or empty. `where` names it in messages."""

    where: str
    backends: tuple[str, ...] = ()
    host: str | None = None
    device: str | None = None
    ignore: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def _bad(text: str) -> BadInput:
    from envguard.errors import BadInput  # here: most projects have nothing that is wrong

    return BadInput(text)


def find(folder: str, book: Callable[[tuple[str, ...]], RuleBook]) -> Settings | None:
    """The settings of the project around a folder, None where it has none. `book` loads the rules, with some folders.

    Raises BadInput: one line that names file and key, also for a backend, device or rule that does not exist.
    """
    path = _nearest(folder)
    table = _table(path) if path is not None else None
    if path is None or table is None:
        return None
    settings = parse(table, f"{path}: tool.envguard")
    if settings.rules:
        beside = os.path.dirname(path)
        settings = replace(settings, rules=tuple([os.path.join(beside, rules) for rules in settings.rules]))
    _check(settings, lambda: book(settings.rules))
    return settings


def parse(table: dict[str, Any], where: str) -> Settings:
    """The settings that a table holds. Raises BadInput for an unknown key or a value of another type."""
    given: dict[str, Any] = {}
    for name, value in table.items():
        expected = _KEYS.get(name)
        if expected is None:
            shown = name if name.isprintable() else repr(name)
            raise _bad(f"{where}.{shown}: unknown key, expected {', '.join(_KEYS)}")
        one = name in ("host", "device")
        values = [value] if one else value
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise _bad(f"{where}.{name}: expected {expected}")
        given[name] = value if one else tuple(values)
    return Settings(where, **given)


def known(where: str, ids: Sequence[str], book: RuleBook) -> None:
    """Raises BadInput, in one line with the near names, for an id that no rule has."""
    if not ids:
        return
    from envguard import trials

    unknown = trials.unknown(ids, book)
    if unknown:
        from envguard.specs import near

        question = near(unknown[0], trials.ids(book))
        raise _bad(f"{where}: no rule has the id {unknown[0]!r}{question} (envguard rules lists them)")


def _check(settings: Settings, book: Callable[[], RuleBook]) -> None:
    from envguard.specs import resolve_spec, validate

    key = "host"
    try:
        validate(settings.host or "auto", "auto", "quantize")
        key = "device"
        validate("auto", settings.device or "auto", "quantize")
        key = "rules"
        if settings.rules:
            book()
        for key in ("backends", "required"):
            for spec in getattr(settings, key):
                resolve_spec(book(), spec)
    except ValueError as error:
        raise _bad(f"{settings.where}.{key}: {error}") from None
    if settings.ignore:
        known(f"{settings.where}.ignore", settings.ignore, book())


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
        raise _bad(f"{path}: cannot be read: {error.strerror}") from error
    if b"envguard" not in data:
        return None
    plain = data.translate(None, b" \t\"'")
    if not any(sign in plain for sign in _SIGNS):
        return None
    if len(data) > _MOST:
        raise _bad(f"{path}: longer than {_MOST} bytes")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: Any = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise _bad(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and what int() says of a number of 5000 digits
        raise _bad(f"{path}: not TOML: {error}") from error
    tool = content.get("tool")
    table = tool.get("envguard") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise _bad(f"{path}: tool.envguard: expected a table")
    return table
