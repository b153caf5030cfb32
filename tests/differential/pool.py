"""Fabricated site-packages: one folder for each distribution and version, with its metadata, put on `sys.path`."""

from __future__ import annotations

import os
import zipfile
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# distribution -> (import name, the name that its metadata gives)
IMPORTS = {
    "torch": "torch",
    "accelerate": "accelerate",
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
    "gguf": "gguf",
    "kernels": "kernels",
    "nvidia-modelopt": "modelopt",
    "optimum": "optimum",
    "optimum-quanto": "optimum.quanto",
}
# What the hosts import beside the backends and look up by its metadata.
BESIDES = {
    "filelock": "3.20.0",
    "huggingface-hub": "1.40.0",
    "numpy": "2.0.0",
    "packaging": "25.0",
    "pyyaml": "6.0.2",
    "regex": "2025.9.1",
    "requests": "2.32.0",
    "safetensors": "0.6.2",
    "tokenizers": "0.22.1",
    "tqdm": "4.67.0",
    "typer": "0.20.0",
    "httpx": "0.28.1",
}
_STAND_IN = "import standins\nstandins.FINDER.become(__name__)\n"


class Package(NamedTuple):
    """A distribution in an environment; without metadata it is a folder that somebody copied there."""

    name: str
    version: str
    metadata: bool = True


def folder(pool: str, package: Package) -> str:
    """The name of a package's folder in the pool, which is made where it is not there yet."""
    name = f"{package.name}-{package.version}" if package.metadata else f"{package.name}-without-metadata"
    path = os.path.join(pool, name)
    if not os.path.isdir(path):
        os.makedirs(path)
        parts = IMPORTS[package.name].split(".")
        if package.name == "optimum":
            _write(os.path.join(path, "optimum", "version.py"), "")
        else:
            _write(os.path.join(path, *parts, "__init__.py"), _STAND_IN)
        if package.metadata:
            _metadata(path, package.name, package.version, parts[0])
    return name


def besides(pool: str, wheel: str) -> str:
    """The folder with the metadata of all that a host imports beside the backends, in versions that it takes."""
    name = f"besides-{os.path.basename(wheel)}"
    path = os.path.join(pool, name)
    if not os.path.isdir(path):
        with zipfile.ZipFile(wheel) as archive:
            metadata = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
            text = archive.read(metadata).decode("utf-8")
        wanted = [Requirement(line[15:]) for line in text.splitlines() if line.startswith("Requires-Dist: ")]
        for distribution, version in BESIDES.items():
            asked = [
                each.specifier for each in wanted if canonicalize_name(each.name) == distribution and not each.marker
            ]
            bounds = [clause.version for each in asked for clause in each if clause.operator in (">=", "==", "~=")]
            fitting = next((v for v in (version, *bounds) if all(each.contains(v) for each in asked)), version)
            _metadata(path, distribution, fitting, distribution)
    return name


def _metadata(path: str, name: str, version: str, top: str) -> None:
    info = os.path.join(path, f"{name.replace('-', '_')}-{version}.dist-info")
    _write(os.path.join(info, "METADATA"), f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    _write(os.path.join(info, "top_level.txt"), f"{top}\n")


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
