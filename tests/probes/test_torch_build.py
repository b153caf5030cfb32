from __future__ import annotations

from pathlib import Path

import pytest
from installed_trees import module

from envguard.probes.torch_build import parse_version_file, torch_build

NEW = """from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '2.13.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = 'cf30153c4c131c8164ee7798e5022d810682e2cb'
hip: Optional[str] = None
rocm: Optional[str] = None
xpu: Optional[str] = None
"""
OLD = "__version__ = '1.4.0'\ndebug = False\ncuda = '10.1'\ngit_version = '7f73f1d591afba823daa4a99a939217fb54d7688'\n"
ROCM = "__version__ = \"2.8.0+rocm6.4\"\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482-0f2d60242'\n"


def build(tmp_path: Path, text: str):
    module(tmp_path, "torch/__init__.py", "raise SystemExit('torch must not be imported')")
    module(tmp_path, "torch/version.py", text)
    return torch_build((str(tmp_path),))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (NEW, {"version": "2.13.0+cu130", "cuda": "13.0", "hip": None, "xpu": None}),
        (OLD, {"version": "1.4.0", "cuda": "10.1", "hip": None, "xpu": None}),
        (ROCM, {"version": "2.8.0+rocm6.4", "cuda": None, "hip": "6.4.43482-0f2d60242", "xpu": None}),
    ],
)
def test_the_version_file_of_any_age_is_read(tmp_path: Path, text: str, value: dict[str, object]) -> None:
    observed = build(tmp_path, text)
    assert (observed.value, dict(observed.unreadable)) == (value, {})


def test_no_torch_is_null(tmp_path: Path) -> None:
    assert torch_build((str(tmp_path), str(tmp_path / "nowhere"))).value is None


def test_a_folder_called_torch_is_no_torch(tmp_path: Path) -> None:
    module(tmp_path, "torch/notes.txt")
    assert torch_build((str(tmp_path),)).value is None


def test_the_torch_that_python_would_import_is_read(tmp_path: Path) -> None:
    build(tmp_path / "second", OLD)
    build(tmp_path / "first", NEW)
    assert torch_build((str(tmp_path / "first"), str(tmp_path / "second"))).value["version"] == "2.13.0+cu130"


def test_a_torch_without_version_file_is_installed_and_unreadable(tmp_path: Path) -> None:
    module(tmp_path, "torch/__init__.py")
    observed = torch_build((str(tmp_path),))
    assert observed.value == {}
    assert observed.unreadable["/torch_build"].endswith("version.py does not exist")


@pytest.mark.parametrize("content", [b"cuda = '12", b"__version__ = 'J\xf6rg'\n", b"\0", b"def (:\n"])
def test_a_broken_version_file_gives_the_reason(tmp_path: Path, content: bytes) -> None:
    build(tmp_path, "")
    (tmp_path / "torch" / "version.py").write_bytes(content)
    observed = torch_build((str(tmp_path),))
    assert observed.value == {}
    assert list(observed.unreadable) == ["/torch_build"]


def test_what_an_odd_version_file_does_not_say_is_not_observed(tmp_path: Path) -> None:
    observed = build(tmp_path, "__version__ = '2.1'\ncuda = get_cuda()\n")
    assert observed.value == {"version": "2.1", "hip": None, "xpu": None}
    assert list(observed.unreadable) == ["/torch_build/cuda"]
    observed = build(tmp_path, "__version__ = None\n")
    assert observed.value == {"hip": None, "xpu": None}
    assert sorted(observed.unreadable) == ["/torch_build/cuda", "/torch_build/version"]


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda = '12.4'  # patched\n", "12.4"),
        ("cuda: str | None = (\n    '12.4'\n)\n", "12.4"),
        ("cuda = '12' '.4'\n", "12.4"),
        ("cuda = hip = None\n", None),
        ("if True:\n    cuda = '1'\ncuda = '12.4'\n", "12.4"),
        ("cuda = '11.8'\ncuda = '12.4'\n", "12.4"),
    ],
)
def test_any_plain_assignment_is_understood(text: str, cuda: str | None) -> None:
    assert parse_version_file(text)["cuda"] == cuda


def test_of_two_assignments_the_last_counts_also_where_it_cannot_be_read() -> None:
    assert "cuda" not in parse_version_file("cuda = '12.4'\ncuda = detect()\n")
