"""A range of versions against what a rule wants: all, none, or some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.ranges import settles
from envguard.versions import parse_clauses, satisfies

CASES = [
    (">=2.6", ">=2.6", True),
    (">=2.6", ">=2.5.1", True),
    (">=2.6", ">2.6", None),
    (">=2.6", "<2.6", False),
    (">=2.6", ">=2.6.1", None),
    (">=2.6,<2.9", "<2.9", True),
    (">=2.6,<2.9", "<2.8", None),
    ("<2.0", ">=2.0", False),
    ("~=2.6.1", "<2.7", True),
    ("~=2.6.1", ">=2.6", True),
    ("~=2.6", "<3", True),
    ("~=2.6", "<2.9", None),
    ("==2.6.*", ">=2.6,<2.7", True),
    ("==2.6.*", ">=2.6.3", None),
    ("!=2.6", ">=2.6", None),
    ("==2.6", ">=2.6", True),
    (">=3,<2", ">=1", None),
]


@pytest.mark.parametrize(("held", "wanted", "answer"), CASES)
def test_a_range_says_what_all_of_its_versions_say(held: str, wanted: str, answer: bool | None) -> None:
    assert settles(parse_clauses(held), parse_clauses(wanted), "version") is answer


VERSIONS = st.builds("{}.{}".format, st.integers(0, 3), st.integers(0, 4)) | st.builds(
    "{}.{}.{}".format, st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)
)
CLAUSES = st.lists(
    st.builds(lambda sign, version: sign + version, st.sampled_from([">=", ">", "<", "<=", "==", "!="]), VERSIONS),
    min_size=1,
    max_size=3,
).map(",".join)


@given(CLAUSES, CLAUSES, st.lists(VERSIONS, min_size=1))
def test_no_version_of_a_range_says_otherwise(held: str, wanted: str, versions: list[str]) -> None:
    answer = settles(parse_clauses(held), parse_clauses(wanted), "version")
    for version in versions:
        if answer is not None and satisfies(version, parse_clauses(held), "specifier"):
            assert satisfies(version, parse_clauses(wanted), "version") is answer
