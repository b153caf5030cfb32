"""The example of CONTRIBUTING.md: its row is a rule of the format, and its two cases say what the shipped rule says."""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema
import pytest
from project_files import ROOT, load_script

import envguard

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BLOCKS = load_script("readme").blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
EXAMPLES = [tomllib.loads(block.text) for block in BLOCKS if block.language == "toml"]
ROWS: list[dict[str, Any]] = [row for example in EXAMPLES for row in example.get("rule", [])]
CASES: list[dict[str, Any]] = [case for example in EXAMPLES for case in example.get("case", [])]


def test_the_row_fits_the_schema_of_the_rules() -> None:
    schema = json.loads((ROOT / "rules" / "schema.json").read_text(encoding="utf-8"))
    assert len(ROWS) == 1
    jsonschema.validate({"rule": [row | {"checked": row["checked"].isoformat()} for row in ROWS]}, schema)


def test_the_cases_are_about_the_row_one_on_each_side() -> None:
    assert [(case["rule"], case["expect"]) for case in CASES] == [(ROWS[0]["id"], "met"), (ROWS[0]["id"], "unmet")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["expect"])
def test_a_case_gets_the_outcome_that_it_expects(case: dict[str, Any]) -> None:
    snapshot = {"schema": "envguard.snapshot/1", **case["snapshot"]}
    request = dict(case["request"])
    report = envguard.check(
        request.pop("backend"), environment=envguard.Environment.from_json(json.dumps(snapshot)), **request
    )
    assert [o.status for o in report.backends[0].outcomes if o.rule == case["rule"]] == [case["expect"]]
