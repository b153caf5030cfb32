"""The free main memory, as the system's files tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envguard.model import Unreadable
from envguard.probes.memory import free_memory, parse_meminfo

MEMINFO = "MemTotal:       24696188 kB\nMemFree:        1000 kB\nMemAvailable:   24000000 kB\n"


def tree(root: Path, **files: str) -> str:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(MEMINFO, 24_000_000 * 1024), ("", None), ("MemAvailable:\n", None), ("MemAvailable: many kB\n", None)],
)
def test_available_memory_is_what_the_kernel_calls_so(text: str, expected: int | None) -> None:
    assert parse_meminfo(text) == expected


def test_a_control_group_cuts_it(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=MEMINFO)
    assert free_memory(root) == 24_000_000 * 1024
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "memory.current").write_text("1000\n", encoding="utf-8")
    (folder / "memory.max").write_text("max\n", encoding="utf-8")
    assert free_memory(root) == 24_000_000 * 1024
    (folder / "memory.max").write_text("5000\n", encoding="utf-8")
    assert free_memory(root) == 4000
    (folder / "memory.max").write_text("500\n", encoding="utf-8")
    assert free_memory(root) == 0


def test_the_older_control_group_is_known(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=MEMINFO)
    folder = tmp_path / "sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("3000", encoding="utf-8")
    (folder / "memory.usage_in_bytes").write_text("1000", encoding="utf-8")
    assert free_memory(root) == 2000


def test_a_system_that_says_nothing_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envguard.probes.memory._pages", lambda: None)
    assert isinstance(free_memory(str(tmp_path)), Unreadable)
    monkeypatch.setattr("envguard.probes.memory._pages", lambda: 12345)
    assert free_memory(str(tmp_path)) == 12345
