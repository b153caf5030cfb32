"""The frozen types that cross rooms: what is needed, what is there, what is asked, what comes out.

A fact is a JSON value, `None` (observed to be absent) or `Unreadable` (not observed, with the reason).
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypeAlias

    Status: TypeAlias = Literal["met", "unmet", "undecided", "skipped"]
    Severity: TypeAlias = Literal["error", "warning", "info"]
    Verdict: TypeAlias = Literal["ok", "degraded", "undecided", "blocked"]
    Kind: TypeAlias = Literal["absent", "version", "hardware", "platform", "broken", "configuration", "advisory"]
    Operation: TypeAlias = Literal["quantize", "load", "save"]
    Host: TypeAlias = Literal["diffusers", "transformers", "none"]

SNAPSHOT_SCHEMA = "envguard.snapshot/1"
REPORT_SCHEMA = "envguard.report/1"

OPERATIONS = ("quantize", "load", "save")
DEVICE_KINDS = ("auto", "cuda", "rocm", "xpu", "mps", "cpu")
HOSTS = ("auto", "diffusers", "transformers", "none")
BACKENDS = ("bitsandbytes", "torchao", "quanto", "gguf", "modelopt")  # that envguard runs; rules may judge others too
WEIGHTS = ("safetensors", "torch", "gguf", "flax")  # the forms in which a model may be stored
VERDICTS: tuple[Verdict, ...] = ("ok", "degraded", "undecided", "blocked")  # from best to worst


class Unreadable(Frozen):
    """A fact that could not be observed, and why."""

    reason: str


NOT_OBSERVED = Unreadable("not observed")


class Ranged(Unreadable):
    """A version of which only a range is known, because a file asks for that and no more; "" for any version."""

    reason: str
    specifier: str


class Environment(Frozen):
    """What one machine and one Python environment look like: an immutable snapshot.

    `data` is the mapping that schema `envguard.snapshot/1` describes; nobody changes it after this object is made.
    """

    data: Mapping[str, Any]

    def fact(self, section: str, key: str) -> Any:
        """The fact `section/key`: a JSON value, None for observed absent, or Unreadable."""
        try:
            return self.data[section][key]
        except (KeyError, TypeError):
            if section in self.data and self.data[section] is None:
                return None
        return self._unreadable(f"/{section}/{key}", f"/{section}")

    def section(self, name: str) -> Any:
        """A whole section: a JSON value, None for observed absent, or Unreadable."""
        if name in self.data:
            return self.data[name]
        return self._unreadable(f"/{name}")

    def distribution(self, name: str) -> Any:
        """The entry of a distribution (by normalized name), None for not installed, or Unreadable."""
        listed = self.data.get("distributions")
        if listed is not None and name in listed:
            return listed[name]
        pointer = f"/distributions/{name}"
        if (
            listed is not None
            and self.data.get("distributions_complete")
            and pointer not in self.data.get("unreadable", ())
        ):
            return None
        return self._unreadable(pointer, "/distributions")

    def version(self, name: str) -> Any:
        """A distribution's version as its metadata gives it, None for not installed, or Unreadable."""
        try:
            version = self.data["distributions"][name]["version"]
            if version is not None:
                return version
        except (KeyError, TypeError):
            pass
        entry = self.distribution(name)
        if entry is None or isinstance(entry, Unreadable):
            return entry
        if "specifier" in entry:
            return Ranged(self._unreadable(f"/distributions/{name}/version").reason, entry["specifier"])
        return self._unreadable(f"/distributions/{name}/version", default="its metadata gives no version")

    def to_json(self) -> str:
        """The snapshot as JSON of schema envguard.snapshot/1, indented."""
        import json

        return json.dumps(self.data, indent=1, ensure_ascii=True)

    @staticmethod
    def from_json(text: str | bytes) -> Environment:
        """The environment that a snapshot describes. Raises BadSnapshot: one line, what is wrong and where."""
        from envguard.snapshots import parse

        return parse(text)

    def _unreadable(self, *pointers: str, default: str = "not observed") -> Unreadable:
        reasons = self.data.get("unreadable")
        if reasons:
            for pointer in pointers:
                if pointer in reasons:
                    return Unreadable(reasons[pointer])
        return NOT_OBSERVED if default == "not observed" else Unreadable(default)


class Request(Frozen):
    """What the user asks. `host` is resolved (never "auto"); `device` stands as asked.

    `weights` is the form in which the model is stored, one of WEIGHTS, where a model was named.
    """

    backend: str
    scheme: str | None = None
    operation: Operation = "quantize"
    host: Host = "diffusers"
    device: str = "auto"
    weights: str | None = None

    @property
    def device_kind(self) -> str:
        """The device without its index: auto, cuda, rocm, xpu, mps or cpu."""
        return self.device.partition(":")[0]

    @property
    def device_index(self) -> int | None:
        """The index of `cuda:N`, None where none was named."""
        index = self.device.partition(":")[2]
        return int(index) if index else None


class Fix(Frozen):
    """How to mend an unmet rule: what to do in words, and commands that run as printed."""

    text: str
    commands: tuple[str, ...] = ()


class Outcome(Frozen):
    """What one rule says about one environment: verdict and words together."""

    rule: str
    status: Status
    severity: Severity
    kind: Kind
    origin: str
    message: str
    needed: str | None = None
    found: str | None = None
    why: str | None = None
    fix: Fix | None = None
    source: str | None = None
    because: str | None = None
    ignored: bool = False


_MESSAGE, _FIX = Outcome.__match_args__.index("message"), Outcome.__match_args__.index("fix")


def with_fix(outcome: Outcome, message: str, fix: Fix) -> Outcome:
    """An outcome with a message and a fix: `replace` would take three times as long, for some of every report."""
    between = outcome[_MESSAGE + 1 : _FIX]  # type: ignore[index]
    return Outcome(*outcome[:_MESSAGE], message, *between, fix, *outcome[_FIX + 1 :])  # type: ignore[call-arg, index]


class Plan(Frozen):
    """One way out of all failing package rules of a backend at once."""

    commands: tuple[str, ...]
    resolves: tuple[str, ...]
    unsolved: tuple[str, ...]


class Device(Frozen):
    """The device that a request was judged for."""

    kind: str
    index: int | None = None
    name: str | None = None


class BackendReport(Frozen):
    """Every rule that applied to one request, passing ones too."""

    request: Request
    version: str | None
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    schemes: Mapping[str, Verdict] | None = None
    resolved_device: Device | None = None
    plan: Plan | None = None


class Report(Frozen):
    """The answer to a check: one BackendReport for each request.

    `subject` says what was looked at, `rules` of when its rules are, `undecided` whether what could not be observed
    was let pass ("allow"). `not_asked` are the rules that a file cannot answer, where one was judged.
    """

    backends: tuple[BackendReport, ...]
    subject: str
    rules: str
    taken_at: str | None = None
    interpreter: str | None = None
    undecided: str = "block"
    not_asked: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the backends asked for; undecided where there is none."""
        return worst(report.verdict for report in self.backends)

    @property
    def ok(self) -> bool:
        """True where every backend asked for may run (ok or degraded)."""
        return self.verdict in ("ok", "degraded")

    def to_json(self) -> str:
        """The report as JSON of schema envguard.report/1."""
        from envguard.output.json import render

        return render(self)

    def __str__(self) -> str:
        from envguard.output.text import render

        return render(self)


def worst(verdicts: Any) -> Verdict:
    """The worst of some verdicts; "undecided" for none at all, because nothing was looked at."""
    return max(verdicts, key=VERDICTS.index, default="undecided")
