"""What one `[[rule]]` may say: when it applies, what it needs and how that is mended."""

from __future__ import annotations

import datetime

from envguard.errors import BadRules
from envguard.model import OPERATIONS, WEIGHTS
from envguard.rule import NATIVE_ASPECTS
from envguard.rulefiles.forms import (
    a_text,
    are_plain,
    is_capability,
    is_clauses,
    is_number,
    is_table,
    is_text,
    is_version,
    is_wanted,
    list_from,
    list_of,
    one_of,
    only,
    shown,
)
from envguard.versions import parse_clauses, parse_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from envguard.rulefiles.forms import Table

SEVERITIES = ("error", "warning", "info")
KINDS = ("absent", "version", "hardware", "platform", "broken", "configuration", "advisory")
ORIGINS = ("baseline", "host", "metadata", "files", "table")
EFFECTS = ("import-fails", "aborts", "kernels-skipped", "feature-lost")
DEVICES = ("auto", "cuda", "rocm", "xpu", "mps", "cpu")
ACCELERATORS = ("cuda", "rocm", "xpu", "mps")
WHEN_HOSTS = ("diffusers", "transformers", "none")
SYSTEMS = ("Linux", "Windows", "Darwin")
TOOLS = ("nvcc", "ninja", "cxx", "cc", "python_headers", "cuda_home", "msvc")
_RULE_KEYS = {"id", "need", "severity", "kind", "why", "fix", "origin", "source", "checked"}
_OPTIONAL_RULE_KEYS = {"when", "fact", "comparison", "after"}
_WHEN_KEYS = {
    "absent",
    "accelerator",
    "backend",
    "cuda_capability",
    "device",
    "host",
    "not_scheme",
    "operation",
    "release",
    "scheme",
    "system",
    "variable",
}
_FIXES = ("install", "uninstall", "torch", "unset", "text", "carried", "window")
_PLAIN = "comparisons by >=, >, <=, <, == or != with whole versions"


def check_row(where: str, row: Any, backends: set[str]) -> None:
    """Refuse a `[[rule]]` that does not hold to the format by itself. Raises BadRules."""
    only(where, row, _RULE_KEYS, _OPTIONAL_RULE_KEYS)
    a_text(where, "id", row["id"])
    if not _is_id(row["id"]):
        raise BadRules(f"{where}: id: expected owner/name in lower case, found {row['id']!r}")
    where = f"{where} {row['id']}"
    one_of(where, "severity", row["severity"], SEVERITIES)
    one_of(where, "kind", row["kind"], KINDS)
    one_of(where, "origin", row["origin"], ORIGINS)
    a_text(where, "why", row["why"])
    a_text(where, "source", row["source"])
    if type(row["checked"]) is not datetime.date:
        raise BadRules(f"{where}: checked: expected a date such as 2026-11-22, found {row['checked']!r}")
    _check_when(where, row.get("when", {}), backends)
    _check_need(where, row, backends)
    _check_fix(where, row["fix"])
    if "after" in row:
        list_of(where, "after", row["after"], _is_id, "rule ids")
    if row["origin"] == "host" and len(row.get("when", {}).get("host", ())) != 1:
        raise BadRules(f"{where}: when.host: expected exactly one host, because the rule's origin is that host")


def _check_when(where: str, when: Any, backends: set[str]) -> None:
    only(f"{where}: when", when, set(), _WHEN_KEYS)
    allowed: dict[str, Iterable[str]] = {
        "backend": sorted(backends),
        "operation": OPERATIONS,
        "host": WHEN_HOSTS,
        "device": DEVICES,
        "system": SYSTEMS,
        "accelerator": ACCELERATORS,
    }
    for name, values in allowed.items():
        if name in when:
            choices = tuple(values)
            list_of(where, f"when.{name}", when[name], choices.__contains__, f"of {', '.join(choices)}")
    for name in ("scheme", "not_scheme"):
        if name in when:
            list_of(where, f"when.{name}", when[name], is_text, "schemes")
    if "scheme" in when and "not_scheme" in when:
        raise BadRules(f"{where}: when.not_scheme: expected one of scheme and not_scheme, found both")
    if "absent" in when:
        list_of(where, "when.absent", when["absent"], is_text, "distributions")
    if "cuda_capability" in when and not is_capability(when["cuda_capability"]):
        raise BadRules(f"{where}: when.cuda_capability: expected a compute capability such as 8.9")
    if "variable" in when and not _are_variables(when["variable"]):
        raise BadRules(f"{where}: when.variable: expected NAME = [values], one or more")
    if "release" in when and not _are_releases(when["release"]):
        raise BadRules(f"{where}: when.release: expected distribution = version range such as >=0.38.0,<0.40")


