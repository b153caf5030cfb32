"""Which library bitsandbytes loads. The expectations are what the releases' own cextension.py did with these files."""

from __future__ import annotations

import pytest

from envguard.libraries import ERAS, Build, Choice, Wheels, carried_text, choose, eras_of
from envguard.shipped import load


def files(version: str, system: str = "Linux", machine: str = "x86_64") -> frozenset[str]:
    wheels = load().native("bitsandbytes")
    assert wheels is not None
    release = wheels.of(version)
    assert release is not None
    return frozenset(release.platforms[system, machine])


def chosen(version: str, build: Build, carried: frozenset[str] | None = None, suffix: str = ".so") -> Choice:
    (era,) = eras_of(version, (), None)
    return choose(era, build, files(version) if carried is None else carried, suffix)


NEW, SMALL = (8, 6), (7, 0)


@pytest.mark.parametrize(
    ("version", "cuda", "file"),
    [
        ("0.43.3", "12.1", "libbitsandbytes_cuda121.so"),
        ("0.43.3", "12.6", None),
        ("0.45.0", "12.6", "libbitsandbytes_cuda126.so"),
        ("0.45.5", "12.8", "libbitsandbytes_cuda128.so"),
        ("0.46.0", "12.9", None),
        ("0.46.1", "12.9", "libbitsandbytes_cuda129.so"),
        ("0.49.2", "13.0", "libbitsandbytes_cuda130.so"),
        ("0.49.2", "13.1", None),
        ("0.50.0", "13.1", "libbitsandbytes_cuda130.so"),  # the next lower one
        ("0.50.0", "12.0", "libbitsandbytes_cuda121.so"),  # no lower one: the next higher
        ("0.50.0", "12.9", "libbitsandbytes_cuda128.so"),
        ("0.50.2", "11.4", "libbitsandbytes_cuda118.so"),
        ("0.50.2", "14.0", None),
    ],
)
def test_the_library_for_a_cuda_version(version: str, cuda: str, file: str | None) -> None:
    assert chosen(version, Build("cuda", cuda, NEW)).file == file


def test_gpus_below_7_5_had_a_build_of_their_own_before_0_45() -> None:
    assert chosen("0.44.1", Build("cuda", "12.4", SMALL)).file == "libbitsandbytes_cuda124_nocublaslt.so"
    assert chosen("0.44.1", Build("cuda", "12.4", NEW)).file == "libbitsandbytes_cuda124.so"
    assert chosen("0.45.0", Build("cuda", "12.4", SMALL)).file == "libbitsandbytes_cuda124.so"


def test_a_missing_library_was_silent_before_0_46() -> None:
    assert chosen("0.45.5", Build("cuda", "13.0")).silent
    assert not chosen("0.46.0", Build("cuda", "13.0")).silent


@pytest.mark.parametrize(
    ("version", "build", "wanted"),
    [
        ("0.43.3", Build("cuda", "12.6", NEW, "124"), "libbitsandbytes_cuda124.so"),
        # written behind a name that does not end in a number
        ("0.43.3", Build("cuda", "12.4", SMALL, "124"), "libbitsandbytes_cuda124_nocublaslt124.so"),
        ("0.44.1", Build("cuda", "12.6", SMALL, "124"), "libbitsandbytes_cuda124_nocublaslt.so"),
        ("0.49.2", Build("cuda", "13.1", NEW, "130"), "libbitsandbytes_cuda130.so"),
        ("0.49.2", Build("cuda", "13.0", NEW, ""), "libbitsandbytes_cuda130.so"),
        ("0.49.2", Build("rocm", "6.4.4", None, None, "72"), "libbitsandbytes_rocm64.so"),
        ("0.50.2", Build("rocm", "6.4.4", None, None, "72"), "libbitsandbytes_rocm72.so"),
    ],
)
def test_an_override_names_the_library(version: str, build: Build, wanted: str) -> None:
    assert chosen(version, build).wanted == wanted


