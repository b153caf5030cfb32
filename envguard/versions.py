"""PEP 440 versions and specifiers, compared without `packaging` where they are plain release numbers.

Own code because importing `packaging.specifiers` costs three times a bare interpreter start; whatever is not a plain
release (`1.2.3`, with or without a local part) is handed to `packaging`, and property tests hold the two equal.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Key: TypeAlias = tuple[Any, ...]

_OPERATORS = ("===", ">=", "<=", "==", "!=", "~=", ">", "<")
_NO_PRE = (1,)
_NO_POST = (-1,)
_NO_DEV = (1,)

_keys: dict[str, Key | None] = {}
_MOST_KEYS = 10_000  # keeps memory flat over any number of snapshots


class Clause(Frozen):
    """One comparison: an operator and the version it compares with, both as written."""

    operator: str
    version: str


class Wanted(Frozen):
    """A distribution and the versions of it that are wanted; `text` is the requirement as its author wrote it."""

    name: str
    extras: tuple[str, ...]
    clauses: tuple[Clause, ...]
    text: str


def normalize(name: str) -> str:
    """A distribution's name by PEP 503: lower case, runs of `-`, `_` and `.` as one `-`."""
    name = name.lower().replace("_", "-").replace(".", "-")
    while "--" in name:
        name = name.replace("--", "-")
    return name


_clauses: dict[str, tuple[Clause, ...]] = {}
_MOST_CLAUSES = 2_000


def parse_clauses(text: str) -> tuple[Clause, ...]:
    """The clauses of a specifier such as `>=0.15.0,<0.18`, in the order they were written.

    Raises ValueError for anything that is not a list of operators with PEP 440 versions.
    """
    known = _clauses.get(text)
    if known is None:
        if len(_clauses) >= _MOST_CLAUSES:
            _clauses.clear()
        known = _clauses[text] = _read_clauses(text)
    return known


def _read_clauses(text: str) -> tuple[Clause, ...]:
    clauses = []
    for written in text.split(","):
        part = written.strip()
        operator = next((sign for sign in _OPERATORS if part.startswith(sign)), None)
        version = part[len(operator) :].strip() if operator else ""
        bound = version[:-2] if version.endswith(".*") and operator in ("==", "!=") else version
        if operator is None or (operator != "===" and key(bound) is None):
            raise ValueError(f"{part!r} is not a version comparison such as >=1.2")
        clauses.append(Clause(operator, version))
    return tuple(clauses)


_wanted: dict[str, Wanted] = {}
_MOST_WANTED = 2_000


def parse_wanted(text: str) -> Wanted:
    """A requirement without markers, such as `nvidia-modelopt[hf]>=0.33.1`.

    Raises ValueError where the text has no name, a marker, a URL or a bad comparison.
    """
    known = _wanted.get(text)
    if known is None:
        if len(_wanted) >= _MOST_WANTED:
            _wanted.clear()
        known = _wanted[text] = _read_wanted(text)
    return known


def _read_wanted(text: str) -> Wanted:
    stripped = text.strip()
    end = next((index for index, sign in enumerate(stripped) if sign in "<>=!~[ (;@"), len(stripped))
    name, rest = stripped[:end], stripped[end:].strip()
    if not name or ";" in rest or "@" in rest or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(f"{text!r} is not a requirement such as torchao>=0.15.0")
    extras: tuple[str, ...] = ()
    if rest.startswith("["):
        inside, closed, rest = rest[1:].partition("]")
        if not closed:
            raise ValueError(f"{text!r} has an unclosed bracket")
        extras = tuple(extra.strip() for extra in inside.split(",") if extra.strip())
    rest = rest.strip()
    if rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1]
    return Wanted(normalize(name), extras, parse_clauses(rest) if rest else (), text)


def key(version: str) -> Key | None:
    """A sort key by PEP 440, None where the text is not a version. Keys of all versions compare with one another."""
    try:
        return _keys[version]
    except KeyError:
        pass
    if len(_keys) >= _MOST_KEYS:
        _keys.clear()
    found = _keys[version] = _plain_key(version) or _packaging_key(version)
    return found


