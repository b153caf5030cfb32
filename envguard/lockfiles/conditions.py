"""Markers (`; sys_platform == 'linux'`) held against a target that may not be told whole: yes, no, or not known.

What is not known of the target is tried in every way it can be, and an answer counts where all of them agree.
"""

from __future__ import annotations

from envguard.errors import BadInput
from envguard.lockfiles.target import written
from envguard.markers import SYSTEMS, holds, variables
from envguard.versions import parse_clauses, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from envguard.lockfiles.target import Target

_NEVER = ("platform_release", "platform_version")  # of a target is never told
_MACHINES = ("x86_64", "aarch64")
_PYTHONS = tuple(f"3.{minor}" for minor in range(9, 16))
_OF_THE_SYSTEM = ("sys_platform", "platform_system", "os_name", "platform_machine")
_OF_PYTHON = ("python_version", "python_full_version", "implementation_version")
_UNTOLD = dict.fromkeys(_NEVER, "")  # or packaging would ask this machine
_LONGEST = 10_000


class Conditions:
    """The markers of one file for one target; each is evaluated once."""

    def __init__(self, target: Target, requires_python: str | None = None) -> None:
        self._target = target
        self._requires_python = requires_python
        self._known: dict[tuple[str, tuple[str, ...]], bool | None] = {}
        self._undecided: set[str] = set()  # markers that are some, whatever they come to

    def hold(self, marker: str, place: str, extras: tuple[str, ...] = ()) -> bool | None:
        """Whether a marker holds; None where what was told of the target does not decide it.

        `extras` are those that `extra == ...` may mean, one at a time. Raises BadInput for one that is none.
        """
        if len(marker) > _LONGEST:
            raise BadInput(f"{place}: a marker of more than {_LONGEST} characters")
        answer = self.try_to_hold(marker, extras)
        if answer is None and marker not in self._undecided:
            _refuse_no_marker(marker, place)
            self._undecided.add(marker)
        return answer

    def try_to_hold(self, marker: str, extras: tuple[str, ...] = ()) -> bool | None:
        """Whether a marker holds; None too for what may be no marker at all."""
        asked = marker, extras
        if asked not in self._known:
            answers = {
                holds(marker, {**environment, "extra": extra})
                for environment in self._environments(marker)
                for extra in extras or ("",)
            }
            self._known[asked] = answers.pop() if len(answers) == 1 else None
        return self._known[asked]

    def hold_in_lock(self, marker: Any, place: str, extras: frozenset[str], groups: frozenset[str]) -> bool | None:
        """Whether a marker of a pylock.toml holds, which may ask for the extras and groups that get installed."""
        text = str(marker)
        if any(name in text for name in _NEVER):
            return None
        parts = {"extras": extras, "dependency_groups": groups}
        answers = set()
        for environment in self._environments(text):
            try:
                answers.add(bool(marker.evaluate({**environment, **_UNTOLD, **parts}, context="lock_file")))
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(f"{place}: a marker that cannot be evaluated: {str(error)[:200]}") from None
        return answers.pop() if len(answers) == 1 else None

    def _environments(self, marker: str) -> Iterator[dict[str, str]]:
        """Every environment that the target can be, as far as the marker looks."""
        target = self._target
        systems = (target.system,) if target.system else tuple(SYSTEMS)
        machines = (target.machine,) if target.machine else _MACHINES
        pythons = (target.python,) if target.python else self._pythons()
        if not any(name in marker for name in _OF_THE_SYSTEM):
            systems, machines = systems[:1], machines[:1]
        if not any(name in marker for name in _OF_PYTHON):
            pythons = pythons[:1]
        for system in systems:
            for machine in machines:
                for python in pythons:
                    yield environment_of(system, machine, python)

    def _pythons(self) -> tuple[str, ...]:
        if self._requires_python is None:
            return _PYTHONS
        try:
            clauses = parse_clauses(self._requires_python)
        except ValueError:
            return _PYTHONS
        return tuple([each for each in _PYTHONS if satisfies(f"{each}.99", clauses, "specifier")]) or _PYTHONS


def _refuse_no_marker(marker: str, place: str) -> None:
    """Raises BadInput for what is no marker at all; one that only cannot be decided passes."""
    from packaging.markers import InvalidMarker, Marker

    try:
        Marker(marker)
    except (InvalidMarker, RecursionError):
        raise BadInput(f"{place}: not a marker: {marker[:200]!r}") from None


def environment_of(system: str, machine: str, python: str) -> dict[str, str]:
    """What markers may ask of a CPython on a machine; `3.12` counts as `3.12.0`."""
    full = python if python.count(".") > 1 else f"{python}.0"
    return variables(full, "CPython", system, written(system, machine))
