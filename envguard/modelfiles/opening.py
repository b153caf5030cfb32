"""Opens a model's file: a regular one, because a pipe would keep its reader waiting for ever."""

from __future__ import annotations

import os
import stat

from envguard.errors import BadModel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


def opened(path: str) -> tuple[BinaryIO, int]:
    """The file, open for reading without a buffer, and its size. Raises BadModel."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadModel(f"{path}: cannot be read: it is no file")
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
        return file, os.fstat(file.fileno()).st_size
    except BadModel:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BadModel(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
