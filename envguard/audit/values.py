"""What an expression of a host's source means, as far as the environment decides it."""

from __future__ import annotations

from envguard.audit.formula import choose, tests
from envguard.audit.gate import ENVIRONMENT, Test
from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from typing import Any, TypeAlias

    from envguard.audit.formula import Formula
    from envguard.audit.gate import Fact
    from envguard.audit.package import Module

    Value: TypeAlias = Any
    """One of the types below, or a constant: text, a number, True, False, None, a tuple of values."""


class Lookup(Frozen):
    """What `_is_package_available("torchao")` and `find_spec("torchao")` give: whether it is there, and its version."""

    distribution: str


class VersionOf(Frozen):
    """The version of an installed distribution."""

    distribution: str
    base: bool = False


class Variable(Frozen):
    """The text of an environment variable."""

    name: str


class Capability(Frozen):
    """The compute capability, or its major or minor number."""

    part: str = "compute capability"


class Place(Frozen):
    """A module outside the package, or what it holds: `torch.cuda`."""

    path: str


class Table(Frozen):
    """A dictionary, of which the keys count."""

    keys: tuple[str, ...]


class Truth(Frozen):
    """True or False, by a condition."""

    formula: Formula


class Opaque(Frozen):
    """Anything else, as it is written; `facts` are the tests of the environment that went into it."""

    text: str
    facts: tuple[Fact, ...] = ()

    @property
    def mixed(self) -> bool:
        """Whether the environment decides it. That a library is there goes into every expression."""
        return any(kind not in ("available", "symbol") for kind, _ in self.facts)


class Function:
    """A function of the package and the scope that it was made in."""

    def __init__(self, module: Module, node: ast.FunctionDef, scope: Scope, owner: Owner | None = None) -> None:
        self.module = module
        self.node = node
        self.scope = scope
        self.owner = owner


class Owner:
    """A class: its methods and what its body binds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: dict[str, Value] = {}


class Deferred(Frozen):
    """A name of another module of the package, which is read when it is needed."""

    file: str
    name: str


class Scope:
    """The names that code sees: its own, then those around it."""

    def __init__(self, module: Module, above: Scope | None = None, owner: Owner | None = None) -> None:
        self.module = module
        self.above = above
        self.owner: Owner | None = owner or (above.owner if above else None)
        self.names: dict[str, Value] = {}

    def copy(self) -> Scope:
        """The same names, to be bound otherwise in a branch."""
        made = Scope(self.module, self.above, self.owner)
        made.names = dict(self.names)
        return made

    def find(self, name: str) -> Value:
        """What a name is bound to; MISSING where to nothing yet."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.above
        return MISSING


MISSING = Opaque("")


def available(distribution: str) -> Test:
    """The test whether a distribution is there."""
    return Test("available", distribution)


def truth(value: Value, text: str = "") -> Formula:
    """Whether a value counts as true."""
    match value:
        case Truth():
            return value.formula
        case Lookup():
            return available(value.distribution)
        case VersionOf():
            return available(value.distribution)
        case Variable():
            return Test("variable", value.name, "set")
        case Table():
            return bool(value.keys)
        case Capability():
            return True
        case Opaque():
            return Test("mixed" if value.mixed else "argument", text or value.text)
        case Place() | Function() | Owner() | Deferred():
            return True
    return bool(value)


def facts_of(*values: Value) -> tuple[Fact, ...]:
    """The tests of the environment that went into some values."""
    found: list[Fact] = []
    for value in values:
        match value:
            case Truth():
                found += [(test.kind, test.subject) for test in tests(value.formula) if test.kind in ENVIRONMENT]
            case Opaque():
                found += value.facts
            case Lookup():
                found.append(("available", value.distribution))
            case VersionOf():
                found.append(("version", value.distribution))
            case Variable():
                found.append(("variable", value.name))
            case Capability():
                found.append(("capability", value.part))
            case tuple() if type(value) is tuple:
                found += facts_of(*value)
    return tuple(sorted(set(found)))[:24]


def merged(name: str, condition: Formula, yes: Value, no: Value) -> Value:
    """What a name means after two branches bound it."""
    if yes is no or (type(yes) is type(no) and yes == no):
        return yes
    # bound in one branch alone, as by `if is_torch_available(): import torch`: without it nothing asks for the name
    if yes is MISSING or no is MISSING:
        return no if yes is MISSING else yes
    # found where its variable lets it: the variable is told once, where it is read, not with every test
    for found, other in ((yes, no), (no, yes)):
        if isinstance(found, (Lookup, VersionOf)) and other in (False, None, "N/A"):
            return found
        if isinstance(found, Truth) and other in (False, None):
            if isinstance(found.formula, Test) and found.formula.kind == "available":
                return found
            if all(test.kind == "variable" for test in tests(condition)):
                return found
    simple = (bool, type(None), Truth, Lookup)
    if isinstance(yes, simple) and isinstance(no, simple):
        return Truth(choose(condition, truth(yes), truth(no)))
    if isinstance(yes, (*simple, Opaque)) and isinstance(no, (*simple, Opaque)):
        chosen = choose(condition, truth(yes), truth(no))
        if sum(1 for _ in tests(chosen)) <= 8:
            return Truth(chosen)
    return Opaque(name, facts_of(yes, no, Truth(condition)))
