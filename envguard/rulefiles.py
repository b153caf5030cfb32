"""`rules/*.toml` -> checked tables. Whatever does not hold to the format is refused with file, key and what was
expected.

Nothing in a rules file is executed; a table is strings, numbers, lists and dates.
"""

from __future__ import annotations

import datetime
import os
import sys

from envguard.errors import BadRules
from envguard.model import OPERATIONS, WEIGHTS
from envguard.rule import NATIVE_ASPECTS, SchemeNeed
from envguard.rulebook import RuleBook
from envguard.versions import key, normalize, parse_clauses, parse_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    from envguard.rule import Backend, Rule, When
    from envguard.versions import Clause

    Table: TypeAlias = dict[str, Any]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SEVERITIES = ("error", "warning", "info")
KINDS = ("absent", "version", "hardware", "platform", "broken", "configuration", "advisory")
ORIGINS = ("baseline", "host", "metadata", "files", "table")
_TABLES = {"backend", "rule", "releases", "torch-builds", "torch-index-builds", "native", "newest", "window"}
EFFECTS = ("import-fails", "aborts", "kernels-skipped", "feature-lost")
DEVICES = ("auto", "cuda", "rocm", "xpu", "mps", "cpu")
ACCELERATORS = ("cuda", "rocm", "xpu", "mps")
WHEN_HOSTS = ("diffusers", "transformers", "none")
SYSTEMS = ("Linux", "Windows", "Darwin")
TOOLS = ("nvcc", "ninja", "cxx", "cc", "python_headers", "cuda_home", "msvc")

_RULE_KEYS = {"id", "need", "severity", "kind", "why", "fix", "origin", "source", "checked"}
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
_OPTIONAL_RULE_KEYS = {"when", "fact", "comparison", "after"}
_BACKEND_KEYS = {"name", "distribution", "import_name", "extra", "install", "schemes"}
_OPTIONAL_BACKEND_KEYS = {"aliases", "load_schemes"}


def read_folder(folder: str) -> dict[str, Table]:
    """Every table of a rules folder, by file name, checked.

    Raises BadRules with one line: the file, the key and what was expected there.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    except OSError as error:
        raise BadRules(f"{folder}: cannot be read as a rules folder: {error.strerror}") from error
    tables = {name: _read_file(os.path.join(folder, name)) for name in names}
    check_tables(tables)
    return tables


def _read_file(path: str) -> Table:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise BadRules(f"{path}: cannot be read: {error.strerror}") from error
    return parse_table(os.path.basename(path), data)


def parse_table(name: str, data: bytes) -> Table:
    """The table of a rules file's bytes. Raises BadRules with the file's name."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise BadRules(f"{name}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and what int() says of a number of 5000 digits
        raise BadRules(f"{name}: not TOML: {error}") from error


