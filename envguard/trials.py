"""The rules that only a deep look tells, one for each backend: `<backend>/smoke`. They stand in no file of rules.

What they say stands here, for the outcomes of a deep look and for `envguard explain` alike.
"""

from __future__ import annotations

from envguard.rule import FixTemplate, Rule, TrialNeed, When

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from envguard.rulebook import RuleBook

SECONDS = 120.0  # that a trial has, if nothing else is said
WHY = (
    "The rules pass, but the installed files do not do on this machine what they are installed for: a crash, a hang,"
    " a failed import, an error or a wrong result, which no rule tells beforehand."
)
FIX = (
    "Install the backend and torch anew, in releases made for each other and for this machine. If it stays, report"
    " it to the backend with the last line that is told, and to envguard: a rule is missing."
)
SOURCE = "a child process of envguard that ran the installed files"


def rule_of(backend: str) -> Rule:
    """The rule of one backend."""
    return Rule(
        f"{backend}/smoke",
        When((backend,)),
        TrialNeed(SECONDS),
        "error",
        "broken",
        WHY,
        FixTemplate(text=FIX),
        "deep",
        SOURCE,
        "",
        (),
        "",
    )


def rows(book: RuleBook, rule_id: str | None = None, backend: str | None = None) -> tuple[Rule, ...]:
    """The rules of the table, then those of the deep look: all, or those of one id or one backend."""
    named = book.backends if backend is None else (backend,)
    tried = [rule for rule in map(rule_of, named) if rule_id in (None, rule.id)]
    return (*book.rows(rule_id, backend), *tried)


def ids(book: RuleBook) -> tuple[str, ...]:
    """The id of every rule, those of the deep look last."""
    return (*book.ids(), *[rule_of(backend).id for backend in book.backends])


def unknown(named: Iterable[str], book: RuleBook) -> list[str]:
    """Those of some ids that no rule has."""
    there = frozenset(ids(book))
    return [each for each in named if each not in there]
