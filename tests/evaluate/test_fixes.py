"""Fixes run as printed: the right words reach the right program, and nothing else runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from support import HEADER, book, evaluate, gpu, machine, row, without_gpu

from envguard.fixes import contradict, merge, narrow, newest_run, quote
from envguard.model import BackendReport, Environment, Fix
from envguard.rulebook import RuleBook
from envguard.versions import Clause, parse_clauses, parse_wanted

OLD = row("torchao/version", {"distribution": "torchao>=1.0,<2"}, fix={"install": ["torchao[extra]>=1.0"]})
STRAY = row("torchao/stray", {"distribution": "torchao>=1.0"}, fix={"uninstall": ["torchao-fork", "torchao_old"]})
NEEDS_TORCH = row("torch/build", {"torch_build": "accelerator"}, fix={"torch": "accelerator"})
MASKED = row("platform/visible", {"variable": {"name": "X", "value": ["1"]}}, fix={"unset": ["X", "Y"]})
BUILDS = {
    "2.9.0": {"cuda": "12.8", "architectures": ["sm_70", "sm_80", "sm_90"]},
    "2.10.0": {"cuda": "12.8", "architectures": ["sm_70", "sm_80", "sm_90"]},
    "2.11.0": {"cuda": "13.0", "architectures": ["sm_75", "sm_80", "sm_90"]},
}
DRIVER = row(
    "torch/driver",
    {"driver_for_cuda": {"12": "525.60.13", "13": "580.65.06"}},
    fix={"torch": "accelerator", "text": "Or so."},
)


def python(**facts: Any) -> dict[str, Any]:
    """The facts about Python of a machine, some changed."""
    return {**machine()["python"], **facts}


def on(**facts: Any) -> dict[str, Any]:
    return machine(python=python(**facts))


def fix(rule: dict[str, Any], data: dict[str, Any], **more: Any) -> Fix:
    """The fix of one unmet rule."""
    (outcome,) = evaluate(book(rule, **more), data).outcomes
    assert outcome.status == "unmet"
    assert outcome.fix is not None
    return outcome.fix


def words(command: str) -> list[str]:
    """The words that a POSIX shell makes of a command, with a harmless program in place of the first one."""
    script = 'printf "%s\\0" ' + command
    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}, timeout=10
    )
    assert done.stderr == b""
    return os.fsdecode(done.stdout).split("\0")[:-1]


posix = pytest.mark.skipif(not shutil.which("sh") or os.name == "nt", reason="needs a POSIX shell")

# Quoting

PATHS = [
    "/usr/bin/python3",
    "/home/a user/venv/bin/python",
    "/opt/it's/python",
    '/opt/"quoted"/python',
    "/opt/$HOME/`whoami`/$(whoami)/python",
    "/opt/a;b&c|d>e<f/python",
    "/opt/*/[a-z]?/~/{a,b}/python",
    "/opt/ünïcödé/日本語/🐍/python",
    "/opt/back\\slash/python",
    "/opt/#comment/!history/python",
    "~/python",
    "C=D",
]


@pytest.mark.parametrize(
    ("fits", "run"),
    [
        ({"1": True, "2": False, "3": True, "4": True, "5": False}, ("3", "4")),
        ({"1": True, "2": None, "3": True}, ("3",)),
        ({"1": True, "2": True}, ("1", "2")),
        ({"1": False, "2": None}, ()),
        ({}, ()),
    ],
)
def test_the_newest_run_ends_before_what_is_not_known_to_fit(
    fits: dict[str, bool | None], run: tuple[str, ...]
) -> None:
    assert newest_run(fits) == run


@posix
@pytest.mark.parametrize("path", PATHS)
def test_the_inspected_interpreter_is_one_word_whatever_its_path(path: str) -> None:
    (command,) = fix(OLD, on(executable=path)).commands
    expected = [path, "-m", "pip", "install", "torchao[extra]>=1.0,<2"]
    assert words(command) == expected
    assert shlex.split(command) == expected


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@posix
@given(
    TEXT | st.lists(st.sampled_from(list("'\"\\$`;&|<>(){}[]*?!#~%= \t\n-ab/é")), min_size=1, max_size=12).map("".join)
)
@example("$(touch injected)")
@example("'; touch injected; '")
@example("a\nb")
@example("-c")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_path_makes_a_shell_run_anything_else(path: str) -> None:
    for command in fix(OLD, on(executable=path)).commands:
        assert words(command)[0] == path
        assert words(command)[1:] == ["-m", "pip", "install", "torchao[extra]>=1.0,<2"]


@posix
@given(TEXT)
@settings(max_examples=30, deadline=None)
def test_a_quoted_word_is_read_back_as_it_was(word: str) -> None:
    assert words(quote(word, windows=False)) == [word]


@pytest.mark.parametrize("word", ["C=D", "", "~", "a b", "a*"])
def test_what_a_shell_would_not_take_for_a_plain_word_is_quoted(word: str) -> None:
    """In the first place, C=D would set a variable."""
    assert quote(word, windows=False) == f"'{word}'"


@posix
@pytest.mark.parametrize("place", ["a b", "$HOME", "x;touch injected;"])
def test_a_command_as_printed_starts_the_inspected_interpreter_with_its_arguments(tmp_path: Path, place: str) -> None:
    """A script in the interpreter's place writes down what it was given."""
    folder = tmp_path / place
    folder.mkdir()
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" > "{tmp_path}/given"\n')
    script.chmod(0o755)
    (command,) = fix(OLD, on(executable=str(script))).commands
    subprocess.run(["/bin/sh", "-c", command], check=True, cwd=tmp_path, timeout=10)
    assert (tmp_path / "given").read_text().splitlines() == [
        str(script),
        "-m",
        "pip",
        "install",
        "torchao[extra]>=1.0,<2",
    ]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["given", place])


