"""What a deep look adds to a report: one outcome for each backend whose static verdict lets it run.

Works in the process that asks. The child does the work; whatever it does is an outcome, never an error of ours.
"""

from __future__ import annotations

import json
import os

from envguard.checks import check_in
from envguard.deep.process import Ended, run
from envguard.errors import BadInput, BadInterpreter
from envguard.frozen import Frozen, replace
from envguard.model import BACKENDS, Fix, Outcome, worst
from envguard.output.layout import visible
from envguard.permits import passes
from envguard.shipped import load as rules
from envguard.trials import FIX, SECONDS, rule_of, unknown
from envguard.versions import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from envguard.model import BackendReport, Operation, Report, Status, Verdict
    from envguard.probes.interpreter import Interpreter

_OLDEST = "3.10"  # that runs our package
_MOST = 1 << 16  # bytes of an answer; a whole one has a hundredth of that

# Which scheme is tried where none was asked for: the first whose rules pass; these before the backend's others.
_FIRST = {
    "bitsandbytes": ("nf4", "int8"),
    "torchao": ("int8_weight_only", "float8_weight_only"),
    "quanto": ("int8", "float8"),
    "gguf": ("Q8_0",),
    "modelopt": ("int8", "fp8"),
}

# The largest relative error of a result that is right, well above what each scheme has on a CPU and on a GPU.
_ERRORS: Mapping[str, Mapping[str, float]] = {
    "bitsandbytes": {"nf4": 0.2, "fp4": 0.3, "int8": 0.06},
    "torchao": {
        "int8_weight_only": 0.15,  # 0.15.0 is that rough
        "int8_dynamic": 0.15,
        "int4_weight_only": 0.25,
        "int4_tile_packed": 0.25,
        "float8_weight_only": 0.12,
        "float8_dynamic": 0.15,
        "uint1_weight_only": 1.3,
        "uint2_weight_only": 0.9,
        "uint3_weight_only": 0.45,
        "uint4_weight_only": 0.25,
        "uint5_weight_only": 0.15,
        "uint6_weight_only": 0.08,
        "uint7_weight_only": 0.06,
        "nvfp4_weight_only": 0.3,
        "nvfp4_dynamic": 0.45,
        "mxfp8_dynamic": 0.2,
    },
    "quanto": {"int8": 0.06, "int4": 0.25, "int2": 1.2, "float8": 0.2},
    "gguf": {
        "F32": 0.02,  # bfloat16 adds up in another order on another device
        "F16": 0.02,
        "BF16": 0.02,
        "Q8_0": 0.05,
        "Q5_1": 0.15,
        "Q5_0": 0.15,
        "Q4_1": 0.25,
        "Q4_0": 0.25,
        "MXFP4": 0.45,
    },
    "modelopt": {"fp8": 0.12, "int8": 0.06, "int4": 0.25, "nf4": 0.25, "nvfp4": 0.35},
}
_ROUGH = 1.3  # of schemes for models that were trained so (TQ1_0), which round random weights away


class Trial(Frozen):
    """How one child process did: how it ended, what it answered and how long it took."""

    ended: Ended
    answer: Mapping[str, Any]
    seconds: float


def smoke(
    spec: str,
    host: str = "auto",
    device: str = "auto",
    operation: Operation = "quantize",
    *,
    ignore: Iterable[str] = (),
    undecided: str = "block",
    python: str | None = None,
    timeout: float = SECONDS,
) -> Report:
    """What the rules say about a backend here, and whether it then really works: the report of `check`, looked deeper.

    `spec`, `host`, `device`, `operation` and `ignore` are those of `check`, `undecided` is that of `require`. Where the
    report passes, a child process quantizes a model of two small linear layers with the scheme (without one, with the
    first whose rules pass; the outcome names it), runs it on the device, compares the result with that of the
    unquantized model, saves the model and loads it again, all through the guarded backend, in a model class of the
    host. `python` is another interpreter or virtual environment to look at instead of this one, `timeout` the seconds
    that the child has.

    The report that comes back has the outcome `<backend>/smoke` of origin "deep": met, with the time and the error
    measured, or unmet of kind "broken" for a crash (with its signal), a hang, a failed import, an error or a wrong
    result; that blocks. A report that is blocked or undecided already comes back as it is, and nothing was imported.
    No backend is imported in this process, and no file stays behind.

    Raises UnknownBackend or UnknownScheme for a bad spec, ValueError for another bad argument, BadInterpreter for an
    interpreter that does not start or cannot run envguard, BadInput where no temporary folder can be made.
    """
    from envguard.probes.interpreter import ask, current

    if undecided not in ("block", "allow"):
        raise ValueError(f"undecided: expected 'block' or 'allow', found {undecided!r}")
    validate_timeout(timeout)
    ignore = tuple(ignore)
    strangers = unknown(ignore, rules())
    if strangers:
        raise ValueError(f"ignore: no rule has the id {strangers[0]!r} (envguard rules lists them)")
    interpreter = current() if python is None else ask(python)
    report = check_in(
        rules(), (spec,), None, lambda: interpreter, host=host, device=device, operation=operation, ignore=ignore
    )
    return deepened(replace(report, undecided=undecided), interpreter, ignore, timeout)


