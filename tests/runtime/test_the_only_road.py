"""Whatever the environment: no adapter is imported and no file is written before the rules of a call have passed."""

from __future__ import annotations

import copy
import importlib.abc
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envguard
from envguard import checks, guard, permits, shipped
from envguard.model import SNAPSHOT_SCHEMA, Environment
from envguard.probes import changes
from envguard.probes.wanted import EVERYTHING, Look

FINE: dict[str, Any] = {
    "schema": SNAPSHOT_SCHEMA,
    "python": {"version": "3.11.7", "executable": "/venv/bin/python", "pip": "25.0", "free_threaded": False},
    "host": {"system": "Linux", "machine": "x86_64"},
    "distributions": {
        "torchao": {"version": "0.16.0", "requires": []},
        "accelerate": {"version": "1.15.0"},
        "diffusers": {"version": "0.42.1"},
        "torch": {"version": "2.13.0+cpu"},
    },
    "distributions_complete": True,
    "import_owners": {"torchao": {"origin": "/venv/torchao/__init__.py", "distribution": "torchao", "kind": "package"}},
    "import_links": {"torchao": [], "diffusers": []},
    "compiled_kernels": {"torchao": {"loaded": True, "reason": None}},
    "torch_build": {"version": "2.13.0+cpu", "cuda": None, "hip": None, "xpu": None, "arch_list": None},
    "drivers": {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0},
    "accelerators": [],
    "environment_variables": {},
}
BACKENDS = ("bitsandbytes", "torchao", "optimum", "gguf", "modelopt", "diffusers", "transformers", "accelerate")


class Reached(Exception):
    """A backend's import was begun."""


class Barrier(importlib.abc.MetaPathFinder):
    """Refuses what only a passed check may import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in BACKENDS or name == "envguard.runtime.torchao":
            raise Reached(name)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The environment that checks look at, which a test may change at any time; backends cannot be imported."""
    data = copy.deepcopy(FINE)
    monkeypatch.setattr(
        checks, "look", lambda *args, **kwargs: Look(EVERYTHING, "diffusers", Environment(copy.deepcopy(data)))
    )
    monkeypatch.setattr(guard, "_passed", {})
    monkeypatch.setattr(changes, "stamp", object)  # something may have changed, every time
    for name in list(sys.modules):
        if name.partition(".")[0] in BACKENDS or name == "envguard.runtime.torchao":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Barrier(), *sys.meta_path])
    return data


versions = st.sampled_from(["0.5.0", "0.7.0", "0.14.0", "0.15.0", "0.16.0", "0.18.0", "0.19.0.dev1", "1.0.0", "2.4.1"])
torch_versions = st.sampled_from(["2.3.1", "2.4.0", "2.5.0", "2.6.0", "2.10.0", "2.13.0+cpu", "2.14.0.dev1"])
changed = st.fixed_dictionaries(
    {},
    optional={
        "torchao": st.none() | versions,
        "accelerate": st.none() | versions,
        "diffusers": st.none() | st.sampled_from(["0.30.0", "0.36.0", "0.38.0", "0.42.1"]),
        "torch": st.none() | torch_versions,
        "complete": st.booleans(),
        "owner": st.sampled_from(["hidden", "other", "missing"]),
        "accelerators": st.sampled_from(["hidden"]),
    },
)
calls = st.sampled_from(
    [
        ("quantize", "int8_weight_only"),
        ("quantize", "uint4_weight_only"),
        ("quantize", "float8_dynamic"),
        ("quantize", "nvfp4_weight_only"),
        ("load", "int8_weight_only"),
        ("save", "int8_weight_only"),
    ]
)


def change(data: dict[str, Any], changes: dict[str, Any]) -> None:
    for name in ("torchao", "accelerate", "diffusers", "torch"):
        if name in changes:
            version = changes[name]
            data["distributions"][name] = None if version is None else {"version": version, "requires": []}
    if changes.get("complete") is False:
        del data["distributions_complete"]
    if changes.get("owner") == "hidden":
        del data["import_owners"]
    elif "owner" in changes:
        data["import_owners"]["torchao"] = {"origin": None, "distribution": None, "kind": changes["owner"]}
    if "accelerators" in changes:
        del data["accelerators"]


