"""Reads a host's source as its interpreter would run it, with the environment left open.

Expressions become values (`values.py`), conditions become formulas over tests of the environment (`formula.py`).
Functions of the package are followed: `is_torchao_available()` becomes the tests that its body makes, with the
minimum version that stands in a constant or in a default argument. Nothing is run.
"""

from __future__ import annotations

import ast

from envguard.audit.formula import both, choose, denied, either, tests
from envguard.audit.gate import Test
from envguard.audit.values import (
    MISSING,
    Capability,
    Deferred,
    Function,
    Lookup,
    Opaque,
    Owner,
    Place,
    Scope,
    Table,
    Truth,
    Variable,
    VersionOf,
    available,
    facts_of,
    merged,
    truth,
)
from envguard.errors import BadInput
from envguard.frozen import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envguard.audit.formula import Formula
    from envguard.audit.package import Module, Package
    from envguard.audit.values import Value

_MOST_STEPS = 3_000_000  # a release takes a tenth of that
_DEEPEST_CALLS = 8
_LONGEST_FOLLOWED = 80  # lines; what answers yes or no is shorter
_PLAIN = (str, int, bool, type(None))
_FOLLOWED = ("utils/", "quantizers/", "integrations/", "dependency_versions")
_COMPARED = {
    ast.GtE: (">=", True),
    ast.Lt: (">=", False),
    ast.Gt: (">", True),
    ast.LtE: (">", False),
    ast.Eq: ("==", True),
    ast.NotEq: ("==", False),
}
_SIGNS = {">=": (">=", True), "<": (">=", False), ">": (">", True), "<=": (">", False), "==": ("==", True)}
_MIRRORED = {ast.GtE: ast.LtE, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.Lt: ast.Gt}
# Methods of objects that cannot be followed, and the distribution whose version they give.
_VERSION_METHODS = {"_get_ao_version": "torchao"}
_CHANGING = ("add", "append", "update", "extend", "insert", "remove", "discard", "pop", "clear")


