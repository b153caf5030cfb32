"""The `raise` statements of a host release that decide about a request, read from its wheel."""

from __future__ import annotations

import ast
import zipfile
from typing import Any, NamedTuple


class Gate(NamedTuple):
    """One `raise`: where it stands, and its words as far as they are literal."""

    place: str
    text: str


def gates(wheel: str, host: str, asks: Any) -> list[Gate]:
    """Every `raise` in the functions that `asks` names, in the files that it names."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and any(name.startswith(f"{host}/{file}") for file in asks.FILES):
                tree = ast.parse(archive.read(name))
                found += [Gate(f"{name}:{line}", text) for line, text in _raises(tree, asks, at_top=True)]
    return found


def _raises(node: ast.AST, asks: Any, *, at_top: bool) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if child.name not in asks.OTHER_CLASSES:
                found += _raises(child, asks, at_top=False)
        elif isinstance(child, ast.FunctionDef):
            if child.name in asks.GATES:
                found += [(each.lineno, _text(each)) for each in ast.walk(child) if isinstance(each, ast.Raise)]
        elif isinstance(child, ast.Raise) and at_top:
            found.append((child.lineno, _text(child)))
        elif not isinstance(child, ast.expr):
            found += _raises(child, asks, at_top=at_top)
    return found


def _text(node: ast.AST) -> str:
    return "".join(
        each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )
