"""A model's report as JSON of schema envguard.model-report/1: one line, ASCII, its fields always in the same order."""

from __future__ import annotations

from envguard._version import __version__
from envguard.model import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envguard.models import ComponentReport, ModelReport

SCHEMA = "envguard.model-report/1"


def render(report: ModelReport) -> str:
    """The report as one line of JSON, without a line end; what the rules say is a whole envguard.report/1 inside."""
    import json

    from envguard.output.json import render as render_report

    rules = report.report
    places = {each.request: place for place, each in enumerate(rules.backends)}
    unknown = isinstance(report.free, Unreadable)
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "envguard": __version__,
        "rules": report.rules,
        "path": report.path,
        "kind": report.kind,
        "verdict": report.verdict,
        "asked": report.asked,
        "dtype": report.dtype,
        "device": {"kind": report.device.kind, "index": report.device.index, "name": report.device.name},
        "free": None if unknown else report.free,
        "bytes": report.total,
        "full_bytes": report.full,
        "fits": report.fits,
        "components": [_component(each, places) for each in report.components],
        "alternatives": [{"spec": each.spec, "bytes": each.total, "fits": each.fits} for each in report.alternatives],
    }
    text = json.dumps(_clean(made), separators=(",", ":"))
    return f'{text[:-1]},"report":{render_report(rules)}}}'


def _component(report: ComponentReport, places: dict[Any, int]) -> dict[str, Any]:
    component, size = report.component, report.size
    return {
        "name": component.name,
        "host": component.host,
        "class": component.class_name,
        "weights": component.weights,
        "files": list(component.files),
        "stored": component.quantized.spec if component.quantized else None,
        "description": component.quantized.description if component.quantized else None,
        "operation": report.operation,
        "spec": report.spec,
        "verdict": report.verdict,
        "bytes": None if size is None else size.total,
        "quantized_bytes": None if size is None else size.quantized,
        "kept_bytes": None if size is None else size.kept,
        "full_bytes": report.full,
        "fits": report.fits,
        "backends": [places[each.request] for each in report.reports],
    }


def _clean(value: Any) -> Any:
    """The value without half surrogate pairs, which strict readers refuse: a path that is not UTF-8 has some."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value
