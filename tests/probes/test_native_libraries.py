from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from installed_trees import install, module

from envguard.frozen import replace
from envguard.probes.binaries import describe
from envguard.probes.folders import Folders
from envguard.probes.interpreter import Interpreter, current
from envguard.probes.native_libraries import loaded_by_torch, native_libraries, system_libraries

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux"), reason="needs a C compiler on Linux"
)


def library(path: Path, needs: Iterable[Path] = (), runpath: str = "", soname: str | None = None) -> Path:
    """A compiled library that links others by their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["-Wl,--no-as-needed", f"-Wl,-soname,{soname or path.name}", *map(str, needs)]
    words += [f"-Wl,--enable-new-dtags,-rpath,{runpath}"] if runpath else []
    source = path.parent / "it.c"
    source.write_text("int it(void) { return 1; }\n")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", str(path), str(source), *words], check=True)
    source.unlink()
    return path


def python(*path: Path) -> Interpreter:
    return replace(current(), path=tuple(map(str, path)))


def looked_for(site: Path, file: Path, environ: dict[str, str] | None = None) -> dict[str, str | None]:
    """Where what a library needs is found."""
    binary = describe(str(file))
    needs = [(name, binary, str(file.parent)) for name in binary.needs or ()]
    return system_libraries(needs, python(site), str(site / "torch"), environ or {}, str(site / "root"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages with torch, whose libcudart comes from an nvidia package by torch's own RUNPATH."""
    module(tmp_path, "torch/__init__.py")
    module(tmp_path, "torch/version.py", "__version__ = '2.11.0+cu130'\ncuda = '13.0'\nhip = None\nxpu = None\n")
    cuda = tmp_path / "nvidia" / "cu13" / "lib"
    cudart = library(cuda / "libcudart.so.13")
    cublas = library(cuda / "libcublas.so.13", [library(cuda / "libcublasLt.so.13")], "$ORIGIN")
    library(cuda / "libnvJitLink.so.13")
    library(tmp_path / "torch/lib/libtorch_cuda.so", [cudart, cublas], "$ORIGIN/../../nvidia/cu13/lib")
    return tmp_path


def test_what_torch_loads_first_is_found_and_the_rest_of_its_packages_is_not(site: Path) -> None:
    cuda = site / "nvidia/cu13/lib"
    own = [cuda / f"lib{name}.so.13" for name in ("cudart", "cublas", "cublasLt", "nvJitLink")]
    found = looked_for(site, library(site / "bitsandbytes/libbitsandbytes_cuda130.so", own))
    assert {name: path and os.path.realpath(path) for name, path in found.items()} == {
        "libcudart.so.13": str(cuda / "libcudart.so.13"),
        "libcublas.so.13": str(cuda / "libcublas.so.13"),
        "libcublasLt.so.13": str(cuda / "libcublasLt.so.13"),  # by libcublas
        "libnvJitLink.so.13": None,  # there, but torch does not load it
    }


BY_HAND = '("nvjitlink", "libnvJitLink.so.*[0-9]")'


@pytest.mark.parametrize(
    ("text", "other", "is_found"),
    [
        ("", False, False),
        (BY_HAND, False, True),
        (f'if "nvidia/cuda_runtime/lib/libcudart.so" not in _maps: return\n{BY_HAND}', False, False),
        (f'if "nvidia/cuda_runtime/lib/libcudart.so" not in _maps: return\n{BY_HAND}', True, True),
    ],
)
def test_what_torch_loads_by_hand_counts_under_its_own_condition(
    site: Path, text: str, other: bool, is_found: bool
) -> None:
    (site / "torch/__init__.py").write_text(text)
    if other:
        (site / "nvidia/cuda_runtime/lib").mkdir(parents=True)
    needed = site / "nvidia/cu13/lib/libnvJitLink.so.13"
    found = looked_for(site, library(site / "bitsandbytes/libbitsandbytes_cuda130.so", [needed]))
    assert found == {"libnvJitLink.so.13": str(needed) if is_found else None}


def test_the_runpath_of_the_library_and_ld_library_path_count(tmp_path: Path) -> None:
    one, other = library(tmp_path / "one/libone.so.1"), library(tmp_path / "other/libother.so.1")
    gone = library(tmp_path / "gone/libgone.so.1")
    file = library(tmp_path / "package/libit.so", [one, other, gone], "$ORIGIN/../one")
    assert looked_for(tmp_path, file, {"LD_LIBRARY_PATH": str(tmp_path / "other")}) == {
        "libone.so.1": str(tmp_path / "package/../one/libone.so.1"),
        "libother.so.1": str(other),
        "libgone.so.1": None,
    }


