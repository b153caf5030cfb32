"""Rules of the table shown to people: `envguard explain` and `envguard rules`."""

from __future__ import annotations

from envguard.model import HOSTS
from envguard.output.layout import PLAIN_WIDTH, columns, make_page, pad, plain
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
from envguard.versions import satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, Literal, TypeAlias

    from envguard.output.layout import Line, Page
    from envguard.rule import FixTemplate, Need, Rule, When
    from envguard.versions import Clause

    Format: TypeAlias = Literal["text", "json", "jsonl"]

_BOUNDS = {"==": "{} alone", ">=": "from {} on", ">": "after {}", "<": "before {}", "<=": "up to {}", "!=": "not {}"}
_EFFECTS = {"error": "error: blocks", "warning": "warning: degrades", "info": "info: a note, without effect"}


def explain(
    rows: Sequence[Rule],
    *,
    releases: Callable[[str], Sequence[str]] | None = None,
    width: int = PLAIN_WIDTH,
    unicode: bool = True,
    encoding: str | None = None,
) -> str:
    """All rows of one rule id: what they have in common once, then each row with what is its own.

    `releases` gives the known releases of a host, oldest first: with it each row says since and until which it holds.
    """
    return plain(_explain(rows, releases, make_page(width, unicode, encoding)))


def rules_table(
    rows: Iterable[Rule],
    format: Format = "text",
    *,
    width: int = PLAIN_WIDTH,
    unicode: bool = True,
    encoding: str | None = None,
) -> str:
    """Rows as a table to read (`text`), as one JSON array (`json`), or as a JSON object a line (`jsonl`)."""
    if format == "text":
        return plain(_table(list(rows), make_page(width, unicode, encoding)))
    from json import dumps

    objects = [_as_json(rule) for rule in rows]
    return dumps(objects) if format == "json" else "\n".join(map(dumps, objects))


def need_text(need: Need) -> str:
    """What a need asks for, in words; where its author wrote a requirement, as it was written."""
    match need:
        case DistributionNeed():
            return need.wanted.text
        case AnyNeed():
            return _either([wanted.text for wanted in need.wanted])
        case RequirementsNeed():
            return f"what the installed {need.distribution} itself requires{_graver(need)}"
        case RequiredInTurnNeed():
            return f"all that the installed {need.distribution} requires, and what that requires in turn"
        case OwnerNeed():
            where = ", where there is such a module" if need.optional else ""
            return f"import {need.import_name} loads the distribution {_either(need.distributions)}{where}"
        case CopiesNeed():
            return f"one copy of the metadata of {need.wanted.name}"
        case LoadedNeed():
            return f"{need.import_name} imported in the version of {need.distribution} that is installed"
        case WithoutNeed():
            return f"none of {', '.join(need.distributions)} beside {need.instead}"
        case RequiresPythonNeed():
            return f"the Python that the installed {need.distribution} requires"
        case DeviceNeed():
            return f"device {_either(need.kinds)} asked for"
        case RunsOnNeed():
            return f"a device of {_either(need.kinds)}"
        case SchemeNeed():
            return f"scheme {_either(need.schemes)}"
        case WeightsNeed():
            return f"weights stored as {_either(need.forms)}"
        case AcceleratorNeed():
            return f"a visible device of kind {_either(need.kinds)}"
        case CapabilityNeed():
            return f"compute capability >= {need.minimum[0]}.{need.minimum[1]}"
        case MemoryNeed():
            return f"device memory of at least {need.minimum / 1e9:g} GB"
        case DriverNeed():
            return "an NVIDIA driver that answers, where there is one"
        case VisibleNeed():
            return "no environment variable that hides every device"
        case TorchBuildNeed():
            return "a torch built for the device"
        case DriverForCudaNeed():
            oldest = ", ".join(f"CUDA {major}: {driver}" for major, driver in need.oldest)
            return f"an NVIDIA driver for the CUDA of torch (at least: {oldest})"
        case ArchitectureNeed():
            return "a torch build with code for the device's architecture"
        case NativeNeed():
            return _NATIVE[need.aspect].format(need.distribution)
        case PythonNeed():
            return f"Python {need.text}"
        case PythonBuildNeed():
            return "a Python that is not free-threaded"
        case SystemNeed():
            return _either(need.systems)
        case ToolNeed():
            return f"the build tool {need.tool}"
        case VariableNeed():
            return _variable(need)
        case LinksNeed():
            return f"every name that the import of {_either(need.modules)} needs is there"
        case KernelsNeed():
            return f"the compiled kernels of {need.distribution} are loaded, by its own test"
        case WindowNeed():
            return f"releases of {need.distribution} and {need.other} that work together (rules/windows.toml)"
        case TrialNeed():
            return "a tiny model that is quantized with the scheme runs on the device, is saved and loads again"


