"""pylock.toml (PEP 751), read and validated by `packaging.pylock` wherever it is not as plain as most are."""

from __future__ import annotations

from envguard.errors import BadInput
from envguard.lockfiles.conditions import Conditions
from envguard.lockfiles.listed import Listed, Package
from envguard.lockfiles.plain import plain_packages
from envguard.lockfiles.reading import lighter, toml
from envguard.lockfiles.target import refuse_python
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.lockfiles.target import Target


def read_pylock(text: str, path: str, target: Target) -> Listed:
    """What a pylock.toml installs on a target. Raises BadInput: one line with the key that is wrong."""
    data = toml(lighter(text, 1), path)  # a package without any file would be refused
    return _read_plain(data, path, target) or _read(data, path, target)


def _read_plain(data: dict[str, Any], path: str, target: Target) -> Listed | None:
    """The same without packaging; None for a lock, or a question of its markers, that is not plain."""
    plain = plain_packages(data)
    if plain is None or target.extras or target.groups:
        return None
    requires_python = data.get("requires-python")
    conditions = Conditions(target, requires_python)
    found: dict[str, Package] = {}
    for number, package in enumerate(plain):
        holds = True if package.marker is None else conditions.try_to_hold(package.marker)
        if holds is None:
            return None
        if holds:
            if package.requires_python is not None:
                refuse_python(target, package.requires_python, f"{path}: packages[{number}]", package.name)
            _add(found, package.name, package.version, None, f"{path}: packages[{number}]")
    return Listed(path, "pylock", found, True, requires_python, {})


def _read(data: dict[str, Any], path: str, target: Target) -> Listed:
    """The same by packaging."""
    try:
        from packaging.pylock import Pylock, PylockValidationError
    except ImportError:
        from packaging import __version__

        raise BadInput(
            f"{path}: reading a pylock.toml takes packaging 26 or newer, found {__version__}: python -m pip install"
            " 'packaging>=26'"
        ) from None
    import logging  # packaging has done so

    def tell(record: logging.LogRecord) -> bool:
        record.msg, record.args = f"envguard: warning: {path}: {record.getMessage()}: what it adds is not read", ()
        return True

    logger = logging.getLogger("packaging.pylock")
    logger.addFilter(tell)
    try:
        lock = Pylock.from_dict(data)
    except (PylockValidationError, RecursionError) as error:
        raise BadInput(f"{path}: {_said(error)}") from None
    finally:
        logger.removeFilter(tell)
    requires_python = None if lock.requires_python is None else str(lock.requires_python)
    return Listed(path, "pylock", _packages(lock, path, target, requires_python), True, requires_python, {})


def _said(error: Exception) -> str:
    """What packaging says is wrong and where, in one line and without the text that it points at."""
    what = str(getattr(error, "message", error)).partition("\n")[0].partition("; use sys.")[0]
    where = getattr(error, "context", None)
    return f"{what[:400]}{f' in {where!r}' if where else ''}"


def _packages(lock: Any, path: str, target: Target, requires_python: str | None) -> dict[str, Package]:
    conditions = Conditions(target, requires_python)
    _refuse_unknown("extra", target.extras, lock.extras or (), path)
    _refuse_unknown("group", target.groups, lock.dependency_groups or (), path)
    _refuse_environment(lock.environments or (), conditions, path)
    parts = frozenset(target.extras), frozenset((*(lock.default_groups or ()), *target.groups))
    found: dict[str, Package] = {}
    for number, package in enumerate(lock.packages):
        place = f"{path}: packages[{number}]"
        holds = True if package.marker is None else conditions.hold_in_lock(package.marker, f"{place}.marker", *parts)
        if holds is False:
            continue
        if holds and package.requires_python is not None:
            refuse_python(target, str(package.requires_python), place, str(package.name))
        unsure = f"whether it is installed depends on the target: {package.marker}" if holds is None else None
        version = None if package.version is None else str(package.version)
        _add(found, normalize(str(package.name)), version, unsure, place)
    return found


def _refuse_environment(environments: Any, conditions: Conditions, path: str) -> None:
    """Raises BadInput where the lock was made for other machines than the target."""
    answers = [
        conditions.hold_in_lock(each, f"{path}: environments[{number}]", frozenset(), frozenset())
        for number, each in enumerate(environments)
    ]
    if answers and not any(answer is not False for answer in answers):
        those = " or ".join([str(each) for each in environments])[:200]
        raise BadInput(f"{path}: environments: it is for {those}, which the target is not")


def _add(found: dict[str, Package], name: str, version: str | None, unknown: str | None, place: str) -> None:
    """Add what a package says to what the others of its name say. Raises BadInput where two are certain."""
    if unknown is not None:
        version = None
    elif version is None:
        unknown = f"{place} names a place, not a version"
    other = found.get(name)
    if other is not None:
        if other.version is not None and version is not None:
            raise BadInput(f"{place}: {name} gets installed twice, see {other.place.rpartition(': ')[2]}")
        unknown = other.unknown if other.version is None else unknown
        version = None
    found[name] = Package(version, None, unknown, place)


def _refuse_unknown(word: str, given: tuple[str, ...], known: Any, path: str) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"--target {word}={name}: {path} has no such {word} (it has: {', '.join(known) or 'none'})")
