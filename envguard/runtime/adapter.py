"""What every backend's adapter offers, in the same words; and which adapter a permit leads to."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from envguard.errors import UnknownOption
from envguard.model import BACKENDS
from envguard.runtime.hosts import serializable
from envguard.runtime.imports import import_checked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    import torch

    from envguard.permits import Permit


class Stored(NamedTuple):
    """A quantized model's tensors by name, and as JSON what makes quantized layers of them again.

    `plain`: no tensor subclass is among them, so that safetensors can hold them; else they go to a torch file.
    """

    tensors: dict[str, torch.Tensor]
    layout: dict[str, Any]
    plain: bool = True


class Adapter(ABC):
    """One backend, imported for a permit.

    The keyword-only parameters of `quantize` and `host_config` are the options that the backend has: nothing else lists
    them.
    """

    def __init__(self, permit: Permit) -> None:
        """Raises TypeError for a permit that was not issued, BackendChanged where something else was imported."""
        self.permit = permit
        self.module: ModuleType = import_checked(permit)

    @abstractmethod
    def quantize(self, model: torch.nn.Module, scheme: str) -> torch.nn.Module:
        """Quantize the linear layers of a module in memory, onto the permit's device; in place where possible."""

    @abstractmethod
    def host_config(self, scheme: str) -> Any:
        """The host's quantization_config for `from_pretrained`."""

    def device_map(self) -> dict[str, str] | None:
        """What `from_pretrained` is told, where the caller says nothing; None leaves the model on the CPU."""
        return None if self.permit.device == "cpu" else {"": self.permit.device}

    def loaded(self, model: torch.nn.Module) -> None:  # noqa: B027
        """Called for a model that a host has loaded, before it runs."""

    def host_saves(self, model: torch.nn.Module) -> dict[str, Any] | None:
        """What `save_pretrained` is told for a model that its host quantized; None: our own folder is to hold it."""
        return {} if serializable(model) else None

    def before_host_loads(self) -> None:
        """Called before the host loads a model that is quantized already. Raises BadInput where that may not be."""
        return

    @abstractmethod
    def store(self, model: torch.nn.Module) -> Stored:
        """The whole model as tensors and a layout."""

    @abstractmethod
    def restore(self, model: torch.nn.Module, scheme: str, stored: Stored) -> torch.nn.Module:
        """The opposite of `store`: fills a model of the same architecture, whose parameters are on torch's meta device,
        and moves it onto the permit's device. Raises BadInput where the tensors are not those of the model.
        """


class FileAdapter(Adapter):
    """A backend whose models are single files in its own format. The keyword-only parameters of `load_file` are options
    too.
    """

    @abstractmethod
    def load_file(self, cls: Any, path: str, arguments: dict[str, Any]) -> torch.nn.Module:
        """A model of a class from a file, on the permit's device; `arguments` are those of the class's loader."""

    @abstractmethod
    def save_file(self, model: torch.nn.Module, scheme: str, path: str) -> None:
        """Write a quantized model to a file, whole or not at all."""


def adapter_for(permit: Permit) -> Adapter:
    """The adapter of the permit's backend.

    Raises TypeError for a permit that was not issued, BackendChanged where the import is not what was checked.
    """
    return adapter_class(permit.request.backend)(permit)


def adapter_class(backend: str) -> type[Adapter]:
    """The class in `runtime/<backend>.py`; the backend itself is not imported by that."""
    made: type[Adapter] = importlib.import_module(f"envguard.runtime.{backend}").ADAPTER
    return made


def options_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


def refuse_unknown(backend: str, doing: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises UnknownOption, which names the options that the backend does not have, and those that it has."""
    unknown = [name for name in given if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UnknownOption(f"{backend} has no option {', '.join(map(repr, unknown))} to {doing}; {has}")


def all_options() -> frozenset[str]:
    """Every option of any backend: what is none of these belongs to `from_pretrained`."""
    classes = [adapter_class(backend) for backend in BACKENDS]
    return frozenset(name for each in classes for name in (*options_of(each.quantize), *options_of(each.host_config)))