def test_a_library_that_torch_bundles_counts_by_its_soname(tmp_path: Path) -> None:
    needed = library(tmp_path / "elsewhere/libhipblas.so.3")
    bundled = library(tmp_path / "torch/lib/libhipblas.so", soname="libhipblas.so.3")
    library(tmp_path / "torch/lib/libtorch_hip.so", [bundled])
    # the linker writes the SONAME; the wheels of torch write the name of the file
    os.link(bundled, tmp_path / "torch/lib/libhipblas.so.3")
    assert loaded_by_torch(str(tmp_path / "torch"), [needed.name]) == {
        "libhipblas.so.3": str(tmp_path / "torch/lib/libhipblas.so.3")
    }


def test_a_torch_for_the_packages_of_rocm_loads_them_itself(tmp_path: Path) -> None:
    needed = library(tmp_path / "_rocm_sdk_libraries/lib/libhipblas.so.3")
    file = library(tmp_path / "bitsandbytes/libbitsandbytes_rocm72.so", [needed])
    module(tmp_path, "torch/__init__.py")
    assert looked_for(tmp_path, file) == {"libhipblas.so.3": None}
    module(tmp_path, "torch/_rocm_init.py")
    assert looked_for(tmp_path, file) == {"libhipblas.so.3": str(needed)}


def test_a_damaged_library_of_torch_hides_none_of_the_others(site: Path) -> None:
    (site / "torch/lib/libtorch_global_deps.so").write_bytes(b"\x7fELF damaged")
    assert "libcudart.so.13" in loaded_by_torch(str(site / "torch"), ["libcudart.so.13"])


def test_only_the_chosen_library_is_read_in_depth(site: Path) -> None:
    install(site, "bitsandbytes", "0.49.2", files={"bitsandbytes/__init__.py": ""})
    for cuda in ("126", "130"):
        library(site / f"bitsandbytes/libbitsandbytes_cuda{cuda}.so")
    (site / "bitsandbytes/notes.txt").write_text("")

    def chosen(name: str, files: tuple[str, ...]) -> frozenset[str]:
        assert (name, files) == ("bitsandbytes", ("libbitsandbytes_cuda126.so", "libbitsandbytes_cuda130.so"))
        return frozenset({"libbitsandbytes_cuda130.so"})

    observed, _ = native_libraries(["bitsandbytes"], chosen, python(site), Folders((str(site),)), None)
    one, other = observed.value["bitsandbytes"]
    assert set(one) == {"file", "path"}
    assert other["machine"] == os.uname().machine
    assert other["format"] == "ELF"
    assert "GPU code" in observed.unreadable["/native_libraries/bitsandbytes/1/gpu_archs"]  # it has none


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    install(tmp_path, "bitsandbytes", files={"bitsandbytes/__init__.py": ""})
    (tmp_path / "bitsandbytes/libbitsandbytes_cuda130.so").write_text("no library")
    observed, found = native_libraries(
        ["bitsandbytes", "torchao"],
        lambda name, files: frozenset(files),
        python(tmp_path),
        Folders((str(tmp_path),)),
        None,
    )
    assert [each["file"] for each in observed.value["bitsandbytes"]] == ["libbitsandbytes_cuda130.so"]
    assert "it is no library of a known form" in observed.unreadable["/native_libraries/bitsandbytes/0"]
    assert (set(observed.value), found) == ({"bitsandbytes"}, {})


def test_dlls_of_cuda_are_looked_for_where_torch_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = describe(str(library(tmp_path / "libit.so")))
    (tmp_path / "torch/lib").mkdir(parents=True)
    (tmp_path / "torch/lib/cublas64_12.dll").write_text("")
    names = ("cublas64_12.dll", "cudart64_12.dll", "KERNEL32.dll")
    needs: list[tuple[str, Any, str]] = [(name, binary, "x") for name in names]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        found = system_libraries(needs, python(tmp_path), str(tmp_path / "torch"), {})
    assert found == {"cublas64_12.dll": str(tmp_path / "torch/lib/cublas64_12.dll"), "cudart64_12.dll": None}


LOADS = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
try:
    ctypes.CDLL(sys.argv[2])
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("needed", [("cudart", "cublas"), ("cublasLt",), ("cudart", "nvJitLink"), ("nvJitLink",)])
def test_the_loader_itself_says_the_same(site: Path, needed: tuple[str, ...]) -> None:
    """After torch's library, as in a process that has imported torch."""
    cuda = site / "nvidia/cu13/lib"
    file = library(site / "bitsandbytes/libbitsandbytes_cuda130.so", [cuda / f"lib{name}.so.13" for name in needed])
    missing = [name for name, path in looked_for(site, file).items() if path is None]
    words = [sys.executable, "-c", LOADS, str(site / "torch/lib/libtorch_cuda.so"), str(file)]
    environ = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    told = subprocess.run(words, capture_output=True, text=True, check=True, env=environ).stdout
    assert [name for name in missing if name in told] == missing[:1]
    assert bool(told) is bool(missing)
