"""Host packages of a few lines, written into a folder: what the tests of the audit read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from textwrap import dedent

from envguard.audit.extract import extract
from envguard.audit.gate import Gate
from envguard.audit.source import Release, given
from envguard.shipped import load

LOOKUPS = """
import importlib.util
import importlib.metadata as importlib_metadata
import operator as op
import os
from packaging.version import parse

ENV_VARS_TRUE_VALUES = {"1", "ON", "YES", "TRUE"}
STR_OPERATION_TO_FUNC = {">": op.gt, ">=": op.ge, "==": op.eq, "!=": op.ne, "<=": op.le, "<": op.lt}


def _is_package_available(pkg_name):
    pkg_exists = importlib.util.find_spec(pkg_name) is not None
    return pkg_exists, importlib_metadata.version(pkg_name)


_torch_available, _torch_version = _is_package_available("torch")
_torchao_available, _torchao_version = _is_package_available("torchao")
_accelerate_available, _accelerate_version = _is_package_available("accelerate")
ACCELERATE_MIN_VERSION = "0.26.0"


def is_torch_available():
    return _torch_available


def is_torchao_available():
    return _torchao_available


def is_accelerate_available(min_version: str = ACCELERATE_MIN_VERSION):
    return _accelerate_available and parse(_accelerate_version) >= parse(min_version)


def compare_versions(library_or_version, operation: str, requirement_version: str):
    return STR_OPERATION_TO_FUNC[operation](library_or_version, parse(requirement_version))


def is_torchao_version(operation: str, version: str):
    if not _torchao_available:
        return False
    return compare_versions(parse(_torchao_version), operation, version)
"""
MAPPING = """
from .torchao.torchao_quantizer import TorchAoHfQuantizer
AUTO_QUANTIZER_MAPPING = {"torchao": TorchAoHfQuantizer}
AUTO_QUANTIZATION_CONFIG_MAPPING = {"torchao": TorchAoConfig}
"""
EXPORTS = """
from .import_utils import is_accelerate_available, is_torch_available, is_torchao_available, is_torchao_version
"""
IMPORTS = "from ...utils import is_accelerate_available, is_torch_available, is_torchao_available, is_torchao_version\n"


def files(quantizer: str, **more: str) -> dict[str, str]:
    """The files of a package with one quantizer; `more` are further ones, `__` standing for `/`."""
    return {
        "__init__.py": '__version__ = "0.42.1"\n',
        "utils/__init__.py": EXPORTS,
        "utils/import_utils.py": LOOKUPS,
        "quantizers/__init__.py": "",
        "quantizers/auto.py": MAPPING,
        "quantizers/torchao/__init__.py": "",
        "quantizers/torchao/torchao_quantizer.py": IMPORTS + dedent(quantizer),
        **{f"{name.replace('__', '/')}.py": dedent(text) for name, text in more.items()},
    }


def written(folder: Path, content: dict[str, str]) -> Path:
    """The folder of a package with these files."""
    for name, text in content.items():
        path = folder / "diffusers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def release(folder: Path, quantizer: str, **more: str) -> Release:
    """A release whose quantizer of torchao is this code."""
    return given("diffusers", str(written(folder, files(quantizer, **more))))


def gates(folder: Path, quantizer: str, **more: str) -> list[Gate]:
    """The gates that this code has, without those of the package around it."""
    found = extract(release(folder, quantizer, **more), load().backends)
    return [gate for gate in found if gate.kind not in ("lookup", "method") and gate.stage != "lookup"]


def validating(folder: Path, body: str, **more: str) -> list[str]:
    """What `validate_environment` with this body needs: need, exception and guards of each gate."""
    indented = "\n".join(f"        {line}" for line in dedent(body).strip().split("\n"))
    code = (
        f"import torch\nclass TorchAoHfQuantizer:\n    def validate_environment(self, *args, **kwargs):\n{indented}\n"
    )
    return [said(gate) for gate in gates(folder, code, **more) if gate.stage == "validate" and gate.effect == "raises"]


def said(gate: Gate) -> str:
    """A gate on one line."""
    guards = f" if {'; '.join(guard.text() for guard in gate.guards)}" if gate.guards else ""
    return f"{gate.need()} else {gate.exception}{guards}"


def wheel(folder: Path, content: dict[str, str], version: str = "0.42.1") -> Path:
    """A wheel with these files."""
    path = folder / f"diffusers-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(f"diffusers/{name}", text)
        archive.writestr(
            f"diffusers-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.4\nName: diffusers\nVersion: {version}\nRequires-Python: >=3.11.0\n"
            'Requires-Dist: torchao>=0.15.0; extra == "torchao"\n\nVersion: 9.9\n',
        )
    return path
