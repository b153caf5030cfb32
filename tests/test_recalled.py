"""What a check came to is told again while every fact is the same, and only then."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from hypothesis import given, settings
from hypothesis import strategies as st
from installed_trees import install

from envguard import filechecks, recalled
from envguard.checks import check_in
from envguard.frozen import replace
from envguard.jsontext import parse
from envguard.model import DEVICE_KINDS, OPERATIONS, Environment, Report
from envguard.probes.interpreter import Interpreter, current
from envguard.probes.rule_facts import wanted_by
from envguard.probes.wanted import EVERYTHING, from_values, to_values
from envguard.recalled import Asked, check
from envguard.shipped import load

BOOK = load()
MACHINES = [Environment.from_json(file.read_bytes()) for file in (Path(__file__).parent / "machines").glob("*.json")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with gguf, and an envguard that was installed from a wheel, with a cache of its own."""
    monkeypatch.setenv("ENVGUARD_CACHE", "1")
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(recalled, "_release", lambda: "1.0")
    folder = tmp_path / "site-packages"
    folder.mkdir()
    install(folder, "gguf", "0.19.0", files={"gguf/__init__.py": ""}, requires=("numpy>=1.17",))
    return folder


def interpreter_of(site: Path) -> Interpreter:
    return replace(current(), path=(str(site),), purelib=str(site), current=False)


def checked(site: Path, asked: Asked | None = None) -> tuple[Report, bool]:
    """The report, and whether it was judged."""
    judged = []

    def rules() -> Any:
        judged.append(1)
        return BOOK

    return check(asked or Asked(("gguf",), "auto", "cpu", "quantize"), interpreter_of(site), rules), bool(judged)


def test_the_report_is_told_again_while_nothing_changes(site: Path) -> None:
    first, judged = checked(site)
    assert judged
    again, judged = checked(site)
    assert not judged
    assert again == first
    assert again.to_json() == first.to_json()
    assert str(again) == str(first)


CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "a package is installed": lambda site, _: install(site, "numpy", "2.4.6", files={"numpy/__init__.py": ""}),
    "the host is installed": lambda site, _: install(site, "transformers", "5.2.0", files={"transformers.py": ""}),
    "a release is another one": lambda site, _: install(site, "gguf", "0.9.1"),
    "a requirement is another one": lambda site, _: (site / "gguf-0.19.0.dist-info" / "METADATA").write_text(
        "Name: gguf\nVersion: 0.19.0\nRequires-Dist: nobody-has-it\n"
    ),
    "its files are gone": lambda site, _: (site / "gguf" / "__init__.py").unlink(),
    "a variable is set": lambda _, patch: patch.setenv("PIP_NO_INDEX", "1"),
    "another envguard": lambda _, patch: patch.setattr(recalled, "_release", lambda: "2.0"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_is_judged_anew(
    site: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, pytest.MonkeyPatch], object]
) -> None:
    checked(site)
    change(site, monkeypatch)
    report, judged = checked(site)
    assert judged
    asked = {"host": "auto", "device": "cpu", "operation": "quantize"}
    assert report == check_in(BOOK, ["gguf"], None, lambda: interpreter_of(site), **asked)  # type: ignore[arg-type]
    assert checked(site) == (report, False)


def test_another_question_has_another_answer(site: Path) -> None:
    checked(site)
    asked = Asked(("gguf",), "auto", "cpu", "load")
    assert checked(site, asked)[1]
    assert checked(site, replace(asked, ignore=("gguf/version",)))[1]
    assert not checked(site, asked)[1]
    assert not checked(site)[1]


def test_with_rules_of_others_every_check_is_judged(site: Path, tmp_path: Path) -> None:
    asked = Asked(("gguf",), "auto", "cpu", "quantize", rules=(str(tmp_path),))
    assert checked(site, asked)[1]
    assert checked(site, asked)[1]


