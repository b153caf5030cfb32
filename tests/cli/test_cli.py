"""The command line: exit statuses, what goes to which stream, and that hostile input is one line."""

from __future__ import annotations

import contextlib
import io
import json
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import Done, run, saved, stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import HEADER, book, row, snapshot

from envguard import cli, shipped
from envguard.arguments import CheckArguments, check_arguments, parser, quick
from envguard.cli import severest
from envguard.rulebook import RuleBook

CHECKOUT = Path(cli.__file__).parents[1]
REPORT = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[1] / "schemas" / "report-1.schema.json").read_text("utf-8"))
)
RULES = book(
    row("torchao/version", {"distribution": "torchao>=1.0"}, fix={"install": ["torchao>=1.0"]}),
    row("torchao/advice", {"distribution": "torchao>=2.0"}, "warning"),
    row("torchao/int4", {"distribution": "torchao>=3.0"}, when={"scheme": ["int4"]}),
)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> RuleBook:
    """Three rules of one backend instead of those that ship."""
    monkeypatch.setattr(shipped, "_loaded", RULES)
    return RULES


def torchao(version: str | None = None) -> dict[str, Any]:
    """A snapshot in which torchao has a version; None where that was not observed."""
    return snapshot() if version is None else snapshot(distributions={"torchao": {"version": version}})


OK, DEGRADED, BLOCKED, UNDECIDED = torchao("2.0"), torchao("1.5"), torchao("0.5"), torchao()


# Exit statuses


@pytest.mark.parametrize(
    ("data", "plain", "strict", "allowing", "survey", "strict_survey"),
    [
        (OK, 0, 0, 0, 0, 0),
        (DEGRADED, 0, 1, 0, 0, 1),
        (BLOCKED, 1, 1, 1, 0, 1),
        (UNDECIDED, 3, 3, 0, 0, 3),
    ],
    ids=["ok", "degraded", "blocked", "undecided"],
)
def test_the_exit_status_tells_the_verdict(
    rules: RuleBook, tmp_path: Path, data: Any, plain: int, strict: int, allowing: int, survey: int, strict_survey: int
) -> None:
    check = ("check", "--snapshot", saved(tmp_path, data))
    asked = (*check, "--backend", "torchao")
    assert run(*asked).status == plain
    assert run(*asked, "--strict").status == strict
    assert run(*asked, "--allow-undecided").status == allowing
    assert run(*check).status == survey
    assert run(*check, "--strict").status == strict_survey
    assert run(*check, "--strict", "--allow-undecided").status == (0 if data is UNDECIDED else strict_survey)


@pytest.mark.parametrize(
    ("subjects", "status"),
    [
        ([OK, OK], 0),
        ([OK, UNDECIDED, OK], 3),
        ([UNDECIDED, BLOCKED, OK], 1),
        ([BLOCKED, UNDECIDED], 1),
        ([OK, "nonsense", OK], 2),
        ([BLOCKED, "nonsense", UNDECIDED], 2),
    ],
)
def test_of_several_subjects_the_severest_status_counts(
    rules: RuleBook, tmp_path: Path, subjects: list[Any], status: int
) -> None:
    for extra in ((), ("--format", "jsonl")):
        done = run("check", "--backend", "ao", "--snapshot", stream(tmp_path, *subjects), *extra)
        assert done.status == status
    assert run("check", "--snapshot", stream(tmp_path, *subjects)).status == (2 if "nonsense" in subjects else 0)


def test_the_order_of_severity_is_the_documented_one() -> None:
    order = (70, 2, 1, 3, 0)
    for place, status in enumerate(order):
        for other in order[place:]:
            assert severest(other, status) == severest(status, other) == status


def test_a_backend_that_is_asked_for_twice_counts_once_as_bad(rules: RuleBook, tmp_path: Path) -> None:
    path = saved(tmp_path, torchao("2.0"))
    assert run("check", "--backend", "torchao:int8", "--backend", "torchao:int4", "--snapshot", path).status == 1
    assert run("check", "--backend", "torchao:int8", "--snapshot", path).status == 0


def test_an_ignored_rule_does_not_block(rules: RuleBook, tmp_path: Path) -> None:
    check = ("check", "--backend", "torchao", "--snapshot", saved(tmp_path, BLOCKED), "--ignore", "torchao/version")
    assert run(*check).status == 0
    assert run(*check, "--strict").status == 1


