"""What an extra installs passes our own check: at its floors, and with the newest releases that it allows."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project_files import ROOT

import envguard
from envguard.shipped import load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
BACKENDS = ("bnb", "torchao", "quanto", "gguf", "modelopt")


def oldest(requirement: Requirement) -> str:
    return next(clause.version for clause in requirement.specifier if clause.operator == ">=")


def newest(requirement: Requirement) -> str:
    return list(requirement.specifier.filter(load().releases(requirement.name)))[-1]


def installed(extra: str, which: Any) -> dict[str, dict[str, str]]:
    requirements = map(Requirement, EXTRAS[extra])
    return {canonicalize_name(each.name): {"version": which(each)} for each in requirements}


def refused(extra: str, distributions: dict[str, dict[str, str]], host: str) -> list[str]:
    """The package rules that an extra's distributions do not meet; of the machine nothing is known."""
    data = {
        "schema": "envguard.snapshot/1",
        "python": {"version": "3.12.1"},
        "host": {"system": "Linux", "machine": "x86_64"},
        "distributions": distributions,
    }
    report = envguard.check(extra, environment=envguard.Environment(data), host=host)
    return [
        f"{outcome.rule}: {outcome.message}"
        for outcome in report.backends[0].outcomes
        if outcome.status == "unmet" and outcome.severity != "info"
    ]


def test_an_environment_that_is_too_old_is_refused() -> None:
    found = installed("torchao", oldest) | {"torchao": {"version": "0.6.1"}}
    assert any(line.startswith("torchao/version: ") for line in refused("torchao", found, "diffusers"))


# modelopt quantizes without diffusers' own quantizer, for which its releases of 2026 are too new
@pytest.mark.parametrize("host", ["diffusers", "transformers"])
@pytest.mark.parametrize("which", [oldest, newest])
@pytest.mark.parametrize("extra", BACKENDS)
def test_what_an_extra_installs_passes(extra: str, which: Any, host: str) -> None:
    if (extra, host) == ("modelopt", "diffusers"):
        host = "none"
    assert refused(extra, installed(extra, which), host) == []


@pytest.mark.parametrize("extra", BACKENDS)
def test_an_extra_installs_all_that_its_rules_ask_for(extra: str) -> None:
    backend = next(each for each in load().backends.values() if extra in (each.name, *each.aliases))
    assert backend.extra == extra
    assert {wanted.name for wanted in backend.install} <= set(installed(extra, oldest))