def _plain_key(version: str) -> Key | None:
    public, plus, local = version.partition("+")
    parts = public.split(".")
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            return None
    if plus and not (local and local.isascii() and local.isalnum()):
        return None
    return 0, _release(tuple(map(int, parts))), _NO_PRE, _NO_POST, _NO_DEV, _local(local)


def _packaging_key(version: str) -> Key | None:
    from packaging.version import InvalidVersion, Version

    if len(version) > 200:  # a version of any real release is shorter; int() of a longer one may raise
        return None
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None
    dev = _NO_DEV if parsed.dev is None else (0, parsed.dev)
    post = _NO_POST if parsed.post is None else (0, parsed.post)
    if parsed.pre is not None:
        pre: Key = (0, *parsed.pre)
    else:
        pre = (-1,) if parsed.post is None and parsed.dev is not None else _NO_PRE
    return parsed.epoch, _release(parsed.release), pre, post, dev, _local(parsed.local or "")


def _release(numbers: tuple[int, ...]) -> tuple[int, ...]:
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers = numbers[:-1]
    return numbers


def _local(text: str) -> Key:
    parts = text.lower().replace("-", ".").replace("_", ".").split(".") if text else ()
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def release(version: str) -> tuple[int, ...] | None:
    """The release numbers of a version without trailing zeros (`2.10` and `2.10.0` both give (2, 10))."""
    parsed = key(version)
    return None if parsed is None else parsed[1]


def satisfies(version: str, clauses: tuple[Clause, ...], comparison: str) -> bool | None:
    """Whether a version meets all clauses; None where that cannot be said.

    `comparison` "version" compares as upstream gates do (`Version(a) >= Version(b)`: 2.6.0.dev1 < 2.6.0, local parts
    count). "specifier" is PEP 440 with pre-releases allowed, but a pre-release of a bound's own release (2.9.0rc1
    against <2.9 or >=2.9) is on neither side for certain: None. None too for a version that is not PEP 440.
    """
    parsed = key(version)
    if parsed is None:
        return None
    if comparison == "version":
        return all(_holds(parsed, clause) for clause in clauses)
    if _is_pre_release(parsed) and any(release(clause.version) == parsed[1] for clause in clauses):
        return None
    return all(_specified(version, parsed, clause) for clause in clauses)


def public_release(parsed: Key) -> Key | None:
    """The key of a release without its local part; None for that of a pre-, post- or development release."""
    return (*parsed[:5], ()) if parsed[2:5] == (_NO_PRE, _NO_POST, _NO_DEV) else None


def _is_pre_release(parsed: Key) -> bool:
    return bool(parsed[2] != _NO_PRE or parsed[4] != _NO_DEV)


def _holds(parsed: Any, clause: Clause) -> bool:
    bound: Any = key(clause.version)  # never None: parse_clauses lets only versions through
    match clause.operator:
        case ">=":
            return bool(parsed >= bound)
        case "<=":
            return bool(parsed <= bound)
        case ">":
            return bool(parsed > bound)
        case "<":
            return bool(parsed < bound)
        case "==" | "===":
            return bool(parsed == bound)
        case "!=":
            return bool(parsed != bound)
    raise ValueError(f"{clause.operator} has no meaning between two plain versions")


_bounds: dict[str, Key | None] = {}


def _plain_bound(version: str) -> Key | None:
    if version not in _bounds:
        if len(_bounds) >= _MOST_WANTED:
            _bounds.clear()
        _bounds[version] = None if version.endswith(".*") else _plain_key(version)
    return _bounds[version]


def _specified(version: str, parsed: Key, clause: Clause) -> bool:
    bound = _plain_bound(clause.version)
    public = public_release(parsed)
    if bound is None or bound[5] or public is None or clause.operator in ("~=", "==="):
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(clause.operator + clause.version).contains(version, prereleases=True)
    return _holds(public, clause)
