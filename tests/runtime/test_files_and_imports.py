"""What is written is whole or not there; what is imported is what was checked; progress is for terminals alone."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import envguard
from envguard import permits
from envguard.model import BackendReport, Environment, Outcome, Report, Request
from envguard.runtime import imports
from envguard.runtime.folders import written_file, written_folder
from envguard.runtime.progress import steps


def write(folder: str, **texts: str) -> None:
    for name, text in texts.items():
        Path(folder, name).write_text(text)


def test_a_folder_gets_its_files_once_all_are_written(tmp_path: Path) -> None:
    write(str(tmp_path), last="old", weights="old", other="kept")
    with written_folder(str(tmp_path), last="last") as folder:
        write(folder, last="new", weights="new")
        assert (tmp_path / "weights").read_text() == "old"
    texts = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert texts == {"last": "new", "weights": "new", "other": "kept"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
def test_whatever_interrupts_it_the_old_folder_stays(tmp_path: Path, error: type[BaseException]) -> None:
    write(str(tmp_path), last="old", weights="old")

    def interrupted() -> None:
        with written_folder(str(tmp_path), last="last") as folder:
            write(folder, weights="half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"last": "old", "weights": "old"}


def test_what_would_vouch_for_other_files_is_taken_away(tmp_path: Path) -> None:
    write(str(tmp_path), stale="of another form")
    with written_folder(str(tmp_path), last="last", stale=("stale",)) as folder:
        write(folder, last="new")
    assert [file.name for file in tmp_path.iterdir()] == ["last"]


def test_a_file_takes_its_place_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_text("old")

    def interrupted() -> None:
        with written_file(str(file)) as temporary:
            Path(temporary).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (file.read_text(), os.listdir(tmp_path)) == ("old", ["model.gguf"])
    with written_file(str(file)) as temporary:
        Path(temporary).write_text("new")
    assert (file.read_text(), os.listdir(tmp_path)) == ("new", ["model.gguf"])


def test_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(envguard.BadInput, match="cannot save to"), written_folder(str(tmp_path / "file"), last="x"):
        pass
    with pytest.raises(envguard.BadInput, match="it is a folder"), written_file(str(tmp_path)):
        pass


def permit(tmp_path: Path, version: str | None = "1.0", origin: str | None = "backend.py") -> permits.Permit:
    """A permit for a module of the test's own, which lies in the folder."""
    met = Outcome("torchao/installed", "met", "error", "absent", "baseline", "needs it, found it")
    report = Report((BackendReport(Request("torchao"), version, "ok", (met,)),), "here", "today")
    found = None if origin is None else str(tmp_path / origin)
    owner = {"origin": found, "distribution": "torchao", "kind": "module"}
    return permits.issue(report, Environment({"import_owners": {"own_backend": owner}}), "own_backend", "block")


@pytest.fixture
def own_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_backend.py").write_text("__version__ = '1.0'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_backend", raising=False)
    return tmp_path


@pytest.mark.parametrize("version", ["1.0", "1.0.0", "1.0+git123", None])
def test_what_was_checked_is_imported(own_backend: Path, version: str | None) -> None:
    module = imports.import_checked(permit(own_backend, version, "own_backend.py"))
    assert module.__name__ == "own_backend"
    del sys.modules["own_backend"]


def test_another_file_than_the_checked_one_is_refused(own_backend: Path) -> None:
    with pytest.raises(
        envguard.BackendChanged, match=r"was checked at .*other.py, but .*own_backend.py is what Python"
    ):
        imports.import_checked(permit(own_backend, "1.0", "other.py"))
    del sys.modules["own_backend"]


def test_another_version_than_the_checked_one_is_refused(own_backend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("own_backend")
    module.__version__ = "0.9"
    monkeypatch.setitem(sys.modules, "own_backend", module)
    with pytest.raises(envguard.BackendChanged, match=r"own_backend 1\.0 was checked, but 0\.9 is imported"):
        imports.import_checked(permit(own_backend, "1.0", None))


def test_an_import_that_fails_asks_for_a_report(own_backend: Path) -> None:
    (own_backend / "own_backend.py").write_text("raise OSError('libcudart.so.13: not found')")
    with pytest.raises(envguard.BackendChanged, match=r"OSError: libcudart\.so\.13: not found.*a rule is missing"):
        imports.import_checked(permit(own_backend, "1.0", "own_backend.py"))


def test_progress_is_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(steps(range(3), "quantizing")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_progress_tells_a_terminal_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(steps(range(3), "quantizing")) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert "quantizing" in err