def _check_need(where: str, row: Table, backends: set[str]) -> None:
    need = row["need"]
    if not isinstance(need, dict) or len(need) != 1:
        found = len(need) if isinstance(need, dict) else repr(need)
        raise BadRules(f"{where}: need: expected exactly one need, found {found}")
    ((name, value),) = need.items()
    if name not in _NEEDS:
        raise BadRules(f"{where}: need.{shown(name)}: expected one of {', '.join(_NEEDS)}")
    fits, expected = _NEEDS[name]
    if not fits(value):
        raise BadRules(f"{where}: need.{name}: expected {expected}, found {value!r}")
    named = value.get("backend") if name == "without" else value if name in ("owner", "loaded") else None
    if isinstance(named, str) and named not in backends:
        raise BadRules(f"{where}: need.{name}: expected one of {', '.join(sorted(backends))}, found {named!r}")
    if name == "native" and next(iter(value)) not in backends:
        raise BadRules(f"{where}: need.native: expected one of {', '.join(sorted(backends))}, found {value!r}")
    has_version = name == "distribution" and bool(parse_wanted(value).clauses)
    for name, choices in (("fact", ("metadata", "version-file")), ("comparison", ("version", "specifier"))):
        if has_version:
            one_of(where, name, row.get(name), choices)
        elif name in row:
            raise BadRules(f"{where}: {name}: expected only where a distribution's version is needed")
    if row.get("fact") == "version-file" and parse_wanted(value).name != "torch":
        raise BadRules(f"{where}: fact: expected metadata, only torch has a version file")
    if row.get("comparison") == "version" and not are_plain(parse_wanted(value).clauses):
        raise BadRules(f"{where}: need.distribution: expected {_PLAIN} with comparison = 'version', found {value!r}")


def _check_fix(where: str, fix: Any) -> None:
    only(f"{where}: fix", fix, set(), set(_FIXES))
    if not fix:
        raise BadRules(f"{where}: fix: expected at least one of {', '.join(_FIXES)}")
    if "install" in fix:
        list_of(where, "fix.install", fix["install"], is_wanted, "requirements such as torchao>=0.15.0")
    for name in ("uninstall", "unset"):
        if name in fix:
            list_of(where, f"fix.{name}", fix[name], is_text, "names")
    if "torch" in fix:
        one_of(where, "fix.torch", fix["torch"], ("accelerator",))
    if "carried" in fix:
        a_text(where, "fix.carried", fix["carried"])
    if "text" in fix:
        a_text(where, "fix.text", fix["text"])
    if "window" in fix and not _is_pair(fix["window"]):
        raise BadRules(f"{where}: fix.window: expected two distributions, found {fix['window']!r}")


