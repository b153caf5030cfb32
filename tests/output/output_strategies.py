"""Hypothesis strategies for reports whose every string is arbitrary."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from envguard.model import HOSTS, OPERATIONS, VERDICTS, BackendReport, Device, Fix, Outcome, Plan, Report, Request

NASTY = st.sampled_from(
    [
        "\x1b[31m",
        "\r\n",
        "\u202e",
        "\x9b",
        "[red]",
        "[/]",
        "\ud800",
        "\x7f",
        "\u2028",
        ":smile:",
        "日本",
        "\\ud800",
        "é",
    ]
)
WORDS = st.text(st.characters(codec=None, exclude_categories=()), max_size=20) | NASTY
TEXTS = st.lists(WORDS | st.text("x y/", max_size=120), max_size=4).map("".join)
STATUSES = ("met", "unmet", "undecided", "skipped")
KINDS = ("absent", "version", "hardware", "platform", "broken", "configuration", "advisory")


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _tuples(strategy: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(strategy, min_size=least, max_size=3).map(tuple)


REQUESTS = st.builds(
    Request,
    backend=TEXTS,
    scheme=_optional(TEXTS),
    operation=st.sampled_from(OPERATIONS),
    host=st.sampled_from(HOSTS[1:]),
    device=TEXTS,
)
OUTCOMES = st.builds(
    Outcome,
    rule=TEXTS,
    status=st.sampled_from(STATUSES),
    severity=st.sampled_from(("error", "warning", "info")),
    kind=st.sampled_from(KINDS),
    origin=TEXTS,
    message=TEXTS,
    needed=_optional(TEXTS),
    found=_optional(TEXTS),
    why=_optional(TEXTS),
    fix=_optional(st.builds(Fix, TEXTS, _tuples(TEXTS))),
    source=_optional(TEXTS),
    because=_optional(TEXTS),
    ignored=st.booleans(),
)
BACKENDS = st.builds(
    BackendReport,
    request=REQUESTS,
    version=_optional(TEXTS),
    verdict=st.sampled_from(VERDICTS),
    outcomes=_tuples(OUTCOMES),
    schemes=_optional(st.dictionaries(TEXTS, st.sampled_from(VERDICTS), max_size=4)),
    resolved_device=_optional(st.builds(Device, TEXTS, _optional(st.integers(0, 9)), _optional(TEXTS))),
    plan=_optional(st.builds(Plan, _tuples(TEXTS), _tuples(TEXTS), _tuples(TEXTS))),
)
REPORTS = st.builds(
    Report,
    backends=_tuples(BACKENDS),
    subject=TEXTS,
    rules=TEXTS,
    taken_at=_optional(TEXTS),
    interpreter=_optional(TEXTS),
    undecided=st.sampled_from(("block", "allow")),
)
