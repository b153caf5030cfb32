"""Which rule rows say what a gate of a release asks for, and which rows no gate of it asks for."""

from __future__ import annotations

from itertools import product

from envguard.audit.extract import METHODS
from envguard.frozen import Frozen
from envguard.rule import (
    AcceleratorNeed,
    CapabilityNeed,
    DeviceNeed,
    DistributionNeed,
    PythonNeed,
    RunsOnNeed,
    SchemeNeed,
    VariableNeed,
)
from envguard.versions import Clause, parse_clauses, satisfies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from envguard.audit.gate import Gate, Test
    from envguard.audit.known import Known
    from envguard.rule import Rule
    from envguard.rulebook import RuleBook

    _Condition: TypeAlias = tuple[str, str, tuple[Clause, ...]]
    _Case: TypeAlias = dict[_Condition, bool]

STATUSES = ("new", "changed", "gone", "covered", "acknowledged", "other")
_KINDS = ("cuda", "xpu", "mps", "cpu")
_INVERSE = {">=": "<", ">": "<=", "==": "!="}


class Finding(Frozen):
    """A gate, or for `gone` a rule row, and how the two stand to each other.

    new: no rule speaks of it. changed: the rules named ask for something else. gone: no gate asks for the rule's need.
    covered, acknowledged: in order. other: of a method that envguard does not have.
    """

    status: str
    gate: Gate | None
    rules: tuple[Rule, ...] = ()
    backends: tuple[str, ...] = ()
    """Of the backends concerned those without a rule, where only some lack it."""
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether somebody has to write or change something."""
        return self.status in ("new", "changed", "gone")


def cover(host: str, version: str, gates: Sequence[Gate], book: RuleBook, known: Known) -> list[Finding]:
    """How the rules stand to every gate of a release, then the rows that no gate asks for."""
    coverage = _Coverage(host, version, gates, book, known)
    return [*[coverage.of(gate) for gate in gates], *coverage.gone()]


class _Coverage:
    def __init__(self, host: str, version: str, gates: Sequence[Gate], book: RuleBook, known: Known) -> None:
        self.host, self.version, self.gates, self.book, self.known = host, version, gates, book, known
        self.rows = {
            backend: [row for row in book.rows(backend=backend) if self._holds(row)] for backend in book.backends
        }

    def _holds(self, row: Rule) -> bool:
        """Whether a row is for requests in this release of the host."""
        if row.when.host is not None and self.host not in row.when.host:
            return False
        return all(
            satisfies(self.version, clauses, "version") for name, clauses in row.when.release if name == self.host
        )

    def of(self, gate: Gate) -> Finding:
        """How the rules stand to a gate."""
        if not gate.backends:
            return Finding("other", gate)
        missing: list[str] = []
        covering: list[Rule] = []
        near: list[Rule] = []
        if gate.kind in ("argument", "lookup", "mixed"):
            missing = list(gate.backends)
        else:
            for backend in gate.backends:
                does, rows = self._covers(gate, backend)
                (covering if does else near).extend(rows)
                if not does:
                    missing.append(backend)
        if not missing:
            return Finding("covered", gate, _unique(covering))
        for each in self.known.acknowledged:
            if each.fits(gate, self.version) and all(self._has_row(each.rule, backend) for backend in missing):
                return Finding("acknowledged", gate, reason=each.reason)
        if gate.effect == "optional":
            return Finding("acknowledged", gate, reason="the release catches it")
        few = tuple(missing) if len(missing) < len(gate.backends) else ()
        return Finding("changed" if near else "new", gate, _unique(near), few)

    def _has_row(self, rule: str, backend: str) -> bool:
        """Whether a rule that an acknowledgement leans on has a row for this release; "" leans on none."""
        return not rule or any(row.id == rule for row in self.rows[backend])

    def _covers(self, gate: Gate, backend: str) -> tuple[bool, list[Rule]]:
        """Whether rows say all that a gate asks of a backend, and the rows about the same thing.

        Rows may hold for some environments only: in each kind of them that comes to the gate, those that do have to
        say it.
        """
        rows = [row for row in self.rows[backend] if self._applies(row, gate)]
        about = [row for row in rows if _speaks_of(row, gate)]
        conditions = list(dict.fromkeys(each for row in about for each in self._conditions(row)))
        found: list[Rule] = []
        covered = True
        for answers in product((True, False), repeat=len(conditions)):
            case = dict(zip(conditions, answers))
            here = [row for row in rows if all(case.get(each, True) for each in self._conditions(row))]
            if not _can_be(case, gate, here):
                continue
            does, those = self._covers_in(gate, backend, here, case)
            covered &= does
            found += [row for row in those if row not in found]
        return covered, found

    def _conditions(self, row: Rule) -> list[_Condition]:
        """What of the environment decides, beside the host's release, that a row speaks."""
        when = row.when
        found: list[_Condition] = [("absent", name, ()) for name in when.absent]
        found += [("release", name, clauses) for name, clauses in when.release if name != self.host]
        if when.cuda_capability is not None:
            found.append(("capability", "{}.{}".format(*when.cuda_capability), ()))
        return found

    def _covers_in(self, gate: Gate, backend: str, rows: list[Rule], case: _Case) -> tuple[bool, list[Rule]]:
        """The same among the environments of one kind."""
        for subject in dict.fromkeys(guard.subject for guard in gate.guards if guard.kind == "version"):
            guarded = [clause for guard in gate.guards for clause in _guard(guard, subject)]
            about = _about(rows, subject)
            if about and _is_empty([*guarded, *_clauses_of(about)]):
                return True, about  # the rules stop a request before it comes here
        match gate.kind:
            case "available":
                found = _about(rows, gate.subject)
                return (bool(found) if gate.needed else False), found
            case "version":
                if gate.subject == "Python":
                    pythons = [row for row in rows if isinstance(row.need, PythonNeed)]
                    return _within(_clauses_of(pythons), _asked(gate)), pythons
                found = _about(rows, gate.subject)
                guarded = [clause for guard in gate.guards for clause in _guard(guard, gate.subject)]
                if guarded and _within(guarded, _asked(gate)):
                    return True, found  # the host asks before, and goes another way
                allowed = [*guarded, *_clauses_of(found)]
                return bool(found) and _within(allowed, _asked(gate), _where(case, gate.subject)), found
            case "symbol":
                return self._has_symbol(gate, rows, case)
            case "device":
                return self._devices(gate, rows)
            case "capability":
                asked = _capability(gate.value)
                found = [row for row in rows if isinstance(row.need, CapabilityNeed)]
                least = [row.need.minimum for row in found if isinstance(row.need, CapabilityNeed)]
                return gate.needed and gate.operator == ">=" and any(minimum >= asked for minimum in least), found
            case "variable":
                found = [row for row in rows if _names_variable(row, gate.subject)]
                return bool(found), found
            case "choice":
                found = [row for row in self.rows[backend] if isinstance(row.need, SchemeNeed)]
                return any(_same_choice(gate.value, row) for row in found), found
            case "method":
                found = _about(rows, self.host)
                clauses = _clauses_of([row for row in found if not row.when.accelerator])
                return bool(found) and bool(satisfies(self.version, clauses, "version")), found
        return False, []

    def _applies(self, row: Rule, gate: Gate) -> bool:
        """Whether a row speaks in every request that comes to a gate."""
        when = row.when
        schemes = METHODS.get(gate.method, ("", ()))[1]
        some = any("quant_type" in guard.subject for guard in gate.guards)  # the gate too is for some schemes
        if when.scheme is not None and not some and not (schemes and set(schemes) <= set(when.scheme)):
            return False
        if when.not_scheme is not None and schemes and set(schemes) & set(when.not_scheme):
            return False
        if when.operation is not None:
            loaded = any("pre_quantized" in guard.subject for guard in gate.guards if guard.holds)
            loaded = loaded or gate.where.endswith(".from_dict")  # the configuration that a quantized model holds
            if not (loaded and "load" in when.operation) and gate.stage != "load":
                return False
        if row.severity != "error" and gate.effect in ("raises", "imports"):
            return False
        if when.system is not None:
            return False
        if when.variable and not any(name == guard.subject for name, _ in when.variable for guard in gate.guards):
            return False
        return gate.kind == "device" or when.accelerator is None

    def _has_symbol(self, gate: Gate, rows: list[Rule], case: _Case) -> tuple[bool, list[Rule]]:
        """Whether every version that guards and rules leave has the name."""
        holds = self.known.versions_with(gate.value)
        if holds is None:
            return False, []
        about = _about(rows, gate.subject)
        guarded = [clause for guard in gate.guards for clause in _guard(guard, gate.subject)]
        if _within(guarded, [holds]):
            return True, []
        return _within([*guarded, *_clauses_of(about)], [holds], _where(case, gate.subject)), about

    def _devices(self, gate: Gate, rows: list[Rule]) -> tuple[bool, list[Rule]]:
        """Whether the rules leave a request the kinds of device that the gate takes, and no other."""
        taken = {kind.strip() for kind in gate.value.split(",")} if gate.needed else set(_KINDS) - {gate.subject}
        found = [
            row
            for row in rows
            if isinstance(row.need, (RunsOnNeed, DeviceNeed))
            or (isinstance(row.need, AcceleratorNeed) and row.when.host is not None)
        ]
        if not found:
            return False, []
        left = set(_KINDS)
        for row in found:
            kinds = row.need.kinds if isinstance(row.need, (RunsOnNeed, DeviceNeed, AcceleratorNeed)) else ()
            untouched = {kind for kind in _KINDS if not _is_for_device(row, kind)}
            left &= set(kinds) | untouched
        for row in rows:  # a kind that takes a newer release of the host
            if (
                row.when.accelerator
                and isinstance(row.need, DistributionNeed)
                and row.need.wanted.name == self.host
                and not satisfies(self.version, row.need.wanted.clauses, "version")
            ):
                left -= set(row.when.accelerator)
                found.append(row)
        # a row of our own, as of what a backend runs on, may leave fewer
        exact = all(row.origin == "host" for row in found)
        return (left == taken & set(_KINDS) if exact else left <= taken), found

    # Rows without a gate

    def gone(self) -> list[Finding]:
        """The rows of this release whose need no gate has."""
        usable = {backend for gate in self.gates if gate.kind == "method" for backend in gate.backends}
        backends: dict[tuple[str, str], list[str]] = {}
        named: dict[tuple[str, str], Rule] = {}
        for backend, rows in self.rows.items():
            for row in rows if backend in usable else ():
                if row.origin == "host" and not any(
                    each.rule == row.id and self._is_unread(each.release) for each in self.known.unread
                ):
                    named[row.id, repr(row.when)] = row
                    backends.setdefault((row.id, repr(row.when)), []).append(backend)
        return [
            Finding("gone", None, (row,), tuple(backends[key]))
            for key, row in named.items()
            if not any(self._has_gate(row, backend) for backend in backends[key])
        ]

    def _is_unread(self, release: tuple[Clause, ...]) -> bool:
        return not release or bool(satisfies(self.version, release, "version"))

    def _has_gate(self, row: Rule, backend: str) -> bool:
        gates = [
            gate for gate in self.gates if backend in gate.backends and gate.effect in ("raises", "imports", "declares")
        ]
        need = row.need
        match need:
            case DistributionNeed():
                name = need.wanted.name
                if name == self.host:
                    return any(gate.kind == "method" for gate in gates) or not satisfies(
                        self.version, need.wanted.clauses, "version"
                    )
                about = [gate for gate in gates if gate.subject == name and gate.stage != "metadata"]
                if not need.wanted.clauses:
                    return any(gate.kind in ("available", "symbol") for gate in about)
                own = list(need.wanted.clauses)
                return any(
                    gate.kind == "version" and _within(list(_flat(_asked(gate))), [tuple(own)]) for gate in about
                ) or any(gate.kind == "symbol" and self._lacks(gate) for gate in about)
            case RunsOnNeed() | DeviceNeed() | AcceleratorNeed():
                return any(gate.kind == "device" for gate in self.gates if backend in gate.backends)
            case CapabilityNeed():
                return any(
                    gate.kind == "capability" and _capability(gate.value) >= need.minimum
                    for gate in self.gates
                    if backend in gate.backends
                )
            case VariableNeed():
                return any(gate.kind == "variable" and gate.subject == need.name for gate in self.gates)
            case SchemeNeed():
                return any(gate.kind == "choice" for gate in gates)
        return False

    def _lacks(self, gate: Gate) -> bool:
        """Whether some version that the guards let through lacks the name that is read."""
        holds = self.known.versions_with(gate.value)
        guarded = [clause for guard in gate.guards for clause in _guard(guard, gate.subject)]
        return bool(holds) and not _within(guarded, [holds or ()])


