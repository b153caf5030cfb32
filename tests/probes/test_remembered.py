"""What was remembered comes back from a file that is ours alone, and nothing comes back from another."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.probes.remembered import file, parse, recall, remember

posix = pytest.mark.skipif(sys.platform == "win32", reason="only on systems with modes of files")


def test_the_file_lies_in_the_users_cache_folder() -> None:
    assert file({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "linux") == os.path.join("/x", "envguard", "facts.json")
    assert file({"HOME": "/h"}, "linux") == os.path.join("/h", ".cache", "envguard", "facts.json")
    assert file({"HOME": "/h"}, "darwin") == os.path.join("/h", "Library", "Caches", "envguard", "facts.json")
    assert file({}, "linux") is None
    assert file({"XDG_CACHE_HOME": "relative"}, "linux") is None
    assert file({"HOME": "/h", "ENVGUARD_CACHE": "0"}, "linux") is None


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "envguard" / "facts.json")
    assert recall("a", path) is None
    remember("a", {"x": [1, -1, "é"]}, path)
    remember("b", None, path)
    assert recall("a", path) == {"x": [1, -1, "é"]}
    assert recall("c", path) is None
    assert recall("a", None) is None
    assert [each.name for each in Path(path).parent.iterdir()] == ["facts.json"]
    json.loads(Path(path).read_text("ascii"))


@posix
def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "envguard" / "facts.json"
    remember("a", 1, str(path))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_others_can_write_is_not_read(tmp_path: Path, which: str) -> None:
    path = tmp_path / "envguard" / "facts.json"
    remember("a", 1, str(path))
    (path if which == "file" else path.parent).chmod(0o777)
    assert recall("a", str(path)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 2, "entries": {"a": 1}}',
        '{"format": 1, "entries": 3}',
        "\xff",
        "[" * 100_000,
        '{"format": 1, "entries": {"a": 1}} x',
        '{"format":1,"entries":{\n',
        '{"format":1,"entries":{\n"e8b7be43":{"key":"b","answer":1}\n}}\n',
        '{"format":1,"entries":{\n"e8b7be43":{"key":"a","ans\n}}\n',
        '{"format":1,"entries":{\n"e8b7be43":[1]\n}}\n',
    ],
)
def test_a_broken_file_is_nothing_and_is_written_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "envguard" / "facts.json"
    path.parent.mkdir(mode=0o700)
    path.write_text(text, "latin-1")
    path.chmod(0o600)
    assert recall("a", str(path)) is None
    remember("a", 2, str(path))
    assert recall("a", str(path)) == 2


def test_where_nothing_can_be_written_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "envguard").write_text("a file where the folder should be")
    remember("a", 1, str(tmp_path / "envguard" / "facts.json"))
    assert recall("a", str(tmp_path / "envguard" / "facts.json")) is None


def test_the_oldest_is_forgotten_first(tmp_path: Path) -> None:
    path = str(tmp_path / "envguard" / "facts.json")
    for number in range(30):
        remember(str(number), number, path)
    assert recall("0", path) is None
    assert recall("29", path) == 29


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_is_read_as_json_reads_it(value: object) -> None:
    assert parse(json.dumps(value)) == value
