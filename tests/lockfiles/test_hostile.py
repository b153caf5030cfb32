"""Files that mean harm, or are simply broken: one line, never another exception."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envguard.errors import BadInput
from envguard.lockfiles import describe, parse_target, read_lock, read_requirements
from envguard.lockfiles.listed import Listed
from envguard.shipped import load

FILES = Path(__file__).resolve().parents[1] / "project" / "readme"
TEXTS = {name: (FILES / name).read_text(encoding="utf-8") for name in ("uv.lock", "pylock.toml", "requirements.txt")}
TEXTS["requirements.txt"] += "-c x.txt\nx @ git+https://e.org/x\n-e ./y#egg=y\nz==1 --hash=sha256:0 \\\n  --hash=x\n"
BITS = [
    "'",
    '"',
    "[",
    "]",
    "{",
    "}",
    "=",
    "==",
    ";",
    " # ",
    "\\\n",
    "\x00",
    "\n",
    "-r ",
    "\u202e",
    "1",
    "marker = ",
    "é",
]
TARGETS = [parse_target([text]) for text in ("", "python=3.12,linux,x86_64,gpu=8.9,driver=580.65.06")]


def read(path: str, target: Any) -> Listed:
    return read_requirements([path], target) if path.endswith("requirements.txt") else read_lock(path, target)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_file_that_was_changed_anywhere_is_read_or_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TEXTS)))
    text = TEXTS[name]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        text = text[:start] + data.draw(st.sampled_from(BITS) | st.text(max_size=5)) + text[end:]
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    target, refused = data.draw(st.sampled_from(TARGETS)), None
    try:
        describe(read(str(path), target), target, load().torch_builds)
    except BadInput as error:
        refused = str(error)
    assert refused is None or (str(tmp_path) in refused and len(refused) < 2_000)


@pytest.mark.parametrize("name", ["uv.lock", "pylock.toml", "requirements.txt", "freeze.txt"])
def test_what_is_too_long_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(1 << 32)  # takes no room on the disk
    with pytest.raises(BadInput, match="longer than 32 MiB"):
        read(str(path), TARGETS[0])


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: needs a pipe with a name")
@pytest.mark.parametrize("name", ["uv.lock", "freeze.txt", "requirements.txt"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadInput, match="it is no file"):
        read(str(tmp_path / name), TARGETS[0])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.lock", "x = " + "[" * 100_000),
        ("uv.lock", 'version = 1\n[[package]]\nname = "a"\nversion = "' + "9" * 100_000 + '"\n'),
        ("uv.lock", "version = " + "9" * 10_000),
        ("requirements.txt", "torch; " + "(" * 5_000 + "python_version > '3'" + ")" * 5_000),
        ("requirements.txt", "torch==" + "9" * 100_000),
        ("requirements.txt", "x\n" * 100_001),
    ],
)
def test_what_is_absurd_is_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        read(str(path), TARGETS[1])
    assert len(str(caught.value)) < 2_000
