from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.model import Unreadable
from envguard.probes import visible
from envguard.probes.visible import Gpu, Instance, Visible

# the devices of PyTorch's own test of this matter (test/test_cuda_nvml_based_avail.py)
UUIDS = (
    "GPU-9942190a-aa31-4ff1-4aa9-c388d80f85f1",
    "GPU-9e8d35e3-a134-0fdd-0e01-23811fdbd293",
    "GPU-e429a63e-c61c-4795-b757-5132caeb8e70",
    "GPU-eee1dfbc-0a0f-6ad8-5ff6-dc942a8b9d98",
    "GPU-bbcd6503-5150-4e92-c266-97cc4390d04e",
    "GPU-472ea263-58d7-410d-cc82-f7fdece5bd28",
    "GPU-e56257c4-947f-6a5b-7ec9-0f45567ccf4e",
    "GPU-1c20e77d-1c1a-d9ed-fe37-18b8466a78ad",
)
EIGHT = tuple(Gpu(uuid) for uuid in UUIDS)


def seen(value: str | None, gpus: tuple[Gpu, ...] = EIGHT, order: str | None = None, driver: int = 580) -> list[int]:
    """Positions in bus order of the whole devices that CUDA shows."""
    result = look(value, gpus, order, driver)
    return [gpus.index(gpu) for gpu, _ in result.devices]


def look(value: str | None, gpus: tuple[Gpu, ...] = EIGHT, order: str | None = None, driver: int = 580) -> Visible:
    environ = {"CUDA_VISIBLE_DEVICES": value, "CUDA_DEVICE_ORDER": order}
    result = visible.cuda(gpus, {key: text for key, text in environ.items() if text is not None}, driver)
    assert isinstance(result, Visible)
    return result


# --- CUDA: numbers ---


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("0", [0]),
        ("2,1", [2, 1]),
        ("1gpu2,2ampere", [1, 2]),
        ("0, 1, 2, -1, 3", [0, 1, 2]),
        ("0,2,-1,1", [0, 2]),
        ("0, 1, 2, 1", []),
        ("2, +3, -0, 5", [2, 3, 0, 5]),
        ("one,two,3,4", []),
        ("4,3,two,one", [4, 3]),
        ("8", []),
        ("7,8,0", [7]),
        ("0-2", [0]),
        ("0,,1", [0]),
        (",0", []),
        ("\t3", [3]),
        ("007", [7]),
        ("0x3", [0]),
        ("9" * 5000, []),
        ("0" * 40 + "5", [5]),
        ("1.5,2", [1, 2]),
        ("²", []),
        ("all", []),
        ("none", []),
        ("NoDevFiles", []),
    ],
)
def test_numbers_are_read_as_cuda_reads_them(value: str | None, positions: list[int]) -> None:
    assert seen(value) == positions


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("+5", 5), ("-5", -5), ("  5x", 5), ("", None), ("-", None), ("+-5", None), ("x5", None)],
)
def test_strtoul(text: str, number: int | None) -> None:
    assert visible.strtoul(text) == number


# --- CUDA: UUIDs ---


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        ("GPU-9e8d35e3", [1]),
        (UUIDS[1], [1]),
        ("GPU-e4,GPU-9e8d35e3", [2, 1]),
        ("GPU-9e8d35e3,GPU-1,GPU-47", [1, 7, 5]),
        ("GPU-9", []),
        ("GPU-9e8d35e3,GPU-123,GPU-47", [1]),
        ("GPU-9e8d35e3,GPU-e,GPU-47", [1]),
        ("GPU-9e8d35e3,GPU-47,GPU-9e8", []),
        ("GPU-9e8d35e3,2", [1]),
        ("GPU-9e8d35e3, GPU-47", [1]),
        ("2,GPU-9e8d35e3", [2]),
        ("gpu-9e8d35e3", []),
        (f"{UUIDS[1]}0", [1]),  # libcuda 580 reads no further than a whole UUID
        (f"GPU-{UUIDS[1][4:].upper()}", [1]),
        ("GPU-", []),
    ],
)
def test_a_unique_beginning_of_a_uuid_names_a_device(value: str, positions: list[int]) -> None:
    assert seen(value) == positions


