"""JSON from files that nobody vouches for: limits on size, on depth and on how much it holds, and no name twice.

`loads` gives a whole document. `Members` reads an object member by member, so that a document of many megabytes is
never in memory as Python objects: what a member holds is bounded, and the caller drops it or keeps it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LARGEST = 4 * 1024 * 1024  # bytes; a configuration with 21 000 labels has 1.5 million
DEEPEST = 64
MOST = 200_000  # values; each costs some 60 bytes of memory
MOST_MEMBERS = 65_536
_LONGEST_MEMBER = 64 * 1024
_BLANKS = (" ", "\t", "\n", "\r")


def loads(data: bytes, *, largest: int = LARGEST, deepest: int = DEEPEST, most: int = MOST) -> Any:
    """The value of a JSON document. Raises ValueError: what was expected, and where it was found otherwise."""
    if len(data) > largest:
        raise ValueError(f"expected at most {largest} bytes of JSON, found {len(data)}")
    if sum(data.count(sign) for sign in b",[{") > most:
        raise ValueError(f"expected at most {most} values in its JSON, found more")
    text = _text(data)
    try:
        value, end = _decoder().raw_decode(text, _blanks(text, 0))
    except RecursionError:
        raise ValueError(_too_deep(deepest)) from None
    except ValueError as error:
        raise ValueError(_reason(error)) from None
    if _blanks(text, end) != len(text):
        raise ValueError(f"expected the end of the JSON at character {end}, found {text[end : end + 20]!r}")
    check_depth(value, deepest)
    return value


def check_depth(value: Any, deepest: int = DEEPEST) -> None:
    """Raises ValueError for objects and lists within each other to more than some depth."""
    level = [value]
    for _ in range(deepest):
        level = [
            item
            for holder in level
            if isinstance(holder, (dict, list))
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return
    if any(isinstance(item, (dict, list)) for item in level):
        raise ValueError(_too_deep(deepest))


class Members:
    """The members of a JSON object that begins at `start` of a text, one after the other, and no more than `most`.

    Iterating gives names; `value()`, `string()` or `members()` must then be called once to read what stands behind the
    name. `end` is the place behind the object, once it was read to its end.
    """

    def __init__(self, text: str, start: int = 0, most: int = MOST_MEMBERS) -> None:
        self.text = text
        self.end = _blanks(text, start)
        self._most = most
        self._decoder = _decoder()

    def __iter__(self) -> Iterator[str]:
        """Each name. Raises ValueError for what is no object, and for a name that comes twice."""
        from json.decoder import scanstring  # type: ignore[attr-defined]

        text, seen = self.text, set()
        self._expect("{", "an object, which begins with {")
        place = _blanks(text, self.end)
        if text[place : place + 1] == "}":
            self.end = place + 1
            return
        while True:
            if text[place : place + 1] != '"':
                raise ValueError(f"expected a name in quotes at character {place}, found {text[place : place + 20]!r}")
            try:
                name, self.end = scanstring(text, place + 1, True)
            except ValueError as error:
                raise ValueError(_reason(error)) from None
            if name in seen:
                raise ValueError(f"expected each name once, found {shown(name)} twice")
            seen.add(name)
            if len(seen) > self._most:
                raise ValueError(f"expected at most {self._most} names, found more")
            self._expect(":", ": behind a name")
            self.end = _blanks(text, self.end)
            yield name
            place = _blanks(text, self.end)
            sign = text[place : place + 1]
            self.end = place + 1
            if sign == "}":
                return
            if sign != ",":
                raise ValueError(f"expected , or }} at character {place}, found {text[place : place + 20]!r}")
            place = _blanks(text, self.end)

    def value(self) -> Any:
        """The value behind the name, which may not be long. Raises ValueError."""
        text, start = self.text, self.end
        for length in (1024, _LONGEST_MEMBER):
            part = text[start : start + length]
            try:
                value, end = self._decoder.raw_decode(part)
            except RecursionError:
                raise ValueError(_too_deep(DEEPEST)) from None
            except ValueError as error:
                if len(part) == length and length < _LONGEST_MEMBER:
                    continue
                if len(part) == length:
                    raise ValueError(f"expected members of at most {length} characters, found a longer one") from None
                raise ValueError(_reason(error, start)) from None
            if end == len(part) == length and length < _LONGEST_MEMBER:  # a number may go on
                continue
            self.end = start + end
            return value
        raise AssertionError("unreachable")

    def string(self) -> str | None:
        """The string behind the name, of any length; None where there is something else, which is not read."""
        from json.decoder import scanstring  # type: ignore[attr-defined]

        if self.text[self.end : self.end + 1] != '"':
            return None
        try:
            value, self.end = scanstring(self.text, self.end + 1, True)
        except ValueError as error:
            raise ValueError(_reason(error)) from None
        return str(value)

    def members(self) -> Members:
        """The object behind the name; once it was read to its end, `skip_to` its `end`."""
        return Members(self.text, self.end, self._most)

    def skip_to(self, end: int) -> None:
        """Go on behind a value that the caller has read."""
        self.end = end

    def _expect(self, sign: str, what: str) -> None:
        place = _blanks(self.text, self.end)
        if self.text[place : place + 1] != sign:
            raise ValueError(f"expected {what}, at character {place}, found {self.text[place : place + 20]!r}")
        self.end = place + 1


def text_of(data: bytes) -> str:
    """JSON's bytes as text. Raises ValueError for what is not UTF-8."""
    return _text(data)


def shown(name: str) -> str:
    """A name from a file, quoted, without its middle where it is absurdly long."""
    return repr(name if len(name) <= 120 else f"{name[:60]}...{name[-40:]}")


def blanks_end(text: str, place: int) -> int:
    """The first place from `place` on that is not blank."""
    return _blanks(text, place)


def _blanks(text: str, place: int) -> int:
    if text[place : place + 1] not in _BLANKS:
        return place
    if text[place + 1 : place + 2] not in _BLANKS:  # one space, as most writers leave
        return place + 1
    from json.decoder import WHITESPACE  # type: ignore[attr-defined]

    return int(WHITESPACE.match(text, place).end())


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8, found byte 0x{data[error.start]:02x} at {error.start}") from None


def _too_deep(deepest: int) -> str:
    return f"expected objects and lists at most {deepest} deep, found deeper ones"


def _reason(error: ValueError, start: int = 0) -> str:
    # JSONDecodeError says it with the line; what int() says of 5000 digits is one line too
    place = getattr(error, "pos", None)
    return f"not JSON: {getattr(error, 'msg', error)}" + ("" if place is None else f" (character {start + place})")


def _decoder() -> Any:
    import json

    global _made
    if _made is None:
        _made = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
    return _made


_made: Any = None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected each name once, found {shown(twice)} twice")
    return made


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")
