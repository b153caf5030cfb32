"""The rules table in memory: rows of `rules/*.toml`, made into frozen types for the requests that need them.

`rulefiles/` reads and checks the files, `shipped.py` finds those that come with envguard.
"""

from __future__ import annotations

from envguard.rule import (
    AcceleratorNeed,
    AnyNeed,
    ArchitectureNeed,
    Backend,
    CapabilityNeed,
    CopiesNeed,
    DeviceNeed,
    DistributionNeed,
    DriverForCudaNeed,
    DriverNeed,
    FixTemplate,
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
    Rule,
    RunsOnNeed,
    SchemeNeed,
    SystemNeed,
    ToolNeed,
    TorchBuild,
    TorchBuildNeed,
    VariableNeed,
    VisibleNeed,
    WeightsNeed,
    When,
    Window,
    WindowNeed,
    WithoutNeed,
)
from envguard.versions import key, parse_clauses, parse_wanted, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeAlias

    from envguard.libraries import Wheels
    from envguard.rule import Need
    from envguard.versions import Clause

    Row: TypeAlias = Mapping[str, Any]
    Tables: TypeAlias = Mapping[str, Mapping[str, Any]]

# The needs that a file of packages and a target answer; all others are about files, tools or variables of a machine.
FILES_ANSWER = frozenset(
    (
        "distribution",
        "window",
        "device",
        "runs_on",
        "scheme",
        "weights",
        "accelerator",
        "compute_capability",
        "memory",
        "driver",
        "visible",
        "torch_build",
        "driver_for_cuda",
        "architecture",
        "python",
        "python_build",
        "system",
    )
)
_EVERY: Mapping[str, Any] = {}
_MOST_REMEMBERED = 10_000  # keeps memory flat over any number of snapshots


