"""`envguard check` of files: --lock, --requirements and --target."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import run, saved

FREEZE = """\
accelerate==1.15.0
bitsandbytes==0.50.2
diffusers==0.42.1
gguf==0.19.0
numpy==2.3.0
torch==2.11.0
torchao==0.18.0
transformers==5.20.0
"""
H100 = ("--target", "python=3.12,linux,x86_64,gpu=H100,driver=580.65.06")


def judged(*words: str) -> Any:
    done = run("check", "--format", "json", *words)
    assert done.err == ""
    return json.loads(done.out)


def freeze(folder: Path, text: str = FREEZE) -> str:
    return saved(folder, text, "freeze.txt")


def test_a_fine_lock_for_a_machine_that_was_told_is_ok(tmp_path: Path) -> None:
    done = run("check", "--lock", freeze(tmp_path), *H100, "--backend", "bnb:nf4", "--backend", "torchao")
    assert done.status == 0, done.out
    assert "bitsandbytes:nf4  0.50.2  ok" in done.out


@pytest.mark.parametrize(("torch", "fits"), [("2.9.1", False), ("2.11.0", True)])
def test_two_releases_that_do_not_fit_are_told_from_a_lock(tmp_path: Path, torch: str, fits: bool) -> None:
    lines = [f"torch=={torch}" if line.startswith("torch==") else line for line in FREEZE.splitlines()]
    (backend,) = judged("--lock", freeze(tmp_path, "\n".join(lines)), *H100, "--backend", "torchao")["backends"]
    (outcome,) = [each for each in backend["outcomes"] if each["rule"] == "torchao/torch"]
    assert outcome["status"] == ("met" if fits else "unmet")
    assert (backend["verdict"] != "blocked") is fits


def test_a_report_says_what_was_judged_and_what_was_not_asked(tmp_path: Path) -> None:
    path = freeze(tmp_path)
    report = judged("--lock", path, *H100, "--backend", "bnb:nf4")
    assert report["subject"] == f"{path} for python=3.12, linux, x86_64, gpu=H100, driver=580.65.06"
    assert {"bitsandbytes/import-owner", "bitsandbytes/requirements"} <= set(report["not_asked"])
    asked = {outcome["rule"] for outcome in report["backends"][0]["outcomes"]}
    assert not asked & set(report["not_asked"])
    told = run("check", "--lock", path, *H100, "--backend", "bnb:nf4").out
    assert re.search(r"not asked: \d+ rules that only the machine can tell", told)


def test_without_a_target_the_machine_is_undecided_and_the_report_says_how_to_tell_it(tmp_path: Path) -> None:
    done = run("check", "--lock", freeze(tmp_path), "--backend", "bnb:nf4")
    assert done.status == 3
    assert "--target gpu=sm_89" in done.out
    assert run("check", "--lock", freeze(tmp_path), "--backend", "bnb:nf4", "--allow-undecided").status == 0


def test_what_a_lock_leaves_out_is_absent(tmp_path: Path) -> None:
    done = run("check", "--lock", freeze(tmp_path, FREEZE.replace("bitsandbytes", "x")), *H100, "--backend", "bnb")
    assert done.status == 1
    assert "bitsandbytes is not installed" in done.out
    assert "pip install" not in done.out.partition("error: bitsandbytes/installed")[2].partition("source")[0]


def test_an_old_gpu_is_found_out(tmp_path: Path) -> None:
    target = ("--target", "python=3.12,linux,x86_64,gpu=P100,driver=580.65.06")
    report = judged("--lock", freeze(tmp_path), *target, "--backend", "bnb:nf4")
    assert report["verdict"] == "blocked"
    unmet = {each["rule"] for each in report["backends"][0]["outcomes"] if each["status"] == "unmet"}
    assert "torch/architectures" in unmet


def test_an_old_driver_is_found_out(tmp_path: Path) -> None:
    target = ("--target", "python=3.12,linux,x86_64,gpu=H100,driver=535.54.03")
    report = judged("--lock", freeze(tmp_path), *target, "--backend", "bnb:nf4")
    unmet = {each["rule"] for each in report["backends"][0]["outcomes"] if each["status"] == "unmet"}
    assert unmet == {"torch/driver"}


@pytest.mark.parametrize(
    ("wanted", "status"),
    [("bitsandbytes>=0.50", "met"), ("bitsandbytes<0.43", "unmet"), ("bitsandbytes", "undecided")],
)
def test_a_range_decides_where_all_of_it_says_the_same(tmp_path: Path, wanted: str, status: str) -> None:
    path = saved(tmp_path, FREEZE.replace("bitsandbytes==0.50.2", wanted), "requirements.txt")
    report = judged("--requirements", path, *H100, "--backend", "bnb:nf4")
    found = {each["rule"]: each["status"] for each in report["backends"][0]["outcomes"]}
    assert found["bitsandbytes/version"] == status
    assert found["bitsandbytes/installed"] == "met"


def test_what_requirements_do_not_name_is_undecided(tmp_path: Path) -> None:
    path = saved(tmp_path, "diffusers==0.42.1\n", "requirements.txt")
    report = judged("--requirements", path, *H100, "--backend", "gguf")
    found = {each["rule"]: each["status"] for each in report["backends"][0]["outcomes"]}
    assert found["gguf/installed"] == "undecided"


def test_the_commands_for_a_uv_lock_are_those_of_uv(tmp_path: Path) -> None:
    text = (
        'version = 1\n[[package]]\nname = "demo"\nsource = { virtual = "." }\ndependencies = [{ name = "diffusers" }]\n'
    )
    text += '[[package]]\nname = "diffusers"\nversion = "0.42.1"\n'
    report = judged("--lock", saved(tmp_path, text, "uv.lock"), *H100, "--backend", "gguf")
    unmet = {each["rule"]: each["fix"] for each in report["backends"][0]["outcomes"] if each["status"] == "unmet"}
    assert unmet["gguf/installed"]["commands"][0].startswith("uv add ")


@pytest.mark.parametrize("form", ["github", "sarif", "junit", "markdown"])
def test_every_format_tells_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(tmp_path)
    old = FREEZE.replace("bitsandbytes==0.50.2", "bitsandbytes==0.41.0")
    done = run("check", "--lock", freeze(tmp_path, old), *H100, "--backend", "bnb:nf4", "--format", form)
    assert (done.status, done.err) == (1, "")
    if form in ("github", "sarif"):  # at the line of the file that was judged
        assert "freeze.txt" in done.out
        assert ("line=2" if form == "github" else '"startLine": 2') in done.out
    else:
        told = "bitsandbytes/import-owner" if form == "junit" else "rules that only the machine can tell"
        assert told in done.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--target", "gpu=8.9"), "--target says what a file cannot"),
        (("--lock", "x", "--requirements", "y"), "--lock and --requirements name two different things"),
        (("--lock", "x", "--snapshot", "y"), "a file and --snapshot name two different things"),
        (("--lock", "x", "--python", "y"), "a file and --python name two different things"),
        (("--lock", "x", "--model", "y"), "--model takes an environment or a snapshot"),
        (("--lock", "no-such.lock"), "no-such.lock: cannot be read: No such file or directory"),
        (("--requirements", "uv.lock"), "give it as --lock uv.lock"),
        (("--lock", "/dev/null", "--target", "gpu=RTX 4091"), "did you mean"),
    ],
)
def test_bad_usage_is_one_line(words: tuple[str, ...], complaint: str) -> None:
    assert complaint in run("check", *words).refused()
