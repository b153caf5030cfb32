"""Markers and requirement lines, held against `packaging`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker

from envguard.markers import declared, holds, known_of
from envguard.model import Environment

KNOWN = known_of(
    Environment(
        {
            "python": {"version": "3.11.7", "implementation": "CPython"},
            "host": {"system": "Linux", "machine": "x86_64"},
        }
    )
)
COMPARISONS = st.one_of(
    st.tuples(
        st.sampled_from(["python_version", "python_full_version"]),
        st.sampled_from(["==", "!=", ">=", "<=", "<", ">", "~="]),
        st.sampled_from(["3.9", "3.11", "3.11.7", "3.12", "3.13.0"]),
    ),
    st.tuples(
        st.sampled_from(["sys_platform", "platform_system", "platform_machine", "os_name", "implementation_name"]),
        st.sampled_from(["==", "!=", "in", "not in"]),
        st.sampled_from(["linux", "Linux", "win32", "x86_64 amd64", "x86_64", "posix", "cpython", "darwin"]),
    ),
    st.tuples(st.just("extra"), st.sampled_from(["==", "!="]), st.sampled_from(["hf", "dev"])),
)
SIMPLE = st.builds(
    lambda three, swap, quote: (
        f"{quote}{three[2]}{quote} {three[1]} {three[0]}"
        if swap and three[1] in ("==", "!=")
        else f"{three[0]} {three[1]} {quote}{three[2]}{quote}"
    ),
    COMPARISONS,
    st.booleans(),
    st.sampled_from(["'", '"']),
)
MARKERS = st.recursive(
    SIMPLE,
    lambda inner: st.builds(
        lambda one, word, other, close: f"({one} {word} {other})" if close else f"{one} {word} {other}",
        inner,
        st.sampled_from(["and", "or"]),
        inner,
        st.booleans(),
    ),
    max_leaves=6,
)


@given(MARKERS)
def test_a_marker_holds_where_packaging_says_so(text: str) -> None:
    assert holds(text, KNOWN) is Marker(text).evaluate({**KNOWN, "extra": ""})


@given(MARKERS)
def test_what_is_not_known_never_contradicts_what_is(text: str) -> None:
    fewer = {name: value for name, value in KNOWN.items() if not name.startswith("platform")}
    assert holds(text, fewer) in (None, holds(text, KNOWN))


@given(st.text(alphabet="py_thonv ersi'\"()<>=!~and or not in3.1", max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    assert holds(text, KNOWN) in (True, False, None)


def test_brackets_without_end_are_not_known() -> None:
    assert holds("(" * 100_000 + "os_name == 'posix'", KNOWN) is None


@pytest.mark.parametrize(
    ("lines", "extras", "names"),
    [
        (("numpy>=1.17", "tomli; python_version < '3.11'"), (), ["numpy"]),
        (("hf-xet; platform_machine == 'x86_64'", "requests; extra == 'web'"), (), ["hf-xet"]),
        (("requests; extra == 'web'", "Pillow; extra == 'image'"), ("web",), ["requests"]),
        (("requests; extra == 'web-pages'",), ("web_pages",), ["requests"]),
        ((), (), []),
    ],
)
def test_the_lines_that_hold_here_are_declared(
    lines: tuple[str, ...], extras: tuple[str, ...], names: list[str]
) -> None:
    found = declared(lines, KNOWN, extras)
    assert found is not None
    assert [wanted.name for wanted in found] == names


def test_a_line_that_cannot_be_read_leaves_nothing_known() -> None:
    assert declared(("numpy", "???"), KNOWN) is None


def test_a_line_for_a_machine_that_is_not_known_is_left_out() -> None:
    assert declared(("nvidia-nccl-cu12; platform_system == 'Linux'",), known_of(Environment({}))) == ()
