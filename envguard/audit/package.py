"""The modules of a release, parsed, and where a name of one of them comes from."""

from __future__ import annotations

import ast
import hashlib
import warnings

from envguard.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.audit.source import Release


class Module:
    """One parsed file."""

    def __init__(self, file: str, tree: ast.Module, text: bytes) -> None:
        self.file = file
        self.tree = tree
        self._lines = text.splitlines(keepends=True)
        package = file.rpartition("/")[0] if file.endswith("/__init__.py") or "/" in file else ""
        self.package = package.split("/") if package else []
        """The folders that `.` means in its imports."""
        self.bound = {name for node in tree.body for name in bindings(node)}
        """Every name that its own statements bind, sooner or later."""
        self.postponed = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "__future__"
            and any(alias.name == "annotations" for alias in node.names)
            for node in tree.body
        )
        """Whether annotations are not evaluated."""

    def source(self, node: ast.AST, most: int = 200) -> str:
        """The text of a node on one line, the same on every Python that reads it."""
        first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if not first or not last:
            return ""
        lines = self._lines[first - 1 : last]
        if len(lines) == 1:
            text = lines[0][node.col_offset : node.end_col_offset]  # type: ignore[attr-defined]
        else:
            text = lines[0][node.col_offset :] + b"".join(lines[1:-1]) + lines[-1][: node.end_col_offset]  # type: ignore[attr-defined]
        said = " ".join(text.decode("utf-8", "replace").split())
        return said if len(said) <= most else said[: most - 3] + "..."

    def fingerprint(self, *nodes: ast.AST) -> str:
        """Twelve digits that stay while the code does: comments, docstrings and the place in the file do not count."""
        digest = hashlib.sha256()
        for node in nodes:
            silent = _docstring_lines(node)
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])  # type: ignore[attr-defined]
            for number in range(first, node.end_lineno + 1):  # type: ignore[attr-defined]
                line = self._lines[number - 1].split(b" #", 1)[0].strip()
                if line and not line.startswith(b"#") and number not in silent:
                    digest.update(b" ".join(line.split()) + b"\n")
        return digest.hexdigest()[:12]


class Package:
    """The modules of a release by their path in it."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self._modules: dict[str, Module | None] = {}
        self._exported: dict[str, dict[str, tuple[str, str]]] = {}

    def module(self, file: str) -> Module | None:
        """A module, None where the release has no such file. Raises BadInput where it cannot be parsed."""
        if file not in self._modules:
            self._modules[file] = self._parse(file) if self.release.has(file) else None
        return self._modules[file]

    def _parse(self, file: str) -> Module:
        data = self.release.read(file)
        where = f"{self.release.place}: {file}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes that a string should not have
                return Module(file, ast.parse(data), data)
        except SyntaxError as error:
            raise BadInput(f"{where}: cannot be read as Python: line {error.lineno or 1}: {error.msg}") from None
        except ValueError as error:  # a NUL
            raise BadInput(f"{where}: cannot be read as Python: {error}") from None
        except (RecursionError, MemoryError):
            raise BadInput(f"{where}: cannot be read as Python: nested too deeply") from None

    def origin(self, importer: Module, node: ast.ImportFrom, name: str) -> tuple[str, str] | None:
        """The file and the name in it that `from ...utils import name` means; None where it is not of this package."""
        folder = self.folder(importer, node)
        return None if folder is None else self._find(folder, name, 0)

    def folder(self, importer: Module, node: ast.ImportFrom) -> list[str] | None:
        """The parts of the module that an import names, inside the package; None where it is outside."""
        parts = node.module.split(".") if node.module else []
        if node.level:
            up = node.level - 1
            if up > len(importer.package):
                return None
            return [*importer.package[: len(importer.package) - up], *parts]
        return parts[1:] if parts[:1] == [self.release.host] else None

    def _find(self, parts: list[str], name: str, depth: int) -> tuple[str, str] | None:
        if depth > 5:
            return None
        path = "/".join(parts)
        file = f"{path}.py"
        if path and self.release.has(file):
            return file, name
        inner = f"{path}/{name}.py" if path else f"{name}.py"
        if self.release.has(inner):
            return inner, ""
        file = f"{path}/__init__.py" if path else "__init__.py"
        return self._passed_on(file, depth).get(name)

    def _passed_on(self, file: str, depth: int) -> dict[str, tuple[str, str]]:
        """The names that an `__init__.py` takes from other modules, also under `if TYPE_CHECKING`."""
        if file not in self._exported:
            self._exported[file] = found = {}
            module = self.module(file)
            if module is not None:
                own = [node.name for node in module.tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
                found.update({name: (file, name) for name in own})
            for node in ast.walk(module.tree) if module else ():
                if not isinstance(node, ast.ImportFrom) or (folder := self.folder(module, node)) is None:  # type: ignore[arg-type]
                    continue
                for alias in node.names:
                    target = self._find(folder, alias.name, depth + 1)
                    if target is not None:
                        found[alias.asname or alias.name] = target
        return self._exported[file]


def bindings(node: ast.AST) -> list[str]:
    """The names that a statement binds."""
    names: list[str] = []
    for each in ast.walk(node) if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) else (node,):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names.append(each.id)
        elif isinstance(each, (ast.FunctionDef, ast.ClassDef)):
            names.append(each.name)
        elif isinstance(each, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.partition(".")[0] for alias in each.names]
    return names


def _docstring_lines(node: ast.AST) -> set[int]:
    lines: set[int] = set()
    for each in ast.walk(node):
        body: Any = getattr(each, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                lines.update(range(body[0].lineno, (body[0].end_lineno or body[0].lineno) + 1))
    return lines
