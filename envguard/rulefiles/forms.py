"""The forms that values of rules files have: what each is, and how one that is not is refused."""

from __future__ import annotations

from envguard.errors import BadRules
from envguard.versions import key, parse_clauses, parse_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from envguard.versions import Clause

    Table: TypeAlias = dict[str, Any]


def only(where: str, table: Any, required: set[str], optional: set[str]) -> None:
    """Refuse what is no table, or has other keys than it may or lacks one."""
    if not isinstance(table, dict):
        raise BadRules(f"{where}: expected a table, found {table!r}")
    for name in table:
        if name not in required and name not in optional:
            expected = ", ".join(sorted(required | optional))
            raise BadRules(f"{where}: {shown(name)}: unknown key, expected one of {expected}")
    for name in sorted(required):
        if name not in table:
            raise BadRules(f"{where}: {name}: missing")


def shown(name: str) -> str:
    """A key as its author wrote it, or quoted where it would break the line."""
    return name if name.isprintable() else repr(name)


def table_in(file: str, name: str, table: Table) -> Table:
    """A table of a table; empty where it is not there."""
    value: Any = table.get(name, {})
    if not isinstance(value, dict):
        raise BadRules(f"{file}: {name}: expected a table, found {value!r}")
    return value


def a_text(where: str, name: str, value: Any) -> None:
    """Refuse what is no text."""
    if not is_text(value):
        raise BadRules(f"{where}: {name}: expected text, found {value!r}")


def one_of(where: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of some choices."""
    if value not in choices:
        raise BadRules(f"{where}: {name}: expected one of {', '.join(choices)}, found {value!r}")


def list_of(where: str, name: str, values: Any, fits: Callable[[Any], bool], what: str, *, empty: bool = False) -> None:
    """Refuse what is no list of such strings. One that may not be `empty` may not hold a string twice either."""
    fine = isinstance(values, list) and all(isinstance(value, str) and fits(value) for value in values)
    if not fine or (not empty and (not values or len(set(values)) < len(values))):
        raise BadRules(f"{where}: {name}: expected a list {what}{'' if empty else ', each once'}, found {values!r}")


def is_text(value: Any) -> bool:
    """Whether a value is a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def is_number(text: str) -> bool:
    """Whether a text is a whole number."""
    return text.isascii() and text.isdigit()


def is_version(value: Any) -> bool:
    """Whether a value is a PEP 440 version."""
    return isinstance(value, str) and key(value) is not None


def is_capability(value: Any) -> bool:
    """Whether a value is two whole numbers with a dot, such as a compute capability."""
    major, _, minor = value.partition(".") if isinstance(value, str) else ("", "", "")
    return is_number(major) and is_number(minor)


def is_wanted(value: Any) -> bool:
    """Whether a value is a requirement without markers."""
    try:
        return value.isascii() and bool(parse_wanted(value))
    except (ValueError, AttributeError):
        return False


def is_clauses(value: Any) -> bool:
    """Whether a value is a list of version comparisons."""
    try:
        return bool(parse_clauses(value))
    except (ValueError, TypeError, AttributeError):
        return False


def are_plain(clauses: tuple[Clause, ...]) -> bool:
    """Whether clauses have a meaning between two plain versions: ~=, === and 1.2.* are of specifiers alone."""
    return not any(clause.operator in ("~=", "===") or clause.version.endswith(".*") for clause in clauses)


def list_from(choices: tuple[str, ...]) -> Callable[[Any], bool]:
    """Whether a value is a list of some choices (none: of any strings), each once."""

    def fits(value: Any) -> bool:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return False
        return 0 < len(value) == len(set(value)) and all(not choices or item in choices for item in value)

    return fits


def is_table(
    required: dict[str, Callable[[Any], bool]], optional: dict[str, Callable[[Any], bool]]
) -> Callable[[Any], bool]:
    """Whether a value is a table with these keys, each of which fits."""
    known = {**required, **optional}

    def fits(value: Any) -> bool:
        keys = value if isinstance(value, dict) else {"": None}
        return required.keys() <= keys.keys() <= known.keys() and all(known[name](keys[name]) for name in keys)

    return fits
