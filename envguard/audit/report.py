"""What an audit found, as text and as JSON."""

from __future__ import annotations

from envguard.audit.coverage import STATUSES
from envguard.output.explain import need_text, when_text
from envguard.output.layout import PLAIN_WIDTH, make_page, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from envguard.audit import Audit
    from envguard.audit.compare import Change
    from envguard.audit.coverage import Finding
    from envguard.audit.gate import Gate
    from envguard.output.layout import Line, Page
    from envguard.rule import Rule

_LONGEST_NEED = 60
_WORDS = {
    "new": "no rule speaks of it",
    "changed": "the rules ask for something else",
    "gone": "no gate asks for what the rule needs",
}


def as_text(found: Audit, *, width: int = PLAIN_WIDTH, unicode: bool = True, encoding: str | None = None) -> str:
    """A report to read: what is not covered, with file and line, then the counts."""
    return plain(_report(found, make_page(width, unicode, encoding)))


def as_json(found: Audit) -> str:
    """Every gate with its status, as one JSON object."""
    from json import dumps

    document: dict[str, Any] = {
        "schema": "envguard.audit/1",
        "host": found.host,
        "version": found.version,
        "source": found.place,
        "covered": not found.open,
        "counts": _counts(found),
        "findings": [_finding(finding) for finding in found.findings],
    }
    if found.against is not None:
        document["against"] = found.against
        document["changes"] = [
            {"what": change.what, "old": _gate(change.old), "new": _gate(change.new)} for change in found.changes
        ]
    return dumps(document)


def _counts(found: Audit) -> dict[str, int]:
    return {status: sum(finding.status == status for finding in found.findings) for status in STATUSES}


# Text


def _report(found: Audit, page: Page) -> Iterator[Line]:
    yield from page.wrap(
        [(f"{found.host} {page.show(found.version)}  ", "strong")], page.show(found.place), "  ", "faint"
    )
    for status, words in _WORDS.items():
        groups = _grouped(finding for finding in found.findings if finding.status == status)
        if groups:
            yield []
            yield [(f"{status}: {words}", "strong")]
        for group in groups:
            yield from _group(group, page)
    if found.against is not None:
        yield []
        yield [(f"since {page.show(found.against)}", "strong")]
        for change in found.changes:
            yield from _change(change, page)
    counts = _counts(found)
    methods = sorted({finding.gate.method for finding in found.findings if finding.status == "other" and finding.gate})
    yield []
    total = sum(finding.gate is not None for finding in found.findings)
    said = f"{total} gates: {counts['covered']} covered by rules, {counts['acknowledged']} acknowledged"
    yield from page.wrap([], f"{said}; not covered: {len(found.open)}.", "  ")
    if methods:
        yield from page.wrap([], f"Out of scope, {counts['other']} gates: {page.show(', '.join(methods))}.", "  ")


def _grouped(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings in order; names that one place imports stand together."""
    groups: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        gate = finding.gate
        together = gate is not None and gate.kind == "symbol"
        key = (gate.where, gate.subject, gate.effect, gate.exception, finding.rules) if gate and together else number
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def _group(group: Sequence[Finding], page: Page) -> Iterator[Line]:
    finding = group[0]
    gate = finding.gate
    if gate is None:
        yield from page.wrap(
            [("  ", "")], page.show(f"{finding.rules[0].id}: {need_text(finding.rules[0].need)}"), "    "
        )
        yield from page.field("for", page.show(when_text(finding.rules[0].when)))
        yield from page.field("file", page.show(finding.rules[0].file))
        return
    needs = ", ".join(dict.fromkeys(each.gate.need() for each in group if each.gate))
    yield from page.wrap([("  ", "")], page.show(f"{_who(gate, finding)}: {needs}"), "    ")
    yield from page.field(
        "at", page.show(f"{gate.file}:{gate.line} {'' if gate.where == gate.file else gate.where}".rstrip())
    )
    yield from page.field("else", page.show(_else(gate)))
    if gate.guards:
        yield from page.field("where", page.show("; ".join(guard.text() for guard in gate.guards)))
    if finding.rules:
        yield from page.field("rules", page.show("; ".join(dict.fromkeys(map(_rule, finding.rules)))))


def _who(gate: Gate, finding: Finding) -> str:
    concerned = finding.backends or gate.backends
    return f"{gate.stage} of {gate.method or 'every model'}" + (
        f" (for {', '.join(concerned)})" if finding.backends else ""
    )


def _else(gate: Gate) -> str:
    text = {"imports": "the import fails", "branches": "another way", "declares": "told to pip"}.get(
        gate.effect, gate.effect
    )
    said = f"{text} {gate.exception}".strip()
    return f"{said}: {gate.message[:160]}" if gate.message else said


def _rule(rule: Rule) -> str:
    need = need_text(rule.need)
    return f"{rule.id} ({need if len(need) <= _LONGEST_NEED else need[:_LONGEST_NEED] + '...'})"


def _change(change: Change, page: Page) -> Iterator[Line]:
    gate = change.gate
    if gate.kind == "argument":
        return
    said = f"{change.what}: {gate.stage} of {gate.method or 'every model'}: {gate.need()}"
    if change.old is not None and change.new is not None:
        said += f", was {change.old.need()}"
    yield from page.wrap([("  ", "")], page.show(f"{said} ({gate.effect} {gate.exception}".rstrip() + ")"), "    ")
    yield from page.field(
        "at", page.show(f"{gate.file}:{gate.line} {'' if gate.where == gate.file else gate.where}".rstrip())
    )


# JSON


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "status": finding.status,
        "gate": _gate(finding.gate),
        "rules": [{"id": rule.id, "needed": need_text(rule.need), "file": rule.file} for rule in finding.rules],
        "backends": list(finding.backends),
        "reason": finding.reason or None,
    }


def _gate(gate: Gate | None) -> dict[str, Any] | None:
    if gate is None:
        return None
    return {
        "method": gate.method or None,
        "backends": list(gate.backends),
        "stage": gate.stage,
        "effect": gate.effect,
        "kind": gate.kind,
        "subject": gate.subject,
        "operator": gate.operator,
        "value": gate.value,
        "needed": gate.needed,
        "need": gate.need(),
        "exception": gate.exception or None,
        "message": gate.message,
        "file": gate.file,
        "line": gate.line,
        "where": gate.where,
        "guards": [guard.text() for guard in gate.guards],
    }
