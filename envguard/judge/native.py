"""Needs about compiled libraries: the one that would really be loaded is there, for this machine, and loads.

Of bitsandbytes that is one library, chosen by the torch build (`libraries.py`); of torchao all of its `_C*.so`. What
the installed files say comes first; where they were not observed, what the released wheel of that version carries.
"""

from __future__ import annotations

from envguard.frozen import Frozen, replace
from envguard.judge.subject import Finding, SeenDevice, Subject, plain_machine, text_of, undecided
from envguard.libraries import SUFFIXES, TURING, Build, Choice, Library, carried_text, choose, eras_of
from envguard.model import NOT_OBSERVED, Request, Unreadable
from envguard.versions import key, parse_clauses, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from envguard.libraries import Era, Released, Wheels
    from envguard.model import Environment
    from envguard.rule import NativeNeed

BITSANDBYTES = "bitsandbytes"
_FIRST = key("0.43.0") or ()  # older releases choose in another way, and the rules refuse them
_CPU = "libbitsandbytes_cpu"
_SPEAKS = {"cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU"}
# What every Linux with glibc has: Python itself was linked with it, or torch.
_ALWAYS = ("libc.so.", "libm.so.", "libpthread.so.", "libdl.so.", "librt.so.", "libgcc_s.so.", "libstdc++.so.", "ld-")
# What torch's own libraries link, and so have loaded before anything else, in the CUDA major that torch was built with.
# Not nvJitLink of CUDA 13, and nothing of CUDA 11, whose wheels carry some of these under names of their own.
_OF_TORCH = {
    "12": ("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcusparse.so.12", "libnvJitLink.so.12"),
    "13": ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcusparse.so.12"),
}
_TORCHS = ("libc10", "libtorch", "libshm")
# What GCC 8 brought, with which every distribution of this glibc came.
_GLIBC = key("2.28") or ()
_RECENT = {"GLIBCXX": key("3.4.25") or (), "CXXABI": key("1.3.11") or ()}
_UNSEEN = Unreadable("the compiled libraries were not observed")


class Facts(Frozen):
    """What decides about the compiled libraries of one distribution, as an environment tells it.

    Of the version of torch's build it is whether that is a CPU build, of the highest compute capability of the visible
    NVIDIA devices whether it is below `TURING`: nothing else about them makes a difference.
    """

    version: Any
    released: bool
    libraries: Any
    system: Any
    machine: Any
    libc: Any
    libstdcxx: Any
    cxxabi: Any
    build: Any
    asked: str
    capability: tuple[int, int] | None
    device: Any
    devices: Any
    cuda_override: str | None
    rocm_override: str | None
    found: Any
    loaded: Any


_last: list[tuple[Any, ...]] = [(None, None, None)]  # one entry, taken and replaced whole: threads may share it


def facts_of(subject: Subject, distribution: str) -> Facts | None:
    """The `Facts` of a distribution; those of the last environment are kept, because several needs ask for them."""
    last = _last[0]
    if last[0] is not subject or last[1] != distribution:
        last = _last[0] = subject, distribution, _facts(subject, distribution)
    facts: Facts | None = last[2]
    return facts


def asked_by(aspect: str, facts: Facts) -> Facts:
    """What one of the needs about a library asks: fewer environments differ in that."""
    libc = (facts.libc, facts.libstdcxx, facts.cxxabi) if aspect == "libc" else (None, None, None)
    devices = (facts.device, facts.devices) if aspect == "architectures" else (None, None)
    return Facts(*facts[:_LIBC], *libc, *facts[_LIBC + 3 : _DEVICE], *devices, *facts[_DEVICE + 2 :])  # type: ignore[index]


_LIBC, _DEVICE = Facts.__match_args__.index("libc"), Facts.__match_args__.index("device")


