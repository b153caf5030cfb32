"""Which compiled library bitsandbytes loads: its own choice, release by release, as data and one pure function.

From `bitsandbytes/cextension.py` and `cuda_specs.py` of the releases 0.43.0 to 0.50.2. The probes ask it which file to
read, the rules whether that file is there.
"""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.versions import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

TURING = (7, 5)  # the compute capability from which on cuBLASLt serves int8
SUFFIXES = {"Linux": ".so", "Windows": ".dll", "Darwin": ".dylib"}
_PREFIX = "libbitsandbytes_"


class Library(Frozen):
    """What is known of one compiled library; None is not known."""

    file: str
    machine: str | None = None
    needs: tuple[str, ...] | None = None
    glibc: str | None = None
    glibcxx: str | None = None
    cxxabi: str | None = None
    gpu_archs: tuple[str, ...] | None = None


class Released(Frozen):
    """What the wheels of a release carry, by (system, machine) and file, and what it asks of Python and torch."""

    version: str
    python: str
    requires: tuple[str, ...]
    platforms: Mapping[tuple[str, str], Mapping[str, Library]]


class Wheels:
    """The released wheels of a distribution, out of the table that a script writes; made as far as somebody asks."""

    __slots__ = ("_kinds", "_made", "_releases")

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._kinds = table.get("kinds", ())
        self._releases: Mapping[str, Any] = table.get("releases", {})
        self._made: dict[str, Released] = {}

    def of(self, version: str) -> Released | None:
        """What a release carries, None for one that the table does not have."""
        if version not in self._releases:
            return None
        if version not in self._made:
            self._made[version] = _released(version, self._releases[version], self._kinds)
        return self._made[version]

    def all(self) -> tuple[Released, ...]:
        """Every release, oldest first."""
        return tuple([released for version in self._releases if (released := self.of(version)) is not None])


def _released(version: str, row: Mapping[str, Any], kinds: Any) -> Released:
    """A release of the table: each name with the facts to which its number points."""
    platforms = {}
    for platform, named in row["platforms"].items():
        system, _, machine = platform.partition(" ")
        carried = {}
        for stem, number in named.items():
            file = f"{_PREFIX}{stem}{SUFFIXES[system]}"
            carried[file] = _library(file, kinds[number]) if number >= 0 else Library(file, machine)
        platforms[system, machine] = carried
    return Released(version, row["python"], tuple(row["requires"]), platforms)


def _library(file: str, kind: Mapping[str, Any]) -> Library:
    get = kind.get
    needs, archs = get("needs"), get("gpu_archs")
    return Library(
        file,
        kind["machine"],
        None if needs is None else tuple(needs),
        get("glibc"),
        get("glibcxx"),
        get("cxxabi"),
        None if archs is None else tuple(archs),
    )


class Era(Frozen):
    """How releases from `since` on choose.

    `small`: GPUs below TURING get a build of their own (`_nocublaslt`). `appends`: BNB_CUDA_VERSION is written behind
    the name instead of into it where the name does not end in a number. `silent`: where the library is not there the
    CPU library is loaded instead, and the first operation on the GPU fails. `rocm`: ROCm has libraries; `spelled`: of
    its version both parts are written (7.12 is 712), earlier they were added up (7 * 10 + 12 = 82). `refuses`:
    BNB_CUDA_VERSION is an error under ROCm. `xpu`: there is a library for Intel GPUs, which are served without one too.
    `nearest`: of the same major the next lower, else the next higher one is taken, and BNB_ROCM_VERSION is read.
    """

    since: str
    small: bool = False
    appends: bool = False
    silent: bool = False
    rocm: bool = True
    spelled: bool = False
    refuses: bool = False
    xpu: bool = False
    nearest: bool = False


ERAS = (
    Era("0.43.0", small=True, appends=True, silent=True, rocm=False),
    Era("0.44.0", small=True, silent=True, rocm=False),
    Era("0.45.0", silent=True, rocm=False),
    Era("0.46.0"),
    Era("0.47.0", refuses=True),
    Era("0.48.0", refuses=True, xpu=True),
    Era("0.50.0", spelled=True, xpu=True, nearest=True),
)


class Build(Frozen):
    """What decides the choice, beside the release: torch's build and what is asked of it.

    `kind` is cuda, rocm or xpu, `version` that of CUDA, ROCm or XPU; `capability` the highest of the visible NVIDIA
    devices. The overrides are environment variables, None where not set.
    """

    kind: str
    version: str | None
    capability: tuple[int, int] | None = None
    cuda_override: str | None = None
    rocm_override: str | None = None


class Choice(Frozen):
    """What a release does: the library that it looks for, and the one that it loads (None: none for the GPU).

    `error` is what it says instead of looking for any.
    """

    wanted: str
    file: str | None
    silent: bool = False
    error: str | None = None


