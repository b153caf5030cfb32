"""Who owns an import name: where Python would load it from, and which distribution that file belongs to.

The version of a distribution says nothing about that: forks, leftovers and a local folder of the same name shadow it.
Evidence, strongest first: a RECORD that lists the file (with its hash, where several list it), the project folder of an
editable install, a top_level.txt beside the module, and for metadata that has neither the name itself.
"""

from __future__ import annotations

import os

from envguard.probes import Observed
from envguard.probes.folders import Folder, Folders, read
from envguard.probes.importer import Importer, below, project_of
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from envguard.probes.importer import Found

    Copy = tuple[str, Folder, str]  # normalized name, folder, metadata entry

_MODULES = (".py", ".so", ".pyd", ".pyc", ".dylib", ".dll")
_ENOUGH = 5000  # entries of a folder without `__init__` after which it is not called empty any more


def import_owners(
    path: tuple[str, ...],
    names: Mapping[str, tuple[str, ...]],
    folders: Folders | None = None,
    suffixes: tuple[str, ...] | None = None,
) -> Observed:
    """Section `import_owners`, for the import names given, each with the distributions that may own it.

    `suffixes` are the endings of that Python's extension modules (Interpreter.suffixes), by default the running one's.
    `origin` of a namespace is its first folder, of a placeholder its folder, if it has one.
    """
    if suffixes is None:
        import _imp

        suffixes = tuple(_imp.extension_suffixes())
    importer = Importer(folders or Folders(path), suffixes)
    value: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for name, candidates in names.items():
        found = importer.find(name)
        if found is not None:
            value[name] = _found(name, found, candidates, importer.folders)
        else:
            reason = _uncertain(candidates, importer)
            if reason:
                unreadable[f"/import_owners/{name}"] = reason
            else:
                value[name] = _missing(name, candidates, importer.folders)
    return Observed(value, unreadable)


def record_line(record: bytes, file: str) -> bytes | None:
    """The line of a RECORD for a file ("x/": for any file below x), None where it does not list it."""
    wanted = file.encode() if file.endswith("/") else file.encode() + b","
    begin = 0 if record.startswith(wanted) else record.find(b"\n" + wanted) + 1
    if begin == 0 and not record.startswith(wanted):
        return None
    end = record.find(b"\n", begin)
    return record[begin : end if end >= 0 else len(record)].rstrip(b"\r")


def has_module(record: bytes) -> bool:
    """True where a RECORD lists any file that Python could import."""
    for line in record.splitlines():
        file = line.partition(b",")[0].strip(b'"')
        if file.endswith((b".py", b".so", b".pyd", b".pyc")) and b".dist-info/" not in file:
            return True
    return False


def lookalikes(distributions: Iterable[str], name: str) -> list[str]:
    """The distributions that name the import name as a whole word: bitsandbytes-cuda111, pytorch-triton."""
    begin, end = name + "-", "-" + name
    return [one for one in distributions if one.startswith(begin) or one.endswith(end)]


def _found(name: str, found: Found, candidates: tuple[str, ...], folders: Folders) -> dict[str, Any]:
    owners: list[Copy] = []
    for base, file in _places(name, found):
        folder = next((folder for folder in folders.listed if folder.path == base), None)
        if folder is not None:
            owners += _claims(name, file, folder, candidates)
    origin = found.origin or (found.children[0] if found.children else None)
    kind = found.kind
    if kind == "namespace" and found.children and not any(map(_has_code, found.children)):
        kind = "placeholder"
    if not owners and origin is not None:
        owners = _by_project(origin, candidates, folders)
    distributions = list(dict.fromkeys(owner[0] for owner in owners))
    owner = distributions[0] if distributions else None
    if len(distributions) > 1 and found.origin is not None:
        owner = _by_hash(found.origin, _places(name, found)[0][1], owners)
    return _entry(origin, owner, distributions, kind)


def _missing(name: str, candidates: tuple[str, ...], folders: Folders) -> dict[str, Any]:
    """Nothing to load: the distribution is not installed, brings no module at all, or its files are gone."""
    file = name.replace(".", "/")
    claimed: list[str] = []
    for distribution, folder, entry in _copies(candidates, folders.listed):
        record = _record(folder, entry)
        if record is not None and not has_module(record):
            return _entry(None, distribution, [distribution], "placeholder")
        if record is not None and (record_line(record, f"{file}/") or record_line(record, f"{file}.py")):
            claimed.append(distribution)
    return _entry(None, None, list(dict.fromkeys(claimed)), "missing")


def _entry(origin: str | None, owner: str | None, owners: list[str], kind: str) -> dict[str, Any]:
    return {"origin": origin, "distribution": owner, "distributions": owners, "kind": kind}