# What goes to which stream


def test_the_report_goes_to_standard_output_alone(rules: RuleBook, tmp_path: Path) -> None:
    for extra in ((), ("--format", "json"), ("--format", "jsonl")):
        done = run("check", "--backend", "torchao", "--snapshot", saved(tmp_path, BLOCKED), *extra)
        assert done.err == ""
        assert "torchao/version" in done.out
        assert done.out.endswith("\n")


def test_json_is_one_report_of_the_published_schema(rules: RuleBook, tmp_path: Path) -> None:
    path = saved(tmp_path, BLOCKED)
    report = json.loads(run("check", "--snapshot", path, "--format", "json").out)
    REPORT.validate(report)
    assert (report["verdict"], report["subject"]) == ("blocked", path)


@pytest.mark.parametrize("second", [OK, "nonsense"])
def test_json_of_several_subjects_is_bad_usage(rules: RuleBook, tmp_path: Path, second: Any) -> None:
    one, many = saved(tmp_path, OK), stream(tmp_path, OK, second)
    for paths in (["--snapshot", one, "--snapshot", one], ["--snapshot", many], ["--snapshot", "-"]):
        done = run("check", *paths, "--format", "json", given=Path(many).read_bytes())
        assert "--format json takes one subject" in done.refused()


def test_json_of_a_stream_with_one_line_is_one_report(rules: RuleBook, tmp_path: Path) -> None:
    assert json.loads(run("check", "--snapshot", stream(tmp_path, OK), "--format", "json").out)["verdict"] == "ok"


def test_jsonl_has_a_line_a_subject_in_order_and_an_error_in_the_place_of_a_bad_one(
    rules: RuleBook, tmp_path: Path
) -> None:
    many = stream(tmp_path, OK, "nonsense", "", {"schema": "x"}, BLOCKED)
    done = run(
        "check",
        "--backend",
        "torchao",
        "--snapshot",
        many,
        "--snapshot",
        saved(tmp_path, UNDECIDED),
        "--format",
        "jsonl",
    )
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record.get("verdict", record["schema"]) for record in records] == [
        "ok",
        "envguard.error/1",
        "envguard.error/1",
        "blocked",
        "undecided",
    ]
    assert [record["line"] for record in records if "line" in record] == [2, 4]
    assert all(record["error"] for record in records if "line" in record)
    for record in records:
        if record["schema"] == "envguard.report/1":
            REPORT.validate(record)
    assert done.status == 2
    assert done.err.count("\n") == 2
    assert f"{many} line 2: not JSON" in done.err


def test_text_of_several_subjects_names_each(rules: RuleBook, tmp_path: Path) -> None:
    one, other = saved(tmp_path, OK, "one.json"), saved(tmp_path, BLOCKED, "other.json")
    done = run("check", "--backend", "torchao", "--snapshot", one, "--snapshot", other)
    whole = "".join(done.out.split())  # a long path is broken
    assert whole.index("one.json") < whole.index("other.json")
    assert "\n\nenvguard:" in done.out, "an empty line between two reports"
    assert not done.out.startswith("\n")


def test_a_snapshot_may_come_from_standard_input(rules: RuleBook) -> None:
    check = ("check", "--backend", "torchao", "--snapshot", "-", "--format", "json")
    done = run(*check, given=json.dumps(BLOCKED, indent=2).encode())
    assert (done.status, json.loads(done.out)["subject"]) == (1, "standard input")


