"""Recorded environments on disk and standard input: one JSON document, or a line each in a stream."""

from __future__ import annotations

import os
import sys

from envguard.errors import BadInput, BadSnapshot
from envguard.frozen import Frozen
from envguard.snapshots import is_alone, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from envguard.model import Environment

_LONGEST = 64 * 1024 * 1024  # bytes of one snapshot; a full one of a real machine has a hundredth of that
_BUFFER = 256 * 1024  # bytes; with Python's own 8 KiB the reading of short snapshots is mostly calls of the system


class Subject(Frozen):
    """A recorded environment, or the reason why it cannot be read; `line` counts from 1 in a stream."""

    name: str
    line: int | None
    environment: Environment | None
    error: str | None = None


def subjects(paths: Sequence[str]) -> Iterator[Subject]:
    """Every environment of some files, in order; `-` is standard input.

    A file whose name ends in `.jsonl`, and standard input where a line is a snapshot by itself and is not alone, are
    streams: a bad line is told in its place and the rest is read. Raises BadInput for a file that cannot be opened,
    before any other is read.
    """
    for path in paths:
        if path != "-":
            _check_readable(path)
        elif sys.stdin is None:  # `<&-`
            raise BadInput("standard input: cannot be read: it is closed")
    return _all(paths)


def _check_readable(path: str) -> None:
    try:
        os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if os.path.isdir(path):
        raise BadInput(f"{path}: cannot be read: it is a folder")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path}: cannot be read: permission denied")


def _all(paths: Sequence[str]) -> Iterator[Subject]:
    for path in paths:
        try:
            if path == "-":
                yield from _either(sys.stdin.buffer, "standard input")
                continue
            with open(path, "rb", _BUFFER) as file:
                if path.endswith(".jsonl"):
                    yield from _stream(_numbered(file), path)
                else:
                    yield _one(file.read(_LONGEST + 1), path, None)
        except OSError as error:
            name = "standard input" if path == "-" else path
            raise BadInput(f"{name}: cannot be read: {error.strerror}") from None


def _either(file: BinaryIO, name: str) -> Iterator[Subject]:
    """One document of any number of lines, or a stream: in that, lines are snapshots by themselves."""
    lines = _numbered(file)
    held: list[tuple[int, bytes]] = []
    size = filled = 0
    alone = False
    for number, line in lines:
        held.append((number, line))
        size += len(line)
        filled += bool(line.strip())
        alone = alone or is_alone(line)
        if alone and filled > 1:
            yield from _stream(held, name)
            yield from _stream(lines, name)
            return
        if size > _LONGEST:
            break
    yield _one(b"".join([line for _, line in held]), name, None)


def _stream(lines: Iterable[tuple[int, bytes]], name: str) -> Iterator[Subject]:
    for number, line in lines:
        if line.strip():
            yield _one(line, name, number)


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each line with its number from 1; of one that is too long the beginning."""
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        yield number, line
        while len(line) > _LONGEST and not line.endswith(b"\n"):
            line = file.readline(_LONGEST + 1)


def _one(text: bytes, name: str, line: int | None) -> Subject:
    if len(text) > _LONGEST:
        return Subject(name, line, None, f"longer than {_LONGEST // 1024**2} MiB, which no snapshot is")
    try:
        return Subject(name, line, parse(text))
    except BadSnapshot as error:
        return Subject(name, line, None, str(error))