class Reader:
    """Reads expressions and functions of one release. `distribution_of` maps import names to distributions."""

    def __init__(self, package: Package, distribution_of: Callable[[str], str]) -> None:
        self.package = package
        self.distribution_of = distribution_of
        self.seen: Callable[[ast.Attribute, Place], None] | None = None
        """Called for every read of an attribute of a module outside, while a walk wants to know."""
        self.asked: Callable[[str], None] | None = None
        """Called for every distribution whose metadata are asked for by name, likewise."""
        self.scopes: dict[str, Scope] = {}
        self.make_scope: Callable[[Module], Scope] = Scope
        self._called: list[str] = []
        self._known: dict[tuple[object, ...], Value] = {}
        self._steps = 0

    def scope_of(self, file: str) -> Scope | None:
        """The names of a module after its import; None where the release has no such file."""
        if file not in self.scopes:
            module = self.package.module(file)
            if module is None:
                return None
            held = self.seen, self.asked, self._called
            self.seen, self.asked, self._called = None, None, []
            try:
                self.make_scope(module)
            finally:
                self.seen, self.asked, self._called = held
        return self.scopes[file]

    def resolve(self, value: Value) -> Value:
        """What a name of another module means."""
        for _ in range(8):
            if not isinstance(value, Deferred):
                break
            if not value.name or not value.file.startswith(_FOLLOWED):
                return Opaque(value.name)
            scope = self.scope_of(value.file)
            found = scope.find(value.name) if scope else MISSING
            value = Opaque(value.name) if found is MISSING else found
        return value

    def condition(self, node: ast.expr, scope: Scope) -> Formula:
        """The condition that an expression is."""
        return truth(self.value(node, scope), scope.module.source(node))

    def value(self, node: ast.AST, scope: Scope) -> Value:
        """What an expression means. Raises BadInput where there is more of it than any release has."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise BadInput(f"{self.package.release.place}: {scope.module.file}: more to read than any release has")
        reading = getattr(self, f"_{type(node).__name__.lower()}", None)
        return reading(node, scope) if reading else self._unknown(node, scope)

    def _unknown(self, node: ast.AST, scope: Scope) -> Value:
        inner = [self.value(child, scope) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        return Opaque(scope.module.source(node), facts_of(*inner))

    # The forms of an expression; each method is named as its node

    def _constant(self, node: ast.Constant, _: Scope) -> Value:
        return node.value

    def _name(self, node: ast.Name, scope: Scope) -> Value:
        found = self.resolve(scope.find(node.id))
        return Opaque(node.id) if found is MISSING else found

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        base = self._base(node.value, scope)
        if isinstance(base, Place):
            place = Place(f"{base.path}.{node.attr}")
            if self.seen is not None:
                self.seen(node, place)
            return place
        if isinstance(base, VersionOf) and node.attr == "base_version":
            return VersionOf(base.distribution, base=True)
        if isinstance(base, Owner) and node.attr in base.names:
            found = base.names[node.attr]
            if isinstance(found, Function) and any(
                scope.module.source(one) == "property" for one in found.node.decorator_list
            ):
                return self.call(found, [], {}, node, scope)
            return found
        return Opaque(scope.module.source(node), facts_of(base))

    def _base(self, node: ast.expr, scope: Scope) -> Value:
        """The value of what a dot stands behind, without telling about `torch.cuda` in `torch.cuda.is_available`."""
        if isinstance(node, ast.Name) and node.id in ("self", "cls") and scope.owner is not None:
            return scope.owner
        if not isinstance(node, ast.Attribute):
            return self.value(node, scope)
        held, self.seen = self.seen, None
        try:
            return self.value(node, scope)
        finally:
            self.seen = held

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Value:
        base, index = self.value(node.value, scope), self.value(node.slice, scope)
        if isinstance(base, Lookup) and index in (0, 1):
            return VersionOf(base.distribution) if index else Truth(available(base.distribution))
        if base == Capability() and index in (0, 1):
            return Capability("minor" if index else "major")
        if base == Place("os.environ") and isinstance(index, str):
            return Variable(index)
        if type(base) is tuple and type(index) is int and -len(base) <= index < len(base):
            return base[index]
        return Opaque(scope.module.source(node), facts_of(base))

    def _tuple(self, node: ast.Tuple | ast.List | ast.Set, scope: Scope) -> Value:
        parts = tuple(self.value(part, scope) for part in node.elts)
        return Capability() if parts == (Capability("major"), Capability("minor")) else parts

    _list = _tuple
    _set = _tuple

    def _dict(self, node: ast.Dict, scope: Scope) -> Value:
        keys: list[str] = []
        for key, held in zip(node.keys, node.values):
            value = self.value(held, scope)
            if key is None:
                keys += value.keys if isinstance(value, Table) else [f"**{scope.module.source(held)}"]
                continue
            named = self.value(key, scope)
            keys.append(named if isinstance(named, str) else scope.module.source(key))
        return Table(tuple(keys))

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Value:
        return Opaque(self.words(node, scope))

    def _unaryop(self, node: ast.UnaryOp, scope: Scope) -> Value:
        value = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return Truth(denied(truth(value, scope.module.source(node.operand))))
        return Opaque(scope.module.source(node), facts_of(value))

    def _boolop(self, node: ast.BoolOp, scope: Scope) -> Value:
        parts: list[Formula] = []
        held = self.asked
        for part in node.values:
            if held is not None:
                # `is_peft_available() and version("peft")`: what is asked second is there
                there = {test.subject for one in parts for test in tests(one) if test.kind == "available"}
                self.asked = lambda name, there=there: None if name in there else held(name)
            parts.append(self.condition(part, scope))
        self.asked = held
        return Truth(both(*parts) if isinstance(node.op, ast.And) else either(*parts))

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> Value:
        condition = self.condition(node.test, scope)
        if isinstance(condition, bool):
            return self.value(node.body if condition else node.orelse, scope)
        text = scope.module.source(node)
        return merged(text, condition, self.value(node.body, scope), self.value(node.orelse, scope))

    def _namedexpr(self, node: ast.NamedExpr, scope: Scope) -> Value:
        value = self.value(node.value, scope)
        scope.names[node.target.id] = value
        return value

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        return Opaque(scope.module.source(node))

    def _compare(self, node: ast.Compare, scope: Scope) -> Value:
        left = self.value(node.left, scope)
        parts = []
        for operator, other in zip(node.ops, node.comparators):
            right = self.value(other, scope)
            parts.append(self._compared(node, scope, left, operator, right))
            left = right
        return Truth(both(*parts))

    def _compared(self, node: ast.Compare, scope: Scope, left: Value, operator: ast.cmpop, right: Value) -> Formula:
        kind = type(operator)
        if isinstance(right, (VersionOf, Capability)) and kind in (*_MIRRORED, ast.Eq, ast.NotEq):
            left, right, kind = right, left, _MIRRORED.get(kind, kind)
        if left == Place("sys.version_info") and kind in _COMPARED and type(right) is tuple and type(right[0]) is int:
            sign, holds = _COMPARED[kind]
            newest = (3, 99)
            return {">=": newest >= right, ">": newest > right, "==": newest == right}[sign] is holds
        if isinstance(left, VersionOf) and right == "N/A" and kind in (ast.Eq, ast.NotEq):
            return replace(available(left.distribution), holds=kind is ast.NotEq)
        if kind in _COMPARED and isinstance(left, VersionOf) and isinstance(right, str):
            return self.version(left, *_COMPARED[kind], right)
        if kind in _COMPARED and isinstance(left, Capability) and (bound := _bound(right)):
            sign, holds = _COMPARED[kind]
            return Test("capability", left.part, sign, bound, holds)
        if kind in (ast.Is, ast.IsNot) and right is None:
            there: Formula | None = None
            if isinstance(left, (Lookup, VersionOf, Variable)):
                there = truth(left)
            elif isinstance(left, (Place, Function, Table, Capability, str, int)) or type(left) is tuple:
                there = True
            elif left is None:
                there = False
            if there is not None:
                return there if kind is ast.IsNot else denied(there)
        if kind in (ast.In, ast.NotIn, ast.Eq, ast.NotEq, ast.Is, ast.IsNot):
            known = self._decided(node, scope, left, right, contained=kind in (ast.In, ast.NotIn))
            if known is not None:
                return denied(known) if kind in (ast.NotIn, ast.NotEq, ast.IsNot) else known
        return truth(Opaque(scope.module.source(node), facts_of(left, right)))

    def _decided(self, node: ast.Compare, scope: Scope, left: Value, right: Value, contained: bool) -> Formula | None:
        """`in` and `==` between a constant and another one, a variable, or something that the caller chooses."""
        choices = right.keys if isinstance(right, Table) else right
        if contained and type(choices) is tuple:
            if not choices or not all(isinstance(choice, (str, int, type(None))) for choice in choices):
                return None
            if isinstance(left, (str, int)) and not isinstance(right, Table):
                return left in choices
            if isinstance(left, Variable):
                return Test("variable", left.name, "in", _either(choices))
            if isinstance(left, Opaque) and not left.facts:
                return Test("choice", scope.module.source(node.left), "in", _either(choices))
            return None
        if contained:
            return None
        if isinstance(left, Variable) and isinstance(right, str):
            return Test("variable", left.name, "in", right)
        if isinstance(left, (str, int, type(None))) and isinstance(right, (str, int, type(None))):
            return left == right
        if isinstance(left, Truth) and isinstance(right, bool):
            return left.formula if right else denied(left.formula)
        return None

    def version(self, of: VersionOf, sign: str, holds: bool, bound: str) -> Formula:
        """A comparison of a distribution's version."""
        return Test("version", of.distribution, sign, f"{bound} (base version)" if of.base else bound, holds)

    # Calls

    def _call(self, node: ast.Call, scope: Scope) -> Value:
        args = [self.value(arg, scope) for arg in node.args]
        named = {word.arg: self.value(word.value, scope) for word in node.keywords if word.arg}
        if isinstance(node.func, ast.Attribute):
            base = self._base(node.func.value, scope)
            if isinstance(base, Variable) and node.func.attr in ("lower", "upper", "strip"):
                return base
            if isinstance(base, Table) and node.func.attr == "keys":
                return base
            if type(base) is tuple and node.func.attr == "union" and all(type(arg) is tuple for arg in args):
                return sum(args, base)
        called = self.value(node.func, scope)
        if isinstance(called, Opaque) and isinstance(node.func, ast.Attribute) and node.func.attr in _VERSION_METHODS:
            return VersionOf(_VERSION_METHODS[node.func.attr])
        if isinstance(called, Place):
            return self._outside(called.path, args, node, scope)
        if isinstance(called, Function):
            return self._inside(called, args, named, node, scope)
        return self._builtin(called, node, args, named, scope)

    def _outside(self, path: str, args: list[Value], node: ast.Call, scope: Scope) -> Value:
        last = path.rpartition(".")[2]
        first = args[0] if args else None
        if last == "find_spec" and isinstance(first, str):
            return Lookup(self.distribution_of(first))
        if path.endswith(("importlib.metadata.version", "importlib_metadata.version")):
            if not isinstance(first, str):
                return Opaque(scope.module.source(node))
            if self.asked is not None:
                self.asked(self.distribution_of(first))
            return VersionOf(self.distribution_of(first))
        if path.startswith("packaging.") and last in ("parse", "Version"):
            return first
        if path in ("os.getenv", "os.environ.get") and isinstance(first, str):
            return Variable(first)
        if path.startswith("torch.") and last == "is_available":
            return Truth(Test("device", path.split(".")[-2]))
        if path == "torch.cuda.get_device_capability":
            return Capability()
        facts = facts_of(*args)
        if path.startswith(("torch.cuda.", "torch.xpu.", "torch.mps.", "torch.accelerator.")):
            facts = (*facts, ("device", path.split(".")[1]))
        return Opaque(scope.module.source(node), facts)

    def _inside(
        self, called: Function, args: list[Value], named: dict[str, Value], node: ast.Call, scope: Scope
    ) -> Value:
        name = called.node.name
        first = args[0] if args else None
        if name == "_is_package_available" and isinstance(first, str):
            return Lookup(self.distribution_of(first))
        if name == "compare_versions" and len(args) == 3:
            of = VersionOf(self.distribution_of(first)) if isinstance(first, str) else first
            if isinstance(of, VersionOf) and args[1] in _SIGNS and isinstance(args[2], str):
                return Truth(self.version(of, *_SIGNS[args[1]], args[2]))
        return self.call(called, args, named, node, scope)

    def call(self, called: Function, args: list[Value], named: dict[str, Value], node: ast.AST, scope: Scope) -> Value:
        """What a function of the package gives for some arguments."""
        text = scope.module.source(node)
        key = f"{called.module.file}:{called.node.name}"
        lines = (called.node.end_lineno or 0) - called.node.lineno
        if len(self._called) >= _DEEPEST_CALLS or key in self._called or lines > _LONGEST_FOLLOWED:
            return Opaque(text)
        plain = called.owner is None and all(type(each) in _PLAIN for each in (*args, *named.values()))
        asked = (key, tuple(args), tuple(sorted(named.items()))) if plain else None
        if asked is not None and asked in self._known:
            return self._known[asked]
        self._called.append(key)
        held = self.seen, self.asked
        self.seen = self.asked = None
        try:
            given = self._result(called.node.body, self.bind(called, args, named), True)
        finally:
            self._called.pop()
            self.seen, self.asked = held
        if isinstance(given, Opaque):
            given = None if given is MISSING else Opaque(text, given.facts)
        elif isinstance(given, Truth) and sum(1 for _ in tests(given.formula)) > 24:
            given = Opaque(text, facts_of(given))
        if asked is not None:
            self._known[asked] = given
        return given

    def bind(self, called: Function, args: Sequence[Value], named: dict[str, Value]) -> Scope:
        """The scope of a call: its parameters with what is given for them, or with their defaults."""
        scope = Scope(called.module, called.scope, called.owner)
        takes = called.node.args
        names = [arg.arg for arg in (*takes.posonlyargs, *takes.args)]
        for name, default in zip(reversed(names), reversed(takes.defaults)):
            scope.names[name] = self.value(default, called.scope)
        for arg, given in zip(takes.kwonlyargs, takes.kw_defaults):
            if given is not None:
                scope.names[arg.arg] = self.value(given, called.scope)
        if names[:1] in (["self"], ["cls"]):
            names = names[1:]
        scope.names.update(zip(names, args))
        scope.names.update({name: value for name, value in named.items() if name in names or name in scope.names})
        for several in (takes.vararg, takes.kwarg):
            if several is not None:
                scope.names[several.arg] = Opaque(several.arg)
        return scope

    def _result(self, body: Sequence[ast.stmt], scope: Scope, reached: Formula) -> Value:
        """What a body returns; MISSING where it falls off its end."""
        for place, node in enumerate(body):
            match node:
                case ast.Return():
                    return None if node.value is None else self.value(node.value, scope)
                case ast.Raise():
                    return False  # whoever asks gets no answer
                case ast.If():
                    condition = self.condition(node.test, scope)
                    if isinstance(condition, bool):
                        return self._result(
                            [*(node.body if condition else node.orelse), *body[place + 1 :]], scope, reached
                        )
                    if _returns(node):
                        rest = body[place + 1 :]
                        one, two = scope.copy(), scope
                        yes = self._result([*node.body, *rest], one, both(reached, condition))
                        no = self._result([*node.orelse, *rest], two, both(reached, denied(condition)))
                        if _is_truth(yes) and _is_truth(no):
                            return Truth(choose(condition, truth(yes), truth(no)))
                        return merged("", condition, yes, no)
                    one, two = scope.copy(), scope.copy()
                    self._result(node.body, one, both(reached, condition))
                    self._result(node.orelse, two, both(reached, denied(condition)))
                    join(scope, condition, one, two)
                case ast.Try():
                    return self._result([*node.body, *node.orelse, *node.finalbody, *body[place + 1 :]], scope, reached)
                case ast.With():
                    return self._result([*node.body, *body[place + 1 :]], scope, reached)
                case ast.For() | ast.While():
                    if _returns(node):
                        return Opaque("", facts_of(Truth(reached)))
                    self.assign(node.target if isinstance(node, ast.For) else None, Opaque(""), scope)
                    self._result(node.body, scope, reached)
                case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=change), args=given)) if (
                    change in _CHANGING
                ):
                    if name in scope.names:
                        facts = facts_of(scope.names[name], Truth(reached), *[self.value(arg, scope) for arg in given])
                        scope.names[name] = Opaque(name, facts)
                case _:
                    self.bind_statement(node, scope)
        return MISSING

    def _builtin(
        self, called: Value, node: ast.Call, args: list[Value], named: dict[str, Value], scope: Scope
    ) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        first = args[0] if args else None
        if name == "bool" and args:
            return Truth(truth(first))
        if (
            name in ("list", "set", "tuple", "frozenset", "sorted")
            and isinstance(first, (Table, tuple))
            and type(first) in (Table, tuple)
        ):
            return first
        if name in ("hasattr", "getattr") and isinstance(first, Place) and len(args) > 1 and isinstance(args[1], str):
            path = f"{first.path}.{args[1]}"
            test = Test("symbol", self.distribution_of(first.path), "", path)
            return Truth(test) if name == "hasattr" else Opaque(scope.module.source(node), (("symbol", path),))
        return Opaque(scope.module.source(node), facts_of(called, *args, *named.values()))

    # Statements that bind names

    def bind_statement(self, node: ast.stmt, scope: Scope) -> None:
        """Bind what a statement without branches binds."""
        match node:
            case ast.Import():
                for alias in node.names:
                    whole = alias.name if alias.asname else alias.name.partition(".")[0]
                    scope.names[alias.asname or whole] = Place(whole)
            case ast.ImportFrom():
                for alias in node.names:
                    scope.names[alias.asname or alias.name] = self._imported(node, alias.name, scope.module)
            case ast.Assign():
                value = self.value(node.value, scope)
                for target in node.targets:
                    self.assign(target, value, scope)
            case ast.AnnAssign():
                if node.value is not None:
                    self.assign(node.target, self.value(node.value, scope), scope)
            case ast.AugAssign():
                facts = facts_of(self.value(node.target, scope), self.value(node.value, scope))
                self.assign(node.target, Opaque(scope.module.source(node.target), facts), scope)
            case ast.FunctionDef():
                for default in (*node.args.defaults, *node.args.kw_defaults, *node.decorator_list):
                    if default is not None:
                        self.value(default, scope)
                scope.names[node.name] = Function(scope.module, node, scope, scope.owner)
            case ast.Expr():
                self.value(node.value, scope)

    def _imported(self, node: ast.ImportFrom, name: str, module: Module) -> Value:
        if node.level or (node.module or "").partition(".")[0] == self.package.release.host:
            origin = self.package.origin(module, node, name)
            return Opaque(name) if origin is None else Deferred(*origin)
        return Place(f"{node.module}.{name}")

    def assign(self, target: ast.expr | None, value: Value, scope: Scope) -> None:
        """Bind a target; of a tuple each part with its own."""
        match target:
            case ast.Name():
                scope.names[target.id] = value
            case ast.Tuple() | ast.List():
                for place, part in enumerate(target.elts):
                    self.assign(part, _part(value, place, len(target.elts), scope.module.source(part)), scope)

    def words(self, node: ast.AST | None, scope: Scope) -> str:
        """The text of a message, with the constants in it filled in."""
        match node:
            case ast.Constant():
                return str(node.value)
            case ast.JoinedStr():
                return "".join([self.words(part, scope) for part in node.values])
            case ast.FormattedValue():
                value = self.value(node.value, scope)
                return value if isinstance(value, str) else f"{{{scope.module.source(node.value)}}}"
            case ast.BinOp():
                return self.words(node.left, scope) + self.words(node.right, scope)
            case ast.Name() | ast.Attribute():
                value = self.value(node, scope)
                return value if isinstance(value, str) else value.text if isinstance(value, Opaque) else ""
        return ""


