"""What cannot be used is refused: one line on standard error, exit status 2, nothing printed and nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import ENVIRON, SECONDS, Done, lines_of, run, saved, stream
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import gpu, snapshot

import envguard
from envguard import shipped

on_posix = pytest.mark.skipif(os.name == "nt", reason="only on POSIX: a script is no program on Windows")
GOOD = snapshot(distributions={}, distributions_complete=True)


# Names that nobody knows


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--backend", "bitsandbites"], "unknown backend 'bitsandbites', did you mean bitsandbytes?; known are "),
        (["--backend", "torch-ao"], "unknown backend 'torch-ao', did you mean torchao?"),
        (["--backend", "optimum_quant"], "did you mean optimum-quanto"),
        (["--backend", "bnb:nf5"], "unknown scheme 'nf5' of bitsandbytes, did you mean nf4?; known are nf4, fp4, int8"),
        (["--backend", "gguf:Q4_K_X"], "did you mean Q4_K"),
        (["--backend", "torchao:int8-weights-only"], "did you mean int8_weight_only"),
        (["--ignore", "gguf/instaled"], "no rule has the id 'gguf/instaled', did you mean gguf/installed"),
        (["--ignore", "nothing-like-it"], "no rule has the id 'nothing-like-it' (envguard rules lists them)"),
        (["--device", "cuda:x"], "unknown device 'cuda:x': expected one of auto, cuda, "),
        (["--device", "cuda:99999999"], "or an index as in cuda:0"),
        (["--device", "mps:0"], "unknown device 'mps:0'"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(words: list[str], expected: str) -> None:
    assert expected in run("check", *words).refused()


def test_a_rule_to_explain_is_looked_for_among_those_that_ship() -> None:
    assert "did you mean bitsandbytes/version" in run("explain", "bitsandbites/version").refused()
    assert "did you mean" not in run("explain", "x").refused()


# Interpreters


@pytest.mark.parametrize("command", ["check", "snapshot"])
def test_an_interpreter_that_is_not_there_is_refused(tmp_path: Path, command: str) -> None:
    assert "there is no such file" in run(command, "--python", str(tmp_path / "bin" / "python")).refused()
    assert "here or on PATH" in run(command, "--python", "python9.99").refused()
    assert "a folder without a Python" in run(command, "--python", str(tmp_path)).refused()
    assert "is not the name of an interpreter" in run(command, "--python", "").refused()


@on_posix
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!/bin/sh\nexit 0\n", "does not answer like a Python"),
        ("#!/bin/sh\necho 'line one\033[31m'; echo no; exit 3\n", "exits with status 3: no"),
        ("\x7fELF nonsense", "cannot be run on this machine"),
    ],
)
def test_a_program_that_is_no_python_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    program = tmp_path / "python"
    program.write_text(text)
    program.chmod(0o755)
    target = tmp_path / "it.json"
    assert expected in run("check", "--python", str(program)).refused()
    assert expected in run("snapshot", "--python", str(program), "-o", str(target)).refused()
    assert not target.exists()


@on_posix
def test_a_file_that_is_not_executable_is_refused(tmp_path: Path) -> None:
    assert "is not executable" in run("check", "--python", saved(tmp_path, "print()", "it.py")).refused()


def test_an_interpreter_and_a_snapshot_exclude_each_other(tmp_path: Path) -> None:
    both = ("--python", sys.executable, "--snapshot", saved(tmp_path, GOOD))
    assert "give one of them" in run("check", *both).refused()


# Snapshots


def torch(version: Any) -> dict[str, Any]:
    return snapshot(distributions={"torch": {"version": version}})


def test_a_snapshot_that_is_not_there_is_refused_before_another_is_judged(tmp_path: Path) -> None:
    done = run("check", "--snapshot", saved(tmp_path, GOOD), "--snapshot", str(tmp_path / "nowhere.json"))
    assert done.refused().endswith("nowhere.json: cannot be read: No such file or directory")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="only as an ordinary user: root reads all")
def test_a_snapshot_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, GOOD)
    Path(path).chmod(0)
    assert run("check", "--snapshot", path).refused().endswith("cannot be read: permission denied")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("nonsense", "not JSON: "),
        (json.dumps(GOOD) * 2, "not JSON: Extra data"),
        ([GOOD], "expected a JSON object, found array"),
        ({**GOOD, "schema": "snapshot/2"}, "/schema: expected 'envguard.snapshot/1', found 'snapshot/2'"),
        ({}, "/schema: expected 'envguard.snapshot/1', found no schema"),
        (snapshot(distributions=[]), "/distributions: expected an object, found array"),
        (snapshot(distributions={"torch": "2.0"}), "/distributions/torch: expected an object, found '2.0'"),
        (torch(2.1), "/distributions/torch/version: expected null or string, found 2.1"),
        (torch("1." * 500), "/distributions/torch/version: expected a version of at most 200 printable characters"),
        (torch("2.0\n\x1b[31mok"), "expected a version of at most 200 printable characters"),
        (snapshot(accelerators=[{"kind": "tpu"}]), "/accelerators/0/kind: expected one of cuda, "),
        (snapshot(host={"system": "Plan9"}), "/host/system: expected one of Darwin, Linux, Windows, found 'Plan9'"),
        ('{"schema":' * 100_000, "nested too deeply"),
    ],
    ids=lambda part: part[:40] if isinstance(part, str) else "",
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bad_snapshot_is_refused_with_its_place(tmp_path: Path, data: Any, expected: str, form: str) -> None:
    path = saved(tmp_path, data)
    line = run("check", "--snapshot", path, "--format", form).refused()
    assert line.startswith(f"{path}: ")
    assert expected in line
    given = data if isinstance(data, str) else json.dumps(data, indent=1)
    assert (
        run("check", "--snapshot", "-", "--format", form, given=given.encode()).refused().startswith("standard input: ")
    )


def test_bad_lines_of_a_stream_are_refused_one_by_one(tmp_path: Path) -> None:
    many = stream(tmp_path, "nonsense", "{}")
    done = run("check", "--snapshot", many)
    assert (done.status, done.out) == (2, "")
    assert [line.partition(": not")[0] for line in done.err.splitlines()] == [
        f"envguard: error: {many} line 1",
        f"envguard: error: {many} line 2: /schema: expected 'envguard.snapshot/1', found no schema",
    ]


# Any words, any bytes

MANY = 10_000_000
NASTY = [
    "\x1b[31m",
    "a\r\nb",
    "\u202eabc",
    "\x00",
    "half\udcff",
    "[bold]x[/]",
    "--",
    "-",
    "",
    " ",
    "𝟚",
    "%s%(x)s{}",
    "~",
    "@x",
]
OPTIONS = [
    "--backend",
    "--host",
    "--device",
    "--for",
    "--python",
    "--snapshot",
    "--format",
    "--ignore",
    "-o",
    "--output",
]
# Without a slash: some become the name of a file that is written.
WORDS = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=(), exclude_characters="/\\:"), max_size=12)
LINES = st.lists(
    st.sampled_from(["check", "snapshot", "explain", "rules", "--version", "--help", "--strict"])
    | st.sampled_from(OPTIONS)
    | st.tuples(st.sampled_from(OPTIONS), WORDS).map("=".join)
    | WORDS,
    max_size=5,
)


@given(LINES)
@example(["check", "--python", "\x00"])
@example(["check", "--snapshot", "\x00"])
@example(["snapshot", "-o", "nowhere/\x00"])
@example(["snapshot", "-o", ""])
@example(["check", "--device", "cuda:٣"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_no_words_give_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words, given=b"")
    assert done.status in (0, 1, 2, 3)
    if done.status == 2 and words:
        done.refused()


@pytest.mark.parametrize(
    "words",
    [
        ["check", "--backend"],
        ["check", "--backend", "bnb:{}"],
        ["check", "--host"],
        ["check", "--device"],
        ["check", "--device", "cuda:{}"],
        ["check", "--python"],
        ["check", "--snapshot"],
        ["check", "--ignore"],
        ["check"],
        ["explain"],
        ["rules", "--backend"],
        ["snapshot", "-o"],
        [],
    ],
    ids=" ".join,
)
def test_ten_megabytes_are_refused_in_a_line_that_can_be_read(words: list[str]) -> None:
    huge = "9\udcff" * (MANY // 2)
    filled = [word.format(huge) for word in words]
    line = run(*(filled if filled != words else [*words, huge])).refused()
    assert len(line) < 20_000


STRINGS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(NASTY)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)
RECORDS = JSON.map(json.dumps) | JSON.map(lambda value: json.dumps(snapshot(distributions=value, host=value)))


@given(st.lists(RECORDS | st.text(max_size=20), max_size=4), st.sampled_from(["text", "json", "jsonl"]))
@example(["\ufeff{}"], "jsonl")
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_stream_gives_a_traceback_or_moves_the_cursor(lines: list[str], form: str) -> None:
    done = run("check", "--snapshot", "-", "--format", form, given=lines_of(*lines).encode("utf-8", "surrogatepass"))
    assert done.status in (0, 2)
    for line in (*done.out.split("\n"), *done.err.split("\n")):
        assert line.isprintable()
        assert "fault of envguard" not in line


@given(st.binary(max_size=300))
@example(b"\xff\xfe\x00")
@example(b"\x80\x81")
def test_no_bytes_give_a_traceback(given: bytes) -> None:
    assert run("check", "--snapshot", "-", given=given).status == 2


HUGE: dict[str, dict[str, Any]] = {
    "a name": snapshot(distributions={"x" * MANY: {"version": "1"}}),
    "a device": snapshot(accelerators=[gpu(name="\x1b" * (MANY // 10))]),
    "a capability": snapshot(accelerators=[gpu(0, "9" * MANY)]),
    "a requirement": snapshot(distributions={"torchao": {"version": "0.18.0", "requires": ["(" * MANY]}}),
    "a reason": snapshot(unreadable={"/accelerators": "\u202e" * (MANY // 10)}),
    "an interpreter": snapshot(
        python={"executable": "'" * (MANY // 10)}, distributions={}, distributions_complete=True
    ),
    "a variable": snapshot(environment_variables={"CUDA_VISIBLE_DEVICES": "," * MANY}, accelerators=[]),
}


@pytest.mark.parametrize("what", HUGE)
def test_megabytes_of_a_fact_are_judged(what: str) -> None:
    done = run(
        "check", "--backend", "torchao", "--snapshot", "-", "--format", "jsonl", given=json.dumps(HUGE[what]).encode()
    )
    assert done.status in (1, 3)
    assert json.loads(done.out)["verdict"] in ("blocked", "undecided")
    assert done.err == ""


# A rules folder of a checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own: the package and the rules, without what a build leaves there."""
    folder = tmp_path_factory.mktemp("checkout")
    package = os.path.dirname(os.path.abspath(envguard.__file__))
    left = shutil.ignore_patterns("__pycache__", "_compiled.py", "_rules")
    shutil.copytree(package, folder / "envguard", ignore=left)
    (folder / "pyproject.toml").write_text('[project]\nname = "envguard-quant"\n')
    return folder


