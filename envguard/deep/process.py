"""A child process under a time limit: whatever it does, we say how it ended, and nothing of it stays."""

from __future__ import annotations

import os
import sys

from envguard.errors import BadInterpreter
from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import Popen
    from typing import IO

_TAIL = 1 << 14  # bytes of standard error that are kept: its last line is told
_GRACE = 0.5  # seconds for what an ended process has left in the pipe
_WINDOWS = {0xC0000005: "an access violation", 0xC00000FD: "a stack overflow", 0xC0000409: "an abort (fail fast)"}


class Ended(Frozen):
    """How a child process ended, in words ("" where it ended well), and the last line of its standard error."""

    how: str
    said: str


def run(command: Sequence[str], given: bytes, environ: Mapping[str, str], seconds: float) -> Ended:
    """Run a program that is given some bytes on its standard input, which stays open until it has to end.

    The child and all that it started are gone when this returns or raises, also by Ctrl-C. Raises BadInterpreter where
    it does not start.
    """
    import subprocess
    import threading

    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise BadInterpreter(f"{command[0]} does not start: {error.strerror or error}") from None
    tail = bytearray()
    streams = process.stdin, process.stderr
    assert streams[0] is not None and streams[1] is not None  # noqa: S101, PT018 - both are pipes
    reader = threading.Thread(target=_read, args=(streams[1], tail), daemon=True)
    reader.start()
    try:
        _give(streams[0], given)
        how = how_it_ended(process.wait(seconds))
    except subprocess.TimeoutExpired:
        how = f"did not end within {seconds:g} s"
    finally:
        _end(process)
        reader.join(_GRACE)
        _close(streams[0])
        if not reader.is_alive():
            streams[1].close()
    return Ended(how, last_line(bytes(tail)))


def how_it_ended(code: int) -> str:
    """An exit status in words, with the signal's name; "" for 0."""
    if code == 0:
        return ""
    if code < 0:
        import signal

        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        return f"was killed by {name}"
    if code in _WINDOWS and sys.platform == "win32":
        return f"died of {_WINDOWS[code]} (status {code:#x})"
    return f"ended with status {code}"


def last_line(text: bytes) -> str:
    """The last line that says something, without what does not show itself, and of bounded length."""
    from envguard.output.layout import visible

    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return visible(lines[-1][:300]) if lines else ""


def _give(stream: IO[bytes], given: bytes) -> None:
    try:
        stream.write(given)
        stream.flush()
    except OSError:  # it has ended already, and how it did is told
        pass


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:  # what could not be given is flushed once more
        pass


def _read(stream: IO[bytes], tail: bytearray) -> None:
    while piece := os.read(stream.fileno(), 1 << 16):
        tail += piece
        del tail[:-_TAIL]


def _end(process: Popen[bytes]) -> None:
    """End the process and all that it started in its session."""
    if sys.platform == "win32":
        process.kill()
    else:
        import signal

        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody is left; macOS says it in the other way
            pass
    process.wait()
