"""Owners, copies, other distributions and stale processes: what is said, how grave it is, and the fix that fits it."""

from __future__ import annotations

from typing import Any

import pytest

from envguard.checks import check_in
from envguard.model import SNAPSHOT_SCHEMA, Environment, Outcome
from envguard.shipped import load

LINUX = {"host": {"system": "Linux", "machine": "x86_64"}}
BNB = {"bitsandbytes": {"version": "0.46.1"}}


def outcome(rule: str, backend: str = "bitsandbytes", host: str = "none", **facts: Any) -> Outcome:
    report = check_in(
        load(),
        [backend],
        Environment({"schema": SNAPSHOT_SCHEMA, "python": {"executable": "/v/bin/python"}, **LINUX, **facts}),
        None,
        host=host,
        device="auto",
        operation="quantize",
    )
    return next(each for each in report.backends[0].outcomes if each.rule == rule)


def owner(module: str, **facts: Any) -> dict[str, Any]:
    return {module: {"origin": f"/v/site-packages/{module}/__init__.py", "kind": "package", **facts}}


def fixed(found: Outcome) -> tuple[str, tuple[str, ...]]:
    assert found.fix is not None
    return found.fix.text, found.fix.commands


def test_another_distribution_is_uninstalled_and_the_files_it_takes_along_written_anew() -> None:
    found = outcome(
        "bitsandbytes/import-owner", distributions=BNB, import_owners=owner("bitsandbytes", distribution="x")
    )
    assert (found.status, found.severity) == ("unmet", "error")
    text, commands = fixed(found)
    assert "Uninstall x" in text
    assert commands == (
        "/v/bin/python -m pip uninstall --yes x",
        "/v/bin/python -m pip install --force-reinstall --no-deps 'bitsandbytes==0.46.1'",
    )


def test_a_version_that_another_rule_refuses_is_not_written_anew() -> None:
    facts = {"distributions": {"bitsandbytes": {"version": "0.41.1"}, "bitsandbytes-windows": {"version": "0.37.5"}}}
    _, commands = fixed(outcome("bitsandbytes/variants", **facts))
    assert commands[-1].endswith("--no-deps 'bitsandbytes>=0.43.3'")


def test_a_folder_in_the_way_is_named() -> None:
    facts = owner("bitsandbytes", distribution=None, origin="/home/me/bitsandbytes/__init__.py")
    text, commands = fixed(outcome("bitsandbytes/import-owner", distributions=BNB, import_owners=facts))
    assert "/home/me/bitsandbytes, which hides" in text
    assert commands == ()


def test_a_script_in_the_way_is_named() -> None:
    facts = owner("triton", distribution=None, origin="C:\\me\\triton.py", kind="module")
    text, _ = fixed(outcome("torch/triton-owner", import_owners=facts))
    assert "C:\\me\\triton.py, which hides triton" in text


@pytest.mark.parametrize(
    ("origin", "severity"),
    [("/git/diffusers/src/diffusers/__init__.py", "warning"), ("/me/diffusers/__init__.py", "error")],
)
def test_a_source_checkout_of_a_host_is_a_warning(origin: str, severity: str) -> None:
    found = outcome(
        "diffusers/import-owner",
        host="diffusers",
        distributions={"diffusers": {"version": "0.42.1"}},
        import_owners=owner("diffusers", distribution=None, origin=origin),
    )
    assert (found.status, found.severity) == ("unmet", severity)


def test_files_without_metadata_are_told_where_nothing_is_installed() -> None:
    found = outcome(
        "torchao/installed",
        "torchao",
        distributions={"torchao": None},
        import_owners=owner("torchao", distribution=None),
    )
    assert found.found == "torchao is not installed, only files without metadata (/v/site-packages/torchao)"
    text, commands = fixed(found)
    assert text.startswith("Remove or rename /v/site-packages/torchao")
    assert commands == ("/v/bin/python -m pip install 'torchao>=0.7.0'",)


def test_the_pip_of_another_python_is_told_where_nothing_is_installed() -> None:
    python = {"executable": "/v/bin/python", "pip_on_path": "/usr/bin/python3"}
    found = outcome("bitsandbytes/installed", distributions={"bitsandbytes": None}, python=python)
    assert found.found == (
        "bitsandbytes is not installed; the pip on PATH installs into another Python (/usr/bin/python3)"
    )


