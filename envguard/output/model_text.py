"""A model's report for people: a line a component with its bytes, what would fit, then what the rules say."""

from __future__ import annotations

from envguard.model import Unreadable
from envguard.output.layout import PLAIN_WIDTH, columns, make_page, pad, plain
from envguard.output.text import ASCII_MARKS, MARKS, report_lines, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from envguard.models import ComponentReport, ModelReport
    from envguard.output.layout import Line, Page

_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_NARROW = 9  # columns of a number of bytes


def render(report: ModelReport, *, width: int = PLAIN_WIDTH, unicode: bool = True, encoding: str | None = None) -> str:
    """The report as text without a last line end."""
    return plain(_lines(report, make_page(width, unicode, encoding)))


def print_report(report: ModelReport, stream: TextIO, environ: Mapping[str, str]) -> None:
    """Write the report to a stream: coloured on a terminal that wants it, plain and 80 columns wide elsewhere."""
    write(lambda page: _lines(report, page), stream, environ)


def size_text(size: int | None) -> str:
    """Bytes in decimal units, as the makers of GPUs count them."""
    if size is None:
        return "unknown"
    for unit, bytes_ in _UNITS:
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"


def _lines(report: ModelReport, page: Page) -> Iterator[Line]:
    yield from _headline(report, page)
    yield []
    yield from _table(report, page)
    yield []
    yield from _fit(report, page)
    yield from _would_fit(report, page)
    yield []
    yield from report_lines(report.report, page, survey=not report.decides)


def _headline(report: ModelReport, page: Page) -> Iterator[Line]:
    yield from page.wrap([("envguard: ", "strong")], page.show(f"{report.path} ({report.kind})"), "  ", "strong")
    device = report.device
    place = device.kind if device.index is None else f"{device.kind}:{device.index}"
    name = f" {device.name}" if device.name else ""
    free = f"free memory unknown: {report.free.reason}" if isinstance(report.free, Unreadable) else None
    said = f"{place}{name}, {free or f'{size_text(report.free)} free'}"  # type: ignore[arg-type]
    yield from page.wrap([("on ", "faint")], page.show(said), "   ", "faint")


def _table(report: ModelReport, page: Page) -> Iterator[Line]:
    names = [page.show(each.component.name) for each in report.components]
    first = max(columns("together"), min(max(map(columns, names), default=0), page.width // 3))
    second = max(len(each.component.host) for each in report.components)
    marks = MARKS if page.unicode else ASCII_MARKS
    yield [(f"{' ' * (first + second + 4)}  {report.dtype:>{_NARROW}}  {'quantized':>{_NARROW}}", "faint")]
    for each, name in zip(report.components, names):
        verdict = each.verdict
        yield [
            (marks[verdict], f"{verdict} strong"),
            (f" {pad(page.clip(name, first), first)}", "strong"),
            (f"  {pad(each.component.host, second)}", ""),
            (f"  {_cell(each.full)}  {_cell(each.size.total if each.size else None)}", ""),
            (f"  {page.show(_words(each))}", verdict if verdict != "ok" else ""),
        ]
    if len(report.components) > 1:
        yield [(f"  {pad('together', first + second + 2)}  {_cell(report.full)}  {_cell(report.total)}", "strong")]


def _cell(size: int | None) -> str:
    return f"{'-' if size is None else size_text(size):>{_NARROW}}"


def _words(report: ComponentReport) -> str:
    weights = report.component.weights
    if weights not in ("safetensors", "gguf"):
        return f"{weights} weights, which are not read"
    if report.operation == "load":
        return f"stored as {report.spec}"
    return report.spec or ""


def _fit(report: ModelReport, page: Page) -> Iterator[Line]:
    total = size_text(report.total)
    if report.total is None:
        yield [("the bytes of its weights are not known", "undecided")]
    elif isinstance(report.free, Unreadable):
        yield [(f"its weights take {total}", "")]
    elif report.fits:
        yield [(f"its weights take {total}: they fit in {size_text(report.free)}", "")]
    else:
        text = f"its weights take {total}: they do not fit in {size_text(report.free)}"
        alone = [each.component.name for each in report.components if each.fits]
        if alone and len(report.components) > 1:
            text += f"; alone, these do: {', '.join(alone)}"
        yield from page.wrap([], page.show(text), "  ", "degraded")


def _would_fit(report: ModelReport, page: Page) -> Iterator[Line]:
    """A line a backend: the schemes that pass and fit, and the bytes of the whole model in each."""
    by_backend: dict[str, list[str]] = {}
    for each in report.alternatives:
        if each.fits is not False:
            backend, _, scheme = each.spec.partition(":")
            by_backend.setdefault(backend, []).append(f"{scheme} {size_text(each.total)}")
    for backend, schemes in by_backend.items():
        start: Line = [(f"{page.show(backend)} would take: ", "strong")]
        yield from page.wrap(start, page.show(", ".join(schemes)), "  ")
    if report.alternatives and not by_backend:
        yield [("no scheme whose rules pass here makes it fit", "degraded")]
