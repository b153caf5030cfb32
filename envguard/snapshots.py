"""JSON text -> Environment. A snapshot is checked against schema envguard.snapshot/1 and nothing in it is executed.

Own checks instead of a JSON Schema library, because ten thousand snapshots a second leave 20 microseconds for it; a
test holds them equal to the published schema.
"""

from __future__ import annotations

import json

from envguard.errors import BadSnapshot
from envguard.model import SNAPSHOT_SCHEMA, Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn, TypeAlias

    Types: TypeAlias = frozenset[Any]
    Path: TypeAlias = tuple[str | int, ...]

_MOST = 10**18  # bytes, indices and lines stay below it
_LONGEST_VERSION = 200  # characters; no release comes near it

_TEXT: Types = frozenset({str})
_TEXT_OR_NULL: Types = frozenset({str, type(None)})
_FLAG: Types = frozenset({bool})
_INTEGER: Types = frozenset({int})
_INTEGER_OR_NULL: Types = frozenset({int, type(None)})
_LIST: Types = frozenset({list})
_LIST_OR_NULL: Types = frozenset({list, type(None)})

_PYTHON: dict[str, Types] = {
    "version": _TEXT,
    "implementation": _TEXT,
    "executable": _TEXT,
    "prefix": _TEXT,
    "free_threaded": _FLAG,
    "externally_managed": _FLAG,
    "writable": _FLAG,
    "conda_prefix": _TEXT_OR_NULL,
    "virtual_environment": _FLAG,
    "pip": _TEXT_OR_NULL,
    # beyond the schema: another Python, into which the pip on PATH installs, and what it has that is missing here
    "pip_on_path": _TEXT_OR_NULL,
    "installed_there": _LIST,
}
_HOST: dict[str, Types] = {
    "system": _TEXT,
    "release": _TEXT,
    "machine": _TEXT,
    "libc": _TEXT_OR_NULL,
    "macos": _TEXT_OR_NULL,
    "wsl": _FLAG,
    "container": _TEXT_OR_NULL,
    "jetson": _TEXT_OR_NULL,
    "libstdcxx": _TEXT_OR_NULL,
    "cxxabi": _TEXT_OR_NULL,
}
_DISTRIBUTION: dict[str, Types] = {
    "version": _TEXT_OR_NULL,
    "requires": _LIST,
    "requires_python": _TEXT_OR_NULL,
    "top_level": _LIST,
    "location": _TEXT,
    "editable": _FLAG,
    "installer": _TEXT_OR_NULL,
    "wheel_tags": _LIST,
    "duplicates": _LIST,
    # beyond the schema: the metadata folders that `version` and `duplicates` are read from, in that order
    "copies": _LIST,
}
_OWNER: dict[str, Types] = {
    "origin": _TEXT_OR_NULL,
    "distribution": _TEXT_OR_NULL,
    "distributions": _LIST,
    "kind": _TEXT,
}
_TORCH_BUILD: dict[str, Types] = {
    "version": _TEXT,
    "cuda": _TEXT_OR_NULL,
    "hip": _TEXT_OR_NULL,
    "xpu": _TEXT_OR_NULL,
    "arch_list": _LIST_OR_NULL,
}
_DRIVERS: dict[str, Types] = {
    "nvidia": _TEXT_OR_NULL,
    "cuda": _TEXT_OR_NULL,
    "rocm": _TEXT_OR_NULL,
    "level_zero": _TEXT_OR_NULL,
    "nvidia_status": _TEXT,
    "nvidia_devices": _INTEGER_OR_NULL,
    "libcuda": _TEXT_OR_NULL,
    # beyond the schema: what the probe says of devices that are there and cannot be used
    "nvidia_reason": _TEXT_OR_NULL,
    "nvidia_hidden": _TEXT_OR_NULL,
    "rocm_hidden": _TEXT_OR_NULL,
    "level_zero_hidden": _TEXT_OR_NULL,
}
_ACCELERATOR: dict[str, Types] = {
    "kind": _TEXT,
    "index": _INTEGER,
    "name": _TEXT_OR_NULL,
    "compute_capability": _TEXT_OR_NULL,
    "arch": _TEXT_OR_NULL,
    "memory_total": _INTEGER_OR_NULL,
    "memory_free": _INTEGER_OR_NULL,
    "mig": _FLAG,
    "uuid": _TEXT_OR_NULL,
}
_LIBRARY: dict[str, Types] = {
    "file": _TEXT,
    "machine": _TEXT,
    "needs": _LIST,
    "glibc": _TEXT_OR_NULL,
    "glibcxx": _TEXT_OR_NULL,
    "path": _TEXT,
    "format": _TEXT,
    "runpath": _TEXT_OR_NULL,
    "cxxabi": _TEXT_OR_NULL,
    "gpu_archs": _LIST_OR_NULL,
}
_TOOLCHAIN: dict[str, Types] = dict.fromkeys(
    ("nvcc", "ninja", "cxx", "python_headers", "cuda_home", "cc", "msvc"), _TEXT_OR_NULL
)
_LINK: dict[str, Types] = {
    "module": _TEXT,
    "name": _TEXT,
    "needed_from": _TEXT,
    "line": _INTEGER,
    "certain": _FLAG,
    "effect": _TEXT,
}
_KERNELS: dict[str, Types] = {"loaded": frozenset({bool, type(None)}), "reason": _TEXT_OR_NULL}
_LOADED: dict[str, Types] = {"version": _TEXT_OR_NULL, "file": _TEXT_OR_NULL}

