from __future__ import annotations

import os
from pathlib import Path

import pytest

from envguard.frozen import replace
from envguard.probes import toolchain as room
from envguard.probes.interpreter import current
from envguard.probes.toolchain import cuda_home, toolchain, visual_cpp, which

pytestmark = pytest.mark.skipif(os.name == "nt", reason="programs are files with an x bit here")


def program(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\necho started >&2\nexit 1\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture(autouse=True)
def no_usual_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "_usual_homes", lambda environ: iter((str(tmp_path / "usual"),)))


def test_nothing_found_is_null_everywhere(tmp_path: Path) -> None:
    value = toolchain(replace(current(), include=str(tmp_path)), {"PATH": str(tmp_path)}).value
    assert value == dict.fromkeys(("nvcc", "ninja", "cxx", "cc", "python_headers", "cuda_home", "msvc"))
    assert toolchain(replace(current(), include=str(tmp_path)), {}).value == value


def test_tools_are_found_on_path_and_none_is_started(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tools = {name: program(tmp_path / "bin" / name) for name in ("ninja", "c++", "gcc")}
    value = toolchain(current(), {"PATH": f"{tmp_path / 'no'}:{tmp_path / 'bin'}"}).value
    assert (value["ninja"], value["cxx"], value["cc"]) == (tools["ninja"], tools["c++"], tools["gcc"])
    assert capfd.readouterr() == ("", "")


def test_a_ninja_beside_the_interpreter_is_not_on_path(tmp_path: Path) -> None:
    program(tmp_path / "venv" / "bin" / "ninja")
    inspected = replace(current(), executable=str(tmp_path / "venv" / "bin" / "python"))
    assert toolchain(inspected, {"PATH": str(tmp_path)}).value["ninja"] is None


def test_a_file_that_is_not_executable_is_no_tool(tmp_path: Path) -> None:
    (tmp_path / "ninja").touch()
    (tmp_path / "c++").mkdir()
    assert which("ninja", str(tmp_path)) is None
    assert which("c++", str(tmp_path)) is None


def test_an_empty_part_of_path_is_not_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "ninja")
    monkeypatch.chdir(tmp_path)
    assert which("ninja", f":{tmp_path / 'other'}:") is None


@pytest.mark.parametrize(("value", "found"), [("clang++", True), ("clang++ -m64", True), ("nothing", False)])
def test_cxx_names_the_compiler(tmp_path: Path, value: str, found: bool) -> None:
    program(tmp_path / "c++")
    compiler = program(tmp_path / "clang++")
    observed = toolchain(current(), {"PATH": str(tmp_path), "CXX": value}).value["cxx"]
    assert observed == (compiler if found else None)


def test_cc_may_be_a_path(tmp_path: Path) -> None:
    compiler = program(tmp_path / "deep" / "my-cc")
    assert toolchain(current(), {"PATH": "", "CC": compiler}).value["cc"] == compiler
    assert toolchain(current(), {"PATH": "", "CC": str(tmp_path / "gone")}).value["cc"] is None


def test_the_headers_are_those_of_the_inspected_interpreter(tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    inspected = replace(current(), include=str(tmp_path))
    assert toolchain(inspected, {}).value["python_headers"] == str(tmp_path / "Python.h")


def test_cuda_home_is_what_the_variable_says_if_it_is_a_toolkit(tmp_path: Path) -> None:
    compiler = program(tmp_path / "cuda" / "bin" / "nvcc")
    home = str(tmp_path / "cuda")
    assert cuda_home({"CUDA_HOME": home}) == home
    assert cuda_home({"CUDA_PATH": home}) == home
    assert cuda_home({"CUDA_HOME": str(tmp_path / "gone"), "CUDA_PATH": home}) is None
    value = toolchain(current(), {"CUDA_HOME": home, "PATH": ""}).value
    assert (value["cuda_home"], value["nvcc"]) == (home, compiler)


def test_cuda_home_is_above_the_nvcc_on_path(tmp_path: Path) -> None:
    program(tmp_path / "cuda" / "bin" / "nvcc")
    assert cuda_home({"PATH": str(tmp_path / "cuda" / "bin")}) == str(tmp_path / "cuda")


def test_cuda_home_is_the_usual_place_if_it_is_a_toolkit(tmp_path: Path) -> None:
    assert cuda_home({}) is None
    (tmp_path / "usual").mkdir()
    assert cuda_home({}) is None
    (tmp_path / "usual" / "include").mkdir()
    assert cuda_home({}) == str(tmp_path / "usual")


def test_the_newest_visual_cpp_is_found(tmp_path: Path) -> None:
    tools = tmp_path / "Microsoft Visual Studio" / "2022" / "BuildTools" / "VC" / "Tools" / "MSVC"
    for version in ("14.29.30133", "14.41.34120"):
        newest = tools / version / "bin" / "Hostx64" / "x64" / "cl.exe"
        newest.parent.mkdir(parents=True)
        newest.touch()
    assert visual_cpp({"ProgramFiles": str(tmp_path / "none"), "ProgramFiles(x86)": str(tmp_path)}) == str(newest)
    assert visual_cpp({"ProgramFiles": str(tmp_path / "none")}) is None
    opened = program(tmp_path / "prompt" / "cl")
    assert visual_cpp({"ProgramFiles": str(tmp_path), "PATH": str(tmp_path / "prompt")}) == opened
