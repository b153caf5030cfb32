"""Excerpts of two real releases: what changed between them, and the traps that they are known for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from envguard.audit.compare import changes
from envguard.audit.extract import extract
from envguard.audit.gate import Gate
from envguard.audit.source import given
from envguard.shipped import load

EXCERPTS = Path(__file__).parent / "excerpts"


def gates(version: str) -> list[Gate]:
    return extract(given("diffusers", str(EXCERPTS / f"diffusers-{version}")), load().backends)


@pytest.fixture(scope="module")
def old() -> list[Gate]:
    return gates("0.36.0")


@pytest.fixture(scope="module")
def new() -> list[Gate]:
    return gates("0.41.0")


def test_the_first_gate_of_bitsandbytes_is_the_device(old: list[Gate]) -> None:
    first = [
        gate for gate in old if gate.method == "bitsandbytes_4bit" and gate.kind != "symbol" and gate.effect == "raises"
    ]
    assert (first[0].kind, first[0].value, first[0].exception) == ("device", "cuda, xpu", "RuntimeError")
    assert first[0].message == "No GPU found. A GPU is needed for quantization."


def test_the_floor_of_torchao_reads_the_version_of_torch(old: list[Gate]) -> None:
    assert [
        gate.value
        for gate in old
        if gate.method == "torchao" and gate.stage == "validate" and gate.subject == "torch" and gate.kind == "version"
    ] == ["0.7.0", "2.5.0"]


def test_a_missing_part_of_torchao_ends_in_a_name_error(old: list[Gate]) -> None:
    assert {gate.value for gate in old if gate.exception == "NameError"} >= {
        "torchao.dtypes.uintx.uint4_layout.UInt4Tensor"
    }


def test_the_kernels_need_a_variable_and_trust(new: list[Gate]) -> None:
    (trust,) = [gate for gate in new if gate.subject == "DIFFUSERS_TRUST_REMOTE_KERNELS"]
    assert [guard.text() for guard in trust.guards] == [
        "DIFFUSERS_GGUF_CUDA_KERNELS in 1, true, yes",
        "a device of cuda",
        "compute capability >= 7",
        "kernels",
    ]


def test_the_changes_between_the_two(old: list[Gate], new: list[Gate]) -> None:
    found = [(change.what, change.gate.method, change.gate.need()) for change in changes(old, new)]
    assert ("changed", "bitsandbytes_4bit", "a device of cuda, xpu, mps") in found
    assert not any(method == "bitsandbytes_8bit" and need.startswith("a device") for _, method, need in found)
    assert ("new", "torchao", "torchao>=0.15.0") in found
    assert ("gone", "torchao", "torch>=0.7.0") in found
    assert ("new", "torchao", "torchao.quantization.FqnToConfig") in found


def test_lines_that_only_moved_are_no_change(old: list[Gate]) -> None:
    from envguard.frozen import replace

    assert changes(old, [replace(gate, line=gate.line + 7) for gate in old]) == []


@pytest.mark.parametrize(
    ("file", "old_text", "new_text", "told"),
    [
        ("bitsandbytes/bnb_quantizer.py", '"0.43.3"', '"0.44.0"', ("changed", "bitsandbytes>=0.44.0")),
        ("bitsandbytes/bnb_quantizer.py", '"<", "0.26.0"', '"<=", "0.26.0"', ("changed", "accelerate>0.26.0")),
        ("bitsandbytes/bnb_quantizer.py", " or torch.mps.is_available()", "", ("changed", "a device of cuda, xpu")),
        ("bitsandbytes/bnb_quantizer.py", "torch.xpu.", "torch.hpu.", ("changed", "a device of cuda, hpu")),
        ("bitsandbytes/bnb_quantizer.py", "not is_bitsandbytes_available() or ", "", ("gone", "bitsandbytes")),
        ("quanto/quanto_quantizer.py", '">=", "0.2.6"', '">=", "0.2.7"', ("changed", "optimum-quanto>=0.2.7")),
        ("quanto/quanto_quantizer.py", "not is_accelerate_available()", "False", ("gone", "accelerate")),
        ("gguf/utils.py", '"1", "true", "yes"', '"1", "true"', ("changed", "DIFFUSERS_GGUF_CUDA_KERNELS in 1, true")),
        ("gguf/utils.py", ">= 7", ">= 8", ("changed", "compute capability >= 8")),
        ("gguf/utils.py", "TRUST_REMOTE_KERNELS", "X", ("gone", "DIFFUSERS_TRUST_REMOTE_KERNELS in 1, ON, TRUE, YES")),
        ("gguf/utils.py", "QuantizationType.BF16", "QuantizationType.Q9", ("new", "gguf.GGMLQuantizationType.Q9")),
        ("torchao/torchao_quantizer.py", "FqnToConfig, ", "", ("gone", "torchao.quantization.FqnToConfig")),
        ("torchao/torchao_quantizer.py", '">=", "2.6.0"', '">=", "2.7.0"', ("changed", "torch>=2.7.0")),
        ("auto.py", '"gguf": GGUFQuantizationConfig', '"gguf": NewConfig', ("changed", "gguf: NewConfig")),
        ("auto.py", '"modelopt": NVIDIAModelOptConfig,', "", ("gone", "modelopt: NVIDIAModelOptConfig")),
    ],
)  # fmt: skip
def test_an_edit_of_any_gate_is_told(
    tmp_path: Path, new: list[Gate], file: str, old_text: str, new_text: str, told: tuple[str, str]
) -> None:
    copy = tmp_path / "diffusers"
    shutil.copytree(EXCERPTS / "diffusers-0.41.0" / "diffusers", copy)
    path = copy / "quantizers" / file
    text = path.read_text(encoding="utf-8")
    assert old_text in text
    path.write_text(text.replace(old_text, new_text), encoding="utf-8")
    edited = extract(given("diffusers", str(copy)), load().backends)
    assert told in [(change.what, change.gate.need()) for change in changes(new, edited)]
