"""The public functions, and the only maker of guarded backends."""

from __future__ import annotations

from envguard.callchecks import CallChecks
from envguard.checks import check_in
from envguard.errors import BadInput, RequirementsNotMet, UnknownScheme
from envguard.frozen import replace
from envguard.guarded import Guarded, guarded
from envguard.permits import passes
from envguard.rule import OwnerNeed
from envguard.shipped import load as rules
from envguard.specs import resolve_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Literal, TypeAlias

    from envguard.model import Environment, Operation, Report
    from envguard.permits import Permit
    from envguard.probes.interpreter import Interpreter

    Undecided: TypeAlias = Literal["block", "allow"]
    Wanted: TypeAlias = str | tuple[str, Mapping[str, Any]]


def check(
    *specs: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    environment: Environment | None = None,
    ignore: Iterable[str] = (),
) -> Report:
    """What the rules say about some backends here, or in a recorded environment.

    `specs` are `backend` or `backend:scheme` ("bnb:nf4"); none means all backends. `host` is the library in which the
    backend runs (auto, diffusers, transformers, none), `device` is auto, cuda, cuda:N, rocm, xpu, mps or cpu,
    `operation` is quantize, load or save. `ignore` holds ids of rules that do not decide. Never imports torch or a
    backend.

    Raises UnknownBackend or UnknownScheme for a bad spec, ValueError for a bad host, device or operation, or for an id
    to ignore that no rule has.
    """
    from envguard.probes.interpreter import current

    ignore = tuple(ignore)
    if ignore:
        from envguard import trials

        unknown = trials.unknown(ignore, rules())
        if unknown:
            raise ValueError(f"ignore: no rule has the id {unknown[0]!r} (envguard rules lists them)")
    return check_in(rules(), specs, environment, current, host=host, device=device, operation=operation, ignore=ignore)


def snapshot() -> Environment:
    """Every fact about this process's environment and machine, as schema envguard.snapshot/1 describes it."""
    from envguard.probes.interpreter import current

    return snapshot_of(current())


def snapshot_of(interpreter: Interpreter) -> Environment:
    """Every fact about an interpreter's environment and the machine."""
    from envguard.probes.observe import full_snapshot
    from envguard.probes.rule_facts import wanted_by

    needs = [rule.need for rule in rules().rows()]
    owners = {need.import_name: need.distributions for need in needs if isinstance(need, OwnerNeed)}
    return full_snapshot(interpreter, tuple(sorted(owners.items())), wanted_by(rules().rows()).links)


def available(
    spec: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    *,
    undecided: Undecided = "block",
) -> bool:
    """True exactly where `require` with the same arguments would pass; never raises for a bad environment.

    Raises UnknownBackend, UnknownScheme or ValueError for arguments that no environment could meet.
    """
    return passes(CallChecks(spec, host, device, operation, undecided).report, undecided)


def require(
    spec: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    *,
    undecided: Undecided = "block",
) -> Guarded:
    """The guarded backend, once its rules have passed in this environment.

    `undecided="allow"` lets pass what could not be observed; the report records it, and it covers the later checks of
    this guarded backend. A degraded backend passes with one EnvguardWarning.
    Raises RequirementsNotMet (an ImportError, with `.report`), UnknownBackend, UnknownScheme, ValueError.
    """
    try:
        return _passed[spec, host, device, operation, undecided]
    except KeyError:
        pass
    made = _passed[spec, host, device, operation, undecided] = guarded_by(spec, host, device, operation, undecided)
    return made


def guarded_by(
    spec: str, host: str, device: str, operation: Operation, undecided: str = "block", ignore: tuple[str, ...] = ()
) -> Guarded:
    """`require`, looked at anew, and with rules that do not decide. Raises what `require` does."""
    checks = CallChecks(spec, host, device, operation, undecided, ignore)
    if not passes(checks.report, undecided):
        raise RequirementsNotMet(str(checks.report), checks.report)
    checks.warn_if_degraded(checks.report, stacklevel=4)  # warn_if_degraded, guarded_by, require, its caller
    return guarded(checks)


_passed: dict[tuple[str, str, str, str, str], Guarded] = {}


