"""What is refused, and what a refusal tells: one line that helps, and no secret."""

from __future__ import annotations

from pathlib import Path

import packaging
import pytest
from packaging.version import Version

from envguard.errors import BadInput
from envguard.lockfiles import parse_target, read_lock, read_requirements
from envguard.lockfiles.requirements import shown

only_with_pylock = pytest.mark.skipif(
    Version(packaging.__version__) < Version("26"), reason="only on packaging 26 or newer, which has packaging.pylock"
)
TARGET = parse_target(["python=3.12,linux,x86_64"])
HEAD = 'lock-version = "1.0"\ncreated-by = "x"\n'
TORCH = (
    '[[packages]]\nname = "torch"\nversion = "2.11.0"\narchive = { url = "https://h/x.zip", hashes = { x = "0" } }\n'
)
PLAIN = TORCH.replace("archive = {", "sdist = {").replace("x.zip", "torch-2.11.0.tar.gz")


def refused(folder: Path, text: str | bytes, name: str) -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as caught:
        read_lock(str(path), TARGET)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said.replace(str(folder), "")) < 500
    return said


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("https://user:secret@host/x", "https://host/x"),
        ("git+ssh://git:secret@host/x.git@main", "git+ssh://host/x.git@main"),
        ("https://host/x.whl?Signature=secret#egg=x", "https://host/x.whl"),
        ("a @ https://secret@host ; b @ https://c:secret@d/e", "a @ https://host ; b @ https://d/e"),
        ("torch==2.0", "torch==2.0"),
    ],
)
def test_what_is_shown_of_a_line_holds_no_secret(text: str, without: str) -> None:
    assert shown(text) == without


@pytest.mark.parametrize(
    "line",
    [
        "-r https://user:secret@host/r.txt",
        "a b @ https://user:secret@host/x",
        "torch>=1 @ https://user:secret@host/x",
    ],
)
def test_a_refused_line_tells_no_secret(tmp_path: Path, line: str) -> None:
    assert "secret" not in refused(tmp_path, line, "freeze.txt")


@pytest.mark.parametrize("name", ["poetry.lock", "pdm.lock", "Pipfile.lock", "pyproject.toml", "environment.yml"])
def test_a_file_of_another_tool_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    assert "have the tool of this file write one of these" in refused(tmp_path, "", name)


def test_the_requirements_that_rye_calls_a_lock_are_requirements(tmp_path: Path) -> None:
    path = tmp_path / "requirements-dev.lock"
    path.write_text("torch==2.11.0\n")
    assert read_lock(str(path), TARGET).packages["torch"].version == "2.11.0"
    assert read_requirements([str(path)], TARGET).packages["torch"].version == "2.11.0"


@pytest.mark.parametrize("name", ["freeze.txt", "uv.lock", "pylock.toml"])
def test_a_nul_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, b"a==1\n\0", name).endswith("line 2: a NUL, which no text has")
    assert "a NUL" in refused(tmp_path, "torch==2.0\n".encode("utf-32"), name)


def test_a_file_without_a_name_is_told_so() -> None:
    with pytest.raises(BadInput, match="the name of the file is empty"):
        read_lock("", TARGET)


@pytest.mark.parametrize("name", ["uv.lock", "pylock.toml"])
def test_a_number_that_python_does_not_read_is_told(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path, f"x = {'9' * 10_000}\n", name)
    assert said.endswith("a number of more digits than Python reads")


def test_a_version_that_is_too_long_is_told_in_short(tmp_path: Path) -> None:
    said = refused(tmp_path, f"torch=={'9' * 10_000}\n", "freeze.txt")
    # packaging 24 refuses the requirement itself
    assert "line 1: a version that cannot be compared: 'torch==999" in said or (
        "line 1: not a requirement: 'torch==999" in said and len(said) < 600
    )


@only_with_pylock
def test_packagings_complaint_is_told_without_the_text_that_it_points_at(tmp_path: Path) -> None:
    said = refused(tmp_path, HEAD + TORCH + 'marker = "foo"\n', "pylock.toml")
    assert said.endswith("pylock.toml: Expected a marker variable or quoted string in 'packages[0].marker'")


@only_with_pylock
def test_a_pylock_of_a_later_minor_version_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(HEAD.replace("1.0", "1.1") + TORCH)
    assert read_lock(str(path), TARGET).packages["torch"].version == "2.11.0"
    (said,) = caplog.messages
    assert said.startswith(f"envguard: warning: {path}: pylock minor version 1.1 is not supported")


@only_with_pylock
def test_a_pylock_for_other_machines_is_refused(tmp_path: Path) -> None:
    environments = "environments = [\"sys_platform == 'win32'\", \"sys_platform == 'darwin'\"]\n"
    said = refused(tmp_path, HEAD + environments + TORCH, "pylock.toml")
    assert 'it is for sys_platform == "win32" or sys_platform == "darwin", which the target is not' in said
    path = tmp_path / "pylock.toml"
    assert read_lock(str(path), parse_target(["python=3.12,windows,x86_64"])).packages
    assert read_lock(str(path), parse_target(["python=3.12"])).packages


@only_with_pylock
@pytest.mark.parametrize("package", [TORCH, PLAIN])
def test_a_package_of_a_pylock_for_another_python_is_refused(tmp_path: Path, package: str) -> None:
    said = refused(tmp_path, HEAD + package + 'requires-python = ">=3.13"\n', "pylock.toml")
    assert said.endswith("packages[0]: requires-python: torch is for Python >=3.13, the target has 3.12")
    path = tmp_path / "pylock.toml"
    path.write_text(HEAD + package + 'requires-python = ">=3.13"\nmarker = "python_version >= \'3.13\'"\n')
    assert not read_lock(str(path), TARGET).packages


def test_a_gpu_of_a_mac_is_in_a_mac() -> None:
    assert parse_target(["macos,gpu=mps"]).gpus
    assert parse_target(["gpu=mps"]).gpus
    with pytest.raises(BadInput, match="--target gpu=mps: a GPU of a Mac, and the target's system is linux"):
        parse_target(["linux,gpu=mps"])
