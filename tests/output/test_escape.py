"""Foreign text never reaches a terminal as anything but what it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from output_strategies import TEXTS

from envguard.output.layout import can_show, prose, visible


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028end", "line\\u2028end"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_what_does_not_show_itself_becomes_a_visible_escape(foreign: str, shown: str) -> None:
    assert visible(foreign) == shown


@pytest.mark.parametrize("text", ["nvidia-modelopt[hf]", "[red]x[/red]", "C:\\new\\table", "日本語", "é", "", "✓"])
def test_what_shows_itself_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_a_character_that_the_encoding_lacks_has_an_ascii_replacement() -> None:
    assert visible("é ≥ → 日", "ascii") == "\\xe9 >= -> \\u65e5"
    assert visible("é ≥", "latin-1") == "é >="


def test_an_unknown_encoding_is_taken_for_ascii() -> None:
    assert visible("é", "no-such-encoding") == "\\xe9"
    assert not can_show("é", "no-such-encoding")


def test_a_line_break_in_a_sentence_is_a_space_and_an_escape_is_not_let_through() -> None:
    assert prose("one\n  two\x1b[0m") == "one two\\x1b[0m"


@given(TEXTS)
def test_shown_text_is_printable_and_showing_it_again_changes_nothing(text: str) -> None:
    for shown in (visible(text), prose(text), visible(text, "ascii"), visible(text, "cp1252")):
        assert shown.isprintable()
        assert visible(shown) == shown
    assert visible(text, "ascii").isascii()