@pytest.mark.parametrize("path", ["/opt/line\nbreak/python", "/opt/\x1b[31m/python", "/opt/half\udcff/python", "-c"])
def test_a_path_that_no_command_should_carry_gives_words_instead(path: str) -> None:
    for rule in (OLD, STRAY, NEEDS_TORCH):
        told = fix(rule, machine(python=python(executable=path), torch_build={"version": "2.10.0+cpu"}))
        assert told.commands == ()
        assert "the interpreter's path holds characters that no shell command should carry" in told.text.lower()


def test_what_the_rules_leave_no_release_for_is_said_and_not_printed_as_a_command() -> None:
    newer = row("torchao/newer", {"distribution": "torchao>=3.0"}, severity="info", fix={"install": ["torchao>=3.0"]})
    report = evaluate(book(OLD, newer), machine(distributions={"torchao": {"version": "1.5"}}))
    (outcome,) = [each for each in report.outcomes if each.status == "unmet"]
    assert outcome.fix is not None
    assert outcome.fix.commands == ()
    assert outcome.fix.text == (
        "Install torchao>=3.0. No release is torchao>=3.0 and what other rules ask for here: torchao>=1.0,<2."
    )


@pytest.mark.parametrize(
    ("wanted", "none"),
    [
        ("x>=2,<1", True),
        ("x>=2,<2", True),
        ("x>2,<=2", True),
        ("x>=2,<=2", False),
        ("x==2,<2", True),
        ("x==2,>=2", False),
    ],
)
def test_bounds_that_leave_no_version_contradict(wanted: str, none: bool) -> None:
    assert contradict(parse_wanted(wanted).clauses) is none


WINDOWS = {"system": "Windows"}


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("C:\\Python311\\python.exe", 'C:\\Python311\\python.exe -m pip install "torchao[extra]>=1.0,<2"'),
        (
            "C:\\Program Files\\x\\python.exe",
            '"C:\\Program Files\\x\\python.exe" -m pip install "torchao[extra]>=1.0,<2"',
        ),
        ("C:\\a&b\\python.exe", '"C:\\a&b\\python.exe" -m pip install "torchao[extra]>=1.0,<2"'),
        ("C:\\a=b,c;d\\python.exe", '"C:\\a=b,c;d\\python.exe" -m pip install "torchao[extra]>=1.0,<2"'),
        ("C:\\it's (1)\\python.exe", '"C:\\it\'s (1)\\python.exe" -m pip install "torchao[extra]>=1.0,<2"'),
        ("C:\\ünï\\python.exe", '"C:\\ünï\\python.exe" -m pip install "torchao[extra]>=1.0,<2"'),
    ],
)
def test_windows_has_quotes_of_its_own(path: str, command: str) -> None:
    data = machine(python=python(executable=path), host=WINDOWS)
    assert fix(OLD, data).commands == (command,)


