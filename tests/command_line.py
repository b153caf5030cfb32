"""Runs the command line, in this process or in one of its own, and says what came of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from envguard import cli

ENVIRON = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "ENVGUARD_TRACEBACK")}
ENVIRON["PYTHONPATH"] = os.pathsep.join(sys.path)
SECONDS = 60  # after which a process is taken to hang


class Done(NamedTuple):
    """What one command line did."""

    status: int
    out: str
    err: str

    def refused(self) -> str:
        """The one line with which bad usage or input is refused, nothing being written."""
        assert self.status == 2, self
        assert self.out == ""
        assert self.err.startswith("envguard: error: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert self.err[:-1].isprintable()
        return self.err[len("envguard: error: ") : -1]


def run(*words: str, given: bytes | None = None) -> Done:
    """One command line in this process; `given` is its standard input."""
    out, err = io.StringIO(), io.StringIO()
    stdin = sys.stdin if given is None else io.TextIOWrapper(io.BytesIO(given))
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "stdin", stdin):
        status = cli.run(list(words))
    return Done(status, out.getvalue(), err.getvalue())


def process(*words: str, variables: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """One command line as a process of its own, its three streams being pipes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-m", "envguard", *words], env={**ENVIRON, **(variables or {})}, **pipes)


def finish(started: subprocess.Popen[bytes], given: bytes | None = None) -> Done:
    """What a process did, once it has ended."""
    out, err = started.communicate(given, timeout=SECONDS)
    return Done(started.returncode, out.decode(), err.decode())


def saved(folder: Path, data: Any, name: str = "it.json") -> str:
    """The path of a new file that holds a text, or a value as JSON."""
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return str(path)


def stream(folder: Path, *lines: Any, name: str = "many.jsonl") -> str:
    """The path of a new file with a line for each text or value."""
    return saved(folder, lines_of(*lines), name)


def lines_of(*lines: Any) -> str:
    """A line for each text or value."""
    return "".join([(line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines])
