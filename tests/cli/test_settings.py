"""`[tool.envguard]` of pyproject.toml: found upwards, checked, and honoured by `envguard check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run, saved
from support import book, row, snapshot

from envguard import shipped
from envguard.rulebook import RuleBook
from envguard.settings import Settings, find

RULES = book(
    row("torchao/version", {"distribution": "torchao>=1.0"}),
    row("torchao/advice", {"distribution": "torchao>=2.0"}, "warning"),
)
OLD = snapshot(distributions={"torchao": {"version": "0.5"}})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder in which the process works, and two rules instead of those that ship."""
    monkeypatch.setattr(shipped, "_loaded", RULES)
    folder = tmp_path / "project" / "inside"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder.parent


def book_of_two(folders: tuple[str, ...] = ()) -> RuleBook:
    return RULES


def write(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text, "utf-8")


@pytest.mark.parametrize("format", ["text", "json", "jsonl"])
def test_an_error_that_a_project_ignores_stays_visible_and_degrades(project: Path, tmp_path: Path, format: str) -> None:
    write(project, '[tool.envguard]\nignore = ["torchao/version", "torchao/advice"]\n')
    check = ("check", "--backend", "torchao", "--snapshot", saved(tmp_path, OLD), "--format", format)
    done = run(*check)
    assert done.status == 0
    assert "torchao/version" in done.out
    assert "ignored" in done.out
    if format != "text":
        assert json.loads(done.out)["backends"][0]["verdict"] == "degraded"
    assert run(*check, "--strict").status == 1


def test_a_warning_that_is_ignored_has_no_effect(project: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, snapshot(distributions={"torchao": {"version": "1.5"}}))
    check = ("check", "--backend", "torchao", "--snapshot", path, "--strict")
    assert run(*check).status == 1
    write(project, '[tool.envguard]\nignore = ["torchao/advice"]\n')
    assert run(*check).status == 0


def test_the_command_line_adds_to_the_project(project: Path, tmp_path: Path) -> None:
    write(project, '[tool.envguard]\nignore = ["torchao/advice"]\n')
    check = ("check", "--backend", "torchao", "--snapshot", saved(tmp_path, OLD))
    assert run(*check).status == 1
    assert run(*check, "--ignore", "torchao/version").status == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[tool.envguard]\nignore = ["torchao/versoin"]', "tool.envguard.ignore: no rule has the id 'torchao/versoin'"),
        ('[tool.envguard]\nignore = ["torchao/versoin"]', "did you mean torchao/version"),
        ('[tool.envguard]\nignore = "torchao/version"', "tool.envguard.ignore: expected a list of rule ids"),
        ("[tool.envguard]\nignore = [1]", "tool.envguard.ignore: expected a list of rule ids"),
        (
            "[tool.envguard]\nignored = []",
            "tool.envguard.ignored: unknown key, expected backends, host",
        ),
        ("[tool]\nenvguard.ignore = 1", "tool.envguard.ignore: expected a list of rule ids"),
        ("[tool.envguard]\nbackends = 'bnb'", "tool.envguard.backends: expected a list of backends such as bnb:nf4"),
        ('[tool.envguard]\nbackends = ["torcha0"]', "tool.envguard.backends: unknown backend 'torcha0', did you mean"),
        ('[tool.envguard]\nbackends = ["torchao:int9"]', "tool.envguard.backends: unknown scheme 'int9' of torchao"),
        ('[tool.envguard]\nrequired = ["zzz"]', "tool.envguard.required: unknown backend 'zzz'"),
        ("[tool.envguard]\nrequired = true", "tool.envguard.required: expected a list of backends"),
        ('[tool.envguard]\nhost = ["none"]', "tool.envguard.host: expected auto, diffusers, transformers or none"),
        ('[tool.envguard]\nhost = "keras"', "tool.envguard.host: unknown host 'keras'"),
        ("[tool.envguard]\ndevice = 0", "tool.envguard.device: expected a device such as cuda or cpu"),
        ('[tool.envguard]\ndevice = "gpu"', "tool.envguard.device: unknown device 'gpu'"),
        ("[tool]\nenvguard = {host = 1}", "tool.envguard.host: expected auto"),
        ('tool = {envguard = {"no\\u001b" = 1}}', "tool.envguard.'no\\x1b': unknown key"),
        ("[[tool.envguard]]", "tool.envguard: expected a table"),
        ("[tool.envguard\n", "not TOML"),
    ],
)
def test_what_cannot_be_meant_is_one_line(project: Path, tmp_path: Path, text: str, message: str) -> None:
    write(project, text)
    done = run("check", "--backend", "torchao", "--snapshot", saved(tmp_path, OLD))
    assert done.status == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert message in done.err


