"""Modules that stand in for torch, the backends and whatever else a host release imports.

A stand-in has every name, unless `symbols.toml` says that the release it stands for has not: so what a host release
does is decided by its own code, by the versions that metadata gives, by what the backends' releases have, and by the
devices of the environment. Runs in the child process of `upstream.py`, where nothing else is installed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import typing
from abc import ABCMeta
from types import FunctionType, ModuleType
from typing import Any

from packaging.version import Version

# What is imported beside the backends; it has no say in any verdict.
BESIDES = (
    *("PIL", "filelock", "ftfy", "httpx", "huggingface_hub", "imageio", "jinja2", "numpy", "regex", "requests"),
    *("safetensors", "tokenizers", "tqdm", "typer", "typing_extensions", "yaml"),
)
STANDING_IN = frozenset(
    ("torch", "accelerate", "bitsandbytes", "torchao", "optimum", "gguf", "modelopt", "kernels", "quanto")
)
FINDER: Finder  # the one of this process


class _Kind(ABCMeta):
    """The type of stand-in classes: whatever is asked of one is there."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or name in cls.__dict__.get("_lacks", ()):
            raise AttributeError(name)
        made = _Kind(name, (Anything,), {"__module__": cls.__module__})
        setattr(cls, name, made)
        return made

    def __iter__(cls) -> Any:
        return iter(())

    def __len__(cls) -> int:
        return 0

    def __int__(cls) -> int:
        return 0

    def __getitem__(cls, item: Any) -> Any:
        return cls


class Anything(metaclass=_Kind):
    """Stands for any class, function or constant."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        if len(given) == 1 and not named and isinstance(given[0], FunctionType | type):
            return given[0]  # a decorator
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def __call__(self, *given: Any, **named: Any) -> Any:
        return given[0] if len(given) == 1 and isinstance(given[0], FunctionType | type) else Anything()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __getitem__(self, item: Any) -> Any:
        return Anything()

    def _calculate(self, other: Any) -> Any:
        return Anything()

    __add__ = __radd__ = __mul__ = __rmul__ = __floordiv__ = __truediv__ = __sub__ = _calculate

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())


class Dtype:
    """Stands for `torch.dtype`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"torch.{self._name}"


_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "bool"),
    *("int8", "int16", "int32", "int64", "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8"),
)