def test_a_uuid_that_was_not_observed_matches_nothing() -> None:
    assert seen("GPU-9", (Gpu(Unreadable("lost")), Gpu(UUIDS[0]))) == [1]


# --- CUDA: order ---

MIXED = (Gpu("GPU-a", speed=5), Gpu("GPU-b", speed=3), Gpu("GPU-c", speed=9), Gpu("GPU-d", speed=7))


@pytest.mark.parametrize(
    ("order", "value", "positions"),
    [
        (None, None, [2, 0, 1, 3]),
        ("FASTEST_FIRST", "0", [2]),
        ("FASTEST_FIRST", "1,2", [0, 1]),
        ("PCI_BUS_ID", None, [0, 1, 2, 3]),
        ("PCI_BUS_ID", "2", [2]),
        ("FASTEST_FIRST", "GPU-b", [1]),
        ("pci_bus_id", "0", [2]),
    ],
)
def test_numbers_count_in_the_order_that_is_asked_for(
    order: str | None, value: str | None, positions: list[int]
) -> None:
    assert seen(value, MIXED, order) == positions


def test_a_speed_that_is_not_known_leaves_bus_order() -> None:
    assert seen(None, (*MIXED, Gpu("GPU-e"))) == [0, 1, 2, 3, 4]


# --- CUDA: MIG ---


def partitioned(uuid: str, *places: tuple[int, int]) -> Gpu:
    instances = tuple(Instance(f"MIG-{uuid[4:]}-{gi}-{ci}", gpu_instance=gi, compute_instance=ci) for gi, ci in places)
    return Gpu(uuid, mig=True, instances=instances)


WHOLE = Gpu("GPU-w")
PARTED = partitioned("GPU-aa", (1, 0), (1, 1), (2, 0))
OTHER = partitioned("GPU-ab", (7, 0))
EMPTY = partitioned("GPU-e")


def names(result: Visible) -> list[str]:
    return [gpu.uuid if instance is None else instance.uuid for gpu, instance in result.devices]


@pytest.mark.parametrize(
    ("value", "new", "old"),
    [
        (None, ["GPU-w", "MIG-aa-1-0", "MIG-aa-2-0", "MIG-ab-7-0"], ["MIG-aa-1-0"]),
        ("0", ["GPU-w"], ["GPU-w"]),
        ("0,2", ["GPU-w", "MIG-ab-7-0"], ["MIG-ab-7-0"]),
        ("1", ["MIG-aa-1-0", "MIG-aa-2-0"], ["MIG-aa-1-0"]),
        ("GPU-ab", ["MIG-ab-7-0"], ["MIG-ab-7-0"]),
        ("MIG-aa-2-0", ["MIG-aa-2-0"], ["MIG-aa-2-0"]),
        ("MIG-ab", ["MIG-ab-7-0"], ["MIG-ab-7-0"]),
        ("MIG-aa", [], []),
        ("MIG-aa-2-0,MIG-aa-1-1", ["MIG-aa-2-0", "MIG-aa-1-1"], ["MIG-aa-2-0"]),
        ("MIG-aa-1-1,MIG-aa-1-0", ["MIG-aa-1-1"], ["MIG-aa-1-1"]),
        ("MIG-GPU-aa/1/1", ["MIG-aa-1-1"], ["MIG-aa-1-1"]),
        ("MIG-GPU-ab/7/0", ["MIG-ab-7-0"], ["MIG-ab-7-0"]),
        ("MIG-GPU-a/7/0", [], []),
        ("MIG-GPU-aa/3/0", [], []),
        ("MIG-GPU-aa/1", [], []),
        ("MIG-aa-2-0,MIG-aa-2-0", [], []),
    ],
)
def test_mig_instances_are_picked_as_the_driver_does(value: str | None, new: list[str], old: list[str]) -> None:
    gpus = (WHOLE, PARTED, OTHER)
    assert names(look(value, gpus, driver=570)) == new
    assert names(look(value, gpus, driver=565)) == old


