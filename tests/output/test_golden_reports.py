"""The hand-built reports of `output_samples.py`, compared with what is kept in `golden/`.

A golden file is named `<input>.<exit status>.<format>`. After a change that is meant, write them anew and read the
difference before it is committed:

    ENVGUARD_WRITE_GOLDEN=1 python -m pytest tests/output/test_golden_reports.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from output_samples import SAMPLES, SEVERAL, Sample

from envguard._version import __version__
from envguard.output import github, json, junit, markdown, sarif, text
from envguard.output.findings import Anchor, Deciding, Finding, Judged

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("text", "ascii", "color", "json")
OF_TOOLS = ("github", "junit", "sarif", "markdown")


def place(finding: Finding) -> Anchor | None:
    """A project that names bitsandbytes and nothing else."""
    named = any(rule.startswith("bitsandbytes/") for rule in finding.rules)
    return Anchor("gpu/requirements.txt", 3) if named else None


def of_tools(judged: Sequence[Judged], deciding: Deciding, format: str) -> str:
    match format:
        case "github":
            return github.render(judged, deciding, place) + "\n"
        case "junit":
            return junit.render(judged, deciding) + "\n"
        case "markdown":
            return markdown.render(judged, deciding, "2026-11-22") + "\n"
    return sarif.render(judged, deciding, place, "2026-11-22").replace(__version__, "VERSION") + "\n"


def rendered(sample: Sample, format: str) -> str:
    if format in OF_TOOLS:
        return of_tools([Judged(sample.report.subject, sample.report)], Deciding(asked=not sample.survey), format)
    if format == "json":
        return json.render(sample.report).replace(f'"envguard":"{__version__}"', '"envguard":"VERSION"', 1) + "\n"
    return text.render(sample.report, color=format == "color", unicode=format != "ascii", survey=sample.survey) + "\n"


def compare(path: Path, text: str) -> None:
    new = text.encode("utf-8")
    if os.environ.get("ENVGUARD_WRITE_GOLDEN"):
        path.write_bytes(new)
    assert new.decode("utf-8") == path.read_bytes().decode("utf-8")


@pytest.mark.parametrize("format", FORMATS + OF_TOOLS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_reads_as_its_golden_file_does(name: str, format: str) -> None:
    sample = SAMPLES[name]
    compare(GOLDEN / f"{name}.{sample.exit}.{format}", rendered(sample, format))


@pytest.mark.parametrize("format", OF_TOOLS)
def test_several_subjects_read_as_their_golden_file_does(format: str) -> None:
    compare(GOLDEN / f"several.2.{format}", of_tools(SEVERAL, Deciding(), format))


def test_every_golden_file_belongs_to_a_report() -> None:
    wanted = {f"{name}.{sample.exit}.{format}" for name, sample in SAMPLES.items() for format in FORMATS + OF_TOOLS}
    wanted |= {f"several.2.{format}" for format in OF_TOOLS}
    assert {path.name for path in GOLDEN.iterdir()} == wanted