def _facts(subject: Subject, distribution: str) -> Any:
    environment, data = subject.environment, subject.environment.data
    version = environment.version(distribution)
    if version is None:
        return None

    def fact(section: str, key: str) -> Any:
        # most snapshots lack most of these sections, and an exception for each would double the time
        return environment.fact(section, key) if section in data or "unreadable" in data else NOT_OBSERVED

    listed = fact("native_libraries", distribution)
    entry = environment.distribution(distribution)
    found = environment.section("system_libraries")
    kernels = fact("compiled_kernels", distribution)
    variables = data.get("environment_variables") or {}
    host = data.get("host") or {}
    libc, libstdcxx, cxxabi = (
        host[name] if name in host else fact("host", name) for name in ("libc", "libstdcxx", "cxxabi")
    )
    return Facts(
        version,
        # an editable checkout is no wheel, and conda's packages carry other libraries
        not (isinstance(entry, dict) and (entry.get("editable") or entry.get("installer") == "conda")),
        tuple(map(_library, listed)) if isinstance(listed, list) else listed,
        fact("host", "system"),
        fact("host", "machine"),
        libc,
        libstdcxx,
        cxxabi,
        _build_of(subject.build),
        subject.request.device_kind,
        _capability(subject.devices),
        subject.device,
        subject.devices,
        variables.get("BNB_CUDA_VERSION"),
        variables.get("BNB_ROCM_VERSION"),
        tuple([(name, path is not None) for name, path in found.items()]) if isinstance(found, dict) else found,
        kernels.get("loaded") if isinstance(kernels, dict) else None,
    )


def _build_of(build: Any) -> Any:
    if build is None or isinstance(build, Unreadable) or isinstance(build[0], Unreadable):
        return build
    return "+cpu" if str(build[0]).endswith("+cpu") else "", *build[1:]


def _capability(devices: Any) -> tuple[int, int] | None:
    from envguard.cuda import parse_capability

    seen = () if isinstance(devices, Unreadable) else devices
    found = [parse_capability(device.capability) for device in seen if device.kind == "cuda"]
    highest = max([each for each in found if each], default=None)
    return highest if highest is None else min(highest, TURING)


def _library(entry: Mapping[str, Any]) -> Library:
    needs, archs = entry.get("needs"), entry.get("gpu_archs")
    return Library(
        entry["file"].replace("\\", "/").rpartition("/")[2],
        entry.get("machine"),
        None if needs is None else tuple(needs),
        entry.get("glibc"),
        entry.get("glibcxx"),
        entry.get("cxxabi"),
        None if archs is None else tuple(archs),
    )


class Selection(Frozen):
    """What would be loaded: by each way of choosing that the installed release may have, and out of which libraries.

    `kind` is cuda, rocm or xpu; None where that was not observed. `origin` is files, or windows for the table of
    released wheels.
    """

    kind: str | None
    build: Build | None
    choices: tuple[Choice, ...]
    libraries: Mapping[str, Library]
    origin: str

    @property
    def file(self) -> str | None:
        """The one library that is loaded; None where that is not known, or where none is."""
        files = {choice.file for choice in self.choices}
        return files.pop() if len(files) == 1 else None


_selections: dict[Facts, Any] = {}
_MOST_SELECTIONS = 500  # the needs of one rule after the other ask for the same


def selection(facts: Facts, wheels: Wheels | None) -> Selection | Unreadable | None:
    """What would be loaded; Unreadable where that was not observed, None where no library is for a GPU."""
    asked = asked_by("library", facts)
    if asked not in _selections:
        if len(_selections) >= _MOST_SELECTIONS:
            _selections.clear()
        _selections[asked] = _select(asked, wheels)
    found: Selection | Unreadable | None = _selections[asked]
    return found


def _select(facts: Facts, wheels: Wheels | None) -> Selection | Unreadable | None:
    kind = _kind(facts)
    if kind is None:
        return None
    carried, origin = _carried(facts, wheels)
    if isinstance(carried, Unreadable):
        return carried
    if isinstance(kind, Unreadable):
        return Selection(None, None, (), carried, origin)
    build = _build(facts, kind)
    files = frozenset(carried)
    suffix = suffix_of(facts.system, files)
    eras = eras_of(facts.version, files, wheels)
    return Selection(kind, build, tuple([choose(era, build, files, suffix) for era in eras]), carried, origin)


