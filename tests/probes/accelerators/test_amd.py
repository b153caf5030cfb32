from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from envguard.probes import amd

Root = Callable[[dict[str, str]], str]

NODE = """cpu_cores_count 0
simd_count 1216
mem_banks_count 1
gfx_target_version 90402
vendor_id 4098
device_id 29857
domain 0
drm_render_minor {minor}
unique_id {unique}
"""
BANK = "heap_type 1\nsize_in_bytes 206141652992\nflags 0\nwidth 8192\nmem_clk_max 1300\n"
IDS = "# List of AMDGPU IDs\n1.0.0\n74A1,\t00,\tAMD Instinct MI300X OAM\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n"


def machine(*uniques: int) -> dict[str, str]:
    nodes = "sys/class/kfd/kfd/topology/nodes"
    files = {
        "sys/module/amdgpu/": "",
        "dev/kfd": "",
        f"{nodes}/0/properties": "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\n",
        "opt/rocm/.info/version": "6.4.1-83\n",
        "usr/share/libdrm/amdgpu.ids": IDS,
    }
    for number, unique in enumerate(uniques):
        minor = 128 + number
        files[f"{nodes}/{number + 1}/properties"] = NODE.format(minor=minor, unique=unique)
        files[f"{nodes}/{number + 1}/mem_banks/0/properties"] = BANK
        render = f"sys/class/drm/renderD{minor}/device"
        files |= {
            f"{render}/device": "0x74a1\n",
            f"{render}/revision": "0x00\n",
            f"{render}/mem_info_vram_used": "297\n",
        }
    return files


def test_a_machine_without_amd_has_neither_driver_nor_device(root: Root) -> None:
    drivers, devices = amd.amd({}, root({}))
    assert (drivers.value, devices.value) == ({"rocm": None}, [])


def test_devices_are_read_from_the_topology(root: Root) -> None:
    drivers, devices = amd.amd({}, root(machine(0x1AA23BB45CC67DD, 2)))
    assert drivers.value == {"rocm": "6.4.1"}
    assert devices.value == [
        {
            "kind": "rocm",
            "index": 0,
            "name": "AMD Instinct MI300X OAM",
            "arch": "gfx942",
            "uuid": "GPU-01aa23bb45cc67dd",
            "memory_total": 206141652992,
            "memory_free": 206141652695,
        },
        {**devices.value[0], "index": 1, "uuid": "GPU-0000000000000002"},
    ]


def test_more_than_nine_nodes_stay_in_order(root: Root) -> None:
    _, devices = amd.amd({}, root(machine(*range(1, 13))))
    assert [int(device["uuid"][4:], 16) for device in devices.value] == list(range(1, 13))


def test_masked_devices_are_left_out_and_the_reason_is_said(root: Root) -> None:
    drivers, devices = amd.amd({"HIP_VISIBLE_DEVICES": "1"}, root(machine(1, 2)))
    assert [(device["index"], device["uuid"]) for device in devices.value] == [(0, "GPU-0000000000000002")]
    assert drivers.value["rocm_hidden"] == "HIP_VISIBLE_DEVICES='1' leaves 1 of 2 devices"


def test_without_kfd_rocm_has_no_device(root: Root) -> None:
    files = machine(1)
    del files["dev/kfd"]
    assert amd.amd({}, root(files))[1].value == []


def test_a_user_who_may_not_open_kfd_sees_no_device_and_learns_why(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    drivers, devices = amd.amd({}, root(machine(1)))
    assert devices.value == []
    assert "/dev/kfd" in drivers.value["rocm_reason"]


def test_a_device_without_name_memory_or_rocm_is_still_a_device(root: Root) -> None:
    files = {
        "dev/kfd": "",
        "sys/class/kfd/kfd/topology/nodes/1/properties": "simd_count 4\ngfx_target_version 110001\n",
    }
    drivers, devices = amd.amd({}, root(files))
    assert drivers.value == {"rocm": None}
    assert devices.value == [{"kind": "rocm", "index": 0, "name": None, "arch": "gfx1101", "uuid": None}]


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("90010", "gfx90a"),
        ("90402", "gfx942"),
        ("90012", "gfx90c"),
        ("90006", "gfx906"),
        ("80003", "gfx803"),
        ("100306", "gfx1036"),
        ("110001", "gfx1101"),
        ("110501", "gfx1151"),
        ("120001", "gfx1201"),
        ("0", None),
        ("", None),
        ("-90010", None),
        ("many", None),
    ],
)
def test_the_target_version_is_an_architecture_with_a_hexadecimal_stepping(version: str, name: str | None) -> None:
    assert amd.architecture(version) == name


@pytest.mark.parametrize(
    ("text", "version"), [("6.4.1-83\n", "6.4.1"), ("5.7.0-63", "5.7.0"), ("7.0\n", "7.0"), ("", None)]
)
def test_the_rocm_version_stands_before_the_build_number(text: str, version: str | None) -> None:
    assert amd.parse_version(text) == version


def test_names_are_found_by_device_and_revision() -> None:
    assert amd.name_in(IDS, "744c", "c8") == "AMD Radeon RX 7900 XTX"
    assert amd.name_in(IDS, "744c", "00") is None


def test_lines_of_another_form_are_passed_over() -> None:
    assert amd.parse_properties("a 1\nb\n\nc 2 3\nd 4\n") == {"a": "1", "d": "4"}
