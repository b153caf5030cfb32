"""The machine -> facts: one file for each kind of fact, and here what every probe brings back."""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Observed(Frozen):
    """A section of a snapshot, and for each fact of it that could not be read the reason.

    `unreadable` maps a JSON Pointer from the snapshot's root (`/drivers/nvidia`) to one line of text.
    """

    value: Any
    unreadable: Mapping[str, str] = {}
