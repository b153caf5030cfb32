"""The audit on every release of both hosts; needs their wheels (`python tests/maintain/fetch_hosts.py`)."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from host_wheels import DIFFUSERS, RELEASES, TRANSFORMERS, wheel

from envguard.audit import audit
from envguard.audit.compare import Change, changes
from envguard.audit.extract import extract
from envguard.audit.gate import Gate
from envguard.audit.source import given
from envguard.shipped import load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LISTED: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "changes.toml").read_text(encoding="utf-8"))[
    "change"
]
VERSIONS = {"diffusers": DIFFUSERS, "transformers": TRANSFORMERS}


@cache
def gates(host: str, version: str) -> tuple[Gate, ...]:
    return tuple(extract(given(host, str(wheel(host, version))), load().backends))


def since(row: dict[str, Any]) -> list[Change]:
    host, version = row["release"].split()
    versions = VERSIONS[host]
    before = row.get("since", versions[versions.index(version) - 1])
    return changes(gates(host, before), gates(host, version))


def fits(change: Change, wanted: dict[str, Any]) -> bool:
    if change.what != wanted["what"]:
        return False
    if "old" in wanted and (change.old is None or change.old.value != wanted["old"]):
        return False
    if "guards" in wanted and sorted(guard.text() for guard in change.gate.guards) != sorted(wanted["guards"]):
        return False
    fields = {name: text for name, text in wanted.items() if name not in ("what", "old", "guards")}
    return all(fnmatchcase(str(getattr(change.gate, name)), text) for name, text in fields.items())


@pytest.mark.parametrize("row", LISTED, ids=lambda row: f"{row['release']}: {row['text']}")
def test_every_listed_change_is_found_or_left_out_with_a_reason(row: dict[str, Any]) -> None:
    if "left_out" in row:
        assert row["left_out"]
        assert "found" not in row
        return
    found = since(row)
    if not row["found"]:  # the same as the release before
        assert [change for change in found if change.gate.kind != "argument"] == []
    for wanted in row["found"]:
        assert any(fits(change, wanted) for change in found), wanted


@pytest.mark.parametrize(("host", "version"), RELEASES)
def test_every_release_is_read_whole(host: str, version: str) -> None:
    found = gates(host, version)
    for method in ("bitsandbytes_4bit", "bitsandbytes_8bit"):
        assert any(gate.method == method and gate.stage == "validate" and gate.effect == "raises" for gate in found)
    assert any(gate.kind == "lookup" and gate.subject == "torch" for gate in found)


@pytest.mark.parametrize(("host", "version"), RELEASES)
def test_no_gate_names_something_that_could_not_be_followed(host: str, version: str) -> None:
    """A call of `is_..._available()` that stays a text would be a gate that is taken for an argument."""
    texts = [gate.subject for gate in gates(host, version) if gate.backends and gate.kind in ("argument", "mixed")]
    lost = [text for text in texts if "_available()" in text or "is_torch_version(" in text]
    assert lost == []


def test_a_release_is_no_change_from_itself() -> None:
    assert changes(gates("diffusers", "0.42.1"), gates("diffusers", "0.42.1")) == []


def test_the_audit_of_the_newest_releases_names_file_and_line() -> None:
    for host, versions in VERSIONS.items():
        found = audit(given(host, str(wheel(host, versions[-1]))), load())
        assert found.version == versions[-1]
        assert all(finding.gate is None or finding.gate.line > 0 for finding in found.findings)
