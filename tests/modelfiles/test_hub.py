"""Where a model lies: a path, or a hub id in the local cache; nothing is downloaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from envguard.errors import BadModel
from envguard.modelfiles.hub import cache_folder, is_hub_id, locate


def cached(cache: Path, revision: str = "abc123", main: str | None = "abc123") -> Path:
    """A cached model as huggingface_hub lays it out."""
    model = cache / "models--owner--name"
    (model / "blobs").mkdir(parents=True)
    (model / "blobs" / "0f").write_text("{}", encoding="utf-8")
    snapshot = model / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to(Path("..") / ".." / "blobs" / "0f")
    if main is not None:
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(main, encoding="ascii")
    return snapshot


def environ(cache: Path) -> dict[str, str]:
    return {"HF_HUB_CACHE": str(cache)}


def refused(text: str, cache: Path) -> str:
    with pytest.raises(BadModel) as caught:
        locate(text, environ(cache))
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_path_that_is_there_is_meant(tmp_path: Path) -> None:
    assert locate(str(tmp_path), {}) == str(tmp_path)


def test_a_path_goes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path / "cache")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name", environ(tmp_path / "cache")) == "owner/name"


@pytest.mark.skipif(sys.platform == "win32", reason="only on systems where anybody may make symbolic links")
class TestCached:
    def test_the_main_revision_is_taken(self, tmp_path: Path) -> None:
        snapshot = cached(tmp_path)
        (snapshot.parent / "older").mkdir()
        assert locate("owner/name", environ(tmp_path)) == str(snapshot)

    def test_the_only_revision_is_taken_where_none_is_main(self, tmp_path: Path) -> None:
        assert locate("owner/name", environ(tmp_path)) if cached(tmp_path, main=None) else None

    def test_several_revisions_without_a_main_one_are_told(self, tmp_path: Path) -> None:
        snapshot = cached(tmp_path, main=None)
        (snapshot.parent / "other").mkdir()
        assert "expected a snapshot in" in refused("owner/name", tmp_path)

    @pytest.mark.parametrize("main", ["../../..", "", "x" * 500, "abc/../abc123"])
    def test_a_revision_that_leaves_the_folder_is_not_followed(self, tmp_path: Path, main: str) -> None:
        snapshot = cached(tmp_path, main=main)
        assert locate("owner/name", environ(tmp_path)) == str(snapshot)  # as if there were no main one

    def test_a_file_that_was_not_downloaded_whole_is_told(self, tmp_path: Path) -> None:
        snapshot = cached(tmp_path)
        (snapshot / "unet").mkdir()
        (snapshot / "unet" / "model.safetensors").symlink_to(tmp_path / "nothing")
        said = refused("owner/name", tmp_path)
        assert os.path.join("unet", "model.safetensors") in said
        assert said.endswith(" download owner/name")


def test_an_id_that_is_not_in_the_cache_gives_the_command(tmp_path: Path) -> None:
    said = refused("black-forest-labs/FLUX.1-dev", tmp_path)
    assert str(tmp_path) in said
    assert said.endswith(" download black-forest-labs/FLUX.1-dev")


@pytest.mark.parametrize(
    "text", ["", "nothing", "a/b/c", "../x", "/nothing/here", "a b/c", "owner/na\nme", "a\0b", "-o/x", "é/x"]
)
def test_what_is_neither_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadModel, match="expected a"):
        locate(text, environ(tmp_path))


def test_only_an_owner_and_a_name_are_a_hub_id() -> None:
    assert is_hub_id("stabilityai/sdxl-turbo_1.0")
    assert not any(map(is_hub_id, ["gpt2", "a/b/c", "../b", "a/..", "a/.b", "a/", "/b", "a/b:c", "a/" + "x" * 97]))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, "~/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(variables: dict[str, str], expected: str) -> None:
    assert Path(cache_folder(variables)) == Path(os.path.expanduser(expected))
