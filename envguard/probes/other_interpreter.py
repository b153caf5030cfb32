"""Asks another interpreter what it is: found, started once with a script of the standard library, and read.

Apart from `interpreter.py`, so that a check of the running process does not load it.
"""

from __future__ import annotations

import os
from errno import ENOEXEC

from envguard.errors import BadInterpreter
from envguard.probes.interpreter import Interpreter, implementation_text, machine_text, version_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import Any

OLDEST = (3, 6)

_BEGIN = b"<envguard-interpreter<"
_END = b">envguard-interpreter>"
_MOST = 1 << 20  # bytes of output after which it is not an answer any more
_PLACES = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")


def ask(executable: str, seconds: float) -> Interpreter:
    """The interpreter that `executable` means, as it describes itself. Raises BadInterpreter."""
    program = find(executable)
    status, output = _start(program, seconds)
    if status != 0:
        raise BadInterpreter(f"{_plain(program)} exits with status {status}{_last_line(output)}")
    return parse_answer(output, program)


def find(executable: str) -> str:
    """The program that `executable` means, as an absolute path. Raises BadInterpreter."""
    given = os.path.expanduser(executable)
    if not given or "\0" in given:
        raise BadInterpreter(f"{executable!r} is not the name of an interpreter")
    if os.path.basename(given) == given and given not in (os.curdir, os.pardir):
        import shutil

        on_path = shutil.which(given)
        if on_path:
            return os.path.abspath(on_path)
    if os.path.isdir(given):
        for place in _PLACES:
            program = os.path.join(given, *place.split("/"))
            if os.path.isfile(program):
                return os.path.abspath(program)
        raise BadInterpreter(f"{_plain(given)} is a folder without a Python: none of {', '.join(_PLACES)} is in it")
    if not os.path.exists(given):
        where = "there is no such file" if os.path.basename(given) != given else "no such file, here or on PATH"
        raise BadInterpreter(f"{_plain(given)}: {where}")
    if not os.access(given, os.X_OK):
        raise BadInterpreter(f"{_plain(given)} is not executable")
    return os.path.abspath(given)


def parse_answer(output: bytes, program: str) -> Interpreter:
    """The Interpreter that the output of our script describes, whatever was printed around it."""
    import json

    begin = output.rfind(_BEGIN)
    end = output.find(_END, begin)
    if begin < 0 or end < 0:
        raise BadInterpreter(f"{_plain(program)} does not answer like a Python{_last_line(output)}")
    try:
        answer: dict[str, Any] = json.loads(output[begin + len(_BEGIN) : end])
        info = answer["version_info"]
        if tuple(info[:2]) < OLDEST:
            raise BadInterpreter(
                f"{_plain(program)} is Python {info[0]}.{info[1]}.{info[2]}; envguard reads Python 3.6 and newer"
            )
        return Interpreter(
            executable=str(answer["executable"] or program),
            version=version_text(info),
            implementation=implementation_text(answer["implementation"]),
            prefix=answer["prefix"],
            base_prefix=answer["base_prefix"],
            stdlib=answer["stdlib"],
            path=tuple(answer["path"]),
            purelib=answer["purelib"],
            include=answer["include"],
            free_threaded=answer["free_threaded"],
            machine=machine_text(answer["machine"], answer["version"], answer["wide"]),
            suffixes=tuple(answer["suffixes"]),
        )
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, BadInterpreter):
            raise
        raise BadInterpreter(f"{_plain(program)} does not answer like a Python: its answer cannot be read") from None


# Runs in the other interpreter, which may be Python 2: old syntax, the standard library alone.
# `-c` puts the working directory first in sys.path; it goes before the first import, so that a json.py lying there is
# neither run nor taken for a part of the environment.
_SCRIPT = """
import sys
if sys.path and sys.path[0] == "":
    del sys.path[0]
import json, os
answer = {"version_info": list(sys.version_info)}
if sys.version_info >= (3, 6):
    import sysconfig
    from importlib.machinery import EXTENSION_SUFFIXES
    answer.update(
        version=sys.version, implementation=sys.implementation.name, executable=sys.executable,
        prefix=sys.prefix, base_prefix=getattr(sys, "real_prefix", sys.base_prefix),
        path=[os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)],
        stdlib=sysconfig.get_path("stdlib"), purelib=sysconfig.get_path("purelib"),
        include=sysconfig.get_path("include", "nt" if os.name == "nt" else "posix_prefix"),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        machine=os.uname().machine if hasattr(os, "uname") else "", wide=sys.maxsize > 2 ** 32,
        suffixes=EXTENSION_SUFFIXES)
os.write(1, ("%s%s%s" % (sys.argv[1], json.dumps(answer), sys.argv[2])).encode("ascii"))
"""


def _start(program: str, seconds: float) -> tuple[int, bytes]:
    """Exit status and output of the script in `program`; the process and its children are gone afterwards."""
    import subprocess
    import threading
    import time

    # No -I, -E or -s: user site-packages and PYTHONPATH are part of what a program started with this interpreter
    # from this shell would see, so they are part of the environment. -B: looking must not write .pyc files.
    # The script comes by -c: no file to write, and none of our folders on that interpreter's path.
    command = [program, "-B", "-c", _SCRIPT, _BEGIN.decode(), _END.decode()]
    # the launcher of macOS framework builds sets this for its own virtual environment; in another one it misleads
    environ = {name: value for name, value in os.environ.items() if name != "__PYVENV_LAUNCHER__"}
    until = time.monotonic() + seconds
    descriptor, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    except OSError as error:
        os.close(descriptor)
        reason = "cannot be run on this machine" if error.errno == ENOEXEC else (error.strerror or str(error))
        raise BadInterpreter(f"{_plain(program)} does not start: {reason}") from None
    finally:
        os.close(write_end)
    output = bytearray()
    reader = threading.Thread(target=_read, args=(descriptor, output), daemon=True)
    reader.start()
    try:
        reader.join(seconds)
        if reader.is_alive():
            raise BadInterpreter(f"{_plain(program)} did not answer within {seconds:g} s")
        if len(output) >= _MOST:
            raise BadInterpreter(f"{_plain(program)} does not answer like a Python: its output does not end")
        return process.wait(max(until - time.monotonic(), 0.1)), bytes(output)
    except subprocess.TimeoutExpired:
        raise BadInterpreter(f"{_plain(program)} did not end within {seconds:g} s") from None
    finally:
        _end(process)
        reader.join(0.2)
        if not reader.is_alive():
            os.close(descriptor)


def _read(descriptor: int, output: bytearray) -> None:
    # stops at our end mark: a background process that site started may hold the pipe open for ever
    while len(output) < _MOST and _END not in output:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return
        output += piece


def _end(process: Popen[bytes]) -> None:
    if process.poll() is None:
        if os.name == "nt":
            process.kill()
        else:
            import signal

            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return f": {_plain(lines[-1])[:200]}" if lines else ""


def _plain(text: str) -> str:
    # foreign text in an error of one line: nothing that moves the cursor
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()
