"""A deep look with real backends: the child process works where they work, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import ENVIRON, run

import envguard
from envguard.deep import child, models, smoke
from envguard.deep.process import Ended
from envguard.model import Outcome

# In processes of their own, which import all anew: one for each backend; gguf's is that of the command line below.
SPECS = [
    ("torchao:int8_weight_only", "none"),
    ("bitsandbytes:int8", "transformers"),
    ("quanto:float8", "diffusers"),
    ("modelopt:int8", "none"),
]
# In this process, with what it has imported already.
MORE = [
    ("torchao:int8_weight_only", "transformers"),
    ("torchao:int8_weight_only", "diffusers"),
    ("torchao:int8_dynamic", "none"),
    ("torchao:float8_weight_only", "none"),
    ("torchao:nvfp4_weight_only", "none"),
    ("bitsandbytes:nf4", "none"),
    ("bitsandbytes:fp4", "none"),
    ("bitsandbytes:int8", "none"),
    ("bitsandbytes:nf4", "transformers"),
    ("quanto:int8", "none"),
    ("quanto:float8", "none"),
    ("quanto:int8", "diffusers"),
    ("gguf:Q8_0", "none"),
    ("gguf:Q4_0", "none"),
    ("gguf:TQ1_0", "none"),
    ("gguf:Q4_0", "diffusers"),
    ("gguf:Q8_0", "transformers"),
    ("modelopt:fp8", "none"),
    ("modelopt:nf4", "none"),
]


def params(specs: list[tuple[str, str]]) -> list[Any]:
    """Each with a mark that skips what the installed release does not run on the device."""
    return [pytest.param(*each, marks=pytest.mark.envguard(each[0], host=each[1])) for each in specs]


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("envguard_device") or "auto")


def smoke_of(report: envguard.Report) -> Outcome:
    (outcome,) = [each for each in report.backends[0].outcomes if each.origin == "deep"]
    return outcome


@pytest.mark.parametrize(("spec", "host"), params(SPECS))
def test_a_backend_that_works_is_said_to_work(
    spec: str, host: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    report = envguard.smoke(spec, host=host, device=device)
    outcome = smoke_of(report)
    assert (outcome.rule, outcome.status) == (f"{spec.partition(':')[0]}/smoke", "met"), outcome.found
    assert outcome.found is not None
    assert outcome.found.startswith("relative error 0.")
    assert "loaded again the same" in outcome.found
    assert spec in outcome.message
    assert report.ok
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("spec", "host"), params(MORE))
def test_every_scheme_is_right_within_its_error_and_after_it_was_loaded_again(
    spec: str, host: str, require_backend: Callable[..., envguard.Guarded], tmp_path: Path
) -> None:
    backend = require_backend(spec, host=host)
    answer: dict[str, Any] = {}
    with torch.no_grad():
        child._try(backend, {"host": host, "folder": str(tmp_path)}, models, answer.update)
    name, _, scheme = spec.partition(":")
    outcome = smoke.outcome_of(name, scheme, host, smoke.Trial(Ended("", ""), answer, 1.0))
    assert outcome.status == "met", outcome.found
    assert outcome.found is not None
    assert "loaded again the same" in outcome.found


@pytest.mark.envguard("gguf", host="none")
def test_without_a_scheme_the_outcome_names_the_one_that_was_tried(device: str) -> None:
    words = ["check", "--deep", "--backend", "gguf", "--host", "none", "--device", device]
    done = run(*words, "--format", "json")
    told = json.loads(done.out)
    assert (done.status, told["verdict"]) == (0, "ok")
    outcome = told["backends"][0]["outcomes"][-1]
    assert (outcome["rule"], outcome["status"]) == ("gguf/smoke", "met")
    assert "gguf:Q8_0" in outcome["needed"]
    assert "loaded again the same" in outcome["found"]


@pytest.mark.envguard("gguf:Q4_K", host="none", operation="load")
def test_a_scheme_that_cannot_be_made_here_is_not_tried(device: str) -> None:
    outcome = smoke_of(report := envguard.smoke("gguf:Q4_K", "none", device, "load"))
    assert outcome.status == "skipped"
    assert outcome.because is not None
    assert outcome.because.startswith("gguf/")
    assert report.ok


CRASH = """
import os, sys
class Crash:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "gguf": os.abort()
sys.meta_path.insert(0, Crash)
"""


@pytest.mark.skipif(os.name == "nt", reason="only on POSIX: its signals")
@pytest.mark.envguard("gguf:Q8_0", host="none")
def test_a_backend_that_crashes_when_it_is_imported_is_broken(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    monkeypatch.setenv(
        "PYTHONPATH", str(tmp_path), prepend=os.pathsep
    )  # the child starts with it, this process did not
    outcome = smoke_of(report := envguard.smoke("gguf:Q8_0", "none", device))
    assert (outcome.status, outcome.kind, report.verdict) == ("unmet", "broken", "blocked")
    assert outcome.found is not None
    assert outcome.found.startswith("the child process was killed by SIGABRT while it quantized")


PLUGIN = """
import pytest

@pytest.mark.envguard("gguf:Q8_0", host="none", deep=True)
@pytest.mark.parametrize("number", range(3))
def test_it(number, envguard_gguf): assert envguard_gguf.scheme == "Q8_0"
"""


@pytest.mark.envguard("gguf:Q8_0", host="none")
def test_a_deep_mark_runs_the_test_where_the_backend_works(device: str, tmp_path: Path) -> None:
    (tmp_path / "test_deep.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--envguard-device={device}"]
    if "envguard.pytest_plugin" not in _plugins():
        command += ["-p", "envguard.pytest_plugin"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def _plugins() -> set[Any]:
    from importlib.metadata import entry_points

    return {each.value for each in entry_points(group="pytest11")}
