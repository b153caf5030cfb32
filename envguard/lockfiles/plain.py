"""A pylock.toml of the plain form that uv and pip write -> its packages, without the import of `packaging.pylock`.

Own code because that import takes longer than a whole check. It is no second reader: whatever is not plain, wrong or
only rare, is left to packaging, and a property test says that packaging accepts what passes here and reads it alike.
"""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.markers import variables
from envguard.versions import key, normalize, parse_clauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OF_A_LOCK = frozenset(("lock-version", "created-by", "requires-python", "environments", "packages"))
_OF_A_PACKAGE = frozenset(("name", "version", "marker", "index", "directory", "sdist", "wheels", "requires-python"))
_OF_A_DIRECTORY = {"path": str, "editable": bool, "subdirectory": str}
_TEXTS = ("name", "url", "path")
_IN_A_MARKER = frozenset(("and", "or", "in", "not", *variables("3.12.1", "CPython", "Linux", "x86_64")))
_IN_A_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_IN_A_FILE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+")
_IN_A_RANGE = frozenset("0123456789.<>=!, ")  # without ~= and wildcards, which have rules of their own


class PlainPackage(Frozen):
    """What one package of a lock says; a marker is text that nobody has read yet."""

    name: str
    version: str | None
    marker: str | None
    requires_python: str | None


def plain_packages(data: dict[str, Any]) -> list[PlainPackage] | None:
    """The packages of a lock in which every key has its plain form; None for any other lock."""
    if not _OF_A_LOCK.issuperset(data) or data.get("lock-version") != "1.0" or type(data.get("created-by")) is not str:
        return None
    packages = data.get("packages")
    if type(packages) is not list or "environments" in data or not _is_range(data.get("requires-python")):
        return None
    found = []
    for package in packages:
        if type(package) is not dict or not _is_plain(package):
            return None
        found.append(
            PlainPackage(package["name"], package.get("version"), package.get("marker"), package.get("requires-python"))
        )
    return found


def _is_range(text: Any) -> bool:
    if text is None:
        return True
    if type(text) is not str or not _IN_A_RANGE.issuperset(text):
        return False
    try:
        return "===" not in text and bool(parse_clauses(text))
    except ValueError:
        return False


def _is_plain(package: dict[str, Any]) -> bool:
    if not _OF_A_PACKAGE.issuperset(package):
        return False
    get = package.get
    name, version, marker, sdist, wheels = get("name"), get("version"), get("marker"), get("sdist"), get("wheels", [])
    if type(name) is not str or not _IN_A_NAME.issuperset(name) or not all(name.split("-")):
        return False
    if version is not None and (type(version) is not str or key(version) is None):
        return False
    if marker is not None and not _is_marker(marker):
        return False
    if type(get("index", "")) is not str or not _is_range(get("requires-python")) or type(wheels) is not list:
        return False
    if "directory" in package:
        return sdist is None and not wheels and _is_directory(package["directory"])
    if sdist is None and not wheels:
        return False
    if sdist is not None and not _is_sdist(_file(sdist), name, version):
        return False
    return all(_is_wheel(_file(wheel), name, version) for wheel in wheels)


def _is_marker(text: Any) -> bool:
    """Whether `envguard.markers` reads a text as packaging does: it has one kind of quote, and of the variables those
    alone that a target tells, in their usual spelling.
    """
    if type(text) is not str or not text.isascii() or not text.isprintable():
        return False
    if "\\" in text or ("'" in text and '"' in text):
        return False
    outside = " ".join(text.split('"' if '"' in text else "'")[::2])
    words = "".join([sign if sign.isalnum() or sign in "_." else " " for sign in outside]).split()
    return _IN_A_MARKER.issuperset(words)


def _is_directory(table: Any) -> bool:
    if type(table) is not dict or "path" not in table:
        return False
    return all(type(value) is _OF_A_DIRECTORY.get(name) for name, value in table.items())


def _file(table: Any) -> str:
    """The name of a plain file of a package, "" for one that is none."""
    if type(table) is not dict:
        return ""
    for name, value in table.items():
        if name in _TEXTS:
            if type(value) is not str:
                return ""
        elif name == "hashes":
            if type(value) is not dict or not value or not all(type(each) is str for each in value.values()):
                return ""
        elif not (name == "size" and type(value) is int) and not (name == "upload-time" and _is_time(value)):
            return ""
    own, path, url = table.get("name"), table.get("path"), table.get("url")
    if "hashes" not in table or not (path or url) or not (own or path or _is_url(url or "")):
        return ""
    file: str = own or (path or url or "").rpartition("/")[2].replace("%2B", "+")
    return file if _IN_A_FILE.issuperset(file) else ""


def _is_url(text: str) -> bool:
    """Whether the last part of a URL is the name of a file."""
    return text.startswith("https://") and "/" in text[8:] and not any(sign in text for sign in "?#;[] \t\r\n")


def _is_time(value: Any) -> bool:
    from datetime import datetime

    return type(value) is datetime


def _is_sdist(file: str, name: str, version: str | None) -> bool:
    own, _, said = file.removesuffix(".tar.gz").rpartition("-")
    return file.endswith(".tar.gz") and _are(own, said, name, version)


def _is_wheel(file: str, name: str, version: str | None) -> bool:
    parts = file.removesuffix(".whl").split("-")
    if len(parts) != 5 or not file.endswith(".whl") or "__" in parts[0]:
        return False
    tags = [tag for part in parts[2:] for tag in part.split(".")]
    return all(tag.isidentifier() for tag in tags) and _are(parts[0], parts[1], name, version)


def _are(own: str, said: str, name: str, version: str | None) -> bool:
    """Whether name and version of a file are those of its package."""
    number = key(said)
    return normalize(own) == name and number is not None and (version is None or key(version) == number)
