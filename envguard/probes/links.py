"""Sections `import_links` and `compiled_kernels`: what the files of installed packages say about their imports.

To look takes up to a second, so the answer is remembered with the times, sizes and numbers of all files and folders
that it came from.
"""

from __future__ import annotations

import os

from envguard.markers import SYSTEMS
from envguard.probes import remembered
from envguard.probes.importer import Importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.probes.folders import Folders
    from envguard.probes.interpreter import Interpreter
    from envguard.probes.wanted import WantedLinks

_RELEVANT = ("TORCHAO_FORCE_SKIP_LOADING_SO_FILES",)  # what changes which imports run, of what users set
_MADE_BY = 3  # of what is remembered: another number, another way to look


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
    searched = [folder.path for folder in folders.listed], sorted(folders.unlisted.items())
    about = interpreter.version, system, searched, modules, kernels, wanted.follow, environ
    key = f"links {_MADE_BY} {about!r}"
    if remembered.is_off():
        return _look(modules, kernels, wanted.follow, interpreter, folders, system, environ)[0]
    place = remembered.folder()
    known = _seen.get(key) or remembered.recall(key, place)
    if known is not None and _unchanged(known):
        _seen[key] = known
        sections: dict[str, Any] = known["sections"]
        return sections
    sections, visited = _look(modules, kernels, wanted.follow, interpreter, folders, system, environ)
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen[key] = {**by_folder(visited), "sections": sections}
    remembered.remember(key, _seen[key], place)
    return sections


# In this process too: not everybody has a cache folder that can be written.
_seen: dict[str, Any] = {}
_MOST_SEEN = 20


def by_folder(visited: Mapping[str, tuple[int, int, int]]) -> dict[str, Any]:
    """The paths, folder by folder, and what tells whether each is as it was."""
    folders: dict[str, dict[str, tuple[int, int, int]]] = {}
    for path, stamp in visited.items():
        folder, name = os.path.split(path)
        folders.setdefault(folder, {})[name] = stamp
    stamps = [number for each in folders.values() for stamp in each.values() for number in stamp]
    return {"paths": {folder: list(each) for folder, each in folders.items()}, "stamps": stamps}


def _stamps(folders: Mapping[str, list[str]]) -> list[int]:
    """The stamps of `links.sources`, without its import."""
    made: list[int] = []
    stat = os.stat
    for folder, names in folders.items():
        for name in names:
            try:
                status = stat(f"{folder}{os.sep}{name}")
            except (OSError, ValueError):
                made += (-1, -1, -1)
            else:
                made += (status.st_mtime_ns, status.st_size, status.st_ino)
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
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    from envguard.links import check_links
    from envguard.links.kernels import WATCHED
    from envguard.links.kernels import kernels as judge
    from envguard.links.sources import stamp

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
    finders = {file: stamp(file) for folder in folders.listed for file in map(folder.join, folder.finders)}
    return {"import_links": import_links, "compiled_kernels": compiled}, {**finders, **found.visited}


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
    if os.path.basename(path) in ("lib-dynload", "DLLs"):
        return True
    return path == interpreter.stdlib or os.path.realpath(path) == os.path.realpath(interpreter.stdlib)


def _doubtful(folders: Folders, mapping: Mapping[str, str]) -> set[str]:
    """Import names that may be there though no folder holds them: editable installs through other hooks."""
    names: set[str] = set()
    for folder in folders.listed:
        names |= folder.egg_links | folder.pth_links
    return {name.replace("-", "_") for name in names} - set(mapping)
