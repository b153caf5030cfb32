from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.model import Unreadable
from envguard.probes import child, loader, nvidia
from envguard.probes.accelerators import parse_nvrm, read_traces
from envguard.probes.nvidia import Answer, Traces, failure, parse_answer

Driver = Callable[..., dict[str, str]]
Root = Callable[[dict[str, str]], str]


def facts(environ: dict[str, str], root: str, limit: float = 5.0) -> tuple[dict[str, Any], Any, dict[str, str]]:
    drivers, accelerators = nvidia.nvidia(environ, root, limit)
    return drivers.value, accelerators.value, {**drivers.unreadable, **accelerators.unreadable}


# --- files ---


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version: 12",
            "550.54.14",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder@U22)\n",
            "580.159.04",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157  Wed Oct 12 09:19:07 UTC 2022\n", "390.157"),
        ("GCC version: gcc\n12.2.0", None),
        ("", None),
    ],
)
def test_the_module_version_is_read_from_proc(text: str, version: str | None) -> None:
    assert parse_nvrm(text) == version


def test_the_module_version_is_read_from_sys_where_proc_has_none(root: Root) -> None:
    assert read_traces({}, root({"sys/module/nvidia/version": "535.54.03\n"})).module == "535.54.03"


def test_a_machine_without_a_driver_has_no_devices_and_nothing_unreadable(root: Root) -> None:
    drivers, accelerators, unreadable = facts({}, root({}))
    assert drivers == {"nvidia": None, "cuda": None, "nvidia_status": "absent", "nvidia_devices": 0, "libcuda": None}
    assert accelerators == []
    assert unreadable == {}


def test_wsl_on_a_machine_without_an_nvidia_gpu_has_no_driver(root: Root) -> None:
    assert facts({}, root({"dev/dxg": ""}))[0]["nvidia_status"] == "absent"


def test_a_library_without_kernel_module_is_half_installed_and_shows_no_device(driver: Driver, root: Root) -> None:
    drivers, accelerators, unreadable = facts(driver("two", "libcuda.so.1"), root({}))
    assert drivers["nvidia_status"] == "half-installed"
    assert drivers["nvidia"] is None
    assert "no NVIDIA kernel module" in drivers["nvidia_reason"]
    assert accelerators == []
    assert set(unreadable) == {"/drivers/cuda"}


def test_a_container_without_the_devices_of_its_machine_is_half_installed(root: Root) -> None:
    files = {"proc/driver/nvidia/version": "x 550.54.14 y\n", "proc/driver/nvidia/gpus/a/": "", "dev/null": ""}
    drivers, accelerators, unreadable = facts({}, root(files))
    assert drivers["nvidia"] == "550.54.14"
    assert drivers["nvidia_status"] == "half-installed"
    assert drivers["nvidia_devices"] == 1
    assert accelerators is None
    reason = unreadable["/accelerators"]
    assert reason == drivers["nvidia_reason"]
    assert "550.54.14" in reason
    assert "no /dev/nvidiactl and no libcuda.so.1" in reason
    assert "container" in reason


def test_device_nodes_that_may_not_be_opened_are_denied(
    driver: Driver, nvidia_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("nvidiactl"))
    drivers, accelerators, unreadable = facts(driver(), nvidia_root)
    assert drivers["nvidia_status"] == "denied"
    assert accelerators is None
    assert unreadable["/accelerators"] == "this user may not open /dev/nvidiactl"
    assert drivers["nvidia"] == "550.54.14"


# --- a driver that answers ---


