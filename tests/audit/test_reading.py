"""Gates read out of a few lines of source."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_hosts import gates, said, validating


def test_a_missing_library_and_an_old_one_are_two_gates(tmp_path: Path) -> None:
    body = """
        if not is_torchao_available() or is_torchao_version("<", "0.15.0"):
            raise ImportError("torchao")
        """
    assert validating(tmp_path, body) == ["torchao else ImportError", "torchao>=0.15.0 else ImportError if torchao"]


def test_a_minimum_in_a_default_argument_is_found_through_the_helper(tmp_path: Path) -> None:
    body = """
        if not is_accelerate_available():
            raise ImportError("accelerate")
        """
    assert validating(tmp_path, body) == ["accelerate else ImportError", "accelerate>=0.26.0 else ImportError"]


def test_an_argument_goes_before_the_default(tmp_path: Path) -> None:
    body = """
        if not is_accelerate_available("1.1.0"):
            raise ImportError("accelerate")
        """
    assert "accelerate>=1.1.0 else ImportError" in validating(tmp_path, body)


@pytest.mark.parametrize(
    ("test", "need"),
    [
        ('is_torchao_version("<", "1")', "torchao>=1"),
        ('is_torchao_version("<=", "1")', "torchao>1"),
        ('is_torchao_version(">", "1")', "torchao<=1"),
        ('not is_torchao_version("==", "1")', "torchao==1"),
    ],
)
def test_what_is_needed_is_the_opposite_of_what_raises(tmp_path: Path, test: str, need: str) -> None:
    assert f"{need} else ValueError" in [
        line.partition(" if ")[0] for line in validating(tmp_path, f"if {test}:\n    raise ValueError('x')")
    ]


def test_the_version_that_is_compared_counts_and_not_the_name_of_its_variable(tmp_path: Path) -> None:
    body = """
        import importlib.metadata
        from packaging import version
        torchao_version = version.parse(importlib.metadata.version("torch"))
        if torchao_version < version.parse("0.7.0"):
            raise RuntimeError("torchao")
        """
    assert validating(tmp_path, body) == ["torch else PackageNotFoundError", "torch>=0.7.0 else RuntimeError"]


def test_devices_that_are_taken_one_for_the_other_are_one_gate(tmp_path: Path) -> None:
    body = """
        if not (torch.cuda.is_available() or torch.xpu.is_available()):
            raise RuntimeError("No GPU found.")
        """
    assert validating(tmp_path, body) == [
        "torch.xpu.is_available else AttributeError",
        "a device of cuda, xpu else RuntimeError",
    ]


def test_a_device_refused_in_the_last_branch_is_one_of_all_that_were_asked_for(tmp_path: Path) -> None:
    body = """
        if torch.cuda.is_available():
            return
        elif torch.xpu.is_available():
            return
        else:
            raise RuntimeError("No GPU found.")
        """
    assert "a device of cuda, xpu else RuntimeError" in validating(tmp_path, body)


def test_a_capability_compared_by_parts_is_one_bound(tmp_path: Path) -> None:
    code = """
        import torch

        class TorchAoHfQuantizer:
            def validate_environment(self, *args, **kwargs):
                if not self._is_new():
                    raise ValueError("old")

            def _is_new(self):
                major, minor = torch.cuda.get_device_capability()
                if major == 8:
                    return minor >= 9
                return major >= 9
        """
    assert "compute capability >= 8.9 else ValueError" in [said(gate) for gate in gates(tmp_path, code)]


def test_a_variable_is_told_with_the_values_that_count(tmp_path: Path) -> None:
    code = """
        import os
        TRUST = os.getenv("DIFFUSERS_TRUST", "false").lower() in ["1", "true"]
        if not TRUST:
            raise ValueError("trust")
        """
    assert [said(gate) for gate in gates(tmp_path, code)] == ["DIFFUSERS_TRUST in 1, true else ValueError"]


def test_a_constant_of_another_module_is_found(tmp_path: Path) -> None:
    constants = 'import os\nTRUST = os.getenv("X", "0").upper() in {"1", "ON"}\n'
    code = "from ...utils.constants import TRUST\nif not TRUST:\n    raise ValueError('x')\n"
    assert "X in 1, ON else ValueError" in [said(gate) for gate in gates(tmp_path, code, utils__constants=constants)]


def test_an_import_carries_what_stands_before_it(tmp_path: Path) -> None:
    code = """
        if is_torchao_available() and is_torchao_version(">=", "0.15.0"):
            from torchao.quantization import FqnToConfig
        """
    (gate,) = [gate for gate in gates(tmp_path, code) if gate.kind == "symbol"]
    assert (gate.stage, gate.effect, gate.value) == ("import", "imports", "torchao.quantization.FqnToConfig")
    assert [guard.text() for guard in gate.guards] == ["torchao", "torchao>=0.15.0"]


def test_what_a_function_imports_counts_where_it_is_called(tmp_path: Path) -> None:
    code = """
        def _update():
            from torchao.dtypes import NF4Tensor

        if is_torchao_available():
            _update()
        """
    (gate,) = [gate for gate in gates(tmp_path, code) if gate.kind == "symbol"]
    assert (gate.stage, gate.value) == ("import", "torchao.dtypes.NF4Tensor")


def test_an_import_that_is_caught_is_optional(tmp_path: Path) -> None:
    code = """
        logger = 1
        def _update():
            try:
                from torchao.dtypes import NF4Tensor
            except ImportError:
                logger.warning("without it")
        _update()
        """
    assert [gate.effect for gate in gates(tmp_path, code) if gate.kind == "symbol"] == ["optional"]


def test_a_handler_that_names_what_is_not_bound_yet_catches_nothing(tmp_path: Path) -> None:
    code = """
        def _update():
            try:
                from torchao.dtypes import NF4Tensor
            except ImportError:
                logger.warning("without it")
        _update()
        logger = 1
        """
    (gate,) = [gate for gate in gates(tmp_path, code) if gate.kind == "symbol"]
    assert (gate.effect, gate.exception) == ("imports", "NameError")


def test_an_attribute_that_is_read_at_import_is_a_symbol(tmp_path: Path) -> None:
    code = """
        import torch
        EMPTY = {"xpu": torch.xpu.empty_cache}
        """
    assert "torch.xpu.empty_cache else AttributeError" in [said(gate) for gate in gates(tmp_path, code)]


def test_a_flag_that_is_lowered_without_a_library_needs_it(tmp_path: Path) -> None:
    loader = """
        from ..utils import is_accelerate_available

        class ModelMixin:
            @classmethod
            def from_pretrained(cls, path, **kwargs):
                low_cpu_mem_usage = kwargs.pop("low_cpu_mem_usage", True)
                hf_quantizer = kwargs.pop("quantizer", None)
                if low_cpu_mem_usage and not is_accelerate_available():
                    low_cpu_mem_usage = False
                if hf_quantizer is not None:
                    if not low_cpu_mem_usage:
                        raise ValueError("cannot be False when using quantization.")
        """
    found = [gate for gate in gates(tmp_path, "", models__modeling_utils=loader) if gate.effect == "raises"]
    assert {gate.subject for gate in found if gate.kind == "available"} == {"accelerate"}


def test_what_the_caller_gives_is_an_argument(tmp_path: Path) -> None:
    body = """
        if kwargs.get("from_flax", False):
            raise ValueError("flax")
        """
    (line,) = validating(tmp_path, body)
    assert line == 'not kwargs.get("from_flax", False) else ValueError'


def test_a_table_of_choices_is_told_with_its_keys(tmp_path: Path) -> None:
    code = """
        SUPPORTED = {"int8": 1, "int4": 2}

        class TorchAoHfQuantizer:
            def validate_environment(self, kind, **kwargs):
                if kind not in list(SUPPORTED.keys()):
                    raise ValueError("kind")
        """
    (gate,) = [gate for gate in gates(tmp_path, code) if gate.kind == "choice"]
    assert (gate.subject, gate.value, gate.needed) == ("kind", "int4, int8", True)


def test_the_functions_that_a_check_calls_are_read_with_it(tmp_path: Path) -> None:
    code = """
        def _require(raise_exception=False):
            if not is_torchao_available():
                if raise_exception:
                    raise ImportError("torchao")

        class TorchAoHfQuantizer:
            def validate_environment(self, *args, **kwargs):
                _require(raise_exception=True)
        """
    assert [said(gate) for gate in gates(tmp_path, code) if gate.effect == "raises"] == ["torchao else ImportError"]


def test_a_quantizer_of_another_method_is_no_matter_of_ours(tmp_path: Path) -> None:
    other = "from ...utils import is_torch_available\nif not is_torch_available():\n    raise ImportError('x')\n"
    found = gates(tmp_path, "", quantizers__awq__awq_quantizer=other)
    assert [(gate.method, gate.backends) for gate in found if gate.effect == "raises"] == [("awq", ())]


def test_what_was_collected_from_the_environment_is_no_argument(tmp_path: Path) -> None:
    code = """
        import torch

        def get_available_devices():
            devices = {"cpu"}
            if torch.cuda.is_available():
                devices.add("cuda")
            return frozenset(devices)

        class TorchAoHfQuantizer:
            def validate_environment(self, supported):
                if not set(get_available_devices()).intersection(supported):
                    raise RuntimeError("none of the devices")
        """
    (gate,) = [gate for gate in gates(tmp_path, code) if gate.effect == "raises"]
    assert (gate.kind, gate.subject) == ("mixed", "set(get_available_devices()).intersection(supported)")


def test_an_assertion_is_a_gate(tmp_path: Path) -> None:
    body = """
        assert is_torchao_version(">", "0.9.0"), "construction from dict"
        """
    assert validating(tmp_path, body) == ["torchao else AssertionError", "torchao>0.9.0 else AssertionError"]


def test_what_holds_around_a_test_of_an_argument_is_not_what_its_error_is_about(tmp_path: Path) -> None:
    body = """
        if is_torchao_version(">=", "0.10.0"):
            if not isinstance(kwargs.get("quant_type"), str):
                raise TypeError("a text")
        """
    (line,) = validating(tmp_path, body)
    assert line.startswith("not ")  # an argument
    assert line.endswith("else TypeError")


def test_what_is_missing_around_a_test_of_an_argument_is(tmp_path: Path) -> None:
    body = """
        if not is_torchao_available():
            if kwargs.get("strict"):
                raise ImportError("torchao")
        """
    assert validating(tmp_path, body) == ['torchao else ImportError if kwargs.get("strict")']


def test_a_method_that_gives_a_version_is_known_wherever_it_is_called(tmp_path: Path) -> None:
    code = """
        from packaging import version

        class TorchAoHfQuantizer:
            def param_needs_quantization(self, name):
                if self.quantization_config._get_ao_version() >= version.parse("0.15.0"):
                    from torchao.quantization import FqnToConfig
        """
    (gate,) = [gate for gate in gates(tmp_path, code) if gate.kind == "symbol"]
    assert [guard.text() for guard in gate.guards] == ["torchao>=0.15.0"]


def test_a_module_beside_a_quantizer_is_imported_where_the_quantizer_does(tmp_path: Path) -> None:
    quantizer = """
        if is_torchao_available():
            from .utils import replaced
        """
    beside = "import torch\nNAME = torch.xpu.empty_cache\n\ndef replaced():\n    pass\n"
    found = gates(tmp_path, quantizer, quantizers__torchao__utils=beside)
    (gate,) = [gate for gate in found if gate.value == "torch.xpu.empty_cache"]
    assert [guard.text() for guard in gate.guards] == ["torchao"]


def test_a_host_checks_the_versions_of_what_it_finds_alone(tmp_path: Path) -> None:
    check = """
        from .dependency_versions_table import deps
        pkgs_to_check_at_runtime = ["accelerate"]
        """
    table = 'deps = {"accelerate": "accelerate>=0.26.0"}\n'
    found = gates(tmp_path, "", dependency_versions_check=check, dependency_versions_table=table)
    (gate,) = [gate for gate in found if gate.where == "dependency_versions_check.py"]
    assert [guard.text() for guard in gate.guards] == ["accelerate", "accelerate>=0.26.0"]


def test_an_argument_that_names_a_backends_file_belongs_to_that_backend(tmp_path: Path) -> None:
    loader = """
        from ..utils import is_accelerate_available

        class ModelMixin:
            @classmethod
            def from_pretrained(cls, path, gguf_file=None):
                if gguf_file is not None and not is_accelerate_available():
                    raise ValueError("accelerate is required when loading a GGUF file")
        """
    found = [gate for gate in gates(tmp_path, "", models__modeling_utils=loader) if gate.effect == "raises"]
    assert {gate.backends for gate in found if gate.subject == "accelerate"} == {("gguf",)}