# Bad usage and bad input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nope"], "invalid choice: 'nope'"),
        (["check", "--nope"], "unrecognized arguments: --nope"),
        (["check", "extra"], "unrecognized arguments: extra"),
        (["check", "--backend"], "expected one argument"),
        (["check", "--host", "keras"], "invalid choice: 'keras'"),
        (["check", "--for", "train"], "invalid choice: 'train'"),
        (["check", "--format", "yaml"], "invalid choice: 'yaml'"),
        (["check", "--back", "torchao"], "unrecognized arguments"),
        (["check", "--strict=1"], "ignored explicit argument '1'"),
        (["check", "--device", "gpu"], "unknown device 'gpu': expected one of auto, cuda"),
        (["check", "--device", "cuda:x"], "unknown device 'cuda:x'"),
        (["check", "--device", "cuda:"], "unknown device 'cuda:'"),
        (["check", "--device", "cpu:0"], "unknown device 'cpu:0'"),
        (["check", "--device", "cuda:-1"], "unknown device 'cuda:-1'"),
        (["check", "--device", "cuda:٣"], "unknown device"),
        (["check", "--backend", "torcha0"], "unknown backend 'torcha0', did you mean torchao?; known are torchao"),
        (["check", "--backend", "zzz"], "unknown backend 'zzz'; known are torchao"),
        (["check", "--backend", ""], "unknown backend ''"),
        (["check", "--backend", ":int8"], "unknown backend ''"),
        (["check", "--backend", "torchao:"], "unknown scheme '' of torchao"),
        (["check", "--backend", "torchao:int9"], "unknown scheme 'int9' of torchao, did you mean int8"),
        (["check", "--backend", "torchao", "--backend", "zzz"], "unknown backend 'zzz'"),
        (["check", "--ignore", "torchao/nowhere"], "no rule has the id 'torchao/nowhere'"),
        (["check", "--snapshot", "x", "--python", "y"], "--python and --snapshot name two different things"),
        (["check", "--snapshot", "/nowhere/it.json"], "/nowhere/it.json: cannot be read: No such file"),
        (["check", "--snapshot", "."], ".: cannot be read: it is a folder"),
        (["explain"], "the following arguments are required: RULE-ID"),
        (["explain", "torchao/versions"], "no rule has the id 'torchao/versions', did you mean torchao/version"),
        (["rules", "--backend", "zzz"], "unknown backend 'zzz'"),
        (["snapshot", "--format", "json"], "unrecognized arguments"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(rules: RuleBook, words: list[str], expected: str) -> None:
    assert expected in run(*words).refused()


@pytest.mark.parametrize("odd", ["a\nb", "\x1b[31mred", "half\udcff", "\u202eright to left", "[bold]markup[/bold]"])
def test_odd_arguments_do_not_reach_the_terminal_as_they_are(rules: RuleBook, odd: str) -> None:
    for words in (
        ["check", odd],
        ["check", "--backend", odd],
        ["check", "--host", odd],
        ["check", "--snapshot", odd],
        ["explain", odd],
    ):
        assert run(*words).refused()


def test_a_missing_file_is_told_before_anything_is_judged(rules: RuleBook, tmp_path: Path) -> None:
    for extra in ((), ("--format", "jsonl")):
        run("check", "--snapshot", saved(tmp_path, OK), "--snapshot", str(tmp_path / "nowhere"), *extra).refused()


def test_an_empty_stream_is_nothing_to_judge(rules: RuleBook, tmp_path: Path) -> None:
    assert "no snapshot in it" in run("check", "--snapshot", saved(tmp_path, "\n", "it.jsonl")).refused()


HOSTILE = [
    "",
    "null",
    "[]",
    "{",
    '{"schema": "envguard.snapshot/2"}',
    '{"schema": ' + "[" * 100_000,
    json.dumps(snapshot(distributions={"line\nbreak\x1b[31m": 3})),
    json.dumps(snapshot(accelerators=[{"kind": "cuda", "index": "9" * 10_000}])),
    '{"schema": "envguard.snapshot/1", "x": NaN}',
    "9" * 100_000,
    "\ufeff\ufeff{}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20] or "empty")
def test_a_bad_snapshot_is_one_line_and_exit_2(rules: RuleBook, tmp_path: Path, text: str) -> None:
    path = saved(tmp_path, text)
    assert run("check", "--snapshot", path).refused().startswith(f"{path}: ")


ODD_TEXT = st.text(max_size=20) | st.sampled_from(["\x1b[2J", "[red]", "\ud800", "a\nb", "\u202e", "x" * 300])
ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**300) | st.floats() | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
    max_leaves=5,
)
ODD_SNAPSHOT = st.fixed_dictionaries(
    {"schema": st.just("envguard.snapshot/1")},
    optional={
        "python": st.fixed_dictionaries(
            {}, optional={"version": ODD_TEXT, "executable": ODD_TEXT, "pip": st.none() | ODD_TEXT}
        ),
        "host": st.fixed_dictionaries({}, optional={"system": st.sampled_from(["Linux", "Windows"])}),
        "distributions": st.dictionaries(
            st.sampled_from(["torch", "torchao", "gguf", "accelerate", "diffusers", "numpy"]),
            st.none()
            | st.fixed_dictionaries(
                {"version": st.none() | ODD_TEXT | st.sampled_from(["0.5", "1.0", "2.11.0"])},
                optional={"requires": st.lists(ODD_TEXT | st.just("torch>=2"), max_size=2)},
            ),
        ),
        "distributions_complete": st.booleans(),
        "import_owners": st.dictionaries(
            st.sampled_from(["torchao", "gguf"]),
            st.fixed_dictionaries({}, optional={"origin": ODD_TEXT, "distribution": ODD_TEXT | st.none()}),
        ),
        "torch_build": st.fixed_dictionaries(
            {},
            optional={
                "version": ODD_TEXT,
                "cuda": ODD_TEXT | st.just("12.8"),
                "arch_list": st.lists(ODD_TEXT, max_size=2),
            },
        ),
        "drivers": st.fixed_dictionaries(
            {},
            optional={
                "nvidia": ODD_TEXT | st.just("570"),
                "cuda": ODD_TEXT,
                "nvidia_devices": st.integers() | st.just(1.0),
            },
        ),
        "accelerators": st.lists(
            st.fixed_dictionaries(
                {"kind": st.sampled_from(["cuda", "rocm", "npu", "mps"])},
                optional={
                    "index": st.integers(),
                    "name": ODD_TEXT | st.none(),
                    "compute_capability": ODD_TEXT | st.just("8.9"),
                },
            ),
            max_size=2,
        ),
        "environment_variables": st.dictionaries(st.just("CUDA_VISIBLE_DEVICES"), st.none() | ODD_TEXT),
        "unreadable": st.dictionaries(st.sampled_from(["/accelerators", "/distributions/torch", "/python"]), ODD_TEXT),
        "extras": st.dictionaries(ODD_TEXT, ODD_JSON, max_size=2),
    },
)


