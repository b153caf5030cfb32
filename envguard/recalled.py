"""A check that was made before: every fact is observed anew, and where all are the same, so is the report.

To judge takes longer than to look, and equal facts give equal reports: both come from one release of envguard, whose
rules are a part of it. For the command line alone: what runs a backend judges each time.
"""

from __future__ import annotations

import os
import sys

from envguard.frozen import Frozen
from envguard.model import BackendReport, Device, Fix, Outcome, Plan, Report, Request
from envguard.probes import remembered
from envguard.probes.wanted import Look, from_values, to_values
from envguard.rulepackages import shipping_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from envguard.model import Operation
    from envguard.probes.interpreter import Interpreter
    from envguard.probes.wanted import Wanted
    from envguard.rulebook import RuleBook


_LONGEST = 1 << 25  # bytes of a lock


class Asked(Frozen):
    """A check as it was asked for; `rules` are folders of further rules."""

    specs: tuple[str, ...]
    host: str
    device: str
    operation: Operation
    ignore: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class _Known(Frozen):
    """An earlier check: what it wanted to know, for which host, what it found, and what came of it."""

    wanted: Wanted
    host: str
    facts: Any
    report: Report


def check(asked: Asked, interpreter: Interpreter, rules: Callable[[], RuleBook]) -> Report:
    """The report of a check, judged only where something is not as it was. Raises what `checks.check_in` does."""
    key, folder = _key(asked, interpreter.executable), remembered.folder()
    known = _known(remembered.recall(key, folder)) if key else None
    look = _look_again(known, asked, interpreter) if known else None
    if known and look and look.environment.data == known.facts:
        return known.report
    from envguard.checks import examine

    examined = examine(
        rules(),
        asked.specs,
        None,
        lambda: interpreter,
        host=asked.host,
        device=asked.device,
        operation=asked.operation,
        ignore=asked.ignore,
        seen=look,
    )
    look = examined.look
    if key and look is not None:
        values = {"wanted": to_values(look.wanted), "host": look.host, "facts": look.environment.data}
        remembered.remember(key, {**values, "report": examined.report}, folder)
    return examined.report


def check_lock(asked: Asked, lock: str, target: Sequence[str], judge: Callable[[], Report]) -> Report:
    """What `judge` says of a lock for a target, judged only where the lock is not as it was. Raises what `judge` does.

    A hook judges the same lock at each commit, and to read TOML takes longer than all else.
    """
    digest = _digest(lock)
    key = _key(asked, "lock", lock, repr(tuple(target)), digest) if digest else None
    folder = remembered.folder()
    values = remembered.recall(key, folder) if key else None
    try:
        return _report(values)
    except (LookupError, TypeError, ValueError):  # nothing, or not what is written below
        report = judge()
    if key and _digest(lock) == digest:  # it is what was judged
        remembered.remember(key, report, folder)
    return report


def _digest(path: str) -> str:
    """What identifies the text of a file; empty where it cannot be read, which is for others to tell."""
    from envguard.probes.folders import read

    try:
        from _blake2 import blake2b  # of `hashlib`, whose import takes ten times as long
    except ImportError:
        from hashlib import blake2b
    try:
        text = read(path, _LONGEST + 1)
    except (OSError, ValueError):
        return ""
    return "" if len(text) > _LONGEST else blake2b(text).hexdigest()


def _known(values: Any) -> _Known | None:
    try:
        return _Known(from_values(values["wanted"]), values["host"], values["facts"], _report(values["report"]))
    except (LookupError, TypeError, ValueError):  # nothing, or not what `check` wrote
        return None


def _look_again(known: _Known, asked: Asked, interpreter: Interpreter) -> Look | None:
    """What is observed now of the facts that an earlier check wanted; None where it was for another host."""
    from envguard.probes.folders import Folders
    from envguard.probes.observe import host_in, observe

    folders = Folders(interpreter.path)
    host = host_in(folders, asked.host)
    return Look(known.wanted, host, observe(known.wanted, interpreter, folders)) if host == known.host else None


def _key(asked: Asked, *about: str) -> str | None:
    """What a report depends on beside the facts; None where there is more that would have to be looked at."""
    release = _release()
    if release is None or asked.rules or shipping_rules(os.environ, sys.path):
        return None
    return "\n".join(["report", release, repr(tuple(asked)), *about])  # type: ignore[arg-type]


def _release() -> str | None:
    """What identifies the installed files of envguard; None in a checkout, which changes by the minute."""
    from envguard._version import __version__

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        status = os.stat(os.path.join(folder, f"envguard_quant-{__version__}.dist-info", "RECORD"))
    except OSError:
        return None
    return f"{__version__} {status.st_mtime_ns} {status.st_size} {status.st_ino}"


def _report(values: Any) -> Report:
    backends, subject, rules, taken_at, interpreter, undecided, not_asked = values
    judged = tuple([_backend(*each) for each in backends])
    return Report(judged, subject, rules, taken_at, interpreter, undecided, tuple(not_asked))


def _backend(
    request: Any, version: Any, verdict: Any, outcomes: Any, schemes: Any, device: Any, plan: Any
) -> BackendReport:
    return BackendReport(
        Request(*request),
        version,
        verdict,
        tuple([_outcome(each) for each in outcomes]),
        schemes,
        device and Device(*device),
        plan and Plan(*map(tuple, plan)),
    )


_FIX = Outcome.__match_args__.index("fix")


def _outcome(values: Any) -> Outcome:
    if values[_FIX]:
        text, commands = values[_FIX]
        values[_FIX] = Fix(text, tuple(commands))
    return Outcome(*values)