@pytest.mark.parametrize(
    "text",
    ["", "[tool.ruff]\nline-length = 120\n", "[project]\nname = 'me'\ndependencies = ['envguard-quant']\n", "???"],
)
def test_a_project_without_the_table_ignores_nothing(project: Path, text: str) -> None:
    write(project, text)
    assert find(str(project / "inside"), book_of_two) is None


def test_the_nearest_file_alone_counts(project: Path) -> None:
    write(project, '[tool.envguard]\nignore = ["torchao/version"]\n')
    found = find(str(project / "inside"), book_of_two)
    assert found is not None
    assert found.ignore == ("torchao/version",)
    write(project / "inside", "[project]\nname = 'other'\n")
    assert find(str(project / "inside"), book_of_two) is None


def asked(*words: str) -> list[dict[str, str]]:
    """Backend, scheme, host and device of each request of a check."""
    done = run("check", *words, "--format", "json")
    names = ("backend", "scheme", "host", "device")
    return [{name: each[name] for name in names} for each in json.loads(done.out)["backends"]]


def test_a_project_says_what_is_asked_where_the_command_line_does_not(project: Path, tmp_path: Path) -> None:
    write(project, '[tool.envguard]\nbackends = ["ao:int8"]\nhost = "none"\ndevice = "cpu"\n')
    path = saved(tmp_path, OLD)
    made = {"backend": "torchao", "scheme": "int8", "host": "none", "device": "cpu"}
    assert asked("--snapshot", path) == [made]
    assert asked("--snapshot", path, "--device", "auto") == [{**made, "device": "auto"}]
    assert asked("--snapshot", path, "--host", "auto") == [{**made, "host": "diffusers"}]
    assert asked("--snapshot", path, "--backend", "torchao") == [{**made, "scheme": None}]


def test_the_backends_of_a_project_are_asked_for_and_no_survey(project: Path, tmp_path: Path) -> None:
    check = ("check", "--snapshot", saved(tmp_path, OLD))
    assert run(*check).status == 0
    write(project, '[tool.envguard]\nbackends = ["torchao"]\n')
    assert run(*check).status == 1


def test_the_table_is_found_however_toml_writes_it(project: Path) -> None:
    wanted = Settings(f"{project / 'pyproject.toml'}: tool.envguard", device="cpu")
    for text in (
        '[tool.envguard]\ndevice = "cpu"',
        '[ tool . "envguard" ]\ndevice = "cpu"',
        "[tool]\nenvguard.device = 'cpu'",
        "[tool]\n  envguard = { device = 'cpu' }",
        "tool.envguard.device = 'cpu'",
        "tool = { envguard = { device = 'cpu' } }",
    ):
        write(project, text)
        assert find(str(project), book_of_two) == wanted


def test_no_toml_is_parsed_where_the_table_is_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "[project]\ndependencies = [\n'envguard-quant',\n]\nnot toml")
    assert find(str(project), book_of_two) is None


def test_a_project_names_folders_of_rules_from_where_its_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.envguard]\nrules = ["mine"]\n', encoding="utf-8")
    for folder in ("mine", "inside"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mine" / "it.toml").write_text(
        '[[rule]]\nid = "a/b/c"\nneed = { driver = "working" }\nseverity = "info"\nkind = "advisory"\nwhy = "w"\n'
        'fix = { text = "t" }\norigin = "table"\nsource = "s 1"\nchecked = 2026-11-22\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path / "inside")
    assert "a/b/c" in run("rules").out
    assert "a/b/c" in run("explain", "a/b/c").out
    assert run("check", "--ignore", "a/b/c").err == ""
    (tmp_path / "mine" / "it.toml").write_text("[[rule", encoding="utf-8")
    assert "it.toml: not TOML" in run("check").refused()