class RuleBook:
    """All rules, backends and released versions of one set of rules files.

    `tables` maps a file's name to its checked content; `version` is the newest date on which a rule was checked.
    Rules are made when a backend is first asked for: a check of one backend does not pay for the others.
    """

    def __init__(self, tables: Tables) -> None:
        headers = {table["backend"]["name"]: table["backend"] for table in tables.values() if "backend" in table}
        self.backends: dict[str, Backend] = {name: _backend(header) for name, header in headers.items()}
        self._rows = [
            (_backends_of(row, table), row, file) for file, table in tables.items() for row in table.get("rule", ())
        ]
        self.version = max((str(row["checked"]) for _, row, _ in self._rows), default="")
        self._windows: Mapping[str, Any] = tables.get("windows.toml", {})
        self._rules: dict[Any, tuple[Rule, ...]] = {}
        released: Mapping[str, Any] = tables.get("releases.toml", {})
        self._released: Mapping[str, Any] = released.get("releases", {})
        self._pythons: Mapping[str, Any] = released.get("pythons", {})
        self.remembered: dict[Any, Any] = {}
        self._torch_tables: Mapping[str, Any] = released.get("torch-builds", {})
        self._native_tables: Mapping[str, Any] = tables.get("native.toml", {}).get("native", {})
        self._native: dict[str, Wheels] = {}
        self._local_tables: Mapping[str, Any] = released.get("torch-index-builds", {})
        self._local_builds: tuple[TorchBuild, ...] | None = None
        self._torch_builds: tuple[TorchBuild, ...] | None = None
        self._oldest_drivers: dict[int, str] | None = None
        self._paired: dict[str, set[str]] | None = None

    def rules(self, backend: str, **asked: str) -> tuple[Rule, ...]:
        """Every row that can apply to a backend, prerequisites before the rules that depend on them.

        `asked` (operation, host, device) leaves out the rows for other requests, before they are made.
        """
        wanted = backend, *sorted(asked.items())
        made = self._rules.get(wanted)
        if made is None:
            rows = [
                self._rule(backends, row, file)
                for backends, row, file in self._rows
                if (backends is None or backend in backends) and _is_for(row.get("when", {}), asked)
            ]
            made = self._rules[wanted] = _in_order(rows)
        return made

    def extended(self, tables: Tables) -> RuleBook:
        """The same book with checked tables of others after its own; its version stays that of its own rules."""
        added, book = RuleBook(tables), RuleBook({})
        book.__dict__.update(self.__dict__)
        book.backends = {**self.backends, **added.backends}
        book._rows = [*self._rows, *added._rows]
        book._rules, book.remembered = {}, {}
        return book

    def answerable(self) -> RuleBook:
        """The rules that a file of packages and a target can answer; what only a machine can tell is left out."""
        book = RuleBook({})
        book.__dict__.update(self.__dict__)
        book._rows = [
            (backends, row, file) for backends, row, file in self._rows if FILES_ANSWER.issuperset(row["need"])
        ]
        book._rules, book.remembered = {}, {}
        return book

    def variables(self) -> frozenset[str]:
        """The environment variables that decide whether a rule applies."""
        return frozenset([name for _, row, _ in self._rows for name in row.get("when", _EVERY).get("variable", ())])

    def rows(self, rule_id: str | None = None, backend: str | None = None) -> tuple[Rule, ...]:
        """All rows in the order of the files, or those of one id or one backend."""
        return tuple(
            self._rule(backends, row, file)
            for backends, row, file in self._rows
            if rule_id in (None, row["id"]) and (backend is None or backends is None or backend in backends)
        )

    def ids(self) -> tuple[str, ...]:
        """The id of every rule, each once, in the order of the files."""
        return tuple(dict.fromkeys(row["id"] for _, row, _ in self._rows))

    def releases(self, distribution: str) -> tuple[str, ...]:
        """The released versions of a distribution that the table knows, oldest first."""
        return tuple(self._released.get(distribution, ()))

    def releases_read(self, distribution: str) -> tuple[str, ...]:
        """Those of them that the table of released pairs may tell of."""
        oldest = key(self._windows.get("oldest", _EVERY).get(distribution, ""))
        released = self.releases(distribution)
        return released if oldest is None else tuple([each for each in released if (key(each) or ()) >= oldest])

    def is_for(self, distribution: str, version: str, python: str | None) -> bool:
        """Whether a release is for a Python such as 3.12; True where one or the other is not known."""
        table = self._pythons.get(distribution)
        if table is None or python is None:
            return True
        asked = "python", distribution, version, python
        if asked not in self.remembered:
            here = key(version) or ()
            told = [those for first, those in table.items() if (key(first) or ()) <= here]
            self.remember(asked, not told or satisfies(python, parse_clauses(told[-1]), "specifier") is not False)
        answer: bool = self.remembered[asked]
        return answer

    def newest(self, distribution: str, clauses: tuple[Clause, ...], python: str | None = None) -> str | None:
        """The newest release of a distribution that meets some clauses and is for a Python.

        Where the table knows none that meets them, the version that the clauses themselves name; None where they name
        none either, and where those that meet them are all for other Pythons.
        """
        found, is_met = self._newest(distribution, clauses, python)
        named = (clause.version for clause in clauses if clause.operator in (">=", "==", "~="))
        return found if is_met else next(named, None)

    def lacks(self, distribution: str, clauses: tuple[Clause, ...], python: str | None) -> bool:
        """Whether the releases that meet some clauses are all for other Pythons."""
        found, is_met = self._newest(distribution, clauses, python)
        return is_met and found is None

    def _newest(self, distribution: str, clauses: tuple[Clause, ...], python: str | None) -> tuple[str | None, bool]:
        """The newest release that meets some clauses and is for a Python; and whether any meets them at all."""
        asked = "newest", distribution, clauses, python
        if asked not in self.remembered:
            is_met, found = False, None
            for version in reversed(self._released.get(distribution, ())):
                if satisfies(version, clauses, "specifier"):
                    is_met = True
                    if self.is_for(distribution, version, python):
                        found = version
                        break
            self.remember(asked, (found, is_met))
        answer: tuple[str | None, bool] = self.remembered[asked]
        return answer

    def remember(self, asked: Any, answer: Any) -> None:
        """Keep an answer that the rules alone decide in `remembered`, so that many environments share the work."""
        if len(self.remembered) >= _MOST_REMEMBERED:
            self.remembered.clear()
        self.remembered[asked] = answer

    def native(self, distribution: str) -> Wheels | None:
        """What the released wheels of a distribution carry; None where there is no table of them."""
        if distribution not in self._native and distribution in self._native_tables:
            from envguard.libraries import Wheels  # here: few checks need it

            self._native[distribution] = Wheels(self._native_tables[distribution])
        return self._native.get(distribution)

    @property
    def torch_builds(self) -> tuple[TorchBuild, ...]:
        """What each torch release on the package index was built for, oldest first."""
        if self._torch_builds is None:
            builds = [
                TorchBuild(version, build["cuda"], tuple(build["architectures"]))
                for version, build in self._torch_tables.items()
            ]
            self._torch_builds = tuple(sorted(builds, key=lambda build: key(build.release) or ()))
        return self._torch_builds

    @property
    def local_builds(self) -> tuple[TorchBuild, ...]:
        """What torch releases on PyTorch's own index were built for, where that is not as on PyPI; oldest first."""
        if self._local_builds is None:
            builds = []
            for version, build in self._local_tables.items():
                release, _, local = version.partition("+")
                builds.append(TorchBuild(release, build["cuda"], tuple(build["architectures"]), local))
            self._local_builds = tuple(sorted(builds, key=lambda build: key(build.release) or ()))
        return self._local_builds

    @property
    def oldest_drivers(self) -> Mapping[int, str]:
        """The first NVIDIA driver of each CUDA major, from the rule that holds them."""
        if self._oldest_drivers is None:
            needs = [self._need(row) for _, row, _ in self._rows if "driver_for_cuda" in row["need"]]
            self._oldest_drivers = {
                m: d for need in needs if isinstance(need, DriverForCudaNeed) for m, d in need.oldest
            }
        return self._oldest_drivers

    def _need(self, row: Row) -> Need:
        if "window" in row["need"]:
            return make_window_need(row["need"]["window"], self._windows)
        return make_need(row, self.backends)

    def windows(self, distribution: str, other: str, effects: tuple[str, ...]) -> WindowNeed:
        """What the table of released pairs says of two distributions, as a need."""
        asked = {"distribution": distribution, "other": other, "effects": effects}
        return make_window_need(asked, self._windows)

    @property
    def ids_with_pairs(self) -> set[str]:
        """The ids of the rules whose fix lets one of two distributions give way."""
        return {row["id"] for _, row, _ in self._rows if "window" in row["fix"]}

    def paired_with(self, names: Iterable[str]) -> set[str]:
        """The distributions whose releases depend on those of some others, by the table of released pairs."""
        if self._paired is None:
            self._paired = {}
            for row in self._windows.get("window", ()):
                self._paired.setdefault(row["other"], set()).add(row["distribution"])
        return set().union(*[self._paired.get(name, ()) for name in names])

    def _rule(self, backends: tuple[str, ...] | None, row: Row, file: str) -> Rule:
        # by position: a check makes some fifty of these, and names would double the time
        return Rule(
            row["id"],
            make_when(row.get("when", _EVERY), backends),
            self._need(row),
            row["severity"],
            row["kind"],
            row["why"],
            make_fix(row["fix"]),
            row["origin"],
            row["source"],
            str(row["checked"]),
            tuple(row.get("after", ())),
            file,
        )