def _build(facts: Facts, kind: str) -> Build:
    _, cuda, hip, xpu = facts.build
    version = {"cuda": cuda, "rocm": hip, "xpu": xpu}[kind]
    return Build(kind, version, facts.capability, facts.cuda_override, facts.rocm_override)


def suffix_of(system: Any, files: Iterable[str]) -> str:
    """What the names of libraries end in: by the system, else as those that are there."""
    known = SUFFIXES.get(system) if isinstance(system, str) else None
    return known or next((end for end in (".dll", ".dylib") if any(file.endswith(end) for file in files)), ".so")


def _kind(facts: Facts) -> Any:
    """cuda, rocm or xpu: what torch was built for; None where that is no GPU, Unreadable where it was not observed."""
    build = facts.build
    if build is None:
        return None
    if isinstance(build, Unreadable):
        return build
    for kind, version in zip(("cuda", "rocm", "xpu"), build[1:]):
        if isinstance(version, str):
            return kind
    if isinstance(build[1], Unreadable):
        return None if isinstance(build[0], str) and build[0].endswith("+cpu") else build[1]
    unseen = [fact for fact in build[2:] if isinstance(fact, Unreadable)]
    return unseen[0] if unseen and facts.asked != "cuda" else None


def _carried(facts: Facts, wheels: Wheels | None) -> tuple[Any, str]:
    """The libraries by name, and where that is from: the files, else the released wheel of that version."""
    has_wheel = wheels is not None and facts.released and isinstance(facts.version, str)
    known = wheels.of(facts.version) if wheels is not None and has_wheel else None
    wheel = _wheel(known, facts.system, facts.machine)
    if type(facts.libraries) is tuple:
        named = {library.file: library for library in facts.libraries}
        if wheel is not None and named.keys() <= wheel.keys():  # what was not read of a file stands in the table
            return {name: _completed(library, wheel[name]) for name, library in named.items()}, "files"
        return named, "files"
    return (facts.libraries, "files") if wheel is None else (wheel, "table")


def _completed(seen: Library, known: Library) -> Library:
    if seen.machine is not None and seen.machine != known.machine:
        return seen
    return Library(*[there if own is None else own for own, there in zip(seen, known)])  # type: ignore[call-overload]


def _wheel(release: Released | None, system: Any, machine: Any) -> Mapping[str, Library] | None:
    """What the wheel of a release for a machine carries; None where it is not known, or where there is no such wheel:
    what is installed then came from elsewhere.
    """
    if release is None or not isinstance(system, str) or not isinstance(machine, str):
        return None
    return release.platforms.get((system, plain_machine(machine)))


def judge_library(need: NativeNeed, facts: Facts, wheels: Wheels | None) -> Finding | None:
    """One question about the compiled library that would be loaded."""
    aspect = need.aspect
    if need.distribution != BITSANDBYTES:
        return _extensions(aspect, facts)
    if aspect == "machine":
        return _machine(facts, selection(facts, wheels))
    if aspect == "override" and facts.cuda_override is None and facts.rocm_override is None:
        return None
    parsed = key(facts.version) if isinstance(facts.version, str) else None
    if parsed is not None and parsed < _FIRST:
        return None
    chosen = selection(facts, wheels)
    if chosen is None:
        return None
    if isinstance(chosen, Unreadable):
        return undecided(_NEEDED[aspect], chosen)
    finding = _ASPECTS[aspect](facts, chosen)
    if finding is None:
        return None
    # Intel GPUs are served by plain torch where the library does not load
    severity = "warning" if chosen.kind == "xpu" else finding.severity
    return replace(finding, origin=chosen.origin, severity=severity)


def chosen_of(environment: Environment) -> frozenset[str]:
    """The names of the libraries that bitsandbytes may load for a GPU, of those that are there.

    All where there is a GPU and none is for it: then it matters what they are.
    """
    facts = facts_of(Subject(environment, Request(BITSANDBYTES)), BITSANDBYTES)
    chosen = None if facts is None else selection(facts, None)
    if not isinstance(chosen, Selection):
        return frozenset()
    found = frozenset([choice.file for choice in chosen.choices if choice.file is not None])
    return found or frozenset(chosen.libraries)


