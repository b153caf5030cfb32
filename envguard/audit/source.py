"""A host release to read: the installed package, a wheel or a folder with the source. Nothing of it is imported."""

from __future__ import annotations

import os
import zipfile

from envguard.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard.probes.interpreter import Interpreter

MOST_BYTES = 4 << 20  # of one source file; the longest of any release has a tenth of that
_MOST_ENTRIES = 100_000


class Release:
    """The files of one release of a host, read when they are asked for."""

    def __init__(self, host: str, version: str, place: str, root: str, wheel: str = "", metadata: str = "") -> None:
        self.host = host
        self.version = version
        self.place = place
        """Where it was found, for people."""
        self.metadata = metadata
        """The text of its METADATA, "" where it has none."""
        self._root = root
        self._names: frozenset[str] = frozenset()
        self._archive: zipfile.ZipFile | None = None
        if wheel:
            self._archive = _open_wheel(wheel)
            self._names = frozenset(self._archive.namelist())

    def has(self, file: str) -> bool:
        """Whether there is a file, by its path in the package."""
        if self._archive is not None:
            return f"{self._root}/{file}" in self._names
        return os.path.isfile(os.path.join(self._root, *file.split("/")))

    def read(self, file: str) -> bytes:
        """A file's content. Raises BadInput where it cannot be read or is longer than any source file is."""
        return _bounded(self._archive, self._root, file, f"{self.place}: {file}")

    def list(self, folder: str) -> list[str]:
        """The Python files of a folder and of those below it, by their path in the package."""
        if self._archive is not None:
            start = f"{self._root}/{folder}/"
            found = [name[len(self._root) + 1 :] for name in self._names if name.startswith(start)]
            return sorted(name for name in found if name.endswith(".py"))
        found = []
        top = os.path.join(self._root, *folder.split("/"))
        for path, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name != "__pycache__"]
            inside = os.path.relpath(path, self._root).replace(os.sep, "/")
            found += [f"{inside}/{name}" for name in files if name.endswith(".py")]
            if len(found) > _MOST_ENTRIES:
                raise BadInput(f"{self.place}: {folder}: more files than a release has")
        return sorted(found)


def installed(host: str, interpreter: Interpreter) -> Release:
    """The release that an interpreter would import. Raises BadInput where there is none."""
    from envguard.probes.distributions import distributions

    found = distributions(interpreter.path, frozenset((host,))).value.get(host) or {}
    places = [*([found["location"]] if found.get("location") else []), *interpreter.path]
    for place in places:
        root = os.path.join(place, host)
        if os.path.isfile(os.path.join(root, "__init__.py")):
            metadata = _metadata_beside(root, host) if place == found.get("location") else ""
            return Release(host, found.get("version") or _version(root, host), root, root, metadata=metadata)
    raise BadInput(f"{interpreter.executable}: {host} is not installed there (give a wheel or a source folder to read)")


def given(host: str, path: str) -> Release:
    """The release in a wheel or a folder. Raises BadInput where it is neither or holds another package."""
    if os.path.isdir(path):
        return _folder(host, path)
    if not os.path.isfile(path):
        raise BadInput(f"{path}: cannot be read: no such wheel or folder")
    archive = _open_wheel(path)
    names = archive.namelist()
    if f"{host}/__init__.py" not in names:
        raise BadInput(f"{path}: expected a wheel of {host}, found no {host}/__init__.py in it")
    entry = next((name for name in names if name.endswith(".dist-info/METADATA") and name.count("/") == 1), None)
    text = _text(_bounded(archive, "", entry, f"{path}: {entry}")) if entry else ""
    version = _field(text, "Version")
    if not version:
        raise BadInput(f"{path}: expected a wheel with its version in METADATA")
    return Release(host, version, path, host, wheel=path, metadata=text)


def _folder(host: str, path: str) -> Release:
    for root in (path, os.path.join(path, host), os.path.join(path, "src", host)):
        if os.path.isfile(os.path.join(root, "utils", "import_utils.py")):
            return Release(host, _version(root, host), root, root, metadata=_metadata_beside(root, host))
    raise BadInput(f"{path}: expected the source of {host}, found no utils/import_utils.py in it, {host} or src/{host}")


def _version(root: str, host: str) -> str:
    """What `__init__.py` says, of which no more is read than one line."""
    text = _text(_bounded(None, root, "__init__.py", f"{root}: __init__.py"))
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "__version__" and len(value) < 100:
            return value.strip().strip("\"'")
    raise BadInput(f"{root}: expected __version__ = ... in the __init__.py of {host}")


def _metadata_beside(root: str, host: str) -> str:
    """The METADATA of an installed package, "" for a checkout, which has none."""
    above = os.path.dirname(os.path.abspath(root))
    try:
        entries = sorted(entry for entry in os.listdir(above) if entry.endswith(".dist-info"))
    except OSError:
        return ""
    for entry in entries:
        if entry.lower().startswith(f"{host}-") and os.path.isfile(os.path.join(above, entry, "METADATA")):
            return _text(_bounded(None, os.path.join(above, entry), "METADATA", f"{above}: {entry}"))
    return ""


def _open_wheel(path: str) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path}: cannot be read as a wheel: {error}") from None
    if len(archive.infolist()) > _MOST_ENTRIES:
        raise BadInput(f"{path}: more files than a wheel has")
    return archive


def _bounded(archive: zipfile.ZipFile | None, root: str, file: str, name: str) -> bytes:
    """A file of a wheel or a folder, never more of it than a source file can have."""
    import zlib

    try:
        if archive is not None:
            with archive.open(f"{root}/{file}" if root else file) as member:
                data = member.read(MOST_BYTES + 1)
        else:
            from envguard.probes.folders import read

            data = read(os.path.join(root, *file.split("/")), MOST_BYTES + 1)
    except (OSError, KeyError, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{name}: cannot be read: {error}") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{name}: cannot be read: {error}") from None
    if len(data) > MOST_BYTES:
        raise BadInput(f"{name}: longer than {MOST_BYTES >> 20} MiB, which no source file is")
    return data


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _field(text: str, name: str) -> str:
    """A field of METADATA, "" where it has none."""
    head = text.partition("\n\n")[0]
    for line in head.splitlines():
        if line.lower().startswith(f"{name.lower()}:"):
            return line.partition(":")[2].strip()
    return ""
