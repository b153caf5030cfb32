"""Which parts of a host release hold gates, and the gates in them."""

from __future__ import annotations

import ast
import sys

from envguard.audit.formula import both, denied, either, ways
from envguard.audit.gate import STAGES, Gate, Test
from envguard.audit.package import Package, bindings
from envguard.audit.reading import Reader
from envguard.audit.values import Function, Opaque, Owner, Scope, truth
from envguard.audit.walk import Context, Walker, open_parameters
from envguard.errors import BadInput
from envguard.frozen import Frozen, replace
from envguard.versions import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from envguard.audit.formula import Formula
    from envguard.audit.package import Module
    from envguard.audit.source import Release
    from envguard.rule import Backend

LOOKUPS = "utils/import_utils.py"
MAPPING = "quantizers/auto.py"
_CONFIGS = ("utils/quantization_config.py", "quantizers/quantization_config.py", "quantizers/pipe_quant_config.py")


class Layout(Frozen):
    """Where a host keeps what."""

    imported: tuple[str, ...]
    """Modules outside `quantizers/` that are imported with any model class."""
    loaders: tuple[str, ...]
    integrations: tuple[str, ...] = ()


LAYOUTS = {
    "diffusers": Layout(
        imported=("utils/torch_utils.py", "utils/constants.py"),
        loaders=(
            "models/modeling_utils.py",
            "models/model_loading_utils.py",
            "loaders/single_file_model.py",
            "loaders/single_file_utils.py",
            "pipelines/pipeline_utils.py",
            "pipelines/pipeline_loading_utils.py",
        ),
    ),
    "transformers": Layout(
        imported=(
            "pytorch_utils.py",
            "distributed/sharding_utils.py",
            "generation/continuous_batching/distributed.py",
            "integrations/tensor_parallel.py",
        ),
        loaders=("modeling_utils.py", "modeling_gguf_pytorch_utils.py", "core_model_loading.py"),
        integrations=("bitsandbytes", "torchao", "quanto", "ggml", "gguf", "accelerate"),
    ),
}

# The hosts' names of a way to quantize, and whose schemes they are.
METHODS = {
    "bitsandbytes_4bit": ("bitsandbytes", ("nf4", "fp4")),
    "bitsandbytes_8bit": ("bitsandbytes", ("int8",)),
    "bitsandbytes": ("bitsandbytes", ()),
    "torchao": ("torchao", ()),
    "quanto": ("quanto", ()),
    "gguf": ("gguf", ()),
    "modelopt": ("modelopt", ()),
}
_WORDS = {
    "bnb_4bit": "bitsandbytes_4bit",
    "bnb_8bit": "bitsandbytes_8bit",
    "bnb4bit": "bitsandbytes_4bit",
    "bnb8bit": "bitsandbytes_8bit",
    "bnb": "bitsandbytes",
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
    "quanto": "quanto",
    "ggml": "gguf",
    "gguf": "gguf",
    "modelopt": "modelopt",
}
_INTERESTING = ("torch", "accelerate", "kernels")


def extract(release: Release, backends: Mapping[str, Backend]) -> list[Gate]:
    """Every gate of a release, in the order of stage, file and line. Raises BadInput where it cannot be read."""
    try:
        return _Extraction(release, backends).gates()
    except RecursionError:
        raise BadInput(f"{release.place}: cannot be read: its code is nested too deeply") from None


