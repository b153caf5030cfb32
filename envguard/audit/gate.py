"""What the audit speaks of: a test that a host's code makes, and the gate that comes of it."""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Fact: TypeAlias = tuple[str, str]

KINDS = (
    "available",
    "version",
    "device",
    "capability",
    "variable",
    "symbol",
    "method",
    "choice",
    "argument",
    "lookup",
    "mixed",
)
"""available: a distribution is there. version: it is of some version. device: torch sees one of a kind. capability: the
NVIDIA device's. variable: of the environment. symbol: a name that is imported, or read of a module. method: a way to
quantize, with its configuration class. choice: one value of a table. argument: anything else, that is, what the caller
gives and not the environment. lookup: the code by which the host finds a distribution and compares its version. mixed:
the environment decides, but how is more than can be read out of the source."""

ENVIRONMENT = ("available", "version", "device", "capability", "variable", "symbol", "method", "lookup", "mixed")

STAGES = ("metadata", "lookup", "import", "config", "init", "validate", "load", "use")
"""In the order in which a user meets them; use: a method that runs after the checks."""

EFFECTS = ("raises", "imports", "optional", "warns", "branches", "declares")
"""raises: an exception where the need is not met. imports: the statement itself fails. optional: the failure is caught.
warns, branches: another way is taken, with a message or without. declares: what the release says of itself."""


class Test(Frozen):
    """One test, and which answer of it is meant. Versions are compared by `>=`, `>` and `==` alone: `<` is `not >=`."""

    kind: str
    subject: str
    operator: str = ""
    value: str = ""
    holds: bool = True

    __test__ = False  # no test of pytest's

    def text(self) -> str:
        """The test in words."""
        return need_text(self.kind, self.subject, self.operator, self.value, self.holds)


class Gate(Frozen):
    """A need that the code of a host release has, and what becomes of it that is not met.

    `backends` are those of envguard that it concerns; empty where it belongs to a method that envguard does not have.
    `needed` is False where the environment must not be so. `guards` are the tests on the way to it.
    """

    host: str
    method: str
    backends: tuple[str, ...]
    stage: str
    effect: str
    kind: str
    subject: str
    operator: str
    value: str
    needed: bool
    exception: str
    message: str
    file: str
    line: int
    where: str
    guards: tuple[Test, ...]

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes it the same gate in two releases: all but its value, its words and its place in the file."""
        return (
            self.method,
            self.stage,
            self.where,
            self.kind,
            self.subject,
            self.value if self.kind == "symbol" else "",
        )

    @property
    def content(self) -> tuple[object, ...]:
        """What a release can change about it."""
        guards = tuple(sorted({guard.text() for guard in self.guards if guard.kind in ENVIRONMENT}))
        return self.effect, self.operator, self.value, self.needed, self.exception, guards

    def need(self) -> str:
        """What is needed, in words."""
        return need_text(self.kind, self.subject, self.operator, self.value, self.needed)


_OPPOSITE = {">=": "<", ">": "<=", "==": "!="}


def need_text(kind: str, subject: str, operator: str, value: str, needed: bool) -> str:
    """A need in words: `torchao>=0.15.0`, `a device of cuda, xpu`, `no flashinfer`."""
    if kind == "version":
        return f"{subject}{operator if needed else _OPPOSITE.get(operator, 'not ' + operator)}{value}"
    if kind == "capability":
        return f"compute capability {operator if needed else _OPPOSITE.get(operator, 'not ' + operator)} {value}"
    said = {
        "available": subject,
        "device": f"a device of {value or subject}",
        "variable": f"{subject} {operator} {value}".rstrip(),
        "symbol": value or subject,
        "method": f"{subject}: {value}",
        "choice": f"{subject} one of {value}",
        "lookup": f"{subject} as {value}",
    }.get(kind, subject)
    return said if needed else f"not {said}" if kind in ("variable", "argument", "choice") else f"no {said}"
