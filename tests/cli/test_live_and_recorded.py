"""A check of this machine and a check of its own snapshot say the same."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from command_line import run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from installed_trees import install, module
from support import gpu

from envguard.checks import check_in
from envguard.frozen import replace
from envguard.guard import snapshot_of
from envguard.model import DEVICE_KINDS, HOSTS, OPERATIONS, Environment
from envguard.probes import Observed
from envguard.probes.interpreter import Interpreter, current
from envguard.probes.loader import find
from envguard.shipped import load

BOOK = load()
SPECS = [(), *((name,) for name in BOOK.backends)]
SPECS += [(f"{backend.name}:{scheme}",) for backend in BOOK.backends.values() for scheme in backend.schemes]

# A few releases on both sides of the floors, and what is no release.
VERSIONS = {
    "accelerate": ["0.25.0", "1.12.0"],
    "bitsandbytes": ["0.41.0", "0.46.1", "0.50.2"],
    "diffusers": ["0.32.2", "0.38.0", "0.42.1", "0.43.0.dev0"],
    "gguf": ["0.9.1", "0.19.0"],
    "nvidia-modelopt": ["0.33.1", "0.43.0", "0.44.0"],
    "ninja": ["1.13.0"],
    "numpy": ["1.26.4", "2.4.6"],
    "optimum-quanto": ["0.2.5", "0.2.7", "nonsense"],
    "torch": ["2.4.1", "2.6.0+cu124", "2.11.0", "2.13.0+cpu"],
    "torchao": ["0.7.0", "0.15.0", "0.18.0"],
    "transformers": ["4.57.0", "5.2.0"],
}
SOME_LIBRARY = find(("libgcc_s.so.1",), {})[0] if sys.platform == "linux" else None
IMPORTS = {"nvidia-modelopt": "modelopt", "optimum-quanto": "optimum/quanto"}
REQUIRES = {"optimum-quanto": ("torch>=2.6", "ninja", "safetensors"), "bitsandbytes": ("torch<3,>=2.3", "numpy>=1.17")}
TORCH = {
    "no torch": None,
    "for no GPU": "__version__ = '2.13.0+cpu'\ncuda = None\nhip = None\n",
    "for CUDA": "__version__ = '2.11.0+cu130'\ncuda = '13.0'\nhip = None\n",
    "for ROCm": "__version__ = '2.11.0+rocm6.4'\ncuda = None\nhip = '6.4.4'\n",
    "unreadable": "__version__ = 3\n",
}
NO_DRIVER = {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0}
DRIVER = {"nvidia": "580.95.05", "cuda": "13.0", "nvidia_status": "ok", "nvidia_devices": 2}
HUNG = {"/accelerators": "the NVIDIA driver did not answer within 5 s"}
HARDWARE = {
    "none": (Observed(NO_DRIVER), Observed([])),
    "two GPUs": (Observed(DRIVER), Observed([gpu(), gpu(1, "6.1", memory_total=4_000_000_000)])),
    "hidden": (Observed(DRIVER), Observed([])),
    "an old driver": (Observed({**DRIVER, "nvidia": "470.57", "cuda": "11.4"}), Observed([gpu()])),
    "AMD": (Observed({**NO_DRIVER, "rocm": "6.4.0"}), Observed([{"kind": "rocm", "index": 0, "arch": "gfx942"}])),
    "a driver that hangs": (Observed({"nvidia_status": "hung"}), Observed(None, HUNG)),
}
# the compiled libraries of bitsandbytes: real ones, as far as this system has some, and one that is damaged
LIBRARIES = {
    "none": (),
    "for the CPU": ("cpu",),
    "for GPUs": ("cpu", "cuda126", "cuda130", "rocm64"),
    "for an old CUDA": ("cuda118",),
}
SETTINGS = {
    "BNB_CUDA_VERSION": ["", "126", "999"],
    "CUDA_VISIBLE_DEVICES": ["", "0", "-1"],
    "DIFFUSERS_GGUF_CUDA_KERNELS": ["true"],
    "PIP_NO_INDEX": ["1"],
}
MACHINES = st.fixed_dictionaries(
    {
        "versions": st.fixed_dictionaries({}, optional={name: st.sampled_from(v) for name, v in VERSIONS.items()}),
        "without metadata": st.sampled_from(["", "", "torch", "gguf", "accelerate"]),
        "without module": st.sampled_from(["", "", "torchao", "gguf"]),
        "shadowed": st.sampled_from(["", "", "bitsandbytes", "torchao"]),
        "torch": st.sampled_from(list(TORCH)),
        "libraries": st.sampled_from(list(LIBRARIES)),
        "hardware": st.sampled_from(list(HARDWARE)),
        "variables": st.fixed_dictionaries({}, optional={name: st.sampled_from(v) for name, v in SETTINGS.items()}),
    }
)
REQUESTS = st.fixed_dictionaries(
    {
        "host": st.sampled_from(HOSTS),
        "device": st.sampled_from([*DEVICE_KINDS, "cuda:0", "cuda:1", "cuda:7"]),
        "operation": st.sampled_from(OPERATIONS),
    }
)


def build(folder: Path, machine: dict[str, Any]) -> Interpreter:
    """An environment on disk as the machine describes it, read as another interpreter's."""
    site, before = folder / "site-packages", folder / "before"
    for place in (site, before):
        place.mkdir()
    for name, version in machine["versions"].items():
        package = IMPORTS.get(name, name)
        files = {} if name == machine["without module"] else {f"{package}/__init__.py": ""}
        info = install(site, name, version, files=files, requires=REQUIRES.get(name, ()))
        if name == machine["without metadata"]:
            (info / "METADATA").unlink()
    if "bitsandbytes" in machine["versions"] and machine["without module"] != "bitsandbytes":
        for stem in LIBRARIES[machine["libraries"]]:
            target = site / "bitsandbytes" / f"libbitsandbytes_{stem}.so"
            if SOME_LIBRARY is not None and stem != "cuda126":
                shutil.copy(SOME_LIBRARY, target)
            else:
                target.write_text("damaged")
    if machine["shadowed"]:
        module(before, f"{machine['shadowed']}.py")
    version_file = TORCH[machine["torch"]]
    if version_file is not None:
        module(site, "torch/__init__.py")
        module(site, "torch/version.py", version_file)
    return replace(current(), path=(str(before), str(site)), purelib=str(site), current=False)