_NEEDED = {
    "library": "a compiled library for the torch build",
    "override": "a compiled library of the version that the variable names",
    "links": "every library that the compiled library links",
    "libc": "the C and C++ libraries that the compiled library needs",
    "architectures": "a compiled library with code for the GPU",
}


def _library_there(facts: Facts, chosen: Selection) -> Finding | None:
    release = f"bitsandbytes {facts.version}" if isinstance(facts.version, str) else "the installed bitsandbytes"
    if chosen.kind is None or chosen.build is None:
        needed = "a compiled library for the GPU"
        override = facts.cuda_override
        if override:
            needed = f"libbitsandbytes_cuda{override}, which BNB_CUDA_VERSION={override} asks for"
        return _none_at_all(chosen, needed, release) or undecided(needed, _unknown_build(facts))
    kind, version = chosen.kind, chosen.build.version
    found = [choice for choice in chosen.choices if choice.file]
    missing = [choice for choice in chosen.choices if not choice.file]
    wanted = (missing or found)[0].wanted
    needed = f"{wanted} for {_SPEAKS[kind]} {version} of torch"
    if not missing:
        file = chosen.file
        if file is None:
            return undecided(needed, Unreadable("which release of bitsandbytes this is was not observed"))
        return Finding("met", needed, file if file == wanted else f"{file}, the nearest of the same major")
    if found:
        return Finding("undecided", needed, f"not there; whether {release} takes {found[0].file} instead depends on it")
    if kind == "xpu":
        return _without_xpu(needed, chosen)
    override = _override(chosen)
    if override and chosen.libraries:
        needed = f"{wanted}, which {override} asks for"
        plain = replace(chosen.build, cuda_override=None, rocm_override=None)
        files = frozenset(chosen.libraries)
        if all(choose(era, plain, files, suffix_of(facts.system, files)).file for era in _eras(facts, chosen)):
            return None  # without the variable it would be there: a rule of its own tells that
    none = _none_at_all(chosen, needed, release)
    if none is not None:
        return none
    error = missing[0].error
    if error:
        return Finding("unmet", needed, f"{release}: {error}")
    carried = carried_text(chosen.libraries, kind, suffix_of(facts.system, chosen.libraries))
    has = f"{release} carries {_SPEAKS[kind]} {carried}" if carried else f"{release} carries none for {_SPEAKS[kind]}"
    silent = all(choice.silent for choice in missing) and f"{_CPU}{suffix_of(facts.system, chosen.libraries)}"
    instead = f"; it loads {silent} instead, without a word" if silent in chosen.libraries else ""
    return Finding("unmet", needed, has + instead)


def _without_xpu(needed: str, chosen: Selection) -> Finding | None:
    """Intel GPUs run without a library too, in Triton and plain torch."""
    if any(choice.wanted in chosen.libraries for choice in chosen.choices):
        return None
    return Finding("unmet", needed, "no such library; plain torch operations take its place")


def _none_at_all(chosen: Selection, needed: str, release: str) -> Finding | None:
    gpu = [file for file in chosen.libraries if not file.startswith(_CPU)]
    if gpu:
        return None
    if chosen.libraries:
        return Finding("unmet", needed, f"{release} holds {', '.join(sorted(chosen.libraries))} alone, no GPU code")
    return Finding("unmet", needed, f"no compiled library at all: {release} is a source checkout or an empty build")


def _override(chosen: Selection) -> str | None:
    """The variable that names another version, as it is set, where it decides."""
    build = chosen.build
    if build is None or not chosen.choices:
        return None
    if build.kind == "cuda" and build.cuda_override is not None:
        return f"BNB_CUDA_VERSION={build.cuda_override}"
    if build.kind == "rocm" and build.rocm_override is not None and not chosen.choices[0].error:
        return f"BNB_ROCM_VERSION={build.rocm_override}"
    return None


def _eras(facts: Facts, chosen: Selection) -> tuple[Era, ...]:
    return eras_of(facts.version, chosen.libraries, None)