def test_metadata_that_no_installer_can_remove_is_removed_first() -> None:
    place = "/v/site-packages/bitsandbytes-0.46.1.dist-info"
    entry = {"version": None, "copies": [{"path": place, "version": None}]}
    found = outcome("bitsandbytes/installed", distributions={"bitsandbytes": entry})
    assert (found.status, found.kind) == ("unmet", "broken")
    assert fixed(found)[1] == (f"rm -r {place}", "/v/bin/python -m pip install 'bitsandbytes>=0.43.3'")


@pytest.mark.parametrize(
    ("others", "severity"), [(["0.45.0"], "warning"), (["0.41.1"], "error"), (["unknown"], "error")]
)
def test_copies_that_all_will_do_are_a_warning(others: list[str], severity: str) -> None:
    found = outcome("bitsandbytes/copies", distributions={"bitsandbytes": {"version": "0.46.1", "duplicates": others}})
    assert (found.status, found.severity) == ("unmet", severity)


def test_copies_in_one_folder_are_an_error_and_the_second_goes() -> None:
    places = [{"path": f"/v/bitsandbytes-{one}.dist-info", "version": one} for one in ("0.46.1", "0.46.0")]
    entry = {"version": "0.46.1", "duplicates": ["0.46.0"], "copies": places}
    found = outcome("bitsandbytes/copies", distributions={"bitsandbytes": entry})
    assert found.severity == "error"
    assert fixed(found)[1] == (
        "rm -r /v/bitsandbytes-0.46.0.dist-info",
        "/v/bin/python -m pip install --force-reinstall --no-deps 'bitsandbytes==0.46.1'",
    )


def test_another_distribution_whose_files_were_overwritten_is_a_warning() -> None:
    listed = {**BNB, "bitsandbytes-windows": {"version": "0.37.5"}}
    unknown = outcome("bitsandbytes/variants", distributions=listed)
    own = outcome(
        "bitsandbytes/variants", distributions=listed, import_owners=owner("bitsandbytes", distribution="bitsandbytes")
    )
    assert (unknown.severity, own.severity) == ("error", "warning")


@pytest.mark.parametrize("version", ["0.45.0", "0.46.2"])
def test_a_process_that_holds_another_version_has_to_start_again(version: str) -> None:
    found = outcome("bitsandbytes/loaded", distributions=BNB, loaded_modules={"bitsandbytes": {"version": version}})
    assert (found.status, found.kind) == ("unmet", "configuration")
    assert f"bitsandbytes {version} is imported in this process, 0.46.1 is installed" in (found.found or "")
    assert "Restart the process" in fixed(found)[0]


REQUIRES = ["numpy>=1.17", "regex", "filelock; python_version < '3.0'", "hf_transfer; extra == 'fast'"]


@pytest.mark.parametrize(
    ("more", "status", "severity"),
    [
        ({"numpy": {"version": "2.0.0"}, "regex": {"version": "1"}}, "met", "error"),
        ({"numpy": None, "regex": {"version": "1"}}, "unmet", "error"),
        ({"numpy": {"version": "1.16"}, "regex": {"version": "1"}}, "unmet", "error"),
        ({"numpy": {"version": "2.0.0"}, "regex": None}, "unmet", "warning"),
    ],
)
def test_only_what_the_import_needs_blocks(more: dict[str, Any], status: str, severity: str) -> None:
    listed = {"diffusers": {"version": "0.42.1", "requires": REQUIRES}, **more}
    found = outcome("diffusers/requirements", host="diffusers", distributions=listed, python={"version": "3.12.1"})
    assert (found.status, found.severity) == (status, severity)


def test_the_pythons_of_an_older_release_are_those_it_declares() -> None:
    entry = {"version": "0.50.2", "requires_python": ">=3.10"}
    found = outcome("bitsandbytes/requires-python", distributions={"bitsandbytes": entry}, python={"version": "3.9.18"})
    assert (found.status, found.kind, found.needed) == (
        "unmet",
        "platform",
        "Python >=3.10 (declared by bitsandbytes 0.50.2)",
    )
