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
from envguard.links.expressions import Expressions, turns
from envguard.links.values import (
    ABSENT,
    ALWAYS,
    SOMETHING,
    UNKNOWN,
    Absent,
    Class,
    Function,
    LazyNames,
    Left,
    Library,
    Module,
    Raised,
    Returned,
    Scope,
    Unknown,
    truth,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import PurePath
    from typing import Any

    from envguard.links.library import Surroundings
    from envguard.links.sources import Sources

_DEEPEST = 40  # calls within calls
_DEEPEST_UNSURE = 5  # where it is only about what a function gives
_LONGEST_FOREIGN = 30  # lines of a function of a package that is not followed
_MOST_STEPS = 400_000  # statements: some ten times what the largest package runs
_ONCE_STANDARD = {"distutils", "imp", "asynchat", "asyncore", "smtpd", "cgi", "crypt", "audioop", "pipes", "telnetlib"}
_DEFERRED_ANNOTATIONS = (3, 14)  # from this Python on they are not looked at on import
_MAKES_FUNCTIONS = {"functools.lru_cache", "functools.cache", "staticmethod", "builtins.staticmethod"}


class Loss:
    """An import that fails, and what that means: the exception, and whether the package goes on without."""

    __slots__ = ("caught", "raised")

    def __init__(self, raised: Raised, *, caught: bool) -> None:
        self.raised = raised
        self.caught = caught


class Interpreter(Expressions):
    """One process that imports, as far as it can be told from the files.

    `follow` are the packages (or modules) whose modules are gone through, `complete` says that what is not below the
    roots is not installed; else other packages are taken to be there and whole.
    """

    def __init__(self, sources: Sources, follow: Iterable[str], around: Surroundings, *, complete: bool = True) -> None:
        super().__init__(around)
        self.sources = sources
        self.follow = frozenset(follow)
        self.complete = complete
        self.modules: dict[str, Module] = {}
        self.losses: list[Loss] = []
        self.calls: list[tuple[str, str, list[Any], bool]] = []  # name, module, arguments, whether certainly called
        self.watched: frozenset[str] = frozenset()
        self._steps = 0
        self._active: tuple[Any, ...] = ()  # the functions that are being gone through
        self.perhaps = 0  # among modules of which it is not known whether they are imported
        self._handled: list[Raised] = []
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
        return (head in sys.stdlib_module_names or head in _ONCE_STANDARD) and self.sources.find(head) is None

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
        before = self.unsure, self.perhaps, self._handled, self._active
        self.perhaps += self.unsure
        self.unsure, self._handled, self._active = 0, [], ()
        try:
            self.block(tree.body, scope)
        except Raised as raised:
            module.state, module.failure = "failed", raised
            raise
        except (Returned, Left):
            pass  # not Python: nothing is known of it
        finally:
            self.unsure, self.perhaps, self._handled, self._active = before
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

    # statements

    def block(self, body: Iterable[ast.stmt], scope: Scope) -> None:
        """Go through some statements in order."""
        for statement in body:
            self._steps += 1
            if self._steps > _MOST_STEPS:
                scope.module.open = True
                return
            method = _STATEMENTS.get(type(statement))
            if method is not None:
                method(self, statement, scope)

    def branch(self, go: Callable[[], None], scope: Scope) -> bool:
        """Go through what may or may not run. True where it comes to its end."""
        unsure = self.unsure
        self.unsure += 1
        try:
            go()
        except Returned as returned:
            scope.returned.append(returned.value)
        except Left:
            pass
        except Raised:
            if scope.kind != "function":  # if it happens the whole import fails, for another reason than what follows
                return False
        else:
            return True
        finally:
            self.unsure = unsure
        # what follows in this block may not run
        scope.rest += 1
        return False

    def either(self, branches: list[Callable[[], None]], scope: Scope) -> None:
        """Go through branches of which one runs, and keep what they agree on."""
        before = dict(scope.names)
        outcomes: list[dict[str, Any]] = []
        rest = scope.rest
        for go in branches:
            scope.names.clear()
            scope.names.update(before)
            if self.branch(go, scope):
                outcomes.append(dict(scope.names))
        self.unsure += scope.rest - rest
        if not outcomes:
            outcomes = [before]
        scope.names.clear()
        for outcome in outcomes:
            for name, value in outcome.items():
                if name not in scope.names:
                    scope.names[name] = value if all(name in other for other in outcomes) else UNKNOWN
                elif scope.names[name] is not value and not _equal(scope.names[name], value):
                    scope.names[name] = UNKNOWN

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            module = self.load(alias.name, scope, node.lineno)
            if alias.asname is None:
                head = alias.name.partition(".")[0]
                module = self.modules.get(head) or (Library(head) if isinstance(module, Library) else Unknown(head))
            self._set(alias.asname or alias.name.partition(".")[0], module, scope)

    def _import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        if node.module == "__future__":
            return
        name = absolute(node, scope.module)
        module = self.load(name, scope, node.lineno)
        for alias in node.names:
            if alias.name == "*":
                self._star(module, scope, node.lineno)
            else:
                value = self.imported(module, alias.name, scope, node.lineno)
                self._set(alias.asname or alias.name, value, scope)

    def _star(self, module: Any, scope: Scope, line: int) -> None:
        if isinstance(module, Module) and module.followed and module.state != "running":
            listed = module.names.get("__all__")
            if isinstance(listed, (list, tuple)) and all(isinstance(each, str) for each in listed):
                for name in listed:
                    self._set(name, self.imported(module, name, scope, line), scope)
                return
            scope.module.open = scope.module.open or module.open or "__all__" in module.names
            for name, value in list(module.names.items()):
                if not name.startswith("_"):
                    self._set(name, value, scope)
            return
        if isinstance(module, Module) and not module.followed:
            names = surface.exported(self, module)
            if names is not None:
                for name in names:
                    self._set(name, surface.Lazily(module, name).of(self), scope)
                return
        scope.module.open = True

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        decorators = [self.value(each, scope) for each in node.decorator_list]
        arguments = node.args
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.value(default, scope)
        if self._looks_at_annotations(scope.module):
            every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
            for argument in every:
                if argument is not None and argument.annotation is not None:
                    self.value(argument.annotation, scope)
            if node.returns is not None:
                self.value(node.returns, scope)
        outer = scope if scope.kind == "function" else None
        plain = isinstance(node, ast.FunctionDef) and all(_keeps_function(each) for each in decorators)
        if not plain:
            self._decorate(decorators)
        self._set(node.name, Function(node, scope.module, outer) if plain else SOMETHING, scope)

    def _decorate(self, decorators: list[Any]) -> None:
        """Decorators are called with what they decorate; what they make of it is not followed."""
        for decorator in reversed(decorators):
            if isinstance(decorator, Function) and decorator.module.followed:
                self.run_function(decorator, [SOMETHING], {})

    def _looks_at_annotations(self, module: Module) -> bool:
        if module.looks_at_annotations is None:
            deferred = module.tree is not None and any(
                isinstance(each, ast.ImportFrom)
                and each.module == "__future__"
                and any(alias.name == "annotations" for alias in each.names)
                for each in module.tree.body[:40]
            )
            module.looks_at_annotations = self.around.python < _DEFERRED_ANNOTATIONS and not deferred
        return module.looks_at_annotations

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        decorators = [self.value(decorator, scope) for decorator in node.decorator_list]
        for base in node.bases:
            self.value(base, scope)
        for keyword in node.keywords:
            self.value(keyword.value, scope)
        inner = Scope("class", scope.module, {}, scope)
        self.block(node.body, inner)
        self._decorate(decorators)
        self._set(node.name, SOMETHING if node.decorator_list else Class(node.name, inner.names, scope.module), scope)

    def _expression(self, node: ast.Expr, scope: Scope) -> None:
        value = node.value
        self.value(value, scope)

    def _assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self.bind(target, value, scope)

    def _annotated(self, node: ast.AnnAssign, scope: Scope) -> None:
        if scope.kind != "function" and self._looks_at_annotations(scope.module):
            self.value(node.annotation, scope)
        if node.value is not None:
            self.bind(node.target, self.value(node.value, scope), scope)

    def _augmented(self, node: ast.AugAssign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        if isinstance(node.target, ast.Name):
            before = self.lookup(node.target.id, scope, node.lineno)
            self._set(node.target.id, library.operate(type(node.op).__name__, before, value), scope)
        else:
            if isinstance(node.target, ast.Attribute) and node.target.attr in ("path", "meta_path", "path_hooks"):
                self.complete = False
            self.forget(node.target, scope)

    def bind(self, target: ast.expr, value: Any, scope: Scope) -> None:
        """Assign a value to a target."""
        if isinstance(target, ast.Name):
            self._set(target.id, value, scope)
        elif isinstance(target, (ast.Tuple, ast.List)):
            fits = isinstance(value, (tuple, list)) and len(value) == len(target.elts)
            for place, each in enumerate(target.elts):
                inner = each.value if isinstance(each, ast.Starred) else each
                self.bind(inner, value[place] if fits and inner is each else UNKNOWN, scope)
        elif isinstance(target, ast.Attribute):
            owner = self.value(target.value, scope)
            if isinstance(owner, (Module, Class)):
                owner.names[target.attr] = value
        elif isinstance(target, ast.Subscript):
            self._put(target, value, scope)

    def _put(self, target: ast.Subscript, value: Any, scope: Scope) -> None:
        """`x[key] = value`: of a dict, of `globals()` or of `sys.modules`."""
        function = target.value.func if isinstance(target.value, ast.Call) else None
        if isinstance(function, ast.Name) and function.id in ("globals", "vars", "locals"):
            name = self.value(target.slice, scope)
            if isinstance(name, str):
                scope.module.names[name] = value
            else:
                scope.module.open = True
            return
        owner = self.value(target.value, scope)
        key = self.value(target.slice, scope)
        if isinstance(owner, Library) and owner.path == "sys.modules":
            if key == scope.module.name:
                scope.module.open = True
                if isinstance(value, LazyNames):
                    scope.module.lazy = value.names
        elif isinstance(owner, dict) and isinstance(key, (str, int)) and not self.unsure:
            owner[key] = value
        elif isinstance(owner, Library) and f"{owner.path}.".startswith(_SEARCHES):
            self.complete = False
        else:
            self.forget(target, scope)

    def _set(self, name: str, value: Any, scope: Scope) -> None:
        if scope.kind == "function" and name in scope.hidden:
            scope.module.names[name] = value if not self.unsure else UNKNOWN
        else:
            scope.names[name] = value

    def _if_else(self, node: ast.If, scope: Scope) -> None:
        test = truth(self.value(node.test, scope))
        if test is None:
            self.either([lambda: self.block(node.body, scope), lambda: self.block(node.orelse, scope)], scope)
        else:
            self.block(node.body if test else node.orelse, scope)

    def _try(self, node: ast.Try, scope: Scope) -> None:
        doubts = self.doubts
        try:
            try:
                self.block(node.body, scope)
            except Raised as raised:
                self._handle(node, raised, scope)
            else:
                doubtful = self.doubts != doubts
                self.block(node.orelse, scope)
                self._perhaps_handled(node, scope, doubtful=doubtful)
        except (Raised, Returned, Left):
            self.block(node.finalbody, scope)
            raise
        self.block(node.finalbody, scope)

    def _handle(self, node: ast.Try, raised: Raised, scope: Scope) -> None:
        for handler in node.handlers:
            if _matches(raised, handler.type):
                if not any(isinstance(each, (ast.Import, ast.ImportFrom)) for each in ast.walk(handler)):
                    self._lost(raised)  # else it takes the same from another place, as of another release
                if handler.name:
                    self._set(handler.name, SOMETHING, scope)
                self._handled.append(raised)
                try:
                    self.block(handler.body, scope)
                finally:
                    self._handled.pop()
                return
        raise raised

    def _perhaps_handled(self, node: ast.Try, scope: Scope, *, doubtful: bool) -> None:
        """The body ran to its end, as far as can be told: where it might not have, the handlers may have run."""
        if not doubtful or not node.handlers:
            return
        branches: list[Callable[[], None]] = [lambda: None]
        for handler in node.handlers:

            def go(handler: ast.ExceptHandler = handler) -> None:
                if handler.name:
                    self._set(handler.name, SOMETHING, scope)
                self.block(handler.body, scope)

            branches.append(go)
        self.either(branches, scope)

    def _raise(self, node: ast.Raise, scope: Scope) -> None:
        if node.exc is None:
            if self._handled:
                raise self._handled[-1]
            raise Raised(None, "an exception is raised again", scope.module, node.lineno, "raise", scope.module.name)
        text = ""
        name = _last(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        if isinstance(node.exc, ast.Call) and node.exc.args:
            said = self.value(node.exc.args[0], scope)
            text = said if isinstance(said, str) else ""
        if self._handled and not text:
            raise self._handled[-1]
        kind = name if name and _builtin(name) else _KINDS.get(name or "")
        handled = self._handled[-1] if self._handled else None
        raise Raised(
            kind,
            f"{name or 'an exception'}{': ' + text if text else ''}",
            scope.module,
            node.lineno,
            handled.name if handled else (name or "raise"),
            handled.needed_from if handled else scope.module.name,
        )

    def _for(self, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
        values = turns(self.value(node.iter, scope))
        rest = scope.rest
        unsure = self.unsure
        if values is None:
            self._once(node, node.target, scope)
        else:
            self._turn_by_turn(node, values, scope)
        if scope.kind != "function":  # of a function the rest may have been left too
            self.unsure, scope.rest = unsure, rest

    def _turn_by_turn(self, node: ast.For | ast.AsyncFor, values: list[Any], scope: Scope) -> None:
        for each in values:
            self.bind(node.target, each, scope)
            try:
                self.block(node.body, scope)
            except Left as left:
                if not left.again:
                    return
        self.block(node.orelse, scope)

    def _once(self, node: ast.For | ast.AsyncFor | ast.While, target: ast.expr | None, scope: Scope) -> None:
        """A loop of which it is not known how often it runs."""

        def go() -> None:
            if target is not None:
                self.bind(target, UNKNOWN, scope)
            self.block(node.body, scope)

        self.either([go, lambda: None], scope)
        self.either([lambda: self.block(node.orelse, scope), lambda: None], scope)

    def _while(self, node: ast.While, scope: Scope) -> None:
        unsure, rest = self.unsure, scope.rest
        if truth(self.unsurely(node.test, scope)) is not False:
            self._once(node, None, scope)
        if scope.kind != "function":
            self.unsure, scope.rest = unsure, rest

    def _with(self, node: ast.With | ast.AsyncWith, scope: Scope) -> None:
        suppressed: list[ast.expr] = []
        perhaps = False
        for item in node.items:
            value = self.value(item.context_expr, scope)
            path = value.path or "" if isinstance(value, (Library, Unknown)) else ""
            if path == "contextlib.suppress()":
                suppressed += item.context_expr.args if isinstance(item.context_expr, ast.Call) else []
            elif not path.startswith(_LET_THROUGH):
                perhaps = True  # it may be one that takes exceptions in
            if item.optional_vars is not None:
                self.bind(item.optional_vars, UNKNOWN, scope)
        try:
            self.block(node.body, scope)
        except Raised as raised:
            if any(_matches(raised, each) for each in suppressed):
                self._lost(raised)
            elif not perhaps:
                raise

    def _lost(self, raised: Raised) -> None:
        """The package takes an exception in and goes on."""
        if not self.unsure and not self.perhaps:
            self.losses.append(Loss(raised, caught=True))

    def _match(self, node: Any, scope: Scope) -> None:
        self.value(node.subject, scope)
        branches: list[Callable[[], None]] = [lambda: None]
        for case in node.cases:

            def go(case: Any = case) -> None:
                for each in ast.walk(case.pattern):
                    name = getattr(each, "name", None) or getattr(each, "rest", None)
                    if isinstance(name, str):
                        self._set(name, UNKNOWN, scope)
                self.block(case.body, scope)

            branches.append(go)
        self.either(branches, scope)

    def _return(self, node: ast.Return, scope: Scope) -> None:
        raise Returned(self.value(node.value, scope))

    def _global(self, node: ast.Global, scope: Scope) -> None:
        scope.hidden.update(node.names)

    def _assert(self, node: ast.Assert, scope: Scope) -> None:
        if truth(self.value(node.test, scope)) is False:
            said = self.unsurely(node.msg, scope) if node.msg is not None else ""
            text = f"AssertionError: {said}" if isinstance(said, str) else "AssertionError"
            raise Raised("AssertionError", text, scope.module, node.lineno, "assert", scope.module.name)

    def _break(self, _node: ast.Break, _scope: Scope) -> None:
        raise Left(again=False)

    def _continue(self, _node: ast.Continue, _scope: Scope) -> None:
        raise Left(again=True)

    def _delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                self.forget(target, scope)

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
        return value if all(_equal(each, value) for each in scope.returned) else UNKNOWN

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
        if path.startswith(_SEARCHES):
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


_QUIET = {  # libraries whose functions, called on import, leave nothing to doubt
    "abc", "builtins", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools", "logging",
    "operator", "os", "packaging", "pathlib", "re", "sys", "threading", "types", "typing", "typing_extensions",
    "warnings", "weakref",
}  # fmt: skip
_KINDS_OF_CONSTANTS: dict[str, type] = {
    "builtins.str": str, "builtins.int": int, "builtins.float": float, "builtins.bool": bool, "builtins.list": list,
    "builtins.dict": dict, "builtins.tuple": tuple, "builtins.set": set,
}  # fmt: skip
_SEARCHES = ("sys.path.", "sys.meta_path.", "sys.path_hooks.", "site.addsitedir")
_LET_THROUGH = ("torch.", "warnings.", "threading.", "builtins.open")
_NOWHERE = ast.Call(func=ast.Name(id="map"), args=[], keywords=[], lineno=0)
_KINDS = {
    "PackageNotFoundError": "ModuleNotFoundError",
    "DistributionNotFound": "Exception",
    "VersionConflict": "Exception",
}


def absolute(node: ast.ImportFrom, module: Module) -> str:
    """The full name of the module that a `from` statement is about."""
    if not node.level:
        return node.module or ""
    package = module.package
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    simple = (str, int, float, bool, type(None))
    return type(one) is type(other) and isinstance(one, simple) and bool(one == other)


def _keeps_function(decorator: Any) -> bool:
    return isinstance(decorator, Library) and decorator.path in _MAKES_FUNCTIONS


def _last(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _builtin(name: str) -> type[BaseException] | None:
    import builtins

    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _matches(raised: Raised, wanted: ast.expr | None) -> bool:
    """Whether a handler takes an exception; where that is not known it does, so that nothing is told for certain."""
    if wanted is None:
        return True
    if isinstance(wanted, ast.Tuple):
        return any(_matches(raised, each) for each in wanted.elts)
    name = _last(wanted)
    handled = _builtin(_KINDS.get(name or "", name or ""))
    happened = _builtin(raised.kind) if raised.kind else None
    if handled is None or happened is None:
        return True
    return issubclass(happened, handled)


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


_STATEMENTS: dict[type[ast.AST], Any] = {
    ast.Import: Interpreter._import,
    ast.ImportFrom: Interpreter._import_from,
    ast.FunctionDef: Interpreter._function,
    ast.AsyncFunctionDef: Interpreter._function,
    ast.ClassDef: Interpreter._class,
    ast.Expr: Interpreter._expression,
    ast.Assign: Interpreter._assign,
    ast.AnnAssign: Interpreter._annotated,
    ast.AugAssign: Interpreter._augmented,
    ast.If: Interpreter._if_else,
    ast.Try: Interpreter._try,
    ast.Raise: Interpreter._raise,
    ast.For: Interpreter._for,
    ast.AsyncFor: Interpreter._for,
    ast.While: Interpreter._while,
    ast.With: Interpreter._with,
    ast.AsyncWith: Interpreter._with,
    ast.Match: Interpreter._match,
    ast.Return: Interpreter._return,
    ast.Global: Interpreter._global,
    ast.Assert: Interpreter._assert,
    ast.Break: Interpreter._break,
    ast.Continue: Interpreter._continue,
    ast.Delete: Interpreter._delete,
}
if hasattr(ast, "TryStar"):
    _STATEMENTS[ast.TryStar] = Interpreter._try
