"""A child process that answers on a pipe, within a time limit and without anybody waiting for its end.

Own code for POSIX: the import of subprocess costs as much as a bare interpreter start.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Child: TypeAlias = "Posix | Windows"

END = b"\nend\n"  # what a whole answer ends with
_MOST = 1 << 20  # bytes of an answer
_left_behind: list[int] = []  # processes that had not ended when we stopped waiting


def start(command: list[str], environ: Mapping[str, str], until: float) -> Child:
    """Start a program that prints an answer; `until` is a moment of time.monotonic. Raises OSError."""
    return Windows(command, environ, until) if sys.platform == "win32" else Posix(command, environ, until)


class Posix:
    """A child process by posix_spawn."""

    def __init__(self, command: list[str], environ: Mapping[str, str], until: float) -> None:
        _reap()
        self.until = until
        self.output, writing = os.pipe()
        try:
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ]
            self.pid = os.posix_spawn(command[0], command, environ, file_actions=actions)
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(writing)

    def read(self) -> tuple[str, str]:
        """What it printed, and how it ended: "answered", "hung", a signal's name, or words."""
        import select
        import time

        poll = select.poll()  # select.select takes no descriptor above 1023
        poll.register(self.output, select.POLLIN)
        output = b""
        try:
            while not output.endswith(END) and len(output) < _MOST:
                if not poll.poll(max(self.until - time.monotonic(), 0) * 1000):
                    return output.decode("utf-8", "replace"), "hung"
                piece = os.read(self.output, 1 << 16)
                if not piece:
                    return output.decode("utf-8", "replace"), self._ended()
                output += piece
            return output.decode("utf-8", "replace"), "answered"
        finally:
            os.close(self.output)
            self._leave()

    def _ended(self) -> str:
        import time

        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return "ended"  # this program lets the system collect its children
            if pid:
                self.pid = 0
                code = os.waitstatus_to_exitcode(status)
                if code < 0:
                    import signal

                    return signal.Signals(-code).name if -code in signal.valid_signals() else f"SIG {-code}"
                return f"ended with status {code}"
            if time.monotonic() > self.until:
                return "hung"
            time.sleep(0.001)

    def _leave(self) -> None:
        # no waiting: closing the driver takes its time, and in state D even SIGKILL does
        if self.pid:
            try:
                os.kill(self.pid, 9)
            except ProcessLookupError:
                return  # somebody else collected it
            _left_behind.append(self.pid)
            _reap()


def _reap() -> None:
    for pid in list(_left_behind):
        try:
            done = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:
            done = pid
        if done:
            _left_behind.remove(pid)


class Windows:
    """A child process by subprocess."""

    def __init__(self, command: list[str], environ: Mapping[str, str], until: float) -> None:
        import subprocess

        self.until = until
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def read(self) -> tuple[str, str]:
        """What it printed, and how it ended."""
        import subprocess
        import time

        try:
            output, _ = self.process.communicate(timeout=max(self.until - time.monotonic(), 0))
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self._close()
            return (error.stdout or b"").decode("utf-8", "replace"), "hung"
        answer = output.decode("utf-8", "replace").replace("\r\n", "\n")
        code = self.process.returncode
        return answer, "answered" if code == 0 else f"ended with status {code:#x}"

    def _close(self) -> None:
        import contextlib
        import subprocess

        if self.process.stdout is not None:
            self.process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.1)
