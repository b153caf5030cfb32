"""What a deep look says: stand-ins for the child process, and the real one with a package of ours in torch's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import ENVIRON, SECONDS, run
from support import book, machine, row, tables
from test_process import gone, written

import envguard
from envguard import checks, shipped, trials
from envguard.deep import smoke
from envguard.deep.process import Ended
from envguard.errors import BadInput, BadInterpreter
from envguard.frozen import replace
from envguard.model import Environment, Outcome
from envguard.probes.interpreter import current
from envguard.probes.wanted import EVERYTHING, Look
from envguard.rulebook import RuleBook

on_posix = pytest.mark.skipif(os.name == "nt", reason="only on POSIX: its signals")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux: needs its /proc")

RULES = book(
    row("torchao/installed", {"distribution": "torchao"}),
    row("torchao/gpu", {"accelerator": ["cuda"]}, kind="hardware", when={"device": ["auto", "cuda"]}),
    row("torchao/int8", {"distribution": "torchao>=9"}, when={"scheme": ["int8"]}),
)
SPECS = {"spec": "torchao:int4", "host": "none", "device": "cpu", "operation": "quantize", "undecided": "block"}
GOOD = {"error": 0.01, "again": 0.0, "device": "cpu"}
SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "report-1.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The machine that is looked at, by the rules above."""
    data = machine()
    monkeypatch.setattr(shipped, "_loaded", RULES)
    monkeypatch.setattr(checks, "look", lambda *args, **kwargs: Look(EVERYTHING, "diffusers", Environment(data)))
    return data


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str, answer: Any = None) -> None:
    """A program in the place of the child's, which may write an answer first."""
    whole = f"import json, os, signal, sys, time\nasked = json.loads(sys.stdin.readline())\nanswer = {answer!r}\n"
    whole += "if answer is not None:\n open(asked['answer'], 'w').write(answer)\n" + code
    monkeypatch.setattr(smoke, "_command", lambda _: [sys.executable, "-c", whole])


def smoke_of(report: envguard.Report) -> Outcome:
    outcome = report.backends[0].outcomes[-1]
    assert (outcome.rule, outcome.origin) == ("torchao/smoke", "deep")
    return outcome


def judged(answer: dict[str, Any], ended: Ended = Ended("", "")) -> Outcome:  # noqa: B008 - frozen
    return smoke.outcome_of("torchao", "int8_weight_only", "none", smoke.Trial(ended, answer, 1.25))


# What an answer means


def test_a_right_result_is_met_with_time_and_error() -> None:
    outcome = judged(GOOD)
    assert outcome.status == "met"
    assert outcome.found == "relative error 0.01, loaded again the same, in 1.2 s on cpu"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({**GOOD, "error": 0.9}, "differs from the unquantized model's by 0.9"),
        ({**GOOD, "error": float("nan")}, "differs from the unquantized model's by nan"),
        ({**GOOD, "again": 0.1}, "saved and loaded again, its result differs from before by 0.1"),
        ({**GOOD, "again": float("nan")}, "saved and loaded again, its result differs from before by nan"),
        ({}, "ended well without a result"),
        ({"error": "0.1", "again": True}, "ended well without a result"),
    ],
)
def test_a_wrong_result_is_broken(answer: dict[str, Any], found: str) -> None:
    outcome = judged(answer, Ended("", "the last line"))
    assert (outcome.status, outcome.kind, outcome.severity) == ("unmet", "broken", "error")
    assert outcome.found is not None
    assert found in outcome.found
    assert outcome.found.endswith("; last line: the last line")
    assert all((outcome.needed, outcome.why, outcome.fix, outcome.source))


def test_how_it_ended_counts_more_than_a_right_result() -> None:
    outcome = judged({**GOOD, "step": "while the process ended"}, Ended("was killed by SIGSEGV", ""))
    assert outcome.found == "the child process was killed by SIGSEGV while the process ended"