def join(scope: Scope, condition: Formula, one: Scope, two: Scope) -> None:
    """Names after two branches."""
    for name in {*one.names, *two.names}:
        yes, no = one.names.get(name, MISSING), two.names.get(name, MISSING)
        scope.names[name] = merged(name, condition, yes, no)


def _part(value: Value, place: int, count: int, text: str) -> Value:
    if isinstance(value, Lookup) and count == 2:
        return VersionOf(value.distribution) if place else Truth(available(value.distribution))
    if value == Capability() and count == 2:
        return Capability("minor" if place else "major")
    if type(value) is tuple and len(value) == count:
        return value[place]
    return Opaque(text, facts_of(value))


def _bound(value: Value) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is tuple and value and all(type(part) is int for part in value):
        return ".".join(map(str, value))
    return ""


def _either(choices: tuple[object, ...]) -> str:
    return ", ".join(sorted(map(str, choices)))


def _is_truth(value: Value) -> bool:
    return isinstance(value, (bool, Truth, Lookup, type(None))) and value is not MISSING


def _returns(node: ast.AST) -> bool:
    inner = list(ast.iter_child_nodes(node))
    while inner:
        each = inner.pop()
        if isinstance(each, (ast.Return, ast.Raise)):
            return True
        if not isinstance(each, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            inner += ast.iter_child_nodes(each)
    return False