class StandIn(ModuleType):
    """A module that has every name that its release has."""

    def __init__(self, name: str, lacks: frozenset[str] = frozenset()) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self._lacks = lacks

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in self._lacks:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        made = _Kind(name, (Anything,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-ins. `there` is what the environment has: import name -> version as text."""

    def __init__(self, symbols: dict[str, dict[str, list[str]]]) -> None:
        self._symbols = {
            name: [(each, Version(since), Version(until)) for each, (since, until) in table.items()]
            for name, table in symbols.items()
        }
        self._lacking: dict[tuple[str, str, bool], dict[str, frozenset[str]]] = {}
        self.environment: dict[str, Any] = {}
        self.also: tuple[str, ...] = ()  # parts of a host that have no gate

    def lacking(self, top: str) -> dict[str, frozenset[str]]:
        """What the release in the environment lacks: module -> names, and "" where the module itself is not there.

        A pre-release has what its own release has, or, where `before` says so, what the release before it has.
        """
        version, before = self.environment["versions"][top], self.environment["before"]
        known = self._lacking.get((top, version, before))
        if known is None:
            found: dict[str, set[str]] = {}
            parsed = self.release(top)
            for symbol, since, until in self._symbols.get(top, ()):
                if not since <= parsed < until:
                    module, _, name = symbol.partition(":")
                    found.setdefault(module, set()).add(name)
            known = {module: frozenset(names) for module, names in found.items()}
            self._lacking[top, version, before] = known
        return known

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        top, dot, _ = name.partition(".")
        if top in BESIDES or name.startswith(self.also):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        if not dot or name == "optimum.quanto" or top not in self.environment["versions"]:
            return None  # is found in the site-packages, or not at all
        lacking = self.lacking(top)
        parent, _, last = name.rpartition(".")
        if "" in lacking.get(name, ()) or last in lacking.get(parent, ()):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        top = spec.name.partition(".")[0]
        lacks = frozenset() if top not in STANDING_IN else self.lacking(top).get(spec.name, frozenset())
        return StandIn(spec.name, lacks)

    def exec_module(self, module: Any) -> None:
        vars(module).update(_VALUES.get(module.__name__, {}))
        make = _MADE.get(module.__name__)
        if make is not None:
            make(module, self)

    def release(self, top: str) -> Version:
        """The release that a stand-in is like; of a pre-release, the release that it leads to or the one before."""
        parsed = Version(self.environment["versions"][top])
        if top == "bitsandbytes" and parsed.is_prerelease:
            return parsed  # what it has of its own release is not known; no rule can wait for an answer
        return parsed if parsed.is_prerelease and self.environment["before"] else Version(parsed.base_version)

    def become(self, name: str) -> None:
        """Replace a module of the site-packages, while it is imported, by its stand-in."""
        there, top = sys.modules[name], name.partition(".")[0]
        module = StandIn(name, self.lacking(top).get(name, frozenset()))
        module.__spec__, module.__file__ = there.__spec__, there.__file__
        module.__version__ = self.environment["versions"][top]
        sys.modules[name] = module
        if name == "bitsandbytes" and "features" not in module._lacks:
            module.features = {"multi_backend"}
            module.supported_torch_devices = {"cpu", "cuda", "xpu", "hpu", "npu", "mps"}
        if name == "gguf":
            module.GGMLQuantizationType._lacks = self.lacking("gguf").get("gguf.GGMLQuantizationType", frozenset())
            module.GGML_QUANT_SIZES = _Sizes()
            module.GGUFReader = lambda path: _Reader(module, path)
        if name == "torchao":
            for part in ("quantization", "dtypes"):  # which every release imports itself
                importlib.import_module(f"torchao.{part}")
        if name == "kernels":
            module.get_kernel = _GET_KERNEL[self.release("kernels") >= Version("0.10.4")]
        if name == "torch":
            module.dtype = Dtype
            vars(module).update({each: Dtype(each) for each in _DTYPES if each not in module._lacks})
            for part in ("cuda", "xpu", "mps", "backends.mps", "version", "accelerator", "nn", "utils", "distributed"):
                if part not in module._lacks:
                    importlib.import_module(f"torch.{part}")


class _Sizes(dict[Any, tuple[int, int]]):
    def __missing__(self, key: Any) -> tuple[int, int]:
        return 32, 34


class _Reader:
    """A GGUF file with one tensor of the type that its path names."""

    def __init__(self, gguf: Any, path: str) -> None:
        self.name = "weight"
        self.tensor_type = getattr(gguf.GGMLQuantizationType, path)
        self.data = Anything()
        self.tensors = [self]


def _get_kernel_before(repo_id: str, revision: Any = None, version: Any = None) -> Any:
    return Anything()


def _get_kernel(
    repo_id: str,
    revision: Any = None,
    version: Any = None,
    user_agent: Any = None,
    trust_remote_code: bool = False,
) -> Any:
    return Anything()


_GET_KERNEL = {False: _get_kernel_before, True: _get_kernel}


def _type_var(name: str, *constraints: Any, **named: Any) -> Any:
    return typing.TypeVar(name, *constraints)  # without the default, which is newer


_VALUES: dict[str, dict[str, Any]] = {
    "typing_extensions": {**vars(typing), "TypeVar": _type_var},
    "PIL": {"__version__": "11.0.0"},
    "httpx": {"__version__": "0.28.1"},
    "huggingface_hub": {"__version__": "1.40.0"},
    "huggingface_hub.constants": {
        "HF_HOME": "/home",
        "HUGGINGFACE_HUB_CACHE": "/home",
        "HF_HUB_CACHE": "/home",
        "HF_MODULES_CACHE": "/home",
    },
    "huggingface_hub.utils": {"is_jinja_available": lambda: False, "validate_hf_hub_args": lambda function: function},
    "numpy": {"__version__": "2.0.0"},
    "safetensors": {"__version__": "0.6.2"},
}


def _kinds(finder: Finder) -> list[str]:
    return [device["kind"] for device in finder.environment["accelerators"]]


def _cuda(module: Any, finder: Finder) -> None:
    def devices() -> list[dict[str, Any]]:
        return [device for device in finder.environment["accelerators"] if device["kind"] in ("cuda", "rocm")]

    module.is_available = lambda: bool(devices())
    module.device_count = lambda: len(devices())
    module.current_device = lambda: 0

    def get_device_capability(device: Any = None) -> tuple[int, int]:
        if not devices():
            raise AssertionError("Torch not compiled with CUDA enabled")
        major, _, minor = devices()[0]["compute_capability"].partition(".")
        return int(major), int(minor)

    module.get_device_capability = get_device_capability


def _xpu(module: Any, finder: Finder) -> None:
    module.is_available = lambda: "xpu" in _kinds(finder)
    module.current_device = lambda: 0


def _mps(module: Any, finder: Finder) -> None:
    if "is_available" not in module._lacks:
        module.is_available = lambda: "mps" in _kinds(finder)


def _backends_mps(module: Any, finder: Finder) -> None:
    module.is_available = lambda: "mps" in _kinds(finder)


def _accelerator(module: Any, finder: Finder) -> None:
    def names() -> list[str]:
        kinds = [kind for kind in ("cuda", "rocm", "xpu", "mps") if kind in _kinds(finder)]
        return ["cuda" if kind == "rocm" else kind for kind in kinds]

    module.is_available = lambda: bool(names())
    module.device_count = lambda: len(names())
    module.current_accelerator = lambda: _Device(names()[0]) if names() else None


class _Device:
    def __init__(self, kind: str) -> None:
        self.type = kind


def _version(module: Any, finder: Finder) -> None:
    module.cuda = "12.8" if "cuda" in _kinds(finder) else None
    module.hip = "6.4" if "rocm" in _kinds(finder) else None


def _quantization_config(module: Any, finder: Finder) -> None:
    """nvidia-modelopt 0.44.0 made a list of this table."""
    module._default_disabled_quantizer_cfg = [] if finder.release("modelopt") >= Version("0.44.0") else {}


def _core_config(module: Any, finder: Finder) -> None:
    if "config_to_dict" not in module._lacks:
        module.config_to_dict = lambda config: {}
        module.config_from_dict = lambda data: importlib.import_module("torchao.quantization.quant_api").AOBaseConfig()


def _quantization(module: Any, finder: Finder) -> None:
    importlib.import_module(f"{module.__name__}.config")


def _hub(module: Any, finder: Finder) -> None:
    for part in ("constants", "utils"):
        importlib.import_module(f"{module.__name__}.{part}")


_MADE = {
    "huggingface_hub": _hub,
    "torch.cuda": _cuda,
    "torch.xpu": _xpu,
    "torch.mps": _mps,
    "torch.backends.mps": _backends_mps,
    "torch.accelerator": _accelerator,
    "torch.version": _version,
    "torchao.core.config": _core_config,
    "modelopt.torch.quantization": _quantization,
    "modelopt.torch.quantization.config": _quantization_config,
}