def _override_there(facts: Facts, chosen: Selection) -> Finding | None:
    build = chosen.build
    if build is None or not chosen.choices or (build.cuda_override is None and build.rocm_override is None):
        return None
    refused = next((choice.error for choice in chosen.choices if choice.error), None)
    override = _override(chosen)
    if override is None and refused is None:
        return None
    choice = chosen.choices[0]
    needed = f"{choice.wanted}, which {override} asks for" if override else "no BNB_CUDA_VERSION under ROCm"
    if all(each.file for each in chosen.choices):
        return Finding("met", needed, choice.file or "")
    if any(each.file for each in chosen.choices):
        return None
    plain = replace(build, cuda_override=None, rocm_override=None)
    files = frozenset(chosen.libraries)
    without = [choose(era, plain, files, suffix_of(facts.system, files)).file for era in _eras(facts, chosen)]
    if not all(without):
        return None  # with or without it, no library is there
    return Finding("unmet", needed, f"{refused or 'no such library'}; unset, {without[0]} would be loaded")


def _machine(facts: Facts, chosen: Selection | Unreadable | None) -> Finding | None:
    if chosen is None:
        return None
    if not isinstance(facts.machine, str):
        return undecided("compiled libraries for this machine", facts.machine)
    needed = f"compiled libraries for {plain_machine(facts.machine)}"
    if isinstance(chosen, Unreadable):
        return undecided(needed, chosen)
    if chosen.file is not None:
        return _made_for([chosen.libraries[chosen.file]], facts.machine, chosen.origin)
    return _made_for(list(chosen.libraries.values()), facts.machine, chosen.origin)


def _made_for(files: Sequence[Library], machine: str, origin: str) -> Finding | None:
    """Libraries of which one is loaded: they are for this machine, or none of them is."""
    here = plain_machine(machine)
    needed = f"{_some(files, 'compiled libraries')} for {here}"
    known = [library for library in files if library.machine is not None]
    wrong = [library for library in known if here not in str(library.machine).split(" and ")]
    if wrong and len(wrong) == len(files):
        made = sorted({str(library.machine) for library in wrong})
        return Finding("unmet", needed, f"{_some(wrong)} built for {' and '.join(made)}", origin=origin)
    if len(known) < len(files):
        return undecided(needed, Unreadable("for which machine they were built was not observed"))
    return Finding("met", needed, f"{_some(files)} for {here}", origin=origin) if files else None


def _some(files: Sequence[Library], many: str = "") -> str:
    return files[0].file if len(files) == 1 else many or f"{len(files)} libraries"


def _unknown_build(facts: Facts) -> Unreadable:
    """Why the kind of torch's build is not known."""
    kind = _kind(facts)
    return kind if isinstance(kind, Unreadable) else NOT_OBSERVED


def _chosen_library(chosen: Selection) -> Library | None:
    return None if chosen.file is None else chosen.libraries[chosen.file]


def _links(facts: Facts, chosen: Selection) -> Finding | None:
    library = _chosen_library(chosen)
    if library is None:
        return None if chosen.choices else undecided(_NEEDED["links"], _unknown_build(facts))
    return _linked(library, facts)


def _linked(library: Library, facts: Facts) -> Finding:
    if library.needs is None:
        return Finding("undecided", f"what {library.file} links", "it was not observed")
    needed = f"what {library.file} links: {', '.join(library.needs)}"
    missing, unknown = missing_of(library.needs, facts)
    if missing:
        names = ", ".join(missing)
        return Finding("unmet", f"{names}, which {library.file} links", f"{names}: cannot open shared object file")
    if unknown:
        return Finding("undecided", f"{', '.join(unknown)}, which {library.file} links", "not observed")
    return Finding("met", needed, "the loader finds all of them")