def test_what_the_rules_do_not_let_it_save_works_all_the_same() -> None:
    outcome = judged({"error": 0.01, "refused": [["torchao/save", "needs more"]]})
    assert outcome.status == "met"
    assert outcome.found == "relative error 0.01 in 1.2 s; not saved, which torchao/save does not allow"


def test_what_the_rules_do_not_let_it_quantize_is_skipped() -> None:
    outcome = judged({"refused": [["torchao/gpu", "needs a GPU"]]})
    assert (outcome.status, outcome.because) == ("skipped", "torchao/gpu")


# The report


def test_a_pass_leaves_the_verdict_and_no_file(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    code = "open(os.path.join(os.environ['TMPDIR'], 'more'), 'w').write('x')"
    stand_in(monkeypatch, code, json.dumps(GOOD))
    report = envguard.smoke("torchao:int4")
    assert (smoke_of(report).status, report.verdict) == ("met", "ok")
    assert list(folder.iterdir()) == []


@on_posix
def test_a_crash_blocks_the_backend_and_the_scheme_that_was_tried(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    stand_in(monkeypatch, "os.kill(os.getpid(), signal.SIGSEGV)", json.dumps({"step": "while it saved"}))
    report = envguard.smoke("torchao")
    assert smoke_of(report).found == "the child process was killed by SIGSEGV while it saved"
    assert report.verdict == "blocked"
    assert report.backends[0].schemes == {"int8": "blocked", "int4": "blocked", "fp8": "ok"}
    jsonschema.validate(json.loads(report.to_json()), SCHEMA)
    assert "error: torchao/smoke" in str(report)
    assert list(folder.iterdir()) == []


def test_a_hang_is_told_with_its_limit(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "time.sleep(600)")
    report = envguard.smoke("torchao:int4", timeout=0.5)
    assert smoke_of(report).found == "the child process did not end within 0.5 s"


@pytest.mark.parametrize("answer", ["", "nonsense", "[]", '{"error"', "[" * 100_000, '"x"' * 100_000])
def test_an_answer_that_is_none_is_broken(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(smoke, "run", _writes(answer))
    assert smoke_of(envguard.smoke("torchao:int4")).status == "unmet"


def _writes(answer: str) -> Any:
    def run(command: Any, given: bytes, *rest: Any) -> Ended:
        Path(json.loads(given)["answer"]).write_text(answer)
        return Ended("", "")

    return run


def never(*_: object) -> Any:
    raise AssertionError("a child process was started")


def test_what_is_blocked_or_undecided_is_not_run(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "run", never)
    blocked = envguard.smoke("torchao:int8")
    assert blocked.verdict == "blocked"
    assert blocked == replace(envguard.check("torchao:int8"), undecided="block")
    del here["accelerators"]
    assert envguard.smoke("torchao:int4").verdict == "undecided"
    with pytest.raises(AssertionError, match="was started"):
        envguard.smoke("torchao:int4", undecided="allow")


def test_an_ignored_rule_lets_it_be_tried(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "pass", json.dumps(GOOD))
    here["accelerators"] = []
    assert envguard.smoke("torchao:int4", ignore=["torchao/gpu"]).verdict == "degraded"


def test_a_backend_that_rules_of_others_bring_is_judged_and_not_tried(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    header = {**tables()["torchao.toml"]["backend"], "name": "acmequant"}
    theirs = tables(row("acmequant/installed", {"distribution": "torchao"}), header=header, file="acmequant.toml")
    monkeypatch.setattr(shipped, "_loaded", RuleBook(theirs))
    monkeypatch.setattr(smoke, "run", never)
    report = envguard.smoke("acmequant:int8")
    outcome = report.backends[0].outcomes[-1]
    assert (outcome.rule, outcome.status, report.verdict) == ("acmequant/smoke", "skipped", "ok")
    assert outcome.message.startswith("envguard judges acmequant, but cannot run it: it runs bitsandbytes, ")


@pytest.mark.parametrize("spec", ["torchao:int4", "torchao"])
def test_an_ignored_trial_that_fails_stays_visible_and_degrades(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    stand_in(monkeypatch, "sys.exit('it is broken')")
    report = envguard.smoke(spec, ignore=["torchao/smoke"])
    outcome = smoke_of(report)
    assert (outcome.status, outcome.severity, outcome.ignored) == ("unmet", "error", True)
    assert (report.verdict, report.ok) == ("degraded", True)
    if spec == "torchao":
        assert report.backends[0].schemes == {"int8": "blocked", "int4": "degraded", "fp8": "ok"}
    jsonschema.validate(json.loads(report.to_json()), SCHEMA)
    assert "error, ignored: torchao/smoke" in str(report)


def test_an_ignored_trial_that_works_changes_nothing(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "pass", json.dumps(GOOD))
    report = envguard.smoke("torchao", ignore=["torchao/smoke"])
    assert (smoke_of(report).status, report.verdict) == ("met", "ok")


def test_a_check_knows_the_id_of_a_trial_to_ignore_and_no_other(here: dict[str, Any]) -> None:
    ignored = envguard.check("torchao:int4", ignore=["torchao/smoke"])
    assert ignored.verdict == envguard.check("torchao:int4").verdict
    for function in (envguard.check, envguard.smoke):
        with pytest.raises(ValueError, match="no rule has the id 'torchao/smokes'"):
            function("torchao:int4", ignore=["torchao/smokes"])


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout: expected seconds above 0"):
        envguard.smoke("torchao", timeout=seconds)


def test_without_a_temporary_folder_one_line_says_so(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="needs a temporary folder"):
        envguard.smoke("torchao:int4")


def test_an_older_python_is_refused() -> None:
    with pytest.raises(BadInterpreter, match=r"which is Python 3\.9\.1: it needs 3\.10 or newer"):
        smoke.try_it(replace(current(), version="3.9.1"), SPECS, 1)


# The command line


def test_the_exit_status_counts_it(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "pass", json.dumps(GOOD))
    fine = run("check", "--deep", "--backend", "torchao:int4")
    assert fine.status == 0
    assert "torchao works: a tiny model quantized to torchao:int4" in fine.out
    stand_in(monkeypatch, "sys.exit('it is\\x1b[2J broken')")
    for form in ("text", "json", "jsonl"):
        done = run("check", "--deep", "--backend", "torchao:int4", "--format", form)
        assert done.status == 1
        assert "last line" in done.out
        assert "\x1b" not in done.out
    assert run("check", "--deep").status == 0


def test_an_ignored_trial_does_not_fail_the_command(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, "sys.exit('it is broken')")
    words = ["check", "--deep", "--backend", "torchao:int4"]
    assert run(*words).status == 1
    told = run(*words, "--ignore", "torchao/smoke")
    assert told.status == 0
    assert "error, ignored: torchao/smoke" in told.out
    (tmp_path / "pyproject.toml").write_text('[tool.envguard]\nignore = ["torchao/smoke"]\n')
    monkeypatch.chdir(tmp_path)
    settled = run(*words)
    assert settled.status == 0
    assert "error, ignored: torchao/smoke" in settled.out
    assert run(*words, "--strict").status == 1


def test_explain_says_what_a_trial_does_when_how_long_and_what_its_failure_means() -> None:
    said = " ".join(run("explain", "gguf/smoke").out.split())
    for part in ("quantized with the scheme runs on the device, is saved and loads again", "a deep look alone"):
        assert part in said
    assert f"within {smoke.SECONDS:g} s or what --timeout says" in said
    assert "error: blocks (broken)" in said
    assert all(text in said for text in (trials.WHY, trials.FIX))
    assert "did you mean gguf/smoke" in run("explain", "gguf/smok").refused()


def test_every_backend_has_its_trial_among_the_rules() -> None:
    told = json.loads(run("rules", "--format", "json").out)
    tried = [rule for rule in told if rule["origin"] == "deep"]
    assert [rule["id"] for rule in tried] == [f"{name}/smoke" for name in shipped.load().backends]
    assert all(list(rule) == list(told[0]) for rule in tried)
    one = json.loads(run("rules", "--backend", "gguf", "--format", "json").out)
    assert [rule["id"] for rule in one if rule["origin"] == "deep"] == ["gguf/smoke"]


def test_a_trial_says_of_a_failure_what_explain_says(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "sys.exit('it is broken')")
    outcome, rule = smoke_of(envguard.smoke("torchao:int4")), trials.rule_of("torchao")
    assert outcome.fix is not None
    assert (outcome.why, outcome.source, outcome.fix.text) == (rule.why, rule.source, rule.fix.text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--deep", "--snapshot", "it.json"], "cannot be run: leave --snapshot out"),
        (["--deep", "--model", "it"], "leave --model out"),
        (["--timeout", "3"], "--timeout is for the child processes of --deep"),
        (["--deep", "--timeout", "0"], "--timeout: expected seconds above 0"),
        (["--deep", "--timeout", "nan"], "--timeout: expected seconds above 0"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], expected: str) -> None:
    assert expected in run("check", *words).refused()


def test_a_check_that_is_not_deep_imports_nothing_of_it() -> None:
    code = (
        "import sys, io; sys.stdout = io.StringIO(); import envguard.cli; envguard.cli.run(['check']);"
        "print([name for name in sys.modules if name.startswith('envguard.deep')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRON)
    assert done.stderr.strip() == "[]"


# The real child, with a package of ours in the place of torch


def trial(tmp_path: Path, torch: str, seconds: float = SECONDS) -> smoke.Trial:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "torch.py").write_text(torch)
    here = current()
    path = (str(tmp_path / "site"), *here.path)
    return smoke.try_it(replace(here, path=path), {**SPECS, "ignore": []}, seconds)


@on_posix
@pytest.mark.parametrize(
    ("torch", "how"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("import os; os.abort()", "was killed by SIGABRT"),
        ("import os; os._exit(7)", "ended with status 7"),
    ],
)
def test_a_crash_in_an_import_is_told_with_its_step(tmp_path: Path, torch: str, how: str, folder: Path) -> None:
    done = trial(tmp_path, torch)
    assert done.ended.how == how
    assert done.answer == {"step": "while torch was imported"}
    assert list(folder.iterdir()) == []


def test_an_import_error_is_told_whole_on_one_line(tmp_path: Path) -> None:
    done = trial(tmp_path, "raise ImportError('libcudart.so.13:\\n  cannot open')")
    assert done.ended == Ended("ended with status 1", "ImportError: libcudart.so.13: cannot open")


def test_what_prints_a_lot_does_no_harm(tmp_path: Path) -> None:
    done = trial(tmp_path, "for _ in range(2000): print('x' * 10000)\nraise ValueError('end')")
    assert done.ended.said == "ValueError: end"


def test_an_import_that_hangs_is_ended(tmp_path: Path, folder: Path) -> None:
    done = trial(tmp_path, "import time; time.sleep(600)", 2)
    assert done.ended.how == "did not end within 2 s"
    assert list(folder.iterdir()) == []


def test_a_python_that_cannot_import_envguard_is_refused(tmp_path: Path) -> None:
    here = current()
    path = tuple(entry for entry in here.path if "-packages" not in entry and not (Path(entry) / "packaging").exists())
    with pytest.raises(BadInterpreter, match="which cannot import it: No module named 'packaging'"):
        smoke.try_it(replace(here, path=path), {**SPECS, "ignore": []}, SECONDS)


PARENT = """
import sys
from envguard.deep import smoke
from envguard.frozen import replace
from envguard.probes.interpreter import current
here = current()
asked = {"spec": "torchao:int4", "host": "none", "device": "cpu", "operation": "quantize", "undecided": "block"}
smoke.try_it(replace(here, path=(sys.argv[1], *here.path)), {**asked, "ignore": []}, 600)
"""


@on_linux
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "pid"
    torch = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid()) + chr(10)); time.sleep(600)"
    (tmp_path / "torch.py").write_text(torch)
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, env={**ENVIRON, "TMPDIR": str(folder)}) as parent:
        pid = written(file)
        parent.send_signal(signal.SIGKILL)
        assert gone(pid)
