"""`rules/*.toml` -> checked tables. Whatever does not hold to the format is refused with file, key and what was
expected.

Nothing in a rules file is executed; a table is strings, numbers, lists and dates.
"""

from __future__ import annotations

import datetime
import os
import sys

from envguard.errors import BadRules
from envguard.rule import SchemeNeed
from envguard.rulebook import RuleBook
from envguard.rulefiles.forms import (
    a_text,
    is_capability,
    is_clauses,
    is_text,
    is_version,
    is_wanted,
    list_of,
    one_of,
    only,
    shown,
    table_in,
)
from envguard.rulefiles.overlaps import overlap, ranges_disjoint
from envguard.rulefiles.rows import EFFECTS, SYSTEMS, check_row
from envguard.versions import key, normalize, parse_clauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envguard.rule import Backend, Rule
    from envguard.rulefiles.forms import Table
    from envguard.versions import Clause

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLES = {
    "backend",
    "rule",
    "releases",
    "pythons",
    "torch-builds",
    "torch-index-builds",
    "native",
    "newest",
    "oldest",
    "window",
}
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
        only(file, table, set(), _TABLES)
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
            check_row(f"{file}: rule {number}", row, backends)


def added_to(book: RuleBook, tables: Mapping[str, Table], package: str | None = None) -> RuleBook:
    """A rule book with the tables of others added, which are checked as our own are and may change nothing of it.

    Their ids say whose they are: package/owner/name, where `package` is given with that one. Raises BadRules.
    """
    known = set(book.ids())
    words = {word for each in book.backends.values() for word in (each.name, *each.aliases, each.distribution)}
    backends = set(book.backends)
    for file, table in tables.items():
        only(file, table, set(), {"backend", "rule"})
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
    only(where, header, _BACKEND_KEYS, _OPTIONAL_BACKEND_KEYS)
    for name in ("name", "distribution", "import_name", "extra"):
        a_text(where, name, header[name])
    list_of(where, "aliases", header.get("aliases", []), is_text, "names", empty=True)
    list_of(where, "install", header["install"], is_wanted, "requirements such as torchao>=0.7.0")
    for name in ("schemes", "load_schemes"):
        schemes = header.get(name, {})
        if not isinstance(schemes, dict) or (name == "schemes" and not schemes):
            raise BadRules(f"{where}.{name}: expected a table of scheme = [aliases]")
        for scheme, aliases in schemes.items():
            list_of(where, f"{name}.{shown(scheme)}", aliases, is_text, "aliases", empty=True)


def _check_releases(file: str, table: Table) -> None:
    for name, versions in table_in(file, "releases", table).items():
        where = f"releases.{shown(name)}"
        list_of(file, where, versions, is_version, "PEP 440 versions")
        keys = [key(version) or () for version in versions]
        if keys != sorted(keys):
            raise BadRules(f"{file}: {where}: expected versions in order, oldest first")
    for name, pythons in table_in(file, "pythons", table).items():
        where = f"{file}: pythons.{shown(name)}"
        known = table.get("releases", {}).get(name, ())
        if not isinstance(pythons, dict) or not all(version in known for version in pythons):
            raise BadRules(f"{where}: expected a table of a release of {shown(name)} = the Pythons from it on")
        for version, asked in pythons.items():
            if not is_clauses(asked):
                raise BadRules(f"{where}.{version}: expected a specifier such as >=3.10,<3.15, found {asked!r}")
    for name in ("torch-builds", "torch-index-builds"):
        _check_builds(file, name, table_in(file, name, table))


def _check_builds(file: str, name: str, builds: Table) -> None:
    for version, build in builds.items():
        where = f"{file}: {name}.{shown(version)}"
        if not is_version(version) or ("+" in version) != (name == "torch-index-builds"):
            raise BadRules(f"{where}: expected a table for each PEP 440 version")
        only(where, build, {"cuda", "architectures"}, set())
        if not is_capability(build["cuda"]):
            raise BadRules(f"{where}: cuda: expected a CUDA version such as 13.0, found {build['cuda']!r}")
        list_of(where, "architectures", build["architectures"], is_text, "architectures such as sm_80")


def _check_native(file: str, table: Table) -> None:
    """The table that a script writes: its form, and that its numbers count in `kinds`."""
    for name, native in table_in(file, "native", table).items():
        where = f"{file}: native.{shown(name)}"
        only(where, native, {"kinds", "releases"}, set())
        kinds, releases = native["kinds"], native["releases"]
        if not isinstance(kinds, list) or not all(isinstance(kind, dict) and "machine" in kind for kind in kinds):
            raise BadRules(f"{where}: kinds: expected tables with a machine")
        for number, kind in enumerate(kinds):
            only(f"{where}: kinds {number}", kind, {"machine"}, {"needs", "glibc", "glibcxx", "cxxabi", "gpu_archs"})
        for version, release in table_in(where, "releases", native).items() if isinstance(releases, dict) else ():
            here = f"{where}.releases.{shown(version)}"
            only(here, release, {"python", "requires", "platforms"}, set())
            list_of(here, "requires", release["requires"], is_wanted, "requirements", empty=True)
            for platform, named in table_in(here, "platforms", release).items():
                if platform.partition(" ")[0] not in SYSTEMS or not isinstance(named, dict):
                    raise BadRules(f"{here}: platforms.{shown(platform)}: expected a system and a machine")
                if not all(type(kind) is int and -1 <= kind < len(kinds) for kind in named.values()):
                    raise BadRules(f"{here}: platforms.{shown(platform)}: expected numbers of kinds, or -1")


def _check_windows(file: str, table: Table) -> None:
    for bound in ("newest", "oldest"):
        for name, version in table_in(file, bound, table).items():
            if not is_version(version):
                raise BadRules(f"{file}: {bound}.{shown(name)}: expected a PEP 440 version, found {version!r}")
    rows = table.get("window", [])
    if not isinstance(rows, list):
        raise BadRules(f"{file}: window: expected a list of tables, found {rows!r}")
    if rows and os.path.basename(file) != WINDOWS_FILE:
        raise BadRules(f"{file}: window: expected in {WINDOWS_FILE} alone")
    seen: dict[Any, list[tuple[Clause, ...]]] = {}
    for number, row in enumerate(rows, 1):
        where = f"{file}: window {number}"
        only(where, row, {"distribution", "releases", "other", "needs", "effect", "source"}, {"missing", "unseen"})
        for name in ("distribution", "other"):
            if not is_text(row[name]) or row[name] != normalize(row[name]):
                raise BadRules(f"{where}: {name}: expected the normalized name of a distribution, found {row[name]!r}")
            if row[name] not in table.get("newest", {}):
                raise BadRules(f"{where}: {name}: expected the newest release of {row[name]} that was read in newest")
        for name in ("releases", "needs"):
            if not (is_clauses(row[name]) or (name == "needs" and row[name] == "none")):
                raise BadRules(f"{where}: {name}: expected versions such as >=0.17.0,<0.18.0, found {row[name]!r}")
        one_of(where, "effect", row["effect"], EFFECTS)
        a_text(where, "source", row["source"])
        if row.get("unseen", True) is not True:
            raise BadRules(f"{where}: unseen: expected true, or nothing, found {row['unseen']!r}")
        if "missing" in row:
            list_of(where, "missing", row["missing"], is_text, "names")
        ranges = seen.setdefault((row["distribution"], row["other"], row["effect"]), [])
        mine = parse_clauses(row["releases"])
        if any(not ranges_disjoint(mine, other) for other in ranges):
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