def load(cls: Any, path: str, *, device: str = "auto", undecided: Undecided = "block", **arguments: Any) -> Any:
    """A model that is quantized already, by the backend and scheme that its own config or GGUF header names.

    `cls` is a diffusers or transformers class (or pipeline, each of whose components has a config of its own), or for a
    plain torch module that `save` wrote, a callable that makes one. `path` is a folder, a `.gguf` file or a hub id in
    the local cache, `arguments` are those of the class's `from_pretrained` (`gguf_file` names one of a folder's files).

    Raises RequirementsNotMet, BadModel (a BadInput), BackendChanged, UnknownOption.
    """
    from envguard.loading import is_pipeline, look, named
    from envguard.runtime.hosts import host_of

    path = named(path, arguments)
    found = look(path, arguments.get("subfolder"))
    if is_pipeline(cls):
        if not found.components:
            raise BadInput(
                f"no component of {path} is quantized: say what they are to be, as in {cls.__name__}.from_pretrained("
                "..., quantization_config=envguard.pipeline_config({'transformer': 'bnb:nf4'}))"
            )
        permits = _permits({name: (spec, host) for name, spec, host in found.components}, device, "load", undecided)
        from envguard.runtime.adapter import adapter_for

        for permit in permits.values():
            adapter_for(permit).before_host_loads()
        return cls.from_pretrained(found.root, **arguments)
    if found.spec is None:
        raise BadInput(f"{path} is not quantized: say what it is to be, as in envguard.require('bnb:nf4').load(...)")
    return require(found.spec, host_of(cls), device, "load", undecided=undecided).load(cls, path, **arguments)


def pipeline_config(
    components: Mapping[str, Wanted], path: str | None = None, *, device: str = "auto", undecided: Undecided = "block"
) -> Any:
    """The quantization_config for a pipeline's `from_pretrained`, once the rules of every component pass.

    It is a PipelineQuantizationConfig of diffusers. `components` maps a component's name to a spec with a scheme
    ("bnb:nf4"), or to such a spec and a mapping of the backend's options. The library of a component is read from the
    model_index.json of the pipeline at `path` (a folder, or a hub id in the local cache); without one `text_encoder*`
    are transformers' and all others diffusers'.

    Raises RequirementsNotMet with one report on all components, UnknownBackend, UnknownScheme, UnknownOption, BadModel.
    """
    from envguard.loading import hosts_of

    if not components:
        raise BadInput("pipeline_config: expected a component and its spec, as in {'transformer': 'bnb:nf4'}")
    specs = {name: wanted if isinstance(wanted, str) else wanted[0] for name, wanted in components.items()}
    for name, spec in specs.items():
        backend, scheme = resolve_spec(rules(), spec)
        if scheme is None:
            known = ", ".join(rules().backends[backend].schemes)
            raise UnknownScheme(f"{name}: expected a scheme, as in {backend}:SCHEME; known are {known}")
    hosts = hosts_of(specs, path)
    permits = _permits({name: (spec, hosts[name]) for name, spec in specs.items()}, device, "quantize", undecided)
    from envguard.runtime.operations import host_config

    options = {name: {} if isinstance(wanted, str) else dict(wanted[1]) for name, wanted in components.items()}
    made = {name: host_config(permit, options[name]) for name, permit in permits.items()}
    from diffusers import PipelineQuantizationConfig

    return PipelineQuantizationConfig(quant_mapping=made)


def _permits(
    asked: Mapping[str, tuple[str, Any]], device: str, operation: Operation, undecided: str
) -> dict[str, Permit]:
    """A permit for each component (name -> spec, host). Raises RequirementsNotMet with one report on all of them."""
    checks = {name: CallChecks(spec, host, device, operation, undecided) for name, (spec, host) in asked.items()}
    reports = [each.report for each in checks.values()]
    if not all(passes(report, undecided) for report in reports):
        together = replace(reports[0], backends=tuple([one for report in reports for one in report.backends]))
        raise RequirementsNotMet(str(together), together)
    permits = {}
    for name, each in checks.items():
        request = each.report.backends[0].request
        each.warn_if_degraded(each.report, stacklevel=4)
        permits[name] = each.permit(request.scheme, operation, request.host)
    return permits
