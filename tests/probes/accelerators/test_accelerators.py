from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from test_amd import machine as amd_machine
from test_nvidia import torch_like

from envguard.probes import Observed, accelerators, nvidia
from envguard.probes.accelerators import _devices

Driver = Callable[..., dict[str, str]]
Root = Callable[[dict[str, str]], str]


def test_a_machine_without_accelerators_says_so_in_every_fact(root: Root) -> None:
    drivers, devices = accelerators.accelerators({}, "Linux", root({}))
    assert drivers.value == {
        "nvidia": None,
        "cuda": None,
        "nvidia_status": "absent",
        "nvidia_devices": 0,
        "libcuda": None,
        "rocm": None,
        "level_zero": None,
    }
    assert devices.value == []
    assert {**drivers.unreadable, **devices.unreadable} == {}


def test_the_short_way_says_what_the_nvidia_probe_says(root: Root) -> None:
    place = root({})
    drivers, devices = nvidia.nvidia({}, place)
    joined, _ = accelerators.accelerators({}, "Linux", place)
    assert joined.value == {**drivers.value, "rocm": None, "level_zero": None}
    assert devices.value == []


def test_a_machine_without_accelerators_costs_no_heavy_import() -> None:
    script = (
        "import sys; from envguard.probes.accelerators import accelerators\n"
        "accelerators({}, 'Linux', '/no/such/root')\n"
        "heavy = {'ctypes', 're', 'subprocess', 'json', 'enum', 'typing', 'select', 'envguard.probes.nvidia'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-S", "-c", script]
    assert subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_kinds_stand_in_torchs_order_with_their_own_numbers(driver: Driver, nvidia_root: str, root: Root) -> None:
    root(amd_machine(1))
    drivers, devices = accelerators.accelerators(driver(), "Linux", nvidia_root)
    assert [(device["kind"], device["index"]) for device in devices.value] == [("cuda", 0), ("cuda", 1), ("rocm", 0)]
    assert (drivers.value["nvidia_status"], drivers.value["rocm"]) == ("ok", "6.4.1")


@pytest.mark.parametrize("behaviour", ["two", "code:9"])
def test_a_question_asked_first_is_answered_alike(driver: Driver, nvidia_root: str, behaviour: str) -> None:
    environ = driver(behaviour)
    pending = accelerators.begin(environ, "Linux", nvidia_root)
    later = accelerators.accelerators(environ, "Linux", nvidia_root, pending=pending)
    assert later == accelerators.accelerators(environ, "Linux", nvidia_root)


def test_without_a_driver_nothing_is_asked_and_the_answer_is_the_same(root: Root) -> None:
    place = root({})
    pending = accelerators.begin({}, "Linux", place)
    assert accelerators.accelerators({}, "Linux", place, pending=pending) == accelerators.accelerators(
        {}, "Linux", place
    )


def test_a_driver_that_cannot_be_read_hides_the_kinds_after_it() -> None:
    unread, rocm = Observed(None, {"/accelerators": "hung"}), Observed([{"kind": "rocm", "index": 0}])
    assert _devices([unread, rocm]) == Observed(None, {"/accelerators": "hung"})


def test_devices_before_a_kind_that_cannot_be_read_stand_alone() -> None:
    cuda, unread = Observed([{"kind": "cuda", "index": 0}]), Observed(None, {"/accelerators": "a mask"})
    assert _devices([cuda, unread]) == Observed([{"kind": "cuda", "index": 0}], {"/accelerators": "a mask"})
    assert _devices([Observed([]), unread]) == Observed(None, {"/accelerators": "a mask"})


def test_a_mac_has_no_other_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="arm64", release="24.0.0"))
    drivers, devices = accelerators.accelerators({}, "Darwin")
    assert drivers.value["nvidia_status"] == "absent"
    assert devices.value == [{"kind": "mps", "index": 0}]
    assert accelerators.begin({}, "Darwin") is None


@pytest.mark.parametrize(
    ("library", "value", "pointer"),
    [
        ("ze_loader.dll", None, "/drivers/level_zero"),
        ("amdhip64_6.dll", None, "/drivers/rocm"),
        ("other.dll", [], None),
    ],
)
def test_other_gpus_of_windows_are_unreadable_not_absent(
    root: Root, monkeypatch: pytest.MonkeyPatch, library: str, value: Any, pointer: str | None
) -> None:
    place = root({f"System32/{library}": "MZ"})
    monkeypatch.setattr(sys, "platform", "win32")
    drivers, devices = accelerators.accelerators({"SYSTEMROOT": place}, "Windows", place)
    assert drivers.value["nvidia_status"] == "absent"
    assert devices.value == value
    assert set(drivers.unreadable) == ({pointer} if pointer else set())


def test_once_rocm_is_initialised_its_devices_count(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_like(True, "6.4"))
    drivers, devices = accelerators.accelerators({}, "Linux", root(amd_machine(1)))
    assert [device["name"] for device in devices.value] == ["NVIDIA H200"] * 2
    assert {device["kind"] for device in devices.value} == {"rocm"}
    assert drivers.value["nvidia_status"] == "absent"