@pytest.fixture
def rules(checkout: Path) -> Path:
    """The rules folder of that checkout, as it ships."""
    shutil.rmtree(checkout / "rules", ignore_errors=True)
    shutil.copytree(shipped.rules_folder(), checkout / "rules")
    return checkout / "rules"


def in_checkout(checkout: Path, *command: str) -> Done:
    environ = {**ENVIRON, "PYTHONPATH": os.pathsep.join([str(checkout), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=checkout, env=environ, capture_output=True, timeout=SECONDS, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_the_rules_of_a_checkout_are_read(checkout: Path, rules: Path) -> None:
    text = (rules / "gguf.toml").read_text("utf-8")
    (rules / "gguf.toml").write_text(text.replace("gguf>=0.10.0", "gguf>=0.10.7"), encoding="utf-8")
    done = in_checkout(checkout, "-m", "envguard", "explain", "gguf/version")
    assert (done.status, done.err) == (0, "")
    assert "gguf>=0.10.7" in done.out


ROW = """
[[rule]]
id = "gguf/more"
need = { distribution = "gguf" }
severity = "error"
kind = "absent"
why = "It stops without it."
fix = { install = ["gguf"] }
origin = "baseline"
source = "gguf 0.19.0"
checked = 2026-11-22
"""


def spoil(rules: Path, row: str = ROW + "colour = 1\n") -> None:
    with (rules / "gguf.toml").open("ab") as file:
        file.write(row.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW + 'colour = "red"\n', "colour"),
        (ROW.replace('source = "gguf 0.19.0"\n', ""), "source"),
        (ROW.replace("checked = 2026-11-22\n", ""), "checked"),
        (ROW.replace('{ distribution = "gguf" }', "{}"), "need"),
        (ROW.replace('"error"', '"fatal"'), "severity"),
        (ROW + ROW, "gguf/more"),
        (ROW + 'after = ["gguf/nowhere"]\n', "gguf/nowhere"),
        (ROW.replace('= "gguf/more"', "= gguf"), ""),
        ("\udcff", ""),
    ],
    ids=["key", "source", "date", "need", "severity", "overlap", "prerequisite", "TOML", "UTF-8"],
)
def test_a_bad_row_of_a_checkout_is_one_line_with_its_file(
    checkout: Path, rules: Path, row: str, expected: str
) -> None:
    spoil(rules, row)
    line = in_checkout(checkout, "-m", "envguard", "check", "--backend", "torchao").refused()
    assert "gguf.toml" in line
    assert expected in line


@pytest.mark.parametrize(
    "words", [["check"], ["rules"], ["explain", "gguf/version"], ["snapshot"], ["--version"]], ids=" ".join
)
def test_no_command_works_with_bad_rules(checkout: Path, rules: Path, words: list[str]) -> None:
    spoil(rules)
    in_checkout(checkout, "-m", "envguard", *words).refused()


def test_bad_rules_are_a_value_error_in_python(checkout: Path, rules: Path) -> None:
    spoil(rules)
    code = "import envguard\ntry: envguard.available('gguf')\nexcept envguard.BadRules as error: print(error)"
    done = in_checkout(checkout, "-c", code)
    assert (done.status, done.err) == (0, "")
    assert "gguf.toml" in done.out


def test_a_checkout_without_rules_is_one_line(checkout: Path, rules: Path) -> None:
    shutil.rmtree(rules)
    assert "rules" in in_checkout(checkout, "-m", "envguard", "check").refused()
