"""Files whose author may mean harm: read whole, but never more than so much, and never waited for."""

from __future__ import annotations

import os
import stat
import sys

from envguard.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 32 << 20  # bytes; the lock of a thousand packages has a tenth of that
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: str, left: int = LONGEST) -> str:
    """The text of a file of at most `left` bytes; UTF-8, or UTF-16 as PowerShell redirects it. Raises BadInput."""
    if not path:
        raise BadInput("the name of the file is empty")
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadInput(f"{path}: cannot be read: it is no file")
            if status.st_size > left:
                raise BadInput(f"{path}: longer than {LONGEST >> 20} MiB, which no such file is")
            pieces = []
            while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise BadInput(str(error) if isinstance(error, BadInput) else f"{path}: cannot be read: {error}") from None
    data = b"".join(pieces)
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(f"{path} line {line}: not UTF-8") from None
    if "\0" in text:
        raise BadInput(f"{path} line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL, which no text has")
    return text


def lighter(text: str, kept: int) -> str:
    """A lock with no more than so many wheels of each package, and without the source archives beside these.

    They are nine tenths of a lock and say nothing of versions; reading TOML is slow. Where a line does not look as uv
    writes it, or could be part of a longer text, all of it stays.
    """
    if '"""' in text or "'''" in text:
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    first, *rest = text.split("\nwheels = [\n")
    parts = [first]
    for part in rest:
        end = part.find("\n]\n")
        body = part[: max(end, 0)]
        each_is_one = body.startswith("    {") and body.endswith("},") and body.count("},\n    {") == body.count("\n")
        if not each_is_one:
            return text
        parts.append("\n".join([*body.split("\n", kept)[:kept], part[end + 1 :]]))
    first, *rest = "\nwheels = [\n".join(parts).split("\nsdist = {")
    parts = [first]
    for part in rest:
        line, _, after = part.partition("\n")
        beside = kept == 0 or after.startswith("wheels = [")
        parts.append(f"\n{after}" if beside and line.endswith("}") else f"\nsdist = {{{part}")
    text = "".join(parts)
    return text.replace("\nwheels = [\n]", "") if kept == 0 else text


def toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises BadInput."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise BadInput(f"{name}: not TOML: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{name}: not TOML: {error}") from None
    except ValueError:  # of int()
        raise BadInput(f"{name}: a number of more digits than Python reads") from None