@given(ODD_SNAPSHOT | st.dictionaries(ODD_TEXT, ODD_JSON, max_size=3), st.sampled_from(["text", "json", "jsonl"]))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
def test_no_snapshot_gives_a_traceback_or_moves_the_cursor(tmp_path: Path, data: Any, form: str) -> None:
    """With the rules that ship."""
    done = run("check", "--snapshot", saved(tmp_path, data), "--format", form)
    assert done.status in (0, 2)
    assert all(line.isprintable() for text in (done.out, done.err) for line in text.splitlines())
    assert "Traceback" not in done.err
    assert "fault of envguard" not in done.err
    if done.status == 0 and form != "text":
        REPORT.validate(json.loads(done.out))


def test_a_fault_of_envguard_is_told_as_one_with_how_to_report_it(
    rules: RuleBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envguard.checks.report_on", lambda *args, **kwargs: 1 / 0)
    done = run("check", "--snapshot", saved(tmp_path, OK))
    assert (done.status, done.out) == (70, "")
    assert "a fault of envguard itself: ZeroDivisionError: division by zero" in done.err
    assert "ENVGUARD_TRACEBACK=1" in done.err
    assert done.err.count("\n") == 1
    monkeypatch.setenv("ENVGUARD_TRACEBACK", "1")
    assert "Traceback" in run("check", "--snapshot", saved(tmp_path, OK)).err


# Other commands


def test_version_names_envguard_and_its_rules(rules: RuleBook) -> None:
    from envguard import __version__

    done = run("--version")
    assert done == Done(0, f"envguard {__version__} (rules of 2026-11-22)\n", "")


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"], ["snapshot", "-h"]])
def test_help_is_a_result(words: list[str]) -> None:
    done = run(*words)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("usage: envguard")


def test_without_a_command_the_help_is_no_result() -> None:
    done = run()
    assert (done.status, done.out) == (2, "")
    assert "usage: envguard" in done.err


def test_explain_and_rules_tell_of_a_rule(rules: RuleBook) -> None:
    assert "torchao>=1.0" in run("explain", "torchao/version").out
    for words in (["rules"], ["rules", "--backend", "ao"], ["rules", "--format", "json"]):
        done = run(*words)
        assert (done.status, done.err) == (0, "")
        assert "torchao/version" in done.out


@pytest.mark.parametrize(
    "spec", ["torchao", "TorchAO", "ao", "torchao:int8", "AO:INT8WO", "torchao:int8wo", "ao:float8"]
)
def test_names_and_aliases_in_any_case_are_known(rules: RuleBook, tmp_path: Path, spec: str) -> None:
    assert run("check", "--backend", spec, "--snapshot", saved(tmp_path, OK)).status == 0


def test_dashes_and_underscores_are_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    header = {**HEADER, "aliases": ["torch-ao"], "schemes": {"int8_weight_only": []}}
    monkeypatch.setattr(shipped, "_loaded", book(row("torchao/it", {"distribution": "torchao"}), header=header))
    for spec in ("torch_ao:int8-weight-only", "TORCH-AO:INT8_WEIGHT_ONLY"):
        assert run("check", "--backend", spec, "--snapshot", saved(tmp_path, OK)).status == 0


@pytest.mark.parametrize(
    ("present", "host"),
    [
        ({"diffusers": {"version": "0.42.1"}, "transformers": {"version": "5.0"}}, "diffusers"),
        ({"transformers": {"version": "5.0"}, "diffusers": None}, "transformers"),
        ({"diffusers": None, "transformers": None}, "diffusers"),
        ({"transformers": {"version": "5.0"}}, "diffusers"),
    ],
)
def test_the_host_auto_is_diffusers_unless_only_transformers_is_there(
    rules: RuleBook, tmp_path: Path, present: dict[str, Any], host: str
) -> None:
    path = saved(tmp_path, snapshot(distributions=present))
    report = json.loads(run("check", "--snapshot", path, "--format", "json").out)
    assert report["backends"][0]["host"] == host


# The quick way to read arguments

WORDS = st.sampled_from(
    [
        "check",
        "--backend",
        "--host",
        "--device",
        "--for",
        "--python",
        "--snapshot",
        "--format",
        "--ignore",
        "--output",
        "-o",
        "-oreport",
        "--strict",
        "--allow-undecided",
        "--deep",
        "--timeout",
        "--backend=torchao",
        "--format=json",
        "--back",
        "--help",
        "-h",
        "--version",
        "-",
        "--",
        "-1",
        "",
        "torchao",
        "bnb:nf4",
        "auto",
        "diffusers",
        "quantize",
        "load",
        "json",
        "jsonl",
        "text",
        "cuda:0",
        "it.json",
        "a b",
        "--no such",
    ]
)
OPTION = st.tuples(
    st.sampled_from(["--backend", "--host", "--device", "--for", "--python", "--snapshot", "--format", "--ignore"]),
    st.sampled_from(["auto", "none", "load", "json", "x", "", "-", "a b", "--strict"]) | st.text(max_size=5),
).map(list)
FLAG = st.sampled_from([["--strict"], ["--allow-undecided"], ["--deep"]])
LINES = st.lists(WORDS, max_size=8) | st.lists(OPTION | FLAG, max_size=6).map(lambda parts: ["check", *chain(*parts)])


@given(LINES)
@settings(max_examples=300)
def test_the_quick_way_reads_what_the_parser_reads(words: list[str]) -> None:
    read = quick(words)
    if read is not None:
        with contextlib.redirect_stderr(io.StringIO()) as told:
            try:
                parsed = parser().parse_args(words)
            except SystemExit:
                pytest.fail(f"the parser refuses {words}: {told.getvalue()}")
        assert parsed.command == "check"
        assert not parsed.version
        assert check_arguments(parsed) == read


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["check"], CheckArguments()),
        (["check", "--backend", "bnb", "--backend", "gguf"], CheckArguments(backend=("bnb", "gguf"))),
        (["check", "--for", "load", "--strict"], CheckArguments(operation="load", strict=True)),
        (["check", "--host", "none", "--host", "auto"], CheckArguments(host="auto")),
        (["check", "--snapshot", "a", "--format", "jsonl"], CheckArguments(snapshot=("a",), format="jsonl")),
        (["check", "-o", "report", "--format", "sarif"], CheckArguments(output="report", format="sarif")),
        (["check", "--deep"], CheckArguments(deep=True)),
        (["check", "--deep", "--timeout", "9"], None),
        (["check", "--snapshot", "-"], None),
        (["check", "-o", "-"], None),
        (["check", "--help"], None),
        (["snapshot"], None),
        ([], None),
    ],
)
def test_the_quick_way_reads_the_commonest_lines(words: list[str], read: CheckArguments | None) -> None:
    assert quick(words) == read
