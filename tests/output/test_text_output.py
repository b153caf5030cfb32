"""What people read: plain where nobody looks at colours, in 80 columns, with everything that mends a failure."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from output_samples import (
    ALL_OK,
    CPU_TORCH_BESIDE_GPU,
    DEGRADED,
    HOSTILE,
    NOTHING_INSTALLED,
    PIP,
    SAMPLES,
    UNDECIDED_AND_IGNORED,
    backend,
    outcome,
    report,
    skipped,
)
from output_strategies import REPORTS

from envguard.frozen import replace
from envguard.model import BackendReport, Fix, Outcome, Plan, Report, Request
from envguard.output.layout import columns, visible
from envguard.output.text import one_line, print_report, render


class Terminal(io.StringIO):
    """A stream that says it is a terminal, of an encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


def commands_of(report: Report) -> set[str]:
    commands = {
        command
        for each in report.backends
        for outcome in each.outcomes
        if outcome.fix
        for command in outcome.fix.commands
    }
    return commands | {command for each in report.backends if each.plan for command in each.plan.commands}


def torchao(*outcomes: Outcome, verdict: str = "blocked", plan: Plan | None = None) -> Report:
    return report(backend(Request("torchao"), "0.6.0", verdict, *outcomes, plan=plan))


# Safe and within its columns


@given(REPORTS)
def test_no_string_in_any_field_yields_a_control_character(report: Report) -> None:
    for text in (render(report), render(report, survey=True, width=100), render(report, unicode=False)):
        assert all(line.isprintable() for line in text.split("\n"))
    assert render(report, unicode=False).isascii()


@given(REPORTS)
def test_only_commands_and_urls_are_wider_than_80_columns(report: Report) -> None:
    for encoding in ("utf-8", "ascii"):
        whole = {visible(command, encoding).strip() for command in commands_of(report)}
        for line in render(report, unicode=encoding == "utf-8").split("\n"):
            assert columns(line) <= 80 or "://" in line or line.strip() in whole


@given(REPORTS)
def test_colours_change_no_character(report: Report) -> None:
    coloured = render(report, color=True)
    uncoloured = "".join(
        part.partition("m")[2] if index else part for index, part in enumerate(coloured.split("\x1b["))
    )
    assert [line.rstrip() for line in uncoloured.split("\n")] == render(report).split("\n")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_command_stands_whole_on_its_own_line(name: str) -> None:
    report = SAMPLES[name].report
    for text in (render(report, survey=SAMPLES[name].survey), render(report, color=True, width=60, survey=True)):
        assert {visible(command) for command in commands_of(report)} <= {
            line.strip().removeprefix("\x1b[1;36m").removesuffix("\x1b[0m") for line in text.split("\n")
        }


def test_markup_is_text() -> None:
    for text in (render(HOSTILE), render(HOSTILE, color=True)):
        assert "[bold]y[/bold] :warning:" in text
        assert "'nvidia-modelopt[hf]>=0.33.1'" in text
        assert "[link=https://example.org]click[/link]" in text


# What is told


def test_an_unmet_outcome_shows_rule_needed_found_why_fix_command_and_source() -> None:
    lines = render(CPU_TORCH_BESIDE_GPU).split("\n")
    start = lines.index("error: bitsandbytes/version (for bitsandbytes:nf4)")
    assert lines[start + 1 : start + 9] == [
        "  needed  bitsandbytes>=0.43.3",
        "  found   0.41.0",
        "  why     diffusers stops with: 'Using `bitsandbytes` 4-bit quantization",
        "          requires the latest version'.",
        "  fix     Install bitsandbytes>=0.43.3.",
        f"          {PIP} 'bitsandbytes>=0.43.3'",
        "  source  the requirement baseline of diffusers (host:diffusers@0.42.1)",
        "",
    ]


def test_one_missing_gpu_is_told_once_for_all_backends() -> None:
    text = render(NOTHING_INSTALLED, survey=True)
    assert text.count("needed  a CUDA or Intel XPU device") == 1
    heading = text[text.index("error: bitsandbytes/accelerator") :].partition("needed")[0].split()
    assert heading == [
        "error:", "bitsandbytes/accelerator,", "torchao/accelerator,", "quanto/accelerator,", "modelopt/accelerator",
    ]  # fmt: skip


def test_the_same_rule_that_found_something_else_is_told_for_each() -> None:
    both = report(
        backend(Request("torchao"), "1", "blocked", outcome("torch/version", "torch>=2.5", "2.4")),
        backend(Request("quanto"), "1", "blocked", outcome("torch/version", "torch>=2.6", "2.4")),
    )
    text = render(both)
    assert "error: torch/version (for torchao)" in text
    assert "error: torch/version (for quanto)" in text


