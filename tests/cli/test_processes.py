"""Processes of their own: exit statuses, pipes that break, Ctrl-C, streams that are closed or full."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from command_line import ENVIRON, SECONDS, Done, finish, process, run, saved, stream
from support import machine, snapshot

from envguard import cli

on_posix = pytest.mark.skipif(os.name == "nt", reason="only on POSIX: its signals, its shell or its devices")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux: needs its /dev/full")

NOTHING = snapshot(distributions={}, distributions_complete=True)


def shell(script: str, *words: str) -> Done:
    """A POSIX shell's script, in which $0 is Python."""
    whole = ["sh", "-c", script, sys.executable, *words]
    done = subprocess.run(whole, check=False, capture_output=True, env=ENVIRON, timeout=SECONDS)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def many(folder: Path) -> str:
    """A stream whose reports are longer than any pipe holds."""
    return stream(folder, *[snapshot(distributions={"torch": {"version": f"2.{n}"}}) for n in range(300)])


def test_a_process_exits_with_the_status(tmp_path: Path) -> None:
    path = saved(tmp_path, NOTHING)
    done = finish(process("check", "--backend", "torchao", "--snapshot", path, "--format", "json"))
    assert (done.status, done.err) == (1, "")
    assert json.loads(done.out)["verdict"] == "blocked"
    assert finish(process("check", "--snapshot", path)).status == 0
    assert finish(process("check", "--backend", "gguf", "--snapshot", saved(tmp_path, snapshot()))).status == 3
    assert "unknown backend" in finish(process("check", "--backend", "torcha")).refused()
    assert "unrecognized arguments" in finish(process("check", "--backen", "torchao")).refused()


def test_a_process_reads_a_document_or_a_stream_from_a_pipe() -> None:
    check = ("check", "--backend", "gguf", "--snapshot", "-", "--format", "jsonl")
    one = finish(process(*check), json.dumps(NOTHING, indent=2).encode())
    assert (one.status, len(one.out.splitlines())) == (1, 1)
    lines = [json.dumps(NOTHING), "nonsense", json.dumps(snapshot())]
    several = finish(process(*check), "\n".join(lines).encode())
    records = [json.loads(line) for line in several.out.splitlines()]
    assert [record.get("verdict") for record in records] == ["blocked", None, "undecided"]
    assert records[1]["line"] == 2
    assert several.status == 2
    assert several.err.startswith("envguard: error: standard input line 2: not JSON: ")


# Pipes that break


@on_posix
@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_a_broken_pipe_ends_silently_with_141(tmp_path: Path, form: str) -> None:
    with process("check", "--snapshot", many(tmp_path), "--format", form, stdin=subprocess.DEVNULL) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        head = subprocess.run(["head", "-c", "10"], stdin=started.stdout, capture_output=True, check=True)
        started.stdout.close()
        assert len(head.stdout) == 10
        assert started.stderr.read() == b""
        assert started.wait(SECONDS) == 141