def test_two_devices_are_reported_with_every_fact(driver: Driver, nvidia_root: str) -> None:
    environ = {**driver(), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    drivers, accelerators, unreadable = facts(environ, nvidia_root)
    assert drivers == {
        "nvidia": "580.159.04",
        "cuda": "13.0",
        "nvidia_status": "ok",
        "nvidia_devices": 2,
        "libcuda": f"{environ['LD_LIBRARY_PATH']}/libcuda.so.1",
    }
    assert unreadable == {}
    assert accelerators == [
        {
            "kind": "cuda",
            "index": 0,
            "name": "NVIDIA T4",
            "compute_capability": "7.5",
            "memory_total": 1 << 30,
            "memory_free": (1 << 30) - 4096,
            "mig": False,
            "uuid": "GPU-9942190a-aa31-4ff1-4aa9-c388d80f85f1",
        },
        {
            "kind": "cuda",
            "index": 1,
            "name": "NVIDIA?H200",
            "compute_capability": "9.0",
            "memory_total": 2 << 30,
            "memory_free": (2 << 30) - 4096,
            "mig": False,
            "uuid": "GPU-9e8d35e3-a134-0fdd-0e01-23811fdbd293",
        },
    ]


def test_the_fastest_device_comes_first_unless_bus_order_is_asked_for(driver: Driver, nvidia_root: str) -> None:
    assert [device["compute_capability"] for device in facts(driver(), nvidia_root)[1]] == ["9.0", "7.5"]


def test_equal_devices_stay_in_bus_order(driver: Driver, nvidia_root: str) -> None:
    assert [device["compute_capability"] for device in facts(driver("twins"), nvidia_root)[1]] == ["7.5", "9.0"]


def test_masked_devices_are_left_out_and_the_reason_is_said(driver: Driver, nvidia_root: str) -> None:
    drivers, accelerators, _ = facts({**driver(), "CUDA_VISIBLE_DEVICES": ""}, nvidia_root)
    assert accelerators == []
    assert drivers["nvidia_devices"] == 2
    assert drivers["nvidia_hidden"] == "CUDA_VISIBLE_DEVICES='': it is set, but empty"


def test_mig_instances_stand_for_their_device(driver: Driver, nvidia_root: str) -> None:
    drivers, accelerators, unreadable = facts(driver("mig"), nvidia_root)
    assert drivers["nvidia_devices"] == 1
    assert [device["uuid"] for device in accelerators] == ["MIG-c788539f-0000", "MIG-b4b2228d-0000"]
    assert [device["memory_total"] >> 30 for device in accelerators] == [11, 13]
    assert all(device["mig"] is True for device in accelerators)
    assert accelerators[0]["name"] == "NVIDIA H100 MIG 1c.3g.40gb"
    assert unreadable == {}


def test_a_fact_that_the_driver_refuses_is_unreadable_with_its_reason(driver: Driver, nvidia_root: str) -> None:
    _, accelerators, unreadable = facts(driver("small"), nvidia_root)
    assert "memory_total" not in accelerators[0]
    assert unreadable["/accelerators/0/memory_total"] == "Not Supported"
    assert accelerators[0]["name"] == "NVIDIA?H200"


def test_a_device_that_may_not_be_opened_is_not_numbered(driver: Driver, nvidia_root: str) -> None:
    drivers, accelerators, _ = facts(driver("denied"), nvidia_root)
    assert [device["name"] for device in accelerators] == ["NVIDIA T4"]
    assert drivers["nvidia_devices"] == 2
    assert "may not open 1 of 2" in drivers["nvidia_hidden"]


def test_a_question_can_be_asked_first_and_answered_later(driver: Driver, nvidia_root: str) -> None:
    environ = driver()
    pending = nvidia.begin(environ, nvidia_root)
    drivers, accelerators = nvidia.nvidia(environ, nvidia_root, pending=pending)
    assert drivers.value["nvidia_status"] == "ok"
    assert len(accelerators.value) == 2


def test_a_driver_whose_libcuda_cannot_be_loaded_is_half_installed(driver: Driver, nvidia_root: str) -> None:
    drivers, accelerators, unreadable = facts(driver("two", "libnvidia-ml.so.1"), nvidia_root)
    assert drivers["nvidia_status"] == "half-installed"
    assert drivers["nvidia"] == "550.54.14"
    assert "libcuda.so.1 cannot be loaded" in unreadable["/accelerators"]
    assert accelerators is None


def test_a_libcuda_that_only_the_loader_finds_is_no_gap_in_the_driver(
    driver: Driver, nvidia_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = driver()
    nvml = f"{environ['LD_LIBRARY_PATH']}/libnvidia-ml.so.1"
    monkeypatch.setattr(loader, "find", lambda names, environ, root: [None, nvml])
    drivers, accelerators, unreadable = facts(environ, nvidia_root)
    assert drivers["nvidia_status"] == "ok"
    assert len(accelerators) == 2
    assert set(unreadable) == {"/drivers/libcuda"}


def test_without_kernel_module_and_answer_nothing_is_called_absent(
    driver: Driver, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers, accelerators, _ = facts(driver("hang"), root({}), 0.3)
    assert (drivers["nvidia_status"], accelerators) == ("hung", None)
    monkeypatch.setattr(nvidia, "_folder_of_pynvml", lambda: None)
    assert facts(driver(), root({}))[1] is None


# --- libcuda alone ---


@pytest.mark.parametrize("node", ["dev/nvidiactl", "dev/nvhost-ctrl-gpu", "dev/nvgpu/igpu0/", "dev/nvmap"])
def test_without_nvml_libcuda_is_asked(driver: Driver, root: Root, node: str) -> None:
    environ = {**driver("two", "libcuda.so.1"), "CUDA_VISIBLE_DEVICES": "0"}
    drivers, accelerators, unreadable = facts(environ, root({node: ""}))
    assert drivers["nvidia_status"] == "ok"
    assert drivers["cuda"] == "12.4"
    assert "/drivers/nvidia" in unreadable
    assert accelerators == [
        {
            "kind": "cuda",
            "index": 0,
            "name": "Orin",
            "compute_capability": "8.7",
            "memory_total": 30 << 30,
            "uuid": "GPU-abababab-abab-abab-abab-abababababab",
        }
    ]
    assert set(unreadable) == {"/drivers/nvidia", "/accelerators/0/memory_free", "/accelerators/0/mig"}


def test_libcuda_without_a_device_shows_none(driver: Driver, root: Root) -> None:
    drivers, accelerators, _ = facts(driver("code:100", "libcuda.so.1"), root({"dev/nvidiactl": ""}))
    assert (drivers["nvidia_status"], drivers["nvidia_devices"], accelerators) == ("ok", 0, [])


def test_libcuda_of_another_version_is_a_mismatch(driver: Driver, nvidia_root: str) -> None:
    drivers, _, unreadable = facts(driver("code:803", "libcuda.so.1"), nvidia_root)
    assert drivers["nvidia_status"] == "mismatch"
    assert "550.54.14" in unreadable["/accelerators"]
    assert "550.54.15" in unreadable["/accelerators"]


# --- a driver that does not answer ---


def test_a_driver_that_hangs_is_left_behind_in_time(driver: Driver, nvidia_root: str) -> None:
    drivers, accelerators, unreadable = facts(driver("hang"), nvidia_root, 0.3)
    assert drivers["nvidia_status"] == "hung"
    assert drivers["nvidia"] == "550.54.14"
    assert drivers["nvidia_devices"] == 2
    assert accelerators is None
    reason = "the NVIDIA driver did not answer within 0.3 s"
    assert unreadable == {"/accelerators": reason, "/drivers/cuda": reason}


def test_a_driver_that_hangs_later_keeps_what_it_said_before(driver: Driver, root: Root) -> None:
    drivers, accelerators, _ = facts(driver("hang-later"), root({"dev/nvidiactl": ""}), 0.5)
    assert drivers["nvidia_status"] == "hung"
    assert (drivers["nvidia"], drivers["cuda"], drivers["nvidia_devices"]) == ("580.159.04", "13.0", 2)
    assert accelerators is None


@pytest.mark.parametrize("behaviour", ["crash", "crash-later"])
def test_a_driver_that_crashes_is_half_installed_and_the_signal_is_named(
    driver: Driver, nvidia_root: str, behaviour: str
) -> None:
    drivers, accelerators, unreadable = facts(driver(behaviour), nvidia_root)
    assert drivers["nvidia_status"] == "half-installed"
    assert unreadable["/accelerators"] == "asking the NVIDIA driver crashed (SIGSEGV)"
    assert accelerators is None


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (18, "mismatch", ["550.54.14", "550.54.15"]),
        (9, "half-installed", ["the kernel module is not loaded"]),
        (4, "denied", ["this user may not use the NVIDIA driver"]),
        (999, "half-installed", ["NVML does not start", "999"]),
    ],
)
def test_what_nvml_refuses_with_has_its_own_status_and_reason(
    driver: Driver, nvidia_root: str, code: int, status: str, words: list[str]
) -> None:
    drivers, accelerators, unreadable = facts(driver(f"code:{code}"), nvidia_root)
    assert drivers["nvidia_status"] == status
    assert accelerators is None
    for word in words:
        assert word in unreadable["/accelerators"]


def test_nvml_without_a_kernel_module_shows_no_device(driver: Driver, root: Root) -> None:
    drivers, accelerators, _ = facts(driver("code:9"), root({}))
    assert (drivers["nvidia_status"], drivers["nvidia"], accelerators) == ("half-installed", None, [])


def test_every_reason_is_another_one() -> None:
    traces = Traces(module="550.54.14", control=True, nvml="/lib/libnvidia-ml.so.550.54.15")
    ends = [
        (Answer(), "hung"),
        (Answer(), "SIGABRT"),
        (Answer(), "ended with status 2"),
        (Answer(error=("import", 0, "ModuleNotFoundError", "")), "ended with status 0"),
        (Answer(error=("init", 18, "", "opened")), "ended with status 0"),
        (Answer(error=("init", 9, "", "failed")), "ended with status 0"),
        (Answer(error=("init", 9, "", "denied")), "ended with status 0"),
        (Answer(error=("init", 12, "Library not found", "opened")), "ended with status 0"),
        (Answer(error=("cuda", 999, "cuInit failed", "opened")), "ended with status 0"),
    ]
    found = [failure(answer, traces, ended, 5.0) for answer, ended in ends]
    assert len({reason for _, reason in found}) == len(ends)
    assert [status for status, _ in found] == [
        "hung",
        "half-installed",
        None,
        None,
        "mismatch",
        "half-installed",
        "denied",
        "half-installed",
        "half-installed",
    ]


def test_a_missing_nvidia_ml_py_is_no_driver_problem(
    driver: Driver, nvidia_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "_folder_of_pynvml", lambda: None)
    drivers, accelerators, unreadable = facts(driver(), nvidia_root)
    assert "nvidia_status" not in drivers
    assert "nvidia-ml-py" in unreadable["/drivers/nvidia_status"]
    assert accelerators is None


@pytest.mark.parametrize("executable", ["", "/no/such/python"])
def test_a_program_without_a_second_python_says_so(
    driver: Driver, nvidia_root: str, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    drivers, accelerators, unreadable = facts(driver(), nvidia_root)
    assert "nvidia_status" not in drivers
    assert accelerators is None
    assert unreadable["/accelerators"]


# --- the answer ---


def test_an_answer_with_refusals_keeps_their_texts() -> None:
    answer = parse_answer(
        "driver\t550.54.14\ncuda\t12040\ncount\t1\n"
        "device\t0\tGPU-1\tA\t!3 Not Supported\t!3 Not Supported\t5\t!999 Unknown Error\nend\n"
    )
    assert answer.complete
    assert answer.cuda == "12.4"
    (gpu,) = answer.gpus
    assert gpu.capability == Unreadable("Not Supported")
    assert gpu.memory_free == 5
    assert gpu.mig == Unreadable("Unknown Error")


def test_half_a_line_is_left_out() -> None:
    assert parse_answer("driver\t550.54.14\ncou").driver == "550.54.14"


@pytest.mark.parametrize("text", ["hello\n", "device\n", "count\tmany\n", "mig\t0\ta\n", "speed\t3\t4\n"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        parse_answer(text)


@given(
    st.lists(st.text(alphabet="!0123456789abc\t", max_size=12), max_size=6), st.sampled_from(["device", "mig", "count"])
)
def test_no_answer_raises_anything_else(lines: list[str], key: str) -> None:
    try:
        parse_answer("".join(f"{key}\t{line}\n" for line in lines))
    except (ValueError, LookupError):
        pass


# --- the child process ---


@pytest.mark.parametrize("kind", [child.Posix, child.Windows])
def test_a_child_answers_hangs_or_fails(kind: Any) -> None:
    if kind is child.Posix and not hasattr(os, "posix_spawn"):
        pytest.skip("needs posix_spawn")

    def ask(script: str, seconds: float = 5.0) -> tuple[str, str]:
        command = [sys.executable, "-I", "-S", "-c", script]
        return kind(command, dict(os.environ), time.monotonic() + seconds).read()

    assert ask("print('a', flush=True); print('end')") == ("a\nend\n", "answered")
    text, ended = ask("print('a', flush=True); import time; time.sleep(60)", 0.3)
    assert (text, ended) == ("a\n", "hung")
    assert ask("raise SystemExit(3)")[1] in ("ended with status 3", "ended with status 0x3")


def test_a_child_that_ended_is_collected_by_the_next_one() -> None:
    command = [sys.executable, "-I", "-S", "-c", "print('a', flush=True); print('end')"]
    for _ in range(3):
        child.start(command, dict(os.environ), time.monotonic() + 5).read()
    assert len(child._left_behind) <= 1


# --- CUDA initialised in this process ---


def torch_like(initialised: bool, hip: str | None = None) -> SimpleNamespace:
    properties = SimpleNamespace(
        name="NVIDIA H200", major=9, minor=0, total_memory=150 << 30, uuid="ab-cd", gcnArchName="gfx942:sramecc+:xnack-"
    )
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: initialised, device_count=lambda: 2, get_device_properties=lambda index: properties
        ),
        version=SimpleNamespace(hip=hip),
        _C=SimpleNamespace(_cuda_getDriverVersion=lambda: 13000),
    )


@pytest.mark.parametrize("modules", [{}, {"torch": None}, {"torch": SimpleNamespace()}, {"torch": torch_like(False)}])
def test_without_initialised_cuda_the_process_says_nothing(modules: dict[str, Any]) -> None:
    assert nvidia.initialised_devices(modules) is None


def test_once_cuda_is_initialised_its_devices_count(nvidia_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_like(True))
    drivers, accelerators, unreadable = facts({"CUDA_VISIBLE_DEVICES": ""}, nvidia_root)
    assert drivers == {
        "nvidia": "550.54.14",
        "cuda": "13.0",
        "nvidia_status": "ok",
        "nvidia_devices": 2,
        "libcuda": drivers["libcuda"],
    }
    assert [device["index"] for device in accelerators] == [0, 1]
    assert accelerators[0]["compute_capability"] == "9.0"
    assert accelerators[0]["uuid"] == "GPU-ab-cd"
    assert unreadable == {}


def test_an_initialised_rocm_names_architectures() -> None:
    devices = nvidia.initialised_devices({"torch": torch_like(True, "6.4")})
    assert devices is not None
    assert devices[1]["kind"] == "rocm"
    assert devices[1]["arch"] == "gfx942"
    assert "compute_capability" not in devices[1]
