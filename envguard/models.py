"""A model on disk against the rules and the memory of a machine: which backend each part needs, and whether it fits.

Nothing of the model is loaded: its configurations and the headers of its files say it all.
"""

from __future__ import annotations

from envguard.checks import evaluator
from envguard.errors import BadInput, BadModel
from envguard.frozen import Frozen
from envguard.model import Environment, Report, Request, Unreadable, worst
from envguard.shipped import load
from envguard.specs import resolve_spec, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    from envguard.model import BackendReport, Device, Verdict
    from envguard.modelfiles.folder import Component
    from envguard.modelfiles.tensors import Tensor
    from envguard.rulebook import RuleBook
    from envguard.sizes import Size

    Asked: TypeAlias = tuple[str, "str | None"]

DTYPES = ("bfloat16", "float16", "float32")
_PASSING = ("ok", "degraded")
_AS_STORED = ("F32", "F16", "F64", "I8", "I16", "I32", "I64")  # types of GGUF tensors that are not quantized


class ComponentReport(Frozen):
    """One component: what it needs, and how many bytes its weights take.

    `spec` is what it is stored in or is to be quantized to, None where nothing of the kind was asked; `reports` are
    judged for it: of that spec alone, or of every backend where none was asked. `size` is in that spec, `full` in full
    precision; None where the files cannot be read without running them.
    """

    component: Component
    operation: str
    spec: str | None
    reports: tuple[BackendReport, ...]
    decides: bool
    size: Size | None
    full: int | None
    fits: bool | None

    @property
    def verdict(self) -> Verdict:
        """The worst of its reports where they decide; ok where nothing was asked."""
        return worst(report.verdict for report in self.reports) if self.decides else "ok"


class Alternative(Frozen):
    """A scheme whose rules pass for every component in full precision, and the bytes of the whole model in it."""

    spec: str
    total: int
    fits: bool | None