def _is_for(when: Row, asked: Mapping[str, str]) -> bool:
    for name, value in asked.items():  # noqa: SIM110 - a generator costs more than the loop, a hundred times a check
        if name in when and value not in when[name]:
            return False
    return True


def _backends_of(row: Row, table: Row) -> tuple[str, ...] | None:
    named = row.get("when", {}).get("backend")
    if named is None and "backend" in table:
        named = [table["backend"]["name"]]
    return None if named is None else tuple(named)


def _in_order(rules: list[Rule]) -> tuple[Rule, ...]:
    """Prerequisites first, otherwise in the order of the files; rows of one id stay together."""
    by_id: dict[str, list[Rule]] = {}
    for rule in rules:
        by_id.setdefault(rule.id, []).append(rule)
    ordered: dict[str, list[Rule]] = {}

    def place(rule_id: str, above: tuple[str, ...]) -> None:
        if rule_id in ordered or rule_id not in by_id:
            return
        if rule_id in above:
            from envguard.errors import BadRules

            raise BadRules(f"{by_id[rule_id][0].file}: {rule_id}: after: rules wait for one another in a circle")
        for rule in by_id[rule_id]:
            for prerequisite in rule.after:
                place(prerequisite, (*above, rule_id))
        ordered[rule_id] = by_id[rule_id]

    for rule_id in by_id:
        place(rule_id, ())
    return tuple(rule for rows in ordered.values() for rule in rows)


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)