_ALLOWED: dict[tuple[str, str], frozenset[str]] = {
    ("host", "system"): frozenset({"Linux", "Windows", "Darwin"}),
    ("drivers", "nvidia_status"): frozenset({"ok", "absent", "hung", "mismatch", "half-installed", "denied"}),
    ("accelerators", "kind"): frozenset({"cuda", "rocm", "xpu", "mps", "npu", "hpu"}),
    ("import_owners", "kind"): frozenset({"package", "module", "namespace", "placeholder", "missing"}),
    ("native_libraries", "format"): frozenset({"ELF", "Mach-O", "PE"}),
    ("import_links", "effect"): frozenset({"import-fails", "feature-lost"}),
}
_NAMES = {
    str: "string",
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


def parse(text: str | bytes) -> Environment:
    """The environment that a snapshot's JSON text describes.

    Raises BadSnapshot with one line: what is wrong, and where (a JSON Pointer).
    """
    try:
        data = _decode(text)
    except RecursionError:
        raise BadSnapshot("not a snapshot: nested too deeply") from None
    except ValueError as error:
        raise BadSnapshot(f"not JSON: {error}") from None
    return from_data(data)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # JSON has no infinity, so it could not be written again
        raise ValueError(f"{text[:20]} is out of range")
    return number


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _decode(text: str | bytes) -> Any:
    if isinstance(text, bytes):  # UnicodeDecodeError is a ValueError; PowerShell writes UTF-16 where it redirects
        text = text.decode("utf-16" if text.startswith(_UTF_16) else "utf-8")
    return _decoder.decode(text.removeprefix("\ufeff"))


_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def from_data(data: Any) -> Environment:
    """The environment of decoded JSON. Raises BadSnapshot as `parse` does."""
    if type(data) is not dict:
        raise BadSnapshot(f"expected a JSON object, found {_name(data)}")
    if data.get("schema") != SNAPSHOT_SCHEMA:
        found = _shown(data["schema"]) if "schema" in data else "no schema"
        raise BadSnapshot(f"/schema: expected {SNAPSHOT_SCHEMA!r}, found {found}")
    for name, value in data.items():
        check = _SECTIONS.get(name)
        if check is not None:
            check(name, value)
    return Environment(data)


def is_alone(text: bytes) -> bool:
    """Whether a text is a whole JSON object with a schema, right or wrong: a line of a stream, not of a document."""
    if not text.lstrip(b"\xef\xbb\xbf").startswith(b"{") or b'"schema"' not in text:
        return False
    try:
        data = _decode(text)
    except (ValueError, RecursionError):
        return False
    return type(data) is dict and "schema" in data


_shapes: dict[Any, tuple[str, ...]] = {}
_LARGEST_SHAPE = 100  # fields; real objects have a dozen
_MOST_SHAPES = 2_000  # keeps memory flat over any number of snapshots


def _fields(path: Path, section: str, value: Any, spec: Mapping[str, Types], required: tuple[str, ...] = ()) -> None:
    """Check an object's known fields: their types, their allowed values, lists of strings, and that none is missing.

    The names and types of an object are its shape; a shape is checked once, then only what depends on the values.
    """
    if type(value) is not dict:
        _wrong(path, "an object", value)
    shape = (section, *value, *map(type, value.values()))
    known = _shapes.get(shape)
    if known is None:
        _check_types(path, value, spec)
    for name in _deep_fields(value, spec) if known is None else known:
        field = value[name]
        kind = type(field)
        if kind is str:
            if name == "version":
                fine = len(field) <= _LONGEST_VERSION and field.isprintable()
            else:
                allowed = _ALLOWED.get((section, name))
                fine = allowed is None or field in allowed
        elif kind is list:
            fine = not field or _TEXT.issuperset(map(type, field))
        else:
            fine = kind is int and -_MOST < field < _MOST
        if not fine:
            _check_value((*path, name), section, name, field, spec[name])
    if known is None:
        _require(path, value, required)
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        if len(value) <= _LARGEST_SHAPE:
            _shapes[shape] = _deep_fields(value, spec)


def _deep_fields(value: dict[str, Any], spec: Mapping[str, Types]) -> tuple[str, ...]:
    """The known fields whose values have to be looked at, not their types alone."""
    return tuple([name for name, field in value.items() if name in spec and _is_deep(name, field)])


def _check_types(path: Path, value: dict[str, Any], spec: Mapping[str, Types]) -> None:
    for name, field in value.items():
        types = spec.get(name)
        if types is not None and type(field) not in types and not (type(field) is float and int in types):
            _wrong((*path, name), _any_of(types), field)


def _is_deep(name: str, field: Any) -> bool:
    """Whether a field's value has to be looked at, not its type alone."""
    return type(field) in (list, int, float) or (type(field) is str and (name in _ENUMERATED or name == "version"))


def _check_value(path: Path, section: str, name: str, field: Any, types: Types) -> None:
    if type(field) is list:
        for index, item in enumerate(field):
            if type(item) is not str:
                _wrong((*path, index), "string", item)
    elif type(field) is float:
        if not field.is_integer():
            _wrong(path, _any_of(types), field)
    elif type(field) is int:
        if not -_MOST < field < _MOST:
            _wrong(path, "a number of at most 18 digits", field)
    elif name in _ENUMERATED:
        allowed = _ALLOWED.get((section, name))
        if allowed is not None and field not in allowed:
            _wrong(path, f"one of {', '.join(sorted(allowed))}", field)
    elif len(field) > _LONGEST_VERSION or not field.isprintable():
        _wrong(path, f"a version of at most {_LONGEST_VERSION} printable characters", field)


_ENUMERATED = frozenset(name for _, name in _ALLOWED)


def _wrong(path: Path, expected: str, found: Any) -> NoReturn:
    raise BadSnapshot(f"{_pointer(path)}: expected {expected}, found {_shown(found)}")


def _pointer(path: Path) -> str:
    """A JSON Pointer (RFC 6901) on one line, however long or odd the names of a snapshot are."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    return "".join(["/" + _clip(step if step.isprintable() else repr(step)[1:-1]) for step in steps])


def _shown(value: Any) -> str:
    return _clip(repr(value)) if isinstance(value, str | int | float | None) else _name(value)


def _clip(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _name(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _any_of(types: Types) -> str:
    return " or ".join(sorted(_NAMES[each] for each in types))


def _object_of(spec: Mapping[str, Types], nullable: bool = False) -> Callable[[str, Any], None]:
    def check(section: str, value: Any) -> None:
        if value is not None or not nullable:
            _fields((section,), section, value, spec)

    return check


def _by_name(
    spec: Mapping[str, Types], required: tuple[str, ...] = (), nullable: bool = False
) -> Callable[[str, Any], None]:
    def check(section: str, value: Any) -> None:
        if type(value) is not dict:
            _wrong((section,), "an object", value)
        for name, entry in value.items():
            if entry is None and nullable:
                continue
            _fields((section, name), section, entry, spec, required)

    return check


def _list_of(spec: Mapping[str, Types], required: tuple[str, ...]) -> Callable[[str, Any], None]:
    def check(section: str, value: Any) -> None:
        _each((section,), section, value, spec, required)

    return check


def _lists_by_name(spec: Mapping[str, Types], required: tuple[str, ...]) -> Callable[[str, Any], None]:
    def check(section: str, value: Any) -> None:
        if type(value) is not dict:
            _wrong((section,), "an object", value)
        for name, entries in value.items():
            _each((section, name), section, entries, spec, required)

    return check


def _each(path: Path, section: str, value: Any, spec: Mapping[str, Types], required: tuple[str, ...]) -> None:
    if type(value) is not list:
        _wrong(path, "an array", value)
    for index, entry in enumerate(value):
        _fields((*path, index), section, entry, spec, required)


def _require(path: Path, entry: Any, required: tuple[str, ...]) -> None:
    for name in required:
        if name not in entry:
            raise BadSnapshot(f"{_pointer(path)}: expected the field {name!r}, which is missing")


def _map_of(types: Types) -> Callable[[str, Any], None]:
    def check(section: str, value: Any) -> None:
        if type(value) is not dict:
            _wrong((section,), "an object", value)
        for name, item in value.items():
            if type(item) not in types:
                _wrong((section, name), _any_of(types), item)

    return check


def _one(types: Types) -> Callable[[str, Any], None]:
    def check(section: str, value: Any) -> None:
        if type(value) not in types:
            _wrong((section,), _any_of(types), value)

    return check


_SECTIONS: dict[str, Callable[[str, Any], None]] = {
    "taken_at": _one(_TEXT),
    "python": _object_of(_PYTHON),
    "host": _object_of(_HOST),
    "distributions": _by_name(_DISTRIBUTION, ("version",), nullable=True),
    "distributions_complete": _one(_FLAG),
    "import_owners": _by_name(_OWNER),
    "torch_build": _object_of(_TORCH_BUILD, nullable=True),
    "drivers": _object_of(_DRIVERS),
    "accelerators": _list_of(_ACCELERATOR, ("kind",)),
    "native_libraries": _lists_by_name(_LIBRARY, ("file",)),
    "system_libraries": _map_of(_TEXT_OR_NULL),
    "toolchain": _object_of(_TOOLCHAIN),
    "environment_variables": _map_of(_TEXT_OR_NULL),
    "unreadable": _map_of(_TEXT),
    "loaded_modules": _by_name(_LOADED),
    "import_links": _lists_by_name(_LINK, ("module", "name", "needed_from")),
    "compiled_kernels": _by_name(_KERNELS),
    "extras": _one(frozenset({dict})),
}
