"""A report as JSON of schema envguard.report/1: one line, ASCII, its fields always in the same order.

`report_line` is made for streams of many reports. Most outcomes of a stream are the same objects again and again, so
each is encoded once; the rest is string joins. Own code because `json.dumps` takes several times longer.
"""

from __future__ import annotations

from envguard._version import __version__
from envguard.frozen import replace
from envguard.jsontext import quoted as _quoted
from envguard.model import REPORT_SCHEMA, Fix, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from envguard.model import BackendReport, Device, Plan, Report

    T = TypeVar("T")

ERROR_SCHEMA = "envguard.error/1"
# Together they keep memory flat over any number of reports, whatever their strings hold.
_MOST_REMEMBERED, _MOST_FRAGMENTS, _MOST_NEW, _LONGEST_REMEMBERED = 2_000, 20_000, 2_000, 4_000

_START = f'{{"schema":"{REPORT_SCHEMA}","envguard":{_quoted(__version__)},"rules":'
_HALF = "\\ud"  # how JSON writes half a surrogate pair (and a whole one, and some Windows paths)
_BECAUSE, _IGNORED = ',"because":', ',"ignored":true'

# id(outcome) -> the outcome and its JSON. Each entry keeps its outcome alive, so an id that is found is that outcome's.
# What is met once alone, because it names a path, stays among the new ones and is forgotten with these.
_fragments: dict[int, tuple[Outcome, str]] = {}
_new_fragments: dict[int, tuple[Outcome, str]] = {}
# An outcome without its commands -> its JSON before and after them.
_halves: dict[Any, tuple[str, str]] = {}
_FIX = Outcome.__match_args__.index("fix")
_COMMANDS = '"commands":[]'


class _Texts(dict["str | None", str]):
    """Text that the rules or the request give -> its JSON, encoded once."""

    def __missing__(self, text: str | None) -> str:
        made = _nullable(text)
        return _keep(self, text, made) if len(made) <= _LONGEST_REMEMBERED else made


