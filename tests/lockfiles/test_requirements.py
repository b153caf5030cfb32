"""requirements.txt and the output of pip freeze: what each line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from envguard.errors import BadInput
from envguard.lockfiles import parse_target, read_lock, read_requirements
from envguard.lockfiles.listed import Listed

LINUX = parse_target(["python=3.12,linux,x86_64"])


def asked(folder: Path, text: str, target: str = "python=3.12,linux,x86_64", **files: str) -> Listed:
    for name, other in files.items():
        (folder / f"{name}.txt").write_text(other, encoding="utf-8")
    path = folder / "requirements.txt"
    path.write_text(text, encoding="utf-8")
    return read_requirements([str(path)], parse_target([target]))


def said(listed: Listed) -> dict[str, str | None]:
    """Version, or range, of each package; None where neither is known."""
    return {
        name: package.version if package.specifier is None else ",".join(sorted(package.specifier.split(",")))
        for name, package in listed.packages.items()
    }


def frozen(folder: Path, text: str) -> Listed:
    path = folder / "freeze.txt"
    path.write_text(text, encoding="utf-8")
    return read_lock(str(path), LINUX)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("torch==2.11.0", "2.11.0"),
        ("torch==2.11.0+cu130  # for the H100", "2.11.0+cu130"),
        ("Torch[opt]==2.11.0", "2.11.0"),
        ("torch == 2.11.0 ; sys_platform == 'linux'", "2.11.0"),
        ("torch===2.11.0", "2.11.0"),
        ("torch>=2.6,<2.12", "<2.12,>=2.6"),
        ("torch", ""),
        ("torch==2.11.*", "==2.11.*"),
        ("torch==2.11.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11", "2.11.0"),
        ("torch @ https://example.org/torch-2.11.0%2Bcu130-cp312-cp312-linux_x86_64.whl", "2.11.0+cu130"),
        ("https://example.org/torch-2.11.0-cp312-cp312-linux_x86_64.whl", "2.11.0"),
        ("./wheels/torch-2.11.0-cp312-cp312-linux_x86_64.whl", "2.11.0"),
        ("./torch-2.11.0.tar.gz", "2.11.0"),
    ],
)
def test_a_line_gives_a_version_or_a_range(tmp_path: Path, line: str, version: str) -> None:
    assert said(asked(tmp_path, f"# a comment\n\n{line}\n")) == {"torch": version}


@pytest.mark.parametrize(
    "line",
    [
        "torch @ git+https://github.com/pytorch/pytorch@v2.11.0",
        "-e git+https://github.com/pytorch/pytorch@v2.11.0#egg=torch",
        "git+https://github.com/pytorch/pytorch#egg=torch&subdirectory=x",
        "torch @ file:///opt/torch",
    ],
)
def test_a_place_names_a_package_without_its_version(tmp_path: Path, line: str) -> None:
    package = asked(tmp_path, line).packages["torch"]
    assert package.version is None
    assert "names a place, not a version" in (package.unknown or "")


def test_a_password_in_a_place_is_not_told(tmp_path: Path) -> None:
    package = asked(tmp_path, "torch @ git+https://me:hunter2@example.org/torch").packages["torch"]
    assert "hunter2" not in (package.unknown or "")


def test_a_marker_that_does_not_hold_takes_its_line_away(tmp_path: Path) -> None:
    text = "torch==2.11.0; sys_platform == 'win32'\ngguf==0.19.0; python_version >= '3.10'\nx==1; extra == 'gpu'\n"
    assert said(asked(tmp_path, text)) == {"gguf": "0.19.0"}


def test_a_marker_about_what_was_not_told_of_the_target_leaves_it_open(tmp_path: Path) -> None:
    package = asked(tmp_path, "torch==2.11.0; sys_platform == 'win32'", "python=3.12").packages["torch"]
    assert package.version is None
    assert "depends on the target" in (package.unknown or "")


def test_a_marker_that_holds_on_every_target_needs_none(tmp_path: Path) -> None:
    text = "torch==2.11.0; sys_platform != 'emscripten' and python_version >= '3.8'"
    assert said(asked(tmp_path, text, "")) == {"torch": "2.11.0"}


def test_files_are_included_from_where_the_line_stands(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("-r b.txt\ntorch==2.11.0\n", encoding="utf-8")
    (tmp_path / "deep" / "b.txt").write_text("gguf==0.19.0\n", encoding="utf-8")
    assert said(asked(tmp_path, "-r deep/a.txt\n")) == {"gguf": "0.19.0", "torch": "2.11.0"}


def test_a_constraint_narrows_and_brings_nothing(tmp_path: Path) -> None:
    listed = asked(tmp_path, "-c limits.txt\ntorch\ngguf>=0.17\n", limits="torch==2.11.0\ngguf<0.19\nnumpy<2\n")
    assert said(listed) == {"torch": "2.11.0", "gguf": "<0.19,>=0.17"}
    assert "numpy" in listed.missing


def test_options_and_variables_are_text(tmp_path: Path) -> None:
    text = "--index-url https://${TOKEN}@example.org/simple\n--pre\n-i https://example.org\ntorch==2.11.0\n"
    assert said(asked(tmp_path, text)) == {"torch": "2.11.0"}


def test_what_is_not_named_is_open_unless_every_line_has_its_hash(tmp_path: Path) -> None:
    assert not asked(tmp_path, "torch==2.11.0").complete
    assert asked(tmp_path, "torch==2.11.0 --hash=sha256:00").complete


def test_several_files_are_one_environment(tmp_path: Path) -> None:
    paths = []
    for name in ("torch==2.11.0", "gguf==0.19.0"):
        path = tmp_path / f"{name[:4]}.txt"
        path.write_text(name, encoding="utf-8")
        paths.append(str(path))
    assert said(read_requirements(paths, LINUX)) == {"torch": "2.11.0", "gguf": "0.19.0"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("torch==2.11.0\ntorch==2.10.0\n", "line 1: torch is asked for in versions that exclude one another"),
        ("x\ntorch >> 2\n", "line 2: not a requirement: 'torch >> 2'"),
        ("torch; sys_platform = 'linux'", "line 1: not a requirement"),
        ("-r missing.txt", "missing.txt: cannot be read: No such file or directory"),
        ("-r requirements.txt", "includes itself"),
        ("\n-r https://example.org/r.txt", "line 2: envguard fetches nothing"),
        ("-r", "line 1: expected the name of a file"),
        ("-r .", "cannot be read: it is no file"),
    ],
)
def test_a_bad_line_is_told_with_file_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        asked(tmp_path, text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_include_many_are_refused(tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"f{number}.txt").write_text(f"-r f{number + 1}.txt\n", encoding="utf-8")
    with pytest.raises(BadInput, match="more than 100 files"):
        asked(tmp_path, "-r f0.txt")


def test_text_that_is_not_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_bytes(b"torch\n\xff\xff\xff\n")
    with pytest.raises(BadInput, match="line 2: not UTF-8"):
        read_requirements([str(path)], LINUX)


def test_what_powershell_redirects_is_read(tmp_path: Path) -> None:
    path = tmp_path / "freeze.txt"
    path.write_bytes("torch==2.11.0\r\n".encode("utf-16"))
    assert said(read_lock(str(path), LINUX)) == {"torch": "2.11.0"}


# pip freeze


def test_a_freeze_is_complete_but_for_what_pip_leaves_out(tmp_path: Path) -> None:
    listed = frozen(tmp_path, "torch==2.11.0+cu130\ngguf==0.19.0\n")
    assert listed.complete
    assert set(listed.missing) == {"pip", "setuptools", "wheel", "distribute"}


def test_a_freeze_tells_of_editable_projects_in_a_comment(tmp_path: Path) -> None:
    text = "# Editable install with no version control (demo==0.1.0)\n-e /home/me/demo\ntorch==2.11.0\n"
    listed = frozen(tmp_path, text)
    assert said(listed) == {"demo": "0.1.0", "torch": "2.11.0"}
    assert listed.complete


def test_an_editable_project_without_a_name_may_be_anything(tmp_path: Path) -> None:
    assert not frozen(tmp_path, "-e /home/me/demo\ntorch==2.11.0\n").complete


def test_a_lock_that_leaves_a_choice_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="line 1: a lock names one version of each package, found 'torch>=2'"):
        frozen(tmp_path, "torch>=2\n")