def test_with_a_package_that_ships_rules_every_check_is_judged(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x-packages" / "my_envguard-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "x-packages")])
    monkeypatch.delenv("ENVGUARD_ADDED_RULES", raising=False)
    assert checked(site)[1]
    assert checked(site)[1]


def test_a_checkout_judges_each_time(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalled, "_release", lambda: None)
    assert checked(site)[1]
    assert checked(site)[1]


@pytest.mark.parametrize("spoil", ["wanted", "host", "facts", "report"])
def test_what_is_broken_is_judged_anew(site: Path, tmp_path: Path, spoil: str) -> None:
    report, _ = checked(site)
    for file in (tmp_path / "envguard").iterdir():
        entry = json.loads(file.read_text())
        if "report" in entry["answer"]:
            entry["answer"][spoil] = [1]
            file.write_text(json.dumps(entry, separators=(",", ":")))
    assert checked(site) == (report, True)


def test_the_command_line_tells_the_same_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("check", "--backend", "gguf", "--python", sys.executable, "--format", "json")
    monkeypatch.chdir(site)
    first = run(*words)
    assert first.status in (0, 1)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("envguard.checks.examine", fail)
    assert run(*words) == first
    assert run("check", "--backend", "ggfu").refused().startswith("unknown backend 'ggfu'")
    assert run("check", "--backend", "gguf", "--ignore", "gguf/nothing").status == 2


def test_an_installed_release_is_told_by_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from envguard._version import __version__

    monkeypatch.setattr(recalled, "__file__", str(tmp_path / "envguard" / "recalled.py"))
    assert recalled._release() is None
    record = tmp_path / f"envguard_quant-{__version__}.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("one")
    first = recalled._release()
    assert first is not None
    assert recalled._release() == first
    record.write_text("another")
    assert recalled._release() != first


LOCK = """lock-version = "1.0"
created-by = "test"

[[packages]]
name = "gguf"
version = "0.19.0"
wheels = [{ url = "https://files.pythonhosted.org/gguf-0.19.0-py3-none-any.whl", hashes = { sha256 = "00" } }]
"""


def test_a_lock_is_judged_again_only_when_its_text_changes(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "pylock.toml"
    lock.write_text(LOCK)
    judged: list[int] = []
    real = filechecks.check_file

    def count(*args: Any, **kwargs: Any) -> Report:
        judged.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(filechecks, "check_file", count)
    words = ("check", "--lock", str(lock), "--backend", "gguf", "--format", "json", "--target")
    first = run(*words, "python=3.12,linux,x86_64")
    assert run(*words, "python=3.12,linux,x86_64") == first
    assert len(judged) == 1
    assert run(*words, "python=3.13,linux,x86_64") != first
    assert len(judged) == 2
    lock.write_text(LOCK.replace("0.19.0", "0.18.0"))
    assert "0.18.0" in run(*words, "python=3.12,linux,x86_64").out
    assert len(judged) == 3
    lock.unlink()
    assert "No such file" in run(*words, "python=3.12,linux,x86_64").refused()


@given(st.sampled_from(MACHINES), st.sampled_from(["auto", "none"]), st.sampled_from(DEVICE_KINDS), st.data())
@settings(max_examples=60, deadline=None)
def test_a_report_survives_the_file(machine: Environment, host: str, device: str, data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(OPERATIONS))
    specs = data.draw(st.sampled_from([(), *((name,) for name in BOOK.backends)]))
    ignore = data.draw(st.lists(st.sampled_from(BOOK.ids()), max_size=3))
    asked: dict[str, Any] = {"host": host, "device": device, "operation": operation, "ignore": ignore}
    report = check_in(BOOK, specs, machine, None, **asked)
    assert recalled._report(parse(json.dumps(report))) == report


@given(st.sets(st.sampled_from(BOOK.rows())))
def test_what_is_wanted_survives_the_file(rules: set[Any]) -> None:
    wanted = wanted_by(rules)
    assert from_values(parse(json.dumps(to_values(wanted)))) == wanted
    assert from_values(parse(json.dumps(to_values(EVERYTHING)))) == EVERYTHING
