"""The helpers of `.ci/`: what they read out of the README and out of a run's report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from project_files import ROOT, load_script

readme = load_script("readme")
no_skips = load_script("no_skips")


def test_a_block_knows_its_line_language_and_the_comment_before_it() -> None:
    text = "Words\n\n<!-- not run: needs a GPU -->\n```sh\nenvguard check\n```\n"
    assert readme.blocks(text) == [readme.Block(4, "sh", "not run: needs a GPU", "envguard check\n")]


def test_a_comment_further_up_marks_nothing() -> None:
    assert readme.blocks("<!-- not run: x -->\n\n```sh\ntrue\n```\n")[0].mark == ""


def test_a_block_inside_a_list_loses_its_indentation() -> None:
    text = "1. Words\n\n   ```toml\n   a = 1\n   [b]\n   ```\n"
    assert readme.blocks(text) == [readme.Block(3, "toml", "", "a = 1\n[b]\n")]


def test_a_block_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2: the block has no end"):
        readme.blocks("text\n```sh\ntrue\n")


def test_a_command_is_found_by_its_name() -> None:
    text = "<!-- command: main -->\n```sh\none\n```\n<!-- command: tests -->\n```sh\ntwo\n```\n"
    assert readme.command(text, "tests") == "two"


@pytest.mark.parametrize("copies", [0, 2])
def test_a_command_that_is_missing_or_stands_twice_is_refused(copies: int) -> None:
    with pytest.raises(ValueError, match=f"'command: main', found {copies}"):
        readme.command("<!-- command: main -->\n```sh\none\n```\n" * copies, "main")


def report(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


PASSED = '<testcase classname="a" name="passes"/>'
XFAILED = '<testcase classname="a" name="x"><skipped type="pytest.xfail" message="known"/></testcase>'


def skipped(reason: str) -> str:
    return f'<testcase classname="a" name="b"><skipped type="pytest.skip" message="{reason}"/></testcase>'


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: elsewhere skips are printed")
@pytest.mark.parametrize(
    ("text", "status"),
    [
        (report(PASSED), 0),
        (report(PASSED, XFAILED), 0),
        (report(PASSED, skipped("only on Windows")), 0),
        (report(PASSED, skipped("only as an ordinary user")), 0),
        (report(PASSED, skipped("no compiler")), 1),
        (report(skipped("only on Windows"), skipped("torchao is not installed")), 1),
        (report(), 1),
    ],
)
def test_only_a_skip_that_names_a_platform_or_a_user_passes(text: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "no_skips.py", tmp_path / "report.xml"], capture_output=True, check=False
    )
    assert done.returncode == status, done.stdout


@pytest.mark.parametrize(
    ("test", "reason", "wanted"),
    [
        ("tests.runtime.test_quanto::test_one", "envguard: quanto blocked: needs a GPU", True),
        ("tests.runtime.test_quanto::test_one", "no ninja", False),
        ("tests.test_sizes::test_one", "envguard: quanto blocked: needs optimum-quanto", True),
        ("tests.plugin.test_plugin::test_one", "envguard: quanto blocked: needs a GPU", False),
        ("tests.plugin.test_plugin::test_one", "only on Windows", True),
    ],
)
def test_without_backends_our_own_plugin_may_skip_what_runs_them(test: str, reason: str, wanted: bool) -> None:
    assert no_skips.allowed(test, reason, "--without-backends") is wanted


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("envguard: modelopt:nvfp4 0.43.0 blocked: needs a device of cuda, found device cpu", True),
        ("envguard: torchao:uint4_weight_only 0.18.0 blocked: needs torchao<0.17.0, found torchao 0.18.0", True),
        ("envguard: torchao:int8_weight_only blocked: needs torchao, found torchao is not installed", False),
        ("envguard: torchao 0.18.0 blocked: needs a GPU (CUDA), found no GPU", False),
        ("envguard: bitsandbytes:nf4 0.50.2 blocked: needs accelerate>=0.26.0, found accelerate 0.20", False),
    ],
)
def test_with_backends_only_a_scheme_of_another_device_or_release_may_be_skipped(reason: str, wanted: bool) -> None:
    assert no_skips.allowed("tests.runtime.test_quanto::test_one", reason, "--with-backends") is wanted


def test_a_refused_skip_is_named_with_its_reason() -> None:
    assert no_skips.skips(report(PASSED, skipped("no compiler"))) == [("a::b", "no compiler")]
