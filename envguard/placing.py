"""Files that are written whole: beside their place first, then moved there, so that no half of one is ever seen."""

from __future__ import annotations

import os

from envguard.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO


class Placed:
    """The text file at a path, as a context manager that gives the stream to write to.

    The file takes its place when the block ends; where an exception ends it, what was there before stays. What is no
    file (a terminal, a pipe, /dev/null) is written to as it is, and a link stays one. Raises BadInput.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._place = ""
        self._beside: str | None = None
        self._stream: TextIO | None = None

    def __enter__(self) -> TextIO:
        try:
            self._place = os.path.realpath(self._path)
            if os.path.exists(self._place) and not os.path.isfile(self._place):
                self._stream = open(self._place, "w", encoding="utf-8")
            else:
                beside = os.path.join(os.path.dirname(self._place), f".envguard-{os.getpid()}.part")
                self._stream = open(beside, "x", encoding="utf-8")
                self._beside = beside  # what open() did not make is never removed
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise self._unwritable(error) from None
        return self._stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close()
            if self._beside is not None and error is None:
                os.replace(self._beside, self._place)
                self._beside = None
        except OSError as failed:
            if error is None:
                error = failed
        finally:
            if self._beside is not None:
                os.unlink(self._beside)
        # An error of the stream itself names no file.
        if isinstance(error, OSError) and (error.filename is None or error.filename == self._beside):
            raise self._unwritable(error) from None

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _unwritable(self, error: Exception) -> BadInput:
        return BadInput(f"{self._path}: cannot be written: {getattr(error, 'strerror', None) or error}")


def write_whole(text: str, path: str) -> None:
    """Write a text and a line end. Raises BadInput, in one line."""
    with Placed(path) as stream:
        stream.write(text + "\n")
