"""Where Python would load a module from, found as its import system does, without importing anything.

In this order: the folders of the search path (packages, extension modules, source, bytecode; a folder without
`__init__` counts only where no folder of the path has more), then the finders of setuptools' editable installs, which
are read as text. Import hooks of other tools are not known here. Below: which distributions are editable, from where.
"""

from __future__ import annotations

import os

from envguard.probes.folders import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.probes.folders import Folder, Folders


class Found:
    """One module: kind (package, module, namespace), the file (namespace: none), the folders its children come from."""

    __slots__ = ("children", "kind", "origin")

    def __init__(self, kind: str, origin: str | None, children: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.origin = origin
        self.children = children


class Importer:
    """Finds modules on one search path. `problems` tells finders that could not be read."""

    __slots__ = ("_finders", "_suffixes", "folders", "problems")

    def __init__(self, folders: Folders, suffixes: tuple[str, ...]) -> None:
        self.folders = folders
        self.problems: list[str] = []
        self._suffixes = suffixes
        self._finders: tuple[dict[str, str], dict[str, list[str]]] | None = None

    def find(self, name: str) -> Found | None:
        """The module of a (dotted) name, None where there is none."""
        head, _, rest = name.partition(".")
        found = self._find(head, head, self.folders.listed)
        for part in rest.split(".") if rest else ():
            if found is None:
                return None
            head = f"{head}.{part}"
            folders = [folder for folder in map(self.folders.folder, found.children) if folder is not None]
            found = self._find(head, part, folders)
        return found

    def _find(self, name: str, last: str, folders: Iterable[Folder]) -> Found | None:
        portions: list[str] = []
        for folder in folders:
            found = self._in_folder(last, folder, portions)
            if found is not None:
                return found
        mapping, namespaces = self._editable()
        if name in namespaces:
            portions += namespaces[name] or ([mapping[name]] if name in mapping else [])
        if portions or name in namespaces:
            return Found("namespace", None, tuple(portions))
        return self._mapped(mapping[name]) if name in mapping else None

    def _in_folder(self, last: str, folder: Folder, portions: list[str]) -> Found | None:
        names = folder.names
        place = folder.join(last)
        if last in names:
            # beside an `__init__.py` a compiled one would win: the same package either way
            for suffix in (".py", *self._suffixes, ".pyc"):
                init = f"{place}{os.sep}__init__{suffix}"
                if os.path.isfile(init):
                    return Found("package", init, (place,))
        for suffix in (*self._suffixes, ".py", ".pyc"):
            if last + suffix in names and os.path.isfile(place + suffix):
                return Found("module", place + suffix)
        if last in names and os.path.isdir(place):
            portions.append(place)
        return None

    def _mapped(self, place: str) -> Found | None:
        init = os.path.join(place, "__init__.py")
        if os.path.isfile(init):
            return Found("package", init, (place,))
        stem = os.path.splitext(place)[0]
        for suffix in (".py", *self._suffixes, ".pyc"):
            if os.path.isfile(stem + suffix):
                return Found("module", stem + suffix)
        return None

    def editable(self) -> dict[str, str]:
        """Import name -> folder or file of each package that a finder of setuptools serves."""
        return self._editable()[0]

    def _editable(self) -> tuple[dict[str, str], dict[str, list[str]]]:
        if self._finders is None:
            mapping: dict[str, str] = {}
            namespaces: dict[str, list[str]] = {}
            self._finders = mapping, namespaces
            for folder in self.folders.listed:
                for entry in folder.finders:
                    one, other = self._finder(folder.join(entry))
                    mapping.update(one)
                    namespaces.update(other)
        return self._finders

    def _finder(self, file: str) -> tuple[dict[str, str], dict[str, list[str]]]:
        try:
            return parse_finder(read(file).decode("utf-8"))
        except OSError as error:
            self.problems.append(f"{file} cannot be read: {error.strerror}")
        except ValueError as error:
            self.problems.append(f"{file} is not as setuptools writes it: {error}")
        return {}, {}


def project_of(folder: Folder, entry: str) -> str | None:
    """The project folder of an editable install, None where the distribution is none (or does not say where)."""
    try:
        url = parse_editable(read(f"{folder.join(entry)}{os.sep}direct_url.json").decode("utf-8", "replace"))
    except OSError:
        return None
    return url_path(url) if url else None


def below(path: str, project: str) -> bool:
    """True where a path is the project folder or lies in it, symbolic links followed."""
    return os.path.join(os.path.realpath(path), "").startswith(os.path.join(os.path.realpath(project), ""))


def parse_editable(text: str) -> str | None:
    """The URL of the project that a direct_url.json (PEP 610) says is installed editable, else None."""
    if '"editable"' not in text:
        return None
    import json

    try:
        url = json.loads(text)
        return str(url["url"]) if url["dir_info"]["editable"] is True else None
    except (ValueError, LookupError, TypeError):
        return None


def url_path(url: str) -> str | None:
    """The local folder of a `file:` URL, None for other URLs."""
    if not url.startswith("file:"):
        return None
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return url2pathname(urlsplit(url).path)


def parse_finder(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """MAPPING and NAMESPACES of a setuptools editable finder. Raises ValueError where they are not plain literals."""
    return _assigned(text, "MAPPING", str), _assigned(text, "NAMESPACES", list)


def _assigned(text: str, name: str, kind: type) -> dict[str, Any]:
    for line in text.splitlines():
        left, sign, right = line.partition("=")
        if sign and left.partition(":")[0].strip() == name and not line[:1].isspace():
            from ast import literal_eval

            try:
                value = literal_eval(right.strip())
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                value = None
            if isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items()):
                return value
            raise ValueError(f"{name} is not a plain mapping")
    return {}
