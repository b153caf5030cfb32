"""The guarded backend: proof that the rules passed, and the only road to `runtime/`."""

from __future__ import annotations

from envguard.errors import SchemeConflict, UnknownScheme

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    import torch

    from envguard.model import Host, Operation, Report
    from envguard.permits import Permit

    class Checks(Protocol):
        """What looks again before each call, made by `require`."""

        report: Report

        def scheme(self, name: str) -> str:
            """The official name of a scheme of the backend. Raises UnknownScheme."""

        def permit(self, scheme: str | None, operation: Operation, host: Host, weights: str | None = None) -> Permit:
            """The permit for a call. Raises RequirementsNotMet."""


class Guarded:
    """A backend whose rules have passed: proof and key in one.

    Only `require` makes one; constructing, copying and pickling it fail, because a copy would prove nothing.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, *_: object) -> None:
        raise TypeError("a guarded backend is made by envguard.require alone, from a report that passed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a guarded backend is frozen: cannot assign to {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a guarded backend is frozen: cannot delete {name!r}")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a guarded backend cannot be subclassed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a guarded backend cannot be copied or pickled: call envguard.require where it is needed")

    @property
    def report(self) -> Report:
        """The report that passed."""
        return _checks(self).report

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.report.backends[0].request.backend

    @property
    def scheme(self) -> str | None:
        """The scheme that was asked for, the default of quantize and load."""
        return self.report.backends[0].request.scheme

    @property
    def device(self) -> str:
        """The name that torch gives to the device that was checked, where models end up: "cuda:0", "cpu"."""
        from envguard.permits import torch_device

        return torch_device(self.report)

    def quantize(
        self, model: torch.nn.Module, scheme: str | None = None, path: str | None = None, **options: Any
    ) -> torch.nn.Module:
        """Quantize the linear layers of a torch module in memory, in place where the backend works in place.

        gguf alone has `path`, and needs it: it writes the quantized model to that file, whole or not at all, and gives
        it back as it is read from there (a diffusers model as its single-file loader makes it, beside the one given;
        any other filled with the numbers that the file holds).

        The result is on `device`, in eval mode. Options are the backend's own: `exclude` (names of modules to leave as
        they are), `compute_dtype` (bitsandbytes, gguf), `calibrate` (modelopt: a function that runs the model on data)
        and others; one that it does not have is refused with a list of those it has.

        Raises RequirementsNotMet, SchemeConflict, UnknownScheme, UnknownOption, BackendChanged, BadInput.
        """
        from envguard.loading import quantize

        if path is not None:
            options = {"path": path, **options}
        return quantize(_checks(self), self._scheme, model, scheme, options)

    def load(self, cls: Any, path: str, scheme: str | None = None, **arguments: Any) -> Any:
        """Load a model of a diffusers or transformers class, quantized on the way or quantized already.

        `path` is a folder, a `.gguf` file, a hub id, or what `save` wrote; for a plain torch module `cls` is a callable
        that makes one of the same architecture. `arguments` are the backend's options (see `quantize`) and those of the
        class's `from_pretrained`; for a `.gguf` file of a diffusers class, those of its `from_single_file`. A `.gguf`
        file tells its own scheme; `gguf_file` names one in the folder `path`.

        Raises RequirementsNotMet, SchemeConflict, UnknownScheme, UnknownOption, BackendChanged, BadInput.
        """
        from envguard.loading import load

        return load(_checks(self), self._scheme, cls, path, scheme, arguments)

    def save(self, model: torch.nn.Module, path: str) -> None:
        """Write a quantized model to a folder, for gguf to a .gguf file, from which `load` reads it again, whole.

        Raises RequirementsNotMet, BackendChanged, BadInput.
        """
        from envguard.loading import save

        save(_checks(self), self._scheme, model, path)

    def __repr__(self) -> str:
        request = self.report.backends[0].request
        return f"<guarded {request.backend}{f':{request.scheme}' if request.scheme else ''} ({self.report.verdict})>"

    def _scheme(self, given: str | None) -> str:
        """The scheme of a call. Raises SchemeConflict, UnknownScheme."""
        mine = self.scheme
        if given is not None:
            given = _checks(self).scheme(given)
            if mine is not None and given != mine:
                raise SchemeConflict(
                    f"{self.backend}:{mine} was required, but {given} was asked for: require {self.backend}:{given},"
                    f" or {self.backend} without a scheme"
                )
            return given
        if mine is None:
            _checks(self).scheme("")
            raise UnknownScheme(f"{self.backend} was required without a scheme, and none is given here")
        return mine


_guards: dict[int, tuple[Guarded, Checks]] = {}


def guarded(checks: Checks) -> Guarded:
    """The guarded backend for a report that passed; `require` alone calls this."""
    made = object.__new__(Guarded)
    _guards[id(made)] = made, checks
    return made


def _checks(guard: Guarded) -> Checks:
    """Raises TypeError for an object that `require` did not make."""
    made, checks = _guards.get(id(guard), (None, None))
    if made is not guard or checks is None:
        raise TypeError("this guarded backend is forged: envguard.require alone makes one")
    return checks
