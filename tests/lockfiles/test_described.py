"""A target's text, and the environment that a file and a target describe."""

from __future__ import annotations

from typing import Any

import pytest

from envguard.checks import check_in
from envguard.errors import BadInput
from envguard.gpus import typed_capability, typed_names
from envguard.lockfiles import describe, parse_target
from envguard.lockfiles.listed import Listed, Package
from envguard.model import Environment, Ranged, Unreadable
from envguard.shipped import load

BUILDS = load().torch_builds
LINUX = "python=3.12,linux,x86_64"


def listed(complete: bool = True, requires_python: str | None = None, **versions: str) -> Listed:
    packages = {name: Package(version, None, None, "it") for name, version in versions.items()}
    return Listed("uv.lock", "uv", packages, complete, requires_python, {})


def described(target: str, **versions: str) -> Environment:
    return describe(listed(**versions), parse_target([target]), BUILDS)


@pytest.mark.parametrize(
    ("gpu", "capability"),
    [
        ("sm_89", "8.9"),
        ("8.9", "8.9"),
        ("sm_120", "12.0"),
        ("sm_90a", "9.0"),
        ("RTX 4090", "8.9"),
        ("NVIDIA GeForce RTX 4090", "8.9"),
        ("NVIDIA H100 80GB HBM3", None),
        ("NVIDIA H100 PCIe", "9.0"),
        ("NVIDIA A100-SXM4-80GB", "8.0"),
        ("Tesla T4", "7.5"),
        ("l40s", "8.9"),
        ("Quadro RTX 5000", "7.5"),
        ("DGX Spark", "12.1"),
        ("M4", None),  # perhaps Apple's
        ("sm_", None),
        ("x", None),
    ],
)
def test_a_gpu_is_known_by_name_or_number(gpu: str, capability: str | None) -> None:
    assert typed_capability(gpu) == capability


def test_no_gpu_has_two_capabilities() -> None:
    assert len(typed_names()) == len(set(typed_names()))


def test_a_target_is_told_in_one_value_or_many() -> None:
    one = parse_target(
        ["python=3.12, system=Linux, arch=amd64, gpu=RTX 4090, gpu=sm_80, memory=24GB, driver=580.65.06"]
    )
    many = parse_target(["python=3.12", "linux", "x86_64", "RTX 4090", "sm_80", "memory=24GB", "driver=580.65.06"])
    assert one[:-1] == many[:-1]
    assert one.gpus is not None
    assert [dict(gpu)["index"] for gpu in one.gpus] == [0, 1]
    assert dict(one.gpus[0])["memory_total"] == 24 * 10**9


def test_a_processor_is_written_as_its_system_writes_it() -> None:
    assert parse_target(["windows,x86_64"]).machine == "AMD64"
    assert parse_target(["macos,aarch64"]).machine == "arm64"
    assert parse_target(["linux,arm64"]).machine == "aarch64"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("pyton=3.12", "unknown key 'pyton', expected one of python, system"),
        ("python=3", "expected a version such as 3.12"),
        ("python=", "expected a value after python="),
        ("system=beos", "expected linux, windows or macos"),
        ("machine=z80", "expected x86_64 or aarch64"),
        ("RTX 4091", "did you mean"),
        ("gpu=none,memory=24GB", "is about a GPU"),
        ("memory=much,gpu=8.9", "expected gigabytes"),
        ("driver=new", "expected a version such as 580.65.06"),
        ("torch=cuda", "expected a build such as cu130"),
        ("python=3.12,python=3.13", "python was 3.12 already"),
    ],
)
def test_a_bad_target_is_told_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_target([text])
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("--target ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "target", "build"),
    [
        ("2.11.0+cu130", LINUX, {"cuda": "13.0", "hip": None, "xpu": None}),
        ("2.11.0+cpu", LINUX, {"cuda": None, "hip": None, "xpu": None}),
        ("2.11.0+rocm6.4", LINUX, {"cuda": None, "hip": "6.4", "xpu": None}),
        ("2.11.0+xpu", LINUX, {"cuda": None, "hip": None, "xpu": "yes"}),
        ("2.11.0", LINUX, {"cuda": "13.0", "hip": None, "xpu": None}),
        ("2.11.0", "python=3.12,windows,x86_64", {"cuda": None, "hip": None, "xpu": None}),
        ("2.11.0", "python=3.12,macos,arm64", {"cuda": None, "hip": None, "xpu": None}),
        ("2.11.0", "python=3.12,linux,aarch64,torch=cu126", {"cuda": "12.6", "hip": None, "xpu": None}),
    ],
)
def test_what_torch_was_built_for_is_in_its_version_or_its_index(version: str, target: str, build: Any) -> None:
    found = described(target, torch=version).section("torch_build")
    assert {name: found[name] for name in build} == build


