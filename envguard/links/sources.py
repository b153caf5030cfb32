"""Where the modules of some folders and wheels lie, and their text: found as Python finds them, nothing imported."""

from __future__ import annotations

import os
import sys

from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from typing import Any

_MOST = 1 << 23  # bytes: no source file of a real package is as long
_COMPILED = (".so", ".pyd", ".pyc", ".dylib")
# Parts of the standard library that every Python has loaded, or holds frozen, before it looks at the search path
# (Python/frozen.c).
_FROZEN = frozenset(
    (
        "abc",
        "codecs",
        "encodings",
        "genericpath",
        "io",
        "ntpath",
        "os",
        "posixpath",
        "runpy",
        "site",
        "stat",
        "zipimport",
        "_collections_abc",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "_sitebuiltins",
    )
)


class Place:
    """Where a module is: `kind` is package, module, compiled (also a package whose `__init__` is) or namespace.

    `file` is what a traceback would call it, `inside` the folders in which its submodules are looked for.
    """

    __slots__ = ("file", "inside", "kind", "text_of")

    def __init__(self, kind: str, file: str, text_of: tuple[_Tree, str] | None, inside: list[tuple[_Tree, str]]):
        self.kind = kind
        self.file = file
        self.text_of = text_of
        self.inside = inside


class Sources:
    """The modules below some roots, first root first.

    `ahead` of the roots are those that Python searches before its standard library; `also` are packages and modules
    that lie elsewhere (editable installs), by import name; `doubtful` import names that may be there though they are
    not found. `visited` is every file that was read and every folder that was listed, stamped before that was done.
    """

    def __init__(
        self,
        roots: Iterable[str],
        also: Mapping[str, str] | None = None,
        doubtful: Iterable[str] = (),
        ahead: Iterable[str] = (),
    ) -> None:
        self._ahead = frozenset(ahead)
        self._roots: list[tuple[_Tree, str]] = []
        self._also = also or {}
        self.doubtful = frozenset(doubtful)
        for root in roots:
            if os.path.isdir(root):
                self._roots.append((_Folder(root), ""))
            elif root.endswith((".whl", ".zip", ".egg")) and os.path.isfile(root):
                self._roots.append((_Wheel(root), ""))
        self._found: dict[str, Place | None] = {}
        self._listed: dict[tuple[int, str], dict[str, set[str]]] = {}
        self._versions: dict[str, str] | None = None
        self.visited: dict[str, tuple[int, int, int]] = {}

    def find(self, name: str) -> Place | None:
        """The place of a (dotted) module, None where there is none."""
        try:
            return self._found[name]
        except KeyError:
            pass
        parent, _, last = name.rpartition(".")
        where: list[tuple[_Tree, str]] = self._roots
        if parent:
            package = self.find(parent)
            where = package.inside if package else []
        found = self._find(last, where)
        if found is None and name in self._also:
            folder, last = os.path.split(os.path.splitext(self._also[name])[0])
            found = self._find(last, [(_Folder(folder), "")])
        self._found[name] = found
        return found

    def shadows(self, name: str) -> bool:
        """Whether a module of the standard library is another one here. A folder without `__init__` never is one."""
        if name in sys.builtin_module_names or name in _FROZEN:
            return False
        place = self._find(name, [root for root in self._roots if root[0].root in self._ahead])
        if place is None or place.kind == "namespace":
            return False
        return place.text_of is None or os.path.isfile(place.file)  # a link to nothing is no module

    def text(self, place: Place) -> str | None:
        """The source of a module, None where it has none that can be read."""
        if place.text_of is None:
            return None
        tree, file = place.text_of
        self._visit(tree.shown(file))
        data = tree.read(file, _MOST)
        if data is None or len(data) >= _MOST:
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def beside(self, place: Place, name: str) -> tuple[_Tree, str] | None:
        """The file of that (relative) name in the folder of a package."""
        for tree, folder in place.inside:
            path = _join(folder, name)
            parent, _, last = path.rpartition("/")
            if last in tree.names(parent):
                return tree, path
        return None

    def names(self, path: str) -> AbstractSet[str] | None:
        """The names in a folder, given as `Place.file` is; None where it is below no root."""
        for tree, _ in self._roots:
            if path.startswith(tree.root + os.sep):
                self._visit(path)
                return tree.names(path[len(tree.root) + 1 :].replace(os.sep, "/"))
        return None

    def version(self, distribution: str) -> str | None:
        """The version of a distribution as the name of its metadata folder tells it."""
        return self.versions().get(normalize(distribution))

    def versions(self) -> dict[str, str]:
        """All distributions with their versions."""
        if self._versions is None:
            self._versions = {}
            for tree, folder in self._roots:
                for name in tree.names(folder):
                    if name.endswith((".dist-info", ".egg-info")) and name[0] != "~":
                        stem, _, rest = name.rpartition(".")[0].partition("-")
                        if rest:
                            self._versions.setdefault(normalize(stem), rest.partition("-py")[0])
        return self._versions

    def _visit(self, path: str) -> None:
        if path not in self.visited:
            self.visited[path] = stamp(path)

    def _find(self, last: str, where: list[tuple[_Tree, str]]) -> Place | None:
        portions: list[tuple[_Tree, str]] = []
        for tree, folder in where:
            kinds = self._listing(tree, folder).get(last)
            if not kinds:
                continue
            path = _join(folder, last)
            if "folder" in kinds:
                inits = self._listing(tree, path).get("__init__", ())
                if ".py" in inits:
                    file = _join(path, "__init__.py")
                    return Place("package", tree.shown(file), (tree, file), [(tree, path)])
                if "compiled" in inits or "stub" in inits:  # a stub alone: the module itself is compiled, as torch._C
                    return Place("compiled", tree.shown(path), None, [(tree, path)])
                portions.append((tree, path))
            if "compiled" in kinds and ".py" not in kinds:
                return Place("compiled", tree.shown(path), None, [])
            if ".py" in kinds:
                return Place("module", tree.shown(path + ".py"), (tree, path + ".py"), [])
        return Place("namespace", portions[0][0].shown(portions[0][1]), None, portions) if portions else None

    def _listing(self, tree: _Tree, folder: str) -> dict[str, set[str]]:
        """Module name -> what of that name is in a folder: .py, compiled, folder."""
        asked = id(tree), folder
        try:
            return self._listed[asked]
        except KeyError:
            pass
        listing: dict[str, set[str]] = {}
        self._visit(tree.shown(folder))
        for name in tree.names(folder):
            stem, dot, rest = name.partition(".")
            if not dot:
                listing.setdefault(stem, set()).add("folder")
            elif rest == "py":
                listing.setdefault(stem, set()).add(".py")
            elif rest == "pyi":
                listing.setdefault(stem, set()).add("stub")
            elif name.endswith(_COMPILED):
                listing.setdefault(stem, set()).add("compiled")
        self._listed[asked] = listing
        return listing


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def stamp(path: str) -> tuple[int, int, int]:
    """Time (ns), size and number of a file or folder, -1 where there is none: equal stamps, equal content."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, -1, -1
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Folder:
    """A folder of the search path."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._names: dict[str, dict[str, None]] = {}

    def names(self, folder: str) -> AbstractSet[str]:
        """The names in a folder below the root, as the system lists them; empty where it cannot be listed."""
        if folder not in self._names:
            try:
                self._names[folder] = dict.fromkeys(os.listdir(self.shown(folder)))
            except OSError:
                self._names[folder] = {}
        return self._names[folder].keys()

    def read(self, file: str, most: int) -> bytes | None:
        """The first bytes of a file."""
        try:
            with open(self.shown(file), "rb") as opened:
                return opened.read(most)
        except OSError:
            return None

    def holds(self, file: str, word: bytes) -> bool | None:
        """Whether the bytes of a file hold a word; None where that cannot be told."""
        import mmap

        try:
            with (
                open(self.shown(file), "rb") as opened,
                mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            ):
                return mapped.find(word) >= 0
        except (OSError, ValueError):
            return None

    def shown(self, path: str) -> str:
        """The path as the system writes it."""
        return os.path.join(self.root, *path.split("/")) if path else self.root


