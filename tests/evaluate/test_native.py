"""Compiled libraries: what is said of them, where it is from, and which release mends it."""

from __future__ import annotations

from typing import Any

import pytest

from envguard.cuda import carries
from envguard.evaluate import Evaluator
from envguard.gpus import capability_of
from envguard.model import BackendReport, Environment, Outcome, Request
from envguard.shipped import load

LIBC = {"libc": "glibc 2.39", "libstdcxx": "3.4.33", "cxxabi": "1.3.15"}


def machine(version: str | None, cuda: str | None = "12.8", capability: str = "8.9", **more: Any) -> dict[str, Any]:
    """A Linux machine with one NVIDIA GPU on which only the compiled library is in question."""
    data: dict[str, Any] = {
        "schema": "envguard.snapshot/1",
        "python": {"version": "3.11.7"},
        "host": {"system": "Linux", "machine": "x86_64", **LIBC},
        "distributions": {"torch": {"version": "2.8.0"}, "accelerate": {"version": "1.12.0"}},
        "torch_build": {"version": "2.8.0", "cuda": cuda, "hip": None, "xpu": None},
        "accelerators": [{"kind": "cuda", "index": 0, "name": "a GPU", "compute_capability": capability}],
        **more,
    }
    if version is not None:
        data["distributions"]["bitsandbytes"] = {"version": version, "requires": []}
    return data


def report(data: dict[str, Any], backend: str = "bitsandbytes", device: str = "cuda", **asked: Any) -> BackendReport:
    return Evaluator(load(), Request(backend, host="none", device=device, **asked)).evaluate(Environment(data))


def outcome(data: dict[str, Any], rule: str = "library", **asked: Any) -> Outcome | None:
    outcomes = report(data, **asked).outcomes
    return next((each for each in outcomes if each.rule == f"bitsandbytes/{rule}"), None)


def unmet(data: dict[str, Any], rule: str = "library", **asked: Any) -> Outcome:
    found = outcome(data, rule, **asked)
    assert found is not None
    assert found.status == "unmet", found.message
    return found


def names(*files: str) -> dict[str, Any]:
    return {"native_libraries": {"bitsandbytes": [{"file": file} for file in files]}}


def commands(found: Outcome) -> tuple[str, ...]:
    assert found.fix is not None
    return found.fix.commands


def test_both_sides_and_what_happens_are_told() -> None:
    found = unmet(machine("0.45.5", "13.0"))
    assert found.needed == "libbitsandbytes_cuda130.so for CUDA 13.0 of torch"
    assert found.found == (
        "bitsandbytes 0.45.5 carries CUDA 11.7, 11.8, 12.0, 12.1, 12.2, 12.3, 12.4, 12.5, 12.6, 12.8; "
        "it loads libbitsandbytes_cpu.so instead, without a word"
    )


def test_the_origin_says_whether_the_files_or_the_table_told_it() -> None:
    assert unmet(machine("0.45.5", "13.0")).origin == "table"
    assert unmet(machine("0.45.5", "13.0", **names("libbitsandbytes_cuda128.so"))).origin == "files"


def test_the_files_win_over_the_table() -> None:
    assert outcome(machine("0.45.5", "13.0", **names("libbitsandbytes_cuda130.so"))).status == "met"  # type: ignore[union-attr]
    assert unmet(machine("0.50.2", "13.0", **names())).found == (
        "no compiled library at all: bitsandbytes 0.50.2 is a source checkout or an empty build"
    )


@pytest.mark.parametrize("more", [{"editable": True}, {"installer": "conda"}])
def test_an_editable_or_a_conda_package_is_no_released_wheel(more: dict[str, Any]) -> None:
    data = machine("0.45.5", "13.0")
    data["distributions"]["bitsandbytes"].update(more)
    assert outcome(data).status == "undecided"  # type: ignore[union-attr]


def test_the_fix_is_the_newest_run_of_releases_that_carry_it() -> None:
    assert commands(unmet(machine("0.43.3", "12.6"))) == ("python3 -m pip install 'bitsandbytes>=0.45.0'",)
    assert commands(unmet(machine("0.49.2", "13.1"))) == ("python3 -m pip install 'bitsandbytes>=0.50.0'",)


