"""Source without the bodies of its functions: parsing takes most of the time, and most functions are never called.

Every line stays where it is. A function whose end cannot be told for certain keeps its body.
"""

from __future__ import annotations

import ast
import re

_DEF = re.compile(r"( *)(?:async +)?def +\w")
_LONGEST_HEADER = 80  # lines


def outline(source: str) -> tuple[str, dict[int, int]]:
    """The source with `...` for the bodies of functions, and for each the line of its `def` and its last line."""
    lines = source.split("\n")
    ends: dict[int, int] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        found = _DEF.match(line) if "def " in line else None
        if found is None:
            at += 1
            continue
        head = _header_end(lines, at)
        end = _body_end(lines, head, len(found[1])) if head is not None else None
        if head is None or end is None:
            at += 1
            continue
        lines[head + 1 : end] = [f"{found[1]} ...", *[""] * (end - head - 2)]
        ends[at + 1] = end
        at = end
    return "\n".join(lines), ends


def _header_end(lines: list[str], start: int) -> int | None:
    """The line in which the header of a function ends, None for one that has its body beside it."""
    depth = 0
    for at in range(start, min(start + _LONGEST_HEADER, len(lines))):
        line = lines[at]
        if "#" in line and '"' not in line and "'" not in line:
            line = line.partition("#")[0]
        line = line.rstrip()
        for opening, closing in ("()", "[]", "{}"):
            depth += line.count(opening) - line.count(closing)
        if depth <= 0:
            return at if depth == 0 and line.endswith(":") else None
    return None


def _body_end(lines: list[str], head: int, indent: int) -> int | None:
    """The line after the last of a body, None where that cannot be told."""
    at = last = head + 1
    while at < len(lines):
        line = lines[at]
        if line.strip():
            if len(line) - len(line.lstrip()) <= indent:
                break
            last = at + 1
        at += 1
    body = "\n".join(lines[head + 1 : last])
    if last == head + 1 or "\t" in body[:200] or body.count('"""') % 2 or body.count("'''") % 2:
        return None
    return last


def whole_function(source: str, first: int, last: int) -> ast.AST | None:
    """A function with its body, None where it cannot be parsed on its own."""
    lines = source.split("\n")[first - 1 : last]
    indented = lines[0][:1] == " "
    text = "\n".join(["if 1:", *lines] if indented else ["", *lines])
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    ast.increment_lineno(tree, first - 2)
    body = tree.body
    if indented and body and isinstance(body[0], ast.If):
        body = body[0].body
    return body[0] if body else None