def test_different_reasons_and_remedies_of_one_problem_are_all_told() -> None:
    one = outcome("torchao/gpu", "a GPU", "none", why="First.", fix=Fix("Do this."))
    other = outcome("quanto/gpu", "a GPU", "none", why="Second.", fix=Fix("", ("do-that",)))
    both = report(backend(Request("torchao"), "1", "blocked", one), backend(Request("quanto"), "1", "blocked", other))
    text = render(both)
    assert [word for word in ("First.", "Second.", "Do this.", "do-that") if word in text] == [
        "First.", "Second.", "Do this.", "do-that",
    ]  # fmt: skip


def test_remedies_that_differ_say_whose_each_is() -> None:
    def asking(name: str, wanted: str) -> BackendReport:
        fix = Fix(f"Install {wanted}.", (f"pip install '{wanted}'",))
        return backend(Request(name), "1", "blocked", outcome("diffusers/installed", "diffusers", "none", fix=fix))

    old, new = "diffusers>=0.31", "diffusers>=0.35"
    text = render(report(asking("torchao", old), asking("quanto", old), asking("gguf", new)))
    assert f"fix     for torchao, quanto: Install {old}." in text
    assert f"fix     for gguf: Install {new}." in text
    assert f"fix     Install {old}." in render(report(asking("torchao", old), asking("quanto", old)))


def test_errors_come_before_undecided_ones_warnings_and_notes() -> None:
    mixed = torchao(
        outcome("a/note", "x", "y", severity="info"),
        outcome("b/warning", "x1", "y", severity="warning"),
        outcome("c/unknown", "x2", "y", "undecided"),
        outcome("d/ignored", "x3", "y", ignored=True),
        outcome("e/error", "x4", "y"),
    )
    heads = [line for line in render(mixed).split("\n") if "/" in line and not line.startswith((" ", "envguard", "✗"))]
    assert heads == [
        "error: e/error",
        "error, ignored: d/ignored",
        "undecided: c/unknown",
        "warning: b/warning",
        "note: a/note",
    ]


def test_an_undecided_outcome_says_what_was_not_observed() -> None:
    assert "\n  unknown the NVIDIA driver did not answer within 5 s\n" in render(UNDECIDED_AND_IGNORED)


def test_an_ignored_error_stays_visible() -> None:
    text = render(UNDECIDED_AND_IGNORED)
    assert "error, ignored: quanto/torch" in text
    assert "still not met" in text


def test_what_has_no_effect_is_only_counted() -> None:
    text = render(torchao(skipped("torchao/owner", "x/y"), outcome("a/b", "n", "f", "undecided", severity="warning")))
    assert "torchao/owner" not in text
    assert "a/b" not in text
    assert "rules: 1 not observed, 1 skipped behind one not met" in text


def test_an_outcome_without_needed_and_found_gives_its_message() -> None:
    lost = replace(outcome("a/b", "n", "f"), needed=None, found=None, message="It broke.")
    text = render(torchao(lost))
    assert "  says    It broke." in text
    assert "blocked  It broke." in text


def test_a_backend_that_is_fine_takes_one_line() -> None:
    lines = render(ALL_OK, survey=True).split("\n")
    assert lines[3] == "✓ bitsandbytes  0.50.2  ok"
    assert not any(line.startswith(("error", "warning", "undecided", "To ")) for line in lines)


def test_the_line_of_a_backend_names_its_first_cause_and_counts_the_others() -> None:
    assert "\n✗ torchao       -  blocked  not installed (+2)\n" in render(NOTHING_INSTALLED)


def test_a_version_that_the_line_shows_is_not_said_twice() -> None:
    assert "  0.6.0  blocked  needs torchao>=0.7.0\n" in render(torchao(outcome("t/v", "torchao>=0.7.0", "0.6.0")))


def test_the_headline_tells_a_recorded_environment_from_a_running_one() -> None:
    assert render(ALL_OK).startswith("envguard: /home/user/venv/bin/python (Python 3.11.7)\n")
    assert render(UNDECIDED_AND_IGNORED).startswith(
        "envguard: node17.json (/opt/conda/bin/python3.10, taken 2026-11-22T02:13:00Z)\n"
        "to load without a host library on device rocm\n"
    )
    assert render(HOSTILE).partition("\n\n")[0].replace("\n  ", "").count("(taken 2026-11-22T02:13:00Z)") == 1
    assert render(replace(HOSTILE, subject="a.json", taken_at=None)).startswith("envguard: a.json\n")


def test_a_device_that_was_named_is_not_named_twice() -> None:
    assert "on device cuda:1 (NVIDIA GeForce RTX 2060)\n" in render(DEGRADED)
    assert "on device auto (cuda:0 NVIDIA H200)\n" in render(ALL_OK)


def test_schemes_are_grouped_by_verdict() -> None:
    lines = render(ALL_OK).split("\n")
    assert "quanto schemes ok: int8 int4 float8" in lines
    assert "quanto schemes undecided: int2" in lines
    assert "torchao schemes blocked: nvfp4_dynamic mxfp8_dynamic" in lines
    assert "(to see why: --backend torchao:nvfp4_dynamic)" in lines


def test_a_blocked_backend_does_not_list_its_schemes_as_blocked() -> None:
    assert "schemes" not in render(NOTHING_INSTALLED)


