"""Which lines of a project's dependency files name a package."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.anchors import find_anchors, named_in_lock, named_in_pyproject, named_in_requirements
from envguard.output.findings import Anchor

PYPROJECT = """\
[project]
name = "it"
keywords = ["gguf", "torchao"]
dependencies = [
    # "quanto" is not named here
    "torch>=2.6",
    'Optimum_Quanto == 0.2.7; python_version < "3.13"', "gguf[extra]>=0.10",
]
description = "gguf"

[project.optional-dependencies]
gpu = ["bitsandbytes"]

[dependency-groups]
test = [{ include-group = "gpu" }, "torchao @ https://example.org/torchao.whl"]

[tool.poetry.group.dev.dependencies]
accelerate = "^1.1"
nvidia-modelopt = { version = "*", extras = ["hf"] }

[tool.other]
diffusers = 1
"""
REQUIREMENTS = """\
# bitsandbytes
-r base.txt
--extra-index-url https://download.pytorch.org/whl/cu130
torch==2.11.0 \\
    --hash=sha256:00
  Optimum.Quanto
gguf[extra] ; python_version < "3.13"
torchao@ https://example.org/torchao.whl
"""
LOCK = """\
version = 1
[[package]]
name = "it"
dependencies = [{ name = "torch" }]
[[package]]
name = 'torch'
version = "2.11.0"
"""


def test_the_dependency_tables_of_a_project_name_packages_and_nothing_else_does() -> None:
    named = dict(named_in_pyproject(PYPROJECT))
    assert {name: named[name] for name in named if not name[0].isdigit()} == {
        "torch": 6,
        "Optimum_Quanto": 7,
        "gguf": 7,
        "bitsandbytes": 12,
        "gpu": 15,
        "torchao": 15,
        "accelerate": 18,
        "nvidia-modelopt": 19,
    }


def test_the_lines_of_a_requirements_file_begin_with_names() -> None:
    assert dict(named_in_requirements(REQUIREMENTS)) == {"torch": 4, "Optimum.Quanto": 6, "gguf": 7, "torchao": 8}


def test_a_lock_file_names_a_package_where_its_table_is_and_not_where_another_needs_it() -> None:
    assert dict(named_in_lock(LOCK)) == {"it": 3, "torch": 6}


@given(st.text())
def test_any_text_is_looked_through(text: str) -> None:
    for read in (named_in_pyproject, named_in_requirements, named_in_lock):
        assert all(name and 1 <= line <= len(text.splitlines()) for name, line in read(text))


def project(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_txt", ".txt").replace("_lock", ".lock").replace("_toml", ".toml")).write_text(text)
    return folder


def test_a_name_is_found_however_it_is_written(tmp_path: Path) -> None:
    anchor = find_anchors(str(project(tmp_path, requirements_txt=REQUIREMENTS)))
    assert anchor(["optimum-quanto"]) == anchor(["OPTIMUM.quanto"]) == Anchor("requirements.txt", 6)


def test_what_people_write_comes_before_what_tools_write(tmp_path: Path) -> None:
    folder = project(tmp_path, uv_lock=LOCK, requirements_txt="numpy\ntorch", pyproject_toml='[project]\nname = "it"\n')
    assert find_anchors(str(folder))(["torch"]) == Anchor("requirements.txt", 2)
    (folder / "requirements.txt").unlink()
    assert find_anchors(str(folder))(["torch"]) == Anchor("uv.lock", 6)


def test_the_first_name_that_is_found_counts(tmp_path: Path) -> None:
    anchor = find_anchors(str(project(tmp_path, requirements_txt=REQUIREMENTS)))
    assert anchor(["bitsandbytes", "gguf", "torch"]) == Anchor("requirements.txt", 7)


def test_what_no_line_names_stands_at_the_first_file_if_there_is_one(tmp_path: Path) -> None:
    assert find_anchors(str(tmp_path))(["torch"]) is None
    assert find_anchors(str(tmp_path / "gone"))(["torch"]) is None
    assert find_anchors(str(project(tmp_path, requirements_txt="")))(["torch"]) == Anchor("requirements.txt", 1)


def test_a_path_is_the_one_that_the_repository_knows(tmp_path: Path) -> None:
    folder = project(tmp_path / "repository" / "apps" / "it", requirements_txt="torch")
    for root, expected in (
        (tmp_path / "repository", "apps/it/requirements.txt"),
        (folder, "requirements.txt"),
        (tmp_path / "elsewhere", "requirements.txt"),
    ):
        found = find_anchors(str(folder), str(root))(["torch"])
        assert found == Anchor(expected, 1)


@pytest.mark.parametrize("name", ["requirements.txt", "uv.lock"])
def test_what_cannot_be_read_names_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert find_anchors(str(tmp_path))(["torch"]) is None
    (tmp_path / "pylock.toml").write_bytes(b"\xff\n[[packages]]\nname = 'torch'\n")
    assert find_anchors(str(tmp_path))(["torch"]) == Anchor("pylock.toml", 3)


def test_a_file_that_was_judged_comes_first(tmp_path: Path) -> None:
    folder = project(tmp_path, requirements_txt="torch")
    (folder / "gpu").mkdir()
    (folder / "gpu" / "frozen.txt").write_text("numpy\ntorch==2.11.0\n")
    (folder / "gpu" / "other.lock").write_text(LOCK)
    for path, expected in (("frozen.txt", Anchor("gpu/frozen.txt", 2)), ("other.lock", Anchor("gpu/other.lock", 6))):
        assert find_anchors(str(folder), None, [str(folder / "gpu" / path)])(["torch"]) == expected
    outside = find_anchors(str(folder / "gpu"), None, [str(folder / "requirements.txt"), "-"])
    assert outside(["torch"]) is None