class _Verdicts(dict["tuple[tuple[str, ...], tuple[str, ...]]", str]):
    """Schemes and their verdicts -> the field of the report, encoded once."""

    def __missing__(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> str:
        members = [f"{_string(scheme)}:{_string(verdict)}" for scheme, verdict in zip(*key, strict=True)]
        made = f'"schemes":{{{",".join(members)}}},'
        return _keep(self, key, made) if len(made) <= _LONGEST_REMEMBERED else made


def _keep(memory: dict[Any, T], key: object, made: T) -> T:
    if len(memory) >= _MOST_REMEMBERED:
        memory.clear()
    memory[key] = made
    return made


_texts = _Texts()
_verdicts = _Verdicts()


def render(report: Report) -> str:
    """The report as one line of JSON, without a line end."""
    return _report(report, lambda outcomes: ",".join(map(_outcome, outcomes)))


def report_line(report: Report) -> str:
    """The same line as `render`, remembering what it encodes: for many reports with outcomes in common."""
    return _report(report, _remembered)


def error_record(line_number: int, text: str) -> str:
    """What stands in the place of a report for a line of input that could not be judged."""
    return f'{{"schema":"{ERROR_SCHEMA}","line":{line_number},"error":{_string(text)}}}'


def _report(report: Report, outcomes: Callable[[tuple[Outcome, ...]], str]) -> str:
    let_pass = "" if report.undecided == "block" else f'"undecided":{_string(report.undecided)},'
    if report.not_asked:
        let_pass += f'"not_asked":{_strings(report.not_asked)},'
    return (
        f'{_START}{_texts[report.rules]},"subject":{_string(report.subject)},"interpreter":{_nullable(report.interpreter)},'
        f'"taken_at":{_nullable(report.taken_at)},"verdict":"{report.verdict}",{let_pass}'
        f'"backends":[{",".join([_backend(backend, outcomes(backend.outcomes)) for backend in report.backends])}]}}'
    )


def _backend(backend: BackendReport, outcomes: str) -> str:
    request, schemes = backend.request, backend.schemes
    return (
        f'{{"backend":{_texts[request.backend]},"scheme":{_texts[request.scheme]},'
        f'"operation":"{request.operation}","host":"{request.host}","device":{_texts[request.device]},'
        f'"resolved_device":{_device(backend.resolved_device)},"version":{_nullable(backend.version)},'
        f'"verdict":"{backend.verdict}",{"" if schemes is None else _verdicts[tuple(schemes), tuple(schemes.values())]}'
        f'"plan":{_plan(backend.plan)},"outcomes":[{outcomes}]}}'
    )


def _remembered(outcomes: tuple[Outcome, ...]) -> str:
    known = _fragments.get
    return ",".join([(known(id(outcome)) or _fragment(outcome))[1] for outcome in outcomes])


def _fragment(outcome: Outcome) -> tuple[Outcome, str]:
    if outcome.fix is not None and outcome.fix.commands:
        return outcome, _with_commands(outcome, outcome.fix)
    met = _new_fragments.pop(id(outcome), None)
    made = met or (outcome, _outcome(outcome))
    memory, most = (_fragments, _MOST_FRAGMENTS) if met else (_new_fragments, _MOST_NEW)
    if len(memory) >= most:
        memory.clear()
    if len(made[1]) <= _LONGEST_REMEMBERED:
        memory[id(outcome)] = made
    return made


def _with_commands(outcome: Outcome, fix: Fix) -> str:
    """An outcome whose commands name the interpreter of one machine; what stands around them is encoded once."""
    around = outcome[:_FIX], fix.text, outcome[_FIX + 1 :]  # type: ignore[index]
    halves = _halves.get(around)
    if halves is None:
        before, commands, after = _outcome(replace(outcome, fix=Fix(fix.text, ()))).partition(_COMMANDS)
        halves = before + commands[:-1], "]" + after
        if len(before) + len(after) <= _LONGEST_REMEMBERED:
            _keep(_halves, around, halves)
    return f"{halves[0]}{','.join(map(_string, fix.commands))}{halves[1]}"


def _outcome(outcome: Outcome, quoted: Callable[[str], str] = _quoted) -> str:
    found, because = outcome.found, outcome.because
    text = (
        f'{{"rule":{_texts[outcome.rule]},"status":"{outcome.status}","severity":"{outcome.severity}",'
        f'"kind":"{outcome.kind}","origin":{_texts[outcome.origin]},"message":{quoted(outcome.message)},'
        f'"needed":{_texts[outcome.needed]},"found":{"null" if found is None else quoted(found)},'
        f'"why":{_texts[outcome.why]},"fix":{_fix(outcome.fix, quoted)},"source":{_texts[outcome.source]}'
        f"{'' if because is None else _BECAUSE + _texts[because]}{_IGNORED if outcome.ignored else ''}}}"
    )
    # One look at the whole for what `_string` looks for in each.
    return _outcome(outcome, _string) if _HALF in text and quoted is _quoted else text


def _fix(fix: Fix | None, quoted: Callable[[str], str]) -> str:
    return (
        "null" if fix is None else f'{{"text":{_texts[fix.text]},"commands":[{",".join(map(quoted, fix.commands))}]}}'
    )


def _plan(plan: Plan | None) -> str:
    if plan is None:
        return "null"
    commands, resolves, unsolved = _strings(plan.commands), _strings(plan.resolves), _strings(plan.unsolved)
    return f'{{"commands":{commands},"resolves":{resolves},"unsolved":{unsolved}}}'


def _device(device: Device | None) -> str:
    if device is None:
        return "null"
    index = "null" if device.index is None else device.index
    return f'{{"kind":{_string(device.kind)},"index":{index},"name":{_nullable(device.name)}}}'


def _strings(texts: tuple[str, ...]) -> str:
    return f"[{','.join(map(_string, texts))}]"


def _nullable(text: str | None) -> str:
    return "null" if text is None else _string(text)


def _string(text: str) -> str:
    quoted: str = _quoted(text)
    if _HALF in quoted:  # perhaps half a surrogate pair, from a file name that is not UTF-8: strict readers refuse it
        return _quoted(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return quoted
