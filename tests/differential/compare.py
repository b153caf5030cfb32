"""envguard's verdict of an environment beside upstream's, one request after another."""

from __future__ import annotations

from typing import Any, NamedTuple

from support import host_alone

from envguard.evaluate import Evaluator
from envguard.model import BackendReport, Environment, Request
from envguard.rulebook import RuleBook


class Judged(NamedTuple):
    """What envguard says about one request: by the host's rules alone, and by all."""

    host: str  # passes, fails or undecided
    unmet: tuple[str, ...]  # the host's rules that fail
    met: tuple[str, ...]
    verdict: str  # of all rules
    others: tuple[str, ...]  # the rules of another origin that fail


class Envguard:
    """Judges environments by the shipped rules; evaluators are made once."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._books = {"host": host_alone(tables), "all": RuleBook(tables)}
        self._evaluators: dict[tuple[str, Request], Evaluator] = {}

    def judge(self, environment: Environment, request: Request) -> Judged:
        """What the host's rules alone and all rules say about one request."""
        host, everything = self._report("host", environment, request), self._report("all", environment, request)
        errors = [outcome for outcome in host.outcomes if outcome.severity == "error"]
        unmet = tuple(outcome.rule for outcome in errors if outcome.status == "unmet")
        undecided = any(outcome.status == "undecided" for outcome in errors)
        return Judged(
            "fails" if unmet else "undecided" if undecided else "passes",
            unmet,
            tuple(outcome.rule for outcome in errors if outcome.status == "met"),
            everything.verdict,
            tuple(
                outcome.rule
                for outcome in everything.outcomes
                if (outcome.status, outcome.severity) == ("unmet", "error") and not outcome.origin.startswith("host")
            ),
        )

    def _report(self, book: str, environment: Environment, request: Request) -> BackendReport:
        key = book, request
        if key not in self._evaluators:
            self._evaluators[key] = Evaluator(self._books[book], request)
        return self._evaluators[key].evaluate(environment)


def agreement(answers: list[dict[str, str] | None], judged: Judged, by_order: bool) -> str | None:
    """None where both agree, else how they differ.

    `answers` are upstream's for each way to complete the environment. Where they differ among themselves, the facts do
    not decide, and envguard may say so; where the order of two folders decides, it need not.
    """
    passing = [answer is None for answer in answers]
    places = {None if answer is None else answer["place"] for answer in answers}
    if all(passing):
        said = None if judged.host == "passes" else f"upstream passes, the host's rules say: {judged.host}"
    elif not any(passing):
        fine = judged.host == "fails" or (judged.host == "undecided" and len(places) > 1)
        said = None if fine else f"upstream fails, the host's rules say: {judged.host}"
    else:
        fine = judged.host == "undecided" or by_order
        said = None if fine else f"the facts do not decide, the host's rules say: {judged.host}"
    if said is None and not any(passing) and judged.verdict not in ("blocked", "undecided"):
        return f"upstream fails, the verdict is {judged.verdict}"
    return said