def validate_timeout(seconds: float) -> None:
    """Raises ValueError for what is no number of seconds above zero."""
    if not 0 < seconds <= 1e6:  # nan is neither; more than that no waiting takes
        raise ValueError(f"timeout: expected seconds above 0, found {seconds!r}")


def deepened(report: Report, interpreter: Interpreter, ignore: Sequence[str], seconds: float) -> Report:
    """The report of an interpreter with the outcomes of its child processes. Raises BadInterpreter, BadInput."""
    return replace(
        report, backends=tuple([_deepened(each, report, interpreter, ignore, seconds) for each in report.backends])
    )


def _deepened(
    backend: BackendReport, report: Report, interpreter: Interpreter, ignore: Sequence[str], seconds: float
) -> BackendReport:
    if not passes(replace(report, backends=(backend,)), report.undecided):
        return backend
    request = backend.request
    if request.backend not in BACKENDS:
        unable = f"envguard judges {request.backend}, but cannot run it: it runs {', '.join(BACKENDS)}"
        return _with(backend, _skipped(request.backend, unable, None), ignore)
    scheme = request.scheme or _default_scheme(backend, report.undecided)
    if scheme is None:
        return _with(backend, _skipped(request.backend, "no scheme of it passes its rules here", None), ignore)
    asked = {
        "spec": f"{request.backend}:{scheme}",
        "host": request.host,
        "device": request.device,
        "operation": request.operation,
        "undecided": report.undecided,
        "ignore": list(ignore),
    }
    trial = try_it(interpreter, asked, seconds)
    return _with(backend, outcome_of(request.backend, scheme, request.host, trial), ignore, scheme)


def _default_scheme(backend: BackendReport, undecided: str) -> str | None:
    verdicts = backend.schemes or {}
    fine = ("ok", "degraded", "undecided") if undecided == "allow" else ("ok", "degraded")
    for scheme in (*_FIRST.get(backend.request.backend, ()), *verdicts):
        if verdicts.get(scheme) in fine:
            return scheme
    return None


def _with(backend: BackendReport, outcome: Outcome, ignore: Sequence[str], scheme: str | None = None) -> BackendReport:
    """The report with one more outcome, whose verdict counts: for the backend, and for the scheme that was tried."""
    if outcome.rule in ignore:
        outcome = replace(outcome, ignored=True)
    backend = replace(backend, outcomes=(*backend.outcomes, outcome))
    if outcome.status != "unmet":
        return backend
    verdict: Verdict = "degraded" if outcome.ignored else "blocked"
    if backend.schemes is not None and scheme is not None:
        schemes = {**backend.schemes, scheme: worst((backend.schemes[scheme], verdict))}
        backend = replace(backend, schemes=schemes)
    return replace(backend, verdict=worst((backend.verdict, verdict)))


