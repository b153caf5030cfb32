"""Which facts to observe, as one record."""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.model import Environment, Host

SYSTEM_ALONE = frozenset({"system"})


class WantedLinks(Frozen):
    """What to look at: distribution -> the modules whose import matters, and whose compiled kernels matter."""

    modules: tuple[tuple[str, tuple[str, ...]], ...] = ()
    kernels: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()


class Wanted(Frozen):
    """The facts to observe. Python's own facts always belong to it, because fixes name the interpreter.

    `distributions` are names, or None for all; `owners` maps an import name to the distributions that may own it;
    `loaded` are import names, of which a running process may hold some; `installed` are distributions that somebody may
    have put into another Python; `requirements` are distributions whose declared requirements are wanted too, `in_turn`
    those whose requirements' requirements are, and so on; `native` are backends whose compiled libraries are wanted.
    """

    distributions: frozenset[str] | None
    owners: tuple[tuple[str, tuple[str, ...]], ...] = ()
    loaded: frozenset[str] = frozenset()
    installed: frozenset[str] = frozenset()
    requirements: frozenset[str] = frozenset()
    in_turn: frozenset[str] = frozenset()
    host: frozenset[str] | None = SYSTEM_ALONE
    hardware: bool = False
    architectures: bool = False
    toolchain: bool = False
    variables: frozenset[str] | None = frozenset()
    native: frozenset[str] = frozenset()
    links: WantedLinks | None = None


EVERYTHING = Wanted(
    distributions=None,
    host=None,
    hardware=True,
    architectures=True,
    toolchain=True,
    variables=None,
    requirements=frozenset(),
    native=frozenset({"bitsandbytes", "torchao"}),
)


class Look(Frozen):
    """What was observed of an interpreter for some requests, and for which host."""

    wanted: Wanted
    host: Host
    environment: Environment


def from_values(values: Any) -> Wanted:
    """A record from its JSON values. Raises ValueError, TypeError or LookupError for others."""
    named = dict(zip(Wanted.__match_args__, values, strict=True))
    links = named.pop("links")
    for name, value in named.items():
        if name == "owners":
            named[name] = tuple([(module, tuple(owners)) for module, owners in value])
        elif isinstance(value, list):
            named[name] = frozenset(value)
    if links is not None:
        modules, kernels, follow = links
        links = WantedLinks(tuple([(name, tuple(each)) for name, each in modules]), tuple(kernels), tuple(follow))
    return Wanted(**named, links=links)


def to_values(wanted: Wanted) -> list[Any]:
    """The JSON values of a record."""
    values: list[Any] = [*wanted]  # type: ignore[misc]
    return [sorted(value) if isinstance(value, frozenset) else value for value in values]