def _is_for_device(row: Rule, kind: str) -> bool:
    """Whether a row speaks of requests that come to a kind of device."""
    when = row.when
    return (when.device is None or kind in when.device) and (when.accelerator is None or kind in when.accelerator)


def _about(rows: Iterable[Rule], distribution: str) -> list[Rule]:
    return [row for row in rows if isinstance(row.need, DistributionNeed) and row.need.wanted.name == distribution]


def _same_choice(value: str, row: Rule) -> bool:
    """Whether a table of a host and the schemes of a row name the same; llama.cpp's mixtures are of several types."""
    schemes = row.need.schemes if isinstance(row.need, SchemeNeed) else ()
    names = {each.rpartition(".")[2] for each in value.split(", ")}
    types = {scheme for scheme in schemes if scheme.count("_") < 2}
    return names <= set(schemes) and types - names <= {"F32", "F16"}


def _clauses_of(rows: Iterable[Rule]) -> tuple[Clause, ...]:
    found: list[Clause] = []
    for row in rows:
        if isinstance(row.need, DistributionNeed):
            found += row.need.wanted.clauses
        elif isinstance(row.need, PythonNeed):
            found += row.need.clauses
    return tuple(found)


def _asked(gate: Gate) -> list[tuple[Clause, ...]]:
    """What a gate about a version lets through."""
    value = gate.value.partition(" ")[0]
    text = value if not gate.operator or gate.operator.startswith("extra") else ""
    if text or not value:
        return [parse_clauses(text)] if text else []
    operator = gate.operator if gate.needed else _INVERSE[gate.operator]
    return [(Clause(operator, value),)]


