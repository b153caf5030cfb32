"""AMD GPUs and ROCm, from files alone.

- devices: /sys/class/kfd/kfd/topology/nodes (where ROCr takes them from), where /dev/kfd may be opened
- their names: libdrm's amdgpu.ids, by the device and revision numbers of the render node
- ROCm's version: /opt/rocm/.info/version; torch brings its own ROCm, so a machine without this file is fine
- what is visible: ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES, CUDA_VISIBLE_DEVICES (visible.py)
"""

from __future__ import annotations

import os

from envguard.probes import Observed, visible
from envguard.probes.folders import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NAMES = ("usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids")
_VRAM = ("1", "2")  # heap_type of memory banks: visible to the processor, and not


def amd(environ: Mapping[str, str], root: str = "/") -> tuple[Observed, Observed]:
    """The ROCm part of `drivers` and the devices of kind `rocm`."""
    if not os.path.exists(os.path.join(root, "sys/module/amdgpu")) and not os.path.exists(
        os.path.join(root, "dev/kfd")
    ):
        return Observed({"rocm": None}), Observed([])
    drivers: dict[str, Any] = {"rocm": parse_version(text(os.path.join(root, "opt/rocm/.info/version")))}
    if not os.path.exists(os.path.join(root, "dev/kfd")):
        return Observed(drivers), Observed([])
    if not os.access(os.path.join(root, "dev/kfd"), os.R_OK | os.W_OK):
        # a fact, not a gap: ROCm shows this user no device
        drivers["rocm_reason"] = "this user may not open /dev/kfd (is it in the group that owns it, render or video?)"
        return Observed(drivers), Observed([])
    nodes = _nodes(root)
    seen = visible.rocm([uuid_of(node) for node, _ in nodes], environ)
    if seen.hidden:
        drivers["rocm_hidden"] = seen.hidden
    entries: list[dict[str, Any]] = []
    for index, position in enumerate(seen.devices):
        node, folder = nodes[position]
        entries.append(_device(index, node, folder, root))
    return Observed(drivers), Observed(entries)


def parse_version(content: str) -> str | None:
    """`6.4.1` of `6.4.1-83`, as /opt/rocm/.info/version has it."""
    return content.strip().partition("-")[0] or None


def parse_properties(content: str) -> dict[str, str]:
    """A topology file: a name and a number a line."""
    pairs = (line.split(" ") for line in content.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def architecture(version: str) -> str | None:
    """`gfx90a` of 90010, the number that the kernel gives: major, minor and stepping, the last in hexadecimal."""
    if not (version.isascii() and version.isdecimal()) or len(version) > 8 or int(version) < 10000:
        return None
    number = int(version)
    return f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}"


def uuid_of(node: Mapping[str, str]) -> str | None:
    """The UUID as rocminfo shows it, None for devices that have none."""
    number = node.get("unique_id", "0")
    return f"GPU-{int(number):016x}" if number.isascii() and number.isdecimal() and 0 < int(number) < 1 << 64 else None


def name_in(ids: str, device: str, revision: str) -> str | None:
    """The name in amdgpu.ids of a device by its two numbers, hexadecimal without 0x."""
    start = f"{device.upper()},\t{revision.upper()},\t"
    return next((line[len(start) :].strip() for line in ids.splitlines() if line.upper().startswith(start)), None)


def _nodes(root: str) -> list[tuple[dict[str, str], str]]:
    folder = os.path.join(root, "sys/class/kfd/kfd/topology/nodes")
    try:
        names = sorted((name for name in os.listdir(folder) if name.isdecimal()), key=int)
    except OSError:
        return []
    nodes = (
        (parse_properties(text(os.path.join(folder, name, "properties"))), os.path.join(folder, name)) for name in names
    )
    # processors have no compute units; devices that a control group denies have an empty file
    return [(node, place) for node, place in nodes if node.get("simd_count", "0") != "0"]


def _device(index: int, node: Mapping[str, str], folder: str, root: str) -> dict[str, Any]:
    render = os.path.join(root, "sys/class/drm", f"renderD{node.get('drm_render_minor', '')}", "device")
    entry: dict[str, Any] = {
        "kind": "rocm",
        "index": index,
        "name": _name(render, root),
        "arch": architecture(node.get("gfx_target_version", "")),
        "uuid": uuid_of(node),
    }
    total = _memory(os.path.join(folder, "mem_banks"))
    if total:
        entry["memory_total"] = total
        used = text(os.path.join(render, "mem_info_vram_used")).strip()
        if used.isdecimal():
            entry["memory_free"] = max(total - int(used), 0)
    return entry


def _memory(folder: str) -> int:
    try:
        banks = os.listdir(folder)
    except OSError:
        return 0
    total = 0
    for bank in banks:
        facts = parse_properties(text(os.path.join(folder, bank, "properties")))
        size = facts.get("size_in_bytes", "")
        if facts.get("heap_type") in _VRAM and size.isdecimal():
            total += int(size)
    return total


def _name(render: str, root: str) -> str | None:
    name = text(os.path.join(render, "product_name")).strip()
    if name:
        return name
    device = text(os.path.join(render, "device")).strip()[2:]
    revision = text(os.path.join(render, "revision")).strip()[2:]
    if not device or not revision:
        return None
    found = (name_in(text(os.path.join(root, path), 1 << 18), device, revision) for path in _NAMES)
    return next(filter(None, found), None)
