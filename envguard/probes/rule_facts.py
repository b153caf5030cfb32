"""Rules -> the facts that they read."""

from __future__ import annotations

from envguard.probes.wanted import Wanted, WantedLinks
from envguard.rule import (
    AcceleratorNeed,
    ArchitectureNeed,
    CapabilityNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    KernelsNeed,
    LinksNeed,
    LoadedNeed,
    MemoryNeed,
    NativeNeed,
    OwnerNeed,
    RequiredInTurnNeed,
    RequirementsNeed,
    RunsOnNeed,
    ToolNeed,
    TorchBuildNeed,
    VariableNeed,
    VisibleNeed,
    distributions_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from envguard.rule import Rule

EVERYTHING_ABOUT = frozenset({"torch", "diffusers", "transformers"})
FIX_VARIABLES = frozenset({"PIP_NO_INDEX", "UV_OFFLINE"})
_LIBRARY_VARIABLES = ("BNB_CUDA_VERSION", "BNB_ROCM_VERSION")
_HARDWARE = (
    AcceleratorNeed,
    ArchitectureNeed,
    CapabilityNeed,
    DriverForCudaNeed,
    DriverNeed,
    MemoryNeed,
    RunsOnNeed,
    TorchBuildNeed,
    VisibleNeed,
)


def wanted_by(rules: Iterable[Rule]) -> Wanted:
    """The union of the facts that some rules name, and of those that their fixes need."""
    named = set(EVERYTHING_ABOUT)
    owners: dict[str, tuple[str, ...]] = {}
    loaded: set[str] = set()
    installed: set[str] = set()
    requirements: set[str] = set()
    in_turn: set[str] = set()
    variables = set(FIX_VARIABLES)
    native: set[str] = set()
    links: dict[str, dict[str, None]] = {}
    kernels: set[str] = set()
    follow: set[str] = set()
    hardware = architectures = toolchain = False
    for rule in rules:
        need = rule.need
        named.update(name for name, _ in rule.when.release)
        named.update(rule.when.absent)
        variables.update(name for name, _ in rule.when.variable)
        # a fix that installs torch chooses the build for this machine
        hardware = hardware or rule.when.accelerator is not None or rule.fix.torch
        hardware = hardware or rule.when.cuda_capability is not None
        # of several that may own an import name, the first is the one that the rules mean
        named.update(distributions_of(need)[:1] if isinstance(need, OwnerNeed) else distributions_of(need))
        if isinstance(need, DistributionNeed):
            if need.module is not None:
                installed.add(need.wanted.name)
        elif isinstance(need, RequirementsNeed):
            requirements.add(need.distribution)
        elif isinstance(need, RequiredInTurnNeed):
            in_turn.add(need.distribution)
        elif isinstance(need, OwnerNeed):
            owners[need.import_name] = need.distributions
        elif isinstance(need, LoadedNeed):
            loaded.add(need.import_name)
        elif isinstance(need, NativeNeed):
            native.add(need.distribution)
            variables.update(_LIBRARY_VARIABLES)
            hardware = True
        elif isinstance(need, LinksNeed):
            links.setdefault(need.distribution, {}).update(dict.fromkeys(need.modules))
            follow.update(need.follow)
        elif isinstance(need, KernelsNeed):
            kernels.add(need.distribution)
        elif isinstance(need, ToolNeed):
            toolchain = True
            if need.tool == "nvcc":
                variables.update(("CUDA_HOME", "CUDA_PATH"))
        elif isinstance(need, VariableNeed):
            variables.add(need.name)
        elif isinstance(need, _HARDWARE):
            hardware = True
            architectures = architectures or isinstance(need, ArchitectureNeed)
    if hardware:
        variables.add("CUDA_VISIBLE_DEVICES")
    return Wanted(
        distributions=frozenset(named),
        owners=tuple(sorted(owners.items())),
        loaded=frozenset(loaded),
        installed=frozenset(installed),
        requirements=frozenset(requirements),
        in_turn=frozenset(in_turn),
        hardware=hardware,
        architectures=architectures,
        toolchain=toolchain,
        variables=frozenset(variables),
        native=frozenset(native),
        links=WantedLinks(
            tuple([(name, tuple(modules)) for name, modules in links.items()]),
            tuple(sorted(kernels)),
            tuple(sorted(follow)),
        ),
    )
