"""One function for each kind of need: which facts it reads, and what they say about it.

`examine(need, ...)` gives two functions. The first reads the facts out of an environment, as something hashable; the
second turns those facts into a Finding and looks at nothing else, so that equal facts need judging only once.
"""

from __future__ import annotations

from envguard.judge import hardware, links, owners, requirements, software, windows
from envguard.judge.subject import asked, nothing
from envguard.rule import (
    AcceleratorNeed,
    AnyNeed,
    ArchitectureNeed,
    CapabilityNeed,
    CopiesNeed,
    DeviceNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    KernelsNeed,
    LinksNeed,
    LoadedNeed,
    MemoryNeed,
    NativeNeed,
    OwnerNeed,
    PythonBuildNeed,
    PythonNeed,
    RequiredInTurnNeed,
    RequirementsNeed,
    RequiresPythonNeed,
    RunsOnNeed,
    SchemeNeed,
    SystemNeed,
    ToolNeed,
    TorchBuildNeed,
    TrialNeed,
    VariableNeed,
    VisibleNeed,
    WeightsNeed,
    WindowNeed,
    WithoutNeed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from envguard.judge.subject import Judge, Reader
    from envguard.libraries import Wheels
    from envguard.model import Request
    from envguard.rule import Need, TorchBuild


def examine(  # noqa: RET503 - `_no_judge` never returns
    need: Need, request: Request, builds: tuple[TorchBuild, ...], wheels: Wheels | None = None
) -> tuple[Reader, Judge]:
    """The reader of the facts that a need is about, and the judge of those facts."""
    match need:
        case DistributionNeed():
            return software.distribution(need)
        case AnyNeed():
            return software.any_of(need)
        case RequirementsNeed():
            return requirements.requirements(need)
        case RequiredInTurnNeed():
            return requirements.required_in_turn(need)
        case RequiresPythonNeed():
            return requirements.requires_python(need)
        case OwnerNeed():
            return owners.owner(need)
        case CopiesNeed():
            return owners.copies(need)
        case LoadedNeed():
            return owners.loaded(need)
        case WithoutNeed():
            return owners.without(need)
        case DeviceNeed():
            return asked(" or ".join(need.kinds), request.device_kind in need.kinds, f"device {request.device}")
        case RunsOnNeed():
            return hardware.runs_on(need, request)
        case SchemeNeed():
            schemes = need.schemes
            return asked(f"one of {', '.join(schemes)}", request.scheme in schemes, f"scheme {request.scheme}")
        case WeightsNeed():
            return software.weights(need, request)
        case AcceleratorNeed():
            return hardware.accelerator(need, request)
        case CapabilityNeed():
            return hardware.capability(need)
        case MemoryNeed():
            return hardware.memory(need)
        case DriverNeed():
            return hardware.driver()
        case VisibleNeed():
            return hardware.visible()
        case TorchBuildNeed():
            return hardware.torch_build(request)
        case DriverForCudaNeed():
            return hardware.driver_for_cuda(need)
        case ArchitectureNeed():
            return hardware.architecture(builds)
        case NativeNeed():
            return software.native(need, wheels)
        case PythonNeed():
            return software.python(need)
        case PythonBuildNeed():
            return software.python_build()
        case SystemNeed():
            return software.system(need)
        case ToolNeed():
            return software.tool(need)
        case VariableNeed():
            return software.variable(need)
        case WindowNeed():
            return windows.window(need)
        case LinksNeed():
            return links.links(need, request)
        case KernelsNeed():
            return links.kernels(need)
        case TrialNeed():
            return nothing, nothing  # no fact tells it: it does not apply
        case _:
            _no_judge(need)


def _no_judge(need: NoReturn) -> NoReturn:
    """What the type checker proves never to be called: every kind of need has its judge."""
    raise AssertionError(f"no judge for {need!r}")
