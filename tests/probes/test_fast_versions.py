"""Versions read from the names of metadata folders alone: the same as those in the metadata."""

from __future__ import annotations

from pathlib import Path

from envguard.probes.distributions import distributions, versions
from envguard.probes.folders import Folders


def install(folder: Path, entry: str, metadata: str | None) -> None:
    (folder / entry).mkdir()
    if metadata is not None:
        (folder / entry / "METADATA").write_text(metadata, "utf-8")


def test_the_name_of_the_folder_tells_the_version(tmp_path: Path) -> None:
    install(tmp_path, "hf_xet-1.6.0.dist-info", None)
    found = versions(["hf-xet", "absent"], Folders((str(tmp_path),)))
    assert found.value == {"hf-xet": {"version": "1.6.0"}, "absent": None}


def test_a_folder_that_tells_none_is_read(tmp_path: Path) -> None:
    install(tmp_path, "regex.dist-info", "Name: regex\nVersion: 2.1\n\n")
    (tmp_path / "old.egg-info").write_text("Name: old\nVersion: 3\n\n", "utf-8")
    found = versions(["regex", "old"], Folders((str(tmp_path),))).value
    assert {name: entry["version"] for name, entry in found.items()} == {"regex": "2.1", "old": "3"}


def test_both_ways_tell_the_same(tmp_path: Path) -> None:
    install(tmp_path, "torch-2.13.0+cpu.dist-info", "Name: torch\nVersion: 2.13.0+cpu\n\n")
    folders = Folders((str(tmp_path),))
    slow = distributions((str(tmp_path),), frozenset({"torch"}), folders).value["torch"]["version"]
    assert versions(["torch"], folders).value["torch"]["version"] == slow


def test_a_folder_that_cannot_be_listed_leaves_it_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    found = versions(["numpy"], Folders((str(tmp_path / "file"),)))
    assert "numpy" not in found.value
    assert "/distributions/numpy" in found.unreadable
