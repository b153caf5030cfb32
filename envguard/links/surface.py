"""Which names a module has that is not gone through: everything that any of its statements may bind counts.

What a module does to its own names as it runs (`globals()`, `exec`, `__getattr__`) cannot be told, nor what a compiled
one holds. torch's own compiled names can: its stubs list them and its library spells them out.
"""

from __future__ import annotations

import ast
import re
import warnings

from envguard.links.outline import outline, whole_function
from envguard.links.values import (
    ABSENT,
    ALWAYS,
    SOMETHING,
    UNKNOWN,
    Absent,
    Function,
    Library,
    Module,
    Raised,
    Scope,
    Unknown,
    VersionText,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from envguard.links.interpreter import Interpreter

_LONG = 60_000  # characters from which on a module is searched before it is parsed
_LONGEST = 3_000_000
_DYNAMIC = ("globals()", "sys.modules[__name__]", "vars()", "locals()", "\ndef __getattr__", "lazy_loader",
            "__dict__.update", "\n    def __getattr__(name")  # fmt: skip
_SETS = re.compile(r"\bsetattr\((?!\s*(?:self|cls)\b)")  # it may be of a module, as in numpy.dtypes
_DYNAMIC_CALLS = {"setattr", "exec", "eval", "globals", "vars"}
# so short a text may stand in the code of a library itself, not among its texts (uint4 does)
_INLINED = 9
# device modules that other distributions add to torch when it is imported
_ADDED_TO_TORCH = {"npu", "hpu", "mlu", "musa", "xla", "gcu", "sdaa", "privateuseone", "maca", "neuron", "tpu", "dipu"}


def text(interpreter: Interpreter, module: Module) -> str:
    """The source of a module, "" where there is none."""
    if module.text is None:
        module.text = interpreter.sources.text(module.place) or ""
    return module.text


def parse(interpreter: Interpreter, module: Module) -> ast.Module | None:
    """The tree of a module, None where it cannot be read or is not Python of the version that runs here."""
    if module.tree is None:
        source = text(interpreter, module)
        if len(source) > _LONGEST or (not source and module.place.kind == "compiled"):
            return None
        short, module.ends = outline(source)
        module.tree = _parsed(short)
        if module.tree is None:
            module.tree, module.ends = _parsed(source), {}
    return module.tree


def _parsed(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def body_of(interpreter: Interpreter, function: Function) -> Any:
    """The node of a function with its body; None where that cannot be read."""
    node, module = function.node, function.module
    last = module.ends.get(node.lineno)
    if last is not None and not isinstance(node, ast.Lambda):
        whole = whole_function(text(interpreter, module), node.lineno, last)
        if not isinstance(whole, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return None
        whole.decorator_list = node.decorator_list
        function.node = whole
        node.body = whole.body  # for the next value of the same function
        del module.ends[node.lineno]
    return function.node


def global_names(source: str) -> set[str]:
    """The names that functions of a module declare global, so that they may be bound when these are called."""
    if "global " not in source:
        return set()
    return {
        name.strip()
        for names in re.findall(r"^[ \t]+global +([\w, ]+)", source, re.MULTILINE)
        for name in names.split(",")
    }


def bound(interpreter: Interpreter, module: Module) -> dict[str, list[Any]]:
    """The names that statements of a module may bind, each with what may bind it."""
    if module.binders is None:
        module.binders = {}
        tree = parse(interpreter, module)
        if tree is None:
            module.open = module.open or module.place.kind != "namespace"
        else:
            source = text(interpreter, module)
            module.open = module.open or any(each in source for each in _DYNAMIC) or bool(_SETS.search(source))
            everywhere = ":=" in source or any(f"{each}(" in source for each in _DYNAMIC_CALLS)
            for name in global_names(source):
                module.binders.setdefault(name, []).append(None)
            _collect(interpreter, module, tree.body, everywhere=everywhere)
    return module.binders


def member(interpreter: Interpreter, module: Module, name: str) -> Any:
    """A name of a module that is not gone through, ABSENT where it certainly has none."""
    if name in module.names:
        return module.names[name]
    if name not in module.looked_up:
        module.looked_up[name] = UNKNOWN  # for what is asked again on the way
        module.looked_up[name] = _look_up(interpreter, module, name)
    return module.looked_up[name]


def exported(interpreter: Interpreter, module: Module) -> list[str] | None:
    """The names that `from module import *` brings, None where that cannot be told."""
    binders = bound(interpreter, module)
    if "__all__" in binders:
        listed = _value(interpreter, module, "__all__", binders["__all__"])
        fine = isinstance(listed, (list, tuple)) and all(isinstance(each, str) for each in listed)
        return list(listed) if fine else None
    if module.open:
        return None
    names = [name for name in binders if not name.startswith("_")]
    for star in module.stars:
        inner = interpreter.module(star)
        more = exported(interpreter, inner) if inner is not None and inner is not module else None
        if more is None:
            return None
        names += more
    return names


class Lazily:
    """A name of a module, to be looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: Module, name: str) -> None:
        self.module = module
        self.name = name

    def of(self, interpreter: Interpreter) -> Any:
        """Its value; UNKNOWN where there is none."""
        value = member(interpreter, self.module, self.name)
        return UNKNOWN if isinstance(value, Absent) else value


def _look_up(interpreter: Interpreter, module: Module, name: str) -> Any:
    if module.name in ("torch", "torch.version", "torch.torch_version") and name == "__version__":
        version = interpreter.sources.version("torch")
        text_of = _torch_version(interpreter)
        return VersionText(text_of or version) if text_of or version else UNKNOWN
    if name in ALWAYS:
        return UNKNOWN
    path = Unknown(f"{module.name}.{name}")
    source = text(interpreter, module)
    if len(source) > _LONG and module.binders is None and _stands_in(source, name):
        return path
    binders = bound(interpreter, module)
    if name in binders:
        value = _value(interpreter, module, name, binders[name])
        return path if value is UNKNOWN else value
    for star in module.stars:
        inner = interpreter.module(star)
        if inner is None:
            return path
        listed = exported(interpreter, inner)
        if listed is None and not (inner.place.kind == "compiled" and inner.name.startswith("torch._C")):
            return path
        if listed is not None and name in listed:
            return Lazily(inner, name).of(interpreter)
    submodule = interpreter.module(f"{module.name}.{name}")
    if submodule is not None:
        return submodule
    if module.place.kind == "namespace":
        return ABSENT
    if not module.open and not any(_is_native(interpreter, star) for star in module.stars):
        return ABSENT
    if _surely_not_attached(module, source, name):
        return ABSENT
    return ABSENT if _surely_not_in_torch(interpreter, module, name) else path


def _surely_not_attached(module: Module, source: str, name: str) -> bool:
    """Whether `__getattr__` comes from `attach` (lazy_loader, or a copy) and its literal tables lack a name.

    `__getattr__, __dir__, __all__ = attach(__name__, submodules, {"submodule": ["name"]})` gives these and no others.
    """
    others = [each for each in _DYNAMIC if each not in _ATTACHING]
    if any(each in source for each in others) or _SETS.search(source):
        return False
    found = (module.binders or {}).get("__getattr__", ())
    call = found[0].value if len(found) == 1 and isinstance(found[0], ast.Assign) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, (ast.Name, ast.Attribute)):
        return False
    called = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
    if called.lstrip("_") != "attach":
        return False
    given = dict(zip(("submodules", "submod_attrs"), call.args[1:]))
    given.update({each.arg: each.value for each in call.keywords if each.arg})
    try:
        tables = [ast.literal_eval(_literal(module, source, each)) for each in given.values()]
        return not any(name == each for table in tables for each in _attached(table))
    except (ValueError, TypeError):  # not as plain as that
        return False


_ATTACHING = ("lazy_loader", "\n    def __getattr__(name")


def _literal(module: Module, source: str, node: ast.expr) -> ast.expr:
    """The value of a name that is bound once and used once; any other expression itself."""
    if not isinstance(node, ast.Name) or len(re.findall(rf"^(?!#).*\b{node.id}\b", source, re.MULTILINE)) != 2:
        return node
    found = (module.binders or {}).get(node.id, ())
    assigned = found[0] if len(found) == 1 and isinstance(found[0], (ast.Assign, ast.AnnAssign)) else None
    return assigned.value if assigned is not None and assigned.value is not None else node


def _attached(table: Any) -> Iterator[str]:
    """The names that a table of `attach` gives."""
    for entry in table or ():
        yield entry
        if isinstance(table, dict):
            yield from table[entry]


def _stands_in(source: str, name: str) -> bool:
    """Whether a long source plainly binds a name, so that it need not be parsed."""
    for begin in ("def ", "class ", "async def "):
        at = source.find(f"\n{begin}{name}")
        if at >= 0 and source[at + len(begin) + len(name) + 1] in "(: ":
            return True
    return f"\n{name} = " in source or f"\n{name}: " in source


def _is_native(interpreter: Interpreter, name: str) -> bool:
    module = interpreter.module(name)
    return module is not None and module.place.kind == "compiled"


def _torch_version(interpreter: Interpreter) -> str | None:
    module = interpreter.module("torch.version")
    if module is None:
        return None
    found = re.search(r"^__version__(?:: *str)? *= *['\"]([^'\"]+)['\"]", text(interpreter, module), re.MULTILINE)
    return found[1] if found else None


def _surely_not_in_torch(interpreter: Interpreter, module: Module, name: str) -> bool:
    """Whether a name is in none of the places from which torch and torch._C get theirs.

    These are their own source, the stubs of the compiled part and its library, in which every name of a binding stands
    as text. Without the library only public names are told.
    """
    if module.name != "torch" and not (module.place.kind == "compiled" and module.name.startswith("torch._C")):
        return False
    torch = interpreter.module("torch")
    if torch is None or name in _ADDED_TO_TORCH or not name.isidentifier() or len(name) < _INLINED:
        return False
    word = re.compile(rf"\b{re.escape(name)}\b")
    if word.search(text(interpreter, torch)):
        return False
    stubs = 0
    for file in ("_C/__init__.pyi", "_C/_VariableFunctions.pyi"):
        stub = _stub(interpreter, torch, file)
        stubs += bool(stub)
        if word.search(stub):
            return False
    if stubs < 2:
        return False
    for file in ("lib/libtorch_python.so", "lib/libtorch_python.dylib", "lib/torch_python.dll"):
        found = interpreter.sources.beside(torch.place, file)
        if found is not None:
            return found[0].holds(found[1], name.encode()) is False
    return not name.startswith("_")


def _stub(interpreter: Interpreter, torch: Module, file: str) -> str:
    known = interpreter.stubs.get(file)
    if known is None:
        found = interpreter.sources.beside(torch.place, file)
        data = found[0].read(found[1], _LONGEST) if found is not None else None
        known = interpreter.stubs[file] = data.decode("utf-8", "replace") if data else ""
    return known


def _collect(interpreter: Interpreter, module: Module, body: Iterable[ast.stmt], *, everywhere: bool) -> None:
    """Note what statements bind, and those below them, whichever branch is taken.

    `everywhere`: expressions are looked into too, because some of them bind names or do what cannot be told.
    """
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            _note(module, node.name, node)
            if node.name == "__getattr__":
                module.open = True
        elif isinstance(node, ast.Import):
            for alias in node.names:
                _note(module, alias.asname or alias.name.partition(".")[0], (node, alias))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    module.stars.append(module.absolute(node))
                else:
                    _note(module, alias.asname or alias.name, (node, alias))
        elif isinstance(node, ast.If):
            decided = _guard(interpreter, module, node.test)
            if decided is not False:
                _collect(interpreter, module, node.body, everywhere=everywhere)
            if decided is not True:
                _collect(interpreter, module, node.orelse, everywhere=everywhere)
            if everywhere:
                _collect_names(module, None, node.test)
        else:
            _collect_targets(interpreter, module, node, everywhere=everywhere)


def _collect_targets(interpreter: Interpreter, module: Module, node: ast.stmt, *, everywhere: bool) -> None:
    simple = isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return
    for part, value in ast.iter_fields(node):
        nodes = value if isinstance(value, list) else [value]
        if part in ("body", "orelse", "finalbody") and isinstance(value, list):
            _collect(interpreter, module, value, everywhere=everywhere)
        elif part in ("handlers", "cases"):
            for each in nodes:
                _collect(interpreter, module, each.body, everywhere=everywhere)
                if getattr(each, "name", None):
                    _note(module, each.name, None)
        elif everywhere or part in ("targets", "target", "items"):
            for each in nodes:
                if isinstance(each, ast.AST):
                    _collect_names(module, node if simple else None, each)


def _collect_names(module: Module, binder: Any, tree: ast.AST) -> None:
    if isinstance(tree, ast.Name):
        if isinstance(tree.ctx, ast.Store):
            _note(module, tree.id, binder)
        return
    for each in ast.walk(tree):
        if isinstance(each, ast.Name):
            if isinstance(each.ctx, ast.Store):
                _note(module, each.id, binder)
        elif isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in _DYNAMIC_CALLS:
            module.open = True


def _note(module: Module, name: str, binder: Any) -> None:
    if module.binders is not None:
        module.binders.setdefault(name, []).append(binder)


def _guard(interpreter: Interpreter, module: Module, test: ast.expr) -> bool | None:
    """Whether a test that every Python can answer by itself holds; None for other tests."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _guard(interpreter, module, test.operand)
        return None if inner is None else not inner
    if (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    ):
        return False
    names = {each.id for each in ast.walk(test) if isinstance(each, ast.Name)}
    if not names or not names <= {"sys"}:
        return None
    scope = Scope("function", module, {"sys": Library("sys")})
    value = interpreter.unsurely(test, scope)
    return value if isinstance(value, bool) else None


def _value(interpreter: Interpreter, module: Module, name: str, binders: list[Any]) -> Any:
    """What the only thing that binds a name makes of it; UNKNOWN where several do."""
    if len(binders) != 1:
        return _same_module(interpreter, module, binders)
    binder = binders[0]
    if isinstance(binder, (ast.FunctionDef, ast.AsyncFunctionDef)):
        plain = isinstance(binder, ast.FunctionDef) and all(_is_cache(each) for each in binder.decorator_list)
        return Function(binder, module, None) if plain else SOMETHING
    if isinstance(binder, ast.ClassDef):
        return Unknown(f"{module.name}.{name}")
    scope = Scope("module", module, module.names)
    if isinstance(binder, tuple):
        return _imported(interpreter, scope, *binder)
    if isinstance(binder, ast.Assign) and len(binder.targets) == 1 and isinstance(binder.targets[0], ast.Name):
        return interpreter.unsurely(binder.value, scope)
    if isinstance(binder, ast.AnnAssign):
        return interpreter.unsurely(binder.value, scope) if binder.value is not None else UNKNOWN
    return UNKNOWN


def _same_module(interpreter: Interpreter, module: Module, binders: list[Any]) -> Any:
    """The module that each of several imports brings under one name; UNKNOWN where it is not one."""
    found: Any = UNKNOWN
    for binder in binders:
        if not isinstance(binder, tuple):
            return UNKNOWN
        each = _imported(interpreter, Scope("module", module, module.names), *binder)
        if not isinstance(each, Module) or (found is not UNKNOWN and each is not found):
            return UNKNOWN
        found = each
    return found


def _is_cache(node: ast.expr) -> bool:
    function = node.func if isinstance(node, ast.Call) else node
    return (isinstance(function, ast.Name) and function.id in ("lru_cache", "cache")) or (
        isinstance(function, ast.Attribute) and function.attr in ("lru_cache", "cache")
    )


def _imported(interpreter: Interpreter, scope: Scope, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> Any:
    interpreter.unsure += 1
    try:
        if isinstance(node, ast.Import):
            wanted = alias.name if alias.asname else alias.name.partition(".")[0]
            return interpreter.load(wanted, scope, node.lineno)
        inner = interpreter.load(scope.module.absolute(node), scope, node.lineno)
        if inner is scope.module:  # `from torch import nn` within torch
            return interpreter.module(f"{inner.name}.{alias.name}") or UNKNOWN
        return interpreter.imported(inner, alias.name, scope, node.lineno)
    except Raised:
        return UNKNOWN
    finally:
        interpreter.unsure -= 1