def test_the_plan_of_one_backend_mends_all_of_it() -> None:
    failing = outcome("torchao/version", "torchao>=0.7.0", "0.6.0"), outcome("accelerate/version", "accelerate", "none")
    text = render(torchao(*failing, plan=Plan(("pip install both",), ("torchao/version", "accelerate/version"), ())))
    assert text.endswith("\n\nTo mend all of it:\n  pip install both")


def test_a_plan_says_what_it_leaves() -> None:
    failing = outcome("torchao/version", "torchao>=0.7.0", "0.6.0"), outcome("torchao/gpu", "a GPU", "none")
    text = render(torchao(*failing, plan=Plan(("pip install it",), ("torchao/version",), ("torchao/gpu",))))
    assert text.endswith("\n\nTo mend torchao, all but torchao/gpu:\n  pip install it")


def test_a_plan_that_is_the_fix_of_the_only_problem_is_not_told_again() -> None:
    fix = Fix("Upgrade.", ("pip install it",))
    only = torchao(outcome("t/v", "torchao>=0.7.0", "0.6.0", fix=fix), plan=Plan(fix.commands, ("t/v",), ()))
    assert render(only).count("pip install it") == 1


def test_a_survey_offers_backends_rather_than_mending_them() -> None:
    text = render(NOTHING_INSTALLED, survey=True)
    assert "\nTo use gguf:\n" in text
    assert "To mend" not in text


def test_an_opt_out_of_undecided_is_visible() -> None:
    note = "\nwhat could not be observed was let pass\n"
    assert note in render(replace(UNDECIDED_AND_IGNORED, undecided="allow"))
    assert note not in render(UNDECIDED_AND_IGNORED)


def test_a_report_without_backends_has_a_headline() -> None:
    assert render(report()).startswith("envguard: ")


def test_ascii_marks_stand_in_for_unicode_ones() -> None:
    text = render(CPU_TORCH_BESIDE_GPU, unicode=False)
    assert text.isascii()
    assert "\nx bitsandbytes:nf4 " in text
    assert "\n+ gguf " in text


def test_what_an_encoding_can_show_is_shown_beside_ascii_marks() -> None:
    text = render(report(subject="/home/josé/bin/python"), unicode=False, encoding="cp1252")
    assert text.startswith("envguard: /home/josé/bin/python")


def test_one_line_holds_name_version_verdict_and_cause() -> None:
    blocked = torchao(outcome("t/v", "torchao>=0.7.0", "0.6.0")).backends[0]
    assert one_line(blocked) == "torchao 0.6.0 blocked: needs torchao>=0.7.0, found 0.6.0"
    assert one_line(blocked, width=20) == "torchao 0.6.0 blo..."
    assert one_line(ALL_OK.backends[0]) == "bitsandbytes 0.50.2 ok"


# Where it goes


def written(stream: io.StringIO, **environ: str) -> str:
    print_report(CPU_TORCH_BESIDE_GPU, stream, environ, False)
    return stream.getvalue()


def test_a_terminal_gets_colours() -> None:
    text = written(Terminal(), TERM="xterm")
    assert "\x1b[1;31m✗" in text
    assert text.endswith("\n")


def test_a_pipe_gets_the_plain_text() -> None:
    assert written(io.StringIO(), TERM="xterm") == render(CPU_TORCH_BESIDE_GPU) + "\n"


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colours_gets_none(environ: dict[str, str]) -> None:
    assert "\x1b" not in written(Terminal(), **environ)


def test_an_empty_no_color_is_none() -> None:
    assert "\x1b" in written(Terminal(), NO_COLOR="", TERM="xterm")


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}])
def test_a_terminal_without_utf8_gets_what_it_can_encode(environ: dict[str, str]) -> None:
    text = written(Terminal("ascii"), **environ)
    assert text.isascii()
    assert "x bitsandbytes:nf4" in text.replace("\x1b[1;31m", "").replace("\x1b[0m", "").replace("\x1b[1m", "")


def read_all(terminal: int) -> bytes:
    """All that was written to a pseudo-terminal whose other end is closed: one read may give a part of it."""
    text = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so at the end
            return text
        if not part:
            return text
        text += part


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("size", "widest"), [(200, 100), (70, 70), (0, 80)])
def test_lines_are_as_wide_as_the_terminal_within_reason(size: int, widest: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, size, 0, 0))
        prose = outcome("a/b", "n", "f", why="word " * 100, fix=None, source=None)
        with open(theirs, "w", encoding="utf-8", closefd=False) as stream:
            print_report(torchao(prose), stream, {"NO_COLOR": "1"}, False)
        os.close(theirs)
        text = read_all(ours).decode()
    finally:
        os.close(ours)
    lengths = [len(line) for line in text.replace("\r\n", "\n").split("\n")]
    assert widest - 5 < max(lengths) <= widest


def test_plain_text_imports_nothing_slow() -> None:
    code = (
        "import sys, envguard; before = set(sys.modules); import envguard.output.text, envguard.output.json;"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('envguard')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__future__", "_collections", "_json"}