def _graver(need: RequirementsNeed) -> str:
    """Which of a distribution's requirements count in full, where not all do."""
    parts = []
    if need.imported is not None:
        parts.append(f"to be missing counts in full for {', '.join(need.imported)}")
    if need.compared is not None:
        parts.append(f"a wrong version for {', '.join(need.compared)}")
    return f" ({'; '.join(parts)}; the rest as a warning)" if parts else ""


def owner_of(rule_id: str) -> str:
    """Who a rule is of: the part before the last."""
    return rule_id.rpartition("/")[0].rpartition("/")[2]


def when_text(when: When, owner: str = "") -> str:
    """Which requests a row is for, "" for all; a backend that the owner names already is left out."""
    parts: list[str] = []
    if when.backend is not None and when.backend != (owner,):
        parts.append(", ".join(when.backend))
    for word, values in (
        ("scheme", when.scheme),
        ("any scheme but", when.not_scheme),
        ("to", when.operation),
        ("host", when.host),
        ("device", when.device),
        ("on", when.system),
        ("on a device of", when.accelerator),
    ):
        if values is not None:
            parts.append(f"{word} {_either(values)}")
    parts += [f"{name} {_clauses(clauses)}" for name, clauses in when.release]
    parts += [f"without {name}" for name in when.absent]
    if when.cuda_capability is not None:
        parts.append(f"on a CUDA device of capability {when.cuda_capability[0]}.{when.cuda_capability[1]} or newer")
    parts += [f"where {name} is {_either(values)}" for name, values in when.variable]
    return "; ".join(parts)


def _either(values: Sequence[str]) -> str:
    *most, last = values
    return f"{', '.join(most)} or {last}" if most else last


def _clauses(clauses: tuple[Clause, ...]) -> str:
    return ", ".join(_BOUNDS.get(clause.operator, clause.operator + "{}").format(clause.version) for clause in clauses)


def _variable(need: VariableNeed) -> str:
    if need.refused:
        return f"{need.name} not set to {_either(need.refused)}"
    if need.allowed:
        return f"{need.name} {'not set or ' if need.unset else ''}set to {_either(need.allowed)}"
    return f"{need.name} set"


def _fix_text(fix: FixTemplate) -> str:
    parts: list[str] = []
    if fix.install:
        parts.append(f"install {', '.join(wanted.text for wanted in fix.install)}")
    if fix.uninstall:
        parts.append(f"uninstall {', '.join(fix.uninstall)}")
    if fix.torch:
        parts.append("install a torch build that fits the machine's driver")
    if fix.carried:
        parts.append(f"install a release of {fix.carried} whose compiled library this machine loads")
    if fix.unset:
        parts.append(f"unset {', '.join(fix.unset)}")
    if fix.window:
        one, other = fix.window
        parts.append(f"install a release of {one} that works with the {other} that is there, or the other way round")
    if fix.text:
        parts.append(fix.text)
    return "; ".join(parts)


_TRIED = (
    "in a process of its own, within {:g} s or what --timeout says: its result with the unquantized model's, within the"
    " error of the scheme; that of the model saved and loaded with its own, bit for bit"
)
_TRIALS = (
    "a deep look alone (envguard check --deep, envguard.smoke, deep=True in the pytest marker), where every other rule"
    " lets the backend run"
)


# One rule


def _explain(rows: Sequence[Rule], releases: Callable[[str], Sequence[str]] | None, page: Page) -> Iterator[Line]:
    common, owns = told(rows, releases)
    yield from page.wrap([], page.show(rows[0].id), "  ", "strong")
    yield from _shown(common, page)
    for number, own in enumerate(owns, 1):
        if own:
            yield []
            yield [(f"row {number} of {len(rows)}", "strong")]
            yield from _shown(own, page)