def test_the_fix_is_a_release_for_this_python() -> None:
    data = machine("0.43.3", "12.6", python={"version": "3.9.18"})
    assert commands(unmet(data)) == ("python3 -m pip install 'bitsandbytes>=0.45.0,<0.49.0'",)


def test_the_fix_is_a_release_for_this_torch() -> None:
    data = machine("0.43.3", "12.6")
    data["distributions"]["torch"]["version"] = "2.3.1"
    assert commands(unmet(data)) == ("python3 -m pip install 'bitsandbytes>=0.45.0,<0.50.0'",)


def test_the_fix_is_a_release_for_this_gpu() -> None:
    found = unmet(machine("0.50.2", "12.6", "5.2"), "library-architectures")
    assert found.needed == "sm_52 for compute capability 5.2 of a GPU in libbitsandbytes_cuda126.so"
    assert commands(found) == ("python3 -m pip install 'bitsandbytes>=0.45.0,<0.48.0'",)
    assert unmet(machine("0.50.2", "12.8", "6.1"), "library-architectures").fix.commands == ()  # type: ignore[union-attr]


def test_the_fix_is_a_release_for_this_libc() -> None:
    old = {"system": "Linux", "machine": "x86_64", **LIBC, "libc": "glibc 2.31"}
    found = unmet(machine("0.45.3", "12.8", host=old), "library-libc")
    assert found.message == (
        "needs GLIBC_2.34 for libbitsandbytes_cuda128.so, found glibc 2.31: version GLIBC_2.34 not found"
    )
    assert commands(found) == ("python3 -m pip install 'bitsandbytes>=0.46.0'",)


def test_the_fix_is_a_release_that_does_not_link_what_is_missing() -> None:
    data = machine("0.49.2", "13.0", system_libraries={"libnvJitLink.so.13": None})
    found = unmet(data, "library-links")
    assert found.found == "libnvJitLink.so.13: cannot open shared object file"
    assert commands(found) == ("python3 -m pip install 'bitsandbytes>=0.50.0'",)
    plan = report(data).plan
    assert plan is not None
    assert (plan.resolves, plan.unsolved) == (("bitsandbytes/library-links",), ())


def test_a_version_that_the_installer_would_keep_is_taken_out_first() -> None:
    checkout = machine("0.50.2", "12.8", **names())
    assert commands(unmet(checkout)) == (
        "python3 -m pip uninstall --yes bitsandbytes",
        "python3 -m pip install 'bitsandbytes>=0.45.3'",
    )
    plan = report(checkout).plan
    assert plan is not None
    assert plan.resolves == ("bitsandbytes/library",)


def test_where_no_release_carries_it_no_command_is_offered() -> None:
    jetson = {"system": "Linux", "machine": "aarch64", **LIBC}
    data = machine("0.49.2", "10.2", host=jetson, **names("libbitsandbytes_cpu.so"))
    found = unmet(data)
    assert commands(found) == ()
    assert "cmake" in found.fix.text  # type: ignore[union-attr]
    assert report(data).plan is None


def test_a_library_for_another_machine_is_no_missing_library() -> None:
    there = [{"file": "libbitsandbytes_cuda128.so", "machine": "x86_64"}]
    data = machine("0.45.5", host={"system": "Linux", "machine": "aarch64"}, native_libraries={"bitsandbytes": there})
    assert unmet(data, "machine").message == (
        "needs libbitsandbytes_cuda128.so for aarch64, found libbitsandbytes_cuda128.so built for x86_64"
    )
    assert outcome(data).status == "skipped"  # type: ignore[union-attr]


def test_one_fact_is_enough_whatever_else_is_unknown() -> None:
    bare = {"schema": "envguard.snapshot/1", "native_libraries": {"bitsandbytes": []}}
    assert report(bare).verdict == "blocked"
    assert report({**bare, **names("libbitsandbytes_cpu.so")}).verdict == "blocked"
    assert report({**bare, **names("libbitsandbytes_cuda124.so")}).verdict == "undecided"


