"""What functions of the standard library and of `packaging` give for known arguments."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from packaging.version import InvalidVersion, Version

from envguard.links.values import (
    SOMETHING,
    UNKNOWN,
    Class,
    Function,
    Library,
    Method,
    Module,
    Unknown,
    VersionText,
    known,
    truth,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_LONGEST = 10_000
_SAFE = (str, bytes, int, float, list, tuple, dict, set, frozenset, Version, re.Match, re.Pattern, PurePath, type(None))
# could make much out of little, or is of no use here
_NOT_CALLED = {"ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map", "to_bytes", "__mul__"}
MUTATING = {
    "append", "add", "extend", "insert", "pop", "popitem", "remove", "discard", "clear", "update", "setdefault",
    "sort", "reverse", "difference_update", "intersection_update", "symmetric_difference_update",
}  # fmt: skip
# what decides where modules come from
SEARCHES = ("sys.path.", "sys.meta_path.", "sys.path_hooks.", "site.addsitedir")


class Surroundings:
    """The Python and the machine on which the inspected code would run."""

    __slots__ = ("environ", "platform", "python")

    def __init__(
        self, python: tuple[int, int, int], platform: str = "linux", environ: Mapping[str, str] | None = None
    ) -> None:
        self.python = python
        self.platform = platform
        self.environ = environ or {}


def constant(path: str, around: Surroundings) -> Any:
    """The value of a name of the standard library where it is known; else the name itself."""
    match path:
        case "sys.version_info":
            return (*around.python, "final", 0)
        case "sys.hexversion":
            major, minor, micro = around.python
            return major << 24 | minor << 16 | micro << 8 | 0xF0
        case "sys.platform":
            return around.platform
        case "os.name":
            return "nt" if around.platform == "win32" else "posix"
        case "os.sep":
            return "\\" if around.platform == "win32" else "/"
        case "typing.TYPE_CHECKING" | "typing_extensions.TYPE_CHECKING":
            return False
        case "sys.argv" | "sys.flags" | "sys.stdout" | "sys.stderr" | "sys.maxsize":
            return UNKNOWN
    return Library(path)


_SYSTEMS = {"linux": "Linux", "win32": "Windows", "darwin": "Darwin"}


def call(path: str, arguments: list[Any], around: Surroundings) -> Any:
    """What a function of the standard library gives; UNKNOWN where that is not known."""
    if path == "platform.system" and not arguments:
        return _SYSTEMS.get(around.platform, UNKNOWN)
    if path == "platform.python_version" and not arguments:
        return ".".join(map(str, around.python))
    if path in ("os.getenv", "os.environ.get") and arguments and isinstance(arguments[0], str):
        return around.environ.get(arguments[0], arguments[1] if len(arguments) > 1 else None)
    function = _CALLS.get(path)
    if function is None or not all(map(known, arguments)):
        return UNKNOWN
    if any(isinstance(each, str) and len(each) > _LONGEST for each in arguments):
        return UNKNOWN
    if path.startswith("re.") and not (isinstance(arguments[0], str) and _is_quick(arguments[0])):
        return UNKNOWN
    try:
        return function(*arguments)
    except (InvalidVersion, ValueError, TypeError, LookupError, ArithmeticError, re.error, RecursionError):
        return UNKNOWN


def _is_quick(pattern: str) -> bool:
    """Whether a pattern cannot take long: it repeats no group that repeats something or has branches."""
    return not re.search(r"[+*}|][^()]*\)+[+*{]", pattern)


def _version(text: Any) -> Version:
    return Version(str(text))


_CALLS: dict[str, Callable[..., Any]] = {
    "packaging.version.parse": _version,
    "packaging.version.Version": _version,
    "pkg_resources.parse_version": _version,
    "re.match": re.match,
    "re.search": re.search,
    "re.fullmatch": re.fullmatch,
    "re.compile": re.compile,
    "re.sub": re.sub,
    "re.split": re.split,
    "re.findall": re.findall,
    "collections.OrderedDict": dict,
    "collections.defaultdict": lambda *_: UNKNOWN,
    "operator.gt": lambda a, b: compare(">", a, b),
    "operator.ge": lambda a, b: compare(">=", a, b),
    "operator.lt": lambda a, b: compare("<", a, b),
    "operator.le": lambda a, b: compare("<=", a, b),
    "operator.eq": lambda a, b: compare("==", a, b),
    "operator.ne": lambda a, b: compare("!=", a, b),
    "pathlib.Path": PurePath,
    "pathlib.PurePath": PurePath,
    "os.fspath": str,
    "os.path.dirname": os.path.dirname,
    "os.path.basename": os.path.basename,
    "os.path.join": os.path.join,
    "os.path.abspath": lambda path: path if os.path.isabs(path) else UNKNOWN,
    "typing.cast": lambda _, value: value,
    "builtins.str": lambda value="": str(value),
    "builtins.int": lambda value=0, *base: int(value, *base),
    "builtins.float": float,
    "builtins.bool": bool,
    "builtins.len": len,
    "builtins.tuple": tuple,
    "builtins.list": list,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.dict": dict,
    "builtins.sorted": sorted,
    "builtins.reversed": lambda values: list(reversed(values)),
    "builtins.min": min,
    "builtins.max": max,
    "builtins.sum": sum,
    "builtins.abs": abs,
    "builtins.range": lambda *bounds: list(range(*bounds)) if all(abs(each) < 1000 for each in bounds) else UNKNOWN,
    "builtins.enumerate": lambda values, start=0: list(enumerate(values, start)),
    "builtins.zip": lambda *many: list(zip(*many)),
    "builtins.repr": lambda value: repr(value) if isinstance(value, (str, int, float)) else UNKNOWN,
}


def method(owner: Any, name: str, arguments: list[Any], keywords: Mapping[str, Any]) -> Any:
    """What a method of a constant gives; UNKNOWN where that is not known."""
    if name in _NOT_CALLED or keywords or not isinstance(owner, _SAFE):
        return UNKNOWN
    if name in MUTATING or (isinstance(owner, dict) and name in ("get", "items", "keys", "values", "copy")):
        pass  # what is put into a list may be unknown
    elif not known(owner) or not all(map(known, arguments)):
        return UNKNOWN
    try:
        value = getattr(owner, name)(*arguments)
    except Exception:  # noqa: BLE001 - whatever a constant's method raises, the inspected code may catch
        return UNKNOWN
    if isinstance(value, (str, bytes)) and len(value) > _LONGEST:
        return UNKNOWN
    return list(value) if isinstance(owner, dict) and name in ("items", "keys", "values") else value


def is_constant(value: Any) -> bool:
    """Whether a value is a constant, all of it known."""
    return isinstance(value, _SAFE) and known(value)


def attribute(owner: Any, name: str) -> Any:
    """An attribute of a constant."""
    if isinstance(owner, Version) and name in ("major", "minor", "micro", "release", "base_version", "public", "local",
                                               "is_prerelease", "is_devrelease", "dev", "pre"):  # fmt: skip
        return getattr(owner, name)
    if isinstance(owner, PurePath) and name in ("parent", "name", "stem", "suffix"):
        return getattr(owner, name)
    if isinstance(owner, tuple) and len(owner) == 5 and name in ("major", "minor", "micro"):
        return owner[("major", "minor", "micro").index(name)]
    return Method(owner, name) if isinstance(owner, _SAFE) else UNKNOWN


def compare(operator: str, left: Any, right: Any) -> Any:
    """What a comparison gives; UNKNOWN where that is not known."""
    if operator in ("is", "is not"):
        same = _same(left, right)
        return same if same is UNKNOWN else (same is (operator == "is"))
    if operator in ("in", "not in"):
        found = _contains(right, left)
        return found if found is UNKNOWN else (found is (operator == "in"))
    if not known(left) or not known(right) or isinstance(left, _OBJECTS) or isinstance(right, _OBJECTS):
        return UNKNOWN
    if isinstance(left, VersionText) or isinstance(right, VersionText):
        if not isinstance(left, (str, Version)) or not isinstance(right, (str, Version)):
            return UNKNOWN
        try:
            left, right = Version(str(left)), Version(str(right))
        except InvalidVersion:
            return UNKNOWN
    try:
        return _COMPARE[operator](left, right)
    except TypeError:
        return UNKNOWN


_OBJECTS = (Module, Function, Class, Method, Library)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _same(left: Any, right: Any) -> Any:
    if left is right and not isinstance(left, Unknown):
        return True
    for one, other in ((left, right), (right, left)):
        if one is None or one is True or one is False:
            if other is SOMETHING or isinstance(other, _OBJECTS):
                return False
            return UNKNOWN if isinstance(other, Unknown) else one is other
    return UNKNOWN


def _contains(many: Any, one: Any) -> Any:
    if isinstance(many, Unknown) or not known(one) or isinstance(one, _OBJECTS):
        return UNKNOWN
    if isinstance(many, str):
        return one in many if isinstance(one, str) else UNKNOWN
    if isinstance(many, (list, tuple, set, frozenset, dict)):
        try:
            if any(known(each) and not isinstance(each, _OBJECTS) and each == one for each in many):
                return True
        except TypeError:
            return UNKNOWN
        return UNKNOWN if not isinstance(many, dict) and not known(many) else False
    return UNKNOWN


def join(parts: list[Any]) -> Any:
    """The text of an f-string."""
    if not all(known(part) and not isinstance(part, _OBJECTS) for part in parts):
        return UNKNOWN
    text = "".join(map(str, parts))
    return text if len(text) < _LONGEST else UNKNOWN


def operate(operator: str, left: Any, right: Any) -> Any:
    """What an operator gives for constants; UNKNOWN where that is not known."""
    if isinstance(left, _OBJECTS) or isinstance(right, _OBJECTS):
        return UNKNOWN
    if operator == "Add" and isinstance(left, list) and isinstance(right, list):
        return [*left, *right]
    if operator == "Add" and isinstance(left, tuple) and isinstance(right, tuple):
        return (*left, *right)
    if not known(left) or not known(right):
        return UNKNOWN
    try:
        if operator == "Add" and isinstance(left, (int, float, str)):
            return left + right
        if operator == "Div" and isinstance(left, PurePath):
            return left / right
        if operator == "Sub":
            return left - right
        if operator == "BitOr":
            return left | right
        if operator == "BitAnd":
            return left & right
    except TypeError:
        return UNKNOWN
    return UNKNOWN


def anything(function: str, values: Any) -> Any:
    """`any` and `all`."""
    if not isinstance(values, (list, tuple, set)):
        return UNKNOWN
    truths = list(map(truth, values))
    decisive = function == "any"
    if decisive in truths:
        return decisive
    return UNKNOWN if None in truths else not decisive
