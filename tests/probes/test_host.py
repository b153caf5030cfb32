from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from installed_trees import module

from envguard.frozen import replace
from envguard.probes.host import (
    KEYS,
    host_facts,
    is_wsl,
    parse_container,
    parse_musl,
    parse_system_version,
    parse_tegra_release,
)
from envguard.probes.interpreter import current
from envguard.probes.libstdcxx import defined_versions, libstdcxx, libstdcxx_file, newest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="these files are those of Linux")


def facts(root: Path, *keys: str, environ: dict[str, str] | None = None):
    return host_facts(current(), frozenset(keys), environ or {}, str(root))


def test_every_fact_of_this_machine_is_observed() -> None:
    observed = host_facts(current(), None)
    assert set(observed.value) | {pointer.rpartition("/")[2] for pointer in observed.unreadable} == set(KEYS)
    assert observed.value["system"] == platform.system()
    assert observed.value["machine"] == current().machine


@LINUX
def test_linux_is_described_as_the_platform_module_does() -> None:
    value = host_facts(current(), None).value
    assert value["release"] == platform.release()
    if value["libc"].startswith("glibc"):
        assert value["libc"] == " ".join(platform.libc_ver())
    assert value["macos"] is None


def test_only_the_wanted_facts_are_looked_at(tmp_path: Path) -> None:
    assert host_facts(current(), frozenset()).value == {}
    assert list(host_facts(current(), frozenset({"machine"})).value) == ["machine"]


def test_the_machine_is_that_of_the_inspected_interpreter() -> None:
    found = host_facts(replace(current(), machine="i686"), frozenset({"machine"}))
    assert found.value == {"machine": "i686"}


@LINUX
@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({}, {}, None),
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": 'engine="podman-4.9"'}, {}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({}, {"SINGULARITY_CONTAINER": "/x.sif"}, "apptainer"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"run/systemd/container": "wsl\n"}, {}, None),
        ({"proc/self/cgroup": "0::/\n"}, {}, None),
        ({"proc/self/cgroup": "12:cpu:/kubepods/besteffort/pod1\n"}, {}, "kubernetes"),
        ({"proc/self/cgroup": "12:cpu:/docker/3601745b3bd54d9780436faa5f0e4f72\n"}, {}, "docker"),
        ({"proc/self/cgroup": "1:name=systemd:/lxc/one\n"}, {}, "lxc"),
    ],
)
def test_the_container_is_told(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], container: str | None
) -> None:
    for file, text in files.items():
        module(tmp_path, file, text)
    assert facts(tmp_path, "container", environ=environ).value == {"container": container}


@pytest.mark.parametrize(
    ("cgroup", "engine"),
    [
        ("11:devices:/machine.slice/libpod-0123.scope/container\n", "podman"),
        ("0::/system.slice/containerd.service/kubepods-burstable.slice\n", "kubernetes"),
        ("0::/system.slice/containerd.service\n", "containerd"),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", None),
        ("", None),
    ],
)
def test_a_cgroup_names_its_engine(cgroup: str, engine: str | None) -> None:
    assert parse_container(cgroup) == engine


WSL2 = "Linux version 5.15.90.1-microsoft-standard-WSL2 (oe-user@oe-host) (x86_64-msft-linux-gcc (GCC) 9.3.0) #1 SMP"
WSL1 = "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0 (GCC) ) #1237-Microsoft"
UBUNTU = "Linux version 6.8.0-45-generic (buildd@lcy02-amd64-115) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0))"


@pytest.mark.parametrize(
    ("release", "environ", "version", "wsl"),
    [
        ("5.15.90.1-microsoft-standard-WSL2", {}, WSL2, True),
        ("4.4.0-19041-Microsoft", {}, WSL1, True),
        ("6.1.0-custom", {"WSL_INTEROP": "/run/WSL/8_interop"}, "", True),
        ("6.1.0-custom", {}, WSL2, True),
        ("6.8.0-45-generic", {}, UBUNTU, False),
    ],
)
def test_wsl_is_told(release: str, environ: dict[str, str], version: str, wsl: bool) -> None:
    assert is_wsl(release, environ, version) is wsl


TEGRA = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 2023"


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (TEGRA + "\n# KERNEL_VARIANT: oot\n", "35.4.1"),
        ("# R36 (release), REVISION: 2.0, GCID: 34956989, BOARD: generic, EABI: aarch64", "36.2.0"),
        ("", None),
        ("# R (release), REVISION:", None),
        ("R35", None),
    ],
)
def test_a_tegra_release_is_read(text: str, release: str | None) -> None:
    assert parse_tegra_release(text) == release


@LINUX
def test_a_jetson_is_told_by_its_release_file(tmp_path: Path) -> None:
    assert facts(tmp_path, "jetson").value == {"jetson": None}
    module(tmp_path, "etc/nv_tegra_release", TEGRA)
    assert facts(tmp_path, "jetson").value == {"jetson": "35.4.1"}


@LINUX
def test_a_tegra_kernel_without_release_file_is_not_called_no_jetson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envguard.probes.host._release", lambda: "5.10.120-tegra")
    observed = facts(tmp_path, "jetson")
    assert observed.value == {}
    assert "Tegra" in observed.unreadable["/host/jetson"]


def test_the_version_of_macos_is_read() -> None:
    text = "<dict>\n<key>ProductName</key>\n<string>macOS</string>\n<key>ProductVersion</key>\n<string>14.5</string>\n"
    assert parse_system_version(text) == "14.5"
    assert parse_system_version("") is None
    assert parse_system_version("<key>ProductVersion</key><string></string>") is None