def test_an_override_that_would_be_mended_by_unsetting_it_says_so() -> None:
    data = machine("0.49.2", environment_variables={"BNB_CUDA_VERSION": "127"})
    found = unmet(data, "library-override")
    assert found.message == (
        "needs libbitsandbytes_cuda127.so, which BNB_CUDA_VERSION=127 asks for, found no such library; "
        "unset, libbitsandbytes_cuda128.so would be loaded"
    )
    assert commands(found) == ("unset BNB_CUDA_VERSION", "unset BNB_ROCM_VERSION")
    assert outcome(data) is None
    with_none = machine("0.49.2", "13.1", environment_variables={"BNB_CUDA_VERSION": "131"})
    assert outcome(with_none, "library-override") is None
    assert "BNB_CUDA_VERSION=131" in unmet(with_none).message


def test_where_the_release_is_not_known_only_what_all_would_do_is_said() -> None:
    assert outcome(machine(None, "12.1", **names("libbitsandbytes_cuda124.so"))).status == "undecided"  # type: ignore[union-attr]
    assert unmet(machine(None, "11.8", **names("libbitsandbytes_cuda124.so"))).found == (
        "the installed bitsandbytes carries CUDA 12.4"
    )


@pytest.mark.parametrize(("version", "status"), [("0.47.0", None), ("0.48.0", "met"), ("0.49.2", "met")])
def test_intel_gpus_have_a_library_from_0_48_on(version: str, status: str | None) -> None:
    data = machine(version, None, accelerators=[{"kind": "xpu", "index": 0}])
    data["torch_build"]["xpu"] = "20250301"
    found = outcome(data, device="xpu")
    if status is None:
        assert found is not None
        assert (found.status, found.severity) == ("unmet", "warning")
    else:
        assert found is not None
        assert found.status == status


def test_rocm_code_is_for_the_very_target() -> None:
    library = {"file": "libbitsandbytes_rocm72.so", "machine": "x86_64", "gpu_archs": ["gfx90a", "gfx942"]}

    def on(arch: str) -> Outcome | None:
        devices = [{"kind": "rocm", "index": 0, "arch": arch}]
        data = machine("0.50.2", None, accelerators=devices, native_libraries={"bitsandbytes": [library]})
        data["torch_build"]["hip"] = "7.2.1"
        return outcome(data, "library-architectures", device="rocm")

    assert on("gfx942:sramecc+:xnack-").status == "met"  # type: ignore[union-attr]
    assert on("gfx1030").status == "unmet"  # type: ignore[union-attr]


@pytest.mark.parametrize("build", [{"cuda": None, "hip": None, "xpu": None}, {"version": "2.8.0+cpu"}])
def test_a_torch_for_the_cpu_loads_no_library_for_a_gpu(build: dict[str, Any]) -> None:
    data = machine("0.45.5", torch_build=build, **names())
    for rule in ("library", "library-links", "library-libc", "library-architectures"):
        found = outcome(data, rule)
        assert found is None or found.status == "skipped"


def test_without_a_gpu_nothing_is_said() -> None:
    data = machine("0.45.5", "13.0", accelerators=[], **names())
    outcomes = report(data, device="auto").outcomes
    assert not [each.rule for each in outcomes if "library" in each.rule or "machine" in each.rule]