def try_it(interpreter: Interpreter, asked: Mapping[str, Any], seconds: float) -> Trial:
    """Let a child process of an interpreter do what is asked. Raises BadInterpreter, BadInput."""
    import shutil
    import tempfile
    import time

    name = visible(interpreter.executable)
    if not interpreter.executable:
        raise BadInterpreter("a deep look starts this Python once more, but it does not tell its executable")
    if key(interpreter.version) < key(_OLDEST):  # type: ignore[operator]
        raise BadInterpreter(
            f"a deep look runs envguard in {name}, which is Python {interpreter.version}: it needs {_OLDEST} or newer"
        )
    try:
        folder = tempfile.mkdtemp(prefix="envguard-")
    except OSError as error:
        raise BadInput(f"a deep look needs a temporary folder: {error.strerror or error}") from None
    try:
        answer = os.path.join(folder, "answer.json")
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        given = {**asked, "path": interpreter.path, "package": package, "folder": folder, "answer": answer}
        began = time.monotonic()
        ended = run(_command(interpreter), json.dumps(given).encode() + b"\n", _environ(folder), seconds)
        trial = Trial(ended, _answer(answer), time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if "unable" in trial.answer:
        reason = visible(str(trial.answer["unable"])[:300])
        raise BadInterpreter(f"a deep look runs envguard in {name}, which cannot import it: {reason}")
    return trial


def _command(interpreter: Interpreter) -> list[str]:
    # -B: looking must not write .pyc files
    return [interpreter.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")]


def _environ(folder: str) -> dict[str, str]:
    """The variables of this process; what is temporary goes away with the folder, and nothing is fetched."""
    # the launcher of macOS framework builds sets __PYVENV_LAUNCHER__ for its own virtual environment
    own = {name: value for name, value in os.environ.items() if name != "__PYVENV_LAUNCHER__"}
    places = dict.fromkeys(("TMPDIR", "TMP", "TEMP", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"), folder)
    return {**own, **places, "HF_HUB_OFFLINE": "1"}


def _answer(file: str) -> Mapping[str, Any]:
    """What the child wrote last; nothing where it wrote nothing, or was stopped in the middle of it."""
    try:
        with open(file, "rb") as opened:
            answer = json.loads(opened.read(_MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def outcome_of(backend: str, scheme: str, host: str, trial: Trial) -> Outcome:
    """The outcome of a trial."""
    ended, answer = trial.ended, trial.answer
    spec = f"{backend}:{scheme}"
    refused = answer.get("refused")
    error, again = (_number(answer.get(name)) for name in ("error", "again"))
    limit = _ERRORS.get(backend, {}).get(scheme, _ROUGH) * (1 if host == "none" else 1.5)  # hosts' models are deeper
    took = f"{trial.seconds:.1f} s"
    if ended.how:
        step = answer.get("step")
        while_ = f" {step}" if isinstance(step, str) and step else ""
        return _broken(backend, scheme, host, visible(f"the child process {ended.how}{while_}"), ended.said)
    if error is not None and not error <= limit:
        found = f"its result differs from the unquantized model's by {error:.3g} (at most {limit:g} is right)"
        return _broken(backend, scheme, host, found, ended.said)
    if refused:
        rule, message = (visible(str(each)) for each in (*refused[0], "", "")[:2])
        if error is None:
            return _skipped(backend, f"{spec} cannot be made here to try it: {rule}: {message}", rule)
        found = f"relative error {error:.3g} in {took}; not saved, which {rule} does not allow"
        return _met(backend, scheme, host, answer, found)
    if error is None or again is None:
        return _broken(backend, scheme, host, "the child process ended well without a result", ended.said)
    if again != 0:
        found = f"saved and loaded again, its result differs from before by {again:.3g} (it must be the same)"
        return _broken(backend, scheme, host, found, ended.said)
    return _met(backend, scheme, host, answer, f"relative error {error:.3g}, loaded again the same, in {took}")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _needed(backend: str, scheme: str, host: str) -> str:
    where = "" if host == "none" else f" in {host}"
    return f"a tiny model quantized to {backend}:{scheme}{where} runs, is saved and loads again"


def _met(backend: str, scheme: str, host: str, answer: Mapping[str, Any], found: str) -> Outcome:
    device = answer.get("device")
    found += f" on {visible(device)}" if isinstance(device, str) else ""
    return _outcome(backend, "met", f"{_needed(backend, scheme, host)}: {found}", _needed(backend, scheme, host), found)


def _broken(backend: str, scheme: str, host: str, found: str, said: str) -> Outcome:
    needed = _needed(backend, scheme, host)
    found = f"{found}; last line: {said}" if said else found
    return _outcome(backend, "unmet", f"needs {needed}, found {found}", needed, found, Fix(FIX))


def _skipped(backend: str, message: str, because: str | None) -> Outcome:
    return replace(_outcome(backend, "skipped", message, None, None), because=because)


def _outcome(
    backend: str, status: Status, message: str, needed: str | None, found: str | None, fix: Fix | None = None
) -> Outcome:
    rule = rule_of(backend)
    return Outcome(
        rule.id, status, rule.severity, rule.kind, rule.origin, message, needed, found, rule.why, fix, rule.source
    )
