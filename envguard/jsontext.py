"""JSON without `json`, whose import takes longer than reading a file, and which a working folder may hold too."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring_ascii  # the C function alone: importing `json` brings in `re`
except ImportError:  # an interpreter other than CPython
    from json.encoder import encode_basestring_ascii

quoted = encode_basestring_ascii  # a text as a JSON string, in ASCII


def written(value: Any) -> str:
    """A value as JSON, in ASCII and without blanks."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    return "{" + ",".join([f"{quoted(name)}:{written(each)}" for name, each in value.items()]) + "}"


def parse(text: str) -> Any:
    """The value of a JSON text, by CPython's own scanner where there is one. Raises ValueError and what that raises."""
    try:
        from _json import make_scanner, scanstring
    except ImportError:
        from json import loads

        return loads(text)
    context: Any = _Context(scanstring)
    value, end = make_scanner(context)(text, 0)
    if text[end:].strip():
        raise ValueError("more than one JSON value")
    return value


class _Context:
    """What the scanner asks how to read."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    array_hook = None

    def __init__(self, scanstring: Any) -> None:
        self.parse_string = scanstring
        self.memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        """NaN and the like, which nothing here writes."""
        raise ValueError(name)
