"""The shipped table of released pairs says of each pair that was really imported what importing it did."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from envguard.judge.windows import worst
from envguard.rulebook import RuleBook
from envguard.rulefiles import read_folder
from envguard.shipped import rules_folder
from envguard.versions import parse_clauses, satisfies

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = read_folder(rules_folder())
BOOK = RuleBook(TABLES)
MEASURED = Path(__file__).parents[1] / "maintain" / "measured.toml"
RUNS: list[dict[str, Any]] = tomllib.loads(MEASURED.read_text("utf-8"))["run"]
PAIRS = [
    (run, other, release, outcome)
    for run in RUNS
    for other, outcomes in run["outcomes"].items()
    for release, outcome in outcomes.items()
]


@pytest.mark.parametrize(
    ("run", "other", "release", "outcome"),
    PAIRS,
    ids=[f"{run['distribution']}-{release}-{run['other']}-{other}" for run, other, release, _ in PAIRS],
)
def test_the_table_says_what_importing_did(run: dict[str, Any], other: str, release: str, outcome: str) -> None:
    imports = BOOK.windows(run["distribution"], run["other"], ("import-fails", "aborts"))
    failing, _ = worst(imports, release, other)
    effect = "" if failing is None else failing.effect
    kind = outcome.partition(": ")[0]
    assert effect == {"fails": "import-fails", "aborts": "aborts"}.get(kind, "")
    if run["kernels"] and not effect:
        skipped, _ = worst(BOOK.windows(run["distribution"], run["other"], ("kernels-skipped",)), release, other)
        assert (skipped is None) is (kind == "loads")


def test_every_row_of_the_table_is_about_releases_that_exist() -> None:
    for row in TABLES["windows.toml"]["window"]:
        releases = parse_clauses(row["releases"])
        assert any(satisfies(release, releases, "specifier") for release in BOOK.releases(row["distribution"])), row
        assert BOOK.releases(row["other"]), row
