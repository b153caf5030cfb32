"""The steps of the weekly workflow, run here with a wheel of a few lines and a `gh` that only writes down its calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import ENVIRON
from small_hosts import files, wheel

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "audit.yml"
STEPS: dict[str, dict[str, Any]] = {
    step["name"]: step
    for step in yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["audit"]["steps"]
    if "run" in step
}
READ, OPEN = "Read it", "Open an issue with the report, once a release"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: the workflow's own system")


def command(folder: Path, name: str, text: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def step(folder: Path, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**ENVIRON, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", **variables}
    environ["GITHUB_OUTPUT"] = str(folder / "output")
    # as the runner starts a step of `shell: bash`
    call = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEPS[name]["run"]]
    return subprocess.run(call, cwd=folder, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wheels").mkdir()
    command(tmp_path, "envguard", f'exec "{sys.executable}" -m envguard "$@"')
    return tmp_path


def outputs(folder: Path) -> dict[str, str]:
    lines = (folder / "output").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_an_open_gate_is_an_output_and_no_failure(folder: Path) -> None:
    wheel(folder / "wheels", files("import torchao.something_new\n"))
    done = step(folder, READ, HOST="diffusers")
    assert done.returncode == 0, done.stderr
    assert outputs(folder) == {"status": "1", "release": "diffusers 0.42.1"}
    assert "torchao.something_new" in (folder / "report.txt").read_text()


def test_a_wheel_that_cannot_be_read_fails_the_run(folder: Path) -> None:
    (folder / "wheels" / "diffusers-1-py3-none-any.whl").write_bytes(b"no zip")
    assert step(folder, READ, HOST="diffusers").returncode == 2


@pytest.mark.parametrize(("titles", "made"), [("Rules for diffusers 0.42.0", 1), ("Rules for diffusers 0.42.1", 0)])
def test_one_issue_is_opened_for_a_release(folder: Path, titles: str, made: int) -> None:
    command(folder, "gh", f'echo "$@" >> calls\nif [ "$2" = list ]; then echo "{titles}"; fi')
    (folder / "report.txt").write_text("new: no rule speaks of it\n")
    done = step(folder, OPEN, RELEASE="diffusers 0.42.1", GH_TOKEN="x", GH_REPO="a/b")
    assert done.returncode == 0, done.stderr
    created = [line for line in (folder / "calls").read_text().splitlines() if line.startswith("issue create")]
    assert created == ["issue create --title Rules for diffusers 0.42.1 --body-file body.md"] * made
    if made:
        assert "new: no rule speaks of it" in (folder / "body.md").read_text()
