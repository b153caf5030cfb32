"""Files that are written whole or not at all, in a folder or alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from envguard.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def written_folder(path: str, last: str, stale: tuple[str, ...] = ()) -> Iterator[str]:
    """A temporary folder whose files go to `path` once everything is written; `last`, which makes them valid, last.

    Files of other names that lie there already stay, but for those in `stale`. Whatever interrupts it, `path` holds no
    half file.
    Raises BadInput where `path` is a file or cannot be written to.
    """
    try:
        os.makedirs(path, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=".envguard-", dir=path)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot save to {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        yield temporary
        names = sorted(os.listdir(temporary), key=lambda name: name == last)
        for name in (last, *stale):  # while files are exchanged, nothing vouches for them
            if os.path.exists(os.path.join(path, name)):
                os.remove(os.path.join(path, name))
        for name in names:
            os.replace(os.path.join(temporary, name), os.path.join(path, name))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def written_file(path: str) -> Iterator[str]:
    """The name of a temporary file beside `path`, which takes its place once everything is written.

    Raises BadInput where its folder cannot be written to or `path` is a folder.
    """
    if os.path.isdir(path):
        raise BadInput(f"cannot write {path}: it is a folder; name a file in it")
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=".envguard-", suffix=os.path.splitext(path)[1], dir=os.path.dirname(os.path.abspath(path))
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    os.close(handle)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
