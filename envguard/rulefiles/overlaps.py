"""Whether two rows can apply to one request and environment: of one rule no two may."""

from __future__ import annotations

from envguard.versions import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard.rule import Rule, When
    from envguard.versions import Clause


def overlap(one: Rule, other: Rule) -> bool:
    """Whether some request and environment exist to which both rows apply."""
    a, b = one.when, other.when
    sets = ((a.backend, b.backend), (a.operation, b.operation), (a.host, b.host), (a.device, b.device))
    if any(_disjoint(first, second) for first, second in (*sets, (a.system, b.system), (a.accelerator, b.accelerator))):
        return False
    if _schemes_disjoint(a, b):
        return False
    ranges = dict(b.release)
    if set(a.absent) & set(ranges) or set(b.absent) & set(dict(a.release)):
        return False
    return not any(name in ranges and ranges_disjoint(clauses, ranges[name]) for name, clauses in a.release)


def _disjoint(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> bool:
    return first is not None and second is not None and not set(first) & set(second)


def _schemes_disjoint(a: When, b: When) -> bool:
    if a.scheme is not None and b.scheme is not None:
        return _disjoint(a.scheme, b.scheme)
    asked, left_out = (a.scheme, b.not_scheme) if a.scheme is not None else (b.scheme, a.not_scheme)
    return asked is not None and left_out is not None and set(asked) <= set(left_out)


def ranges_disjoint(first: tuple[Clause, ...], second: tuple[Clause, ...]) -> bool:
    """Whether no version meets both: the highest lower bound lies above the lowest upper bound."""
    lows = [(key(c.version) or (), c.operator == ">") for c in (*first, *second) if c.operator in (">=", ">", "==")]
    highs = [(key(c.version) or (), c.operator == "<") for c in (*first, *second) if c.operator in ("<=", "<", "==")]
    if not lows or not highs:
        return False
    low, high = max(lows), min(highs, key=lambda bound: (bound[0], not bound[1]))
    return low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))
