"""What each kind of need says about literal facts: met, unmet, undecided, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest
from support import applies, evaluate, gpu, judge, machine, row, snapshot, without_gpu

from envguard.cuda import carries, driver_runs, parse_capability
from envguard.judge import examine
from envguard.judge.subject import Subject
from envguard.model import Environment, Request
from envguard.rule import LinksNeed

LATER = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}


def build(version: str = "2.10.0+cu128", cuda: str | None = "12.8", **more: Any) -> dict[str, Any]:
    """A torch build as its version file gives it."""
    return {"version": version, "cuda": cuda, "hip": None, "xpu": None, **more}


def driver(version: str | None, cuda: str | None = None, **more: Any) -> dict[str, Any]:
    """A driver that answers."""
    return {"nvidia": version, "cuda": cuda, "nvidia_status": "ok", **more}


# Distributions


@pytest.mark.parametrize(
    ("need", "distributions", "status", "found"),
    [
        ("torchao", {"torchao": {"version": "0.18.0"}}, "met", "torchao 0.18.0"),
        ("torchao", {}, "unmet", "torchao is not installed"),
        ("torchao", {"torchao": None}, "unmet", "torchao is not installed"),
        ("torchao", {"torchao": {"version": None}}, "unmet", "torchao: installed, but its metadata gives no version"),
        ("torchao>=0.15.0", {"torchao": {"version": "0.15.0"}}, "met", "torchao 0.15.0"),
        ("torchao>=0.15.0", {"torchao": {"version": "0.14.1"}}, "unmet", "torchao 0.14.1"),
        ("torchao>=0.15.0", {}, "unmet", "torchao is not installed"),
        ("torchao>=0.15.0", {"torchao": {"version": None}}, "undecided", "torchao: its metadata gives no version"),
        (
            "torchao>=0.15.0",
            {"torchao": {"version": "main-branch"}},
            "undecided",
            "torchao main-branch, which is not a PEP 440 version",
        ),
        ("nvidia-modelopt[hf]>=0.33.1", {"nvidia-modelopt": {"version": "0.33.0"}}, "unmet", "nvidia-modelopt 0.33.0"),
    ],
)
def test_a_distribution(need: str, distributions: dict[str, Any], status: str, found: str) -> None:
    outcome = judge({"distribution": need}, machine(distributions=distributions))
    assert (outcome.status, outcome.found) == (status, found)
    assert outcome.needed == need
    assert outcome.message == f"needs {need}, found {found}"


def test_a_missing_distribution_is_absent_and_one_without_version_broken() -> None:
    assert judge({"distribution": "torchao"}, machine(distributions={})).kind == "absent"
    assert judge({"distribution": "torchao"}, machine(distributions={"torchao": {"version": None}})).kind == "broken"
    assert judge({"distribution": "torchao>=1"}, machine()).kind == "version"


def test_a_distribution_that_is_not_listed_is_absent_only_in_a_complete_list() -> None:
    listed = {"torch": {"version": "2.10.0"}}
    assert judge({"distribution": "torchao"}, snapshot(distributions=listed)).status == "undecided"
    assert judge({"distribution": "torchao"}, snapshot()).status == "undecided"
    complete = snapshot(distributions=listed, distributions_complete=True)
    assert judge({"distribution": "torchao"}, complete).status == "unmet"


@pytest.mark.parametrize("pointer", ["/distributions/torchao", "/distributions"])
def test_why_a_distribution_was_not_observed_is_said(pointer: str) -> None:
    outcome = judge({"distribution": "torchao"}, snapshot(unreadable={pointer: "permission denied"}))
    assert (outcome.status, outcome.found) == ("undecided", "torchao: permission denied")


@pytest.mark.parametrize(
    ("comparison", "version", "status"),
    [
        ("version", "2.6.0.dev1", "unmet"),
        ("specifier", "2.6.0.dev1", "undecided"),
        ("version", "2.6.0+cu124", "met"),
        ("specifier", "2.6.0+cu124", "met"),
        ("specifier", "2.7.0.dev20250101", "met"),
    ],
)
def test_the_rule_says_which_comparison_is_meant(comparison: str, version: str, status: str) -> None:
    need = row("torch/version", {"distribution": "torch>=2.6.0"}, fact="metadata", comparison=comparison)
    (outcome,) = evaluate([need], machine(distributions={"torch": {"version": version}})).outcomes
    assert outcome.status == status


def test_a_rule_may_read_torchs_version_file_instead_of_its_metadata() -> None:
    data = machine(distributions={"torch": {"version": "2.10.0"}}, torch_build=build("2.5.0"))
    for fact, status in (("metadata", "met"), ("version-file", "unmet")):
        need = row("torch/version", {"distribution": "torch>=2.6"}, fact=fact)
        assert [outcome.status for outcome in evaluate([need], data).outcomes] == [status]


# What a distribution itself declares


def declared(*requires: str, **versions: str | None) -> dict[str, Any]:
    listed = {
        name.replace("_", "-"): None if version is None else {"version": version} for name, version in versions.items()
    }
    return machine(distributions={"torchao": {"version": "0.18.0", "requires": list(requires)}, **listed})


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (declared("torch>=2.6", "numpy", torch="2.10.0", numpy="2.4"), "met", "all 2 requirements of torchao 0.18.0"),
        (declared(), "met", "all 0 requirements"),
        (declared("torch (>=2.6)", torch="2.5.1"), "unmet", "torch 2.5.1"),
        (declared("torch>=2.6", "numpy<2", torch="2.5.1", numpy="2.4"), "unmet", "torch 2.5.1, numpy 2.4"),
        (declared("torch>=2.6", "numpy"), "unmet", "torch is not installed, numpy is not installed"),
        (declared("ninja ; extra == 'dev'", "triton; sys_platform == 'win32'"), "met", "all 0 requirements"),
        (declared("torch>=2.6", torch="2.6.0rc1"), "undecided", "torch: 2.6.0rc1"),
        (declared("not a requirement !"), "undecided", "the metadata of torchao cannot be read"),
        (machine(distributions={"torchao": {"version": "0.18.0"}}), "undecided", "were not observed"),
        (snapshot(), "undecided", "not observed"),
        (
            snapshot(distributions={"torchao": {"version": "1", "requires": ["torch"]}}),
            "undecided",
            "torch: not observed",
        ),
    ],
)
def test_the_requirements_of_a_distribution(data: dict[str, Any], status: str, words: str) -> None:
    outcome = judge({"requirements": "torchao"}, data)
    assert outcome.status == status
    assert words in (outcome.found or "")


def test_requirements_that_fail_are_named_with_who_declares_them() -> None:
    outcome = judge({"requirements": "torchao"}, declared("torch>=2.6", "numpy<2", torch="2.10", numpy="2.4"))
    assert outcome.needed == "numpy<2 (declared by torchao 0.18.0)"


def in_turn(**requires: list[str] | None) -> dict[str, Any]:
    """A machine with torchao and others, by what each declares; None: that was not observed."""
    listed = {name: {"version": "1.0", **({} if r is None else {"requires": r})} for name, r in requires.items()}
    return machine(distributions=listed)


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (in_turn(torchao=["a"], a=["b"], b=[]), "met", "all 2 of them"),
        (in_turn(torchao=["a>=9"], a=["b"], b=["a", "torchao"]), "met", "all 2 of them"),
        (in_turn(torchao=["a"], a=["b"], b=["c>=2"]), "unmet", "c is not installed"),
        (in_turn(torchao=["a"], a=["b ; extra == 'x'"]), "met", "all 1 of them"),
        (in_turn(torchao=["torch"], torch=["sympy"]), "met", "all 1 of them"),
        (in_turn(torchao=["a"], a=None), "undecided", "the requirements of a were not observed"),
        (in_turn(torchao=["a"], a=["not a requirement !"]), "undecided", "cannot be read"),
        (snapshot(distributions={"torchao": {"version": "1", "requires": ["a"]}}), "undecided", "a: not observed"),
    ],
)
def test_what_a_distribution_requires_in_turn(data: dict[str, Any], status: str, words: str) -> None:
    outcome = judge({"required_in_turn": "torchao"}, data)
    assert outcome.status == status
    assert words in (outcome.found or "")


def test_a_missing_one_is_named_with_who_declares_it() -> None:
    outcome = judge({"required_in_turn": "torchao"}, in_turn(torchao=["a"], a=["b>=2"]))
    assert (outcome.needed, outcome.kind) == ("b>=2 (declared by a)", "absent")


def test_what_is_not_installed_declares_nothing() -> None:
    assert not applies({"requirements": "torchao"}, machine(distributions={}))


# Who owns the import name


@pytest.mark.parametrize(
    ("owner", "status", "words"),
    [
        (
            {"origin": "/v/torchao/__init__.py", "distribution": "torchao", "kind": "package"},
            "met",
            "torchao (/v/torchao",
        ),
        (
            {"origin": None, "distribution": "a", "distributions": ["a", "torchao"], "kind": "namespace"},
            "met",
            "namespace",
        ),
        ({"origin": "/w/torchao.py", "distribution": None, "kind": "module"}, "unmet", "belongs to no distribution"),
        (
            {"origin": "/v/torchao/__init__.py", "distribution": "torchao-fork"},
            "unmet",
            "the distribution torchao-fork",
        ),
        (
            {"origin": "/v/torchao", "distribution": "torchao", "kind": "placeholder"},
            "unmet",
            "a placeholder without code",
        ),
        ({"origin": None, "distribution": None, "kind": "missing"}, "unmet", "cannot be found by Python"),
        ({"origin": "/v/torchao/__init__.py"}, "undecided", "whose owner was not observed"),
    ],
)
def test_the_owner_of_an_import_name(owner: dict[str, Any], status: str, words: str) -> None:
    outcome = judge({"owner": "torchao"}, machine(import_owners={"torchao": owner}))
    assert outcome.status == status
    assert words in (outcome.found or "")
    assert outcome.needed == "torchao imported from the distribution torchao"


@pytest.mark.parametrize("data", [snapshot(), snapshot(import_owners={}), snapshot(import_owners={"torch": {}})])
def test_an_owner_that_was_not_looked_for_is_undecided(data: dict[str, Any]) -> None:
    assert judge({"owner": "torchao"}, data).status == "undecided"


# What was asked


@pytest.mark.parametrize(
    ("device", "status"), [("cuda", "met"), ("cuda:1", "met"), ("cpu", "unmet"), ("auto", "unmet")]
)
def test_a_device_that_was_asked_for(device: str, status: str) -> None:
    outcome = judge({"device": ["cuda", "xpu"]}, snapshot(), device=device)
    assert (outcome.status, outcome.needed, outcome.found) == (status, "cuda or xpu", f"device {device}")


@pytest.mark.parametrize(("scheme", "status"), [("int8", "met"), ("fp8", "unmet")])
def test_a_scheme_that_was_asked_for(scheme: str, status: str) -> None:
    outcome = judge({"scheme": ["int8", "int4"]}, snapshot(), scheme=scheme)
    assert (outcome.status, outcome.found) == (status, f"scheme {scheme}")


@pytest.mark.parametrize(("weights", "status"), [("safetensors", "met"), ("flax", "unmet")])
def test_the_form_in_which_a_model_is_stored(weights: str, status: str) -> None:
    outcome = judge({"weights": ["safetensors", "torch"]}, snapshot(), weights=weights)
    assert (outcome.status, outcome.needed) == (status, "weights stored as safetensors or torch")
    assert outcome.found == f"{weights} weights"


def test_a_need_of_stored_weights_decides_nothing_where_no_model_was_named() -> None:
    assert not applies({"weights": ["torch"]}, machine())


def test_a_need_of_a_scheme_decides_nothing_where_none_was_asked() -> None:
    assert not applies({"scheme": ["int8"]}, machine())


# Devices

ROCM = {"kind": "rocm", "index": 0, "name": "AMD Instinct MI300X", "arch": "gfx942", "memory_total": 205_000_000_000}
XPU = {"kind": "xpu", "index": 0, "name": "Intel Arc B580"}
MPS = {"kind": "mps", "name": "Apple M4"}


@pytest.mark.parametrize(
    ("kinds", "devices", "device", "status", "found"),
    [
        (["cuda", "xpu"], [gpu()], "auto", "met", "NVIDIA L4 (CUDA device 0)"),
        (["cuda", "xpu"], [XPU], "auto", "met", "Intel Arc B580 (Intel XPU device 0)"),
        (["cuda", "xpu"], [ROCM], "auto", "met", "AMD Instinct MI300X (ROCm device 0)"),
        (["cuda"], [ROCM], "cuda", "met", "AMD Instinct MI300X (ROCm device 0)"),
        (["rocm"], [ROCM], "rocm", "met", "AMD Instinct MI300X (ROCm device 0)"),
        (["rocm"], [gpu()], "rocm", "unmet", "no such GPU, only CUDA"),
        (["cuda", "xpu"], [MPS], "auto", "unmet", "no such GPU, only Apple MPS"),
        (["cuda", "mps"], [MPS], "auto", "met", "Apple M4 (Apple MPS device)"),
        (["cuda"], [gpu(0), gpu(1)], "cuda:1", "met", "NVIDIA L4 (CUDA device 1)"),
        (["cuda"], [gpu(0)], "cuda:1", "unmet", "1 visible: NVIDIA L4 (CUDA device 0)"),
        (
            ["cuda"],
            [gpu(0), gpu(1)],
            "cuda:7",
            "unmet",
            "2 visible: NVIDIA L4 (CUDA device 0), NVIDIA L4 (CUDA device 1)",
        ),
        (["xpu"], [gpu()], "xpu:0", "unmet", "no such GPU, only CUDA"),
        (["cuda", "xpu"], [], "auto", "unmet", "no GPU (no NVIDIA driver)"),
    ],
)
def test_an_accelerator(kinds: list[str], devices: list[Any], device: str, status: str, found: str) -> None:
    data = machine(accelerators=devices, drivers={"nvidia": None})
    outcome = judge({"accelerator": kinds}, data, device=device)
    assert (outcome.status, outcome.found) == (status, found)


def test_a_device_that_does_not_exist_is_asked_for_by_its_number() -> None:
    outcome = judge({"accelerator": ["cuda"]}, machine(), device="cuda:1")
    assert outcome.message == "needs CUDA device 1, found 1 visible: NVIDIA L4 (CUDA device 0)"


def test_no_driver_is_no_news_on_a_mac() -> None:
    data = machine(accelerators=[], drivers={"nvidia": None}, host={"system": "Darwin"})
    assert judge({"accelerator": ["cuda"]}, data).found == "no GPU"


def test_devices_that_were_not_observed_are_undecided_with_the_reason() -> None:
    for need in ({"accelerator": ["cuda"]}, {"compute_capability": "8.9"}, {"architecture": "device"}):
        outcome = judge(
            need, snapshot(torch_build=build(), unreadable={"/accelerators": "the driver did not answer within 5 s"})
        )
        assert (outcome.status, outcome.found) == ("undecided", "the driver did not answer within 5 s")


@pytest.mark.parametrize(
    ("capability", "status"),
    [("8.9", "met"), ("9.0", "met"), ("12.0", "met"), ("10.3", "met"), ("8.6", "unmet"), ("7.5", "unmet")],
)
def test_a_compute_capability_compares_by_number(capability: str, status: str) -> None:
    outcome = judge({"compute_capability": "8.9"}, machine(accelerators=[gpu(capability=capability)]))
    assert (outcome.status, outcome.severity) == (status, "error")
    there = f"compute capability {capability} of NVIDIA L4 (CUDA device 0)"
    assert outcome.message == f"needs compute capability 8.9 or newer, found {there}"


@pytest.mark.parametrize("capability", [None, "", "8", "eight", "8.9.1x", "٨.٩"])
def test_a_compute_capability_that_cannot_be_read_is_undecided(capability: str | None) -> None:
    assert (
        judge({"compute_capability": "8.9"}, machine(accelerators=[gpu(capability=capability, name="a GPU")])).status
        == "undecided"
    )


@pytest.mark.parametrize("devices", [[ROCM], [XPU], [MPS], []])
def test_a_compute_capability_is_about_nvidia_alone(devices: list[Any]) -> None:
    data = machine(accelerators=devices)
    assert not applies({"compute_capability": "8.9"}, data)
    assert not applies({"architecture": "device"}, data)


def test_a_weaker_second_device_is_a_warning() -> None:
    devices = [gpu(0, "9.0"), gpu(1, "7.5", name="Tesla T4")]
    for need in ({"compute_capability": "8.9"}, {"architecture": "device"}):
        data = machine(accelerators=devices, torch_build=build(arch_list=["sm_80", "sm_90"]))
        outcome = judge(need, data)
        assert (outcome.status, outcome.severity) == ("unmet", "warning")
        assert "Tesla T4 (CUDA device 1), not the first device" in (outcome.found or "") or "7.5" in (
            outcome.found or ""
        )
    assert (
        evaluate([row("torchao/it", {"compute_capability": "8.9"})], machine(accelerators=devices)).verdict
        == "degraded"
    )


def test_the_first_device_decides_whatever_the_order_of_the_list() -> None:
    devices = [gpu(1, "9.0"), gpu(0, "7.5")]
    outcome = judge({"compute_capability": "8.9"}, machine(accelerators=devices))
    assert (outcome.status, outcome.severity) == ("unmet", "error")


def test_a_device_that_was_named_is_judged_alone() -> None:
    devices = [gpu(0, "7.5"), gpu(1, "9.0")]
    data = machine(accelerators=devices)
    assert judge({"compute_capability": "8.9"}, data, device="cuda:1").status == "met"
    assert judge({"compute_capability": "8.9"}, data, device="cuda:0").severity == "error"
    assert judge({"compute_capability": "7.0"}, data, device="cuda:0").status == "met"


@pytest.mark.parametrize(
    ("memory", "status", "found"),
    [
        (7_500_000_000, "met", "7.5 GB on"),
        (24_000_000_000, "met", "24.0 GB on"),
        (7_499_999_999, "unmet", "7.5 GB on"),
        (0, "unmet", "0.0 GB on"),
    ],
)
def test_memory(memory: int, status: str, found: str) -> None:
    outcome = judge({"memory": 7_500_000_000}, machine(accelerators=[gpu(memory_total=memory)]))
    assert outcome.status == status
    assert outcome.needed == "7.5 GB of GPU memory"
    assert found in (outcome.found or "")


@pytest.mark.parametrize("devices", [[gpu(memory_total=None)], [], None])
def test_memory_that_was_not_observed_is_nothing(devices: list[Any] | None) -> None:
    assert not applies({"memory": 7_500_000_000}, snapshot() if devices is None else machine(accelerators=devices))


def test_memory_of_an_absurd_size_is_no_traceback() -> None:
    judge({"memory": 7_500_000_000}, machine(accelerators=[gpu(memory_total=10**400)]))


def test_memory_written_as_a_float_counts() -> None:
    assert judge({"memory": 7_500_000_000}, machine(accelerators=[gpu(memory_total=4e9)])).status == "unmet"


# The NVIDIA driver


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("hung", "the NVIDIA driver does not answer"),
        ("mismatch", "the NVIDIA kernel module and its library are of different versions"),
        ("half-installed", "the NVIDIA driver is only half installed"),
        ("denied", "this user may not open the NVIDIA devices"),
    ],
)
def test_each_state_of_a_driver_that_does_not_work_has_its_own_words(status: str, words: str) -> None:
    data = machine(
        drivers={"nvidia": "570.86.10", "nvidia_status": status},
        accelerators=[],
        unreadable={"/accelerators": "the NVIDIA driver did not answer within 5 s"},
    )
    outcome = judge({"driver": "working"}, data)
    assert outcome.status == "unmet"
    assert (outcome.found or "").startswith(f"{words} (driver 570.86.10)")
    del data["accelerators"]
    assert "did not answer within 5 s" in (judge({"driver": "working"}, data).found or "")
    del data["drivers"]["nvidia"]
    assert (judge({"driver": "working"}, data).found or "").startswith(words)


def test_a_driver_that_answers_is_met_and_one_that_is_not_there_says_nothing() -> None:
    outcome = judge({"driver": "working"}, machine())
    assert (outcome.status, outcome.found) == ("met", "driver 570.86.10")
    assert not applies({"driver": "working"}, without_gpu())
    assert not applies({"driver": "working"}, snapshot(drivers={"nvidia": None}))


def test_a_driver_that_was_not_observed_is_undecided_unless_a_device_answers() -> None:
    assert judge({"driver": "working"}, snapshot()).status == "undecided"
    assert judge({"driver": "working"}, snapshot(accelerators=[gpu()])).status == "met"


# Hidden devices


@pytest.mark.parametrize(
    ("masks", "physical", "found"),
    [
        ("", 2, "CUDA_VISIBLE_DEVICES='' hides 2 NVIDIA devices: it is set, but empty"),
        (" ", 1, "CUDA_VISIBLE_DEVICES=' ' hides 1 NVIDIA device: it is set, but empty"),
        ("-1", 2, "CUDA_VISIBLE_DEVICES='-1' hides 2 NVIDIA devices"),
        ("5", 2, "CUDA_VISIBLE_DEVICES='5' hides 2 NVIDIA devices"),
        ("GPU-x", 1, "CUDA_VISIBLE_DEVICES='GPU-x' hides 1 NVIDIA device"),
        (None, 2, "2 NVIDIA devices in the machine, none of them visible to CUDA"),
    ],
)
def test_devices_that_a_variable_hides(masks: str | None, physical: int, found: str) -> None:
    data = machine(
        accelerators=[],
        drivers=driver("570", nvidia_devices=physical),
        environment_variables={"CUDA_VISIBLE_DEVICES": masks},
    )
    outcome = judge({"visible": "device"}, data)
    assert (outcome.status, outcome.found) == ("unmet", found)
    assert outcome.fix is not None
    assert ("something else hides them" in outcome.fix.text) is (masks is None)


@pytest.mark.parametrize("masks", ["", "-1", " -1 "])
def test_a_variable_that_hides_all_is_named_even_where_nobody_counted_the_devices(masks: str) -> None:
    data = snapshot(accelerators=[], drivers={}, environment_variables={"CUDA_VISIBLE_DEVICES": masks})
    assert "hides every NVIDIA device" in (judge({"visible": "device"}, data).found or "")


def test_nothing_is_hidden_where_a_device_is_seen_or_none_is_there() -> None:
    assert judge({"visible": "device"}, machine()).status == "met"
    assert not applies({"visible": "device"}, without_gpu())
    assert not applies({"visible": "device"}, without_gpu(environment_variables={"CUDA_VISIBLE_DEVICES": ""}))


# The torch build


@pytest.mark.parametrize(
    ("torch", "devices", "device", "status", "found"),
    [
        (build(), [gpu()], "auto", "met", "torch 2.10.0+cu128, built for CUDA"),
        (build("2.10.0+cpu", None), [gpu()], "auto", "unmet", "torch is a CPU build (2.10.0+cpu)"),
        (build("2.10.0+cpu", None), [gpu()], "cuda:0", "unmet", "torch is a CPU build (2.10.0+cpu)"),
        (build("2.10.0+cpu", None), [XPU], "xpu", "unmet", "torch is a CPU build (2.10.0+cpu)"),
        (build("2.10.0+rocm7.1", None, hip="7.1.5"), [ROCM], "auto", "met", "torch 2.10.0+rocm7.1, built for ROCm"),
        (build("2.10.0+rocm7.1", None, hip="7.1.5"), [ROCM], "cuda", "met", "torch 2.10.0+rocm7.1, built for ROCm"),
        (build(), [ROCM], "auto", "unmet", "torch 2.10.0+cu128, built for CUDA"),
        (build("2.10.0+rocm7.1", None, hip="7.1.5"), [gpu()], "auto", "unmet", "torch 2.10.0+rocm7.1, built for ROCm"),
        (build("2.10.0+xpu", None, xpu="20250101"), [XPU], "auto", "met", "torch 2.10.0+xpu, built for Intel XPU"),
        (
            {"version": "2.10.0+cu128"},
            [gpu()],
            "auto",
            "undecided",
            "torch 2.10.0+cu128: what torch was built for was not observed",
        ),
        ({"version": "2.10.0+cpu"}, [gpu()], "auto", "unmet", "torch is a CPU build (2.10.0+cpu)"),
        ({"cuda": "11.6"}, [gpu()], "auto", "met", "torch 2.10.0+cu128, built for CUDA"),
        (
            {"version": "2.10.0"},
            [gpu()],
            "auto",
            "undecided",
            "torch 2.10.0: what torch was built for was not observed",
        ),
    ],
)
def test_a_torch_build(torch: dict[str, Any], devices: list[Any], device: str, status: str, found: str) -> None:
    outcome = judge({"torch_build": "accelerator"}, machine(torch_build=torch, accelerators=devices), device=device)
    assert (outcome.status, outcome.found) == (status, found)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_torch_build_does_not_matter_on_a_cpu_or_a_mac(device: str) -> None:
    assert not applies({"torch_build": "accelerator"}, without_gpu(), device=device)


def test_a_torch_that_is_not_there_has_no_build() -> None:
    assert not applies({"torch_build": "accelerator"}, machine(torch_build=None, distributions={"torch": None}))
    assert judge({"torch_build": "accelerator"}, machine(torch_build=None)).status == "undecided"  # its file is gone
    assert not applies({"driver_for_cuda": LATER}, machine(torch_build=None))
    assert not applies({"architecture": "device"}, machine(torch_build=None))


# The driver for torch's CUDA


@pytest.mark.parametrize(
    ("cuda", "version", "supported", "status"),
    [
        ("13.0", "570.86.10", "12.8", "unmet"),
        ("13.0", "580.65.06", "13.0", "met"),
        ("13.0", "580.65.05", None, "unmet"),
        ("13.2", "580.65.06", "13.0", "met"),  # inside one major every minor version runs
        ("12.8", "525.60.13", "12.0", "met"),
        ("12.8", "525.60.12", None, "unmet"),
        ("12.8", "470.256.02", "11.4", "unmet"),
        ("12.8", "580.65.06", "13.0", "met"),
        ("11.8", "450.80.02", "11.0", "met"),
        ("12.8", None, "12.2", "met"),
        ("12.8", None, "11.8", "unmet"),
        ("12.8", None, "13.0", "met"),
    ],
)
def test_a_driver_runs_the_cuda_of_torch(cuda: str, version: str | None, supported: str | None, status: str) -> None:
    data = machine(torch_build=build("2.11.0", cuda), drivers=driver(version, supported))
    assert judge({"driver_for_cuda": LATER}, data).status == status


def test_a_driver_that_is_too_old_is_shown_with_both_versions() -> None:
    data = machine(torch_build=build("2.11.0+cu130", "13.0"), drivers=driver("570.86.10", "12.8"))
    outcome = judge({"driver_for_cuda": LATER}, data)
    assert outcome.needed == "an NVIDIA driver 580.65.06 or newer for CUDA 13.0 of torch 2.11.0+cu130"
    assert outcome.found == "driver 570.86.10, which supports CUDA 12.8"


@pytest.mark.parametrize(
    "sections",
    [
        {"drivers": {}},
        {"drivers": {"nvidia": "unknown"}},
        {"torch_build": {"version": "2.11.0"}},
        {"torch_build": build("2.11.0", "14.0"), "drivers": driver("570.86.10")},
    ],
)
def test_a_driver_is_undecided_where_a_fact_is_missing(sections: dict[str, Any]) -> None:
    assert judge({"driver_for_cuda": LATER}, machine(**sections)).status == "undecided"


def test_a_compatibility_library_may_bring_what_the_driver_lacks() -> None:
    old = driver("550.54.14", "12.4", libcuda="/usr/local/cuda-13.0/compat/libcuda.so.1")
    outcome = judge({"driver_for_cuda": LATER}, machine(torch_build=build("2.11.0", "13.0"), drivers=old))
    assert outcome.status == "undecided"
    assert "compatibility library" in (outcome.found or "")


@pytest.mark.parametrize(
    "sections", [{"accelerators": [ROCM]}, {"accelerators": []}, {"torch_build": build("2.10.0+cpu", None)}]
)
def test_the_driver_does_not_matter_without_nvidia_or_cuda(sections: dict[str, Any]) -> None:
    assert not applies({"driver_for_cuda": LATER}, machine(**sections))


# Architectures


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["sm_80"], "8.0", True),
        (["sm_80"], "8.6", True),  # machine code runs on later devices of its major
        (["sm_80"], "8.9", True),
        (["sm_86"], "8.0", False),
        (["sm_80"], "9.0", False),
        (["sm_80"], "7.5", False),
        (["sm_90"], "8.9", False),
        (["sm_90a"], "9.0", True),
        (["sm_90a"], "10.0", False),
        (["sm_100a"], "10.3", False),
        (["sm_100f"], "10.3", True),
        (["sm_100f"], "12.0", False),
        (["sm_120"], "12.1", True),
        (["sm_100"], "10.0", True),
        (["compute_80"], "9.0", True),  # PTX is compiled for any later device
        (["compute_80"], "12.0", True),
        (["compute_80"], "7.5", False),
        (["compute_90a"], "9.0", True),
        (["compute_90a"], "10.0", False),
        (["sm_50", "compute_90"], "7.0", False),
        ([], "8.0", False),
        (["gfx942", "sm_", "sm_x", "80"], "8.0", False),
    ],
)
def test_which_code_runs_on_which_device(architectures: list[str], capability: str, runs: bool) -> None:
    assert carries(tuple(architectures), capability) is runs
    data = machine(torch_build=build(arch_list=architectures), accelerators=[gpu(capability=capability)])
    assert judge({"architecture": "device"}, data).status == ("met" if runs else "unmet")


def test_a_v100_on_a_build_without_volta_names_both() -> None:
    v100 = gpu(capability="7.0", name="Tesla V100-SXM2-16GB")
    torch = build("2.11.0+cu128", "12.8", arch_list=["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
    outcome = judge({"architecture": "device"}, machine(torch_build=torch, accelerators=[v100]))
    assert outcome.found is not None
    for part in (
        "torch 2.11.0+cu128 carries sm_75, sm_80, sm_86, sm_90, sm_100, sm_120",
        "sm_70",
        "7.0",
        "Tesla V100-SXM2-16GB",
    ):
        assert part in outcome.found


def test_architectures_that_were_not_read_are_at_most_those_of_the_released_build() -> None:
    releases = {"2.11.0": {"cuda": "13.0", "architectures": ["sm_75", "sm_80"]}}
    for capability, status in (("7.0", "unmet"), ("8.0", "undecided")):
        data = machine(torch_build=build("2.11.0+cu130", "13.0"), accelerators=[gpu(capability=capability)])
        report = evaluate_with(releases, data)
        assert [outcome.status for outcome in report.outcomes] == [status]
    other = machine(torch_build=build("2.11.0+cu126", "12.6"), accelerators=[gpu(capability="7.0")])
    assert [outcome.status for outcome in evaluate_with(releases, other).outcomes] == ["undecided"]


def evaluate_with(torch_builds: dict[str, Any], data: dict[str, Any]) -> Any:
    from support import book

    return evaluate(book(row("torchao/it", {"architecture": "device"}), torch_builds=torch_builds), data)


@pytest.mark.parametrize("torch", [build("2.10.0+cpu", None)])
def test_architectures_are_about_cuda_builds(torch: dict[str, Any]) -> None:
    assert not applies({"architecture": "device"}, machine(torch_build=torch))


# Python, system, tools, variables


@pytest.mark.parametrize(
    ("version", "status"),
    [("3.10.0", "met"), ("3.14.1", "met"), ("3.9.18", "unmet"), ("3.10.0rc1", "undecided"), ("three", "undecided")],
)
def test_python(version: str, status: str) -> None:
    outcome = judge({"python": ">=3.10"}, snapshot(python={"version": version}))
    assert (outcome.status, outcome.needed) == (status, "Python >=3.10")


@pytest.mark.parametrize(("free", "status"), [(False, "met"), (True, "unmet")])
def test_a_free_threaded_python(free: bool, status: str) -> None:
    assert judge({"python_build": "gil"}, snapshot(python={"free_threaded": free})).status == status


@pytest.mark.parametrize(("system", "status"), [("Linux", "met"), ("Windows", "unmet")])
def test_a_system(system: str, status: str) -> None:
    assert judge({"system": ["Linux", "Darwin"]}, snapshot(host={"system": system})).status == status


@pytest.mark.parametrize(("found", "status", "words"), [("1.13.0", "met", "1.13.0"), (None, "unmet", "not found")])
def test_a_tool(found: str | None, status: str, words: str) -> None:
    outcome = judge({"tool": "ninja"}, snapshot(toolchain={"ninja": found}))
    assert (outcome.status, outcome.found) == (status, words)


@pytest.mark.parametrize(
    ("need", "value", "status", "found"),
    [
        ({"value": ["1"]}, "1", "met", "X=1"),
        ({"value": ["1"]}, "0", "unmet", "X=0"),
        ({"value": ["1"]}, None, "unmet", "X is not set"),
        ({"not": ["0", ""]}, "", "unmet", "X="),
        ({"not": ["0", ""]}, "1", "met", "X=1"),
        ({"value": ["TRUE"]}, "True", "met", "X=True"),
    ],
)
def test_a_variable(need: dict[str, Any], value: str | None, status: str, found: str) -> None:
    outcome = judge({"variable": {"name": "X", **need}}, snapshot(environment_variables={"X": value}))
    assert (outcome.status, outcome.found) == (status, found)


def test_a_variable_of_which_only_bad_values_are_told_is_met_where_it_is_not_set() -> None:
    need = {"variable": {"name": "X", "not": ["0"]}}
    assert judge(need, snapshot(environment_variables={"X": None})).status == "met"


@pytest.mark.parametrize(
    "need",
    [
        {"python": ">=3.10"},
        {"python_build": "gil"},
        {"system": ["Linux"]},
        {"tool": "ninja"},
        {"variable": {"name": "X", "not": ["0"]}},
    ],
)
def test_what_was_not_observed_is_undecided(need: dict[str, Any]) -> None:
    outcome = judge(need, snapshot())
    assert (outcome.status, outcome.found) == ("undecided", "not observed")


def test_a_reason_why_a_fact_was_not_observed_is_the_finding() -> None:
    data = snapshot(unreadable={"/toolchain/ninja": "PATH could not be read"})
    assert judge({"tool": "ninja"}, data).found == "PATH could not be read"


@pytest.mark.parametrize(
    ("value", "status"), [("1", "met"), ("ON", "met"), (None, "met"), ("0", "unmet"), ("", "unmet")]
)
def test_a_variable_that_may_also_be_unset(value: str | None, status: str) -> None:
    need = {"variable": {"name": "X", "value": ["1", "on"], "unset": True}}
    assert judge(need, snapshot(environment_variables={"X": value})).status == status


def test_a_variable_that_is_taken_for_unset_where_nobody_looked() -> None:
    need = {"variable": {"name": "X", "value": ["1"], "unset": True}}
    assert judge(need, snapshot(environment_variables={})).status == "undecided"
    assumed = {"variable": {**need["variable"], "unobserved": "unset"}}
    assert judge(assumed, snapshot(environment_variables={})).status == "met"
    hidden = snapshot(unreadable={"/environment_variables/X": "withheld: looks like a secret"})
    assert judge(assumed, hidden).status == "undecided"


# When a row applies


def outcome_where(when: dict[str, Any], data: dict[str, Any], **request: Any) -> str:
    """The status of a row that fails wherever it applies; "none" where it does not."""
    failing = row("torchao/it", {"distribution": "nothing"}, when=when)
    found = evaluate([failing], {**data, "distributions_complete": True}, **request).outcomes
    return found[0].status if found else "none"


def test_a_row_for_environments_without_a_distribution() -> None:
    when = {"absent": ["optimum"]}
    assert outcome_where(when, snapshot(distributions={})) == "unmet"
    assert outcome_where(when, snapshot(distributions={"optimum": {"version": "2.0.0"}})) == "none"
    assert outcome_where(when, snapshot(distributions={"optimum": {"version": None}})) == "none"
    unread = snapshot(distributions={}, unreadable={"/distributions/optimum": "not a folder"})
    assert outcome_where(when, unread) == "undecided"


@pytest.mark.parametrize(
    ("devices", "status"),
    [
        ([gpu(0, "7.0")], "unmet"),
        ([gpu(0, "12.0")], "unmet"),
        ([gpu(0, "6.1")], "none"),
        ([gpu(1, "7.0"), gpu(0, "6.1")], "none"),  # torch's current device is the first
        ([{"kind": "rocm", "index": 0}], "unmet"),
        ([{"kind": "xpu", "index": 0}], "none"),
        ([], "none"),
        ([gpu(0, None)], "undecided"),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_row_for_the_current_cuda_device_whatever_was_asked_for(
    devices: list[dict[str, Any]], status: str, device: str
) -> None:
    found = outcome_where({"cuda_capability": "7.0"}, snapshot(accelerators=devices, distributions={}), device=device)
    assert found == status


def test_a_row_for_a_cuda_device_of_which_nothing_was_observed_is_undecided() -> None:
    assert outcome_where({"cuda_capability": "7.0"}, snapshot(distributions={})) == "undecided"


# CUDA's own rules


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("8.9", (8, 9)),
        ("12.0", (12, 0)),
        ("8", None),
        ("", None),
        (None, None),
        (8.9, None),
        ("8.9a", None),
        ("8.²", None),
    ],
)
def test_a_compute_capability_is_two_numbers(text: Any, parsed: tuple[int, int] | None) -> None:
    assert parse_capability(text) == parsed


def test_whether_a_driver_runs_a_cuda_of_which_nothing_is_known_cannot_be_said() -> None:
    assert driver_runs("14.0", None, "600.1", None) is None
    assert driver_runs("14.0", None, "600.1", "14.0") is True
    assert driver_runs("14.1", None, "600.1", "14.0") is None
    assert driver_runs("14.0", None, "600.1", "13.9") is False
    assert driver_runs("13.0", "580.65.06", None, None) is None


# Imports


HOST_LINKS = {"links": {"distribution": "diffusers", "modules": ["diffusers.models"], "lost": "info"}}


def caught(needed_from: str, module: str = "diffusers.loaders", effect: str = "feature-lost") -> dict[str, Any]:
    """What the look at the imports of diffusers found."""
    return {"diffusers": [{"module": module, "name": "Gone", "needed_from": needed_from, "effect": effect}]}


@pytest.mark.parametrize(
    ("backend", "links", "status"),
    [
        ("torchao", caught("torchao.dtypes"), "unmet"),
        ("quanto", caught("optimum.quanto.tensor"), "unmet"),
        ("gguf", caught("kernels", "diffusers.quantizers.gguf.utils"), "unmet"),
        ("gguf", caught("torchao.dtypes", "diffusers.quantizers.torchao.torchao_quantizer"), "met"),
        ("gguf", caught("flash_attn"), "met"),
        ("gguf", caught("torchao.dtypes", effect="import-fails"), "unmet"),
    ],
)
def test_of_what_a_host_goes_on_without_only_the_loss_of_the_asked_backend_is_told(
    backend: str, links: dict[str, Any], status: str
) -> None:
    environment = Environment(machine(distributions={"diffusers": {"version": "0.42.1"}}, import_links=links))
    request = Request(backend)
    read, said = examine(LinksNeed("diffusers", ("diffusers.models",), (), "info"), request, ())
    finding = said(read(Subject(environment, request)))
    assert finding is not None
    assert finding.status == status


def test_a_feature_that_a_host_loses_is_a_note_that_asks_for_nothing() -> None:
    data = machine(
        distributions={"diffusers": {"version": "0.42.1"}, "torchao": {"version": "0.18.0"}},
        import_links=caught("torchao.dtypes"),
    )
    made = evaluate([row("torchao/it", HOST_LINKS, fix={"text": "Install another release."})], data)
    (outcome,) = made.outcomes
    assert (outcome.severity, outcome.needed) == (
        "info",
        "Gone of torchao.dtypes, which diffusers 0.42.1 imports (diffusers.loaders)",
    )
    assert outcome.found == "torchao 0.18.0, which lacks Gone: diffusers goes on without that feature"
    assert outcome.fix is not None
    assert outcome.fix.text == "Nothing has to be done where this feature is not wanted."
    assert made.plan is None
