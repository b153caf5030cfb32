"""What distributions declare, with the markers of PEP 508 held against what is known of a machine.

Own code because importing `packaging.markers` takes as long as a whole check, and it knows no third answer, "that is
not known"; a property test holds the two equal.
"""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.versions import key, normalize, parse_clauses, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.model import Environment
    from envguard.versions import Wanted

NOT_FOLLOWED = ("torch",)  # has rules of its own about what it declares

_VERSIONS = ("python_version", "python_full_version", "implementation_version")
_OPERATORS = ("===", "==", "~=", "!=", "<=", ">=", "<", ">", "not in", "in")
# what Python calls each system: sys.platform and os.name
SYSTEMS = {"Linux": ("linux", "posix"), "Windows": ("win32", "nt"), "Darwin": ("darwin", "posix")}


_known: dict[Any, Mapping[str, str]] = {}
_MOST_KNOWN = 1_000


def known_of(environment: Environment) -> Mapping[str, str]:
    """The marker variables that the facts of an environment decide."""
    fact = environment.fact
    facts = fact("python", "version"), fact("python", "implementation"), fact("host", "system"), fact("host", "machine")
    known = _known.get(facts)
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[facts] = variables(*facts)
    return known


def variables(version: Any, implementation: Any, system: Any, machine: Any) -> dict[str, str]:
    """The marker variables that four facts decide, as far as each is a text."""
    known: dict[str, str] = {}
    if isinstance(version, str):
        numbers = version.split(".")
        known["python_version"] = ".".join(numbers[:2])
        if len(numbers) > 2:
            known["python_full_version"] = known["implementation_version"] = version
    if isinstance(implementation, str):
        known["platform_python_implementation"] = implementation
        known["implementation_name"] = implementation.lower()
    if isinstance(system, str) and system in SYSTEMS:
        known["platform_system"] = system
        known["sys_platform"], known["os_name"] = SYSTEMS[system]
    if isinstance(machine, str):
        known["platform_machine"] = machine
    return known


_declared: dict[tuple[tuple[str, ...], bool], _Lines | None] = {}
_MOST_DECLARED = 1_000


class _Lines(Frozen):
    """Requirement and marker of each of some Requires-Dist lines; `wanted` where none has a marker."""

    each: tuple[tuple[Wanted, str | None], ...]
    wanted: tuple[Wanted, ...] | None


def declared(
    requires: tuple[str, ...], known: Mapping[str, str], extras: tuple[str, ...] = ()
) -> tuple[Wanted, ...] | None:
    """What Requires-Dist lines ask for where some marker variables are known; None where a line cannot be read.

    A line whose marker does not hold, or of which that is not known, is left out, and so are those of other extras.
    """
    lines = _declared_lines(requires, bool(extras))
    if lines is None or lines.wanted is not None:
        return None if lines is None else lines.wanted
    asked = [{**known, "extra": extra} for extra in ("", *extras)]
    return tuple(
        [wanted for wanted, marker in lines.each if marker is None or any(holds(marker, one) for one in asked)]
    )


def _declared_lines(requires: tuple[str, ...], all_of_them: bool) -> _Lines | None:
    """The lines read; those for extras only where they are asked for, because there are many."""
    asked = requires, all_of_them
    try:
        return _declared[asked]
    except KeyError:
        pass
    if len(_declared) >= _MOST_DECLARED:
        _declared.clear()
    lines = requires if all_of_them else [one for one in requires if "extra" not in one.partition(";")[2]]
    parts = [line.partition(";") for line in lines]
    try:
        each = tuple([(parse_wanted(text), marker or None) for text, _, marker in parts])
    except ValueError:
        _declared[asked] = None
        return None
    wanted = tuple([wanted for wanted, marker in each if marker is None])
    made = _declared[asked] = _Lines(each, wanted if len(wanted) == len(each) else None)
    return made


_names: dict[str, str] = {}
_MOST_NAMES = 10_000


def name_of(line: str) -> str:
    """The distribution that a Requires-Dist line is about."""
    name = _names.get(line)
    if name is None:
        if len(_names) >= _MOST_NAMES:
            _names.clear()
        end = next((index for index, sign in enumerate(line) if sign in "<>=!~[ (;@"), len(line))
        name = _names[line] = normalize(line[:end])
    return name


def holds(marker: str, known: Mapping[str, str]) -> bool | None:
    """Whether a marker holds; None where a variable is not known, or the marker cannot be read."""
    try:
        tokens = _tokens(marker)
        answer, rest = _either(tokens, known)
    except (ValueError, IndexError, RecursionError):
        return None
    return None if rest else answer


def _tokens(text: str) -> list[str]:
    """Names, quoted values (with their first quote), operators and parentheses."""
    found: list[str] = []
    place, end = 0, len(text)
    while place < end:
        letter = text[place]
        if letter.isspace():
            place += 1
        elif letter in "()":
            found.append(letter)
            place += 1
        elif letter in "'\"":
            close = text.index(letter, place + 1)
            found.append("'" + text[place + 1 : close])
            place = close + 1
        elif letter in "=<>!~":
            begin = place
            while place < end and text[place] in "=<>!~":
                place += 1
            found.append(text[begin:place])
        else:
            begin = place
            while place < end and (text[place].isalnum() or text[place] in "_.-"):
                place += 1
            if begin == place:
                raise ValueError(text)
            found.append(text[begin:place])
    return found


def _either(tokens: list[str], known: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    answer, rest = _both(tokens, known)
    while rest and rest[0] == "or":
        other, rest = _both(rest[1:], known)
        answer = True if answer or other else None if answer is None or other is None else False
    return answer, rest


def _both(tokens: list[str], known: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    answer, rest = _one(tokens, known)
    while rest and rest[0] == "and":
        other, rest = _one(rest[1:], known)
        answer = False if answer is False or other is False else None if answer is None or other is None else True
    return answer, rest


def _one(tokens: list[str], known: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    if tokens[0] == "(":
        answer, rest = _either(tokens[1:], known)
        if rest[0] != ")":
            raise ValueError("unclosed bracket")
        return answer, rest[1:]
    left, operator, rest = tokens[0], tokens[1], tokens[2:]
    if operator == "not":
        operator, rest = f"not {rest[0]}", rest[1:]
    right, rest = rest[0], rest[1:]
    if operator not in _OPERATORS or (left[0] == "'") == (right[0] == "'"):
        raise ValueError("not a comparison of a variable with a value")
    name = (right if left[0] == "'" else left).replace(".", "_")
    if name == "extra":
        known = {"extra": "", **known}
    if name not in known:
        return None, rest
    one = left[1:] if left[0] == "'" else known[name]
    other = right[1:] if right[0] == "'" else known[name]
    return _compare(name, one, operator, other), rest


def _compare(name: str, one: str, operator: str, other: str) -> bool | None:
    if operator in ("in", "not in"):
        return (one in other) == (operator == "in")
    if name in _VERSIONS and key(one) is not None:
        try:
            return satisfies(one, parse_clauses(operator + other), "specifier")
        except ValueError:
            return None
    if name == "extra":
        one, other = one.lower().replace("_", "-"), other.lower().replace("_", "-")
    return {"==": one == other, "===": one == other, "!=": one != other}.get(operator)