@pytest.mark.filterwarnings("ignore::envguard.EnvguardWarning")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=changed, call=calls, undecided=st.sampled_from(["block", "allow"]))
def test_nothing_is_imported_or_written_unless_the_rules_of_the_call_pass(
    here: dict[str, Any], tmp_path: Path, changes: dict[str, Any], call: tuple[str, str], undecided: Any
) -> None:
    here.clear()
    here.update(copy.deepcopy(FINE))
    guard._passed.clear()
    backend = envguard.require("torchao", device="cpu", undecided=undecided)
    change(here, changes)
    doing, scheme = call
    host = "diffusers" if doing == "load" else "none"
    operation: Any = "quantize" if doing == "load" else doing
    report = envguard.check(
        f"torchao:{scheme}", host=host, device="cpu", operation=operation, environment=Environment(here)
    )
    with pytest.raises((envguard.RequirementsNotMet, Reached, envguard.BackendChanged)) as raised:
        run(backend, doing, scheme, tmp_path)
    if permits.passes(report, undecided):
        assert not isinstance(raised.value, envguard.RequirementsNotMet)
    else:
        assert isinstance(raised.value, envguard.RequirementsNotMet)
        for outcome in report.backends[0].outcomes:
            if outcome.status == "unmet" and outcome.severity == "error":
                assert outcome.rule in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] in ([], ["full"])


def run(backend: Any, doing: str, scheme: str, folder: Path) -> None:
    if doing == "quantize":
        backend.quantize(torch.nn.Linear(4, 4), scheme)
    elif doing == "load":
        backend.load(fake_diffusers_class(), str(full_precision(folder)), scheme)
    else:
        model = torch.nn.Linear(4, 4)
        model.envguard_quantized = {"backend": "torchao", "scheme": scheme}  # type: ignore[assignment]
        backend.save(model, str(folder / "model"))


def full_precision(folder: Path) -> Path:
    """A diffusers model of one tensor, as far as its files say."""
    (folder / "full").mkdir(exist_ok=True)
    (folder / "full" / "config.json").write_text('{"_class_name": "Model", "_diffusers_version": "0.42.1"}')
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "full" / "diffusion_pytorch_model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(4)
    )
    return folder / "full"


def fake_diffusers_class() -> type:
    """A class whose module says that it is diffusers' own."""
    return type("Model", (), {"__module__": "diffusers.models.none"})


def test_require_itself_imports_nothing(here: dict[str, Any]) -> None:
    assert envguard.require("torchao:int8_weight_only", device="cpu").device == "cpu"
    with pytest.raises(envguard.RequirementsNotMet):
        envguard.require("torchao:uint4_weight_only", device="cuda")


def test_a_permit_is_issued_for_a_passing_report_alone(here: dict[str, Any]) -> None:
    blocked, environment, _ = checks.examine(
        shipped.load(), ("torchao",), Environment(FINE), None, host="none", device="cuda", operation="quantize"
    )
    with pytest.raises(envguard.RequirementsNotMet):
        permits.issue(blocked, environment, "torchao", "block")
    with pytest.raises(TypeError, match="passing report"):
        permits.Permit()
    with pytest.raises(TypeError):
        type("Mine", (permits.Permit,), {})


def test_an_adapter_takes_no_permit_that_was_not_issued() -> None:
    from envguard.runtime.quanto import ADAPTER

    for forged in (None, object(), object.__new__(permits.Permit)):
        with pytest.raises(TypeError, match="not issued"):
            ADAPTER(forged)  # type: ignore[arg-type]


def test_a_permit_cannot_be_changed_or_copied(here: dict[str, Any]) -> None:
    report, environment, _ = checks.examine(
        shipped.load(), ("torchao",), Environment(FINE), None, host="none", device="cpu", operation="quantize"
    )
    permit = permits.issue(report, environment, "torchao", "block")
    permits.verify(permit)
    with pytest.raises(AttributeError):
        permit.device = "cuda:0"  # type: ignore[misc]
    with pytest.raises(TypeError):
        copy.copy(permit)


def test_a_scheme_that_contradicts_the_required_one_is_a_conflict(here: dict[str, Any]) -> None:
    backend = envguard.require("torchao:int8_weight_only", device="cpu")
    with pytest.raises(envguard.SchemeConflict, match="int8_weight_only was required, but int8_dynamic"):
        backend.quantize(torch.nn.Linear(4, 4), "int8dq")


def test_the_same_scheme_by_its_alias_is_no_conflict(here: dict[str, Any]) -> None:
    backend = envguard.require("torchao:int8_weight_only", device="cpu")
    with pytest.raises((Reached, envguard.BackendChanged)):
        backend.quantize(torch.nn.Linear(4, 4), "INT8WO")


def test_no_scheme_anywhere_lists_those_there_are(here: dict[str, Any]) -> None:
    with pytest.raises(envguard.UnknownScheme, match="int8_weight_only"):
        envguard.require("torchao", device="cpu").quantize(torch.nn.Linear(4, 4))


def test_an_unknown_scheme_names_the_near_ones(here: dict[str, Any]) -> None:
    with pytest.raises(envguard.UnknownScheme, match="did you mean int8"):
        envguard.require("torchao", device="cpu").quantize(torch.nn.Linear(4, 4), "int8w")
