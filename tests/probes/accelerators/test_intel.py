from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envguard.probes.intel import intel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads the file systems of Linux")

ELF = "\x7fELF\x02" if sys.maxsize > 1 << 32 else "\x7fELF\x01"
Root = Callable[[dict[str, str]], str]


@pytest.fixture
def machine(root: Root) -> Callable[..., str]:
    """Call it with PCI addresses and vendors: a root with their render nodes, and Level Zero unless it is left out."""

    def make(devices: dict[str, str], level_zero: bool = True) -> str:
        place = root({"dev/dri/": "", "sys/class/drm/": ""})
        for number, (address, vendor) in enumerate(devices.items()):
            root({f"sys/devices/{address}/vendor": f"{vendor}\n", f"dev/dri/renderD{128 + number}": ""})
            Path(place, f"sys/class/drm/renderD{128 + number}").mkdir()
            Path(place, f"sys/class/drm/renderD{128 + number}/device").symlink_to(f"{place}/sys/devices/{address}")
        if level_zero:
            root({"usr/lib/libze_loader.so.1.17.6": ELF, "usr/lib/libze_intel_gpu.so.1": ELF})
            Path(place, "usr/lib/libze_loader.so.1").symlink_to("libze_loader.so.1.17.6")
        return place

    return make


def look(place: str, environ: dict[str, str] | None = None) -> tuple[dict[str, Any], Any, dict[str, str]]:
    drivers, devices = intel(environ or {}, place)
    return drivers.value, devices.value, {**drivers.unreadable, **devices.unreadable}


def test_a_machine_without_intel_has_neither_driver_nor_device(machine: Callable[..., str]) -> None:
    assert look(machine({"0000:01:00.0": "0x10de"})) == ({"level_zero": None}, [], {})


def test_a_discrete_gpu_hides_the_one_in_the_processor(machine: Callable[..., str]) -> None:
    place = machine({"0000:00:02.0": "0x8086", "0000:03:00.0": "0x8086", "0000:04:00.0": "0x8086"})
    drivers, devices, unreadable = look(place)
    assert drivers == {"level_zero": "1.17.6"}
    assert devices == [{"kind": "xpu", "index": 0, "name": None}, {"kind": "xpu", "index": 1, "name": None}]
    assert unreadable == {}


def test_the_gpu_in_the_processor_counts_where_it_is_alone(machine: Callable[..., str]) -> None:
    assert len(look(machine({"0000:00:02.0": "0x8086"}))[1]) == 1


def test_without_level_zero_nothing_is_visible_and_the_reason_is_said(machine: Callable[..., str]) -> None:
    drivers, devices, _ = look(machine({"0000:00:02.0": "0x8086"}, level_zero=False))
    assert devices == []
    assert drivers["level_zero"] is None
    assert "libze_loader.so.1" in drivers["level_zero_reason"]


def test_a_mask_that_cannot_be_read_makes_the_devices_unreadable(machine: Callable[..., str]) -> None:
    place = machine({"0000:03:00.0": "0x8086"})
    _, devices, unreadable = look(place, {"ZE_AFFINITY_MASK": "0.1"})
    assert devices is None
    assert "ZE_AFFINITY_MASK" in unreadable["/accelerators"]


def test_masked_devices_are_left_out_and_the_reason_is_said(machine: Callable[..., str]) -> None:
    place = machine({"0000:03:00.0": "0x8086", "0000:04:00.0": "0x8086"})
    drivers, devices, _ = look(place, {"ONEAPI_DEVICE_SELECTOR": "level_zero:1"})
    assert [device["index"] for device in devices] == [0]
    assert "ONEAPI_DEVICE_SELECTOR" in drivers["level_zero_hidden"]


def test_a_render_node_that_may_not_be_opened_does_not_count(
    machine: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine({"0000:03:00.0": "0x8086"})
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert look(place)[1] == []