def _flat(clauses: list[tuple[Clause, ...]]) -> Iterable[Clause]:
    for each in clauses:
        yield from each


def _guard(guard: Test, subject: str) -> tuple[Clause, ...]:
    if guard.kind != "version" or guard.subject != subject:
        return ()
    return (Clause(guard.operator if guard.holds else _INVERSE[guard.operator], guard.value.partition(" ")[0]),)


def _within(
    allowed: Sequence[Clause], wanted: Iterable[tuple[Clause, ...]], where: Callable[[str], bool] | None = None
) -> bool:
    """Whether every version that some clauses allow is one that others want: tried at, below and above each bound.

    `where`: only of these versions.
    """
    wanted = list(wanted)
    for version in _tried((*allowed, *_flat(wanted))):
        inside = satisfies(version, tuple(allowed), "version") and (where is None or where(version))
        if inside and not all(satisfies(version, clauses, "version") for clauses in wanted):
            return False
    return True


def _tried(clauses: Iterable[Clause]) -> list[str]:
    """Versions at, below and above each bound, the lowest and the highest; `>=0.0.1` in a row is any version."""
    bounds = {clause.version for clause in clauses} - {"0.0.1"}
    return ["0.0.1", "999", *[f"{bound}{ending}" for bound in sorted(bounds) for ending in (".dev0", "", ".post1")]]


