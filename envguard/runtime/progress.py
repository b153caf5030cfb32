"""Progress of long work, on standard error and on a terminal alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


def steps(items: Iterable[T], doing: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar that says how many are done; silent where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=doing, total=total, console=Console(stderr=True), transient=True)
