"""Every command block of the README runs, or says why it does not.

The two set-up commands are run by `.ci/tests` as they stand. The other shell blocks run here line by line, with the
`envguard` of the environment under test; Python blocks run as programs or with pytest.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import packaging
import pytest
import yaml
from packaging.version import Version
from project_files import ROOT, load_script

import envguard
from envguard.arguments import parser
from envguard.output.text import render
from envguard.settings import find
from envguard.shipped import load

readme = load_script("readme")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = readme.blocks(TEXT)
MARKS = re.compile(r"command: (main|tests)|not run: \S.*|run: pytest|run: backends|run: rules|output|")
BY_CI = ["main", "tests"]
SHELL = [block for block in BLOCKS if block.language == "sh" and not block.mark]
PROGRAMS = [block for block in BLOCKS if block.language == "python" and not block.mark]
RECIPES = [block for block in BLOCKS if block.language == "dockerfile" or block.text.startswith("jobs:")]
SUITES = [block for block in BLOCKS if block.mark == "run: pytest"]
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: needs its bash")


def line_of(block: Any) -> str:
    return f"line-{block.line}"


def environment() -> dict[str, str]:
    """This process's, with the scripts of the environment under test first on PATH."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTHONPATH")}
    return own | {"PATH": os.pathsep.join((sysconfig.get_path("scripts"), own.get("PATH", os.defpath)))}


def lay_out(folder: Path) -> None:
    """Put into a folder the files that the README's commands name."""
    shutil.copytree(Path(__file__).parent / "readme", folder, dirs_exist_ok=True)
    (folder / "my-rules").mkdir()
    (rules,) = [block.text for block in BLOCKS if block.mark == "run: rules"]
    (folder / "my-rules" / "cluster.toml").write_text(rules, encoding="utf-8")


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, encoding="utf-8", timeout=60, check=False
    )


def test_every_block_says_by_a_known_mark_who_runs_it() -> None:
    assert not [(block.line, block.mark) for block in BLOCKS if not MARKS.fullmatch(block.mark)]


def test_every_block_has_a_language_that_says_whether_it_runs() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "python", "text", "toml", "json", "yaml", "dockerfile"}


@pytest.mark.parametrize("name", BY_CI)
def test_a_set_up_command_is_one_line(name: str) -> None:
    assert len(readme.command(TEXT, name).splitlines()) == 1


def test_the_script_that_runs_the_set_up_commands_runs_both() -> None:
    script = (ROOT / ".ci" / "tests").read_text(encoding="utf-8")
    assert re.findall(r"^readme_command (\w+)$", script, re.MULTILINE) == BY_CI


def test_nobody_is_told_to_install_another_distribution() -> None:
    assert not re.search(r"pip install (-\S+ )*'?envguard(?!-quant)\b", TEXT)