@pytest.mark.parametrize(
    "path",
    [
        "C:\\%TEMP%\\python.exe",
        'C:\\a"b\\python.exe',
        "C:\\$x\\python.exe",
        "C:\\`x\\python.exe",
        "C:\\!x!\\python.exe",
    ],
)
def test_what_windows_shells_expand_inside_quotes_is_in_no_command(path: str) -> None:
    assert fix(OLD, machine(python=python(executable=path), host=WINDOWS)).commands == ()


def test_a_version_is_quoted_so_that_no_shell_redirects_it() -> None:
    assert fix(OLD, on()).commands == ("/home/user/venv/bin/python -m pip install 'torchao[extra]>=1.0,<2'",)


# Which command


def test_an_interpreter_that_was_not_observed_is_the_one_on_path() -> None:
    data = machine()
    del data["python"]
    assert fix(OLD, data).commands == ("python3 -m pip install 'torchao[extra]>=1.0,<2'",)
    assert fix(OLD, {**data, "host": WINDOWS}).commands == ('python -m pip install "torchao[extra]>=1.0,<2"',)


def test_without_pip_the_command_uses_uv_and_says_so() -> None:
    told = fix(OLD, on(pip=None))
    assert told.commands == ("uv pip install --python /home/user/venv/bin/python 'torchao[extra]>=1.0,<2'",)
    assert "no pip" in told.text
    assert fix(STRAY, on(pip=None)).commands == (
        "uv pip uninstall --python /home/user/venv/bin/python torchao-fork torchao_old",
    )


def test_a_pip_that_was_not_looked_for_is_taken_for_granted() -> None:
    data = on()
    del data["python"]["pip"]
    assert fix(OLD, data).commands == ("/home/user/venv/bin/python -m pip install 'torchao[extra]>=1.0,<2'",)


SYSTEM = {"executable": "/usr/bin/python3", "virtual_environment": False}


@pytest.mark.parametrize(
    ("facts", "note"),
    [
        ({**SYSTEM, "externally_managed": True}, "PEP 668"),
        ({**SYSTEM, "writable": False}, "cannot be written"),
        ({**SYSTEM, "externally_managed": True, "writable": False, "pip": None}, "PEP 668"),
    ],
)
def test_an_environment_that_may_not_be_changed_gets_one_of_its_own(facts: dict[str, Any], note: str) -> None:
    told = fix(OLD, on(**facts))
    assert told.commands == (
        "/usr/bin/python3 -m venv --system-site-packages .venv",
        ".venv/bin/python -m pip install 'torchao[extra]>=1.0,<2'",
    )
    assert note in told.text
    windows = fix(OLD, machine(python=python(**facts), host=WINDOWS)).commands
    assert windows[1] == '.venv\\Scripts\\python.exe -m pip install "torchao[extra]>=1.0,<2"'


def test_a_virtual_environment_of_a_managed_python_is_changed_in_place() -> None:
    data = on(externally_managed=True, virtual_environment=True)
    assert fix(OLD, data).commands == ("/home/user/venv/bin/python -m pip install 'torchao[extra]>=1.0,<2'",)


@pytest.mark.parametrize("pip", ["25.3", None])
def test_a_conda_environment_is_changed_through_its_own_interpreter(pip: str | None) -> None:
    data = on(
        executable="/opt/conda/envs/ai/bin/python",
        conda_prefix="/opt/conda/envs/ai",
        virtual_environment=False,
        pip=pip,
    )
    (command,) = fix(OLD, data).commands
    assert "/opt/conda/envs/ai/bin/python" in command


@pytest.mark.parametrize(("name", "value"), [("PIP_NO_INDEX", "1"), ("PIP_NO_INDEX", "true"), ("UV_OFFLINE", "1")])
def test_offline_no_command_installs_and_the_text_says_why(name: str, value: str) -> None:
    data = machine(environment_variables={name: value}, torch_build={"version": "2.10.0+cpu", "cuda": None})
    for rule in (OLD, NEEDS_TORCH):
        told = fix(rule, data, torch_builds=BUILDS)
        assert told.commands == ()
        assert "work offline" in told.text
        assert "pip download" in told.text
    assert "Install torchao[extra]>=1.0,<2." in fix(OLD, data).text
    assert fix(STRAY, data).commands == ("/home/user/venv/bin/python -m pip uninstall --yes torchao-fork torchao_old",)


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off", "False"])
def test_a_variable_that_is_switched_off_does_not_mean_offline(value: str) -> None:
    assert fix(OLD, machine(environment_variables={"PIP_NO_INDEX": value, "UV_OFFLINE": None})).commands