@on_posix
@pytest.mark.parametrize("words", ["check", "snapshot", "rules", "explain gguf/version", "--version", "--help"])
def test_a_reader_that_is_gone_before_anything_is_written_is_a_broken_pipe(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        started = process(*words.split(), stdout=writing)
    finally:
        os.close(writing)
    _, err = started.communicate(timeout=SECONDS)
    assert (started.returncode, err) == (141, b"")


@on_posix
def test_bad_usage_is_told_by_the_status_where_nobody_reads_the_reason() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        started = process("check", "--backend", "nowhere", stderr=writing)
    finally:
        os.close(writing)
    out, _ = started.communicate(timeout=SECONDS)
    assert (started.returncode, out) == (2, b"")


# Ctrl-C


@on_posix
def test_ctrl_c_ends_with_130_and_keeps_what_was_judged() -> None:
    with process("check", "--backend", "gguf", "--snapshot", "-", "--format", "jsonl") as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdin.write((json.dumps(NOTHING) + "\n").encode() * 9)  # more than is buffered, less than a pipe holds
        started.stdin.flush()
        first = started.stdout.readline()
        started.send_signal(signal.SIGINT)
        rest = started.stdout.read()
        assert started.stderr.read() == b""
        assert started.wait(SECONDS) == 130
    whole = (first + rest).decode()
    assert all(json.loads(line)["schema"] == "envguard.report/1" for line in whole.splitlines())


@on_posix
def test_ctrl_c_in_the_middle_of_a_long_stream_ends_with_130(tmp_path: Path) -> None:
    check = ("check", "--snapshot", many(tmp_path), "--snapshot", "-", "--format", "jsonl")
    with process(*check) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.readline()
        started.send_signal(signal.SIGINT)
        assert started.stdout.read().count(b"\n") < 300
        assert started.stderr.read() == b""
        assert started.wait(SECONDS) == 130


class Stubborn(io.StringIO):
    """A stream on which the first flush is interrupted."""

    def flush(self) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_while_the_result_is_written_ends_with_130() -> None:
    err = io.StringIO()
    with redirect_stdout(Stubborn()), redirect_stderr(err):
        assert cli.run(["--version"]) == 130
    assert err.getvalue() == ""


# Streams that are full or closed


@on_linux
@pytest.mark.parametrize("words", ["check", "snapshot", "rules", "explain gguf/version", "--version"])
def test_a_full_disk_is_one_line(words: str) -> None:
    with open("/dev/full", "wb") as full, process(*words.split(), stdout=full) as started:
        _, err = started.communicate(timeout=SECONDS)
    told = Done(started.returncode, "", err.decode()).refused()
    assert told == "standard output: cannot be written: No space left on device"


@on_linux
@pytest.mark.parametrize(("words", "status"), [("--backend nowhere", 2), ("--nothing", 2), ("--backend gguf", 1)])
def test_a_full_standard_error_changes_no_status(tmp_path: Path, words: str, status: int) -> None:
    script = f'"$0" -m envguard check --snapshot "$1" {words} 2>/dev/full'
    done = shell(script, saved(tmp_path, NOTHING))
    assert (done.status, done.err) == (status, "")


@on_posix
@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_status(tmp_path: Path, closing: str) -> None:
    script = f'"$0" -m envguard check --backend torchao --snapshot "$1" {closing}'
    done = shell(script, saved(tmp_path, NOTHING))
    assert (done.status, done.err) == (1, "")


@on_posix
def test_a_snapshot_from_a_closed_standard_input_is_bad_input(tmp_path: Path) -> None:
    script = '"$0" -m envguard check --snapshot "$1" --snapshot - <&-'
    told = shell(script, saved(tmp_path, NOTHING)).refused()
    assert told == "standard input: cannot be read: it is closed"


@on_posix
def test_an_error_does_not_go_to_standard_output_where_the_other_stream_is_closed() -> None:
    done = shell('"$0" -m envguard check --backend nowhere 2>&-')
    assert (done.status, done.out) == (2, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_no_encoding_of_the_terminal_gives_a_traceback(tmp_path: Path, encoding: str) -> None:
    path = saved(tmp_path, machine(accelerators=[{"kind": "cuda", "name": "NVIDIA ✓ 日本 \ud800 é"}]), "日本.json")
    for words in (["check", "--snapshot", path], ["explain", "torch/installed"], ["rules"]):
        started = process(*words, variables={"PYTHONIOENCODING": encoding})
        out, err = started.communicate(timeout=SECONDS)
        assert (started.returncode, err) == (0, b"")
        out.decode(encoding)


@on_posix
def test_a_working_folder_that_is_gone_is_no_hindrance(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    path = saved(tmp_path, NOTHING)
    done = shell('cd "$1" && rmdir "$1" && "$0" -m envguard check --backend gguf --snapshot "$2"', str(gone), path)
    assert (done.status, done.err) == (1, "")


# Faults


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second subject that is judged meets a fault of envguard."""
    from envguard import checks

    judged: list[Any] = []
    whole = checks.report_on

    def report_on(*args: Any, **kwargs: Any) -> Any:
        judged.append(args)
        if len(judged) > 1:
            raise ZeroDivisionError("of\nall things \x1b[31m" + "x" * 10_000)
        return whole(*args, **kwargs)

    monkeypatch.setattr(checks, "report_on", report_on)
    monkeypatch.delenv("ENVGUARD_TRACEBACK", raising=False)


@pytest.mark.usefixtures("fault")
def test_a_fault_outweighs_all_and_keeps_what_was_judged(tmp_path: Path) -> None:
    done = run("check", "--backend", "gguf", "--snapshot", stream(tmp_path, NOTHING, "nonsense", NOTHING, NOTHING))
    assert done.status == 70
    assert done.out.count("gguf/installed") >= 1
    bad, fault = done.err.splitlines()
    assert "not JSON" in bad
    assert fault.startswith("envguard: a fault of envguard itself: ZeroDivisionError: of\\nall things \\x1b[31mxxx")
    assert "ENVGUARD_TRACEBACK=1" in fault
    assert "envguard --version" in fault
    assert len(fault) < 1_000


@pytest.mark.usefixtures("fault")
def test_a_fault_shows_its_traceback_to_who_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVGUARD_TRACEBACK", "1")
    done = run("check", "--backend", "gguf", "--snapshot", stream(tmp_path, NOTHING, NOTHING))
    assert done.status == 70
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert "in report_on" in done.err
    assert done.err.splitlines()[-1].startswith("envguard: a fault of envguard itself: ")


@pytest.mark.parametrize(
    "error", [RecursionError(), MemoryError(), OSError(28, "full", "/a/file"), PermissionError(13, "no")], ids=repr
)
def test_what_nobody_foresaw_is_a_fault(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(*folders: Any) -> Any:
        raise error

    monkeypatch.setattr("envguard.shipped.load", load)
    done = run("rules")
    assert (done.status, done.out) == (70, "")
    assert done.err.count("\n") == 1
    assert type(error).__name__ in done.err


def test_ctrl_c_anywhere_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*folders: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("envguard.shipped.load", load)
    assert run("check") == Done(130, "", "")


@on_posix
def test_the_folder_of_the_console_script_is_not_on_the_path_that_is_checked(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    folder = os.path.realpath(tmp_path / "bin")
    for name in ("torchao.py", "beside.py"):
        Path(folder, name).touch()
    script = Path(folder, "envguard")
    script.write_text("import sys; import beside; from envguard.cli import main; main()")
    done = subprocess.run([f"{folder}/python", script, "snapshot"], check=True, capture_output=True, env=ENVIRON)
    assert json.loads(done.stdout)["import_owners"]["torchao"]["origin"] != f"{folder}/torchao.py"