@on_posix
@pytest.mark.parametrize("block", SHELL, ids=line_of)
def test_every_line_of_a_shell_block_runs(block: Any, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    lay_out(tmp_path)
    for line in block.text.splitlines():
        if "pylock.toml" in line and Version(packaging.__version__) < Version("26"):
            continue  # which has no packaging.pylock
        done = run([bash, "-c", line], tmp_path)
        # a check may find this machine wanting; nothing else may fail
        allowed = (0, 1, 3) if line.startswith("envguard check ") else (0,)
        assert done.returncode in allowed, f"{line}: exit status {done.returncode}\n{done.stderr}"
        assert done.stdout or "-o " in line or " > " in line, f"{line}: printed nothing"
        assert done.stderr == "", f"{line}: {done.stderr}"


@on_posix
@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "dockerfile" or b.text.startswith("jobs:")], ids=line_of
)
def test_what_a_recipe_runs_of_ours_runs(block: Any, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    lay_out(tmp_path)
    if block.language == "yaml":
        steps = [step for job in yaml.safe_load(block.text)["jobs"].values() for step in job["steps"]]
        lines = [step["run"] for step in steps if "run" in step]
    else:
        lines = [line.removeprefix("RUN ") for line in block.text.splitlines() if line.startswith("RUN ")]
    ours = [line for line in lines if line.startswith("envguard ")]
    assert ours
    for line in ours:
        done = run([bash, "-c", line], tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), f"{line}\n{done.stdout}{done.stderr}"


def test_the_picture_is_small_and_stands_alone() -> None:
    picture = ROOT / ".github" / "terminal.svg"
    assert picture.stat().st_size < 40_000
    text = picture.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert f"](.github/{picture.name})" in TEXT


def test_the_picture_shows_what_is_printed() -> None:
    def shown(svg: str) -> str:
        return "".join("".join(ElementTree.fromstring(svg).itertext()).partition("matrix")[2].split())

    spec = importlib.util.spec_from_file_location("maintain_picture", ROOT / "tests" / "maintain" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    assert shown(picture.PICTURE.read_text(encoding="utf-8")) == shown(picture.picture())


def test_the_output_that_the_readme_shows_is_printed() -> None:
    recorded = ROOT / "tests" / "machines" / "all-backends-cpu.json"
    machine = envguard.Environment.from_json(recorded.read_text(encoding="utf-8"))
    report = envguard.check("modelopt", device="cpu", environment=machine)
    said = render(report, color=False, width=80).replace("/home/user/all/", "/home/user/.venv/")
    (block,) = [each for each in BLOCKS if each.mark == "output" and "modelopt" in each.text]
    assert block.text.rstrip().splitlines()[1:] == said.rstrip().splitlines()[1:]


@pytest.mark.parametrize("block", PROGRAMS, ids=line_of)
def test_a_python_block_runs_as_a_program(block: Any, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block.text, encoding="utf-8")
    done = run([sys.executable, str(program)], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SUITES, ids=line_of)
def test_a_test_block_passes_or_skips(block: Any, tmp_path: Path) -> None:
    suite = tmp_path / "test_block.py"
    suite.write_text(block.text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n", encoding="utf-8")
    done = run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(suite)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_names_every_option_of_check_and_no_other() -> None:
    done = run([sys.executable, "-m", "envguard", "check", "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    offered = set(re.findall(r"--[a-z][a-z-]+", done.stdout)) - {"--help"}
    table = TEXT.partition("| option of `check` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)", table, re.MULTILINE)) == offered


def test_the_readme_names_every_option_of_the_pytest_plugin() -> None:
    done = run([sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"], ROOT)
    offered = set(re.findall(r"--envguard-[a-z]+", done.stdout))
    assert offered == set(re.findall(r"--envguard-[a-z]+", TEXT))


def test_the_settings_that_the_readme_shows_hold(tmp_path: Path) -> None:
    (text,) = [block.text for block in BLOCKS if "[tool.envguard]" in block.text]
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    lay_out(tmp_path)
    settings = find(str(tmp_path), load)
    assert settings is not None
    assert all(settings), "every key is shown"


def test_the_jobs_that_the_readme_shows_use_inputs_and_hooks_that_exist() -> None:
    shown = [yaml.safe_load(block.text) for block in BLOCKS if block.language == "yaml"]
    (steps,) = [each for each in shown if isinstance(each, list)]
    (config,) = [each for each in shown if "repos" in each]
    (used,) = [step for step in steps if "/.github/actions/envguard@" in step.get("uses", "")]
    action = yaml.safe_load((ROOT / ".github" / "actions" / "envguard" / "action.yml").read_text(encoding="utf-8"))
    assert set(used["with"]) <= set(action["inputs"])
    table = TEXT.partition("| input |")[2].partition("\n\n")[0]
    first_cells = "".join([line.split(" | ")[0] for line in table.splitlines()])
    assert set(re.findall(r"`([a-z-]+)`", first_cells)) == set(action["inputs"])
    hooks = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
    (hook,) = config["repos"][0]["hooks"]
    assert hook["id"] in hooks
    assert parser().parse_args(["check", *hook["args"]]).backend == ["bnb:nf4"]