class _Extraction:
    def __init__(self, release: Release, backends: Mapping[str, Backend]) -> None:
        self.release = release
        self.backends = backends
        self.layout = LAYOUTS[release.host]
        self.package = Package(release)
        self.reader = Reader(self.package, self._distribution)
        self.reader.make_scope = self._import
        self.wanted = {*[backend.distribution for backend in backends.values()], *_INTERESTING}
        self.walker = Walker(self.reader, self._ignored(), frozenset({*self.wanted, "transformers"}))
        self.configs = self._config_classes()
        self.files = self._files()

    def gates(self) -> list[Gate]:
        for file in self.files:
            self.reader.scope_of(file)
        for file in self.files:
            self._functions(file)
        found = [*self.walker.gates.values(), *self._lookups(), *self._methods(), *self._declared(), *self._checked()]
        return sorted(
            found,
            key=lambda gate: (STAGES.index(gate.stage), gate.file, gate.line, gate.kind, gate.value, gate.subject),
        )

    def _files(self) -> list[str]:
        files = [*self.layout.imported, *self.release.list("quantizers"), *_CONFIGS]
        for name in self.layout.integrations:
            files += [f"integrations/{name}.py", *self.release.list(f"integrations/{name}")]
        files += self.layout.loaders
        return [file for file in dict.fromkeys(files) if self.release.has(file)]

    def _required(self, file: str) -> Module:
        module = self.package.module(file)
        if module is None:
            raise BadInput(
                f"{self.release.place}: {self.release.host} {self.release.version} has no {file}: no quantizers"
            )
        return module

    # Names

    def _distribution(self, name: str) -> str:
        for backend in self.backends.values():
            if name == backend.import_name or name.startswith(f"{backend.import_name}."):
                return backend.distribution
            if name == backend.import_name.partition(".")[0]:  # whoever owns `optimum` counts as optimum-quanto
                return backend.distribution
        return normalize(name.partition(".")[0])

    def _ignored(self) -> frozenset[str]:
        """Import names whose absence is no question of quantization: the standard library, what pip brings along."""
        declared = {
            "packaging",
            "huggingface_hub",
            "safetensors",
            "numpy",
            "requests",
            "regex",
            "tqdm",
            "yaml",
            "typing_extensions",
        }
        return frozenset({*sys.stdlib_module_names, *declared, "distutils"})

    def _method(self, file: str, name: str = "") -> tuple[str, tuple[str, ...]]:
        """Which way to quantize a file or a class in it belongs to, and the backends that are concerned."""
        if name in self.configs:
            return self._backends(self.configs[name])
        lowered = name.lower()
        words = [word for word in _WORDS if word in lowered]
        if words and name:
            return self._backends(_WORDS[words[0]])
        parts = file.removesuffix(".py").split("/")
        for part in reversed(parts[1:]):
            base = part.removeprefix("quantizer_")
            if base in _WORDS:
                return self._backends(_WORDS[base])
        if parts[0] == "quantizers" and (len(parts) > 2 or parts[-1].startswith("quantizer_")):
            return (parts[1] if len(parts) > 2 else parts[-1].removeprefix("quantizer_")), ()
        return "", tuple(self.backends)

    def _backends(self, method: str) -> tuple[str, tuple[str, ...]]:
        known = METHODS.get(method)
        return method, (known[0],) if known else ()

    def _config_classes(self) -> dict[str, str]:
        """Configuration and quantizer classes by name, from the two mappings: class -> way to quantize."""
        module = self._required(MAPPING)
        found: dict[str, str] = {}
        for mapping in ("AUTO_QUANTIZATION_CONFIG_MAPPING", "AUTO_QUANTIZER_MAPPING"):
            for key, value, _ in _mapping(module, mapping):
                shared = found.get(value, key) != key and key in METHODS  # one class for 4-bit and 8-bit
                found[value] = key.partition("_")[0] if shared else key
        return found

    # Bodies

    def _import(self, module: Module) -> Scope:
        scope = Scope(module)
        self.reader.scopes[module.file] = scope
        scope.names["__file__"] = scope.names["__name__"] = Opaque("")
        context = self._context(module.file, "import", "")
        if context is None:
            held, self.walker.gates = self.walker.gates, {}
            context = Context(self.release.host, "", tuple(self.backends), "lookup", module.file)
            self.walker.body(module.tree.body, scope, True, context)
            if module.file == LOOKUPS:
                held.update({key: gate for key, gate in self.walker.gates.items() if self._hides(gate, module)})
            self.walker.gates = held
        else:
            self.walker.body(module.tree.body, scope, self._reached(module), context)
        return scope

    def _reached(self, module: Module) -> Formula:
        """Where the modules beside a quantizer's import it: `if is_gguf_available(): from .utils import ...`."""
        folder, _, name = module.file.rpartition("/")
        if name == "__init__.py" or not folder.startswith("quantizers/"):
            return True
        found: list[Formula] = []
        for file in self.release.list(folder):
            beside = self.package.module(file)
            if beside is not None and beside is not module:
                scope = Scope(beside)
                for node in ast.walk(beside.tree):
                    if isinstance(node, (ast.Import, ast.ImportFrom)):
                        self.reader.bind_statement(node, scope)
                found += self._imports(module.file, beside.tree.body, scope, True)
        return either(*found) if found else True

    def _imports(self, file: str, body: Sequence[ast.stmt], scope: Scope, path: Formula) -> Iterable[Formula]:
        """The conditions under which statements of a module import another one."""
        for node in body:
            if isinstance(node, ast.ImportFrom):
                origins = [self.package.origin(scope.module, node, alias.name) for alias in node.names]
                if any(origin is not None and origin[0] == file for origin in origins):
                    yield path
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in scope.module.source(node.test):
                condition = self.reader.condition(node.test, scope)
                yield from self._imports(file, node.body, scope, both(path, condition))
                yield from self._imports(file, node.orelse, scope, both(path, denied(condition)))

    def _hides(self, gate: Gate, module: Module) -> bool:
        """Whether an environment variable decides that a distribution is looked for."""
        if gate.kind != "variable":
            return False
        around = [node for node in module.tree.body if node.lineno <= gate.line <= (node.end_lineno or node.lineno)]
        return any(self._looked_up(name) in self.wanted for node in around for name in bindings(node))

    def _context(self, file: str, stage: str, where: str) -> Context | None:
        if file == LOOKUPS or file not in self.files:
            return None
        name = where.partition(".")[0]
        method, concerned = self._method(file, name)
        if stage == "import" and (concerned or not method):
            concerned = tuple(self.backends)  # a host imports all of its quantizers with any model class
        if file in self.layout.loaders and stage == "import":
            method, concerned = "", tuple(self.backends)
        return Context(self.release.host, method, concerned, stage, where or file)

    def _functions(self, file: str) -> None:
        scope = self.reader.scope_of(file)
        if scope is None or file in self.layout.imported:
            return
        bound = list(scope.names.items())
        for name, value in bound:
            if isinstance(value, Owner):
                for inner, method in list(value.names.items()):
                    if isinstance(method, Function) and method.module.file == file:
                        self._function(method, f"{name}.{inner}", file, self._stage(file, name, inner))
        for name, value in bound:  # those that a check called were read with it
            if isinstance(value, Function) and value.module.file == file and value.node not in self.walker.followed:
                self._function(value, name, file, self._stage(file, "", name))

    def _stage(self, file: str, owner: str, name: str) -> str:
        if file in self.layout.loaders:
            return "load"
        if file in _CONFIGS:
            return "config"
        if owner and file.startswith("quantizers/"):
            return {"validate_environment": "validate", "__init__": "init", "__new__": "init"}.get(name, "use")
        return "use"

    def _function(self, function: Function, where: str, file: str, stage: str) -> None:
        context = self._context(file, stage, where)
        if context is None:
            return
        scope = self.reader.bind(function, (), {})
        for name in list(scope.names):
            scope.names[name] = Opaque(name)
        open_parameters(function.node, scope)
        before = set(self.walker.gates)
        self.walker.body(function.node.body, scope, True, context)
        if stage == "load":
            for key in set(self.walker.gates) - before:
                gate = self._of_loader(self.walker.gates[key])
                if gate is None:
                    del self.walker.gates[key]
                else:
                    self.walker.gates[key] = gate

    def _of_loader(self, gate: Gate) -> Gate | None:
        """A gate of a loader where quantized models meet it; loaders do much else."""
        if gate.kind == "available" and not gate.needed:
            return None  # the other way of a test that is told: an argument was given that wants the library
        words = " ".join([gate.where, gate.subject, gate.message, *(guard.subject for guard in gate.guards)]).lower()
        named = [
            name
            for name, backend in self.backends.items()
            if backend.distribution in (gate.subject, *(g.subject for g in gate.guards))
        ]
        named += [METHODS[method][0] for word, method in _WORDS.items() if word in gate.where.lower()]
        arguments = " ".join([guard.subject for guard in gate.guards if guard.kind == "argument" and guard.holds])
        named += [METHODS[method][0] for word, method in _WORDS.items() if f"{word}_file is not None" in arguments]
        if named:
            return replace(gate, method=named[0], backends=(named[0],))
        loads = gate.where.rpartition(".")[2] in ("from_pretrained", "from_single_file")
        if "quanti" in words or (loads and gate.subject == "accelerate"):
            return gate
        return None

    # What is not a test in the way of a statement

    def _lookups(self) -> Iterable[Gate]:
        """The code by which the release finds a distribution and compares its version, as a fingerprint."""
        module = self._required(LOOKUPS)
        functions = {node.name: node for node in module.tree.body if isinstance(node, ast.FunctionDef)}
        helpers: dict[str, ast.FunctionDef] = {}
        for node in module.tree.body:
            for name in sorted(set(bindings(node))):
                distribution = self._looked_up(name)
                if distribution not in self.wanted:
                    continue
                yield self._lookup(module, distribution, name, node)
                for each in ast.walk(node):
                    if (
                        isinstance(each, ast.Name)
                        and each.id in functions
                        and self._looked_up(each.id) not in self.wanted
                    ):
                        helpers[each.id] = functions[each.id]
        for name, node in helpers.items():
            if not name.startswith("is_"):
                yield self._lookup(module, name, name, node)

    def _looked_up(self, name: str) -> str:
        """The distribution that `_torchao_available` and `is_torchao_version` are about."""
        base = name.strip("_").removeprefix("is_")
        for ending in (
            "_available",
            "_version",
            "_greater_or_equal",
            "_less_or_equal",
            "_greater",
            "_multi_backend_available",
        ):
            if base.endswith(ending):
                base = base.removesuffix(ending)
                break
        else:
            return ""
        known = {"optimum_quanto": "optimum.quanto", "nvidia_modelopt": "modelopt", "optimum": "optimum"}
        return self._distribution(known.get(base, base))

    def _lookup(self, module: Module, subject: str, name: str, node: ast.stmt) -> Gate:
        backends = tuple(key for key, backend in self.backends.items() if backend.distribution == subject)
        line = node.lineno
        return Gate(
            self.release.host, "", backends or tuple(self.backends), "lookup", "branches", "lookup", subject, "",
            module.fingerprint(node), True, "", module.source(node, 160), module.file, line, name, (),
        )  # fmt: skip

    def _methods(self) -> Iterable[Gate]:
        module = self._required(MAPPING)
        for key, value, line in _mapping(module, "AUTO_QUANTIZATION_CONFIG_MAPPING"):
            method, concerned = self._backends(key)
            yield Gate(
                self.release.host, method, concerned, "config", "declares", "method", key, "", value, True, "", "",
                module.file, line, "AUTO_QUANTIZATION_CONFIG_MAPPING", (),
            )  # fmt: skip

    def _declared(self) -> Iterable[Gate]:
        """Requires-Python and what the extras ask for, from METADATA."""
        names = {backend.distribution: key for key, backend in self.backends.items()} | {"torch": "", "accelerate": ""}
        for number, line in enumerate(self.release.metadata.partition("\n\n")[0].splitlines(), 1):
            name, _, text = line.partition(":")
            if name == "Requires-Python":
                yield self._declares(
                    number, "Python", text.strip().replace(" ", ""), "Requires-Python", tuple(self.backends)
                )
            elif name == "Requires-Dist" and "extra" in text:
                requirement, _, marker = text.partition(";")
                extra = normalize(marker.partition("extra")[2].strip(" =\"'").partition("'")[0].partition('"')[0])
                wanted, bounds = _requirement(requirement)
                if wanted in names and (extra in ("torch", "accelerate") or extra in names or extra == "quanto"):
                    concerned = (names[wanted],) if names[wanted] else tuple(self.backends)
                    if names.get(extra):
                        concerned = (names[extra],)
                    yield self._declares(number, wanted, bounds, f"extra {extra}", concerned)

    def _checked(self) -> Iterable[Gate]:
        """What the host checks of its own requirements when it is imported."""
        check = self.package.module("dependency_versions_check.py")
        table = self.package.module("dependency_versions_table.py")
        if check is None or table is None:
            return
        scope = Scope(check)
        wanted = {backend.distribution: (key,) for key, backend in self.backends.items()}
        for node in check.tree.body:
            if not isinstance(node, ast.Assign) or "pkgs_to_check_at_runtime" not in check.source(node):
                continue
            # a list, or the words of one text
            held = (
                node.value.func.value
                if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
                else node.value
            )
            listed = self.reader.value(held, scope)
            names = listed.split() if isinstance(listed, str) else listed if isinstance(listed, tuple) else ()
            for name, text, line in _mapping(table, "deps"):
                distribution, bounds = _requirement(text.strip("\"'"))
                if name in names and bounds and (distribution in wanted or distribution in _INTERESTING):
                    yield Gate(
                        self.release.host, "", wanted.get(distribution, tuple(self.backends)), "import", "raises",
                        "version", distribution, "", bounds, True, "ImportError", "", table.file, line,
                        check.file, self._where_checked(distribution),
                    )  # fmt: skip

    def _where_checked(self, distribution: str) -> tuple[Test, ...]:
        """What `is_..._available()` says of a distribution: without that the host does not check its version."""
        lookups = self.reader.scope_of(LOOKUPS)
        found = lookups.find(f"is_{distribution.replace('-', '_')}_available") if lookups else None
        if isinstance(found, Function):
            called = self.reader.call(found, [], {}, found.node, found.scope)
            for way in ways(truth(called)) or ():
                return tuple(test for test in way if test.subject == distribution)
        return (Test("available", distribution),)

    def _declares(self, line: int, subject: str, value: str, where: str, backends: tuple[str, ...]) -> Gate:
        return Gate(
            self.release.host, "", backends, "metadata", "declares", "version", subject, "", value, True, "", "",
            "METADATA", line, where, (),
        )  # fmt: skip


def _mapping(module: Module, name: str) -> list[tuple[str, str, int]]:
    """The keys and class names of a dictionary of a module, with their lines."""
    found: list[tuple[str, str, int]] = []
    for node in module.tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
            for key, value in zip(node.value.keys, node.value.values):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    found.append((key.value, module.source(value), key.lineno))
    return found


def _requirement(text: str) -> tuple[str, str]:
    """Name and bounds of a requirement, bounds in one order whoever wrote the file."""
    end = next((place for place, sign in enumerate(text) if sign in "<>=!~[ (" and text[:place].strip()), len(text))
    name, rest = normalize(text[:end].strip()), text[end:].strip()
    if rest.startswith("["):
        rest = rest.partition("]")[2]
    bounds = rest.replace(" ", "").strip("()")
    return name, ",".join(sorted(bounds.split(",")))
