"""Walks a body of statements with the condition under which each is reached, and tells the gates on the way."""

from __future__ import annotations

import ast
import builtins

from envguard.audit.formula import both, denied, tests, ways
from envguard.audit.gate import ENVIRONMENT, Gate, Test
from envguard.audit.reading import join
from envguard.audit.values import MISSING, Function, Lookup, Opaque, Owner, Place, Scope, VersionOf
from envguard.frozen import Frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeAlias

    from envguard.audit.formula import Formula
    from envguard.audit.reading import Reader

    End: TypeAlias = Literal["", "raise", "return"]

_DEEPEST_HELPERS = 3
_AGAIN = "the same again"
_CAUGHT = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException", "AttributeError")
_WARNINGS = ("warning", "warning_once", "warn", "deprecate", "error")
_LOST = ("available", "device")  # where one of these holds, it is seldom what an error is about


class Context(Frozen):
    """Where a body stands, for the gates in it."""

    host: str
    method: str
    backends: tuple[str, ...]
    stage: str
    where: str
    effect: str = "imports"
    """What becomes of an import that fails here."""
    exception: str = "ImportError"
    near: tuple[Test, ...] = ()
    """The tests of the environment in the nearest condition."""


class Walker:
    """Collects the gates of one release."""

    def __init__(self, reader: Reader, ignored: frozenset[str], interesting: frozenset[str]) -> None:
        self.reader = reader
        self.gates: dict[tuple[object, ...], Gate] = {}
        self.followed: set[ast.FunctionDef] = set()
        """Functions that were told where they are called."""
        self._ignored = ignored
        self._interesting = interesting
        self._helpers: list[ast.FunctionDef] = []

    def body(self, nodes: Sequence[ast.stmt], scope: Scope, path: Formula, context: Context) -> End:
        """Walk statements; how they end, where all ways through them do."""
        for node in nodes:
            match node:
                case ast.If():
                    end, path = self._if(node, scope, path, context)
                    if end:
                        return end
                case ast.Raise():
                    self._raise(node, scope, path, context)
                    return "raise"
                case ast.Assert():
                    path = self._assert(node, scope, path, context)
                case ast.Return():
                    if node.value is not None:
                        self._helper(node.value, scope, path, context)
                        self._reads(node.value, scope, path, context)
                    return "return"
                case ast.Continue() | ast.Break():
                    return "return"
                case ast.Try():
                    self._try(node, scope, path, context)
                case ast.With():
                    end = self.body(node.body, scope, path, context)
                    if end:
                        return end
                case ast.For() | ast.While():
                    if isinstance(node, ast.For):
                        self.reader.assign(node.target, Opaque(scope.module.source(node.target)), scope)
                    self.body([*node.body, *node.orelse], scope, path, context)
                case ast.ClassDef():
                    self._class(node, scope, path, context)
                case ast.FunctionDef() if self._is_nested(scope):
                    self._plain(node, scope, path, context)
                    inner = self.reader.bind(Function(scope.module, node, scope, scope.owner), (), {})
                    open_parameters(node, inner)
                    self.body(node.body, inner, path, context)
                case _:
                    self._plain(node, scope, path, context)
        return ""

    def _is_nested(self, scope: Scope) -> bool:
        return scope.above is not None and (scope.above.above is not None or scope.owner is None)

    # Branches

    def _if(self, node: ast.If, scope: Scope, path: Formula, context: Context) -> tuple[End, Formula]:
        condition = self._condition(node.test, scope, path, context)
        if isinstance(condition, bool):
            return self.body(node.body if condition else node.orelse, scope, path, context), path
        one, two = scope.copy(), scope.copy()
        outer = context
        near = tuple([test for test in tests(condition) if test.kind in ENVIRONMENT])
        if near:
            near = (*near, *[replace(test, holds=not test.holds) for test in near])
            context = replace(context, near=near)
        else:  # what holds around a test of an argument is not what its error is about
            context = replace(context, near=tuple([test for test in context.near if not test.holds]))
        first = self.body(node.body, one, both(path, condition), context)
        # after a branch that raises the next test is one more in the order, no alternative
        second = self.body(node.orelse, two, path if first == "raise" else both(path, denied(condition)), context)
        self._branches(node, condition, scope, outer)
        if first and second:
            return ("raise" if first == second == "raise" else "return"), path
        if first:
            scope.names = two.names
            return "", (both(path, _decided(denied(condition))) if first == "return" else path)
        if second:
            scope.names = one.names
            return "", (both(path, _decided(condition)) if second == "return" else path)
        join(scope, condition, one, two)
        return "", path

    def _assert(self, node: ast.Assert, scope: Scope, path: Formula, context: Context) -> Formula:
        """Tell an assertion as the `if not ...: raise` that it is; the path behind it."""
        failing = ast.Raise(ast.Call(ast.Name("AssertionError", ast.Load()), [node.msg] if node.msg else [], []), None)
        test = ast.UnaryOp(ast.Not(), node.test)
        branch = ast.If(test, [failing], [])
        for made in (failing, failing.exc, test, branch):
            ast.copy_location(made, node)  # type: ignore[type-var]
        return self._if(branch, scope, path, context)[1]

    def _condition(self, node: ast.expr, scope: Scope, path: Formula, context: Context) -> Formula:
        self._reads(node, scope, path, context)
        asked: list[str] = []
        self.reader.asked = asked.append
        condition = self.reader.condition(node, scope)
        self.reader.asked = None
        self._metadata(asked, node, scope, path, context)
        if context.stage in ("config", "init", "validate"):
            for test in tests(condition):
                if test.kind == "device" and test.subject not in ("cuda", "accelerator"):
                    name = "backends.mps" if "backends.mps" in scope.module.source(node) else test.subject
                    self._symbol(f"torch.{name}.is_available", node, scope, path, context, "raises", "AttributeError")
        return condition

    def _branches(self, node: ast.If, condition: Formula, scope: Scope, context: Context) -> None:
        """Tell a test that only chooses between two ways."""
        plain = [
            each for each in (*node.body, *node.orelse) if not isinstance(each, (ast.Import, ast.ImportFrom, ast.Pass))
        ]
        if not plain or any(_tells(each) for each in plain):
            return
        if all(isinstance(each, (ast.If, ast.Try, ast.ClassDef, ast.FunctionDef)) for each in plain):
            return
        if context.stage == "import" and all(test.kind == "available" for test in tests(condition)):
            return
        for test in dict.fromkeys(tests(condition)):
            if test.kind in ENVIRONMENT:
                self._gate(test, True, (), node, scope, context, "branches", "", "")

    def _try(self, node: ast.Try, scope: Scope, path: Formula, context: Context) -> None:
        inner = context
        for handler in node.handlers:
            names = (
                {part.id for part in ast.walk(handler.type) if isinstance(part, ast.Name)} if handler.type else set()
            )
            if not handler.type or names & set(_CAUGHT):
                inner = self._caught(handler, scope, context)
                break
        self.body(node.body, scope, path, inner)
        self.body(node.orelse, scope, path, context)
        for handler in node.handlers:
            text = f"except {scope.module.source(handler.type)}" if handler.type else "except"
            failed = scope.copy()
            self.body(handler.body, failed, both(path, Test("argument", text)), replace(context, near=()))
            for name, value in failed.names.items():
                # `found = True` after a look at the metadata, and False in the handler
                if isinstance(value, bool) and isinstance(scope.names.get(name), bool) and value != scope.names[name]:
                    asked = self._asked(node.body, scope)
                    scope.names[name] = Lookup(asked) if asked and not value else Opaque(name)
        self.body(node.finalbody, scope, path, context)

    def _asked(self, body: Sequence[ast.stmt], scope: Scope) -> str:
        """The distribution whose metadata a body asks for, "" where it does not."""
        for node in body:
            for each in ast.walk(node):
                if isinstance(each, ast.Call) and isinstance(
                    found := self.reader.value(each, scope), (VersionOf, Lookup)
                ):
                    return found.distribution
        return ""

    def _caught(self, handler: ast.ExceptHandler, scope: Scope, context: Context) -> Context:
        """What becomes of an import that fails inside: caught, unless the handler itself cannot run."""
        if any(isinstance(each, ast.Raise) for each in ast.walk(handler)):
            return context
        missing = [
            each.id
            for each in ast.walk(handler)
            if isinstance(each, ast.Name)
            and isinstance(each.ctx, ast.Load)
            and each.id in scope.module.bound
            and scope.find(each.id) is MISSING
            and not hasattr(builtins, each.id)
        ]
        if context.stage == "import" and missing:
            return replace(context, exception="NameError")
        return replace(context, effect="optional", exception="")

    # Statements

    def _plain(self, node: ast.stmt, scope: Scope, path: Formula, context: Context) -> None:
        match node:
            case ast.Import():
                for alias in node.names:
                    self._symbol(alias.name, node, scope, path, context)
            case ast.ImportFrom() if not node.level and node.module:
                for alias in node.names:
                    self._symbol(f"{node.module}.{alias.name}", node, scope, path, context)
            case ast.Expr(value=ast.Call()) | ast.Assign(value=ast.Call()):
                self._warns(node.value, scope, path, context)
                self._helper(node.value, scope, path, context)
                self._reads(node.value, scope, path, context)
            case ast.FunctionDef():
                arguments = node.args
                evaluated = [*arguments.defaults, *arguments.kw_defaults, *node.decorator_list]
                if not scope.module.postponed:
                    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
                    evaluated += [*(argument.annotation for argument in every), node.returns]
                for each in evaluated:
                    if each is not None:
                        self._reads(each, scope, path, context)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Expr():
                if node.value is not None:
                    self._reads(node.value, scope, path, context)
        asked: list[str] = []
        self.reader.asked = asked.append
        self.reader.bind_statement(node, scope)
        self.reader.asked = None
        if context.effect != "optional":
            self._metadata(asked, node, scope, path, context)

    def _metadata(self, asked: list[str], node: ast.AST, scope: Scope, path: Formula, context: Context) -> None:
        """`importlib.metadata.version` itself raises where there is no metadata."""
        for distribution in dict.fromkeys(asked):
            for way in ways(path) or [()]:
                test = Test("available", distribution)
                if test not in way and (distribution in self._interesting or not context.backends):
                    self._gate(test, True, way, node, scope, context, "raises", "PackageNotFoundError", "")

    def _class(self, node: ast.ClassDef, scope: Scope, path: Formula, context: Context) -> None:
        owner = Owner(node.name)
        inner = Scope(scope.module, scope, owner)
        inner.names = owner.names
        for base in (*node.bases, *node.decorator_list):
            self._reads(base, scope, path, context)
        self.body(node.body, inner, path, context)
        scope.names[node.name] = owner

    def _reads(self, node: ast.expr, scope: Scope, path: Formula, context: Context) -> None:
        """Tell what an expression reads of modules outside while the package is imported."""
        if context.stage != "import":
            return
        found: list[tuple[ast.Attribute, Place]] = []
        self.reader.seen = lambda attribute, place: found.append((attribute, place))
        try:
            self.reader.value(node, scope.copy())
        finally:
            self.reader.seen = None
        for attribute, place in found:
            self._symbol(place.path, attribute, scope, path, context, exception="AttributeError")

    def _warns(self, node: ast.expr, scope: Scope, path: Formula, context: Context) -> None:
        if not isinstance(node, ast.Call) or _called(node) not in _WARNINGS:
            return
        message = next((text for arg in reversed(node.args) if (text := self.reader.words(arg, scope))), "")
        for way in ways(path) or ():
            for test in _needed(way, context.near) if context.near else ():
                self._gate(test, not test.holds, way, node, scope, context, "warns", "", message)

    def _helper(self, node: ast.expr, scope: Scope, path: Formula, context: Context) -> None:
        """Go into a function of the package that a check calls."""
        if context.stage not in ("import", "init", "validate") or not isinstance(node, ast.Call):
            return
        called = self.reader.value(node.func, scope)
        if not isinstance(called, Function) or called.node in self._helpers or len(self._helpers) >= _DEEPEST_HELPERS:
            return
        if called.module.file.startswith("utils/") and called.module is not scope.module:
            return
        args = [self.reader.value(arg, scope) for arg in node.args]
        named = {word.arg: self.reader.value(word.value, scope) for word in node.keywords if word.arg}
        self.followed.add(called.node)
        self._helpers.append(called.node)
        try:
            inner = self.reader.bind(called, args, named)
            open_parameters(called.node, inner)
            self.body(called.node.body, inner, path, context)
        finally:
            self._helpers.pop()

    # Gates

    def _symbol(
        self,
        path: str,
        node: ast.AST,
        scope: Scope,
        reached: Formula,
        context: Context,
        effect: str = "",
        exception: str = "",
    ) -> None:
        root = path.partition(".")[0]
        distribution = self.reader.distribution_of(path)
        if root in self._ignored or root == context.host:
            return
        if context.backends and distribution not in self._interesting:
            return
        test = Test("symbol", distribution, "", path)
        for way in ways(reached) or [()]:
            self._gate(
                test, True, way, node, scope, context, effect or context.effect,
                (exception if context.exception == "ImportError" and exception else context.exception), "",
            )  # fmt: skip

    def _raise(self, node: ast.Raise, scope: Scope, path: Formula, context: Context) -> None:
        call = node.exc if isinstance(node.exc, ast.Call) else None
        raised = call.func if call else node.exc
        name = raised.id if isinstance(raised, ast.Name) else scope.module.source(raised, 60) if raised else _AGAIN
        message = self.reader.words(call.args[0], scope) if call and call.args else ""
        effect = "optional" if context.effect == "optional" and name in _CAUGHT else "raises"
        found = ways(path)
        if found is None:
            for test in dict.fromkeys(tests(path)):
                if test.kind in ENVIRONMENT:
                    self._gate(test, not test.holds, (), node, scope, context, effect, name, message)
            return
        for way in found:
            needed = _needed(way, context.near)
            for test in needed:
                self._gate(test, not test.holds, way, node, scope, context, effect, name, message)
            if not needed:
                choice = next((test for test in way if test.kind == "choice" and not test.holds), None)
                said = " and ".join([test.text() for test in way]) or "always"
                test = choice or Test("argument", said)
                self._gate(
                    test, choice is not None, () if choice is None else way, node, scope, context, effect, name, message
                )

    def _gate(
        self, test: Test, needed: bool, way: tuple[Test, ...], node: ast.AST, scope: Scope, context: Context,
        effect: str, exception: str, message: str,
    ) -> None:  # fmt: skip
        value, subject, operator = test.value, test.subject, test.operator
        if effect == "branches" and test.kind in ("available", "version") and subject not in self._interesting:
            return
        guards = tuple(each for each in way if each != test)
        if test.kind == "device" and needed and not test.holds:  # none of several
            group = [each for each in way if each.kind == "device" and not each.holds]
            subject, value = "device", ", ".join([each.subject for each in group] or [test.subject])
            guards = tuple(each for each in guards if each not in group)
        gate = Gate(
            context.host, context.method, context.backends, context.stage, effect, test.kind, subject, operator, value,
            needed, exception, " ".join(message.split()), scope.module.file, getattr(node, "lineno", 1),
            context.where, guards,
        )  # fmt: skip
        # one gate reached in several ways: those with the fewest conditions say it best
        place = 0 if gate.kind == "symbol" else gate.line
        key = (*gate.identity, gate.operator, gate.value, gate.needed, gate.effect, gate.file, place)
        known = self.gates.get(key)
        if known is None or len(guards) < len(known.guards):
            self.gates[key] = gate


def _needed(way: tuple[Test, ...], near: tuple[Test, ...]) -> list[Test]:
    """Of the tests that an error came by, those that it is about: of the nearest condition, and what is missing."""
    told = [test for test in way if test.kind in ENVIRONMENT]
    close = [test for test in told if test in near]
    missing = [test for test in (close if near else told) if not test.holds]
    if any(test.kind == "capability" for test in missing):  # the device is there, and too old
        missing = [test for test in missing if test.kind != "device"]
    if missing or not close:
        return missing
    return [test for test in close if test.kind not in _LOST] or (close if len(way) == 1 else [])


def _decided(condition: Formula) -> Formula:
    """What an early return leaves open for the rest, where the environment has a part in it."""
    return condition if any(test.kind in ENVIRONMENT for test in tests(condition)) else True


def _tells(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value) in _WARNINGS


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def open_parameters(node: ast.FunctionDef, scope: Scope) -> None:
    """Parameters that nothing is given for: whoever calls chooses them."""
    arguments = node.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if each is not None and each.arg not in ("self", "cls"):
            scope.names.setdefault(each.arg, Opaque(each.arg))