def missing_of(needs: Sequence[str], facts: Facts) -> tuple[list[str], list[str]]:
    """Of some libraries those that the loader does not find, and those of which that is not known."""
    found = dict(facts.found) if type(facts.found) is tuple else {}
    cuda = facts.build[1] if type(facts.build) is tuple else None
    torch = _OF_TORCH.get(cuda.partition(".")[0], ()) if isinstance(cuda, str) else ()
    missing, unknown = [], []
    for name in needs:
        there = found.get(name)
        if there is None and name.lower().endswith(".dll"):
            continue  # what Windows has of its own, and what torch brings, is not listed
        if there is False:
            missing.append(name)
        elif there is None and not name.startswith((*_ALWAYS, *_TORCHS)) and name not in torch:
            unknown.append(name)
    return missing, unknown


def _libc(facts: Facts, chosen: Selection) -> Finding | None:
    library = _chosen_library(chosen)
    if library is None:
        return None if chosen.choices else undecided(_NEEDED["libc"], _unknown_build(facts))
    return _versions(library, facts)


def _versions(library: Library, facts: Facts) -> Finding | None:
    if not library.file.endswith(".so"):
        return None
    if library.glibc is None and library.glibcxx is None and library.cxxabi is None:
        if library.needs is not None and not any(name.startswith("libc.so") for name in library.needs):
            return None
        return undecided(f"the C and C++ libraries that {library.file} needs", Unreadable("they were not observed"))
    libc = facts.libc
    musl = isinstance(libc, str) and not libc.startswith("glibc ")
    here: Any = libc.partition(" ")[2] if isinstance(libc, str) else libc
    recent = isinstance(here, str) and not musl and (key(here) or ()) >= _GLIBC
    wants = [
        ("GLIBC", library.glibc, here, f"{libc}" if isinstance(libc, str) else ""),
        ("GLIBCXX", library.glibcxx, facts.libstdcxx, f"libstdc++ with GLIBCXX_{text_of(facts.libstdcxx)}"),
        ("CXXABI", library.cxxabi, facts.cxxabi, f"libstdc++ with CXXABI_{text_of(facts.cxxabi)}"),
    ]
    unknown: list[Any] = []
    for name, wanted, there, said in wants:
        if wanted is None:
            continue
        needed = f"{name}_{wanted} for {library.file}"
        if isinstance(there, Unreadable):
            if not (recent and name in _RECENT and (key(wanted) or ()) <= _RECENT[name]):
                unknown.append(there)
        elif there is None:
            return Finding("unmet", needed, "no glibc" if name == "GLIBC" else "no libstdc++.so.6")
        elif name == "GLIBC" and musl:
            return Finding("unmet", needed, f"{libc}, not glibc")
        elif (key(there) or ()) < (key(wanted) or ()):
            return Finding("unmet", needed, f"{said}: version {name}_{wanted} not found")
    needed = f"the C and C++ libraries that {library.file} needs"
    if unknown:
        return undecided(needed, *unknown)
    newest = f", GLIBCXX_{text_of(facts.libstdcxx)}" if library.glibcxx is not None else ""
    return Finding("met", needed, f"{libc}{newest}")


def _architectures(facts: Facts, chosen: Selection) -> Finding | None:
    if chosen.kind != "cuda":
        return _targets(facts, chosen)
    library = _chosen_library(chosen)
    if library is None:
        return None if chosen.choices else undecided(_NEEDED["architectures"], _unknown_build(facts))
    devices = facts.devices
    needed = f"code for the GPU in {library.file}"
    if isinstance(devices, Unreadable):
        return undecided(needed, devices)
    device = facts.device if isinstance(facts.device, SeenDevice) else None
    if device is None or device.kind != "cuda":
        return None
    if library.gpu_archs is None:
        return undecided(needed, Unreadable("the architectures of its code were not observed"))
    from envguard.cuda import carries

    fits = carries(library.gpu_archs, device.capability)
    if fits is None:
        return undecided(needed, Unreadable("the compute capability of the GPU was not observed"))
    own = f"compute capability {device.capability} of {device.name or 'the GPU'}"
    if fits:
        return Finding("met", needed, own)
    number = str(device.capability).replace(".", "")
    carried = ", ".join(library.gpu_archs) or "no GPU code"
    return Finding("unmet", f"sm_{number} for {own} in {library.file}", f"it carries {carried}: no kernel image")


