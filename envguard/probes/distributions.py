"""Which distributions the search path holds, read from their metadata folders.

As importlib.metadata finds them: the first folder of the path that has one wins, and inside a folder the first entry
that the system lists. That library itself is not used: its import alone costs more than everything here.
"""

from __future__ import annotations

import os

from envguard.probes import Observed
from envguard.probes.folders import Folders, read, read_head
from envguard.probes.import_owners import import_owners
from envguard.probes.importer import below, project_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.probes.folders import Folder

__all__ = ["distributions", "import_owners", "leftovers"]


def distributions(
    path: tuple[str, ...],
    names: frozenset[str] | None,
    folders: Folders | None = None,
    details: bool | None = None,
) -> Observed:
    """Section `distributions`: the named ones (None where absent), or with names=None every one.

    `details` adds what no shipped rule needs: top_level, installer, wheel_tags; by default only with names=None.
    With names=None a reason under `/distributions` says that the list may not be complete.
    """
    folders = folders or Folders(path)
    details = names is None if details is None else details
    value: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    for name in sorted(_all_names(folders) if names is None else names):
        copies = [(folder, entry) for folder in folders.listed for entry in folder.metadata.get(name, ())]
        if copies:
            value[name], reason = _describe(name, copies, folders, details)
            if reason:
                unreadable[f"/distributions/{name}/version"] = reason
        elif folders.unlisted:
            unreadable[f"/distributions/{name}"] = "; ".join(folders.unlisted.values())
        else:
            value[name] = None
    if names is None and folders.unlisted:
        unreadable["/distributions"] = "; ".join(folders.unlisted.values())
    return Observed(value, unreadable)


def versions(names: Iterable[str], folders: Folders) -> Observed:
    """The versions of distributions, read from the names of their metadata folders alone wherever these tell them.

    Many times faster than `distributions`; what a distribution declares is left unobserved.
    """
    value: dict[str, Any] = {}
    slow = []
    for name in names:
        copies = [(folder, entry) for folder in folders.listed for entry in folder.metadata.get(name, ())]
        if not copies and not folders.unlisted:
            value[name] = None
            continue
        stem = copies[0][1][:-10].rpartition("-") if copies and copies[0][1].endswith(".dist-info") else ("", "", "")
        if stem[0] and stem[2][:1].isdigit():
            value[name] = {"version": stem[2]}
        else:
            slow.append(name)
    more = distributions((), frozenset(slow), folders) if slow else Observed({})
    return Observed({**value, **more.value}, more.unreadable)


def leftovers(path: tuple[str, ...], folders: Folders | None = None) -> list[str]:
    """Folders like `~orch-2.1.dist-info`, which an interrupted pip leaves behind; Python ignores them."""
    found = []
    for folder in (folders or Folders(path)).listed:
        found += [folder.join(entry) for entry in folder.entries if entry[0] == "~"]
    return sorted(found)