# Words


@pytest.mark.parametrize(
    ("template", "text", "commands"),
    [
        ({"install": ["torchao>=1"]}, "Install torchao>=1.", 1),
        ({"uninstall": ["a", "b"]}, "Uninstall a, b.", 1),
        ({"unset": ["X", "Y"]}, "Unset X, Y.", 2),
        ({"text": "Reboot."}, "Reboot.", 0),
        ({"text": "Reboot.", "install": ["torchao>=1"]}, "Reboot.", 1),
        ({"uninstall": ["a"], "install": ["torchao>=1"]}, "Uninstall a. Install torchao>=1.", 2),
    ],
)
def test_a_fix_always_has_words(template: dict[str, Any], text: str, commands: int) -> None:
    told = fix(row("torchao/it", {"device": ["mps"]}, fix=template), machine())
    assert (told.text, len(told.commands)) == (text, commands)


@posix
def test_variables_are_unset_in_the_shell_of_the_system() -> None:
    assert fix(MASKED, machine(environment_variables={"X": "0"})).commands == ("unset X", "unset Y")
    assert fix(MASKED, machine(host=WINDOWS, environment_variables={"X": "0"})).commands == ("set X=", "set Y=")


def test_what_is_uninstalled_comes_before_what_is_installed() -> None:
    both = row("torchao/it", {"device": ["mps"]}, fix={"install": ["torchao>=1"], "uninstall": ["torchao-fork"]})
    first, second = fix(both, machine()).commands
    assert first.endswith("pip uninstall --yes torchao-fork")
    assert second.endswith("pip install 'torchao>=1'")


# Requirements that have to hold together


def test_a_fix_meets_every_rule_that_applies() -> None:
    rules = [
        row("torchao/version", {"distribution": "torchao>=0.20"}, fix={"install": ["torchao>=0.20"]}),
        row("diffusers/torchao", {"distribution": "torchao>=0.25.0"}, when={"release": {"diffusers": ">=0.38"}}),
        row("torchao/ceiling", {"distribution": "torchao<1"}),
        row("torchao/other", {"distribution": "torchao>=9"}, when={"operation": ["load"]}),
        row("torchao/advice", {"distribution": "torchao>=0.90"}, "warning"),
    ]
    report = evaluate(rules, machine())
    fixes = {o.rule: o.fix.commands for o in report.outcomes if o.fix and o.fix.commands}
    assert fixes["torchao/version"] == ("/home/user/venv/bin/python -m pip install 'torchao>=0.25.0,<1'",)


@pytest.mark.parametrize(
    ("parts", "merged"),
    [
        ([">=0.7.0", ">=0.15.0"], ">=0.15.0"),
        ([">=0.15.0", ">=0.7.0", "<1", "<0.18"], ">=0.15.0,<0.18"),
        ([">=1.0", ">1.0"], ">1.0"),
        (["<2", "<=2"], "<2"),
        ([">=1.0", ">=1.0.0"], ">=1.0.0"),
        ([">=2.6", "==2.11.0"], "==2.11.0"),
        ([">=2.12", "==2.11.0"], "==2.11.0,>=2.12"),
        ([">=1.4.5", "==1.4.*"], "==1.4.*,>=1.4.5"),
        (["!=1.5", ">=1.0", "!=1.5"], "!=1.5,>=1.0"),
        ([], ""),
    ],
)
def test_bounds_that_another_one_implies_are_left_out(parts: list[str], merged: str) -> None:
    assert narrow(tuple(clause for part in parts for clause in parse_clauses(part))) == merged


BOUND = st.from_regex(r"[0-2]\.[0-2]((a|rc)[0-1])?(\.post[0-1])?(\.dev[0-1])?", fullmatch=True)
CLAUSE = st.builds(Clause, st.sampled_from([">=", "<=", ">", "<", "==", "!="]), BOUND) | st.builds(
    Clause, st.sampled_from(["==", "!="]), st.from_regex(r"[0-2]\.\*", fullmatch=True)
)
VERSION = st.from_regex(r"[0-3]\.[0-2](\.[0-1])?((a|rc)[0-1])?(\.post[0-1])?(\.dev[0-1])?(\+cu[0-1])?", fullmatch=True)


