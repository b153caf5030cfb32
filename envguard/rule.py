"""The frozen types of the rules table: one row, what it is for, what it needs, how to mend it.

`rulebook.py` makes them from `rules/*.toml`; `evaluate.py` judges an environment by them. The format is described in
`rules/README.md`.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from envguard.model import Kind, Operation, Severity
    from envguard.versions import Clause, Wanted


class When(Frozen):
    """Which requests a row is for; None does not restrict."""

    backend: tuple[str, ...] | None = None
    scheme: tuple[str, ...] | None = None
    not_scheme: tuple[str, ...] | None = None
    operation: tuple[Operation, ...] | None = None
    host: tuple[str, ...] | None = None
    device: tuple[str, ...] | None = None
    release: tuple[tuple[str, tuple[Clause, ...]], ...] = ()
    system: tuple[str, ...] | None = None
    accelerator: tuple[str, ...] | None = None
    variable: tuple[tuple[str, tuple[str, ...]], ...] = ()
    absent: tuple[str, ...] = ()
    cuda_capability: tuple[int, int] | None = None

    @property
    def conditional(self) -> bool:
        """Whether facts of the environment decide too, not the request alone."""
        return bool(
            self.release or self.system or self.accelerator or self.variable or self.absent or self.cuda_capability
        )


class DistributionNeed(Frozen):
    """A distribution is installed, in a version that meets the clauses."""

    wanted: Wanted
    fact: str = "metadata"
    comparison: str = "version"
    module: str | None = None  # the import name of a backend, where its presence alone is wanted


class AnyNeed(Frozen):
    """One of several distributions is installed, in a version that meets its clauses (plain comparison)."""

    wanted: tuple[Wanted, ...]


class RequirementsNeed(Frozen):
    """What the installed distribution itself declares is met.

    What is missing counts in full where it is one of `imported`, a wrong version where it is one of `compared`, the
    rest as a warning, `unused` not at all; None: everything counts. A name that ends in `*` stands for all that
    begin so.
    """

    distribution: str
    imported: tuple[str, ...] | None = None
    compared: tuple[str, ...] | None = None
    unused: tuple[str, ...] = ()


class RequiredInTurnNeed(Frozen):
    """What the installed distribution declares, and what that declares in turn, is installed, in any version."""

    distribution: str


class OwnerNeed(Frozen):
    """The import name is loaded from one of the distributions that own it; the first is the one to install.

    `optional`: nothing that can be imported under that name is as good.
    """

    import_name: str
    distributions: tuple[str, ...]
    optional: bool = False


class CopiesNeed(Frozen):
    """One copy of a distribution's metadata is found first for certain; or all copies meet the clauses."""

    wanted: Wanted


class LoadedNeed(Frozen):
    """What the running process has imported already is what is installed."""

    import_name: str
    distribution: str


class WithoutNeed(Frozen):
    """None of some other distributions of a backend's module is installed."""

    distributions: tuple[str, ...]
    import_name: str
    instead: str


class RequiresPythonNeed(Frozen):
    """Python is one of those for which the installed distribution was made."""

    distribution: str


class DeviceNeed(Frozen):
    """The device that was asked for is one of these kinds."""

    kinds: tuple[str, ...]


class RunsOnNeed(Frozen):
    """The device that the request comes to, asked for by name or found for `auto`, is one of these kinds."""

    kinds: tuple[str, ...]


class SchemeNeed(Frozen):
    """The scheme that was asked for is one of these."""

    schemes: tuple[str, ...]


class WeightsNeed(Frozen):
    """The weights of the model that was named are stored in one of these forms."""

    forms: tuple[str, ...]


class AcceleratorNeed(Frozen):
    """The process sees a device of one of these kinds; ROCm counts as CUDA, as it does in torch."""

    kinds: tuple[str, ...]


class CapabilityNeed(Frozen):
    """The NVIDIA device has at least this compute capability."""

    minimum: tuple[int, int]


class MemoryNeed(Frozen):
    """The device has at least so many bytes of memory."""

    minimum: int


class DriverNeed(Frozen):
    """The NVIDIA driver of the machine, where there is one, answers."""


class VisibleNeed(Frozen):
    """No environment variable hides every device that the machine has."""


class TorchBuildNeed(Frozen):
    """torch was built for the kind of device that is asked for."""


class DriverForCudaNeed(Frozen):
    """The driver runs the CUDA major that torch was built with: CUDA major -> oldest driver."""

    oldest: tuple[tuple[int, str], ...]


class ArchitectureNeed(Frozen):
    """The torch build carries code for the device."""


class NativeNeed(Frozen):
    """What has to hold of the compiled library that a backend would load; `aspect` is one of NATIVE_ASPECTS."""

    distribution: str
    aspect: str


NATIVE_ASPECTS = ("library", "override", "machine", "links", "libc", "architectures")


class PythonNeed(Frozen):
    """The Python version meets the clauses."""

    clauses: tuple[Clause, ...]
    text: str


class PythonBuildNeed(Frozen):
    """Python has a global interpreter lock, that is, was not built free-threaded."""


class SystemNeed(Frozen):
    """The operating system is one of these."""

    systems: tuple[str, ...]


class ToolNeed(Frozen):
    """A build tool is found."""

    tool: str


