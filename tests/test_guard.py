"""Only a passing report makes a guarded backend, and nothing copies one."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import Any

import pytest

import envguard
from envguard import checks, guard, shipped
from envguard.model import SNAPSHOT_SCHEMA, Environment
from envguard.probes.wanted import EVERYTHING, Look

FINE: dict[str, Any] = {
    "schema": SNAPSHOT_SCHEMA,
    "python": {"version": "3.11.7", "executable": "/venv/bin/python", "pip": "25.0", "free_threaded": False},
    "host": {"system": "Linux", "machine": "x86_64"},
    "distributions": {
        "gguf": {"version": "0.19.0", "requires": []},
        "accelerate": {"version": "1.15.0"},
        "diffusers": {"version": "0.42.1"},
        "torch": {"version": "2.13.0+cpu"},
        "numpy": {"version": "2.4.6"},
    },
    "distributions_complete": True,
    "import_owners": {"gguf": {"origin": "/venv/gguf/__init__.py", "distribution": "gguf", "kind": "package"}},
    "torch_build": {"version": "2.13.0+cpu", "cuda": None, "hip": None, "xpu": None, "arch_list": None},
    "drivers": {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0},
    "accelerators": [],
    "environment_variables": {},
}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The environment that `require` looks at; a test may change it."""
    data = copy.deepcopy(FINE)
    monkeypatch.setattr(checks, "look", lambda *args, **kwargs: Look(EVERYTHING, "diffusers", Environment(data)))
    monkeypatch.setattr(guard, "_passed", {})
    return data


def test_a_backend_whose_rules_pass_is_given_with_its_report(here: dict[str, Any]) -> None:
    guarded = envguard.require("gguf:Q8_0", operation="load")
    assert guarded.backend == "gguf"
    assert guarded.scheme == "Q8_0"
    assert guarded.report.ok


def test_a_blocked_backend_raises_an_import_error_that_lists_every_failing_rule(here: dict[str, Any]) -> None:
    here["distributions"].update(gguf=None, accelerate=None)
    with pytest.raises(ImportError) as raised:
        envguard.require("gguf")
    assert isinstance(raised.value, envguard.RequirementsNotMet)
    for rule in ("gguf/installed", "gguf/accelerate"):
        assert rule in str(raised.value)
    assert raised.value.report.verdict == "blocked"


def test_what_was_not_observed_is_blocked_unless_allowed(here: dict[str, Any]) -> None:
    del here["import_owners"]
    with pytest.raises(envguard.RequirementsNotMet):
        envguard.require("gguf")
    guarded = envguard.require("gguf", undecided="allow")
    assert guarded.report.undecided == "allow"
    assert '"undecided":"allow"' in guarded.report.to_json()


def test_available_is_true_exactly_where_require_passes(here: dict[str, Any]) -> None:
    assert envguard.available("gguf")
    assert not envguard.available("bnb")
    del here["import_owners"]
    assert not envguard.available("gguf")
    assert envguard.available("gguf", undecided="allow")


def test_bad_arguments_are_value_errors_that_list_what_there_is(here: dict[str, Any]) -> None:
    with pytest.raises(envguard.UnknownBackend, match="bitsandbytes"):
        envguard.require("bitsandbites")
    with pytest.raises(envguard.UnknownScheme, match="nf4"):
        envguard.require("bnb:nf5")
    with pytest.raises(ValueError, match="cuda"):
        envguard.check("bnb", device="cudo")
    with pytest.raises(ValueError, match="diffusers"):
        envguard.check("bnb", host="difusers")
    with pytest.raises(ValueError, match="no rule has the id 'bnb/nothing'"):
        envguard.check("bnb", ignore=["bnb/nothing"])
    with pytest.raises(ValueError, match="'allow'"):
        envguard.require("gguf", undecided="yes")  # type: ignore[arg-type]


def test_nothing_but_require_makes_a_guarded_backend(here: dict[str, Any]) -> None:
    guarded = envguard.require("gguf")
    report = guarded.report
    for attempt in (
        lambda: envguard.Guarded(report),
        lambda: envguard.Guarded(report, object()),
        lambda: type("Mine", (envguard.Guarded,), {}),
        lambda: copy.copy(guarded),
        lambda: copy.deepcopy(guarded),
        lambda: pickle.dumps(guarded),
    ):
        with pytest.raises(TypeError):
            attempt()
    with pytest.raises(AttributeError):
        guarded.report = report  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del guarded.report
    with pytest.raises(TypeError):
        dataclasses.replace(guarded)  # type: ignore[type-var]


def test_an_object_made_without_init_is_no_proof() -> None:
    forged = object.__new__(envguard.Guarded)
    for attempt in (
        lambda: forged.report,
        lambda: forged.quantize(object(), "int8"),
        lambda: forged.load(object, "path"),
        lambda: forged.save(object(), "path"),
    ):
        with pytest.raises(TypeError, match="forged"):
            attempt()


def test_a_second_require_gives_the_same_proof(here: dict[str, Any]) -> None:
    assert envguard.require("gguf") is envguard.require("gguf")


def test_a_degraded_backend_passes_with_one_warning(here: dict[str, Any]) -> None:
    here["distributions"]["torch"] = {"version": "2.8.0+cu128"}
    here["distributions"]["diffusers"] = {"version": "0.40.0"}
    here["distributions"]["torchao"] = {"version": "0.15.0", "requires": []}
    here["import_owners"]["torchao"] = {
        "origin": "/venv/torchao/__init__.py",
        "distribution": "torchao",
        "kind": "package",
    }
    with pytest.warns(envguard.EnvguardWarning, match="compiled kernels of torchao") as caught:
        guarded = envguard.require("torchao:int8_weight_only", device="cpu")
    assert guarded.report.verdict == "degraded"
    assert len(caught) == 1


def test_importing_envguard_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import envguard; print(sorted(set(sys.modules) - before))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['envguard']"


def test_a_check_imports_neither_torch_nor_a_backend_nor_rich() -> None:
    heavy = {
        "torch",
        "bitsandbytes",
        "torchao",
        "optimum",
        "gguf",
        "modelopt",
        "diffusers",
        "transformers",
        "accelerate",
    }
    heavy |= {"rich", "numpy", "dataclasses", "argparse", "json"}
    if shipped._compiled_tables() is not None:  # reading TOML takes the following
        heavy |= {"typing", "re", "tomllib"}
    code = (
        "import sys, io; before = set(sys.modules); sys.stdout = io.StringIO();"
        "import envguard.cli; envguard.cli.run(['check']);"
        f"print(sorted({heavy!r} & set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in envguard.__all__:
        assert getattr(envguard, name) is not None
    assert set(envguard.__all__) <= set(dir(envguard))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        envguard.nothing  # type: ignore[attr-defined]  # noqa: B018