def eras_of(version: Any, files: Iterable[str], wheels: Wheels | None) -> tuple[Era, ...]:
    """The ways of choosing that an installed bitsandbytes may have: one where its version is known.

    Where it is not, those of the releases that carry all these files; where none does, all of them. Several libraries
    for CUDA come from a wheel, and one that no wheel from 0.50.0 on carries is older, or was built for itself.
    """
    if isinstance(version, str):
        parsed = key(version)
        if parsed is not None:
            started = [era for era in ERAS if (key(era.since) or ()) <= parsed]
            beginning = [era for era in ERAS if _release(era.since) == parsed[1] and era not in started]
            return (*started[-1:], *beginning)  # a development version may choose in either way
    names = frozenset(files)
    found = [
        each.version
        for each in (wheels.all() if wheels is not None and names else ())
        if any(names <= carried.keys() for carried in each.platforms.values())
    ]
    eras = tuple(dict.fromkeys([era for each in found for era in eras_of(each, (), None)]))
    if eras or sum(["_cuda" in name for name in names]) < 2:
        return eras or ERAS
    return tuple([era for era in ERAS if not era.nearest])


def _release(version: str) -> Any:
    parsed = key(version)
    return None if parsed is None else parsed[1]


def choose(era: Era, build: Build, files: frozenset[str], suffix: str) -> Choice:
    """The library that a release of some era loads for a torch build, out of the files that it carries."""
    if build.kind == "xpu":
        return _for_xpu(era, build, files, suffix)
    rocm = build.kind == "rocm"
    name = f"{_PREFIX}{build.kind}"
    numbers = _numbers(build.version)
    if rocm and not era.rocm:
        return Choice(f"{name}{_joined(numbers)}{suffix}", None, error="this release knows no ROCm")
    override = build.rocm_override if rocm else build.cuda_override
    if era.nearest:
        variable = "BNB_ROCM_VERSION" if rocm else "BNB_CUDA_VERSION"
        if override is not None:
            wanted = f"{name}{override}{suffix}"
            if not (override.isascii() and override.isdigit()):
                return Choice(wanted, None, error=f"{variable}={override!r}: value must be digits only")
            return Choice(wanted, wanted if wanted in files else None)
        return _nearest(name, numbers, files, suffix, rocm)
    if rocm and era.refuses and build.cuda_override:
        error = f"BNB_CUDA_VERSION={build.cuda_override} detected for ROCm: clear the variable"
        return Choice(f"{name}{_added(numbers)}{suffix}", None, error=error)
    number = _added(numbers) if not era.small else _joined(numbers)
    small = "_nocublaslt" if era.small and build.capability is not None and build.capability < TURING else ""
    if build.cuda_override and not rocm:
        if small and era.appends:
            small += build.cuda_override
        else:
            number = build.cuda_override
    wanted = f"{name}{number}{small}{suffix}"
    return Choice(wanted, wanted if wanted in files else None, era.silent)


def _for_xpu(era: Era, build: Build, files: frozenset[str], suffix: str) -> Choice:
    versioned = f"{_PREFIX}xpu{(build.version or '')[:4]}{suffix}"
    if era.nearest and versioned in files:
        return Choice(versioned, versioned)
    wanted = f"{_PREFIX}xpu{suffix}"
    return Choice(versioned if era.nearest else wanted, wanted if era.xpu and wanted in files else None)


def _nearest(name: str, numbers: tuple[int, int] | None, files: frozenset[str], suffix: str, rocm: bool) -> Choice:
    wanted = f"{name}{_joined(numbers)}{suffix}"
    carried = {version: file for file in files if (version := version_of(file, name, suffix, rocm)) is not None}
    if numbers is None or numbers in carried:
        return Choice(wanted, carried.get(numbers) if numbers else None)
    same = [version for version in carried if version[0] == numbers[0]]
    lower = [version for version in same if version < numbers]
    if not same:
        return Choice(wanted, None)
    return Choice(wanted, carried[max(lower) if lower else min(same)])


def version_of(file: str, name: str, suffix: str, rocm: bool) -> tuple[int, int] | None:
    """The version for which a file such as libbitsandbytes_cuda126.so was built: (12, 6)."""
    digits = file[len(name) : len(file) - len(suffix)]
    major = 1 if rocm else 2  # of ROCm 7.12 and of CUDA 12.6
    if not (file.startswith(name) and file.endswith(suffix) and digits.isascii() and digits.isdigit()):
        return None
    return (int(digits[:major]), int(digits[major:])) if major < len(digits) < 6 else None


def carried_text(files: Iterable[str], kind: str, suffix: str) -> str:
    """The versions of CUDA or ROCm that some files are for, in words; "" for none."""
    name = f"{_PREFIX}{kind}"
    found = sorted({version for file in files if (version := version_of(file, name, suffix, kind == "rocm"))})
    return ", ".join([f"{major}.{minor}" for major, minor in found])


def _numbers(version: str | None) -> tuple[int, int] | None:
    parts = version.split(".")[:2] if version else []
    if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        return int(parts[0]), int(parts[1])
    return None


def _joined(numbers: tuple[int, int] | None) -> str:
    return "" if numbers is None else f"{numbers[0]}{numbers[1]}"


def _added(numbers: tuple[int, int] | None) -> str:
    return "" if numbers is None else str(numbers[0] * 10 + numbers[1])
