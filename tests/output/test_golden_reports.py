"""The hand-built reports of `output_samples.py`, compared with what is kept in `golden/`.

A golden file is named `<input>.<exit status>.<format>`. After a change that is meant, write them anew and read the
difference before it is committed:

    ENVGUARD_WRITE_GOLDEN=1 python -m pytest tests/output/test_golden_reports.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from output_samples import SAMPLES, Sample

from envguard._version import __version__
from envguard.output import json, text

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("text", "ascii", "color", "json")


def rendered(sample: Sample, format: str) -> str:
    if format == "json":
        return json.render(sample.report).replace(f'"envguard":"{__version__}"', '"envguard":"VERSION"', 1) + "\n"
    return text.render(sample.report, color=format == "color", unicode=format != "ascii", survey=sample.survey) + "\n"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_reads_as_its_golden_file_does(name: str, format: str) -> None:
    sample = SAMPLES[name]
    path = GOLDEN / f"{name}.{sample.exit}.{format}"
    new = rendered(sample, format).encode("utf-8")
    if os.environ.get("ENVGUARD_WRITE_GOLDEN"):
        path.write_bytes(new)
    assert new.decode("utf-8") == path.read_bytes().decode("utf-8")


def test_every_golden_file_belongs_to_a_report() -> None:
    wanted = {f"{name}.{sample.exit}.{format}" for name, sample in SAMPLES.items() for format in FORMATS}
    assert {path.name for path in GOLDEN.iterdir()} == wanted
