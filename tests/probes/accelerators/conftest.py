"""A compiled stand-in for the NVIDIA libraries, and fabricated roots of file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Call it with library names and a behaviour: an environment in which the loader finds them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    built = tmp_path_factory.mktemp("driver") / "libfake.so.550.54.15"
    source = Path(__file__).with_name("fake_driver.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(built), str(source)], check=True)

    def environment(behaviour: str = "two", *names: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("libraries")
        for name in names or ("libcuda.so.1", "libnvidia-ml.so.1"):
            real = folder / name.replace(".so.1", ".so.550.54.15")
            shutil.copy(built, real)
            (folder / name).symlink_to(real.name)
        return {"LD_LIBRARY_PATH": str(folder), "FAKE_DRIVER": behaviour, "PATH": os.defpath}

    return environment


@pytest.fixture
def root(tmp_path: Path) -> Callable[[dict[str, str]], str]:
    """Call it with the files of a fabricated root; a name that ends with / is a folder."""

    def make(files: dict[str, str]) -> str:
        for name, content in files.items():
            path = tmp_path / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        return str(tmp_path)

    return make


@pytest.fixture
def nvidia_root(root: Callable[[dict[str, str]], str]) -> str:
    """A root with a loaded NVIDIA kernel module and its device nodes."""
    return root(
        {
            "proc/driver/nvidia/version": PROPRIETARY,
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "",
            "proc/driver/nvidia/gpus/0000:02:00.0/information": "",
            "dev/nvidiactl": "",
            "dev/nvidia0": "",
        }
    )