LOADER = b"\x7fELF\0musl libc (x86_64)\nVersion %s\n\0search\0001.1.1.1\000127.0.0.1\0"


@pytest.mark.parametrize(
    ("loader", "version"),
    [
        (LOADER + b"/proc/self/fd/\0001.2.4\0Unsupported\0", "1.2.4"),
        (LOADER + b"1.2.5_git20240512\0", "1.2.5_git20240512"),
        (LOADER, None),
        (b"\x7fELF\0001.2.4\0", None),
        (b"", None),
    ],
)
def test_the_version_of_musl_stands_in_its_loader(loader: bytes, version: str | None) -> None:
    assert parse_musl(loader) == version


@LINUX
def test_musl_is_found_where_there_is_no_glibc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr("envguard.probes.host.os.confstr", unknown)
    assert "neither" in facts(tmp_path, "libc").unreadable["/host/libc"]
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "ld-musl-x86_64.so.1").write_bytes(LOADER + b"1.2.4\0")
    assert facts(tmp_path, "libc").value == {"libc": "musl 1.2.4"}


def test_the_newest_version_is_the_highest_number() -> None:
    names = ["libstdc++.so.6", "GLIBCXX_3.4", "GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "GLIBCXX_TM_1", "CXXABI_1.3.13"]
    assert newest(names, "GLIBCXX_") == "3.4.30"
    assert newest(names, "CXXABI_") == "1.3.13"
    assert newest(["CXXABI_TM_1", "CXXABI_FLOAT128"], "CXXABI_") is None


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("a C compiler of Linux makes the library")
    folder = tmp_path_factory.mktemp("library")
    source = module(folder, "one.c", "int first(void) { return 1; }\nint second(void) { return 2; }\n")
    versions = module(
        folder,
        "one.map",
        "GLIBCXX_3.4 { global: first; local: *; };\nGLIBCXX_3.4.29 { global: second; } GLIBCXX_3.4;\n"
        "CXXABI_1.3 { };\nCXXABI_1.3.13 { } CXXABI_1.3;\n",
    )
    target = folder / "lib" / "libstdc++.so.6"
    target.parent.mkdir()
    options = ["-shared", "-fPIC", "-o", str(target), f"-Wl,--version-script={versions}", "-Wl,-soname,libstdc++.so.6"]
    subprocess.run([compiler, *options, str(source)], check=True)
    return target


def test_the_versions_of_a_compiled_library_are_read(library: Path) -> None:
    names = defined_versions(library.read_bytes())
    assert {"GLIBCXX_3.4", "GLIBCXX_3.4.29", "CXXABI_1.3", "CXXABI_1.3.13"} <= set(names)


def test_the_library_on_ld_library_path_is_taken(library: Path) -> None:
    observed = libstdcxx("/usr", {"LD_LIBRARY_PATH": f"/nowhere:{library.parent}"})
    assert observed.value == {"libstdcxx": "3.4.29", "cxxabi": "1.3.13"}


def test_the_library_of_a_conda_python_comes_before_ld_library_path(library: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "conda"
    shutil.copytree(library.parent, prefix / "lib")
    environ = {"LD_LIBRARY_PATH": str(library.parent)}
    assert libstdcxx_file(str(prefix), environ) == str(library)
    (prefix / "conda-meta").mkdir()
    assert libstdcxx_file(str(prefix), environ) == str(prefix / "lib" / "libstdc++.so.6")


@LINUX
def test_no_libstdcxx_is_null(tmp_path: Path) -> None:
    assert facts(tmp_path, "libstdcxx", "cxxabi").value == {"libstdcxx": None, "cxxabi": None}


@LINUX
def test_the_libstdcxx_of_this_system_has_versions() -> None:
    if libstdcxx_file("/usr", {}) is None:
        pytest.skip("this system has no libstdc++")
    observed = host_facts(current(), frozenset({"libstdcxx"}), {})
    assert list(observed.value) == ["libstdcxx"]
    assert observed.value["libstdcxx"].startswith("3.4")


@LINUX
def test_a_file_that_is_no_library_gives_the_reason(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    module(tmp_path, "lib/libstdc++.so.6", "INPUT(-lstdc++)")
    observed = libstdcxx(str(tmp_path), {})
    assert observed.value == {}
    assert sorted(observed.unreadable) == ["/host/cxxabi", "/host/libstdcxx"]
    assert "is not an ELF file" in observed.unreadable["/host/cxxabi"]
    wanted = host_facts(replace(current(), base_prefix=str(tmp_path)), frozenset({"cxxabi"}), {})
    assert list(wanted.unreadable) == ["/host/cxxabi"]


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x7fELF\x02\x01", b"\x7fELF\x01\x02"]))
def test_any_bytes_give_versions_or_a_reason(data: bytes, start: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(defined_versions(start + data), list)


def test_a_damaged_library_gives_an_answer(library: Path) -> None:
    data = bytearray(library.read_bytes())
    whole = defined_versions(bytes(data))
    for cut in range(64, len(data), len(data) // 50):
        with suppress(ValueError):
            assert len(defined_versions(bytes(data[:cut]))) <= len(whole)
    for at in range(64, len(data), 97):
        data[at] ^= 0xFF
    with suppress(ValueError):
        assert isinstance(defined_versions(bytes(data)), list)


def test_the_environment_of_this_process_is_the_default() -> None:
    assert host_facts.__defaults__ == (os.environ, "/")