def test_a_device_with_mig_and_no_instance_is_not_visible() -> None:
    result = look(None, (EMPTY, WHOLE))
    assert names(result) == ["GPU-w"]
    assert result.hidden == "GPU-e has MIG enabled and no instance"
    assert names(look("0", (EMPTY, WHOLE))) == []


def test_a_mix_of_gpu_and_mig_uuids_is_not_guessed() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "GPU-w,MIG-ab"}
    result = visible.cuda((WHOLE, PARTED, OTHER), environ, 580)
    assert isinstance(result, Unreadable)
    assert "GPU-w,MIG-ab" in result.reason


# --- CUDA: why ---


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        (None, None),
        ("0,1,2,3,4,5,6,7", None),
        ("7,6,5,4,3,2,1,0", None),
        ("", "CUDA_VISIBLE_DEVICES='': it is set, but empty"),
        ("0", "CUDA_VISIBLE_DEVICES='0' leaves 1 of 8 devices"),
        ("-1", "CUDA_VISIBLE_DEVICES='-1': '-1' names no device and ends the list"),
        ("0,9", "CUDA_VISIBLE_DEVICES='0,9': '9' names no device and ends the list"),
        ("3,3", "CUDA_VISIBLE_DEVICES='3,3': '3' names a device twice, which leaves none"),
    ],
)
def test_the_reason_names_the_variable_and_the_entry(value: str | None, hidden: str | None) -> None:
    assert look(value).hidden == hidden


def test_a_secret_in_a_variable_is_not_repeated() -> None:
    secret = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
    assert secret not in (look(secret).hidden or "")


def test_a_long_value_is_cut_in_the_reason() -> None:
    assert len(look("," * 10_000).hidden or "") < 400


# --- CUDA: properties ---

entries = st.sampled_from(
    ["0", "1", "2", "3", "9", "-1", "+1", "x", "", " 2", "1a", "GPU-9", "GPU-e4", "GPU-e5", "GPU-1", UUIDS[0], "MIG-a"]
)
lists = st.lists(entries, max_size=6).map(",".join)
counts = st.integers(0, 8)


@given(st.one_of(lists, st.text(max_size=40)), counts, st.sampled_from([None, "PCI_BUS_ID"]))
def test_what_is_visible_is_there_and_stands_once(value: str, count: int, order: str | None) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": value, **({"CUDA_DEVICE_ORDER": order} if order else {})}
    result = visible.cuda(EIGHT[:count], environ, 580)
    if isinstance(result, Unreadable):
        assert "GPU-" in value
        assert "MIG-" in value
    else:
        shown = [gpu.uuid for gpu, _ in result.devices]
        assert len(shown) == len(set(shown))
        assert set(shown) <= set(UUIDS[:count])
        assert result.hidden is not None or len(shown) == count


@given(st.lists(entries.filter(lambda entry: "MIG" not in entry), min_size=1, max_size=6), st.integers(1, 6))
def test_the_beginning_of_a_list_sees_the_beginning(parts: list[str], length: int) -> None:
    whole, start = seen(",".join(parts)), seen(",".join(parts[:length]))
    # a device named twice further on takes all away
    assert whole[: len(start)] == start or whole == []


@given(st.permutations(range(8)), counts)
def test_numbers_and_uuids_say_the_same(positions: list[int], count: int) -> None:
    some = positions[:count]
    numbers, uuids = ",".join(map(str, some)), ",".join(UUIDS[position] for position in some)
    assert seen(numbers) == seen(uuids) == some


# --- ROCm ---

ROCM = ("GPU-01aa23bb45cc67dd", "GPU-01aa23bb45cc67de", None, "GPU-f1aa23bb45cc67dd")


