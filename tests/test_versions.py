"""The fast comparison of versions equals that of `packaging`."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envguard.versions import Clause, key, normalize, parse_clauses, parse_wanted, release, satisfies

VERSIONS = st.from_regex(
    r"(1!)?[0-9]{1,2}(\.[0-9]{1,2}){0,3}((a|b|rc)[0-9]{1,2})?(\.post[0-9])?(\.dev[0-9]{1,2})?(\+[a-z0-9]{1,4}(\.[a-z0-9]{1,3})?)?",
    fullmatch=True,
)
PUBLIC = VERSIONS.map(lambda version: version.partition("+")[0])
OPERATORS = st.sampled_from([">=", "<=", ">", "<", "==", "!="])


@given(VERSIONS, VERSIONS)
@example("2.6.0.dev1", "2.6.0")
@example("2.6.0+cu124", "2.6.0")
@example("1.0", "1.0.0")
def test_keys_sort_as_packaging_sorts(one: str, other: str) -> None:
    assert (key(one) < key(other)) == (Version(one) < Version(other))  # type: ignore[operator]
    assert (key(one) == key(other)) == (Version(one) == Version(other))


@given(VERSIONS, OPERATORS, PUBLIC)
def test_a_specifier_is_decided_as_packaging_decides_it(version: str, operator: str, bound: str) -> None:
    decided = satisfies(version, parse_clauses(operator + bound), "specifier")
    if decided is None:
        assert Version(version).is_prerelease
    else:
        assert decided == SpecifierSet(operator + bound).contains(version, prereleases=True)


@given(VERSIONS, OPERATORS, VERSIONS)
def test_a_plain_comparison_is_the_one_that_upstream_gates_write(version: str, operator: str, bound: str) -> None:
    upstream = {
        ">=": Version.__ge__,
        "<=": Version.__le__,
        ">": Version.__gt__,
        "<": Version.__lt__,
        "==": Version.__eq__,
        "!=": Version.__ne__,
    }[operator]
    assert satisfies(version, (Clause(operator, bound),), "version") == upstream(Version(version), Version(bound))


@pytest.mark.parametrize(
    ("version", "text", "comparison", "expected"),
    [
        ("2.6.0.dev1", ">=2.6.0", "version", False),
        ("2.6.0+cu124", ">=2.6.0", "version", True),
        ("2.6.0+cu124", "<=2.6.0", "version", False),
        ("2.6.0+cu124", "<=2.6.0", "specifier", True),
        ("2.10.0.dev20250901", ">=2.9", "specifier", True),
        ("0.42.0", ">=0.33,<0.43", "specifier", True),
        ("0.44.0", "<0.44", "specifier", False),
        ("1.4.5", "~=1.4.2", "specifier", True),
        ("1.4.5", "==1.4.*", "specifier", True),
    ],
)
def test_the_two_comparisons_differ_where_they_should(version: str, text: str, comparison: str, expected: bool) -> None:
    assert satisfies(version, parse_clauses(text), comparison) is expected


@pytest.mark.parametrize("bound", [">=2.9", "<2.9"])
def test_a_nightly_between_two_releases_is_undecided(bound: str) -> None:
    assert satisfies("2.9.0.dev20250801", parse_clauses(bound), "specifier") is None
    assert satisfies("2.9.0rc1", parse_clauses(bound), "specifier") is None


@pytest.mark.parametrize("version", ["", "banana", "1.0-custom build", "1..2", "9" * 5000, "1.0+", "1.0+!", "٣.١"])
def test_what_is_no_version_is_undecided_and_never_an_exception(version: str) -> None:
    assert key(version) is None
    assert satisfies(version, parse_clauses(">=1"), "version") is None
    assert release(version) is None


@given(st.text(max_size=30))
def test_any_text_gives_the_key_that_packaging_gives_or_none(text: str) -> None:
    try:
        Version(text)
    except ValueError:
        assert key(text) is None
    else:
        assert key(text) is not None


def test_a_requirement_keeps_the_text_of_its_author() -> None:
    wanted = parse_wanted("nvidia_modelopt[hf]<0.44,>=0.33.1")
    assert wanted.name == "nvidia-modelopt"
    assert wanted.extras == ("hf",)
    assert wanted.clauses == (Clause("<", "0.44"), Clause(">=", "0.33.1"))
    assert wanted.text == "nvidia_modelopt[hf]<0.44,>=0.33.1"
    assert parse_wanted("numpy (>=1.17)").clauses == (Clause(">=", "1.17"),)


@pytest.mark.parametrize(
    "text", ["", ">=1.0", "torch>=", "torch>=x.y", "torch; python_version<'3'", "torch @ file:///x", "torch[hf"]
)
def test_what_is_no_plain_requirement_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|unclosed"):
        parse_wanted(text)


def test_names_are_normalized_as_pep_503_says() -> None:
    assert normalize("Optimum__Quanto.x") == "optimum-quanto-x"
