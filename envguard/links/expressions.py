"""What the expressions of a module come to, and that they fail where a name in them certainly does not exist."""

from __future__ import annotations

import ast
import builtins
from pathlib import PurePath

from envguard.links import library
from envguard.links.values import (
    ABSENT,
    ALWAYS,
    SOMETHING,
    UNKNOWN,
    Class,
    Function,
    LazyNames,
    Library,
    Method,
    Module,
    Raised,
    Scope,
    Unknown,
    truth,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.links.library import Surroundings

_OPERATORS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_MOST_TURNS = 400
_OWN_NAMES = ALWAYS | {
    "__builtins__", "__annotations__", "__qualname__", "__module__", "__debug__", "WindowsError", "__cached__",
    "reveal_type", "__all__", "__version__",
}  # fmt: skip


class Expressions:
    """The part of the interpreter that is about expressions."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.unsure = 0  # within so many branches of which it is not known whether they are taken
        self.doubts = 0  # calls so far of which it is not known what they did

    # what the interpreter of statements brings

    def member(self, module: Module, name: str) -> Any:
        """A name of a module, ABSENT where it certainly has none."""
        raise NotImplementedError

    def load(self, name: str, scope: Scope, line: int) -> Any:
        """Import a module."""
        raise NotImplementedError

    def run_function(self, function: Function, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Call a function whose source is known."""
        raise NotImplementedError

    def library_call(self, path: str, arguments: list[Any], keywords: dict[str, Any], scope: Scope, line: int) -> Any:
        """Call a function of the standard library."""
        raise NotImplementedError

    def glob(self, folder: PurePath, pattern: Any) -> Any:
        """What lies in a folder."""
        raise NotImplementedError

    def called(self, path: str, arguments: list[Any], module: Module) -> None:
        """A function was called of which only the name is known."""
        raise NotImplementedError

    def bind(self, target: ast.expr, value: Any, scope: Scope) -> None:
        """Assign."""
        raise NotImplementedError

    # names

    def lookup(self, name: str, scope: Scope, line: int) -> Any:
        """The value of a name. Raises Raised where it certainly has none."""
        where: Scope | None = scope
        first = True
        while where is not None:
            if where.kind != "module" and (first or where.kind != "class"):
                if name in where.names:
                    return where.names[name]
                if where.kind == "function" and name in where.hidden:
                    break
            first = False
            where = where.outer
        module = scope.module
        if module.followed:
            if name in module.names:
                return module.names[name]
        else:
            value = self.member(module, name)
            if value is not ABSENT:
                return value
        if hasattr(builtins, name) and name not in _OWN_NAMES:
            return _BUILTINS.get(name) or Library(f"builtins.{name}")
        if name == "__name__":
            return module.name
        if name == "__file__" and module.place.kind in ("package", "module"):
            return module.place.file
        if name in _OWN_NAMES or module.open or name in module.maybe or self.unsure or not module.followed:
            return UNKNOWN
        raise Raised("NameError", f"name '{name}' is not defined", module, line, name, module.name)

    def attribute_of(self, owner: Any, name: str, scope: Scope, line: int) -> Any:
        """An attribute of a value. Raises Raised where a module certainly has none of that name."""
        if isinstance(owner, Module):
            value = self.member(owner, name)
            if value is not ABSENT:
                return value
            if self.unsure:
                return UNKNOWN
            error = f"module '{owner.name}' has no attribute '{name}'"
            raise Raised("AttributeError", error, scope.module, line, name, owner.name)
        if isinstance(owner, Library):
            return library.constant(f"{owner.path}.{name}", self.around)
        if isinstance(owner, Class):
            return owner.names.get(name, UNKNOWN)
        if isinstance(owner, (Function, Method)):
            return UNKNOWN
        if isinstance(owner, Unknown):
            return Unknown(f"{owner.path}.{name}") if owner.path else UNKNOWN
        return library.attribute(owner, name)

    # expressions

    def value(self, node: ast.expr | None, scope: Scope) -> Any:
        """What an expression comes to."""
        if node is None:
            return None
        method = _METHODS.get(type(node))
        if method is None:
            return UNKNOWN
        return method(self, node, scope)

    def _constant(self, node: ast.Constant, _scope: Scope) -> Any:
        return node.value if not isinstance(node.value, (complex, type(...))) else UNKNOWN

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        return self.lookup(node.id, scope, node.lineno)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        return self.attribute_of(self.value(node.value, scope), node.attr, scope, node.lineno)

    def _list(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Any:
        values: list[Any] = []
        for each in node.elts:
            if isinstance(each, ast.Starred):
                more = self.value(each.value, scope)
                if not isinstance(more, (list, tuple, set)):
                    return UNKNOWN
                values.extend(more)
            else:
                values.append(self.value(each, scope))
        if isinstance(node, ast.Set):
            return _hashable_set(values)
        return values if isinstance(node, ast.List) else tuple(values)

    def _dict(self, node: ast.Dict, scope: Scope) -> Any:
        made: dict[Any, Any] = {}
        whole = True
        for key, value in zip(node.keys, node.values):
            there = self.value(value, scope)
            if key is None:
                if isinstance(there, dict):
                    made.update(there)
                else:
                    whole = False
                continue
            name = self.value(key, scope)
            if isinstance(name, (str, int, float, bool, type(None))):
                made[name] = there
            else:
                whole = False
        return made if whole else UNKNOWN

    def _joined(self, node: ast.JoinedStr, scope: Scope) -> Any:
        parts: list[Any] = []
        for each in node.values:
            if isinstance(each, ast.FormattedValue):
                value = self.value(each.value, scope)
                parts.append(UNKNOWN if each.format_spec or each.conversion != -1 else value)
            else:
                parts.append(self.value(each, scope))
        return library.join(parts)

    def _boolean(self, node: ast.BoolOp, scope: Scope) -> Any:
        decisive = isinstance(node.op, ast.Or)
        open_, value = False, None
        for each in node.values:
            value = self.unsurely(each, scope) if open_ else self.value(each, scope)
            if truth(value) is decisive:
                return value if not open_ else (decisive if isinstance(value, bool) else UNKNOWN)
            open_ = open_ or truth(value) is None
        return UNKNOWN if open_ else value

    def _unary(self, node: ast.UnaryOp, scope: Scope) -> Any:
        value = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            true = truth(value)
            return UNKNOWN if true is None else not true
        if isinstance(node.op, ast.USub) and isinstance(value, (int, float)):
            return -value
        return UNKNOWN

    def _binary(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        return library.operate(type(node.op).__name__, left, right)

    def _compare(self, node: ast.Compare, scope: Scope) -> Any:
        left = self.value(node.left, scope)
        result: Any = True
        for operator, right_node in zip(node.ops, node.comparators):
            right = self.value(right_node, scope)
            value = self._compared(_OPERATORS[type(operator)], left, right)
            if value is False:
                return False
            if value is not True:
                result = UNKNOWN
            left = right
        return result

    def _compared(self, operator: str, left: Any, right: Any) -> Any:
        if isinstance(right, Library) and right.path == "os.environ" and isinstance(left, str):
            return (left in self.around.environ) is (operator == "in")
        return library.compare(operator, left, right)

    def _if(self, node: ast.IfExp, scope: Scope) -> Any:
        test = truth(self.value(node.test, scope))
        if test is None:
            one, other = self.unsurely(node.body, scope), self.unsurely(node.orelse, scope)
            return one if one is other else UNKNOWN
        return self.value(node.body if test else node.orelse, scope)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        owner = self._globals(node.value, scope)
        index = self.value(node.slice, scope)
        if isinstance(owner, Library):
            if owner.path == "sys.modules" and isinstance(index, str):
                return scope.module if index == scope.module.name else UNKNOWN
            if owner.path == "os.environ" and isinstance(index, str) and index in self.around.environ:
                return self.around.environ[index]
            return UNKNOWN
        if isinstance(owner, (list, tuple, str, dict)) and isinstance(index, (int, str, slice)):
            try:
                return owner[index]  # type: ignore[index]
            except (LookupError, TypeError):
                return UNKNOWN
        return UNKNOWN

    def _globals(self, node: ast.expr, scope: Scope) -> Any:
        """The value of what a subscript is of: to read `globals()["x"]` opens nothing."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("globals", "vars"):
            return UNKNOWN
        return self.value(node, scope)

    def _slice(self, node: ast.Slice, scope: Scope) -> Any:
        bounds = [self.value(each, scope) for each in (node.lower, node.upper, node.step)]
        return slice(*bounds) if all(each is None or isinstance(each, int) for each in bounds) else UNKNOWN

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Any:
        for each in (*node.args.defaults, *node.args.kw_defaults):
            self.value(each, scope)
        return Function(node, scope.module, scope)

    def _walrus(self, node: ast.NamedExpr, scope: Scope) -> Any:
        value = self.value(node.value, scope)
        self.bind(node.target, value, scope)
        return value

    def _comprehension(self, node: Any, scope: Scope) -> Any:
        first = self.value(node.generators[0].iter, scope)
        values = turns(first)
        if len(node.generators) > 1 or values is None:
            return UNKNOWN
        inner = Scope("function", scope.module, {}, scope)
        made: list[Any] = []
        for each in values:
            self.bind(node.generators[0].target, each, inner)
            tests = [truth(self.value(test, inner)) for test in node.generators[0].ifs]
            if None in tests:
                return UNKNOWN
            if all(tests):
                if isinstance(node, ast.DictComp):
                    made.append((self.value(node.key, inner), self.value(node.value, inner)))
                else:
                    made.append(self.value(node.elt, inner))
        if isinstance(node, ast.SetComp):
            return _hashable_set(made)
        if isinstance(node, ast.DictComp):
            return dict(made) if all(isinstance(key, (str, int)) for key, _ in made) else UNKNOWN
        return made

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.value(node.func, scope)
        arguments: list[Any] = []
        whole = True
        for each in node.args:
            if isinstance(each, ast.Starred):
                more = self.value(each.value, scope)
                if isinstance(more, (list, tuple)):
                    arguments.extend(more)
                else:
                    whole = False
            else:
                arguments.append(self.value(each, scope))
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, scope)
            if keyword.arg is None:
                if isinstance(value, dict) and all(isinstance(key, str) for key in value):
                    keywords.update(value)
                else:
                    whole = False
            else:
                keywords[keyword.arg] = value
        if not whole:
            self.doubts += 1
            return UNKNOWN
        return self.apply(function, arguments, keywords, scope, node)

    def apply(self, function: Any, arguments: list[Any], keywords: dict[str, Any], scope: Scope, node: ast.Call) -> Any:
        """Call a value."""
        if isinstance(function, Function):
            return self.run_function(function, arguments, keywords)
        if isinstance(function, Library):
            return self.library_call(function.path, arguments, keywords, scope, node.lineno)
        if isinstance(function, Method):
            if function.name == "glob" and len(arguments) == 1 and isinstance(function.owner, PurePath):
                return self.glob(function.owner, arguments[0])
            if self.unsure and function.name in library.MUTATING:
                self.forget(node.func, scope)
                return UNKNOWN
            return library.method(function.owner, function.name, arguments, keywords)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.endswith("LazyModule") and len(arguments) > 2 and isinstance(arguments[2], dict):
            return LazyNames(arguments[2])
        self.doubts += name not in _LOGS
        if isinstance(function, Unknown) and function.path:
            self.called(function.path, arguments, scope.module)
        return UNKNOWN

    def forget(self, node: ast.expr, scope: Scope) -> None:
        """What a name holds may have been changed: it is not known any more."""
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        if isinstance(node, ast.Name):
            for names in (scope.names, scope.module.names):
                if node.id in names and not isinstance(names[node.id], (Module, Function, Class)):
                    names[node.id] = UNKNOWN

    def unsurely(self, node: ast.expr, scope: Scope) -> Any:
        """The value of an expression of which it is not known whether it is looked at."""
        unsure = self.unsure
        self.unsure += 1
        try:
            return self.value(node, scope)
        except Raised:
            return UNKNOWN
        finally:
            self.unsure = unsure

    def _awaited(self, node: Any, scope: Scope) -> Any:
        if node.value is not None:
            self.value(node.value, scope)
        return UNKNOWN


def _hashable_set(values: list[Any]) -> Any:
    try:
        return set(values)
    except TypeError:
        return UNKNOWN


def turns(value: Any) -> list[Any] | None:
    """What a loop goes over, None where that is not known or too much."""
    if isinstance(value, (list, tuple, set, frozenset, dict, str)) and len(value) <= _MOST_TURNS:
        return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else list(value)
    return None


_LOGS = {"debug", "info", "warning", "warning_once", "warn", "error", "exception", "log"}  # raise nothing
_BUILTINS: dict[str, Any] = {"Ellipsis": SOMETHING, "NotImplemented": SOMETHING}

_METHODS: dict[type[ast.AST], Any] = {
    ast.Constant: Expressions._constant,
    ast.Name: Expressions._name,
    ast.Attribute: Expressions._attribute,
    ast.List: Expressions._list,
    ast.Tuple: Expressions._list,
    ast.Set: Expressions._list,
    ast.Dict: Expressions._dict,
    ast.JoinedStr: Expressions._joined,
    ast.BoolOp: Expressions._boolean,
    ast.UnaryOp: Expressions._unary,
    ast.BinOp: Expressions._binary,
    ast.Compare: Expressions._compare,
    ast.IfExp: Expressions._if,
    ast.Subscript: Expressions._subscript,
    ast.Slice: Expressions._slice,
    ast.Lambda: Expressions._lambda,
    ast.NamedExpr: Expressions._walrus,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
    ast.DictComp: Expressions._comprehension,
    ast.Call: Expressions._call,
    ast.Await: Expressions._awaited,
    ast.Yield: Expressions._awaited,
    ast.YieldFrom: Expressions._awaited,
    ast.Starred: Expressions._awaited,
}
