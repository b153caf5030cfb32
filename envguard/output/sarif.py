"""A report as SARIF 2.1.0, for code scanning: a result for each rule that fails, at the line that names its package.

GitHub refuses a whole file where one result has no physical location. Where no file of the project names the package,
the result stands at the first line of its first dependency file, or of a `pyproject.toml` that need not be there.
"""

from __future__ import annotations

from envguard._version import __version__
from envguard.output.findings import Anchor, findings
from envguard.output.layout import prose, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envguard.output.findings import Deciding, Finding, Judged, Places

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"
_NOWHERE = Anchor("pyproject.toml", 1)
_LEVELS = {"error": "error", "undecided": "error", "warning": "warning", "note": "note"}
_SEVERITIES = {"error": "error", "warning": "warning", "info": "recommendation"}
_MOST_RESULTS = 25_000  # of a run: GitHub refuses a file with more


def render(judged: Sequence[Judged], deciding: Deciding, places: Places, rules: str) -> str:
    """One SARIF log with one run, indented, without a last line end."""
    import json

    found = findings(judged, deciding, by_rule=True)[:_MOST_RESULTS]
    ids: dict[str, int] = {}
    descriptors: list[dict[str, Any]] = []
    for finding in found:
        rule = visible(finding.outcome.rule)
        if rule not in ids:
            ids[rule] = len(ids)
            descriptors.append(_rule(finding))
    subjects = _subjects(judged)
    results: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for finding in found:
        key = _fingerprint(finding, subjects[finding.place], seen)
        anchor = places(finding) or _NOWHERE
        results.append(_result(finding, ids[visible(finding.outcome.rule)], anchor, key, len(judged) > 1))
    refused = [each for each in judged if each.report is None]
    run = {
        "tool": {
            "driver": {
                "name": "envguard",
                "fullName": f"envguard {__version__}, rules of {visible(rules)}",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": descriptors,
            }
        },
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The root of the project."}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not refused, **_notifications(refused)}],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1)


def _subjects(judged: Sequence[Judged]) -> list[str]:
    """What tells the subjects apart from one run to the next: nothing for one that was looked at now, else its name."""
    names: dict[str, int] = {}
    made: list[str] = []
    for each in judged:
        interpreter = None if each.report is None else each.report.interpreter
        name = each.name if interpreter is None or interpreter not in each.name else ""
        names[name] = names.get(name, 0) + 1
        made.append(f"{name}#{names[name]}")
    return made


def _fingerprint(finding: Finding, subject: str, seen: dict[str, int]) -> str:
    """The same for the same thing wrong, whatever was found and however the text of a rule changes."""
    from hashlib import sha256

    request = next(iter(finding.requests))
    parts = subject, finding.outcome.rule, request.operation, request.host, request.device
    key = "\0".join(parts)
    seen[key] = seen.get(key, 0) + 1
    return sha256(f"{key}\0{seen[key]}".encode("utf-8", "surrogatepass")).hexdigest()


def _rule(finding: Finding) -> dict[str, Any]:
    outcome = finding.outcome
    rule = visible(outcome.rule)
    said = visible(outcome.needed) if outcome.needed is not None else prose(outcome.message)
    why = prose(outcome.why) if outcome.why else f"{rule} needs {said}."
    advice = _advice(finding)
    made: dict[str, Any] = {
        "id": rule,
        "name": _pascal(rule),
        "shortDescription": {"text": f"{rule} needs {said}"},
        "fullDescription": {"text": why},
        "help": {"text": "\n".join([why, *advice]), "markdown": _markdown(why, advice)},
        "defaultConfiguration": {"level": {"error": "error", "warning": "warning", "info": "note"}[outcome.severity]},
        "properties": {
            "tags": ["environment", outcome.kind, visible(outcome.origin).partition(":")[0]],
            "precision": "very-high",
            "problem.severity": _SEVERITIES[outcome.severity],
        },
    }
    return made


def _advice(finding: Finding) -> list[str]:
    lines: list[str] = []
    for fix in finding.fixes:
        lines += [f"Fix: {prose(fix.text)}"] if fix.text else []
        lines += [f"Run: {visible(line)}" for line in fix.commands]
    lines += [f"Source: {visible(source)}" for source in finding.sources]
    return [*lines, f"More: envguard explain {visible(finding.outcome.rule)}"]


def _markdown(why: str, advice: Sequence[str]) -> str:
    from envguard.output.markdown import code, sentence

    listed = [f"- {label}: {code(text)}" for label, _, text in (line.partition(": ") for line in advice)]
    return "\n".join([sentence(why), "", *listed])


def _result(finding: Finding, index: int, anchor: Anchor, fingerprint: str, several: bool) -> dict[str, Any]:
    place = f" In {visible(finding.judged.title)}." if several else ""
    text = f"{', '.join(map(visible, finding.specs))}: {visible(finding.said())}.{place}"
    return {
        "ruleId": visible(finding.outcome.rule),
        "ruleIndex": index,
        "level": _LEVELS[finding.level],
        "message": {"text": _plain(text)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(anchor.path), "uriBaseId": _ROOT},
                    "region": {"startLine": anchor.line},
                }
            }
        ],
        "partialFingerprints": {"envguard/v1": fingerprint},
        "properties": {
            "status": finding.outcome.status,
            "kind": finding.outcome.kind,
            "ignored": finding.outcome.ignored,
            "backends": [visible(spec) for spec in finding.specs],
            "subject": visible(finding.judged.title),
        },
    }


def _plain(text: str) -> str:
    """A message's text, in which no brackets are taken for a link and no braces for an argument.

    They are escaped only where they could be: not every viewer knows the escapes.
    """
    if "](" in text:
        text = "".join([f"\\{sign}" if sign in "\\[]" else sign for sign in text])
    if any(f"{{{digit}" in text for digit in "0123456789"):
        text = text.replace("{", "{{").replace("}", "}}")
    return text


def _notifications(refused: Sequence[Judged]) -> dict[str, Any]:
    if not refused:
        return {}
    return {
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": _plain(f"{visible(each.title)}: {visible(each.error or '')}")}}
            for each in refused
        ]
    }


def _pascal(rule: str) -> str:
    words = "".join([sign if sign.isalnum() and sign.isascii() else " " for sign in rule]).split()
    return "".join([word[0].upper() + word[1:] for word in words]) or "Rule"


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path.encode("utf-8", "surrogatepass"))
