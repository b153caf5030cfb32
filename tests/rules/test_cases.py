"""Every shipped rule has a case that meets it and one that does not, and its floors are where the cases say.

The cases stand in `cases.toml`, with versions written by hand. CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from support import host_alone

from envguard.evaluate import Evaluator
from envguard.model import SNAPSHOT_SCHEMA, Environment, Request
from envguard.rulebook import RuleBook
from envguard.rulefiles import read_folder
from envguard.rulefiles.overlaps import overlap
from envguard.shipped import rules_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CASES: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "cases.toml").read_text("utf-8"))["case"]
TABLES = read_folder(rules_folder())
BOOK = RuleBook(TABLES)


def recorded(case: dict[str, Any]) -> Environment:
    """The environment of a case; TOML has no null, so `absent` holds the JSON pointers of what was observed absent."""
    data = {"schema": SNAPSHOT_SCHEMA, **copy.deepcopy(case.get("snapshot", {}))}
    for pointer in case.get("absent", ()):
        *above, last = pointer.split("/")[1:]
        place = data
        for step in above:
            place = place.setdefault(step, {})
        place[last] = None
    return Environment(data)


class Books:
    """The rules of some tables, and those of the hosts alone, made when a case asks for them."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables
        self.all = RuleBook(tables)

    @functools.cached_property
    def alone(self) -> RuleBook:
        return host_alone(self._tables)


def status(books: Books, case: dict[str, Any]) -> str:
    """What a rule says about a case: met, unmet, undecided, skipped, or "none" where it says nothing.

    `alone`: without the rules of the baseline, which ask for the same and would be looked at first.
    """
    book = books.alone if case.get("alone") else books.all
    request = Request(**case["request"])
    environment = recorded(case)
    report = Evaluator(book, request).evaluate(environment)
    return next((outcome.status for outcome in report.outcomes if outcome.rule == case["rule"]), "none")


BOOKS = Books(TABLES)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case['rule']}-{case['expect']}-{number}" for number, case in enumerate(CASES)]
)
def test_the_rule_says_what_its_case_expects(case: dict[str, Any]) -> None:
    assert status(BOOKS, case) == case["expect"]


def test_every_rule_has_a_case_that_meets_it_and_one_that_does_not() -> None:
    have = {(case["rule"], case["row"], case["expect"]) for case in CASES}
    rows = Counter(rule.id for rule in BOOK.rows())
    lacking = [
        f"{rule} row {row} ({expect})"
        for rule, number in rows.items()
        for row in range(number)
        for expect in ("met", "unmet")
        if (rule, row, expect) not in have
    ]
    assert not lacking, f"tests/rules/cases.toml lacks a case for: {', '.join(lacking)}"


def test_every_case_is_about_a_shipped_rule() -> None:
    assert {case["rule"] for case in CASES} <= set(BOOK.ids())


def bounds(row: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Each version comparison of a row: the path to its text, and the distribution whose releases it counts in."""
    need = row["need"].get("distribution")
    if need is not None:
        name, text = split(need)
        if text:
            yield ["need", "distribution"], name
    for name in row.get("when", {}).get("release", {}):
        yield ["when", "release", name], name


def split(requirement: str) -> tuple[str, str]:
    """`torchao>=0.15.0` -> (torchao, >=0.15.0)."""
    place = next((place for place, sign in enumerate(requirement) if sign in "<>=!~"), len(requirement))
    return requirement[:place].partition("[")[0], requirement[place:]


def moved(clause: str, releases: tuple[str, ...]) -> Iterator[str]:
    """A comparison with its bound one release later and one earlier, as far as there are releases."""
    operator = clause[:2] if clause[1] == "=" else clause[:1]
    bound = clause[len(operator) :]
    assert releases, "releases.toml does not know that distribution"
    if operator == ">=" and Version(bound) < Version(releases[0]):
        return  # any version at all
    before = [release for release in releases if Version(release) < Version(bound)]
    after = [release for release in releases if Version(release) > Version(bound)]
    yield from (operator + other for other in (*before[-1:], *after[:1]))


def mutants() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every set of rules files in which one bound of one row stands one release beside its place."""
    for file, table in TABLES.items():
        for number, row in enumerate(table.get("rule", ())):
            for path, name in bounds(row):
                *above, last = path
                holder = row
                for step in above:
                    holder = holder[step]
                prefix, text = split(holder[last]) if last == "distribution" else ("", holder[last])
                clauses = text.split(",")
                for place, clause in enumerate(clauses):
                    for other in moved(clause, BOOK.releases(name)):
                        mutated = ",".join([*clauses[:place], other, *clauses[place + 1 :]])
                        mutant = {**TABLES, file: copy.deepcopy(table)}
                        target = mutant[file]["rule"][number]
                        for step in above:
                            target = target[step]
                        target[last] = prefix + mutated
                        yield row["id"], f"{file} row {number + 1} {'.'.join(path)}: {text} -> {mutated}", mutant


def test_moving_any_floor_by_one_release_makes_a_case_fail() -> None:
    survivors = []
    for rule, what, tables in mutants():
        books = Books(tables)
        rows = books.all.rows(rule)
        if any(overlap(one, other) for place, one in enumerate(rows) for other in rows[place + 1 :]):
            continue  # the loader refuses it
        if all(status(books, case) == case["expect"] for case in CASES if case["rule"] == rule):
            survivors.append(f"{rule}: {what}")
    assert not survivors, "no case notices:\n" + "\n".join(survivors)