def told(
    rows: Sequence[Rule], releases: Callable[[str], Sequence[str]] | None
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What all rows of one id have in common, and what each has of its own: label -> text."""
    fields = [_fields(rule, releases) for rule in rows]
    common = {label: text for label, text in fields[0].items() if all(each[label] == text for each in fields)}
    return common, [{label: text for label, text in each.items() if label not in common} for each in fields]


def _fields(rule: Rule, releases: Callable[[str], Sequence[str]] | None) -> dict[str, str]:
    need = rule.need
    compared = f"as {need.comparison}, read from {need.fact}" if isinstance(need, DistributionNeed) else ""
    every = "every request"
    if isinstance(need, TrialNeed):
        compared, every = _TRIED.format(need.seconds), _TRIALS
    return {
        "needed": need_text(need),
        "match": compared,
        "for": when_text(rule.when, owner_of(rule.id)) or every,
        "holds": "" if releases is None else "; ".join(_held(rule, releases)),
        "effect": f"{_EFFECTS[rule.severity]} ({rule.kind})",
        "why": rule.why,
        "fix": _fix_text(rule.fix),
        "after": f"{', '.join(rule.after)} (skipped where not met)" if rule.after else "",
        "source": f"{rule.source} ({rule.origin})",
        "checked": f"{rule.checked}, in {rule.file}" if rule.file else "",
    }


def _held(rule: Rule, releases: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """Since and until which of the known releases of its hosts a row holds."""
    bounds = dict(rule.when.release)
    for host in rule.when.host or bounds:
        known = releases(host)
        if host not in HOSTS or not known:
            continue
        held = [version for version in known if satisfies(version, bounds.get(host, ()), "version")]
        if len(held) == len(known):
            yield f"in every release of {host} (up to {known[-1]}, the newest known)"
        elif not held:
            yield f"in no release of {host} up to {known[-1]}, the newest known"
        else:
            since = f" since {held[0]}" if held[0] != known[0] else ""
            yield f"{host}{since}" + (f" until {held[-1]}" if held[-1] != known[-1] else "")


def _shown(fields: dict[str, str], page: Page) -> Iterator[Line]:
    for label, text in fields.items():
        if text:
            yield from page.field(label, page.prose(text))


# Many rules


def _table(rows: list[Rule], page: Page) -> Iterator[Line]:
    ids = min(max((columns(page.show(rule.id)) for rule in rows), default=0), page.width // 2)
    for rule in rows:
        when = when_text(rule.when, owner_of(rule.id))
        said = page.show(need_text(rule.need)) + (page.show(f" [{when}]") if when else "")
        start = f"{pad(page.clip(page.show(rule.id), ids), ids)}  {rule.severity:<7}  "
        yield from page.wrap([(start, "strong")], said, " " * columns(start))


def _as_json(rule: Rule) -> dict[str, Any]:
    when, fix = rule.when, rule.fix
    return {
        "id": rule.id,
        "needed": need_text(rule.need),
        "when": {
            **{name: list(values) for name in _WHEN if (values := getattr(when, name)) is not None},
            "release": {name: ",".join(map(_specifier, clauses)) for name, clauses in when.release},
            **({"variable": {name: list(values) for name, values in when.variable}} if when.variable else {}),
            **({"absent": list(when.absent)} if when.absent else {}),
            **({"cuda_capability": "{}.{}".format(*when.cuda_capability)} if when.cuda_capability else {}),
        },
        "severity": rule.severity,
        "kind": rule.kind,
        "why": rule.why,
        "fix": {
            "install": [wanted.text for wanted in fix.install],
            "uninstall": list(fix.uninstall),
            "torch": fix.torch,
            "unset": list(fix.unset),
            "text": fix.text,
            **({"carried": fix.carried} if fix.carried else {}),
            **({"window": list(fix.window)} if fix.window else {}),
        },
        "after": list(rule.after),
        "origin": rule.origin,
        "source": rule.source,
        "checked": rule.checked or None,
        "file": rule.file or None,
    }


_NATIVE = {
    "library": "the compiled library of {} for the torch build is there",
    "override": "the compiled library of {} that BNB_CUDA_VERSION or BNB_ROCM_VERSION names is there",
    "machine": "the compiled library of {} is for this machine",
    "links": "the loader finds what the compiled library of {} links",
    "libc": "the C and C++ libraries are new enough for the compiled library of {}",
    "architectures": "the compiled library of {} has code for the GPU",
}


_WHEN = ("backend", "scheme", "not_scheme", "operation", "host", "device", "system", "accelerator")


def _specifier(clause: Clause) -> str:
    return clause.operator + clause.version
