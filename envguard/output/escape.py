"""Foreign text (package names, paths, strings of a snapshot) made safe to show.

Whatever could move the cursor, colour the screen, reverse the reading direction or forge a line is shown as the escape
that a Python literal would have. Nothing here knows markup: the rich output is built from `rich.text.Text`, which takes
text as it stands.
"""

from __future__ import annotations

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
