"""`envguard --print-completion`: what shtab makes of the command line, as the shells themselves take it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from envguard.shipped import load

SHELLS = ("bash", "zsh", "tcsh")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_commands_options_specs_and_rules(shell: str) -> None:
    done = run("--print-completion", shell)
    assert (done.status, done.err) == (0, "")
    for word in ("snapshot", "allow-undecided", "sarif", "bitsandbytes:nf4", "transformers", *load().ids()):
        assert word in done.out


@pytest.mark.parametrize("shell", SHELLS)
def test_without_shtab_one_line_says_how_to_get_it(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "python -m pip install 'envguard-quant[completion]'" in run("--print-completion", shell).refused()


def test_another_shell_is_bad_usage() -> None:
    assert "invalid choice: 'fish'" in run("--print-completion", "fish").refused()


def completed(folder: Path, line: str, *words: str) -> list[str]:
    """What bash offers for the last of some words."""
    script = folder / "completion.bash"
    script.write_text(run("--print-completion", "bash").out, encoding="utf-8")
    program = f"""
source {script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'
COMP_POINT={len(line)}
function_name=$(complete -p envguard | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function_name
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash: Any = shutil.which("bash")
    done = subprocess.run([bash, "--norc", "-c", program], capture_output=True, encoding="utf-8", check=True)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: needs its bash")
def test_bash_completes_what_can_stand_there(tmp_path: Path) -> None:
    assert completed(tmp_path, "envguard ch", "envguard", "ch") == ["check"]
    assert completed(tmp_path, "envguard check --fo", "envguard", "check", "--fo") == ["--for", "--format"]
    assert completed(tmp_path, "envguard check --format s", "envguard", "check", "--format", "s") == ["sarif"]
    assert "bitsandbytes" in completed(tmp_path, "envguard check --backend b", "envguard", "check", "--backend", "b")
    assert "gguf/installed" in completed(tmp_path, "envguard explain gguf", "envguard", "explain", "gguf")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_that_is_here_reads_its_script(shell: str, tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None or sys.platform == "win32":
        pytest.skip(f"only on machines that have {shell}")
    script = tmp_path / "script"
    script.write_text(run("--print-completion", shell).out, encoding="utf-8")
    subprocess.run([found, "-n" if shell != "tcsh" else "-nf", str(script)], check=True)
