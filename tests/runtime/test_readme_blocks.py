"""The blocks of the README that need a backend run as programs, in an environment that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project_files import ROOT, load_script

BLOCKS = [
    block
    for block in load_script("readme").blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    if block.mark == "run: backends"
]


def test_there_is_one() -> None:
    assert BLOCKS


@pytest.mark.envguard("torchao:int8_weight_only", host="none", device="cpu")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line-{block.line}")
def test_a_block_runs_and_loads_what_it_saved(block: Any, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block.text, encoding="utf-8")
    own = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=own, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"
