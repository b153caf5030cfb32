"""What the statements of a module do when it is imported, and which of them may not run at all.

Where it is not known which branch is taken all are gone through, and nothing that would fail there counts.
"""

from __future__ import annotations

import ast

from envguard.links import library
from envguard.links.expressions import Expressions, turns
from envguard.links.values import (
    SOMETHING,
    UNKNOWN,
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
    same,
    truth,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from envguard.links.library import Surroundings

_MOST_STEPS = 400_000  # statements: some ten times what the largest package runs
_DEFERRED_ANNOTATIONS = (3, 14)  # from this Python on they are not looked at on import
_MAKES_FUNCTIONS = {"functools.lru_cache", "functools.cache", "staticmethod", "builtins.staticmethod"}
_LET_THROUGH = ("torch.", "warnings.", "threading.", "builtins.open")
_KINDS = {
    "PackageNotFoundError": "ModuleNotFoundError",
    "DistributionNotFound": "Exception",
    "VersionConflict": "Exception",
}


class Loss:
    """An import that fails, and what that means: the exception, and whether the package goes on without."""

    __slots__ = ("caught", "raised")

    def __init__(self, raised: Raised, *, caught: bool) -> None:
        self.raised = raised
        self.caught = caught


class Statements(Expressions):
    """The part of the interpreter that is about statements.

    `complete` says that no module comes from elsewhere than the roots; what is gone through may change that.
    """

    def __init__(self, around: Surroundings, *, complete: bool) -> None:
        super().__init__(around)
        self.complete = complete
        self.modules: dict[str, Module] = {}
        self.losses: list[Loss] = []
        self.perhaps = 0  # among modules of which it is not known whether they are imported
        self.handled: list[Raised] = []  # the exceptions whose handlers are being gone through
        self._steps = 0

    # what the interpreter of modules brings

    def imported(self, module: Any, name: str, scope: Scope, line: int) -> Any:
        """The name of `from module import name`."""
        raise NotImplementedError

    def star(self, module: Any, scope: Scope, line: int) -> None:
        """Bind the names of `from module import *`."""
        raise NotImplementedError

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
                elif scope.names[name] is not value and not same(scope.names[name], value):
                    scope.names[name] = UNKNOWN

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            module = self.load(alias.name, scope, node.lineno)
            if alias.asname is None:
                head = alias.name.partition(".")[0]
                module = self.modules.get(head) or (Library(head) if isinstance(module, Library) else Unknown(head))
            self.put(alias.asname or alias.name.partition(".")[0], module, scope)

    def _import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        if node.module == "__future__":
            return
        name = scope.module.absolute(node)
        module = self.load(name, scope, node.lineno)
        for alias in node.names:
            if alias.name == "*":
                self.star(module, scope, node.lineno)
            else:
                value = self.imported(module, alias.name, scope, node.lineno)
                self.put(alias.asname or alias.name, value, scope)

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
        self.put(node.name, Function(node, scope.module, outer) if plain else SOMETHING, scope)

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
        self.put(node.name, SOMETHING if node.decorator_list else Class(node.name, inner.names, scope.module), scope)

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
            self.put(node.target.id, library.operate(type(node.op).__name__, before, value), scope)
        else:
            if isinstance(node.target, ast.Attribute) and node.target.attr in ("path", "meta_path", "path_hooks"):
                self.complete = False
            self.forget(node.target, scope)

    def bind(self, target: ast.expr, value: Any, scope: Scope) -> None:
        """Assign a value to a target."""
        if isinstance(target, ast.Name):
            self.put(target.id, value, scope)
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
            self._put_into(target, value, scope)

    def _put_into(self, target: ast.Subscript, value: Any, scope: Scope) -> None:
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
        elif isinstance(owner, Library) and f"{owner.path}.".startswith(library.SEARCHES):
            self.complete = False
        else:
            self.forget(target, scope)

    def put(self, name: str, value: Any, scope: Scope) -> None:
        """Bind a name."""
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
                    self.put(handler.name, SOMETHING, scope)
                self.handled.append(raised)
                try:
                    self.block(handler.body, scope)
                finally:
                    self.handled.pop()
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
                    self.put(handler.name, SOMETHING, scope)
                self.block(handler.body, scope)

            branches.append(go)
        self.either(branches, scope)

    def _raise(self, node: ast.Raise, scope: Scope) -> None:
        if node.exc is None:
            if self.handled:
                raise self.handled[-1]
            raise Raised(None, "an exception is raised again", scope.module, node.lineno, "raise", scope.module.name)
        text = ""
        name = _last(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        if isinstance(node.exc, ast.Call) and node.exc.args:
            said = self.value(node.exc.args[0], scope)
            text = said if isinstance(said, str) else ""
        if self.handled and not text:
            raise self.handled[-1]
        kind = name if name and _builtin(name) else _KINDS.get(name or "")
        handled = self.handled[-1] if self.handled else None
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
                        self.put(name, UNKNOWN, scope)
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


_STATEMENTS: dict[type[ast.AST], Any] = {
    ast.Import: Statements._import,
    ast.ImportFrom: Statements._import_from,
    ast.FunctionDef: Statements._function,
    ast.AsyncFunctionDef: Statements._function,
    ast.ClassDef: Statements._class,
    ast.Expr: Statements._expression,
    ast.Assign: Statements._assign,
    ast.AnnAssign: Statements._annotated,
    ast.AugAssign: Statements._augmented,
    ast.If: Statements._if_else,
    ast.Try: Statements._try,
    ast.Raise: Statements._raise,
    ast.For: Statements._for,
    ast.AsyncFor: Statements._for,
    ast.While: Statements._while,
    ast.With: Statements._with,
    ast.AsyncWith: Statements._with,
    ast.Match: Statements._match,
    ast.Return: Statements._return,
    ast.Global: Statements._global,
    ast.Assert: Statements._assert,
    ast.Break: Statements._break,
    ast.Continue: Statements._continue,
    ast.Delete: Statements._delete,
}
if hasattr(ast, "TryStar"):
    _STATEMENTS[ast.TryStar] = Statements._try