@given(st.lists(CLAUSE, max_size=5), st.lists(VERSION, min_size=1, max_size=20))
@example([Clause(">", "1.0"), Clause(">=", "1.0.post1")], ["1.0.post1"])
@example([Clause("<", "2.0"), Clause("<=", "2.0rc1")], ["2.0rc1"])
@example([Clause("==", "1.*"), Clause(">=", "1.2")], ["1.1"])
@settings(max_examples=300)
def test_a_version_meets_the_merged_specifier_exactly_where_it_meets_every_part(
    clauses: list[Clause], versions: list[str]
) -> None:
    merged = SpecifierSet(narrow(tuple(clauses)))
    for version in versions:
        parts = all(SpecifierSet(each.operator + each.version).contains(version, prereleases=True) for each in clauses)
        assert merged.contains(version, prereleases=True) is parts, f"{version} in {merged}"


NAMES = st.sampled_from(["torchao", "Nvidia_Modelopt", "nvidia-modelopt[hf]", "nvidia.modelopt[onnx,hf]", "torch"])
WANTED = st.builds(
    lambda name, clauses: f"{name}{','.join(c.operator + c.version for c in clauses)}",
    NAMES,
    st.lists(CLAUSE, max_size=2),
)


@given(
    st.lists(WANTED, max_size=4),
    st.dictionaries(st.sampled_from(["torchao", "torch", "other"]), st.lists(CLAUSE, max_size=2)),
)
def test_merged_requirements_name_each_distribution_once_with_all_its_extras(
    texts: list[str], constraints: dict[str, list[Clause]]
) -> None:
    wanted = [parse_wanted(text) for text in texts]
    merged = [parse_wanted(text) for text in merge(wanted, {name: tuple(its) for name, its in constraints.items()})]
    assert [each.name for each in merged] == list(dict.fromkeys(each.name for each in wanted))
    for each in merged:
        assert set(each.extras) == {extra for one in wanted if one.name == each.name for extra in one.extras}
        try:
            SpecifierSet(",".join(clause.operator + clause.version for clause in each.clauses))
        except InvalidSpecifier:
            pytest.fail(f"{each.text} is no requirement")


# torch


def commands(report: BackendReport, rule: str) -> tuple[str, ...]:
    (outcome,) = [each for each in report.outcomes if each.rule == rule]
    assert outcome.fix is not None
    return outcome.fix.commands


CPU_BUILD = {"version": "2.10.0+cpu", "cuda": None, "hip": None, "xpu": None}
OLD_DRIVER = {"nvidia": "570.86.10", "cuda": "12.8", "nvidia_status": "ok", "nvidia_devices": 1}
NEW_DRIVER = {"nvidia": "580.95.05", "cuda": "13.0", "nvidia_status": "ok", "nvidia_devices": 1}


def torch_rules() -> RuleBook:
    return book(
        NEEDS_TORCH,
        DRIVER,
        torch_builds=BUILDS,
        releases={"torch": list(BUILDS), "torchao": ["0.18.0", "1.2.0", "2.0.0"]},
    )


def test_a_cpu_build_is_replaced_by_the_same_release_where_that_runs_here() -> None:
    for driver in (OLD_DRIVER, NEW_DRIVER):
        report = evaluate(torch_rules(), machine(torch_build=CPU_BUILD, drivers=driver))
        removal, command = commands(report, "torch/build")
        assert shlex.split(removal)[-3:] == ["uninstall", "--yes", "torch"]
        assert "torch==2.10.0" in shlex.split(command)
        assert "--force-reinstall" not in command  # it would fetch all that torch needs anew, in other versions


def test_a_torch_that_the_driver_cannot_run_is_replaced_by_the_newest_that_it_can() -> None:
    listed = {"torch": {"version": "2.11.0"}, "torchao": {"version": "0.18.0"}}
    build = {"version": "2.11.0+cu130", "cuda": "13.0", "hip": None, "xpu": None}
    report = evaluate(torch_rules(), machine(distributions=listed, torch_build=build, drivers=OLD_DRIVER))
    (command,) = commands(report, "torch/driver")
    assert command.endswith("pip install 'torch<2.11.0'")
    assert report.plan is not None
    assert report.plan.resolves == ("torch/driver",)
    assert report.plan.commands == (command,)


