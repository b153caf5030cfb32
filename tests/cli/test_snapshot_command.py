"""`envguard snapshot`: what it writes, where, and that nothing is left where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import run

from envguard.model import Environment

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[1] / "schemas" / "snapshot-1.schema.json").read_text("utf-8"))
)


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    SCHEMA.validate(data)
    return data


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("words", [[], ["-o", "-"], ["--python", sys.executable]], ids=" ".join)
def test_a_snapshot_is_the_result(words: list[str]) -> None:
    done = run("snapshot", *words)
    assert (done.status, done.err) == (0, "")
    data = json.loads(done.out)
    SCHEMA.validate(data)
    assert data["python"]["executable"] == sys.executable
    assert data["distributions"]["packaging"]["version"]


def test_a_snapshot_is_written_in_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "it.json"
    target.write_text("before")
    done = run("snapshot", "-o", str(target))
    assert done == (0, "", "")
    assert read(target)["schema"] == "envguard.snapshot/1"
    assert names(tmp_path) == ["it.json"]


def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250 + ".json")
    assert run("snapshot", "-o", str(target)).status == 0
    read(target)


def test_a_relative_name_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("snapshot", "-o", "it.json").status == 0
    assert names(tmp_path) == ["it.json"]


def test_another_environment_is_recorded_without_starting_what_is_in_it(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = (venv / "Lib").glob("site-packages") if os.name == "nt" else venv.glob("lib/python*/site-packages")
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    (site / "torch" / "version.py").write_text("__version__ = '2.13.0+cpu'\ncuda = None\nhip = None\n")
    target = tmp_path / "it.json"
    assert run("snapshot", "--python", str(venv), "-o", str(target)) == (0, "", "")
    data = read(target)
    assert data["torch_build"]["version"] == "2.13.0+cpu"
    assert data["python"]["prefix"] == str(venv)
    assert data["python"]["pip"] is None
    assert data["distributions_complete"]
    assert "packaging" not in data["distributions"]
    assert names(tmp_path) == ["it.json", "venv"]


@pytest.mark.parametrize("place", ["nowhere/it.json", ".", "it.json/below", "a\0b"])
def test_a_place_that_cannot_be_written_is_one_line_and_nothing_is_left(tmp_path: Path, place: str) -> None:
    (tmp_path / "it.json").write_text("before")
    assert "cannot be written: " in run("snapshot", "-o", str(tmp_path / place)).refused()
    assert names(tmp_path) == ["it.json"]
    assert (tmp_path / "it.json").read_text() == "before"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="only as an ordinary user: root writes all")
def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written: Permission denied" in run("snapshot", "-o", str(tmp_path / "it.json")).refused()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(("error", "status"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)])
def test_what_comes_between_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    def replace(*args: Any) -> None:
        assert len(names(tmp_path)) == 2, "the new one is written beside the older one"
        raise error

    target = tmp_path / "it.json"
    target.write_text("before")
    monkeypatch.setattr(os, "replace", replace)
    done = run("snapshot", "-o", str(target))
    assert (done.status, done.out) == (status, "")
    assert names(tmp_path) == ["it.json"]
    assert target.read_text() == "before"


@pytest.mark.skipif(os.name == "nt", reason="only on POSIX: links need no privilege there")
def test_nothing_is_written_through_a_link_that_lies_where_the_new_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("before")
    monkeypatch.setattr(os, "getpid", lambda: 7)
    (tmp_path / ".envguard-7.part").symlink_to(precious)
    assert "cannot be written: File exists" in run("snapshot", "-o", str(tmp_path / "it.json")).refused()
    assert precious.read_text() == "before"


def test_a_secret_in_the_environment_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    monkeypatch.setenv("CUDA_HOME", "hf_qrstuvwxyz123456")
    done = run("snapshot")
    assert done.status == 0
    assert "hf_" not in done.out.replace("hf_hub", "").replace("hf_xet", "")


def test_a_recorded_snapshot_can_be_judged(tmp_path: Path) -> None:
    target = str(tmp_path / "it.json")
    assert run("snapshot", "-o", target).status == 0
    assert isinstance(Environment.from_json(Path(target).read_bytes()), Environment)
    done = run("check", "--snapshot", target)
    assert (done.status, done.err) == (0, "")
    assert "".join(done.out.split()).startswith(f"envguard:{target}")  # a long path is broken
