"""Conditions as formulas: a Test with an answer, True, False, or several of them joined by `And` or `Or`.

A negation is driven down to the tests as it is made, so that no other node exists.
"""

from __future__ import annotations

from itertools import product

from envguard.audit.gate import Test
from envguard.frozen import Frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Formula: TypeAlias = "bool | Test | And | Or"

MOST_WAYS = 64  # a condition of more is told as one test that cannot be taken apart

# NVIDIA's, past and possible: enough to say from which one on a condition holds.
_CAPABILITIES = [(major, minor) for major in range(3, 14) for minor in range(10)]


class And(Frozen):
    """All of them hold."""

    parts: tuple[Formula, ...]


class Or(Frozen):
    """One of them holds."""

    parts: tuple[Formula, ...]


def both(*parts: Formula) -> Formula:
    """All of some conditions."""
    return _joined(And, parts, False)


def either(*parts: Formula) -> Formula:
    """One of some conditions."""
    return _joined(Or, parts, True)


def _joined(join: type[And | Or], parts: tuple[Formula, ...], decides: bool) -> Formula:
    kept: list[Formula] = []
    for part in parts:
        if isinstance(part, bool):
            if part is decides:
                return decides
            continue
        inner: tuple[Formula, ...] = part.parts if isinstance(part, (And, Or)) and isinstance(part, join) else (part,)
        for one in inner:
            if one not in kept:
                kept.append(one)
    if any(isinstance(one, Test) and denied(one) in kept for one in kept):
        return decides
    if not kept:
        return not decides
    return kept[0] if len(kept) == 1 else _capability(join(tuple(kept)))


def denied(formula: Formula) -> Formula:
    """The opposite."""
    if isinstance(formula, bool):
        return not formula
    if isinstance(formula, Test):
        return replace(formula, holds=not formula.holds)
    parts = tuple(denied(part) for part in formula.parts)
    return either(*parts) if isinstance(formula, And) else both(*parts)


def choose(condition: Formula, yes: Formula, no: Formula) -> Formula:
    """One condition where another holds, a second one where it does not."""
    return either(both(condition, yes), both(denied(condition), no))


def tests(formula: Formula) -> Iterator[Test]:
    """Every test in it."""
    if isinstance(formula, Test):
        yield formula
    elif isinstance(formula, (And, Or)):
        for part in formula.parts:
            yield from tests(part)


def ways(formula: Formula) -> list[tuple[Test, ...]] | None:
    """Every way in which it comes true, each a list of tests; None where there are too many."""
    if isinstance(formula, bool):
        return [()] if formula else []
    if isinstance(formula, Test):
        return [(formula,)]
    inner = [ways(part) for part in formula.parts]
    found: list[tuple[Test, ...]] = []
    if isinstance(formula, Or):
        for each in inner:
            if each is None:
                return None
            found += each
    else:
        count = 1
        for each in inner:
            if each is None or (count := count * len(each)) > MOST_WAYS:
                return None
        for parts in product(*[each for each in inner if each is not None]):
            way = tuple(dict.fromkeys(test for part in parts for test in part))
            if not any(denied(test) in way for test in way):
                found.append(way)
    return list(dict.fromkeys(found)) if len(found) <= MOST_WAYS else None


def _capability(formula: And | Or) -> Formula:
    """`major == 8 and minor >= 9 or major > 8` is one test: capability >= 8.9."""
    parts = [part for part in formula.parts if not isinstance(part, bool)]
    pure = [part for part in parts if all(test.kind == "capability" for test in tests(part))]
    if not pure or (len(pure) == 1 and isinstance(pure[0], Test)):
        return formula
    join = type(formula)
    meant = join(tuple(pure))
    answers = [_at(meant, capability) for capability in _CAPABILITIES]
    if answers != sorted(answers) and answers != sorted(answers, reverse=True):
        return formula
    if all(answers) or not any(answers):
        return formula
    first = _CAPABILITIES[answers.index(not answers[0])]
    test = Test("capability", "compute capability", ">=", f"{first[0]}.{first[1]}", not answers[0])
    rest = tuple(part for part in parts if part not in pure)
    return join((*rest, test)) if rest else test


def _at(formula: Formula, capability: tuple[int, int]) -> bool:
    if isinstance(formula, bool):
        return formula
    if isinstance(formula, Test):
        major, _, minor = formula.value.partition(".")
        found: tuple[int, ...] = capability
        bound: tuple[int, ...] = (int(major), int(minor or 0))
        if formula.subject != "compute capability":
            found, bound = (capability[formula.subject == "minor"],), bound[:1]
        answer = {">=": found >= bound, ">": found > bound, "==": found == bound}[formula.operator]
        return answer is formula.holds
    answers = [_at(part, capability) for part in formula.parts]
    return all(answers) if isinstance(formula, And) else any(answers)
