"""What was remembered comes back from files that are ours alone, and nothing comes back from others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.jsontext import parse, written
from envguard.probes.remembered import folder, recall, remember

posix = pytest.mark.skipif(sys.platform == "win32", reason="only on systems with modes of files")


def only_file(place: Path) -> Path:
    (found,) = place.iterdir()
    return found


def test_the_answers_lie_in_the_users_cache_folder() -> None:
    assert folder({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "linux") == os.path.join("/x", "envguard")
    assert folder({"HOME": "/h"}, "linux") == os.path.join("/h", ".cache", "envguard")
    assert folder({"HOME": "/h"}, "darwin") == os.path.join("/h", "Library", "Caches", "envguard")
    assert folder({}, "linux") is None
    assert folder({"XDG_CACHE_HOME": "relative"}, "linux") is None
    assert folder({"HOME": "/h", "ENVGUARD_CACHE": "0"}, "linux") is None


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    place = str(tmp_path / "envguard")
    assert recall("a", place) is None
    remember("a", {"x": [1, -1, "é"]}, place)
    remember("b\nwith a line", None, place)
    assert recall("a", place) == {"x": [1, -1, "é"]}
    assert recall("b\nwith a line", place) is None
    assert recall("c", place) is None
    assert recall("a", None) is None
    for file in Path(place).iterdir():
        json.loads(file.read_text("ascii"))


def test_a_later_answer_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    place = tmp_path / "envguard"
    remember("a", 1, str(place))
    remember("a", 2, str(place))
    assert recall("a", str(place)) == 2
    only_file(place)


def test_an_answer_to_another_key_under_the_same_name_does_not_count(tmp_path: Path) -> None:
    place = tmp_path / "envguard"
    remember("a", 1, str(place))
    file = only_file(place)
    file.write_text(file.read_text().replace('"a"', '"b"'))
    assert recall("a", str(place)) is None


@posix
def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    place = tmp_path / "envguard"
    remember("a", 1, str(place))
    assert place.stat().st_mode & 0o777 == 0o700
    assert only_file(place).stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_others_can_write_is_not_read(tmp_path: Path, which: str) -> None:
    place = tmp_path / "envguard"
    remember("a", 1, str(place))
    (only_file(place) if which == "file" else place).chmod(0o777)
    assert recall("a", str(place)) is None


@posix
def test_nothing_is_written_where_others_can_write(tmp_path: Path) -> None:
    place = tmp_path / "envguard"
    place.mkdir()
    place.chmod(0o777)
    remember("a", 1, str(place))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format":3}',
        '{"format":2,"key":"a","answer":1}',
        '{"format":3,"key":3,"answer":1}',
        '{"format":3,"key":"a"}',
        '{"format":3,"key":"a","answer":1',
        '{"format":3,"key":"a","answer":1} x',
        '{"format":3,"key":' + "[" * 100_000,
        '{"format":3,"key":"a","answer":[1,',
        '{"format":3,"key":"a","answer":{"b":',
        "\xff",
        '{"format":3,"key":"\xff","answer":1}',
    ],
)
def test_a_broken_file_is_nothing_and_is_written_anew(tmp_path: Path, text: str) -> None:
    place = tmp_path / "envguard"
    remember("a", 1, str(place))
    only_file(place).write_text(text, "latin-1")
    assert recall("a", str(place)) is None
    remember("a", 2, str(place))
    assert recall("a", str(place)) == 2


def test_where_nothing_can_be_written_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "envguard").write_text("a file where the folder should be")
    remember("a", 1, str(tmp_path / "envguard"))
    assert recall("a", str(tmp_path / "envguard")) is None


def test_the_oldest_answers_are_forgotten(tmp_path: Path) -> None:
    place = tmp_path / "envguard"
    remember("first", 1, str(place))
    os.utime(only_file(place), ns=(0, 0))
    for number in range(60):
        remember(str(number), number, str(place))
    assert recall("first", str(place)) is None
    assert recall("59", str(place)) == 59
    assert len(list(place.iterdir())) < 50


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_is_written_as_json_writes_it(value: object) -> None:
    assert json.loads(written(value)) == value
    assert written(value) == json.dumps(value, separators=(",", ":"))


def test_no_module_of_the_working_folder_is_imported_to_write(tmp_path: Path) -> None:
    place = tmp_path / "envguard"
    for name in ("json", "tempfile", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    program = f"from envguard.probes.remembered import remember; remember('a', [1], {str(place)!r})"
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    subprocess.run([sys.executable, "-c", program], env=own, cwd=tmp_path, check=True)
    assert recall("a", str(place)) == [1]


@posix
def test_nothing_is_made_in_the_home_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    remember("a", 1, str(tmp_path / ".cache" / "envguard"))
    assert list(tmp_path.iterdir()) == []


@given(JSON)
def test_json_is_read_as_json_reads_it(value: object) -> None:
    assert parse(json.dumps(value)) == value