def test_where_no_torch_fits_the_words_say_what_to_do() -> None:
    driver = {**OLD_DRIVER, "nvidia": "470.256.02", "cuda": "11.4"}
    report = evaluate(
        torch_rules(), machine(torch_build=CPU_BUILD, drivers=driver, accelerators=[gpu(capability="3.5")])
    )
    (outcome,) = [each for each in report.outcomes if each.rule == "torch/build"]
    assert outcome.fix is not None
    assert outcome.fix.commands == ()
    assert "update the NVIDIA driver" in outcome.fix.text


WITHOUT_TORCH = row("torch/installed", {"distribution": "torch"}, fix={"torch": "accelerator"})


@pytest.mark.parametrize(
    ("host", "floor", "words", "wanted"),
    [
        ({"system": "Linux", "machine": "x86_64", "libc": "glibc 2.36"}, "2.0", "Install torch", "torch>=2.0"),
        ({"system": "Linux", "machine": "x86_64", "libc": "musl 1.2.5"}, "2.0", "no wheels for musl", None),
        ({"system": "Darwin", "machine": "x86_64"}, "2.0", "the last torch", "torch==2.2.2"),
        ({"system": "Darwin", "machine": "x86_64"}, "2.4", "The last torch with wheels for Intel Macs", None),
        ({"system": "Darwin", "machine": "arm64"}, "2.4", "Install torch>=2.4; its macOS build", "torch>=2.4"),
    ],
)
def test_no_torch_is_named_for_a_system_that_has_no_wheel_of_it(
    host: dict[str, str], floor: str, words: str, wanted: str | None
) -> None:
    asked = row("torch/version", {"distribution": f"torch>={floor}"}, fix={"torch": "accelerator"})
    here = machine(host=host, distributions={}, accelerators=[], drivers={"nvidia_status": "absent"})
    report = evaluate(book(WITHOUT_TORCH, asked), here)
    outcome = next(each for each in report.outcomes if each.rule == "torch/installed")
    assert outcome.fix is not None
    assert words in outcome.fix.text
    assert [shlex.split(each)[-1] for each in outcome.fix.commands] == ([] if wanted is None else [wanted])


# Plans


PLANNED = [
    row("torchao/installed", {"distribution": "torchao"}, fix={"install": ["torchao>=0.7.0"]}),
    row(
        "torchao/version",
        {"distribution": "torchao>=0.15"},
        after=["torchao/installed"],
        fix={"install": ["torchao>=0.15"]},
    ),
    row("torchao/accelerate", {"distribution": "accelerate>=1"}, fix={"install": ["accelerate>=1"]}),
    row(
        "torchao/requirements",
        {"requirements": "torchao"},
        after=["torchao/installed"],
        fix={"install": ["torchao>=0.7"]},
    ),
    row("torchao/fork", {"owner": "torchao"}, after=["torchao/installed"], fix={"uninstall": ["torchao-fork"]}),
    row("platform/gpu", {"accelerator": ["cuda"]}, fix={"text": "Use a GPU."}),
]
RELEASES = {"torchao": ["0.7.0", "0.14.1", "0.15.0", "0.18.0"], "accelerate": ["0.26.0", "1.12.0"]}


def planned(data: dict[str, Any], **header: Any) -> BackendReport:
    return evaluate(book(*PLANNED, header={**HEADER, **header}, releases=RELEASES), data)


def test_a_missing_backend_has_its_install_line() -> None:
    report = planned(machine(distributions={}), install=["torchao>=0.7.0", "accelerate>=0.26.0"])
    assert report.plan is not None
    assert report.plan.commands == ("/home/user/venv/bin/python -m pip install 'torchao>=0.15' 'accelerate>=1'",)
    assert report.plan.resolves == ("torchao/installed", "torchao/accelerate")
    assert report.plan.unsolved == ()


def test_a_plan_mends_all_failing_package_rules_at_once_and_tells_what_is_left() -> None:
    listed = {"torchao": {"version": "0.14.1", "requires": []}, "accelerate": {"version": "0.26.0"}}
    report = planned(machine(distributions=listed, accelerators=[]))
    assert report.plan is not None
    assert report.plan.commands == ("/home/user/venv/bin/python -m pip install 'torchao>=0.15' 'accelerate>=1'",)
    assert report.plan.resolves == ("torchao/version", "torchao/accelerate")
    assert report.plan.unsolved == ("platform/gpu",)