def _lower(values: Any) -> tuple[str, ...]:
    return tuple([value.lower() for value in values])


def _capability(text: Any) -> tuple[int, int] | None:
    if text is None:
        return None
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def make_when(when: Row, backends: tuple[str, ...] | None) -> When:
    """The condition of a row; `backends` says which backends it is for (None: all)."""
    if not when:
        return When(backends)
    get = when.get
    return When(
        backends,
        _tuple(get("scheme")),
        _tuple(get("not_scheme")),
        _tuple(get("operation")),
        _tuple(get("host")),
        _tuple(get("device")),
        tuple([(name, parse_clauses(text)) for name, text in get("release", _EVERY).items()]),
        _tuple(get("system")),
        _tuple(get("accelerator")),
        tuple([(name, _lower(values)) for name, values in get("variable", _EVERY).items()]),
        tuple(get("absent", ())),
        _capability(get("cuda_capability")),
    )


def make_need(row: Row, backends: Mapping[str, Backend]) -> Need:
    """The one need of a row. Raises ValueError for a value that does not fit, KeyError for an unknown backend."""
    ((name, value),) = row["need"].items()
    match name:
        case "distribution":
            wanted = parse_wanted(value)
            module = None if wanted.clauses else _module_of(wanted.name, backends)
            return DistributionNeed(wanted, row.get("fact", "metadata"), row.get("comparison", "version"), module)
        case "any_of":
            return AnyNeed(tuple(map(parse_wanted, value)))
        case "requirements":
            if isinstance(value, str):
                return RequirementsNeed(value)
            unused = tuple(value.get("unused", ()))
            return RequirementsNeed(value["of"], _tuple(value.get("imported")), _tuple(value.get("compared")), unused)
        case "required_in_turn":
            return RequiredInTurnNeed(value)
        case "owner":
            if isinstance(value, str):
                return OwnerNeed(backends[value].import_name, (backends[value].distribution,))
            return OwnerNeed(value["import"], tuple(value["distributions"]), value.get("optional", False))
        case "copies":
            return CopiesNeed(parse_wanted(value))
        case "loaded":
            if isinstance(value, str):
                return LoadedNeed(backends[value].import_name, backends[value].distribution)
            return LoadedNeed(value["import"], value["distribution"])
        case "without":
            backend = backends[value["backend"]]
            return WithoutNeed(tuple(value["distributions"]), backend.import_name, backend.distribution)
        case "requires_python":
            return RequiresPythonNeed(value)
        case "device":
            return DeviceNeed(tuple(value))
        case "runs_on":
            return RunsOnNeed(tuple(value))
        case "scheme":
            return SchemeNeed(tuple(value))
        case "weights":
            return WeightsNeed(tuple(value))
        case "accelerator":
            return AcceleratorNeed(tuple(value))
        case "compute_capability":
            return CapabilityNeed(_capability(value) or (0, 0))
        case "memory":
            return MemoryNeed(value)
        case "driver":
            return DriverNeed()
        case "visible":
            return VisibleNeed()
        case "torch_build":
            return TorchBuildNeed()
        case "driver_for_cuda":
            return DriverForCudaNeed(tuple(sorted((int(major), driver) for major, driver in value.items())))
        case "architecture":
            return ArchitectureNeed()
        case "native":
            ((backend, aspect),) = value.items()
            return NativeNeed(backends[backend].distribution, aspect)
        case "python":
            return PythonNeed(parse_clauses(value), value)
        case "links":
            return make_links_need(value)
        case "kernels":
            return KernelsNeed(value)
        case "python_build":
            return PythonBuildNeed()
        case "system":
            return SystemNeed(tuple(value))
        case "tool":
            return ToolNeed(value)
        case "variable":
            allowed, refused = _lower(value.get("value", ())), _lower(value.get("not", ()))
            assumed = value.get("unobserved") == "unset"
            return VariableNeed(value["name"], allowed, refused, value.get("unset", False), assumed)
    raise ValueError(f"unknown need {name!r}")


