"""Foreign text (package names, paths, strings of a snapshot) made safe to show, and laid out in terminal columns.

Whatever could move the cursor, colour the screen, reverse the reading direction or forge a line is shown as the escape
that a Python literal would have. Nothing here knows markup: the rich output is built from `rich.text.Text`, which takes
text as it stands. Lines are wrapped by own code because importing `textwrap` brings in `re`.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    Line: TypeAlias = list[tuple[str, str]]  # pieces of (text, style)

PLAIN_WIDTH = 80
_NARROWEST, _WIDEST = 60, 100
UNDER_LABEL = " " * 10

_LONGEST_ERROR = 2_000
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PLAIN = {
    "✓": "+",
    "✗": "x",
    "→": "->",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "×": "x",
    "–": "-",
    "—": "-",
    "·": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}


def visible(text: str, encoding: str = "utf-8") -> str:
    """The text on one line, without any character that does not show itself or that the encoding lacks.

    `str.isprintable` is False for exactly what must not reach a terminal: controls, formats (bidi overrides, zero-width
    characters), surrogates, private and unassigned code points, separators other than the space.
    """
    if not text.isprintable():
        text = "".join([sign if sign.isprintable() else _escaped(sign) for sign in text])
    return text if text.isascii() or can_show(text, encoding) else _in_encoding(text, encoding)


def prose(text: str, encoding: str = "utf-8") -> str:
    """Sentences of a rule made safe: a line break of their author is a space, anything else as in `visible`."""
    return visible(" ".join(text.split()), encoding)


def error_line(text: str) -> str:
    """An error's text on one line, without its middle where what was typed or read makes it absurdly long."""
    half = _LONGEST_ERROR // 2
    return visible(text if len(text) <= _LONGEST_ERROR else f"{text[:half]} ... {text[-half:]}")


def can_show(text: str, encoding: str) -> bool:
    """Whether an encoding has every character of the text; False for an encoding that Python does not know."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _escaped(sign: str) -> str:
    code = ord(sign)
    if code < 0x100:
        return _SHORT.get(sign) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_encoding(text: str, encoding: str) -> str:
    return "".join([sign if can_show(sign, encoding) else _PLAIN.get(sign) or _escaped(sign) for sign in text])


class Page(Frozen):
    """How wide lines are and what they can show."""

    width: int
    encoding: str
    unicode: bool

    def show(self, text: str) -> str:
        """A fact made safe."""
        return visible(text, self.encoding)

    def prose(self, text: str) -> str:
        """Sentences made safe."""
        return prose(text, self.encoding)

    def clip(self, text: str, width: int) -> str:
        """The text cut to a width."""
        return clip(text, width, "…" if self.unicode else "...")

    def wrap(self, start: Line, text: str, indent: str, style: str = "") -> Iterator[Line]:
        """Safe text after what starts its first line; further lines are indented."""
        used = sum(columns(piece) for piece, _ in start)
        first, *rest = wrap(text, self.width - len(indent), self.width - used)
        yield [*start, (first, style)]
        for line in rest:
            yield [(indent, ""), (line, style)]

    def field(self, label: str, text: str) -> Iterator[Line]:
        """A label and safe text beside it."""
        return self.wrap([(f"  {label:<7} ", "faint")], text, UNDER_LABEL)

    def commands(self, commands: Iterable[str], indent: str) -> Iterator[Line]:
        """Each whole on its own line, so that it can be pasted."""
        for command in commands:
            yield [(indent, ""), (self.show(command), "command")]


def make_page(width: int, unicode: bool, encoding: str | None) -> Page:
    """A page of a sensible width; what cannot show Unicode is taken for ASCII where no encoding is known."""
    return Page(max(_NARROWEST, min(width, _WIDEST)), encoding or ("utf-8" if unicode else "ascii"), unicode)


def plain(lines: Iterable[Line]) -> str:
    """The lines without their styles and without a last line end."""
    return "\n".join(["".join([text for text, _ in line]).rstrip() for line in lines])


_OUR_OWN = "\u2713\u2717\u2026"  # the marks and the ellipsis of our reports: one column each, known without a table


def columns(text: str) -> int:
    """How many columns a terminal uses for the text."""
    if text.isascii() or all(sign < "\u0300" or sign in _OUR_OWN for sign in text):
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(sign) in ("Mn", "Me") else 2 if east_asian_width(sign) in ("W", "F") else 1 for sign in text
    )


def wrap(text: str, width: int, first: int | None = None) -> list[str]:
    """Lines of at most `width` columns, the first of at most `first`; at least one line.

    Breaks at spaces, and inside a word only where that alone is wider than a line. A URL is never broken, because half
    of one cannot be opened.
    """
    room = width if first is None else first
    if columns(text) <= room:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if columns(longer) <= room:
            line = longer
            continue
        if line or room < width:
            lines.append(line.rstrip())
            room = width
        line = word
        while columns(line) > width and "://" not in line:
            head = _head(line, width) or line[0]
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line.rstrip()]


def clip(text: str, width: int, ellipsis: str = "...") -> str:
    """The text cut to a width, with an ellipsis where something was cut off."""
    if columns(text) <= width:
        return text
    return _head(text, max(0, width - columns(ellipsis))).rstrip() + ellipsis[:width]


def pad(text: str, width: int) -> str:
    """The text followed by spaces up to a width."""
    return text + " " * (width - columns(text))


def _head(text: str, width: int) -> str:
    """The longest beginning that fits."""
    if text.isascii():
        return text[:width]
    used = 0
    for end, sign in enumerate(text):
        used += columns(sign)
        if used > width:
            return text[:end]
    return text
