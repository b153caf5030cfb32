"""What a file lists, whatever its format."""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Package(Frozen):
    """One package of a file: its version, or the range that the file leaves (`specifier`), or why neither is known.

    `place` is the line or key where the file names it.
    """

    version: str | None
    specifier: str | None
    unknown: str | None
    place: str


class Listed(Frozen):
    """The packages of a file by normalized name.

    `complete`: nothing else gets installed. `requires_python` is what the file says of Python; `missing` are names that
    a complete file may still leave out, with the reason.
    """

    name: str
    form: str
    packages: Mapping[str, Package]
    complete: bool
    requires_python: str | None
    missing: Mapping[str, str]