@pytest.mark.parametrize(
    ("environ", "positions"),
    [
        ({}, [0, 1, 2, 3]),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"ROCR_VISIBLE_DEVICES": "2,0,2,1"}, [2, 0]),
        ({"ROCR_VISIBLE_DEVICES": "1,9,2"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": " 0x1 , 02 "}, [1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "1a"}, []),
        ({"ROCR_VISIBLE_DEVICES": "gpu-f1"}, [3]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-01aa23bb45cc67de,0"}, [1, 0]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-01"}, []),
        ({"HIP_VISIBLE_DEVICES": "1,0"}, [1, 0]),
        ({"HIP_VISIBLE_DEVICES": "1,1,0"}, [1, 0]),
        ({"HIP_VISIBLE_DEVICES": "1, 0"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"HIP_VISIBLE_DEVICES": "GPU-f1aa23bb45cc67dd"}, [3]),
        ({"CUDA_VISIBLE_DEVICES": "3"}, [3]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "3"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "2"}, []),
    ],
)
def test_rocm_filters_by_rocr_first_and_then_by_hip(environ: dict[str, str], positions: list[int]) -> None:
    result = visible.rocm(ROCM, environ)
    assert list(result.devices) == positions
    assert (result.hidden is None) == (len(positions) == len(ROCM))


def test_the_rocm_reason_names_the_variable() -> None:
    assert visible.rocm(ROCM, {"HIP_VISIBLE_DEVICES": "0"}).hidden == "HIP_VISIBLE_DEVICES='0' leaves 1 of 4 devices"


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_leaves_some_of_the_rocm_devices(rocr: str, hip: str) -> None:
    shown = visible.rocm(ROCM, {"ROCR_VISIBLE_DEVICES": rocr, "HIP_VISIBLE_DEVICES": hip}).devices
    assert len(shown) == len(set(shown))
    assert set(shown) <= {0, 1, 2, 3}


# --- XPU ---


@pytest.mark.parametrize(
    ("environ", "positions"),
    [
        ({}, [0, 1, 2]),
        ({"ZE_AFFINITY_MASK": ""}, [0, 1, 2]),
        ({"ZE_AFFINITY_MASK": "0"}, [0]),
        ({"ZE_AFFINITY_MASK": "2,0"}, [0, 2]),
        ({"ZE_AFFINITY_MASK": "7"}, []),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:gpu"}, [0, 1, 2]),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:1,2"}, [1, 2]),
        ({"ONEAPI_DEVICE_SELECTOR": "Level_Zero:*"}, [0, 1, 2]),
        ({"ONEAPI_DEVICE_SELECTOR": "*:gpu"}, [0, 1, 2]),
        ({"ONEAPI_DEVICE_SELECTOR": "opencl:gpu"}, []),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:cpu"}, []),
        ({"ZE_AFFINITY_MASK": "1,2", "ONEAPI_DEVICE_SELECTOR": "level_zero:1"}, [2]),
    ],
)
def test_simple_selections_of_xpus_are_read(environ: dict[str, str], positions: list[int]) -> None:
    result = visible.xpu(3, environ)
    assert isinstance(result, Visible)
    assert list(result.devices) == positions
    assert (result.hidden is None) == (len(positions) == 3)


@pytest.mark.parametrize(
    "environ",
    [
        {"ZE_AFFINITY_MASK": "0.1"},
        {"ZE_AFFINITY_MASK": "all"},
        {"ONEAPI_DEVICE_SELECTOR": ""},
        {"ONEAPI_DEVICE_SELECTOR": "gpu"},
        {"ONEAPI_DEVICE_SELECTOR": "!level_zero:0"},
        {"ONEAPI_DEVICE_SELECTOR": "level_zero:0;opencl:*"},
        {"ONEAPI_DEVICE_SELECTOR": "level_zero:0.*"},
        {"ONEAPI_DEVICE_SELECTOR": "vulkan:gpu"},
    ],
)
def test_other_selections_of_xpus_are_unreadable_with_the_variable_named(environ: dict[str, str]) -> None:
    result = visible.xpu(3, environ)
    assert isinstance(result, Unreadable)
    assert next(iter(environ)) in result.reason
