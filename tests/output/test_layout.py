"""Lines keep to their columns and lose nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from output_strategies import TEXTS

from envguard.output.layout import clip, columns, pad, visible, wrap


def test_a_wide_character_takes_two_columns_and_a_combining_one_none() -> None:
    assert (columns("abc"), columns("日本"), columns("e\u0301")) == (3, 4, 1)


def test_lines_break_at_spaces() -> None:
    assert wrap("needs a torch built for CUDA", 12) == ["needs a", "torch built", "for CUDA"]


def test_the_first_line_can_be_shorter() -> None:
    assert wrap("needs a torch", 13, 5) == ["needs", "a torch"]


def test_a_word_wider_than_a_line_is_broken() -> None:
    assert wrap("a /very/long/path b", 6) == ["a", "/very/", "long/p", "ath b"]


def test_a_url_is_never_broken() -> None:
    assert wrap("see https://example.org/page now", 10) == ["see", "https://example.org/page", "now"]


def test_a_clipped_text_ends_in_an_ellipsis_and_a_fitting_one_does_not() -> None:
    assert clip("not installed", 8) == "not i..."
    assert clip("not installed", 8, "…") == "not ins…"
    assert clip("日本語の", 5, "…") == "日本…"
    assert clip("fits", 4) == "fits"


def test_padding_counts_columns() -> None:
    assert pad("日", 4) == "日  "


@given(TEXTS.map(visible), st.integers(2, 40), st.integers(0, 40))
def test_no_line_is_too_wide_and_no_character_is_lost(text: str, width: int, first: int) -> None:
    lines = wrap(text, width, min(first, width))
    assert all(columns(line) <= width or "://" in line for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(TEXTS.map(visible), st.integers(0, 40))
def test_a_clipped_text_fits(text: str, width: int) -> None:
    assert columns(clip(text, width)) <= width
    assert columns(clip(text, width, "…")) <= width
