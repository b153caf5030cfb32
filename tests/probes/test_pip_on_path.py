"""Into which Python the pip on PATH installs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from envguard.frozen import replace
from envguard.probes.interpreter import current
from envguard.probes.pip_on_path import installed_there, pip_on_path, shebang


@pytest.mark.parametrize(
    ("script", "python"),
    [
        ("#!/v/bin/python3.11\nimport sys\n", "/v/bin/python3.11"),
        ("#!/v/bin/python -E\n", "/v/bin/python"),
        ("#!/usr/bin/env bash\n", "/usr/bin/env"),
        ("#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n", "/a b/bin/python"),
        ("#!/bin/sh\n'''exec' /long/bin/python \"$0\" \"$@\"\n", "/long/bin/python"),
        ("#!/bin/sh\necho\n", ""),
        ("import sys\n", ""),
        ("", ""),
    ],
)
def test_the_first_line_names_the_python(script: str, python: str) -> None:
    assert shebang(script) == python


@pytest.mark.skipif(sys.platform == "win32", reason="scripts are programs there")
@pytest.mark.parametrize("own", [True, False])
def test_the_pip_of_another_environment_is_told(tmp_path: Path, own: bool) -> None:
    folder = tmp_path / "v" / "bin"
    folder.mkdir(parents=True)
    pip = folder / "pip"
    pip.write_text(f"#!{folder}/python\n", "utf-8")
    pip.chmod(0o755)
    interpreter = replace(current(), prefix=str(tmp_path / ("v" if own else "w")))
    (tmp_path / "w").mkdir()
    assert pip_on_path(interpreter, {"PATH": str(folder)}) == (None if own else f"{folder}/python")


@pytest.mark.parametrize("place", ["v/lib/python3.11/site-packages", "v/bin/Lib/site-packages"])
def test_what_another_environment_has_is_read_from_its_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / place / "optimum_quanto-0.2.7.dist-info").mkdir(parents=True)
    python = str(tmp_path / "v" / "bin" / "python")
    assert installed_there(python, ["optimum-quanto", "torchao"]) == ["optimum-quanto"]
    assert installed_there(str(tmp_path / "nowhere" / "bin" / "python"), ["torchao"]) == []


def test_without_a_pip_on_path_nothing_is_told(tmp_path: Path) -> None:
    assert pip_on_path(current(), {"PATH": str(tmp_path)}) is None
    assert pip_on_path(current(), {}) is None


@pytest.mark.skipif(sys.platform == "win32", reason="scripts are programs there")
def test_a_wrapper_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "pip").write_text("#!/usr/bin/env bash\nexec true\n", "utf-8")
    os.chmod(tmp_path / "pip", 0o755)
    assert pip_on_path(current(), {"PATH": str(tmp_path)}) is None
