"""JSON that nobody vouches for: limits, and no name twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envguard.modelfiles.bounded_json import Members, loads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1]))
def test_whatever_json_wrote_is_read_as_it_was(value: Any, indent: int | None) -> None:
    assert loads(json.dumps(value, indent=indent).encode()) == value


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=6), st.sampled_from([None, 1]))
def test_members_are_those_of_the_object(value: dict[str, Any], indent: int | None) -> None:
    text = " " + json.dumps(value, indent=indent) + " behind"
    members = Members(text)
    assert {name: members.value() for name in members} == value
    assert text[members.end :] == " behind"


@given(st.text(max_size=30))
def test_text_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        ours = loads(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return
    assert ours == json.loads(text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"\xff"', "expected UTF-8, found byte 0xff at 1"),
        (b"{} {}", "expected the end of the JSON at character 2, found ' {}'"),
        (b'{"a": 1, "a": 2}', "expected each name once, found 'a' twice"),
        (b"[NaN]", "NaN is no JSON number"),
        (b"[" * 100_000, "deep"),
        (b"[" * 65 + b"]" * 65, "expected objects and lists at most 64 deep, found deeper ones"),
        (b"9" * 5000, ""),
        (b"[1,1,1,1,1,1]", "expected at most 5 values in its JSON, found more"),
        (b'"' + b"x" * 200_001 + b'"', "expected at most 200000 bytes of JSON, found 200003"),
    ],
)
def test_a_document_beyond_the_limits_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"expected|not JSON") as caught:
        loads(data, largest=200_000, most=5 if data.startswith(b"[1") else 200_000)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_as_deep_as_allowed_is_read() -> None:
    assert loads(b"[" * 64 + b"]" * 64)


def test_more_names_than_allowed_are_refused() -> None:
    text = json.dumps({str(number): 0 for number in range(10)})
    assert len(list(_names(Members(text, most=10)))) == 10
    with pytest.raises(ValueError, match="expected at most 9 names, found more"):
        list(_names(Members(text, most=9)))


def _names(members: Members) -> Iterator[str]:
    for name in members:
        members.value()
        yield name


def test_a_member_longer_than_allowed_is_refused_and_a_string_is_not() -> None:
    text = json.dumps({"a": "x" * 100_000})
    members = Members(text)
    with pytest.raises(ValueError, match="expected members of at most 65536 characters"):
        [members.value() for _ in members]
    members = Members(text)
    assert [len(members.string() or "") for _ in members] == [100_000]
