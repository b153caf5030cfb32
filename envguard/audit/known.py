"""`known.toml`: which releases of a library hold a name, and the gates and rules that need no counterpart."""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase

from envguard.audit.gate import EFFECTS, KINDS, STAGES, Gate
from envguard.errors import BadRules
from envguard.frozen import Frozen
from envguard.versions import parse_clauses, satisfies

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.versions import Clause

_FILE = os.path.join(os.path.dirname(__file__), "known.toml")
_MATCHED = ("host", "method", "stage", "effect", "kind", "subject", "value", "exception", "file", "where")
_CHOICES = {"stage": STAGES, "effect": EFFECTS, "kind": KINDS}
_TABLES = {
    "symbol": ({"names", "in", "source"}, set()),
    "acknowledged": ({"reason"}, {*_MATCHED, "release", "rule"}),
    "unread": ({"rule", "reason"}, {"release"}),
}


class Symbol(Frozen):
    """Names of a distribution and the versions of it that hold them; the names may have `*`."""

    names: tuple[str, ...]
    clauses: tuple[Clause, ...]


class Acknowledged(Frozen):
    """Gates that no rule needs. What is left out does not restrict."""

    reason: str
    rule: str
    """The rule that the reason leans on: without a row of it for the release, the gate stays open. Or ""."""
    release: tuple[Clause, ...]
    patterns: tuple[tuple[str, tuple[str, ...]], ...]

    def fits(self, gate: Gate, version: str) -> bool:
        """Whether a gate of a release is meant."""
        if self.release and not satisfies(version, self.release, "version"):
            return False
        return all(_fits(getattr(gate, name), patterns) for name, patterns in self.patterns)


class Unread(Frozen):
    """A rule whose reason does not stand in the host's source as a test."""

    rule: str
    reason: str
    release: tuple[Clause, ...]


class Known(Frozen):
    """The whole file."""

    symbols: tuple[Symbol, ...]
    acknowledged: tuple[Acknowledged, ...]
    unread: tuple[Unread, ...]

    def versions_with(self, name: str) -> tuple[Clause, ...] | None:
        """The versions that hold a name, () for all of them; None where nobody has said."""
        return next((symbol.clauses for symbol in self.symbols if _fits(name, symbol.names)), None)


def load() -> Known:
    """The file that comes with envguard. Raises BadRules where it does not hold to its format."""
    with open(_FILE, "rb") as file:
        return parse(file.read().decode("utf-8"))


def parse(text: str) -> Known:
    """The tables of a text. Raises BadRules with table, number and key."""
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        raise BadRules(f"known.toml: not TOML: {error}") from None
    for name in tables:
        if name not in _TABLES:
            raise BadRules(f"known.toml: {name}: unknown table, expected one of {', '.join(_TABLES)}")
        if not isinstance(tables[name], list) or not all(isinstance(row, dict) for row in tables[name]):
            raise BadRules(f"known.toml: {name}: expected [[{name}]] tables")
    rows = {
        name: [_checked(name, number, row) for number, row in enumerate(tables.get(name, []), 1)] for name in _TABLES
    }
    return Known(
        tuple(Symbol(_texts(row["names"]), _clauses(row["in"])) for row in rows["symbol"]),
        tuple(
            Acknowledged(
                row["reason"],
                row.get("rule", ""),
                _clauses(row.get("release", "")),
                tuple((name, _texts(row[name])) for name in _MATCHED if name in row),
            )
            for row in rows["acknowledged"]
        ),
        tuple(Unread(row["rule"], row["reason"], _clauses(row.get("release", ""))) for row in rows["unread"]),
    )


def _checked(table: str, number: int, row: Mapping[str, Any]) -> Mapping[str, Any]:
    where = f"known.toml: {table} {number}"
    required, optional = _TABLES[table]
    for name, value in row.items():
        if name not in required | optional:
            raise BadRules(f"{where}: {name}: unknown key, expected one of {', '.join(sorted(required | optional))}")
        if (not value and name != "in") or not all(isinstance(text, str) for text in _texts(value)):
            raise BadRules(f"{where}: {name}: expected text or a list of texts, found {value!r}")
        for text in _texts(value):
            if name in _CHOICES and text not in _CHOICES[name]:
                raise BadRules(f"{where}: {name}: expected one of {', '.join(_CHOICES[name])}, found {text!r}")
        if name in ("in", "release"):
            try:
                _clauses(value)
            except ValueError as error:
                raise BadRules(f"{where}: {name}: {error}") from None
    for name in sorted(required - set(row)):
        raise BadRules(f"{where}: {name}: missing")
    return row


def _texts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _clauses(text: str) -> tuple[Clause, ...]:
    return parse_clauses(text) if text else ()


def _fits(value: str, patterns: tuple[str, ...]) -> bool:
    return any(value == pattern or fnmatchcase(value, pattern) for pattern in patterns)
