"""`--format` and `-o` of the command line: several subjects, models, files, and where annotations stand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import process, run, saved, stream
from model_files import safetensors_bytes
from support import book, everything, gpu, row, snapshot

from envguard import shipped
from envguard.rulebook import RuleBook

OF_TOOLS = ("github", "junit", "sarif", "markdown")
RULES = book(
    row("torchao/version", {"distribution": "torchao>=1.0"}, fix={"install": ["torchao>=1.0"]}),
    row("torchao/advice", {"distribution": "torchao>=2.0"}, "warning"),
)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> RuleBook:
    """Two rules of one backend instead of those that ship."""
    monkeypatch.setattr(shipped, "_loaded", RULES)
    return RULES


def torchao(version: str) -> dict[str, Any]:
    return snapshot(distributions={"torchao": {"version": version}})


OK, DEGRADED, BLOCKED, UNDECIDED = torchao("2.0"), torchao("1.5"), torchao("0.5"), snapshot()


def failures(text: str) -> tuple[int, int]:
    root = ElementTree.fromstring(text.encode())
    return int(root.attrib["failures"]), int(root.attrib["errors"])


@pytest.mark.parametrize("format", OF_TOOLS)
def test_a_format_says_nothing_of_its_own_about_the_exit_status(rules: RuleBook, tmp_path: Path, format: str) -> None:
    for data, status in ((OK, 0), (DEGRADED, 0), (BLOCKED, 1), (UNDECIDED, 3)):
        done = run("check", "--backend", "torchao", "--snapshot", saved(tmp_path, data), "--format", format)
        assert (done.status, done.err) == (status, "")
        assert done.out.endswith("\n")
        assert not done.out.endswith("\n\n")


@pytest.mark.parametrize("extra", [(), ("--strict",), ("--allow-undecided",), ("--strict", "--allow-undecided")])
@pytest.mark.parametrize("backend", [(), ("--backend", "torchao")])
@pytest.mark.parametrize("data", [OK, DEGRADED, BLOCKED, UNDECIDED], ids=["ok", "degraded", "blocked", "undecided"])
def test_a_report_for_tools_is_red_where_the_check_fails(
    rules: RuleBook, tmp_path: Path, data: Any, backend: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    check = ("check", *backend, *extra, "--snapshot", saved(tmp_path, data))
    done = run(*check, "--format", "junit")
    failed, errors = failures(done.out)
    assert (failed > 0) == (done.status == 1)
    assert (errors > 0) == (done.status == 3)
    github = run(*check, "--format", "github")
    assert any(line.startswith("::error ") for line in github.out.splitlines()) == (done.status != 0)


@pytest.mark.parametrize("format", OF_TOOLS)
def test_several_subjects_are_one_document_with_the_bad_one_in_its_place(
    rules: RuleBook, tmp_path: Path, format: str
) -> None:
    many = stream(tmp_path, OK, "nonsense", BLOCKED)
    other = saved(tmp_path, UNDECIDED, "other.json")
    done = run("check", "--backend", "ao", "--snapshot", many, "--snapshot", other, "--format", format)
    assert done.status == 2
    assert done.err.startswith(f"envguard: error: {many} line 2: not JSON")
    if format != "sarif":  # which tells results, and what could not be judged
        assert done.out.index("line 1") < done.out.index("line 3") < done.out.index("other.json")
    assert "line 2" in done.out


@pytest.mark.parametrize("format", OF_TOOLS)
def test_no_subject_is_nothing_to_judge(rules: RuleBook, tmp_path: Path, format: str) -> None:
    empty = saved(tmp_path, "\n", "it.jsonl")
    assert "no snapshot in it" in run("check", "--snapshot", empty, "--format", format).refused()


def test_an_annotation_stands_where_the_working_folder_names_the_package(
    rules: RuleBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repository" / "app"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("numpy\ntorchao<1\n")
    monkeypatch.chdir(folder)
    path = saved(tmp_path, BLOCKED)
    for workspace, expected in (("", "requirements.txt"), (str(tmp_path / "repository"), "app/requirements.txt")):
        monkeypatch.setenv("GITHUB_WORKSPACE", workspace)
        check = ("check", "--backend", "torchao", "--snapshot", path)
        assert f"::error file={expected},line=2,title=" in run(*check, "--format", "github").out
        found = json.loads(run(*check, "--format", "sarif").out)["runs"][0]["results"]
        assert found[0]["locations"][0]["physicalLocation"] == {
            "artifactLocation": {"uri": expected, "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 2},
        }


def a_model(folder: Path) -> str:
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    weights = safetensors_bytes({"layer.weight": ("BF16", [64, 64])})
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    return str(folder)


@pytest.mark.parametrize("format", OF_TOOLS)
def test_a_model_comes_in_every_format_and_weights_that_do_not_fit_are_a_warning(tmp_path: Path, format: str) -> None:
    check = ("check", "--model", a_model(tmp_path / "model"), "--backend", "bnb:nf4", "--format", format)
    for free, status, told in ((10**9, 0, False), (10, 0, True)):
        data = everything(accelerators=[gpu(memory_free=free)])
        done = run(*check, "--snapshot", saved(tmp_path, data))
        assert (done.status, done.err) == (status, "")
        assert ("model/memory" in done.out) == told
        assert run(*check, "--strict", "--snapshot", saved(tmp_path, data)).status == (1 if told else 0)
        if format == "junit":
            assert failures(run(*check, "--strict", "--snapshot", saved(tmp_path, data)).out)[0] == told


# -o


@pytest.mark.parametrize("format", ["text", "json", "jsonl", *OF_TOOLS])
def test_a_file_gets_what_standard_output_would(rules: RuleBook, tmp_path: Path, format: str) -> None:
    check = ("check", "--backend", "torchao", "--snapshot", saved(tmp_path, BLOCKED), "--format", format)
    expected = run(*check)
    target = tmp_path / "report"
    for option in ("-o", "--output"):
        done = run(*check, option, str(target))
        assert (done.status, done.out, done.err) == (expected.status, "", "")
        assert target.read_bytes().decode("utf-8").replace("\r\n", "\n") == expected.out
    assert run(*check, "-o", "-") == expected
    assert sorted(os.listdir(tmp_path)) == ["it.json", "report"]


def test_bad_usage_leaves_the_file_alone(rules: RuleBook, tmp_path: Path) -> None:
    target = tmp_path / "report"
    target.write_text("before")
    run("check", "--backend", "nope", "-o", str(target)).refused()
    run("check", "--snapshot", str(tmp_path / "nowhere"), "-o", str(target)).refused()
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["report"]


@pytest.mark.parametrize("place", ["nowhere/report", ".", "it.json/below", "a\0b"])
def test_a_place_that_cannot_be_written_is_one_line(rules: RuleBook, tmp_path: Path, place: str) -> None:
    check = ("check", "--snapshot", saved(tmp_path, OK), "-o", str(tmp_path / place))
    assert "cannot be written: " in run(*check).refused()
    assert os.listdir(tmp_path) == ["it.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only on Linux: a device that is always full")
def test_a_full_disk_is_one_line_about_the_file(rules: RuleBook, tmp_path: Path) -> None:
    check = ("check", "--snapshot", saved(tmp_path, OK), "-o", "/dev/full")
    assert run(*check).refused() == "/dev/full: cannot be written: No space left on device"


def test_what_cannot_be_judged_in_the_middle_is_told_in_the_file_too(rules: RuleBook, tmp_path: Path) -> None:
    target = tmp_path / "report.jsonl"
    many = stream(tmp_path, OK, "nonsense", OK)
    assert run("check", "--snapshot", many, "--format", "jsonl", "-o", str(target)).status == 2
    assert [json.loads(line)["schema"] for line in target.read_text().splitlines()] == [
        "envguard.report/1",
        "envguard.error/1",
        "envguard.report/1",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: a terminal to be had with pty")
def test_a_file_has_no_colour_though_the_command_runs_in_a_terminal(tmp_path: Path) -> None:
    import pty

    main, terminal = pty.openpty()
    target = tmp_path / "report"
    try:
        path = saved(tmp_path, BLOCKED)
        started = process("check", "--backend", "torchao", "--snapshot", path, "-o", str(target), stdout=terminal)
        started.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(main)
    assert started.returncode == 1
    assert "\x1b" not in target.read_text(encoding="utf-8")