class ModelReport(Frozen):
    """The answer to a check of a model.

    `free` are the bytes that the device has free, or why that is not known; `total` and `full` the bytes of all
    components, in their specs and in full precision, None where one is not known.
    """

    path: str
    kind: str
    dtype: str
    asked: str | None
    components: tuple[ComponentReport, ...]
    device: Device
    free: int | Unreadable
    total: int | None
    full: int | None
    fits: bool | None
    alternatives: tuple[Alternative, ...]
    subject: str
    rules: str
    taken_at: str | None = None
    interpreter: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the components; at best degraded where the weights do not fit."""
        found = worst([component.verdict for component in self.components])
        return worst([found, "degraded"]) if self.fits is False else found

    @property
    def ok(self) -> bool:
        """True where everything may run (ok or degraded)."""
        return self.verdict in _PASSING

    @property
    def decides(self) -> bool:
        """Whether a component has a backend that it needs or that was asked for; else all backends were surveyed."""
        return any(component.decides for component in self.components)

    @property
    def report(self) -> Report:
        """What the rules say, each request once."""
        reports = {report.request: report for component in self.components for report in component.reports}
        return Report(tuple(reports.values()), self.subject, self.rules, self.taken_at, self.interpreter)

    def to_json(self) -> str:
        """The report as JSON of schema envguard.model-report/1."""
        from envguard.output.model_json import render

        return render(self)

    def __str__(self) -> str:
        from envguard.output.model_text import render

        return render(self)


def check_model(
    path: str,
    spec: str | None = None,
    *,
    host: str = "auto",
    device: str = "auto",
    dtype: str = "bfloat16",
    environment: Environment | None = None,
    ignore: Iterable[str] = (),
) -> ModelReport:
    """What each component of a model needs here, or in a recorded environment, and whether its weights fit.

    `path` is a folder of diffusers or transformers, a .safetensors or .gguf file, or a hub id whose files are in the
    local cache. `spec` is what components in full precision are to be quantized to; without one, all backends are
    surveyed for them. `host` stands in for each component's own. Reads headers only, and imports no backend.

    Raises BadModel for files that do not hold to their format, UnknownBackend or UnknownScheme for a bad spec,
    ValueError for a bad host, device or dtype.
    """
    from envguard.probes.interpreter import current

    return check_model_in(
        load(), path, spec, environment, current, host=host, device=device, dtype=dtype, ignore=tuple(ignore)
    )


def check_model_in(
    book: RuleBook,
    path: str,
    spec: str | None,
    environment: Environment | None,
    interpreter: Any,
    *,
    host: str,
    device: str,
    dtype: str = "bfloat16",
    ignore: Iterable[str] = (),
    subject: str | None = None,
) -> ModelReport:
    """`check_model` with the rules given; without an environment, `interpreter()` tells which one to look at."""
    from envguard.modelfiles.folder import inspect, tensors_of
    from envguard.modelfiles.hub import locate

    validate(host, device, "quantize")
    if dtype not in DTYPES:
        raise BadInput(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    asked = None if spec is None else resolve_spec(book, spec)
    model = inspect(locate(path))
    for component in model.components:
        if component.weights == "none":
            raise BadModel(f"{component.path}: expected weights beside its config.json, found none: is all downloaded?")
    parts = [_Part(book, component, tensors_of(component), asked, host, device) for component in model.components]
    looked_at = None
    if environment is None:
        looked_at = interpreter()
        environment = _look(book, [request for part in parts for request in part.requests], looked_at)
    found = _device(environment, device)
    free = _free(environment, found, recorded=looked_at is None)
    ignored = frozenset(ignore)
    components = tuple([part.report(environment, dtype, free, ignored) for part in parts])
    total = _sum([each.full if each.size is None else each.size.total for each in components])
    fits = None if total is None or isinstance(free, Unreadable) else total <= free
    executable = looked_at.executable if looked_at else None
    wanting = asked is None or asked[1] is None or fits is False or not all(c.verdict in _PASSING for c in components)
    return ModelReport(
        model.path,
        model.kind,
        dtype,
        None if asked is None else asked[0] if asked[1] is None else f"{asked[0]}:{asked[1]}",
        components,
        found,
        free,
        total,
        _sum([each.full for each in components]),
        fits,
        _alternatives(book, parts, environment, asked, dtype, free, ignored) if wanting else (),
        subject or executable or "a recorded environment",
        book.version,
        environment.data.get("taken_at"),
        executable,
    )


class _Part:
    """A component on its way to a report."""

    def __init__(
        self,
        book: RuleBook,
        component: Component,
        tensors: tuple[Tensor, ...],
        asked: Asked | None,
        host: str,
        device: str,
    ) -> None:
        self.book = book
        self.component = component
        self.tensors = tensors
        self.host: Any = component.host if host == "auto" else host
        self.device = device
        self.asked = asked
        quantized = component.quantized
        self.full_precision = quantized is None
        self.operation = "quantize" if quantized is None else "load"
        if quantized is not None:
            schemes = [quantized.scheme]
            if component.weights == "gguf":  # a host has to read every type in it
                types = dict.fromkeys(tensor.dtype for tensor in tensors)
                schemes += [name for name in types if name not in (*_AS_STORED, quantized.scheme)]
            self.own = [self.request(quantized.backend, scheme) for scheme in schemes]
        elif asked is not None:
            self.own = [self.request(*asked)]
        else:
            self.own = self.surveyed

    def request(self, backend: str, scheme: str | None) -> Request:
        """What a backend is asked about it."""
        weights = None if self.component.weights == "none" else self.component.weights
        return Request(backend, scheme, self.operation, self.host, self.device, weights)  # type: ignore[arg-type]

    @property
    def surveyed(self) -> list[Request]:
        """A request of every backend, without a scheme: its report tells which schemes pass."""
        return [self.request(backend, None) for backend in self.book.backends]

    @property
    def requests(self) -> list[Request]:
        """Everything that may be judged for it."""
        return [*self.own, *(self.surveyed if self.full_precision else ())]

    def report(
        self, environment: Environment, dtype: str, free: int | Unreadable, ignore: frozenset[str]
    ) -> ComponentReport:
        component = self.component
        first, *others = [evaluator(self.book, request).evaluate(environment, ignore=ignore) for request in self.own]
        decides = not self.full_precision or self.asked is not None
        reports = (first, *(each for each in others if not decides or each.verdict == "blocked"))
        spec = component.quantized.spec if component.quantized else None
        if spec is None and self.asked is not None:
            spec = self.asked[0] if self.asked[1] is None else f"{self.asked[0]}:{self.asked[1]}"
        size = self.size(self.asked, dtype)
        full = self.full(dtype)
        bytes_ = full if size is None else size.total
        fits = None if bytes_ is None or isinstance(free, Unreadable) else bytes_ <= free
        return ComponentReport(component, self.operation, spec, reports, decides, size, full, fits)

    def full(self, dtype: str) -> int | None:
        """Bytes in full precision; not known for a file in which packed numbers stand."""
        from envguard.sizes import full_precision

        quantized = self.component.quantized
        if not self.tensors or (quantized is not None and quantized.backend != "gguf"):
            return None
        if quantized is not None:
            return sum(tensor.count for tensor in self.tensors) * (4 if dtype == "float32" else 2)
        return full_precision(self.tensors, self.host, dtype=dtype, class_name=self.component.class_name).total

    def size(self, asked: Asked | None, dtype: str) -> Size | None:
        """Bytes as stored, where that is quantized, else in a spec with a scheme."""
        from envguard.sizes import estimate, stored

        component, quantized = self.component, self.component.quantized
        if not self.tensors:
            return None
        if quantized is not None:
            return stored(self.tensors, quantized.backend, self.host, dtype=dtype)
        if asked is None or asked[1] is None:
            return None
        try:
            return estimate(
                self.tensors,
                asked[0],
                asked[1],
                self.host,
                dtype=dtype,
                class_name=component.class_name,
                config=component.config,
            )
        except ValueError:  # a type of whole files, in which nothing can be quantized here
            return None


def _look(book: RuleBook, requests: Sequence[Request], interpreter: Any) -> Environment:
    """Observe what the rules of some requests read, the devices and nothing else."""
    from envguard.frozen import replace
    from envguard.probes.folders import Folders
    from envguard.probes.observe import observe
    from envguard.probes.rule_facts import wanted_by

    rules = [rule for request in dict.fromkeys(requests) for rule in evaluator(book, request).rules]
    return observe(replace(wanted_by(rules), hardware=True), interpreter, Folders(interpreter.path))


def _device(environment: Environment, device: str) -> Device:
    """The device that a request comes to; the CPU for auto where no other one is seen."""
    from envguard.judge.subject import SeenDevice, Subject
    from envguard.model import Device

    request = Request("", device=device)
    seen = None if request.device_kind == "cpu" else Subject(environment, request).device
    if isinstance(seen, SeenDevice):
        return Device(seen.kind, seen.index, seen.name)
    return Device("cpu" if request.device_kind == "auto" else request.device_kind, request.device_index)


def _free(environment: Environment, device: Device, recorded: bool) -> int | Unreadable:
    if device.kind in ("cpu", "mps"):
        if recorded:
            return Unreadable("a snapshot does not hold the free memory of the machine")
        from envguard.probes.memory import free_memory

        return free_memory()  # type: ignore[no-any-return]
    listed = environment.section("accelerators")
    if isinstance(listed, Unreadable):
        return listed
    for entry in listed or ():
        if (entry["kind"], entry.get("index")) == (device.kind, device.index):
            # CUDA is at work in this process: only the whole is known
            for name in ("memory_free", "memory_total"):
                if isinstance(entry.get(name), int):
                    return int(entry[name])
    return Unreadable("the free memory of the device was not observed")


def _alternatives(
    book: RuleBook,
    parts: Sequence[_Part],
    environment: Environment,
    asked: Asked | None,
    dtype: str,
    free: int | Unreadable,
    ignore: frozenset[str],
) -> tuple[Alternative, ...]:
    """The schemes that could be asked for, those of the asked backend first, each from the most bytes on."""
    whole = [part for part in parts if part.full_precision]
    if not whole:
        return ()
    full = _sum([part.full(dtype) for part in parts])
    names = sorted(book.backends, key=lambda name: asked is not None and name != asked[0])
    found: list[Alternative] = []
    for name in names:
        verdicts: list[Any] = [
            evaluator(book, part.request(name, None)).evaluate(environment, ignore=ignore).schemes or {}
            for part in whole
        ]
        here = []
        for scheme in book.backends[name].schemes:
            if (name, scheme) == asked or not all(each.get(scheme) in _PASSING for each in verdicts):
                continue
            sizes = [part.size((name, scheme), dtype) for part in parts]
            total = _sum([None if size is None else size.total for size in sizes])
            if total is not None and (full is None or total < full):
                fits = None if isinstance(free, Unreadable) else total <= free
                here.append(Alternative(f"{name}:{scheme}", total, fits))
        found += sorted(here, key=lambda each: -each.total)
    return tuple(found)


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