class VariableNeed(Frozen):
    """An environment variable is set to one of `allowed`, or where there are none, not to one of `refused`; case does
    not matter. `unset`: not to be set at all is as good as one of `allowed`. `assumed_unset`: a snapshot that does not
    say is taken for one where it is not set.
    """

    name: str
    allowed: tuple[str, ...]
    refused: tuple[str, ...]
    unset: bool = False
    assumed_unset: bool = False


class LinksNeed(Frozen):
    """Every name is there that the import of some modules of an installed distribution needs from other packages.

    `follow` are other import packages whose own imports count too, `lost` is the severity of an import that fails and
    is caught, so that the package goes on without a feature.
    """

    distribution: str
    modules: tuple[str, ...]
    follow: tuple[str, ...] = ()
    lost: Severity = "warning"


class KernelsNeed(Frozen):
    """The installed distribution lets its compiled kernels load, by its own test."""

    distribution: str


class Window(Frozen):
    """A row of the table of released pairs: with which versions of another distribution some releases of one work.

    `needs` is None where no release of the other one serves. `missing` names what the others lack; `source` is the
    wheel that the row was read from; `unseen` is what reading its imports does not tell.
    """

    releases: tuple[Clause, ...]
    needs: tuple[Clause, ...] | None
    effect: str
    missing: tuple[str, ...]
    source: str
    unseen: bool = False


class WindowNeed(Frozen):
    """The installed versions of two distributions are a pair without one of some effects.

    `newest` and `newest_other` are the newest releases that were read for the table. Where the files of `told_by` were
    looked at, they tell more than versions.
    """

    distribution: str
    other: str
    effects: tuple[str, ...]
    windows: tuple[Window, ...]
    newest: str
    newest_other: str
    told_by: str


class TrialNeed(Frozen):
    """A tiny model works once it is quantized with the backend: a deep look tells, which has so many seconds for it."""

    seconds: float


if TYPE_CHECKING:
    Need: TypeAlias = (
        DistributionNeed
        | AnyNeed
        | RequirementsNeed
        | RequiredInTurnNeed
        | OwnerNeed
        | CopiesNeed
        | LoadedNeed
        | WithoutNeed
        | RequiresPythonNeed
        | DeviceNeed
        | RunsOnNeed
        | SchemeNeed
        | WeightsNeed
        | AcceleratorNeed
        | CapabilityNeed
        | MemoryNeed
        | DriverNeed
        | VisibleNeed
        | TorchBuildNeed
        | DriverForCudaNeed
        | ArchitectureNeed
        | NativeNeed
        | PythonNeed
        | PythonBuildNeed
        | SystemNeed
        | ToolNeed
        | VariableNeed
        | WindowNeed
        | LinksNeed
        | KernelsNeed
        | TrialNeed
    )


def distributions_of(need: Need) -> tuple[str, ...]:
    """The distributions whose presence, release or files decide about a need."""
    if isinstance(need, DistributionNeed | CopiesNeed):
        return (need.wanted.name,)
    if isinstance(need, AnyNeed):
        return tuple([wanted.name for wanted in need.wanted])
    if isinstance(need, OwnerNeed | WithoutNeed):
        return need.distributions
    if isinstance(
        need, LoadedNeed | RequiresPythonNeed | RequirementsNeed | RequiredInTurnNeed | LinksNeed | KernelsNeed
    ):
        return (need.distribution,)
    if isinstance(need, NativeNeed):
        return need.distribution, "torch"
    if isinstance(need, WindowNeed):
        return need.distribution, need.other
    return ("torch",) if isinstance(need, TorchBuildNeed | DriverForCudaNeed | ArchitectureNeed) else ()


class FixTemplate(Frozen):
    """How to mend a rule, before the inspected interpreter is known.

    `carried` names the distribution of which a release is installed whose compiled library this machine loads,
    `window` the two distributions of a pair, the one that should give way first. The last two come from what was
    found, never from a rules file: `reinstall` writes the files of distributions anew, `remove` takes away metadata
    folders that no installer can.
    """

    install: tuple[Wanted, ...] = ()
    uninstall: tuple[str, ...] = ()
    torch: bool = False
    unset: tuple[str, ...] = ()
    text: str | None = None
    carried: str | None = None
    window: tuple[str, ...] = ()
    reinstall: tuple[Wanted, ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def installs(self) -> bool:
        """Whether it changes packages."""
        return bool(self.install or self.uninstall or self.torch or self.reinstall or self.remove or self.window)


class Rule(Frozen):
    """One row of the table."""

    id: str
    when: When
    need: Need
    severity: Severity
    kind: Kind
    why: str
    fix: FixTemplate
    origin: str
    source: str
    checked: str
    after: tuple[str, ...]
    file: str


class Backend(Frozen):
    """What a backend is called and which schemes it has: scheme -> aliases."""

    name: str
    aliases: tuple[str, ...]
    distribution: str
    import_name: str
    extra: str
    install: tuple[Wanted, ...]
    schemes: Mapping[str, tuple[str, ...]]
    load_schemes: Mapping[str, tuple[str, ...]]


class TorchBuild(Frozen):
    """What a torch release was built for: on PyPI for Linux x86_64, or (`local`, such as cu126) on PyTorch's index."""

    release: str
    cuda: str
    architectures: tuple[str, ...]
    local: str = ""