def _targets(facts: Facts, chosen: Selection) -> Finding | None:
    """The same for ROCm, where code runs on the very target that it was made for."""
    library = _chosen_library(chosen)
    device = facts.device if isinstance(facts.device, SeenDevice) else None
    if library is None or not library.gpu_archs or device is None or not device.arch:
        return None
    target = device.arch.partition(":")[0]
    status = "met" if any(each.partition(":")[0] == target for each in library.gpu_archs) else "unmet"
    needed = f"{target} of {device.name or 'the GPU'} in {library.file}"
    return Finding(status, needed, f"it carries {', '.join(library.gpu_archs)}")  # type: ignore[arg-type]


_ASPECTS = {
    "library": _library_there,
    "override": _override_there,
    "links": _links,
    "libc": _libc,
    "architectures": _architectures,
}


def _extensions(aspect: str, facts: Any) -> Finding | None:
    """The same questions about torch extensions, all of which are loaded: the first that does not load is told."""
    if facts is None or facts.loaded is False or type(facts.libraries) is not tuple:
        return None  # which kernels are skipped, and that some were not observed, is another rule's to say
    cuda = facts.build[1] if type(facts.build) is tuple else None
    libraries = [each for each in facts.libraries if each.file.endswith((".so", ".pyd"))]
    if not libraries or not isinstance(cuda, str):
        return None
    if aspect == "machine":
        return _made_for(libraries, facts.machine, "files") if isinstance(facts.machine, str) else None
    findings = [
        _linked(each, facts) if aspect == "links" else _versions(each, facts)
        for each in libraries
        if each.needs is not None
    ]
    said = [finding for finding in findings if finding is not None]
    return next((each for each in said if each.status == "unmet"), said[0] if said else None)


def what_loads(facts: Facts) -> Facts:
    """What of some facts decides which releases load: nothing about the one that is there, nor an override.

    What was not observed of the machine is no hindrance.
    """
    return replace(
        facts,
        version=None,
        released=True,
        libraries=_UNSEEN,
        system=facts.system if isinstance(facts.system, str) else "Linux",
        machine=facts.machine if isinstance(facts.machine, str) else "x86_64",
        cuda_override=None,
        rocm_override=None,
        loaded=None,
    )


def releases_that_load(facts: Facts, wheels: Wheels) -> tuple[bool | None, ...]:
    """Whether the wheel of each release has what `what_loads` tells, oldest first; None where of its library no more
    than the name is known.
    """
    return tuple([_loads(each, facts) for each in wheels.all()])


def releases_for(python: Any, torch: Any, wheels: Wheels) -> tuple[bool, ...]:
    """Whether each release is for a version of Python and of torch, oldest first; what was not observed is none."""
    return tuple([_is_for(each, python, torch) for each in wheels.all()])


def _is_for(release: Released, python: Any, torch: Any) -> bool:
    clauses = parse_clauses(release.python) if release.python else ()
    if isinstance(python, str) and satisfies(python, clauses, "specifier") is False:
        return False
    wanted = [parse_wanted(text.replace("(", "").replace(")", "")) for text in release.requires]
    return not isinstance(torch, str) or not any(
        each.name == "torch" and satisfies(torch, each.clauses, "specifier") is False for each in wanted
    )


def _loads(release: Released, facts: Facts) -> bool | None:
    carried = _wheel(release, facts.system, facts.machine)
    if not carried:
        return False
    kind = _kind(facts)
    if not isinstance(kind, str):
        return True
    files = frozenset(carried)
    (era,) = eras_of(release.version, (), None)
    file = choose(era, _build(facts, kind), files, suffix_of(facts.system, files)).file
    if file is None:
        return False
    library = carried[file]
    asked = replace(facts, version=release.version)
    chosen = Selection(kind, None, (Choice(file, file),), carried, "table")
    findings = (_versions(library, asked), _architectures(asked, chosen), _linked(library, asked))
    if any(finding is not None and finding.status == "unmet" for finding in findings):
        return False
    return None if library.needs is None else True