def test_an_override_is_refused_where_the_release_says_so() -> None:
    assert "for ROCm" in str(chosen("0.49.2", Build("rocm", "6.4.4", None, "124")).error)
    assert chosen("0.46.1", Build("rocm", "6.4.4", None, "124")).error is None
    for value in ("", "12.4", "abc", "١٢"):
        assert "digits only" in str(chosen("0.50.2", Build("cuda", "12.4", NEW, value)).error)


@pytest.mark.parametrize(
    ("version", "hip", "wanted", "file"),
    [
        ("0.49.2", "7.2.1", "libbitsandbytes_rocm72.so", "libbitsandbytes_rocm72.so"),
        ("0.49.2", "7.12", "libbitsandbytes_rocm82.so", None),  # 7 * 10 + 12
        ("0.50.2", "7.12", "libbitsandbytes_rocm712.so", "libbitsandbytes_rocm72.so"),
        ("0.50.2", "7.14", "libbitsandbytes_rocm714.so", "libbitsandbytes_rocm714.so"),
        ("0.50.2", "5.7", "libbitsandbytes_rocm57.so", None),
    ],
)
def test_the_library_for_a_rocm_version(version: str, hip: str, wanted: str, file: str | None) -> None:
    assert chosen(version, Build("rocm", hip))[:2] == (wanted, file)


def test_releases_before_0_46_know_no_rocm() -> None:
    assert chosen("0.45.5", Build("rocm", "6.2")).error


@pytest.mark.parametrize(
    ("version", "xpu", "file"),
    [
        ("0.47.0", "20250101", None),
        ("0.48.0", "20250101", "libbitsandbytes_xpu.so"),
        ("0.50.2", "20250101", "libbitsandbytes_xpu2025.so"),
        ("0.50.2", "20260000", "libbitsandbytes_xpu2026.so"),
        ("0.50.2", "20240101", None),
    ],
)
def test_the_library_for_an_intel_gpu(version: str, xpu: str, file: str | None) -> None:
    assert chosen(version, Build("xpu", xpu)).file == file


def test_libraries_of_windows_end_in_dll() -> None:
    carried = files("0.50.2", "Windows", "x86_64")
    assert chosen("0.50.2", Build("cuda", "12.9", NEW), carried, ".dll").file == "libbitsandbytes_cuda128.dll"


@pytest.mark.parametrize("cuda", [None, "12", "twelve.four", "12.x", "9" * 5000 + ".1"])
def test_a_version_that_is_none_chooses_nothing(cuda: str | None) -> None:
    for era in ERAS:
        assert choose(era, Build("cuda", cuda), frozenset({"libbitsandbytes_cuda124.so"}), ".so").file is None


def test_a_development_version_may_choose_as_before_or_as_the_release_to_come() -> None:
    assert [era.since for era in eras_of("0.50.0.dev0", (), None)] == ["0.48.0", "0.50.0"]
    assert [era.since for era in eras_of("0.51.0.dev0", (), None)] == ["0.50.0"]


def test_an_unknown_version_chooses_as_the_releases_that_carry_such_files() -> None:
    wheels = load().native("bitsandbytes")
    assert [era.since for era in eras_of(None, files("0.48.0"), wheels)] == ["0.48.0"]
    assert [era.since for era in eras_of(None, files("0.43.3"), wheels)] == ["0.43.0", "0.44.0"]
    assert eras_of(None, {"libbitsandbytes_cuda999.so"}, wheels) == ERAS
    assert eras_of(None, (), wheels) == ERAS


def test_what_is_carried_is_told_in_versions() -> None:
    assert carried_text({"libbitsandbytes_cuda118.so", "libbitsandbytes_cuda124.so"}, "cuda", ".so") == "11.8, 12.4"
    assert carried_text({"libbitsandbytes_rocm714.so", "libbitsandbytes_rocm72.so"}, "rocm", ".so") == "7.2, 7.14"
    assert carried_text({"libbitsandbytes_cpu.so"}, "cuda", ".so") == ""


def test_a_release_without_a_row_is_not_known() -> None:
    assert Wheels({}).of("0.1") is None
    assert Wheels({}).all() == ()