@pytest.mark.parametrize(
    ("found", "status"),
    [({"libcudart.so.13": None}, "unmet"), ({"libcudart.so.13": "/x/libcudart.so.13"}, "met"), (None, "undecided")],
)
def test_extensions_of_torchao_that_do_not_load_are_a_warning(found: dict[str, Any] | None, status: str) -> None:
    library = {"file": "_C_mxfp8.so", "machine": "x86_64", "needs": ["libc10.so", "libcudart.so.13"], "glibc": "2.14"}
    data = machine(None, "12.6", native_libraries={"torchao": [library]})
    data["distributions"]["torchao"] = {"version": "0.18.0", "requires": []}
    if found is not None:
        data["system_libraries"] = found
    by_rule = {each.rule: each for each in report(data, "torchao").outcomes}
    told = by_rule["torchao/library-links"]
    assert (told.status, told.severity) == (status, "warning")
    assert by_rule["torchao/library-machine"].status == "met"


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("Tesla V100-SXM2-16GB", "7.0"),
        ("NVIDIA GeForce GTX 970", "5.2"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9"),
        ("NVIDIA GeForce RTX 3060Ti", "8.6"),
        ("NVIDIA A2", "8.6"),
        ("NVIDIA RTX A2000 12GB", "8.6"),
        ("GeForce GTX TITAN X", "5.2"),
        ("NVIDIA TITAN X (Pascal)", None),  # of two kinds
        ("Quadro M4000", None),  # not an M4
        ("a GPU", None),
        ("", None),
    ],
)
def test_a_well_known_name_tells_the_compute_capability(name: str, capability: str | None) -> None:
    assert capability_of(name) == capability
    devices = [{"kind": "cuda", "index": 0, "name": name}]
    found = outcome(machine("0.46.1", "12.8", accelerators=devices), "library-architectures")
    assert found is not None
    assert (found.status == "undecided") is (capability is None)


@pytest.mark.parametrize(
    ("architectures", "capability", "fits"),
    [
        (("sm_80",), "8.6", True),
        (("sm_80", "sm_90"), "8.7", False),  # Jetson Orin
        (("sm_87",), "8.7", True),
        (("sm_87",), "8.9", False),
        (("sm_80", "compute_80"), "8.7", True),  # PTX is compiled where it runs
        (("sm_70",), "7.2", False),
        (("sm_70",), "7.5", True),
        (("sm_101",), "11.0", True),
        (("sm_100",), "10.1", False),
        (("sm_100",), "10.3", True),
    ],
)
def test_machine_code_for_other_gpus_does_not_run_on_tegra(
    architectures: tuple[str, ...], capability: str, fits: bool
) -> None:
    assert carries(architectures, capability) is fits


def test_the_wheel_for_aarch64_servers_has_no_code_for_a_jetson() -> None:
    jetson = {"system": "Linux", "machine": "aarch64", **LIBC}
    found = unmet(machine("0.50.2", "12.6", "8.7", host=jetson), "library-architectures")
    assert found.origin == "table"
    assert commands(found) == ()
    assert "from source" in found.fix.text  # type: ignore[union-attr]


def test_the_build_of_pytorchs_own_index_is_known_by_its_version() -> None:
    data = machine("0.45.5")
    del data["torch_build"]
    data["distributions"]["torch"]["version"] = "2.8.0+cu129"
    assert unmet(data).needed == "libbitsandbytes_cuda129.so for CUDA 12.9 of torch"
    data["distributions"]["torch"]["version"] = "2.8.0"
    assert outcome(data).status == "undecided"  # type: ignore[union-attr]


@pytest.mark.parametrize(("machine_", "status"), [("x86_64", "unmet"), ("aarch64", "undecided")])
def test_what_torch_wheels_carry_is_known_of_x86_64_alone(machine_: str, status: str) -> None:
    host = {"system": "Linux", "machine": machine_}
    build = {"version": "2.10.0+cu130", "cuda": "13.0", "hip": None, "xpu": None}
    outcomes = report(machine("0.50.2", capability="11.0", host=host, torch_build=build)).outcomes
    assert {each.rule: each.status for each in outcomes}["torch/architectures"] == status


def test_several_libraries_that_no_new_wheel_carries_choose_as_old_releases_do() -> None:
    old = names("libbitsandbytes_cuda111.so", "libbitsandbytes_cuda122.so", "libbitsandbytes_cuda123.so")
    assert unmet(machine(None, "12.4", **old)).needed == "libbitsandbytes_cuda124.so for CUDA 12.4 of torch"


def test_a_library_for_intel_gpus_that_does_not_load_is_a_warning() -> None:
    data = machine("0.50.2", None, accelerators=[{"kind": "xpu", "index": 0}], system_libraries={"libsycl.so.8": None})
    data["torch_build"]["xpu"] = "20250301"
    found = unmet(data, "library-links", device="xpu")
    assert (found.severity, found.found) == ("warning", "libsycl.so.8: cannot open shared object file")
