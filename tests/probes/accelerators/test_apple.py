from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from envguard.probes import apple


@pytest.mark.parametrize(
    ("machine", "release", "devices"),
    [
        ("arm64", "21.4.0", 1),  # macOS 12.3
        ("arm64", "25.0.0", 1),
        ("arm64", "21.3.0", 0),
        ("arm64", "20.6.0", 0),
        ("x86_64", "23.1.0", 0),
        ("arm64", "unknown", 0),
    ],
)
def test_mps_is_there_from_macos_12_3_on_apple_silicon(machine: str, release: str, devices: int) -> None:
    assert apple.apple(machine, release).value == [{"kind": "mps", "index": 0}] * devices


def test_only_a_full_snapshot_asks_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout="Apple M3 Max\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert "name" not in apple.apple("arm64", "23.0.0").value[0]
    assert asked == []
    assert apple.apple("arm64", "23.0.0", full=True).value[0]["name"] == "Apple M3 Max"


def test_a_name_that_cannot_be_asked_for_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(subprocess, "run", run)
    observed = apple.apple("arm64", "23.0.0", full=True)
    assert observed.value == [{"kind": "mps", "index": 0}]
    assert "/accelerators/0/name" in observed.unreadable