def _uncertain(candidates: tuple[str, ...], importer: Importer) -> str | None:
    """Why a name that was not found may be there all the same."""
    reasons = [*importer.folders.unlisted.values(), *importer.problems]
    if reasons:
        return "; ".join(reasons)
    for distribution, folder, entry in _copies(candidates, importer.folders.listed):
        project = project_of(folder, entry)
        if project and os.path.isdir(project) and not any(below(one.path, project) for one in importer.folders.listed):
            return f"{distribution} is installed editable from {project} through an import hook that is not read here"
    return None


def _places(name: str, found: Found) -> list[tuple[str, str]]:
    """Folder of the search path, and the file below it as a RECORD would write it ("x/" for a namespace)."""
    stem = name.replace(".", os.sep)
    if found.origin is None:
        tail = os.sep + stem
        return [(child[: -len(tail)], name.replace(".", "/") + "/") for child in found.children if child.endswith(tail)]
    origin = found.origin
    tail = f"{stem}{os.sep}{os.path.basename(origin)}" if found.kind == "package" else stem + _suffix(origin)
    if not origin.endswith(os.sep + tail):
        return [(os.path.dirname(origin), os.path.basename(origin))]
    return [(origin[: -len(tail) - 1], tail.replace(os.sep, "/"))]


def _suffix(origin: str) -> str:
    # foo.cpython-311-x86_64-linux-gnu.so: all of it belongs to the ending
    return os.path.basename(origin).partition(".")[1] + os.path.basename(origin).partition(".")[2]


def _claims(name: str, file: str, folder: Folder, candidates: tuple[str, ...]) -> list[Copy]:
    """The distributions of one folder that own the file: candidates and lookalikes first, the others if none does."""
    plain = normalize(name.partition(".")[0])
    near = [*candidates, *(one for one in lookalikes(folder.metadata, plain) if one not in candidates)]
    claims = [copy for copy in _copies(near, (folder,)) if _claims_file(name, file, folder, copy[2], copy[0])]
    if claims:
        return claims
    others = (one for one in folder.metadata if one not in near)
    return [copy for copy in _copies(others, (folder,)) if _claims_file(name, file, folder, copy[2], copy[0])]


def _claims_file(name: str, file: str, folder: Folder, entry: str, distribution: str) -> bool:
    shared = file.endswith("/") or "." in name  # several distributions may share the first part: only RECORD tells
    if not shared:
        try:
            if name in read(f"{folder.join(entry)}{os.sep}top_level.txt").decode("utf-8", "replace").split():
                return True
        except OSError:
            pass
    record = _record(folder, entry)
    if record is not None:
        return record_line(record, file) is not None
    try:
        listed = read(f"{folder.join(entry)}{os.sep}installed-files.txt", 1 << 26)
        return b"../" + file.encode() in listed
    except OSError:
        return distribution == normalize(name.replace(".", "-"))


def _by_project(origin: str, candidates: tuple[str, ...], folders: Folders) -> list[Copy]:
    """The editable install whose project folder holds the module."""
    others = {one for folder in folders.listed for one in folder.metadata if one not in candidates}
    for copy in _copies((*candidates, *sorted(others)), folders.listed):
        project = project_of(copy[1], copy[2])
        # a project's own virtual environment lies below it too
        if project and below(origin, project) and not below(origin, copy[1].path):
            return [copy]
    return []


def _by_hash(origin: str, file: str, owners: list[Copy]) -> str:
    """Which of several distributions that brought the same file was written last: the one whose hash fits it."""
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    try:
        wanted = b",sha256=" + urlsafe_b64encode(sha256(read(origin)).digest()).rstrip(b"=")
    except OSError:
        return owners[0][0]
    silent = None
    for distribution, folder, entry in owners:
        line = record_line(_record(folder, entry) or b"", file)
        if line is not None and wanted in line:
            return distribution
        if silent is None and (line is None or b",sha256=" not in line):
            silent = distribution
    # no hash fits: who gives none may have written it; and where all give one, somebody has edited the file
    return silent or owners[0][0]


def _copies(names: Iterable[str], folders: Iterable[Folder]) -> list[Copy]:
    return [(name, folder, entry) for name in names for folder in folders for entry in folder.metadata.get(name, ())]


def _record(folder: Folder, entry: str) -> bytes | None:
    try:
        return read(f"{folder.join(entry)}{os.sep}RECORD", 1 << 26)
    except OSError:
        return None


def _has_code(place: str) -> bool:
    """True where a Python or compiled file lies in or below a folder (or the folder is too large to say)."""
    waiting = [place]
    seen = 0
    while waiting:
        folder = waiting.pop()
        for entry in _entries(folder):
            seen += 1
            if entry.name.endswith(_MODULES) or seen > _ENOUGH:
                return True
            # what is left in __pycache__ after an uninstall cannot be imported
            if entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
    return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
