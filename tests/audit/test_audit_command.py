"""`envguard rules audit` at the command line."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from command_line import ENVIRON, run
from small_hosts import files, wheel, written

COVERED = """
class TorchAoHfQuantizer:
    def validate_environment(self, *args, **kwargs):
        if not is_torchao_available():
            raise ImportError("torchao")
        if is_torchao_version("<", "0.15.0"):
            raise RuntimeError("0.15.0")
"""
OPEN = COVERED.replace("0.15.0", "0.99.0")


def audit(*words: str, status: int) -> str:
    done = run("rules", "audit", *words)
    assert (done.status, done.err) == (status, ""), done
    return done.out


def found(path: Path, status: int, *words: str) -> list[dict[str, object]]:
    document = json.loads(audit(str(path), "--format", "json", *words, status=status))
    assert document["schema"] == "envguard.audit/1"
    return [each for each in document["findings"] if (each["gate"] or {}).get("stage") == "validate"]


def test_a_floor_that_no_rule_has_is_open_with_file_and_line(tmp_path: Path) -> None:
    text = audit(str(written(tmp_path, files(OPEN))), status=1)
    assert "changed: the rules ask for something else" in text
    assert "torchao>=0.99.0" in text
    assert "quantizers/torchao/torchao_quantizer.py:8" in text
    assert "diffusers/torchao-version (torchao>=0.15.0)" in text


def test_a_floor_that_a_rule_has_is_covered(tmp_path: Path) -> None:
    for path in (written(tmp_path, files(COVERED)), wheel(tmp_path, files(COVERED))):
        statuses = [each["status"] for each in found(path, 1)]
        assert set(statuses) <= {"covered", "acknowledged"}


def test_the_metadata_of_a_wheel_are_read(tmp_path: Path) -> None:
    document = json.loads(audit(str(wheel(tmp_path, files(COVERED))), "--format", "json", status=1))
    declared = [
        each["gate"]["need"] for each in document["findings"] if each["gate"] and each["gate"]["stage"] == "metadata"
    ]
    assert declared == ["Python>=3.11.0", "torchao>=0.15.0"]
    assert document["version"] == "0.42.1"


def test_what_changed_since_another_release_is_told(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    text = audit(str(written(new, files(OPEN))), "--against", str(written(old, files(COVERED))), status=1)
    assert "changed: validate of torchao: torchao>=0.99.0, was torchao>=0.15.0" in text


def test_the_installed_release_of_another_environment_is_found(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    site = Path(where.stdout.strip())
    assert "diffusers is not installed there" in run("rules", "audit", "--python", str(environment)).refused()
    written(site, files(OPEN))
    metadata = site / "diffusers-0.41.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: diffusers\nVersion: 0.41.0\n", encoding="utf-8")
    assert audit("--python", str(environment), status=1).startswith("diffusers 0.41.0")


def test_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "no such wheel or folder" in run("rules", "audit", str(tmp_path / "none.whl")).refused()
    assert "give one of them" in run("rules", "audit", str(tmp_path), "--python", sys.executable).refused()
    assert "invalid choice" in run("rules", "audit", "--host", "keras").refused()


def test_the_list_of_rules_is_still_there() -> None:
    done = run("rules", "--backend", "torchao")
    assert done.status == 0
    assert "torchao/installed" in done.out


def test_a_check_does_not_load_the_audit() -> None:
    code = "import sys; from envguard import cli; cli.run(['check']); sys.exit('envguard.audit' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRON, stdout=subprocess.DEVNULL)


if importlib.util.find_spec("diffusers") is not None:

    def test_the_installed_diffusers_is_read() -> None:
        document = json.loads(run("rules", "audit", "--format", "json").out)
        assert document["counts"]["covered"] > 50