def test_there_is_no_plan_where_no_package_helps_or_nothing_is_wrong() -> None:
    assert planned(without_gpu()).plan is None
    assert planned(machine()).plan is None


def test_there_is_no_plan_offline() -> None:
    assert planned(machine(distributions={}, environment_variables={"PIP_NO_INDEX": "1"})).plan is None


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "torchao": st.sampled_from([None, "0.6.0", "0.14.1", "0.15.0", "0.18.0"]),
            "accelerate": st.sampled_from([None, "0.25.0", "1.12.0"]),
        },
    ),
    st.booleans(),
    st.sampled_from([{}, {"pip": None}, {**SYSTEM, "externally_managed": True}]),
)
def test_applying_a_plan_resolves_what_it_says(
    versions: dict[str, str | None], has_gpu: bool, facts: dict[str, Any]
) -> None:
    """The rules are asked again about an environment in which the plan's own words hold."""
    listed = {
        name: None if version is None else {"version": version, "requires": []} for name, version in versions.items()
    }
    data = machine(distributions=listed, python=python(**facts), accelerators=[gpu()] if has_gpu else [])
    before = planned(data)
    failing = {o.rule for o in before.outcomes if (o.status, o.severity) == ("unmet", "error")}
    packages = failing & {"torchao/installed", "torchao/version", "torchao/accelerate"}
    assert (before.plan is not None) is bool(packages)
    if before.plan is not None:
        after = dict(listed)
        for word in shlex.split(before.plan.commands[-1]):
            if word.startswith(("torchao", "accelerate")):
                wanted = parse_wanted(word)
                fitting = [v for v in RELEASES[wanted.name] if SpecifierSet(word[len(wanted.name) :]).contains(v)]
                after[wanted.name] = {"version": fitting[-1], "requires": []}
        left = {
            o.rule
            for o in planned({**data, "distributions": after}).outcomes
            if (o.status, o.severity) == ("unmet", "error")
        }
        assert set(before.plan.resolves) == failing - left
        assert set(before.plan.unsolved) == left


def test_a_plan_is_made_without_touching_the_environment() -> None:
    data = machine(distributions={})
    environment, before = Environment(data), repr(data)
    from envguard.evaluate import Evaluator
    from envguard.model import Request

    Evaluator(book(*PLANNED, releases=RELEASES), Request("torchao")).evaluate(environment)
    assert repr(data) == before


PYTHONS = {"torchao": {"0.7.0": ">=3.9,<3.13", "0.15.0": ">=3.10"}}


@pytest.mark.parametrize(
    ("version", "python", "newest"),
    [
        (">=0.7.0", "3.12", "0.18.0"),
        (">=0.7.0,<0.15.0", "3.12", "0.14.1"),
        (">=0.7.0,<0.15.0", "3.13", None),
        (">=0.7.0,<0.15.0", None, "0.14.1"),
        (">=0.7.0", "3.9", "0.14.1"),
        (">=99", "3.9", "99"),
    ],
)
def test_the_newest_release_is_one_for_the_python(version: str, python: str | None, newest: str | None) -> None:
    rules = book(*PLANNED, releases=RELEASES, pythons=PYTHONS)
    clauses = parse_wanted(f"torchao{version}").clauses
    assert rules.newest("torchao", clauses, python) == newest
    assert rules.lacks("torchao", clauses, python) is (newest is None)


def test_what_no_release_for_the_python_meets_has_words_and_no_command() -> None:
    only = row("torchao/version", {"distribution": "torchao<0.15"}, fix={"install": ["torchao>=0.7.0,<0.15"]})
    rules = book(only, releases=RELEASES, pythons=PYTHONS)
    for version, can in (("3.12.3", True), ("3.13.1", False)):
        here = machine(distributions={"torchao": {"version": "0.18.0"}}, python=python(version=version))
        report = evaluate(rules, here)
        (outcome,) = report.outcomes
        assert outcome.fix is not None
        assert bool(outcome.fix.commands) is can
        assert (report.plan is not None) is can
        words = "No release that is torchao>=0.7.0,<0.15 is for Python 3.13: use another Python."
        assert outcome.fix.text.endswith(words) is not can