# What a live check has once missed: a variable on which only a row's `when` depends.
WITH_GPUS: dict[str, Any] = {
    "versions": {"diffusers": "0.38.0"},
    "without metadata": "",
    "without module": "",
    "shadowed": "",
    "torch": "no torch",
    "libraries": "none",
    "hardware": "two GPUs",
    "variables": {},
}
# What it has once said more of than it had looked at: a library that asks for no libstdc++.
WITH_A_LIBRARY_OF_C: dict[str, Any] = {
    **WITH_GPUS,
    "versions": {"torch": "2.4.1", "bitsandbytes": "0.46.1"},
    "torch": "for CUDA",
    "libraries": "for GPUs",
}


# The libraries of a release by the table, because a folder hides the package.
WITHOUT_ITS_LIBRARIES: dict[str, Any] = {
    **WITH_GPUS,
    "versions": {"bitsandbytes": "0.50.2", "torch": "2.4.1"},
    "shadowed": "bitsandbytes",
    "torch": "for CUDA",
}


@given(MACHINES, st.sampled_from(SPECS), REQUESTS)
@example(WITH_A_LIBRARY_OF_C, ("bitsandbytes",), {"host": "none", "device": "auto", "operation": "quantize"})
@example(WITHOUT_ITS_LIBRARIES, ("bitsandbytes",), {"host": "none", "device": "auto", "operation": "quantize"})
@example(WITH_GPUS, ("gguf",), {"host": "diffusers", "device": "auto", "operation": "quantize"})
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_live_check_and_a_check_of_the_snapshot_agree(
    machine: dict[str, Any], specs: tuple[str, ...], request: dict[str, Any]
) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {**variables, **machine["variables"]}, clear=True),
        mock.patch("envguard.probes.accelerators.begin", return_value=None),
        mock.patch("envguard.probes.accelerators.accelerators", return_value=HARDWARE[machine["hardware"]]),
    ):
        looked_at = build(Path(folder), machine)
        recorded = Environment.from_json(snapshot_of(looked_at).to_json())
        live = check_in(BOOK, specs, None, lambda: looked_at, **request)
    assert live.backends == check_in(BOOK, specs, recorded, None, **request).backends


def report(*words: str) -> tuple[int, list[dict[str, Any]]]:
    done = run("check", "--format", "json", *words)
    return done.status, json.loads(done.out)["backends"]


@pytest.mark.parametrize("where", [[], ["--python", sys.executable]], ids=["this process", "--python"])
@pytest.mark.parametrize(
    "asked",
    [
        [],
        ["--device", "cpu", "--host", "none"],
        ["--for", "load", "--host", "transformers"],
        *(["--backend", name] for name in BOOK.backends),
    ],
    ids=" ".join,
)
def test_this_machine_and_its_snapshot_agree(tmp_path: Path, where: list[str], asked: list[str]) -> None:
    recorded = str(tmp_path / "machine.json")
    assert run("snapshot", "-o", recorded, *where).status == 0
    assert report(*asked, "--snapshot", recorded) == report(*asked, *where)
