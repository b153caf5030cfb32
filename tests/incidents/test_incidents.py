"""Real environments that broke for real people, and some that were fine and were blamed: what is said about them.

Each file is a public report (`source`), written down as a request and the facts that its thread states; `expect` says
what has to be found out. `notes` tells what was inferred, and from where.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import envguard
from envguard import Environment
from envguard.shipped import load as rulebook

INCIDENTS = {
    file.stem: json.loads(file.read_text("utf-8")) for file in sorted(Path(__file__).parent.glob("recorded/*"))
}
BROKEN = [name for name, incident in INCIDENTS.items() if incident["expect"]["verdict"] != "not-blocked"]


def judged(request: dict[str, Any], snapshot: dict[str, Any]) -> dict[str, Any]:
    """The report of the one backend that a request asks for."""
    spec = ":".join(filter(None, (request["backend"], request.get("scheme"))))
    report = envguard.check(
        spec,
        host=request["host"],
        device=request["device"],
        operation=request.get("operation", "quantize"),
        environment=Environment.from_json(json.dumps(snapshot)),
    )
    backend: dict[str, Any] = json.loads(report.to_json())["backends"][0]
    return backend


@pytest.fixture(scope="module", params=INCIDENTS)
def incident(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is expected of an incident, and the report on it."""
    told = INCIDENTS[request.param]
    return told["expect"], judged(told["request"], told["snapshot"])


def unmet(report: dict[str, Any], *severities: str) -> list[dict[str, Any]]:
    """The outcomes that are not met, of these severities."""
    return [
        each for each in report["outcomes"] if each["status"] == "unmet" and each["severity"] in (severities or WORDS)
    ]


WORDS = ("error", "warning", "info")


def names_the_cause(expect: dict[str, Any], report: dict[str, Any]) -> bool:
    """Whether an unmet outcome says what the cause is."""
    texts = [each[key] or "" for each in unmet(report) for key in ("message", "needed", "found")]
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in expect["cause_any"] for text in texts)


def test_the_verdict_is_the_one_that_people_met(incident: tuple[dict[str, Any], dict[str, Any]]) -> None:
    expect, report = incident
    verdict, wanted = report["verdict"], expect["verdict"]
    if wanted == "not-blocked":
        assert verdict != "blocked"
        assert not unmet(report, "error")
    elif wanted == "degraded":
        assert verdict in ("degraded", "undecided")
    elif wanted == "flagged":
        # a thread that tells nothing of its GPU leaves that undecided, which counts for more than the warning
        assert verdict in ("degraded", "blocked", "undecided")
        assert names_the_cause(expect, report)
    else:
        assert verdict == "blocked"


def test_the_cause_is_named(incident: tuple[dict[str, Any], dict[str, Any]]) -> None:
    expect, report = incident
    assert not expect.get("cause_any") or names_the_cause(expect, report)


def test_nothing_sends_people_the_wrong_way(incident: tuple[dict[str, Any], dict[str, Any]]) -> None:
    expect, report = incident
    for outcome in unmet(report, "error", "warning"):
        fix = outcome["fix"] or {}
        texts = [outcome[key] or "" for key in ("message", "needed", "found")]
        texts += [fix.get("text") or "", *fix.get("commands", ())]
        for pattern in expect["must_not_say"]:
            assert not any(re.search(pattern, text, re.IGNORECASE) for text in texts), (pattern, outcome)


def test_the_fix_is_among_those_that_helped(incident: tuple[dict[str, Any], dict[str, Any]]) -> None:
    expect, report = incident
    fixes = [each["fix"] or {} for each in unmet(report)]
    texts = [text for fix in fixes for text in (fix.get("text") or "", *fix.get("commands", ()))]
    for patterns in filter(None, [expect.get("fix_any")]):
        assert any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns for text in texts), texts


def released(name: str, wanted: str) -> str | None:
    """The newest released version of a distribution that meets a specifier."""
    return max(SpecifierSet(wanted).filter(rulebook().releases(name)), key=Version, default=None)


def put(snapshot: dict[str, Any], name: str, version: str | None) -> None:
    """Another version of a distribution, or none: what was seen of the files of the old one is seen no more."""
    snapshot.setdefault("distributions", {})[name] = {"version": version} if version else None
    for facts in ("native_libraries", "import_owners", "import_links", "loaded_modules"):
        snapshot.get(facts, {}).pop(name, None)
    if name == "torch" and version:
        snapshot["torch_build"] = {"version": version}


@pytest.mark.parametrize("name", [name for name in BROKEN if INCIDENTS[name]["expect"].get("fix_packages")])
def test_what_mended_it_is_no_longer_blocked(name: str) -> None:
    incident = copy.deepcopy(INCIDENTS[name])
    snapshot = incident["snapshot"]
    for package, wanted in incident["expect"]["fix_packages"].items():
        put(snapshot, package, released(package, wanted) or wanted.rpartition("=")[2])
    assert judged(incident["request"], snapshot)["verdict"] != "blocked"


def run(command: str, snapshot: dict[str, Any]) -> None:
    """What a command of pip that envguard prints does to an environment."""
    for words in (shlex.split(part) for part in command.split("&&")):
        assert words[1:3] == ["-m", "pip"], command
        names = [word for word in words[4:] if not word.startswith("-")]
        if words[3] == "uninstall":
            for gone in names:
                put(snapshot, canonicalize_name(gone), None)
            continue
        assert words[3] == "install", command
        for wanted in map(Requirement, names):
            told = snapshot["distributions"].get(wanted.name)
            stays = told and told["version"] in wanted.specifier and "--force-reinstall" not in words
            if not stays:
                version = released(wanted.name, str(wanted.specifier))
                assert version, f"{command}: there is no such release"
                put(snapshot, wanted.name, version)


@pytest.mark.parametrize("name", [name for name in BROKEN if INCIDENTS[name]["expect"]["verdict"] == "blocked"])
def test_the_plan_mends_what_it_says(name: str) -> None:
    incident = copy.deepcopy(INCIDENTS[name])
    before = judged(incident["request"], incident["snapshot"])
    plan = before["plan"]
    if plan is None:
        assert all(each["fix"]["text"] for each in unmet(before, "error"))  # no package mends it, and it says what does
        return
    for command in plan["commands"]:
        run(command, incident["snapshot"])
    after = judged(incident["request"], incident["snapshot"])
    assert {each["rule"] for each in unmet(after, "error")} <= set(plan["unsolved"])
    assert plan["unsolved"] or after["verdict"] != "blocked"