@pytest.mark.parametrize("target", ["", "linux", "linux,aarch64"])
def test_what_torch_was_built_for_is_open_where_the_target_decides_it(target: str) -> None:
    assert isinstance(described(target, torch="2.11.0").fact("torch_build", "cuda"), Unreadable)


def test_code_for_devices_is_known_of_the_wheels_of_the_index_alone() -> None:
    assert "sm_90" in described(LINUX, torch="2.11.0").fact("torch_build", "arch_list")
    assert isinstance(described(LINUX, torch="2.11.0+cu126").fact("torch_build", "arch_list"), Unreadable)
    assert isinstance(
        described("linux,aarch64,torch=cu130", torch="2.11.0").fact("torch_build", "arch_list"), Unreadable
    )


def test_nothing_is_taken_from_this_machine() -> None:
    environment = described("", torch="2.11.0")
    for section, key in (("python", "version"), ("host", "system"), ("drivers", "nvidia")):
        fact = environment.fact(section, key)
        assert isinstance(fact, Unreadable)
        assert "--target" in fact.reason
    assert isinstance(environment.section("accelerators"), Unreadable)


def test_a_machine_without_a_gpu_has_none() -> None:
    assert described("gpu=none").section("accelerators") == []


def test_a_complete_file_says_what_is_absent_and_another_does_not() -> None:
    assert described(LINUX).distribution("gguf") is None
    open_end = describe(listed(complete=False), parse_target([LINUX]), BUILDS)
    assert isinstance(open_end.distribution("gguf"), Unreadable)


def test_a_range_is_no_version() -> None:
    package = Package(None, ">=2.6", None, "r.txt line 1")
    environment = describe(
        Listed("r.txt", "requirements", {"torch": package}, False, None, {}), parse_target([]), BUILDS
    )
    found = environment.version("torch")
    assert isinstance(found, Ranged)
    assert found.specifier == ">=2.6"


def test_a_lock_for_another_python_is_refused() -> None:
    with pytest.raises(BadInput, match=r"uv.lock: requires-python: it is for Python >=3.13, the target has 3.12"):
        describe(listed(requires_python=">=3.13"), parse_target(["python=3.12"]), BUILDS)


def test_it_is_a_snapshot_like_any_other() -> None:
    environment = described(f"{LINUX},gpu=RTX 4090,driver=580.65.06", torch="2.11.0")
    assert Environment.from_json(environment.to_json()).data == environment.data


def test_what_a_rule_about_driver_or_build_misses_is_told_with_the_target_that_tells_it() -> None:
    untold = described("", torch="2.11.0", bitsandbytes="0.50.2")
    (report,) = check_in(load(), ["bnb"], untold, None, host="none", device="auto", operation="quantize").backends
    found = {outcome.rule: outcome.found for outcome in report.outcomes if outcome.status == "undecided"}
    assert "--target driver=580.65.06" in found["platform/nvidia-driver"]
    assert "not observed" not in found["platform/nvidia-driver"]
    assert "--target system=linux,machine=x86_64" in found["torch/build"]