def _module_of(distribution: str, backends: Mapping[str, Backend]) -> str:
    """The import name of a distribution: a backend's own, else its name as Python writes it."""
    for backend in backends.values():
        if backend.distribution == distribution:
            return backend.import_name
    return distribution.replace("-", "_")


def make_window_need(asked: Row, table: Row) -> WindowNeed:
    """The need of a pair with its rows of the table of released pairs."""
    distribution, other, effects = asked["distribution"], asked["other"], tuple(asked["effects"])
    newest = table.get("newest", _EVERY)
    return WindowNeed(
        distribution,
        other,
        effects,
        tuple(
            [
                make_window(row)
                for row in table.get("window", ())
                if row["distribution"] == distribution and row["other"] == other and row["effect"] in effects
            ]
        ),
        newest.get(distribution, ""),
        newest.get(other, ""),
        asked.get("told_by", distribution),
    )


def make_window(row: Row) -> Window:
    """One row of the table of released pairs."""
    needs = None if row["needs"] == "none" else parse_clauses(row["needs"])
    releases = parse_clauses(row["releases"])
    return Window(
        releases, needs, row["effect"], tuple(row.get("missing", ())), row["source"], row.get("unseen", False)
    )


def make_links_need(value: Any) -> LinksNeed:
    """The need of a row: a distribution that is imported by its own name, or which modules of it."""
    if isinstance(value, str):
        return LinksNeed(value, (value.replace("-", "_"),))
    return LinksNeed(
        value["distribution"], tuple(value["modules"]), tuple(value.get("follow", ())), value.get("lost", "warning")
    )


def make_fix(fix: Row) -> FixTemplate:
    """The fix of a row. Raises ValueError for a requirement that cannot be read."""
    return FixTemplate(
        tuple(map(parse_wanted, fix.get("install", ()))),
        tuple(fix.get("uninstall", ())),
        "torch" in fix,
        tuple(fix.get("unset", ())),
        fix.get("text"),
        fix.get("carried"),
        tuple(fix.get("window", ())),
    )


def _backend(header: Row) -> Backend:
    return Backend(
        name=header["name"],
        aliases=tuple(header.get("aliases", ())),
        distribution=header["distribution"],
        import_name=header["import_name"],
        extra=header["extra"],
        install=tuple(map(parse_wanted, header["install"])),
        schemes={scheme: tuple(aliases) for scheme, aliases in header["schemes"].items()},
        load_schemes={scheme: tuple(aliases) for scheme, aliases in header.get("load_schemes", {}).items()},
    )
