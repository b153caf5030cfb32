"""What runs on GitHub, as far as it can be checked without GitHub: the matrix, and that every step's script is ours."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from project_files import CI, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHELL = [CI / name for name in ("run", "checks", "tests", "wheel", "backends", "lib.sh", "hook.sh")]
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: needs its bash")


def workflow(name: str = "ci.yml") -> dict[str, Any]:
    # YAML reads the key `on` as true
    loaded: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return loaded


def steps(name: str = "ci.yml") -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def test_the_matrix_has_every_declared_python_on_every_system() -> None:
    matrix = workflow()["jobs"]["tests"]["strategy"]["matrix"]
    classifiers = [line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert matrix["python"] == classifiers == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert matrix["os"] == ["ubuntu-latest", "windows-latest", "macos-latest"]


def test_the_oldest_python_of_the_matrix_is_the_declared_floor() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    oldest = workflow()["jobs"]["tests"]["strategy"]["matrix"]["python"][0]
    assert str(allowed) == f">={oldest}"


def test_the_workflow_may_only_read() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow()["jobs"].values())


@pytest.mark.parametrize("name", ["ci.yml", "audit.yml"])
def test_every_action_names_a_major_version(name: str) -> None:
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)


def test_every_stage_of_the_local_run_runs_in_the_workflow_too() -> None:
    stages = re.search(r"^for stage in (.+); do$", (CI / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert stages is not None
    commands = {step["run"] for step in steps() if "run" in step}
    assert commands == {f"bash .ci/{stage}" for stage in stages[1].split()}


@pytest.mark.parametrize("name", ["ci.yml", "audit.yml"])
def test_every_step_runs_in_the_same_shell_on_every_system(name: str) -> None:
    assert all(step["shell"] == "bash" for step in steps(name) if "run" in step)


@on_posix
@pytest.mark.parametrize("name", ["ci.yml", "audit.yml"])
def test_the_commands_of_every_step_are_valid_shell(name: str) -> None:
    for step in steps(name):
        if "run" in step:
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


@on_posix
@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_every_script_is_valid_shell(script: Any) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_no_other_workflow_goes_unread() -> None:
    assert [path.name for path in WORKFLOWS] == ["audit.yml", "ci.yml"]


def test_the_audit_may_write_issues_and_nothing_else() -> None:
    assert workflow("audit.yml")["permissions"] == {"contents": "read"}
    (job,) = workflow("audit.yml")["jobs"].values()
    assert job["permissions"] == {"contents": "read", "issues": "write"}


def test_no_command_of_the_audit_has_text_of_others_pasted_into_it() -> None:
    assert not any("${{" in step["run"] for step in steps("audit.yml") if "run" in step)


def test_the_extras_together_are_those_of_the_backends() -> None:
    extras = PROJECT["optional-dependencies"]
    backends = set(extras) - {"all", "completion", "dev", "test"}
    assert backends == {"bnb", "torchao", "quanto", "gguf", "modelopt"}
    assert set().union(*(Requirement(line).extras for line in extras["all"])) == backends


def test_every_backend_comes_with_the_libraries_that_it_runs_in() -> None:
    for extra in ("bnb", "torchao", "quanto", "gguf", "modelopt"):
        names = {Requirement(line).name for line in PROJECT["optional-dependencies"][extra]}
        assert {"accelerate", "diffusers", "torch", "transformers"} < names


def test_the_tests_pin_torch_exactly() -> None:
    pins = [line for line in PROJECT["optional-dependencies"]["test"] if Requirement(line).name == "torch"]
    assert pins == ["torch==2.13.0"]
