"""Sections `import_links` and `compiled_kernels`: what the files of installed packages say about their imports.

To look takes up to a second, so the answer is remembered with the times and sizes of all files and folders that it came
from: of the packages that were asked about each of them, of others that came from a wheel their RECORD alone.
"""

from __future__ import annotations

import os

from envguard.markers import SYSTEMS
from envguard.probes import remembered
from envguard.probes.importer import Importer
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from envguard.probes.folders import Folders
    from envguard.probes.interpreter import Interpreter
    from envguard.probes.wanted import WantedLinks

_RELEVANT = ("TORCHAO_FORCE_SKIP_LOADING_SO_FILES",)  # what changes which imports run, of what users set
_MADE_BY = 2  # of what is remembered: another number, another way to look


def links(
    wanted: WantedLinks, installed: Mapping[str, Any], interpreter: Interpreter, folders: Folders, system: str
) -> dict[str, Any]:
    """The sections, for those of the wanted distributions that are installed."""
    modules = {name: entries for name, entries in wanted.modules if installed.get(name)}
    kernels = [name for name in wanted.kernels if installed.get(name)]
    for name in kernels:
        modules.setdefault(name, (name.replace("-", "_"),))
    if not modules:
        return {"import_links": {}, "compiled_kernels": {}}
    environ = {name: os.environ[name] for name in _RELEVANT if name in os.environ}
    entries = ";".join([f"{name}={','.join(each)}" for name, each in modules.items()])
    searched = os.pathsep.join([folder.path for folder in folders.listed])
    key = "\n".join(
        ["links", str(_MADE_BY), interpreter.version, system, searched, entries, *kernels, *wanted.follow, *environ]
    )
    place = remembered.folder()
    if remembered.is_off():
        _seen.clear()
    known = _seen.get(key) or remembered.recall(key, place)
    if known is not None and _unchanged(known):
        _seen[key] = known
        sections: dict[str, Any] = known["sections"]
        return sections
    sections, visited = _look(modules, kernels, wanted.follow, interpreter, folders, system, environ)
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen[key] = {**stamps(visited), "sections": sections}
    remembered.remember(key, _seen[key], place)
    return sections


# In this process too: not everybody has a cache folder that can be written.
_seen: dict[str, Any] = {}
_MOST_SEEN = 20


def stamps(paths: Iterable[str]) -> dict[str, Any]:
    """The paths, folder by folder, with the time and size of each."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        folders.setdefault(folder, []).append(name)
    return {"paths": folders, "stamps": _stamps(folders)}


def _stamps(folders: Mapping[str, list[str]]) -> list[int]:
    made: list[int] = []
    stat = os.stat
    for folder, names in folders.items():
        for name in names:
            try:
                status = stat(f"{folder}{os.sep}{name}")
            except (OSError, ValueError):
                made += (-1, -1)
            else:
                made += (status.st_mtime_ns, status.st_size)
    return made


def _unchanged(known: Any) -> bool:
    try:
        return bool(_stamps(known["paths"]) == known["stamps"]) and isinstance(known["sections"]["import_links"], dict)
    except (LookupError, TypeError, AttributeError):
        return False


def _look(
    modules: Mapping[str, tuple[str, ...]],
    kernels: list[str],
    follow: tuple[str, ...],
    interpreter: Interpreter,
    folders: Folders,
    system: str,
    environ: Mapping[str, str],
) -> tuple[dict[str, Any], list[str]]:
    from envguard.links import check_links
    from envguard.links.kernels import WATCHED
    from envguard.links.kernels import kernels as judge

    importer = Importer(folders, interpreter.suffixes)
    mapping = importer.editable()
    roots = [folder.path for folder in folders.listed if not _is_standard(folder.path, interpreter)]
    entries = [entry for each in modules.values() for entry in each]
    tops = {entry.partition(".")[0] for entry in entries}
    followed = {*tops, *follow}
    found = check_links(
        roots,
        entries,
        follow=followed,
        python=_numbers(interpreter.version),
        platform=SYSTEMS.get(system, SYSTEMS["Linux"])[0],
        environ=environ,
        complete=not folders.unlisted and not importer.problems,
        also=mapping,
        doubtful=_doubtful(folders, mapping),
        watched=WATCHED if kernels else (),
        ahead=_ahead(folders, interpreter),
    )
    import_links: dict[str, list[Any]] = {}
    for name, own in modules.items():
        heads = {entry.partition(".")[0] for entry in own}
        if heads & {entry.partition(".")[0] for entry in found.looked}:
            import_links[name] = [each.to_data() for each in found.findings if each.entry.partition(".")[0] in heads]
    compiled = {}
    for name in kernels:
        package = importer.find(name.replace("-", "_"))
        if package is not None and package.kind == "package":
            folder = folders.folder(package.children[0])
            compiled[name] = judge(name.replace("-", "_"), found, folder.entries if folder else ())
    visited = _to_stamp(found.visited, tops, roots, folders)
    return {"import_links": import_links, "compiled_kernels": compiled}, visited


def _numbers(version: str) -> tuple[int, int, int]:
    numbers = [int("".join(filter(str.isdigit, part[:2])) or 0) for part in version.split(".")[:3]]
    major, minor, micro = [*numbers, 0, 0, 0][:3]
    return major, minor, micro


def _ahead(folders: Folders, interpreter: Interpreter) -> list[str]:
    """The folders of the search path before the standard library."""
    paths = [folder.path for folder in folders.listed]
    standard = next((place for place, path in enumerate(paths) if _is_standard(path, interpreter)), len(paths))
    return paths[:standard]


def _is_standard(path: str, interpreter: Interpreter) -> bool:
    return path == interpreter.stdlib or os.path.basename(path) in ("lib-dynload", "DLLs")


def _doubtful(folders: Folders, mapping: Mapping[str, str]) -> set[str]:
    """Import names that may be there though no folder holds them: editable installs through other hooks."""
    names: set[str] = set()
    for folder in folders.listed:
        names |= folder.egg_links | folder.pth_links
    return {name.replace("-", "_") for name in names} - set(mapping)


def _to_stamp(visited: Iterable[str], asked: set[str], roots: list[str], folders: Folders) -> list[str]:
    """The files and folders whose times tell whether an answer still holds."""
    records = _records(folders)
    kept: dict[str, None] = {}
    for path in visited:
        root = next((root for root in roots if path.startswith(root + os.sep)), None)
        if root is None:
            kept[path] = None
            continue
        top = path[len(root) + 1 :].partition(os.sep)[0]
        record = records.get((root, normalize(top)))
        if top in asked or record is None:
            kept[path] = None
        else:
            kept[record] = None
            kept[os.path.join(root, top)] = None
    return list(kept)


def _records(folders: Folders) -> dict[tuple[str, str], str]:
    """Folder and distribution -> the RECORD of one that was installed from a wheel and is not editable."""
    found: dict[tuple[str, str], str] = {}
    for folder in folders.listed:
        for name, entries in folder.metadata.items():
            for entry in entries:
                record = f"{folder.join(entry)}{os.sep}RECORD"
                if name not in folder.pth_links and os.path.isfile(record):
                    found[folder.path, name] = record
    return found