# Kinds of environments: a condition of rows, and whether it holds


def _speaks_of(row: Rule, gate: Gate) -> bool:
    """Whether what a row needs has to do with a gate, or with what stands on the way to it."""
    need = row.need
    match need:
        case DistributionNeed():
            return need.wanted.name in (gate.subject, *(guard.subject for guard in gate.guards))
        case VariableNeed():
            return gate.kind == "variable"
        case CapabilityNeed():
            return gate.kind == "capability"
        case RunsOnNeed() | DeviceNeed() | AcceleratorNeed():
            return gate.kind == "device"
    return False


def _where(case: _Case, distribution: str) -> Callable[[str], bool]:
    """The versions of a distribution in the environments of a kind."""
    told = [(each[2], holds) for each, holds in case.items() if each[:2] == ("release", distribution)]
    return lambda version: all(satisfies(version, clauses, "version") is holds for clauses, holds in told)


def _can_be(case: _Case, gate: Gate, rows: list[Rule]) -> bool:
    """Whether there are environments of a kind that come to a gate, past the rules about anything else."""
    for kind, name, _ in case:
        if kind == "capability":
            asked = [guard for guard in gate.guards if guard.kind == "capability" and guard.operator == ">="]
            if not case[kind, name, ()] and any(
                guard.holds and _capability(guard.value) >= _capability(name) for guard in asked
            ):
                return False
    return all(_can_have(case, gate, rows, name) for name in {name for kind, name, _ in case if kind != "capability"})


def _can_have(case: _Case, gate: Gate, rows: list[Rule], name: str) -> bool:
    """Whether a distribution can be there, or not be there, as a kind of environment has it."""
    guards = [guard for guard in gate.guards if guard.subject == name]
    there = any(guard.holds for guard in guards if guard.kind in ("available", "version", "symbol"))
    gone = any(not guard.holds for guard in guards if guard.kind == "available")
    absent = case.get(("absent", name, ()))
    released = [holds for each, holds in case.items() if each[:2] == ("release", name)]
    needs = [] if name == gate.subject else _about(rows, name)
    if absent is not False and not there and not any(released) and not needs:
        return True
    if absent or gone:
        return False
    guarded = tuple(clause for guard in guards for clause in _guard(guard, name))
    clauses = (*guarded, *_clauses_of(needs))
    known = [clause for each in case if each[:2] == ("release", name) for clause in each[2]]
    where = _where(case, name)
    return any(satisfies(version, clauses, "version") and where(version) for version in _tried((*clauses, *known)))


def _is_empty(clauses: Sequence[Clause]) -> bool:
    """Whether no version meets all clauses."""
    return not any(satisfies(version, tuple(clauses), "version") for version in _tried(clauses))


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _names_variable(row: Rule, name: str) -> bool:
    return (isinstance(row.need, VariableNeed) and row.need.name == name) or any(
        name == each for each, _ in row.when.variable
    )


def _unique(rows: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple({(row.id, repr(row.when)): row for row in rows}.values())
