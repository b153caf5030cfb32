"""The child process of a deep look: however it ends, that is told, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ENVIRON, SECONDS
from hypothesis import given
from hypothesis import strategies as st

from envguard.deep.process import Ended, how_it_ended, last_line, run
from envguard.errors import BadInterpreter

on_posix = pytest.mark.skipif(os.name == "nt", reason="only on POSIX: its signals")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux: needs its /proc")


def python(code: str, seconds: float = SECONDS, given: bytes = b"") -> Ended:
    return run([sys.executable, "-c", code], given, os.environ, seconds)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    until = time.monotonic() + 20
    while runs(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not runs(pid)


def written(file: Path) -> int:
    """The number that another process writes to a file."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if file.exists() and file.read_text().endswith("\n"):
            return int(file.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{file} was not written")


def test_what_ends_well_ended_in_no_way_to_be_told() -> None:
    assert python("pass") == Ended("", "")
    assert python("import sys; print('a\\nb\\n\\n', file=sys.stderr)") == Ended("", "b")


def test_a_child_is_given_its_input() -> None:
    assert python("import sys; sys.exit(sys.stdin.readline() != 'x\\n')", given=b"x\n").how == ""


def test_a_status_and_the_last_line_are_told() -> None:
    assert python("import no_such_module") == Ended(
        "ended with status 1", "ModuleNotFoundError: No module named 'no_such_module'"
    )


@on_posix
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_a_crash_is_told_by_its_signal(name: str) -> None:
    code = f"import os, signal, sys; print('here', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.{name})"
    assert python(code) == Ended(f"was killed by {name}", "here")


@on_posix
def test_an_unknown_signal_has_its_number() -> None:
    assert how_it_ended(-99) == "was killed by signal 99"


def test_what_hangs_is_ended_and_told() -> None:
    began = time.monotonic()
    assert python("import time; time.sleep(600)", 0.5).how == "did not end within 0.5 s"
    assert time.monotonic() - began < 30


@on_linux
def test_what_a_child_started_is_ended_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(file)!r}, 'w').write(f'{{other.pid}}\\n')\n"
    )
    assert python(code).how == ""
    assert gone(int(file.read_text()))


def test_of_much_output_only_the_end_is_kept() -> None:
    code = (
        "import os\nfor _ in range(300): os.write(1, b'x' * 100000); os.write(2, b'y' * 100000)\nos.write(2, b'\\nz')"
    )
    assert python(code) == Ended("", "z")


def test_what_is_no_program_is_refused() -> None:
    with pytest.raises(BadInterpreter, match="does not start"):
        run([os.path.join(os.sep, "no", "such", "python")], b"", os.environ, 1)


@given(st.binary(max_size=2000))
def test_the_last_line_is_short_and_shows_itself(text: bytes) -> None:
    line = last_line(text)
    assert line.isprintable()
    assert len(line) <= 10 * 300


def test_a_line_that_moves_the_cursor_is_escaped() -> None:
    assert last_line("fine\n\x1b[2J\u202egood\n".encode()) == "\\x1b[2J\\u202egood"


PARENT = """
import os, sys
from envguard.deep.process import run
code = "import os, time; open(%r, 'w').write(str(os.getpid()) + chr(10)); time.sleep(600)" % sys.argv[1]
run([sys.executable, "-c", code], b"", os.environ, 600)
"""


@on_linux
def test_ctrl_c_ends_the_child(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(file)], env=ENVIRON, stderr=subprocess.PIPE) as parent:
        pid = written(file)
        assert runs(pid)
        parent.send_signal(signal.SIGINT)
        parent.wait(SECONDS)
        assert gone(pid)