def _is_id(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else ()
    return len(parts) in (2, 3) and all(
        part and part.isascii() and part.replace("-", "").isalnum() and part == part.lower() for part in parts
    )


def _are_variables(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(list_from(())(values) for values in value.values())


def _are_releases(value: Any) -> bool:
    ranges = list(value.values()) if isinstance(value, dict) else []
    return bool(ranges) and all(is_clauses(text) and are_plain(parse_clauses(text)) for text in ranges)


def _is_bytes(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_drivers(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(is_number(m) and is_version(d) for m, d in value.items())


def _is_links(value: Any) -> bool:
    if not isinstance(value, dict):
        return is_text(value)
    return (
        {"distribution", "modules"} <= set(value) <= {"distribution", "modules", "follow", "lost"}
        and value.get("lost", "warning") in ("warning", "info")
        and is_text(value["distribution"])
        and all(list_from(())(value[name]) for name in ("modules", "follow") if name in value)
    )


def _is_variable(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= {"name", "value", "not", "unset", "unobserved"}
        and value.get("unobserved", "unset") == "unset"
        and bool({"value", "not"} & set(value))
        and ("unset" not in value or (value["unset"] is True and "value" in value))
        and is_text(value.get("name"))
        and all(list_from(())(value[name]) for name in ("value", "not") if name in value)
    )


def _is_window(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"distribution", "other", "effects"} <= set(value) <= {"distribution", "other", "effects", "told_by"}
        and is_text(value.get("told_by", value["distribution"]))
        and is_text(value["distribution"])
        and is_text(value["other"])
        and list_from(EFFECTS)(value["effects"])
    )


def _is_pair(value: Any) -> bool:
    return list_from(())(value) and len(value) == 2


def _is_native(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) in NATIVE_ASPECTS


def _exactly(*choices: str) -> Callable[[Any], bool]:
    return lambda value: value in choices


def _are_wanted(value: Any) -> bool:
    if not isinstance(value, list) or not 0 < len(value) == len(set(map(str, value))):
        return False
    return all(is_wanted(each) and are_plain(parse_wanted(each).clauses) for each in value)


def _or_text(table: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: is_text(value) or table(value)


_is_list = list_from(())
_is_owner = is_table({"import": is_text, "distributions": _is_list}, {"optional": lambda value: value is True})
_is_loaded = is_table({"import": is_text, "distribution": is_text}, {})
_is_declaring = is_table({"of": is_text}, {"imported": _is_list, "compared": _is_list, "unused": _is_list})
_is_without = is_table({"backend": is_text, "distributions": _is_list}, {})
_NEEDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "distribution": (is_wanted, "a requirement such as torchao>=0.15.0"),
    "any_of": (_are_wanted, "a list of requirements such as mslk-cuda>=1.0.0, each with plain versions"),
    "requirements": (
        _or_text(_is_declaring),
        "the name of a distribution, or a table with of",
    ),
    "required_in_turn": (is_text, "the name of a distribution"),
    "owner": (_or_text(_is_owner), "the name of a backend, or a table of import, distributions and optional"),
    "copies": (lambda value: is_wanted(value) and bool(parse_wanted(value).clauses), "a requirement with a version"),
    "loaded": (_or_text(_is_loaded), "the name of a backend, or a table of import and distribution"),
    "without": (_is_without, "a table of backend and distributions"),
    "requires_python": (is_text, "the name of a distribution"),
    "device": (list_from(DEVICES), f"devices of {', '.join(DEVICES)}"),
    "runs_on": (list_from(DEVICES), f"a list of devices of {', '.join(DEVICES)}"),
    "scheme": (list_from(()), "a list of schemes"),
    "weights": (list_from(WEIGHTS), f"a list of {', '.join(WEIGHTS)}"),
    "accelerator": (list_from(ACCELERATORS), f"devices of {', '.join(ACCELERATORS)}"),
    "compute_capability": (is_capability, "a compute capability such as 8.9"),
    "memory": (_is_bytes, "a number of bytes"),
    "links": (_is_links, "a distribution, or distribution and modules (and packages to follow)"),
    "kernels": (is_text, "the name of a distribution"),
    "driver": (_exactly("working"), '"working"'),
    "visible": (_exactly("device"), '"device"'),
    "torch_build": (_exactly("accelerator"), '"accelerator"'),
    "driver_for_cuda": (_is_drivers, "a table of CUDA major = oldest driver"),
    "architecture": (_exactly("device"), '"device"'),
    "native": (_is_native, f"backend = one of {', '.join(NATIVE_ASPECTS)}"),
    "python": (is_clauses, "versions such as >=3.10"),
    "python_build": (_exactly("gil"), '"gil"'),
    "system": (list_from(SYSTEMS), f"systems of {', '.join(SYSTEMS)}"),
    "tool": (_exactly(*TOOLS), f"one of {', '.join(TOOLS)}"),
    "window": (_is_window, "distribution, other and effects, a pair of windows.toml"),
    "variable": (_is_variable, "name and value or not, such as { name = 'X', not = ['0'] }"),
}
