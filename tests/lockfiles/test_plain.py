"""Plain locks, which are read without `packaging.pylock`, held against it."""

from __future__ import annotations

import copy
import sys
from datetime import datetime, timezone
from typing import Any

import packaging
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from envguard.lockfiles import parse_target
from envguard.lockfiles.plain import plain_packages
from envguard.lockfiles.pylock import _read, _read_plain

pytestmark = pytest.mark.skipif(
    Version(packaging.__version__) < Version("26"), reason="only on packaging 26 or newer, which has packaging.pylock"
)

TARGET = parse_target(["python=3.12,linux,x86_64"])
HASHES = {"sha256": "00"}
LOCK: dict[str, Any] = {
    "lock-version": "1.0",
    "created-by": "uv",
    "requires-python": ">=3.11,<4",
    "packages": [
        {
            "name": "flash-attn",
            "version": "2.8.0.post2",
            "marker": "sys_platform == 'linux' and (python_version >= '3.10' or os_name == 'nt')",
            "index": "https://pypi.org/simple",
            "requires-python": ">=3.9",
            "sdist": {
                "url": "https://example.org/a/flash_attn-2.8.0.post2.tar.gz",
                "upload-time": datetime(2026, 1, 1, tzinfo=timezone.utc),
                "size": 1,
                "hashes": HASHES,
            },
            "wheels": [{"url": "https://example.org/flash_attn-2.8.0.post2-py3-none-any.whl", "hashes": HASHES}],
        },
        {
            "name": "torch",
            "version": "2.11.0+cu130",
            "marker": 'python_full_version < "3.13"',
            "wheels": [
                {
                    "name": "torch-2.11.0+cu130-cp312-cp312-manylinux_2_28_x86_64.whl",
                    "path": "wheels/torch-2.11.0+cu130-cp312-cp312-manylinux_2_28_x86_64.whl",
                    "hashes": HASHES,
                },
                {
                    "url": "https://example.org/torch-2.11.0%2Bcu130-cp312-cp312-win_amd64.whl",
                    "hashes": HASHES,
                },
            ],
        },
        {"name": "demo", "directory": {"path": ".", "editable": True}},
    ],
}
TEXTS = r"""
x|X|1.0|1.1|2|v1|1.0-1|2.8.0|2.11.0|-a|a--b|flash_attn|Flash-Attn|flash-attn|torch
>=3|>=3,|~=3|==3.*|=>3|<3.1 |===x|extra == 'x'|'x' in extras|platform.system == 'Linux'|os.name == 'posix'
sys_platform|python_version|python_version >= 'x'|sys_platform =='linux'and os_name=='posix'|sys_platform == 'linux' 'x'
'a' == 'b'|((os_name == 'nt'))|os_name == 'nt' or|platform_release == '1'|sys_platform not  in 'linux'|os_name == "nt'
os_name == '\'|(os_name == 'nt'|os_name == 'nt')|sys_platform\t== 'linux'|sys_platform in 'linux'|not os_name == 'nt'
https://example.org/torch-2.11.0-py3-none-any.whl|https://example.org/torch-2.11.0+cu130-1-py3-none-any.whl
https://example.org/torch-2.11.0%2bcu130-py3-none-any.whl|torch-2.11.0+cu130-py3-none-any.whl?x|a/|.tar.gz
os_name == 'nt' and pyton_version < '3'|sys_platform == 'linux' or foo == 'x'
os_name == 'posix' or platform_release >= '5'
torch-2.11.0+cu130-py3..py2-none-any.whl|torch-2.11.0+cu130-py3-none-any.WHL|torch__-2.11.0+cu130-py3-none-any.whl
a\torch-2.11.0+cu130-py3-none-any.whl|https://torch-2.11.0+cu130-py3-none-any.whl|https://x/?/torch-2.11.0-py3-none-any.whl
//torch-2.11.0+cu130-py3-none-any.whl|https://x/#/torch-2.11.0-py3-none-any.whl|flash-attn-2.8.0.post2.tar.gz|flash_attn-2.8.0.post2.zip
"""
ODD = st.one_of(
    st.sampled_from(
        [None, True, 0, 1.5, "", " ", "os_name == 'nt'\n", [], [1], ["x"], {}, {"x": 1}, {"x": "0"}, "1" * 300]
    ),
    st.sampled_from([text for line in TEXTS.strip().splitlines() for text in line.split("|")]),
)
NAMES = """
lock-version created-by requires-python environments extras packages tool name version marker index directory archive
vcs sdist wheels dependencies url path hashes size upload-time subdirectory editable unknown
"""
KEYS = st.sampled_from(NAMES.split())


def places(value: Any) -> list[Any]:
    """Every table of a lock and every list of it, itself first."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *[place for each in inner for place in places(each)]] if isinstance(value, (dict, list)) else []


@st.composite
def locks(draw: st.DrawFn) -> dict[str, Any]:
    lock: dict[str, Any] = copy.deepcopy(LOCK)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(lock)))
        known = list(place) if isinstance(place, dict) else list(range(len(place)))
        part = draw(st.sampled_from(known)) if known and draw(st.booleans()) else None
        if part is not None and draw(st.booleans()):
            del place[part]
        elif part is not None:
            place[part] = copy.deepcopy(draw(ODD))
        elif isinstance(place, dict):
            place[draw(KEYS)] = copy.deepcopy(draw(ODD))
        else:
            place.append(copy.deepcopy(draw(ODD)))
    return lock


@given(locks())
def test_what_is_plain_packaging_accepts_and_reads_alike(lock: dict[str, Any]) -> None:
    plain = _read_plain(lock, "pylock.toml", TARGET)
    if plain is not None:
        by_packaging = _read(lock, "pylock.toml", TARGET)
        assert plain.packages == by_packaging.packages
        assert (plain.requires_python is None) is (by_packaging.requires_python is None)


def test_what_uv_writes_is_plain() -> None:
    plain = _read_plain(LOCK, "pylock.toml", TARGET)
    assert plain is not None
    assert {name: package.version for name, package in plain.packages.items()} == {
        "flash-attn": "2.8.0.post2",
        "torch": "2.11.0+cu130",
        "demo": None,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lock-version", "1.1"),
        ("environments", ["sys_platform == 'linux'"]),
        ("extras", ["gpu"]),
        ("tool", {}),
        ("created-by", None),
    ],
)
def test_what_is_rare_is_for_packaging(key: str, value: Any) -> None:
    assert plain_packages({**LOCK, key: value}) is None


def test_a_marker_that_the_target_leaves_open_is_for_packaging() -> None:
    assert _read_plain(LOCK, "pylock.toml", parse_target(["linux"])) is None


def test_a_plain_lock_does_without_packagings_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.pylock", None)
    assert _read_plain(LOCK, "pylock.toml", TARGET) is not None


@pytest.mark.parametrize(
    "marker",
    [
        "sys_platform == 'win32' and pyton_version < '3'",
        "sys_platform == 'linux' or foo == 'x'",
        "sys_platform == 'linux' or platform_release >= '5'",
        "os.name == 'posix'",
        "extra == 'x'",
    ],
)
def test_a_marker_with_another_word_is_left_to_packaging(marker: str) -> None:
    lock = copy.deepcopy(LOCK)
    assert plain_packages(lock) is not None
    lock["packages"][0]["marker"] = marker
    assert plain_packages(lock) is None
