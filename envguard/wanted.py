"""Which facts the rules of a request read, so that only the probes for those run."""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.rule import (
    AcceleratorNeed,
    ArchitectureNeed,
    CapabilityNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    MemoryNeed,
    OwnerNeed,
    RequirementsNeed,
    RunsOnNeed,
    ToolNeed,
    TorchBuildNeed,
    VariableNeed,
    VisibleNeed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from envguard.rule import Rule

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


class Wanted(Frozen):
    """The facts to observe. Python's own facts always belong to it, because fixes name the interpreter.

    `distributions` are names, or None for all; `owners` maps an import name to the distribution that should own it;
    `requirements` are distributions whose declared requirements are wanted too.
    """

    distributions: frozenset[str] | None
    owners: tuple[tuple[str, str], ...] = ()
    requirements: frozenset[str] = frozenset()
    host: frozenset[str] | None = frozenset({"system"})
    hardware: bool = False
    architectures: bool = False
    toolchain: bool = False
    variables: frozenset[str] | None = frozenset()


EVERYTHING_ABOUT = frozenset({"torch", "diffusers", "transformers"})
FIX_VARIABLES = frozenset({"PIP_NO_INDEX", "UV_OFFLINE"})


def wanted_by(rules: Iterable[Rule]) -> Wanted:
    """The union of the facts that some rules name, and of those that their fixes need."""
    distributions = set(EVERYTHING_ABOUT)
    owners: dict[str, str] = {}
    requirements: set[str] = set()
    variables = set(FIX_VARIABLES)
    hardware = architectures = toolchain = False
    for rule in rules:
        need = rule.need
        distributions.update(name for name, _ in rule.when.release)
        variables.update(name for name, _ in rule.when.variable)
        # a fix that installs torch chooses the build for this machine
        hardware = hardware or rule.when.accelerator is not None or rule.fix.torch
        if isinstance(need, DistributionNeed):
            distributions.add(need.wanted.name)
        elif isinstance(need, RequirementsNeed):
            requirements.add(need.distribution)
            distributions.add(need.distribution)
        elif isinstance(need, OwnerNeed):
            owners[need.import_name] = need.distribution
        elif isinstance(need, ToolNeed):
            toolchain = True
        elif isinstance(need, VariableNeed):
            variables.add(need.name)
        elif isinstance(need, _HARDWARE):
            hardware = True
            architectures = architectures or isinstance(need, ArchitectureNeed)
    if hardware:
        variables.add("CUDA_VISIBLE_DEVICES")
    return Wanted(
        distributions=frozenset(distributions),
        owners=tuple(sorted(owners.items())),
        requirements=frozenset(requirements),
        hardware=hardware,
        architectures=architectures,
        toolchain=toolchain,
        variables=frozenset(variables),
    )
