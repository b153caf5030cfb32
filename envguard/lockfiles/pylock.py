"""pylock.toml (PEP 751), read and validated by `packaging.pylock`."""

from __future__ import annotations

from envguard.errors import BadInput
from envguard.lockfiles.conditions import Conditions
from envguard.lockfiles.listed import Listed, Package
from envguard.lockfiles.reading import lighter, toml
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.lockfiles.target import Target


def read_pylock(text: str, path: str, target: Target) -> Listed:
    """What a pylock.toml installs on a target. Raises BadInput: one line with the key that is wrong."""
    data = toml(lighter(text, 1), path)  # a package without any file would be refused
    try:
        from packaging.pylock import Pylock, PylockValidationError
    except ImportError:
        from packaging import __version__

        raise BadInput(
            f"{path}: reading a pylock.toml takes packaging 26 or newer, found {__version__}: python -m pip install"
            " 'packaging>=26'"
        ) from None
    try:
        lock = Pylock.from_dict(data)
    except (PylockValidationError, RecursionError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())[:500]}") from None
    requires_python = None if lock.requires_python is None else str(lock.requires_python)
    return Listed(path, "pylock", _packages(lock, path, target, requires_python), True, requires_python, {})


def _packages(lock: Any, path: str, target: Target, requires_python: str | None) -> dict[str, Package]:
    conditions = Conditions(target, requires_python)
    _refuse_unknown("extra", target.extras, lock.extras or (), path)
    _refuse_unknown("group", target.groups, lock.dependency_groups or (), path)
    parts = frozenset(target.extras), frozenset((*(lock.default_groups or ()), *target.groups))
    found: dict[str, Package] = {}
    for number, package in enumerate(lock.packages):
        place = f"{path}: packages[{number}]"
        holds = True if package.marker is None else conditions.hold_in_lock(package.marker, f"{place}.marker", *parts)
        if holds is False:
            continue
        name = normalize(str(package.name))
        other = found.get(name)
        if holds is None:
            new = Package(None, None, f"whether it is installed depends on the target: {package.marker}", place)
        elif package.version is None:
            new = Package(None, None, f"{place} names a place, not a version", place)
        else:
            new = Package(str(package.version), None, None, place)
        if other is not None and other.version is not None and new.version is not None:
            raise BadInput(f"{place}: {name} gets installed twice, see {other.place.rpartition(': ')[2]}")
        if other is not None and (new.version is None or other.version is None):
            new = Package(None, None, (other if other.version is None else new).unknown, place)
        found[name] = new
    return found


def _refuse_unknown(word: str, given: tuple[str, ...], known: Any, path: str) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"--target {word}={name}: {path} has no such {word} (it has: {', '.join(known) or 'none'})")
