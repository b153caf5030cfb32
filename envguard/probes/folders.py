"""The folders of a module search path, each listed once, for all probes of one check; and how a probe reads a file."""

from __future__ import annotations

import os

from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 1 << 22  # bytes: no metadata or version file of a real distribution is as long (torch's RECORD: 1.5 MB)

_PIECE = 1 << 14  # holds the header of almost every METADATA
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class Folder:
    """One folder of the search path and what was in it when it was first looked at.

    `metadata` maps a normalized distribution name to its metadata entries, in the order in which the system lists them.
    `egg_links` and `pth_links` are the distributions for which an `.egg-link` (setup.py develop) or an
    `__editable__.*.pth` (setuptools) lies here; `finders` are the modules that setuptools writes for the latter.
    """

    __slots__ = ("egg_links", "entries", "finders", "metadata", "names", "path", "pth_links")

    def __init__(self, path: str, entries: list[str]) -> None:
        self.path = path
        self.entries = entries
        self.names = frozenset(entries)
        self.metadata: dict[str, list[str]] = {}
        self.egg_links: set[str] = set()
        self.pth_links: set[str] = set()
        self.finders: list[str] = []
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info", ".egg-link", ".pth", "_finder.py")) and entry[0] != "~":
                if entry.endswith("-info"):
                    self._add(entry.rpartition(".")[0], entry)
                elif entry.endswith(".egg-link"):
                    self.egg_links.add(normalize(entry[:-9]))
                elif entry.startswith("__editable___"):
                    self.finders.append(entry)
                elif entry.startswith("__editable__."):
                    self.pth_links.add(normalize(entry[13:-4].rpartition("-")[0]))
        # a path entry that is itself an egg keeps its metadata inside
        if "EGG-INFO" in self.names and path.endswith(".egg"):
            self._add(os.path.basename(path)[:-4], "EGG-INFO")

    def _add(self, stem: str, entry: str) -> None:
        self.metadata.setdefault(normalize(stem.partition("-")[0]), []).append(entry)

    def join(self, entry: str) -> str:
        """The path of an entry."""
        return f"{self.path}{os.sep}{entry}"


class Folders:
    """The folders of a search path that exist, in its order, each once; and those that could not be listed.

    One object is one moment: make a new one to look again.
    """

    __slots__ = ("_listed", "listed", "unlisted")

    def __init__(self, path: Iterable[str]) -> None:
        self.unlisted: dict[str, str] = {}
        self._listed: dict[str, Folder | None] = {}
        self.listed: list[Folder] = []
        seen = set()
        for entry in path:
            try:
                # lib64 -> lib: the same folder under two names is no second copy of what is in it
                status = os.stat(entry or os.curdir)
            except (FileNotFoundError, ValueError):
                continue  # the search path of every Python names folders that are not there
            except OSError as error:
                self.unlisted[entry] = _why(entry, error)
                continue
            identity = (status.st_dev, status.st_ino)
            if identity not in seen:
                seen.add(identity)
                folder = self.folder(entry or os.curdir)
                if folder is not None:
                    self.listed.append(folder)

    def folder(self, path: str) -> Folder | None:
        """A folder (of the search path or below it), None where it cannot be listed."""
        if path in self._listed:
            return self._listed[path]
        folder = None
        try:
            folder = Folder(path.rstrip(os.sep) or os.sep, os.listdir(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            # pythonXY.zip holds the standard library alone (embeddable Python for Windows)
            name = os.path.basename(path)
            if not (name.startswith("python") and name.endswith(".zip")):
                self.unlisted[path] = _why(path, error)
        self._listed[path] = folder
        return folder


def read(path: str, most: int = MOST) -> bytes:
    """The first bytes of a file. Raises OSError; does not wait on a pipe that somebody put there."""
    descriptor = os.open(path, _FLAGS)
    try:
        size = os.fstat(descriptor).st_size
        if size:
            return os.read(descriptor, min(most, size))
        # files of /proc have no size
        pieces = [os.read(descriptor, min(most, 1 << 16))]
        while pieces[-1] and sum(map(len, pieces)) < most:
            pieces.append(os.read(descriptor, 1 << 16))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def read_head(path: str) -> bytes:
    """The header of a metadata file: up to its first empty line, or the whole of it. Raises OSError."""
    data = read(path, _PIECE)
    end = data.find(b"\n\n")
    if end < 0 and len(data) == _PIECE:
        data = read(path)
        end = data.find(b"\n\n")
    if end < 0:  # written on Windows
        end = data.find(b"\n\r\n")
    return data if end < 0 else data[: end + 1]


def text(path: str, most: int = 1 << 14) -> str:
    """The text of a small file in which a kernel says what it knows: "" where there is none or it may not be read."""
    try:
        return read(path, most).decode("utf-8", "replace")
    except OSError:
        return ""


def _why(path: str, error: OSError) -> str:
    if isinstance(error, NotADirectoryError):
        return f"{path} is not a folder (zip archives are not looked into)"
    return f"{path} cannot be listed: {error.strerror}"
