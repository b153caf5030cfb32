from __future__ import annotations

import os
from pathlib import Path

import pytest
from installed_trees import install

from envguard.probes.folders import Folders, read, read_head


def test_folders_are_listed_in_order_and_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "c").symlink_to("a")
    path = [str(tmp_path / name) for name in ("b", "a", "gone", "c", "b")] + [f"{tmp_path / 'a'}{os.sep}"]
    assert [folder.path for folder in Folders(path).listed] == [str(tmp_path / "b"), str(tmp_path / "a")]


def test_the_empty_entry_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "gguf")
    monkeypatch.chdir(tmp_path)
    (folder,) = Folders(("",)).listed
    assert list(folder.metadata) == ["gguf"]


def test_what_is_not_there_is_no_problem_and_what_cannot_be_listed_is(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    folders = Folders((str(tmp_path / "gone"), "a\0b", str(tmp_path / "loop"), str(tmp_path / "file")))
    assert folders.listed == []
    assert list(folders.unlisted) == [str(tmp_path / "loop"), str(tmp_path / "file")]


def test_files_of_any_size_are_read_up_to_the_limit(tmp_path: Path) -> None:
    for size in (0, 1, 5000, 300_000):
        (tmp_path / "file").write_bytes(b"x" * size)
        assert len(read(str(tmp_path / "file"))) == size
        assert len(read(str(tmp_path / "file"), 4000)) == min(size, 4000)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")
def test_files_that_do_not_tell_their_size_are_read() -> None:
    assert b"Name:" in read("/proc/self/status")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("lines", [1, 5000])
def test_the_header_ends_before_the_first_empty_line(tmp_path: Path, end: bytes, lines: int) -> None:
    header = (b"Requires-Dist: torch" + end) * lines
    (tmp_path / "file").write_bytes(header + end + b"text \xff" + end + end)
    assert read_head(str(tmp_path / "file")).rstrip() == header.rstrip()
    (tmp_path / "file").write_bytes(header)
    assert read_head(str(tmp_path / "file")) == header
