"""A model's report as the formats of other tools show it: what the rules say, and whether the weights fit."""

from __future__ import annotations

from envguard.frozen import replace
from envguard.model import Outcome, Unreadable, worst
from envguard.output.findings import Judged
from envguard.output.model_text import size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard.model import Report
    from envguard.models import ComponentReport, ModelReport

_RULE = "model/memory"


def as_judged(report: ModelReport) -> Judged:
    """The model as one subject; weights that do not fit are a warning to each of its backends."""
    rules = report.report
    if report.fits is False:
        rules = _with(rules, _does_not_fit(report))
    fit = "not known" if report.fits is None else "yes" if report.fits else "no"
    unknown = isinstance(report.free, Unreadable)
    details = [
        ("Model", f"{report.path} ({report.kind})"),
        ("Weights", size_text(report.total)),
        ("Free memory", "unknown" if unknown else size_text(report.free)),  # type: ignore[arg-type]
        ("They fit", fit),
        *[_component(each) for each in report.components],
    ]
    return Judged(report.subject, rules, details=tuple(details))


def _component(report: ComponentReport) -> tuple[str, str]:
    size = "" if report.size is None else f", {size_text(report.size.total)}"
    return f"Component {report.component.name}", f"{report.verdict}: {report.operation} {report.spec or 'any'}{size}"


def _does_not_fit(report: ModelReport) -> Outcome:
    needed, found = f"{size_text(report.total)} of free device memory", f"{size_text(report.free)} free"  # type: ignore[arg-type]
    would = ", ".join([each.spec for each in report.alternatives if each.fits])
    return Outcome(
        _RULE,
        "unmet",
        "warning",
        "hardware",
        "model",
        f"needs {needed}, found {found}",
        needed,
        found,
        f"The weights alone take that much. Schemes that would fit: {would or 'none whose rules pass here'}.",
        source="the headers of the model's files",
    )


def _with(report: Report, outcome: Outcome) -> Report:
    backends = [
        replace(each, outcomes=(*each.outcomes, outcome), verdict=worst([each.verdict, "degraded"]))
        for each in report.backends
    ]
    return replace(report, backends=tuple(backends))