class _Wheel:
    """A wheel, not unpacked."""

    def __init__(self, file: str) -> None:
        import zipfile

        self.root = file
        self._names: dict[str, dict[str, None]] = {}
        self._archive: Any = None
        try:
            self._archive = zipfile.ZipFile(file)
        except (OSError, zipfile.BadZipFile):
            return
        for entry in self._archive.namelist():
            folder, _, name = entry.rstrip("/").rpartition("/")
            while name and name not in self._names.setdefault(folder, {}):
                self._names[folder][name] = None
                folder, _, name = folder.rpartition("/")

    def names(self, folder: str) -> AbstractSet[str]:
        """The names in a folder of the wheel."""
        return self._names.get(folder, {}).keys()

    def read(self, file: str, most: int) -> bytes | None:
        """The first bytes of a file."""
        try:
            with self._archive.open(file) as opened:
                data: bytes = opened.read(most)
                return data
        except (KeyError, OSError, ValueError, RuntimeError):
            return None

    def holds(self, file: str, word: bytes) -> bool | None:  # noqa: ARG002 - to unpack a library takes too long
        """Not looked for in a wheel."""
        return None

    def shown(self, path: str) -> str:
        """The path with the wheel's own before it."""
        return f"{self.root}/{path}" if path else self.root


if TYPE_CHECKING:
    _Tree = _Folder | _Wheel