def plain(value: Any) -> Any:
    """A table with its dates as ISO 8601 text, as the compiled rules hold them."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def check_tables(tables: Mapping[str, Table]) -> None:
    """Refuse tables that do not hold to the format, each alone and all together. Raises BadRules."""
    backends: set[str] = set()
    for file, table in tables.items():
        _only(file, table, set(), _TABLES)
        if "backend" in table:
            _check_backend(f"{file}: backend", table["backend"])
            if table["backend"]["name"] in backends:
                raise BadRules(f"{file}: backend.name: expected a name of its own, {table['backend']['name']} is taken")
            backends.add(table["backend"]["name"])
        _check_releases(file, table)
        _check_native(file, table)
        _check_windows(file, table)
    _check_rows(tables, backends)
    book = RuleBook(tables)
    _check_together(book, book.rows())
    _check_pairs(tables)


def _check_rows(tables: Mapping[str, Table], backends: set[str]) -> None:
    for file, table in tables.items():
        rows = table.get("rule", [])
        if not isinstance(rows, list):
            raise BadRules(f"{file}: rule: expected [[rule]] tables")
        for number, row in enumerate(rows, 1):
            _check_row(f"{file}: rule {number}", row, backends)


def added_to(book: RuleBook, tables: Mapping[str, Table], package: str | None = None) -> RuleBook:
    """A rule book with the tables of others added, which are checked as our own are and may change nothing of it.

    Their ids say whose they are: package/owner/name, where `package` is given with that one. Raises BadRules.
    """
    known = set(book.ids())
    words = {word for each in book.backends.values() for word in (each.name, *each.aliases, each.distribution)}
    backends = set(book.backends)
    for file, table in tables.items():
        _only(file, table, set(), {"backend", "rule"})
        if "backend" in table:
            _check_backend(f"{file}: backend", table["backend"])
            header = table["backend"]
            own = (header["name"], *header.get("aliases", ()), header["distribution"])
            for word in own:
                if word in words:
                    raise BadRules(f"{file}: backend: expected names of its own, {word!r} is taken")
            words.update(own)
            backends.add(header["name"])
    _check_rows(tables, backends)
    for file, table in tables.items():
        for number, row in enumerate(table.get("rule", ()), 1):
            where, mine = f"{file}: rule {number} {row['id']}: id", row["id"].split("/")
            if len(mine) != 3 or (package is not None and mine[0] != package):
                raise BadRules(f"{where}: expected {package or 'package'}/owner/name, which says whose rule it is")
            if row["id"] in known:
                raise BadRules(f"{where}: expected an id of its own, this one is taken")
    made = book.extended(tables)
    _check_together(made, tuple([rule for rule in made.rows() if rule.file in tables]))
    return made


def _check_backend(where: str, header: Any) -> None:
    _only(where, header, _BACKEND_KEYS, _OPTIONAL_BACKEND_KEYS)
    for name in ("name", "distribution", "import_name", "extra"):
        _text(where, name, header[name])
    _list_of(where, "aliases", header.get("aliases", []), _is_text, "names", empty=True)
    _list_of(where, "install", header["install"], _is_wanted, "requirements such as torchao>=0.7.0")
    for name in ("schemes", "load_schemes"):
        schemes = header.get(name, {})
        if not isinstance(schemes, dict) or (name == "schemes" and not schemes):
            raise BadRules(f"{where}.{name}: expected a table of scheme = [aliases]")
        for scheme, aliases in schemes.items():
            _list_of(where, f"{name}.{_shown(scheme)}", aliases, _is_text, "aliases", empty=True)


def _check_releases(file: str, table: Table) -> None:
    for name, versions in _table(file, "releases", table).items():
        where = f"releases.{_shown(name)}"
        _list_of(file, where, versions, _is_version, "PEP 440 versions")
        keys = [key(version) or () for version in versions]
        if keys != sorted(keys):
            raise BadRules(f"{file}: {where}: expected versions in order, oldest first")
    for name in ("torch-builds", "torch-index-builds"):
        _check_builds(file, name, _table(file, name, table))


def _check_builds(file: str, name: str, builds: Table) -> None:
    for version, build in builds.items():
        where = f"{file}: {name}.{_shown(version)}"
        if not _is_version(version) or ("+" in version) != (name == "torch-index-builds"):
            raise BadRules(f"{where}: expected a table for each PEP 440 version")
        _only(where, build, {"cuda", "architectures"}, set())
        if not _is_capability(build["cuda"]):
            raise BadRules(f"{where}: cuda: expected a CUDA version such as 13.0, found {build['cuda']!r}")
        _list_of(where, "architectures", build["architectures"], _is_text, "architectures such as sm_80")


def _check_native(file: str, table: Table) -> None:
    """The table that a script writes: its form, and that its numbers count in `kinds`."""
    for name, native in _table(file, "native", table).items():
        where = f"{file}: native.{_shown(name)}"
        _only(where, native, {"kinds", "releases"}, set())
        kinds, releases = native["kinds"], native["releases"]
        if not isinstance(kinds, list) or not all(isinstance(kind, dict) and "machine" in kind for kind in kinds):
            raise BadRules(f"{where}: kinds: expected tables with a machine")
        for number, kind in enumerate(kinds):
            _only(f"{where}: kinds {number}", kind, {"machine"}, {"needs", "glibc", "glibcxx", "cxxabi", "gpu_archs"})
        for version, release in _table(where, "releases", native).items() if isinstance(releases, dict) else ():
            here = f"{where}.releases.{_shown(version)}"
            _only(here, release, {"python", "requires", "platforms"}, set())
            _list_of(here, "requires", release["requires"], _is_wanted, "requirements", empty=True)
            for platform, named in _table(here, "platforms", release).items():
                if platform.partition(" ")[0] not in SYSTEMS or not isinstance(named, dict):
                    raise BadRules(f"{here}: platforms.{_shown(platform)}: expected a system and a machine")
                if not all(type(kind) is int and -1 <= kind < len(kinds) for kind in named.values()):
                    raise BadRules(f"{here}: platforms.{_shown(platform)}: expected numbers of kinds, or -1")


def _check_windows(file: str, table: Table) -> None:
    for name, version in _table(file, "newest", table).items():
        if not _is_version(version):
            raise BadRules(f"{file}: newest.{_shown(name)}: expected a PEP 440 version, found {version!r}")
    rows = table.get("window", [])
    if not isinstance(rows, list):
        raise BadRules(f"{file}: window: expected a list of tables, found {rows!r}")
    if rows and os.path.basename(file) != WINDOWS_FILE:
        raise BadRules(f"{file}: window: expected in {WINDOWS_FILE} alone")
    seen: dict[Any, list[tuple[Clause, ...]]] = {}
    for number, row in enumerate(rows, 1):
        where = f"{file}: window {number}"
        _only(where, row, {"distribution", "releases", "other", "needs", "effect", "source"}, {"missing", "unseen"})
        for name in ("distribution", "other"):
            if not _is_text(row[name]) or row[name] != normalize(row[name]):
                raise BadRules(f"{where}: {name}: expected the normalized name of a distribution, found {row[name]!r}")
            if row[name] not in table.get("newest", {}):
                raise BadRules(f"{where}: {name}: expected the newest release of {row[name]} that was read in newest")
        for name in ("releases", "needs"):
            if not (_is_clauses(row[name]) or (name == "needs" and row[name] == "none")):
                raise BadRules(f"{where}: {name}: expected versions such as >=0.17.0,<0.18.0, found {row[name]!r}")
        _one_of(where, "effect", row["effect"], EFFECTS)
        _text(where, "source", row["source"])
        if row.get("unseen", True) is not True:
            raise BadRules(f"{where}: unseen: expected true, or nothing, found {row['unseen']!r}")
        if "missing" in row:
            _list_of(where, "missing", row["missing"], _is_text, "names")
        ranges = seen.setdefault((row["distribution"], row["other"], row["effect"]), [])
        mine = parse_clauses(row["releases"])
        if any(not _ranges_disjoint(mine, other) for other in ranges):
            raise BadRules(f"{where}: releases: expected ranges that do not overlap, but two of them do")
        ranges.append(mine)


WINDOWS_FILE = "windows.toml"


def _check_pairs(tables: Mapping[str, Table]) -> None:
    """Each pair that a rule asks for has rows in the table, and each row is asked for by a rule."""
    if WINDOWS_FILE not in tables:
        return
    rows = tables[WINDOWS_FILE].get("window", [])
    there = {(row["distribution"], row["other"], row["effect"]) for row in rows}
    asked: set[tuple[str, str, str]] = set()
    for file, table in tables.items():
        for rule in table.get("rule", []):
            need = rule["need"].get("window")
            if need is None:
                continue
            pairs = {(need["distribution"], need["other"], effect) for effect in need["effects"]}
            if not pairs & there:
                raise BadRules(f"{file}: {rule['id']}: need.window: expected a pair of {WINDOWS_FILE}, found {need!r}")
            if sorted(rule["fix"].get("window", ())) != sorted((need["distribution"], need["other"])):
                raise BadRules(f"{file}: {rule['id']}: fix.window: expected the two distributions of the need")
            asked |= pairs
    for distribution, other, effect in sorted(there - asked):
        raise BadRules(f"{WINDOWS_FILE}: window: no rule asks for {effect} of {distribution} with {other}")


def _check_row(where: str, row: Any, backends: set[str]) -> None:
    _only(where, row, _RULE_KEYS, _OPTIONAL_RULE_KEYS)
    _text(where, "id", row["id"])
    if not _is_id(row["id"]):
        raise BadRules(f"{where}: id: expected owner/name in lower case, found {row['id']!r}")
    where = f"{where} {row['id']}"
    _one_of(where, "severity", row["severity"], SEVERITIES)
    _one_of(where, "kind", row["kind"], KINDS)
    _one_of(where, "origin", row["origin"], ORIGINS)
    _text(where, "why", row["why"])
    _text(where, "source", row["source"])
    if type(row["checked"]) is not datetime.date:
        raise BadRules(f"{where}: checked: expected a date such as 2026-11-22, found {row['checked']!r}")
    _check_when(where, row.get("when", {}), backends)
    _check_need(where, row, backends)
    _check_fix(where, row["fix"])
    if "after" in row:
        _list_of(where, "after", row["after"], _is_id, "rule ids")
    if row["origin"] == "host" and len(row.get("when", {}).get("host", ())) != 1:
        raise BadRules(f"{where}: when.host: expected exactly one host, because the rule's origin is that host")


def _check_when(where: str, when: Any, backends: set[str]) -> None:
    _only(f"{where}: when", when, set(), _WHEN_KEYS)
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
            _list_of(where, f"when.{name}", when[name], choices.__contains__, f"of {', '.join(choices)}")
    for name in ("scheme", "not_scheme"):
        if name in when:
            _list_of(where, f"when.{name}", when[name], _is_text, "schemes")
    if "scheme" in when and "not_scheme" in when:
        raise BadRules(f"{where}: when.not_scheme: expected one of scheme and not_scheme, found both")
    if "absent" in when:
        _list_of(where, "when.absent", when["absent"], _is_text, "distributions")
    if "cuda_capability" in when and not _is_capability(when["cuda_capability"]):
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
        raise BadRules(f"{where}: need.{_shown(name)}: expected one of {', '.join(_NEEDS)}")
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
            _one_of(where, name, row.get(name), choices)
        elif name in row:
            raise BadRules(f"{where}: {name}: expected only where a distribution's version is needed")
    if row.get("fact") == "version-file" and parse_wanted(value).name != "torch":
        raise BadRules(f"{where}: fact: expected metadata, only torch has a version file")
    if row.get("comparison") == "version" and not _are_plain(parse_wanted(value).clauses):
        raise BadRules(f"{where}: need.distribution: expected {_PLAIN} with comparison = 'version', found {value!r}")


_FIXES = ("install", "uninstall", "torch", "unset", "text", "carried", "window")


def _check_fix(where: str, fix: Any) -> None:
    _only(f"{where}: fix", fix, set(), set(_FIXES))
    if not fix:
        raise BadRules(f"{where}: fix: expected at least one of {', '.join(_FIXES)}")
    if "install" in fix:
        _list_of(where, "fix.install", fix["install"], _is_wanted, "requirements such as torchao>=0.15.0")
    for name in ("uninstall", "unset"):
        if name in fix:
            _list_of(where, f"fix.{name}", fix[name], _is_text, "names")
    if "torch" in fix:
        _one_of(where, "fix.torch", fix["torch"], ("accelerator",))
    if "carried" in fix:
        _text(where, "fix.carried", fix["carried"])
    if "text" in fix:
        _text(where, "fix.text", fix["text"])
    if "window" in fix and not _is_pair(fix["window"]):
        raise BadRules(f"{where}: fix.window: expected two distributions, found {fix['window']!r}")


def _check_together(book: RuleBook, rows: tuple[Rule, ...]) -> None:
    """Check some rows of a book against one another and against all that they name."""
    errors = {rule.id for rule in book.rows() if rule.severity == "error"}
    for rule in rows:
        for prerequisite in rule.after:
            if prerequisite not in errors:
                raise BadRules(
                    f"{rule.file}: {rule.id}: after: expected the id of an error rule, found {prerequisite!r}"
                )
    by_id: dict[str, list[Rule]] = {}
    for rule in rows:
        others = by_id.setdefault(rule.id, [])
        if any(overlap(other, rule) for other in others):
            raise BadRules(f"{rule.file}: {rule.id}: when: expected rows that do not overlap, but two of them do")
        others.append(rule)
    for rule in rows:
        _check_schemes(rule, [book.backends[name] for name in rule.when.backend or book.backends])
    for backend in book.backends:
        book.rules(backend)  # puts prerequisites first, and refuses circles


def _check_schemes(rule: Rule, backends: list[Backend]) -> None:
    """Each scheme that a row names belongs to one of its backends."""
    known = {scheme for backend in backends for scheme in (*backend.schemes, *backend.load_schemes)}
    asked = rule.need.schemes if isinstance(rule.need, SchemeNeed) else ()
    named = {"when.scheme": rule.when.scheme, "when.not_scheme": rule.when.not_scheme, "need.scheme": asked}
    for where, schemes in named.items():
        for scheme in schemes or ():
            if scheme not in known:
                names = " or ".join(backend.name for backend in backends) or "no backend"
                raise BadRules(f"{rule.file}: {rule.id}: {where}: {names} has no scheme {scheme!r}")


def overlap(one: Rule, other: Rule) -> bool:
    """Whether some request and environment exist to which both rows apply."""
    a, b = one.when, other.when
    sets = ((a.backend, b.backend), (a.operation, b.operation), (a.host, b.host), (a.device, b.device))
    if any(_disjoint(first, second) for first, second in (*sets, (a.system, b.system), (a.accelerator, b.accelerator))):
        return False
    if _schemes_disjoint(a, b):
        return False
    ranges = dict(b.release)
    if set(a.absent) & set(ranges) or set(b.absent) & set(dict(a.release)):
        return False
    return not any(name in ranges and _ranges_disjoint(clauses, ranges[name]) for name, clauses in a.release)


def _disjoint(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> bool:
    return first is not None and second is not None and not set(first) & set(second)


def _schemes_disjoint(a: When, b: When) -> bool:
    if a.scheme is not None and b.scheme is not None:
        return _disjoint(a.scheme, b.scheme)
    asked, left_out = (a.scheme, b.not_scheme) if a.scheme is not None else (b.scheme, a.not_scheme)
    return asked is not None and left_out is not None and set(asked) <= set(left_out)


def _ranges_disjoint(first: tuple[Clause, ...], second: tuple[Clause, ...]) -> bool:
    """Whether no version meets both: the highest lower bound lies above the lowest upper bound."""
    lows = [(key(c.version) or (), c.operator == ">") for c in (*first, *second) if c.operator in (">=", ">", "==")]
    highs = [(key(c.version) or (), c.operator == "<") for c in (*first, *second) if c.operator in ("<=", "<", "==")]
    if not lows or not highs:
        return False
    low, high = max(lows), min(highs, key=lambda bound: (bound[0], not bound[1]))
    return low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))


def _only(where: str, table: Any, required: set[str], optional: set[str]) -> None:
    if not isinstance(table, dict):
        raise BadRules(f"{where}: expected a table, found {table!r}")
    for name in table:
        if name not in required and name not in optional:
            expected = ", ".join(sorted(required | optional))
            raise BadRules(f"{where}: {_shown(name)}: unknown key, expected one of {expected}")
    for name in sorted(required):
        if name not in table:
            raise BadRules(f"{where}: {name}: missing")


def _shown(name: str) -> str:
    """A key as its author wrote it, or quoted where it would break the line."""
    return name if name.isprintable() else repr(name)


def _table(file: str, name: str, table: Table) -> Table:
    value: Any = table.get(name, {})
    if not isinstance(value, dict):
        raise BadRules(f"{file}: {name}: expected a table, found {value!r}")
    return value


def _text(where: str, name: str, value: Any) -> None:
    if not _is_text(value):
        raise BadRules(f"{where}: {name}: expected text, found {value!r}")


def _one_of(where: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadRules(f"{where}: {name}: expected one of {', '.join(choices)}, found {value!r}")


def _list_of(
    where: str, name: str, values: Any, fits: Callable[[Any], bool], what: str, *, empty: bool = False
) -> None:
    """Refuse what is no list of such strings. One that may not be `empty` may not hold a string twice either."""
    fine = isinstance(values, list) and all(isinstance(value, str) and fits(value) for value in values)
    if not fine or (not empty and (not values or len(set(values)) < len(values))):
        raise BadRules(f"{where}: {name}: expected a list {what}{'' if empty else ', each once'}, found {values!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_id(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else ()
    return len(parts) in (2, 3) and all(
        part and part.isascii() and part.replace("-", "").isalnum() and part == part.lower() for part in parts
    )


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and key(value) is not None


def _is_wanted(value: Any) -> bool:
    try:
        return value.isascii() and bool(parse_wanted(value))
    except (ValueError, AttributeError):
        return False


def _is_clauses(value: Any) -> bool:
    try:
        return bool(parse_clauses(value))
    except (ValueError, TypeError, AttributeError):
        return False


def _are_variables(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_list_from(())(values) for values in value.values())


def _are_releases(value: Any) -> bool:
    ranges = list(value.values()) if isinstance(value, dict) else []
    return bool(ranges) and all(_is_clauses(text) and _are_plain(parse_clauses(text)) for text in ranges)


_PLAIN = "comparisons by >=, >, <=, <, == or != with whole versions"


def _are_plain(clauses: tuple[Clause, ...]) -> bool:
    """Whether clauses have a meaning between two plain versions: ~=, === and 1.2.* are of specifiers alone."""
    return not any(clause.operator in ("~=", "===") or clause.version.endswith(".*") for clause in clauses)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_capability(value: Any) -> bool:
    major, _, minor = value.partition(".") if isinstance(value, str) else ("", "", "")
    return _is_number(major) and _is_number(minor)


def _is_bytes(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_drivers(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_is_number(m) and _is_version(d) for m, d in value.items())


def _is_links(value: Any) -> bool:
    if not isinstance(value, dict):
        return _is_text(value)
    return (
        {"distribution", "modules"} <= set(value) <= {"distribution", "modules", "follow", "lost"}
        and value.get("lost", "warning") in ("warning", "info")
        and _is_text(value["distribution"])
        and all(_list_from(())(value[name]) for name in ("modules", "follow") if name in value)
    )


def _is_variable(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= {"name", "value", "not", "unset", "unobserved"}
        and value.get("unobserved", "unset") == "unset"
        and bool({"value", "not"} & set(value))
        and ("unset" not in value or (value["unset"] is True and "value" in value))
        and _is_text(value.get("name"))
        and all(_list_from(())(value[name]) for name in ("value", "not") if name in value)
    )


def _is_window(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"distribution", "other", "effects"} <= set(value) <= {"distribution", "other", "effects", "told_by"}
        and _is_text(value.get("told_by", value["distribution"]))
        and _is_text(value["distribution"])
        and _is_text(value["other"])
        and _list_from(EFFECTS)(value["effects"])
    )


def _is_pair(value: Any) -> bool:
    return _list_from(())(value) and len(value) == 2


def _list_from(choices: tuple[str, ...]) -> Callable[[Any], bool]:
    """Whether a value is a list of some choices (none: of any strings), each once."""

    def fits(value: Any) -> bool:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return False
        return 0 < len(value) == len(set(value)) and all(not choices or item in choices for item in value)

    return fits


def _is_native(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) in NATIVE_ASPECTS


def _exactly(*choices: str) -> Callable[[Any], bool]:
    return lambda value: value in choices


def _are_wanted(value: Any) -> bool:
    if not isinstance(value, list) or not 0 < len(value) == len(set(map(str, value))):
        return False
    return all(_is_wanted(each) and _are_plain(parse_wanted(each).clauses) for each in value)


def _is_table(
    required: dict[str, Callable[[Any], bool]], optional: dict[str, Callable[[Any], bool]]
) -> Callable[[Any], bool]:
    """Whether a value is a table with these keys, each of which fits."""
    known = {**required, **optional}

    def fits(value: Any) -> bool:
        keys = value if isinstance(value, dict) else {"": None}
        return required.keys() <= keys.keys() <= known.keys() and all(known[name](keys[name]) for name in keys)

    return fits


def _or_text(table: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: _is_text(value) or table(value)


_is_list = _list_from(())
_is_owner = _is_table({"import": _is_text, "distributions": _is_list}, {"optional": lambda value: value is True})
_is_loaded = _is_table({"import": _is_text, "distribution": _is_text}, {})
_is_declaring = _is_table({"of": _is_text}, {"imported": _is_list, "compared": _is_list, "unused": _is_list})
_is_without = _is_table({"backend": _is_text, "distributions": _is_list}, {})

_NEEDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "distribution": (_is_wanted, "a requirement such as torchao>=0.15.0"),
    "any_of": (_are_wanted, "a list of requirements such as mslk-cuda>=1.0.0, each with plain versions"),
    "requirements": (
        _or_text(_is_declaring),
        "the name of a distribution, or a table with of",
    ),
    "required_in_turn": (_is_text, "the name of a distribution"),
    "owner": (_or_text(_is_owner), "the name of a backend, or a table of import, distributions and optional"),
    "copies": (lambda value: _is_wanted(value) and bool(parse_wanted(value).clauses), "a requirement with a version"),
    "loaded": (_or_text(_is_loaded), "the name of a backend, or a table of import and distribution"),
    "without": (_is_without, "a table of backend and distributions"),
    "requires_python": (_is_text, "the name of a distribution"),
    "device": (_list_from(DEVICES), f"devices of {', '.join(DEVICES)}"),
    "runs_on": (_list_from(DEVICES), f"a list of devices of {', '.join(DEVICES)}"),
    "scheme": (_list_from(()), "a list of schemes"),
    "weights": (_list_from(WEIGHTS), f"a list of {', '.join(WEIGHTS)}"),
    "accelerator": (_list_from(ACCELERATORS), f"devices of {', '.join(ACCELERATORS)}"),
    "compute_capability": (_is_capability, "a compute capability such as 8.9"),
    "memory": (_is_bytes, "a number of bytes"),
    "links": (_is_links, "a distribution, or distribution and modules (and packages to follow)"),
    "kernels": (_is_text, "the name of a distribution"),
    "driver": (_exactly("working"), '"working"'),
    "visible": (_exactly("device"), '"device"'),
    "torch_build": (_exactly("accelerator"), '"accelerator"'),
    "driver_for_cuda": (_is_drivers, "a table of CUDA major = oldest driver"),
    "architecture": (_exactly("device"), '"device"'),
    "native": (_is_native, f"backend = one of {', '.join(NATIVE_ASPECTS)}"),
    "python": (_is_clauses, "versions such as >=3.10"),
    "python_build": (_exactly("gil"), '"gil"'),
    "system": (_list_from(SYSTEMS), f"systems of {', '.join(SYSTEMS)}"),
    "tool": (_exactly(*TOOLS), f"one of {', '.join(TOOLS)}"),
    "window": (_is_window, "distribution, other and effects, a pair of windows.toml"),
    "variable": (_is_variable, "name and value or not, such as { name = 'X', not = ['0'] }"),
}
