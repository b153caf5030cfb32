"""Goes through the statements that run when a module is imported, without running any of them.

Modules of the packages that are followed are gone through in the order in which Python would run them. Of other modules
only the names that are asked for are looked up. Where it is not known which branch is taken both are gone through, and
nothing that would fail there counts.
"""

from __future__ import annotations

import ast
import fnmatch
import sys

from envguard.links import library, surface
from envguard.links.expressions import turns
from envguard.links.statements import Statements
from envguard.links.values import (
    ABSENT,
    ALWAYS,
    SOMETHING,
    UNKNOWN,
    Absent,
    Function,
    Left,
    Library,
    Module,
    Raised,
    Returned,
    Scope,
    Unknown,
    same,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import PurePath
    from typing import Any

    from envguard.links.library import Surroundings
    from envguard.links.sources import Sources

_DEEPEST = 40  # calls within calls
_DEEPEST_UNSURE = 5  # where it is only about what a function gives
_LONGEST_FOREIGN = 30  # lines of a function of a package that is not followed
# What the Python that runs this may lack, or have too early.
_STANDARD_SINCE = {"tomllib": (3, 11), "annotationlib": (3, 14), "compression": (3, 14)}
_ONCE_STANDARD = {"distutils", "imp", "asynchat", "asyncore", "smtpd", "cgi", "crypt", "audioop", "pipes", "telnetlib"}
_QUIET = {  # libraries whose functions, called on import, leave nothing to doubt
    "abc", "builtins", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools", "logging",
    "operator", "os", "packaging", "pathlib", "re", "sys", "threading", "types", "typing", "typing_extensions",
    "warnings", "weakref",
}  # fmt: skip
_KINDS_OF_CONSTANTS: dict[str, type] = {
    "builtins.str": str, "builtins.int": int, "builtins.float": float, "builtins.bool": bool, "builtins.list": list,
    "builtins.dict": dict, "builtins.tuple": tuple, "builtins.set": set,
}  # fmt: skip
_NOWHERE = ast.Call(func=ast.Name(id="map"), args=[], keywords=[], lineno=0)


class Interpreter(Statements):
    """One process that imports, as far as it can be told from the files.

    `follow` are the packages (or modules) whose modules are gone through, `complete` says that what is not below the
    roots is not installed; else other packages are taken to be there and whole.
    """

    def __init__(self, sources: Sources, follow: Iterable[str], around: Surroundings, *, complete: bool = True) -> None:
        super().__init__(around, complete=complete)
        self.sources = sources
        self.follow = frozenset(follow)
        self.calls: list[tuple[str, str, list[Any], bool]] = []  # name, module, arguments, whether certainly called
        self.watched: frozenset[str] = frozenset()
        self._active: tuple[Any, ...] = ()  # the functions that are being gone through
        self._generators: dict[Any, bool] = {}
        self.stubs: dict[str, str] = {}

    # modules

    def module(self, name: str) -> Module | None:
        """A module by its full name, not yet gone through; None where there is none."""
        if name in self.modules:
            return self.modules[name]
        place = self.sources.find(name)
        if place is None:
            return None
        followed = place.kind in ("package", "module") and self._follows(name)
        made = self.modules[name] = Module(name, place, followed=followed)
        return made

    def _follows(self, name: str) -> bool:
        while name:
            if name in self.follow:
                return True
            name = name.rpartition(".")[0]
        return False

    def load(self, name: str, scope: Scope, line: int) -> Any:
        """Import a module with the packages it is in. Raises Raised where there is none or its import fails."""
        head = name.partition(".")[0]
        if self._is_library(head):
            return Library(name)
        parts = name.split(".")
        parent: Module | None = None
        for end in range(1, len(parts) + 1):
            full = ".".join(parts[:end])
            module = self.module(full)
            if module is None:
                return self._no_module(full, parent, scope, line)
            if module.followed:
                self.run(module)
            if parent is not None:
                parent.names.setdefault(parts[end - 1], module) if parent.followed else None
            parent = module
        return parent

    def _is_library(self, head: str) -> bool:
        if head in ("packaging", "importlib_metadata"):
            return self.sources.find(head) is not None or not self.complete
        if head in _ONCE_STANDARD:
            return self.sources.find(head) is None
        since = _STANDARD_SINCE.get(head)
        standard = head in sys.stdlib_module_names if since is None else self.around.python >= since
        return standard and not self.sources.shadows(head)

    def _no_module(self, full: str, parent: Module | None, scope: Scope, line: int) -> Any:
        if parent is not None and (parent.place.kind == "compiled" or parent.name in ("torch.classes", "torch.ops")):
            return Unknown(full)
        if parent is not None and not parent.followed and self._puts_into_modules(parent, full):
            return Unknown(full)
        if parent is None and (not self.complete or full in self.sources.doubtful):
            return Unknown(full)
        if self.unsure:
            return Unknown(full)
        head = full.partition(".")[0]
        raise Raised("ModuleNotFoundError", f"No module named '{full}'", scope.module, line, full, head)

    def _puts_into_modules(self, parent: Module, full: str) -> bool:
        """Whether a package registers modules that are no files (six.moves)."""
        text = surface.text(self, parent)
        return "sys.modules" in text or "__path__" in text or full in text

    def run(self, module: Module) -> None:
        """Go through a module once. Raises Raised where its import fails."""
        if module.state == "failed" and module.failure is not None:
            raise module.failure
        if module.state != "new":
            return
        module.state = "running"
        tree = surface.parse(self, module)
        if tree is None:
            module.open, module.state = True, "done"
            return
        scope = Scope("module", module, module.names)
        module.maybe = surface.global_names(surface.text(self, module))
        before = self.unsure, self.perhaps, self.handled, self._active
        self.perhaps += self.unsure
        self.unsure, self.handled, self._active = 0, [], ()
        try:
            self.block(tree.body, scope)
        except Raised as raised:
            module.state, module.failure = "failed", raised
            raise
        except (Returned, Left):
            pass  # not Python: nothing is known of it
        finally:
            self.unsure, self.perhaps, self.handled, self._active = before
        module.state = "done"

    def member(self, module: Module, name: str) -> Any:
        """A name of a module, ABSENT where it certainly has none."""
        if module.followed:
            if name in module.names:
                return module.names[name]
            if name in module.lazy:
                return self._lazily(module, name)
            if name in ALWAYS or module.open or name in module.maybe or module.state in ("running", "new"):
                return UNKNOWN
            return UNKNOWN if self.sources.find(f"{module.name}.{name}") else ABSENT
        return surface.member(self, module, name)

    def _lazily(self, module: Module, name: str) -> Any:
        """A name that a package fetches from one of its modules when it is asked for."""
        inner = f"{module.name}.{module.lazy[name]}"
        scope = Scope("module", module, module.names)
        loaded = self.load(inner, scope, 1)
        if module.lazy[name] == name or not isinstance(loaded, Module):
            return loaded
        return self.imported(loaded, name, scope, 1)

    def imported(self, module: Any, name: str, scope: Scope, line: int) -> Any:
        """The name of `from module import name`. Raises Raised where there certainly is none."""
        if isinstance(module, Library):
            return library.constant(f"{module.path}.{name}", self.around)
        if not isinstance(module, Module):
            return Unknown(f"{module.path}.{name}") if isinstance(module, Unknown) and module.path else UNKNOWN
        value = module.names.get(name, ABSENT) if module.followed else ABSENT
        if isinstance(value, Absent):
            inner = f"{module.name}.{name}"
            if name not in module.lazy and self.sources.find(inner) and name not in self._defined(module):
                loaded = self.load(inner, scope, line)
                if module.followed:
                    module.names.setdefault(name, loaded)
                return loaded
            value = self.member(module, name)
        if isinstance(value, Absent):
            if self.unsure:
                return UNKNOWN
            error = f"cannot import name '{name}' from '{module.name}'"
            raise Raised("ImportError", error, scope.module, line, name, module.name)
        return value

    def _defined(self, module: Module) -> Iterable[str]:
        return module.names if module.followed else surface.bound(self, module)

    def star(self, module: Any, scope: Scope, line: int) -> None:
        """Bind the names of `from module import *`."""
        if isinstance(module, Module) and module.followed and module.state != "running":
            listed = module.names.get("__all__")
            if isinstance(listed, (list, tuple)) and all(isinstance(each, str) for each in listed):
                for name in listed:
                    self.put(name, self.imported(module, name, scope, line), scope)
                return
            scope.module.open = scope.module.open or module.open or "__all__" in module.names
            for name, value in list(module.names.items()):
                if not name.startswith("_"):
                    self.put(name, value, scope)
            return
        if isinstance(module, Module) and not module.followed:
            names = surface.exported(self, module)
            if names is not None:
                for name in names:
                    self.put(name, surface.Lazily(module, name).of(self), scope)
                return
        scope.module.open = True

    # calls

    def run_function(self, function: Function, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What a function gives; what would fail in it fails here."""
        module = function.module
        foreign = not module.followed
        deepest = _DEEPEST if not self.unsure and not foreign else _DEEPEST_UNSURE
        node = surface.body_of(self, function) if len(self._active) < deepest else None
        if (
            node is None
            or node in self._active
            or (foreign and _length(node) > _LONGEST_FOREIGN)
            or self._is_generator(node)
        ):
            self.doubts += 1
            return UNKNOWN
        scope = Scope("function", module, _arguments(self, function, arguments, keywords), function.outer)
        before = self.unsure, self._active
        self._active = (*self._active, node)
        self.unsure += foreign
        try:
            if isinstance(node, ast.Lambda):
                return self.value(node.body, scope)
            self.block(node.body, scope)
            value: Any = None
        except Returned as returned:
            value = returned.value
        except Left:
            value = UNKNOWN
        except Raised:
            if not foreign and not scope.rest:
                raise
            self.doubts += 1
            return UNKNOWN
        finally:
            self.unsure, self._active = before
        return value if all(same(each, value) for each in scope.returned) else UNKNOWN

    def _is_generator(self, node: Any) -> bool:
        if node not in self._generators:
            self._generators[node] = any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in _own(node))
        return self._generators[node]

    def library_call(self, path: str, arguments: list[Any], keywords: dict[str, Any], scope: Scope, line: int) -> Any:
        """What a function of the standard library gives; some of them ask about modules."""
        if path in (
            "importlib.util.find_spec",
            "importlib.import_module",
            "builtins.__import__",
            "pkgutil.find_loader",
        ):
            return self._by_name(path, arguments, scope, line)
        if path in ("importlib.metadata.version", "importlib_metadata.version"):
            return self._version(arguments, scope, line)
        if path in ("builtins.hasattr", "builtins.getattr") and len(arguments) > 1 and isinstance(arguments[1], str):
            return self._get(path, arguments, scope, line)
        if path == "builtins.setattr" and arguments:
            if isinstance(arguments[0], Module):
                arguments[0].open = True
            return None
        if path in ("builtins.globals", "builtins.exec", "builtins.vars") or (
            path == "builtins.locals" and scope.kind != "function"
        ):
            scope.module.open = True
            return UNKNOWN
        if path.startswith(library.SEARCHES):
            self.complete = False  # from now on modules may come from elsewhere
            return UNKNOWN
        if path == "contextlib.suppress":
            return Library("contextlib.suppress()")
        if path in ("functools.lru_cache", "functools.cache"):
            return arguments[0] if arguments and isinstance(arguments[0], Function) else Library(path)
        if path in ("builtins.any", "builtins.all") and len(arguments) == 1:
            return library.anything(path[9:], arguments[0])
        if path == "builtins.map" and len(arguments) == 2:
            values = turns(arguments[1])
            if values is None:
                return UNKNOWN
            return [self.apply(arguments[0], [each], {}, scope, _NOWHERE) for each in values]
        if path == "builtins.isinstance":
            return self._is_instance(arguments)
        value = UNKNOWN if keywords else library.call(path, arguments, self.around)
        if isinstance(value, Unknown):
            self.called(path, arguments, scope.module)
            if path.partition(".")[0] not in _QUIET:
                self.doubts += 1
            return Unknown(f"{path}()")
        return value

    def _is_instance(self, arguments: list[Any]) -> Any:
        """`isinstance` of a constant."""
        if len(arguments) != 2 or not library.is_constant(arguments[0]):
            return UNKNOWN
        wanted = arguments[1] if isinstance(arguments[1], tuple) else (arguments[1],)
        kinds = [_KINDS_OF_CONSTANTS.get(each.path) if isinstance(each, Library) else None for each in wanted]
        if any(kind is not None and isinstance(arguments[0], kind) for kind in kinds):
            return True
        return UNKNOWN if None in kinds else False

    def _by_name(self, path: str, arguments: list[Any], scope: Scope, line: int) -> Any:
        if len(arguments) != 1 or not isinstance(arguments[0], str) or not arguments[0]:
            self.doubts += 1
            return UNKNOWN
        name = arguments[0]
        if path.endswith(("find_spec", "find_loader")):
            if self._is_library(name.partition(".")[0]):
                return SOMETHING
            if self.sources.find(name) is not None:
                return SOMETHING
            return None if self.complete and name.partition(".")[0] not in self.sources.doubtful else UNKNOWN
        if name.startswith("."):
            return UNKNOWN
        module = self.load(name, scope, line)
        return module if path != "builtins.__import__" else self.modules.get(name.partition(".")[0], UNKNOWN)

    def _version(self, arguments: list[Any], scope: Scope, line: int) -> Any:
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            self.doubts += 1
            return UNKNOWN
        version = self.sources.version(arguments[0])
        if version is not None:
            return version
        if not self.complete or self.unsure:
            self.doubts += 1
            return UNKNOWN
        error = f"No package metadata was found for {arguments[0]}"
        raise Raised("ModuleNotFoundError", error, scope.module, line, arguments[0], arguments[0])

    def _get(self, path: str, arguments: list[Any], scope: Scope, line: int) -> Any:
        owner, name = arguments[0], arguments[1]
        if not isinstance(owner, Module):
            return UNKNOWN
        try:
            value = self.member(owner, name)
        except Raised:
            return UNKNOWN
        if path == "builtins.hasattr":
            if isinstance(value, Absent):
                return False
            return UNKNOWN if isinstance(value, Unknown) and self._uncertain(owner, name) else True
        if isinstance(value, Absent):
            if len(arguments) > 2:
                return arguments[2]
            return self.attribute_of(owner, name, scope, line)
        if len(arguments) > 2 and isinstance(value, Unknown) and self._uncertain(owner, name):
            return UNKNOWN
        return value

    def _uncertain(self, owner: Module, name: str) -> bool:
        """Whether it is not certain that a module has a name."""
        return name not in self._defined(owner)

    def glob(self, folder: PurePath, pattern: Any) -> Any:
        """What lies in a folder, where the pattern has no folders in it."""
        names = self.sources.names(str(folder))
        if names is None or not isinstance(pattern, str) or "/" in pattern or "**" in pattern:
            return UNKNOWN
        return [folder / name for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]

    def called(self, path: str, arguments: list[Any], module: Module) -> None:
        """Note a call that is watched for."""
        name = path.rpartition(".")[2]
        if name in self.watched:
            self.calls.append((name, module.name, arguments, not self.unsure and not self.perhaps))


def _own(node: Any) -> Iterable[ast.AST]:
    """The nodes of a function's own body, without those of functions in it."""
    pending: list[ast.AST] = list(node.body) if isinstance(node.body, list) else [node.body]
    while pending:
        each = pending.pop()
        yield each
        if not isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(each))


def _length(node: Any) -> int:
    return int((node.end_lineno or 0) - node.lineno)


def _arguments(
    interpreter: Interpreter, function: Function, given: list[Any], keywords: dict[str, Any]
) -> dict[str, Any]:
    """The names that a call binds."""
    arguments = function.node.args
    places = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    names: dict[str, Any] = dict.fromkeys((*places, *(each.arg for each in arguments.kwonlyargs)), UNKNOWN)
    home = function.outer or Scope("module", function.module, function.module.names)
    for name, default in zip(reversed(places), reversed(arguments.defaults)):
        names[name] = interpreter.unsurely(default, home)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        if default is not None:
            names[argument.arg] = interpreter.unsurely(default, home)
    names.update(zip(places, given))
    rest = {}
    for name, value in keywords.items():
        if name in names:
            names[name] = value
        else:
            rest[name] = value
    if arguments.vararg is not None:
        names[arguments.vararg.arg] = tuple(given[len(places) :])
    if arguments.kwarg is not None:
        names[arguments.kwarg.arg] = rest
    return names
