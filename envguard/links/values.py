"""What an expression of a module comes to, as far as it can be told without running it.

Constants, lists and the like stand for themselves. The rest is one of the classes here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Mapping
    from typing import Any

    from envguard.links.sources import Place


class Unknown:
    """A value of which nothing is known but, for some, what it is called."""

    __slots__ = ("path",)

    def __init__(self, path: str | None = None) -> None:
        self.path = path


class Something(Unknown):
    """A value that is not known, but is true and not None."""

    __slots__ = ()


class Absent:
    """What comes back for a name that certainly is not there."""


UNKNOWN = Unknown()
SOMETHING = Something()
ABSENT = Absent()

# the names that every module has
ALWAYS = frozenset(
    (
        "__name__",
        "__file__",
        "__path__",
        "__doc__",
        "__spec__",
        "__loader__",
        "__package__",
        "__dict__",
        "__class__",
    )
)


class Library:
    """A module, class or function of the standard library (or of `packaging`), by its dotted name."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class VersionText(str):
    """torch's own version: a string that compares as a version."""

    __slots__ = ()


class Module:
    """A module. `names` are those it has by now; an `open` one may have others.

    A `followed` module is gone through as it would run (state: new, running, done, failed); of the others only the
    names that are asked for are looked up.
    """

    __slots__ = (
        "binders",
        "ends",
        "failure",
        "followed",
        "lazy",
        "looked_up",
        "looks_at_annotations",
        "maybe",
        "name",
        "names",
        "open",
        "place",
        "stars",
        "state",
        "text",
        "tree",
    )

    def __init__(self, name: str, place: Place, *, followed: bool) -> None:
        self.name = name
        self.place = place
        self.followed = followed
        self.state = "new"
        self.names: dict[str, Any] = {}
        self.open = place.kind == "compiled"
        self.failure: Raised | None = None
        self.lazy: Mapping[str, str] = {}
        self.maybe: set[str] = set()
        self.text: str | None = None
        self.tree: ast.Module | None = None  # without the bodies of functions
        self.ends: dict[int, int] = {}  # of these: line of the `def` -> last line
        self.binders: dict[str, list[Any]] | None = None
        self.stars: list[str] = []
        self.looks_at_annotations: bool | None = None
        self.looked_up: dict[str, Any] = {}

    @property
    def package(self) -> str:
        """The package that relative imports in it start from."""
        return self.name if self.place.inside else self.name.rpartition(".")[0]

    def absolute(self, node: ast.ImportFrom) -> str:
        """The full name of the module that a `from` statement in it is about."""
        if not node.level:
            return node.module or ""
        package = self.package
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        return f"{package}.{node.module}" if node.module else package


class LazyNames(Something):
    """What a lazy module fetches from which of its modules when it is asked for."""

    __slots__ = ("names",)

    def __init__(self, structure: Mapping[Any, Any]) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        for module, names in structure.items():
            if isinstance(module, str):
                self.names[module] = module
                for name in names if isinstance(names, (list, tuple, set)) else ():
                    if isinstance(name, str):
                        self.names[name] = module


class Function:
    """A function whose source is known."""

    __slots__ = ("module", "node", "outer")

    def __init__(self, node: Any, module: Module, outer: Scope | None) -> None:
        self.node = node
        self.module = module
        self.outer = outer


class Class:
    """A class whose source is known; its bases may bring more names."""

    __slots__ = ("module", "name", "names")

    def __init__(self, name: str, names: dict[str, Any], module: Module) -> None:
        self.name = name
        self.names = names
        self.module = module


class Method:
    """A method of a constant."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name


class Scope:
    """The names that a block of code binds and sees."""

    __slots__ = ("hidden", "kind", "module", "names", "outer", "rest", "returned")

    def __init__(self, kind: str, module: Module, names: dict[str, Any], outer: Scope | None = None) -> None:
        self.kind = kind  # module, class, function
        self.module = module
        self.names = names
        self.outer = outer
        self.hidden: set[str] = set()  # declared global
        self.returned: list[Any] = []  # by branches of which it is not known whether they are taken
        self.rest = 0  # so many of them may have left the block


class Raised(Exception):
    """The inspected code raises here. `kind` is the name of the built-in exception, None for another."""

    def __init__(self, kind: str | None, error: str, module: Module, line: int, name: str, needed_from: str) -> None:
        super().__init__(error)
        self.kind = kind
        self.error = error
        self.module = module
        self.line = line
        self.name = name
        self.needed_from = needed_from


class Returned(Exception):
    """A function returns."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Left(Exception):
    """A loop is left or goes on: `break` or `continue`."""

    def __init__(self, *, again: bool) -> None:
        super().__init__()
        self.again = again


def known(value: Any) -> bool:
    """Whether all of a value is known."""
    if isinstance(value, Unknown):
        return False
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(known, value))
    if isinstance(value, dict):
        return all(map(known, value.values()))
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two values are certainly the same."""
    if one is other:
        return True
    simple = (str, int, float, bool, type(None))
    return type(one) is type(other) and isinstance(one, simple) and bool(one == other)


def truth(value: Any) -> bool | None:
    """Whether a value counts as true; None where that is not known."""
    if isinstance(value, Something):
        return True
    if isinstance(value, Unknown):
        return None
    if isinstance(value, (Module, Function, Class, Method)):
        return True
    if isinstance(value, Library):
        return None if value.path.endswith((".environ", ".modules")) else True
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - a constant of whatever kind
        return None
