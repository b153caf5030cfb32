"""A command runs without the garbage collector, so judging must leave nothing for it."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from envguard.cli import run

MACHINES = Path(__file__).parent.parent / "machines"


def test_judging_leaves_nothing_for_the_garbage_collector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = [json.loads(file.read_text("utf-8")) for file in sorted(MACHINES.glob("*.json"))]
    stream = tmp_path / "many.jsonl"
    stream.write_text("".join(json.dumps(machine) + "\n" for machine in recorded * 20), "utf-8")
    words = ["check", "--format", "jsonl", "--snapshot", str(stream)]
    run(words)
    gc.collect()
    gc.disable()
    try:
        run(words)
        left = gc.collect()
    finally:
        gc.enable()
    assert len(capsys.readouterr().out.splitlines()) == 2 * 20 * len(recorded)
    assert left < 20 * len(recorded)