def parse_header(text: str) -> tuple[str | None, list[str], str | None]:
    """Version, Requires-Dist lines and Requires-Python of the header of a METADATA or PKG-INFO file."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    header = f"\n{text}\n"
    return _field(header, "Version"), _fields(header, "Requires-Dist"), _field(header, "Requires-Python")


def parse_requires_txt(text: str) -> list[str]:
    """The Requires-Dist lines that the requires.txt of an egg stands for."""
    found = []
    extra = marker = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            extra, _, marker = line[1:-1].partition(":")
        elif line and not line.startswith("#"):
            # PEP 508 wants a space before the marker of a direct reference, and the section's marker in brackets
            conditions = [f"({marker})"] if marker and extra else [marker] if marker else []
            if extra:
                conditions.append(f'extra == "{extra}"')
            space = " " if " @ " in line or "@" in line else ""
            found.append(line + (f"{space}; {' and '.join(conditions)}" if conditions else ""))
    return found


def import_names(folder: Folder, entry: str) -> list[str]:
    """The import names that a distribution says it brings: top_level.txt, else the first parts of RECORD."""
    text = _text(folder, entry, "top_level.txt")
    if text is not None:
        return text.split()
    record = _text(folder, entry, "RECORD") or ""
    return sorted({name for name in map(_import_name, record.splitlines()) if name})


def metadata_of(folder: Folder, entry: str) -> tuple[str | None, list[str], str | None, str | None]:
    """Version, requirements, Requires-Python, and why there is no version."""
    place = folder.join(entry)
    file = place
    try:
        if entry.endswith(".dist-info"):
            file = f"{place}{os.sep}METADATA"
        elif os.path.isdir(place):
            file = f"{place}{os.sep}PKG-INFO"
        version, requires, python = parse_header(read_head(file).decode("utf-8"))
    except UnicodeDecodeError:
        return None, [], None, f"{file} is not UTF-8"
    except FileNotFoundError:
        return None, [], None, f"{file} does not exist"
    except OSError as error:
        return None, [], None, f"{file} cannot be read: {error.strerror}"
    if not requires and file is not place and not entry.endswith(".dist-info"):
        requires = parse_requires_txt(_text(folder, entry, "requires.txt") or "")
    return version, requires, python, None if version else f"{file} gives no Version"


def _all_names(folders: Folders) -> set[str]:
    return {name for folder in folders.listed for name in folder.metadata}


def _describe(
    name: str, copies: list[tuple[Folder, str]], folders: Folders, details: bool
) -> tuple[dict[str, Any], str | None]:
    folder, entry = copies[0]
    version, requires, python, reason = metadata_of(folder, entry)
    project = project_of(folder, entry)
    described: dict[str, Any] = {
        "version": version,
        "requires": requires,
        "requires_python": python,
        "location": folder.path,
        "editable": project is not None or _linked(name, folder, entry, folders),
        "duplicates": [metadata_of(*copy)[0] or "unknown" for copy in copies[1:] if not _is_build(copy, project)],
    }
    if version is None or described["duplicates"]:
        seen = [copies[0], *[copy for copy in copies[1:] if not _is_build(copy, project)]]
        described["copies"] = [{"path": one.join(each), "version": metadata_of(one, each)[0]} for one, each in seen]
    if details:
        described["top_level"] = import_names(folder, entry)
        described["installer"] = (_text(folder, entry, "INSTALLER") or "").strip() or None
        described["wheel_tags"] = [
            line[4:].strip() for line in (_text(folder, entry, "WHEEL") or "").splitlines() if line.startswith("Tag:")
        ]
    return described, reason


def _is_build(copy: tuple[Folder, str], project: str | None) -> bool:
    """An editable project keeps the metadata of its build: the same installation seen twice, no second one."""
    return project is not None and copy[1].endswith(".egg-info") and below(copy[0].path, project)


def _linked(name: str, folder: Folder, entry: str, folders: Folders) -> bool:
    """Older editable installs: an egg-link anywhere, or a .pth file of setuptools beside the metadata."""
    if entry.endswith(".dist-info"):
        return name in folder.pth_links
    return any(name in other.egg_links for other in folders.listed)


def _field(header: str, name: str) -> str | None:
    """The value of a field that occurs once; `header` begins and ends with a line end."""
    begin = header.find(f"\n{name}:")
    return _value(header[begin + len(name) + 2 :]) or None if begin >= 0 else None


def _fields(header: str, name: str) -> list[str]:
    """The values of a field that may repeat."""
    # between two fields of the same name there is no line end left: the usual case in one step
    return [part.strip() if "\n" not in part else _value(part) for part in header.split(f"\n{name}:")[1:]]


def _value(text: str) -> str:
    """The first line and those that continue it."""
    value, _, rest = text.partition("\n")
    while rest[:1] in (" ", "\t") and rest:
        more, _, rest = rest.partition("\n")
        value += " " + more.strip()
    return value.strip()


def _import_name(line: str) -> str | None:
    """The import name that a line of RECORD brings, if any."""
    file = line.partition(",")[0].strip('"')
    first, slash, _ = file.partition("/")
    if not file.endswith((".py", ".so", ".pyd")) or first in ("..", "__pycache__") or first.endswith(".dist-info"):
        return None
    return first if slash else first.partition(".")[0]


def _text(folder: Folder, entry: str, file: str) -> str | None:
    """A further file of the metadata folder, None where there is none that can be read."""
    try:
        return read(f"{folder.join(entry)}{os.sep}{file}", 1 << 26).decode("utf-8", "replace")
    except OSError:
        return None
