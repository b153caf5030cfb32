"""The pytest plugin, in runs of its own: what skips, what fails, and what a test is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import pytest
from support import HEADER, everything, machine, row, snapshot, tables

from envguard import __version__, callchecks, checks, guard, shipped
from envguard.deep import smoke
from envguard.deep.process import Ended
from envguard.errors import BadRules
from envguard.model import Environment
from envguard.probes.wanted import EVERYTHING, Look
from envguard.rulebook import RuleBook
from envguard.rulefiles import check_tables

Run = Callable[..., pytest.RunResult]


def two_backends() -> RuleBook:
    """Rules for two: torchao needs itself, a GPU, a name of its own and more; gguf needs nothing but itself."""
    made = tables(
        row("torchao/installed", {"distribution": "torchao"}, fix={"install": ["torchao"]}),
        row("torchao/version", {"distribution": "torchao>=0.15"}, after=["torchao/installed"]),
        row("torchao/owner", {"owner": "torchao"}, kind="broken", after=["torchao/installed"]),
        row("torchao/gpu", {"accelerator": ["cuda"]}, kind="hardware", when={"device": ["auto", "cuda"]}),
        row("torchao/system", {"system": ["Linux"]}, kind="platform"),
        row("torchao/switch", {"variable": {"name": "X", "value": ["on"]}}, kind="configuration"),
        row("torchao/fp8", {"compute_capability": "9.0"}, kind="hardware", when={"scheme": ["fp8"]}),
        row("torchao/advice", {"distribution": "torchao>=0.18"}, "warning"),
        row("torchao/host", {"distribution": "transformers"}, kind="absent", when={"host": ["transformers"]}),
    )
    header = {**HEADER, "name": "gguf", "aliases": [], "distribution": "gguf", "import_name": "gguf", "extra": "gguf"}
    made.update(tables(row("gguf/installed", {"distribution": "gguf"}), header=header, file="gguf.toml"))
    check_tables(made)
    return RuleBook(made)


RULES = two_backends()
FINE = machine(environment_variables={"X": "on"})


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest with the plugin, the rules above and a recorded environment on the text of a test file."""
    monkeypatch.setattr(shipped, "_loaded", RULES)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # of all that is installed, only this one

    def run(text: str, *options: str, data: dict[str, Any] = FINE, ini: str = "") -> pytest.RunResult:
        monkeypatch.setattr(checks, "look", lambda *args, **kwargs: Look(EVERYTHING, "diffusers", Environment(data)))
        monkeypatch.setattr(guard, "_passed", {})
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makepyfile(f"import pytest\n{text}")
        plugin = ("-p", "envguard.pytest_plugin", "-p", "no:cacheprovider")
        return pytester.runpytest_inprocess("--strict-markers", "-rs", *plugin, *options)

    return run


def marked(*marks: str) -> str:
    """A test that passes, with some marks."""
    return "\n".join([*(f"@pytest.mark.envguard({mark})" for mark in marks), "def test_it(): pass"])


def without(**changes: Any) -> dict[str, Any]:
    """The environment in which all is fine, but for some sections."""
    return {**deepcopy(FINE), **changes}


def told(result: pytest.RunResult) -> str:
    return result.stdout.str()


NOT_OURS = {"torchao": {"origin": "/w/torchao.py", "distribution": None, "kind": "module"}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "absent": (without(distributions={}), "needs torchao, found torchao is not installed"),
    "version": (without(distributions={"torchao": {"version": "0.14.1"}}), "needs torchao>=0.15, found torchao 0.14.1"),
    "hardware": (without(accelerators=[]), "needs a GPU (CUDA), found no GPU"),
    "platform": (without(host={"system": "Windows"}), "needs Linux, found Windows"),
    "configuration": (without(environment_variables={"X": "off"}), "needs X=on, found X=off"),
}


# The marker


def test_a_marked_test_runs_where_the_rules_pass(run: Run) -> None:
    run(marked("'torchao'")).assert_outcomes(passed=1)


@pytest.mark.parametrize("kind", WRONG)
def test_a_marked_test_skips_with_the_line_of_the_report(run: Run, kind: str) -> None:
    data, line = WRONG[kind]
    result = run(marked("'torchao'"), data=data)
    result.assert_outcomes(skipped=1)
    assert "envguard: torchao" in told(result)
    assert "blocked: " in told(result)
    assert line in told(result)


def test_what_is_broken_fails_because_a_skip_would_hide_it(run: Run) -> None:
    result = run(marked("'torchao'"), data=without(import_owners=NOT_OURS))
    result.assert_outcomes(errors=1)
    assert "belongs to no distribution and shadows it" in told(result)
    assert "Traceback" not in told(result)
    assert "pytest_plugin.py" not in told(result)


def test_what_is_undecided_skips_and_says_so(run: Run) -> None:
    data = without()
    del data["accelerators"]
    result = run(marked("'torchao'"), data=data)
    result.assert_outcomes(skipped=1)
    assert "torchao 0.18.0 undecided: needs a GPU (CUDA), found not observed" in told(result)


def test_what_is_degraded_runs_with_a_warning(run: Run) -> None:
    result = run(marked("'torchao'"), "-Walways", data=without(distributions={"torchao": {"version": "0.15.0"}}))
    result.assert_outcomes(passed=1, warnings=1)
    assert "torchao runs degraded: torchao/advice: needs torchao>=0.18, found torchao 0.15.0" in told(result)


def test_a_scheme_has_its_own_rules(run: Run) -> None:
    run(marked("'torchao:int8'")).assert_outcomes(passed=1)
    result = run(marked("'torchao:fp8'"))
    result.assert_outcomes(skipped=1)
    assert "torchao:fp8" in told(result)


def test_a_device_of_the_marker_is_the_one_that_is_judged(run: Run) -> None:
    data = without(accelerators=[])
    run(marked("'torchao', device='cuda'"), data=data).assert_outcomes(skipped=1)
    run(marked("'torchao', device='cpu'"), data=data).assert_outcomes(passed=1)


def test_a_host_of_the_marker_is_the_one_that_is_judged(run: Run) -> None:
    run(marked("'torchao', host='transformers'")).assert_outcomes(skipped=1)
    run(marked("'torchao', host='diffusers', operation='load'")).assert_outcomes(passed=1)


def test_several_marks_must_all_hold(run: Run) -> None:
    both = without(distributions={"torchao": {"version": "0.18.0"}, "gguf": {"version": "0.19.0"}})
    run(marked("'torchao'", "'gguf'"), data=both).assert_outcomes(passed=1)
    for marks in (("'torchao'", "'gguf'"), ("'gguf'", "'torchao'")):
        result = run(marked(*marks))
        result.assert_outcomes(skipped=1)
        assert "gguf blocked: needs gguf, found gguf is not installed" in told(result)


@pytest.mark.parametrize("turned", [False, True])
def test_a_mark_that_skips_hides_none_that_fails(run: Run, turned: bool) -> None:
    marks = ["'gguf'", "'torchao'"]
    both = marked(*(reversed(marks) if turned else marks))
    broken = run(both, data=without(import_owners=NOT_OURS))
    broken.assert_outcomes(errors=1)
    assert "shadows it" in told(broken)
    required = run(both, "--envguard-required=torchao", data=without(accelerators=[]))
    required.assert_outcomes(errors=1)
    assert "needs a GPU (CUDA), found no GPU" in told(required)


@pytest.mark.parametrize("mark", ["skip(reason='not today')", "skipif(True, reason='not today')"])
def test_what_pytest_skips_by_itself_is_not_looked_at(run: Run, mark: str) -> None:
    text = f"@pytest.mark.{mark}\n{marked(repr('gguf'))}"
    result = run(text, "--envguard-required=gguf")
    result.assert_outcomes(skipped=1)
    assert "not today" in told(result)


def test_a_test_that_is_expected_to_fail_is_still_skipped(run: Run) -> None:
    text = f"@pytest.mark.xfail(strict=True)\n{marked(repr('gguf'))}"
    run(text).assert_outcomes(skipped=1)


def test_marks_of_unittest_cases_count_before_they_are_set_up(run: Run) -> None:
    text = """
import unittest

@pytest.mark.envguard("gguf")
class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError("the model was loaded")
    def test_one(self): pass
"""
    run(text).assert_outcomes(skipped=1)


def test_marks_of_classes_and_modules_count(run: Run) -> None:
    text = """
pytestmark = pytest.mark.envguard("gguf")

class TestThese:
    pytestmark = pytest.mark.envguard("torchao")
    def test_one(self): pass

def test_two(): pass
"""
    run(text).assert_outcomes(skipped=2)
    run(text, data=without(distributions={"gguf": {"version": "1"}})).assert_outcomes(passed=1, skipped=1)


def test_a_mark_on_one_parameter_skips_that_one(run: Run) -> None:
    text = """
@pytest.mark.parametrize("spec", [pytest.param(s, marks=pytest.mark.envguard(s)) for s in ("torchao", "gguf")])
def test_it(spec): pass
"""
    run(text).assert_outcomes(passed=1, skipped=1)


def test_fixtures_of_a_skipped_test_do_not_run(run: Run) -> None:
    text = """
@pytest.fixture(autouse=True)
def expensive(): raise RuntimeError("the model was loaded")

@pytest.mark.envguard("gguf")
def test_it(): pass
"""
    run(text).assert_outcomes(skipped=1)


def test_an_environment_is_looked_at_once_a_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    text = "\n".join(f"@pytest.mark.envguard('torchao')\ndef test_{n}(): pass" for n in range(5))
    whole = callchecks.examine

    def count(*args: Any, **kwargs: Any) -> Any:
        looks.append(args)
        return whole(*args, **kwargs)

    monkeypatch.setattr(callchecks, "examine", count)
    run(text, data=without(accelerators=[])).assert_outcomes(skipped=5)
    assert len(looks) == 1
    text = """
@pytest.mark.parametrize("spec", ["ao:int8wo", "TorchAO:INT8", "torchao:int8"])
def test_one(require_backend, spec): require_backend(spec)

@pytest.mark.envguard("ao:int8")
def test_two(envguard_torchao): pass
"""
    run(text).assert_outcomes(passed=4)
    assert len(looks) == 2, "names and aliases are one request"


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("'torcha'", "unknown backend 'torcha', did you mean torchao"),
        ("'torchao:int9'", "unknown scheme 'int9' of torchao, did you mean int8"),
        ("'torchao', device='gpu'", "unknown device 'gpu'"),
        ("'torchao', host='keras'", "unknown host 'keras'"),
        ("'torchao', operation='train'", "unknown operation 'train'"),
        ("'torchao', decive='cpu'", "expected one spec and the keywords device, host and operation"),
        ("'torchao', 'gguf'", "expected one spec"),
        ("'torchao', device=3", "expected one spec"),
        ("'torchao', device=None", "expected one spec"),
        ("'torchao', deep='yes'", "expected one spec"),
        ("'torchao', host=['diffusers']", "expected one spec"),
        ("", "expected one spec"),
        ("3", "expected one spec"),
    ],
)
def test_a_mark_that_can_never_hold_is_an_error_of_the_suite(run: Run, mark: str, expected: str) -> None:
    for options in ((), ("--collect-only",)):
        result = run(marked(mark), *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"test_it: @pytest.mark.envguard: {expected}" in result.stderr.str()


def test_in_a_worker_of_xdist_the_test_of_such_a_mark_fails(run: Run, pytester: pytest.Pytester) -> None:
    """What else a worker has to say is lost."""
    pytester.makeconftest("def pytest_configure(config): config.workerinput = {}")
    result = run(marked("'torchao', device='gpu'") + "\ndef test_other(): pass")
    result.assert_outcomes(passed=1, errors=1)
    assert "@pytest.mark.envguard: unknown device 'gpu'" in told(result)
    assert "pytest_plugin.py" not in told(result)


def test_collecting_looks_at_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(marked("'gguf'"), "--collect-only")
    assert result.ret == 0
    assert "test_it" in told(result)
    assert "skipped" not in told(result)


# A deep look


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What child processes were asked; each ends well, but those for int8."""
    asked: list[Any] = []

    def try_it(_: object, given: Any, __: float) -> smoke.Trial:
        asked.append(given)
        if given["spec"].endswith("int8"):
            return smoke.Trial(Ended("was killed by SIGSEGV", "it said so"), {"step": "while it quantized"}, 1.0)
        return smoke.Trial(Ended("", ""), {"error": 0.01, "again": 0.0}, 1.0)

    monkeypatch.setattr(smoke, "try_it", try_it)
    return asked


def test_a_deep_mark_fails_where_a_tiny_model_does_not_work(run: Run, tries: list[Any]) -> None:
    result = run(marked("'torchao:int8', deep=True"))
    result.assert_outcomes(errors=1)
    assert "envguard: torchao:int8 0.18.0 blocked: needs a tiny model" in told(result)
    assert "was killed by SIGSEGV while it quantized; last line: it said so" in told(result)


def test_a_deep_mark_tries_once_a_session_and_gives_the_fixture(run: Run, tries: list[Any]) -> None:
    text = """
@pytest.mark.envguard("torchao:int4", deep=True, host="none")
@pytest.mark.parametrize("number", range(3))
def test_it(number, envguard_torchao): assert envguard_torchao.scheme == "int4"

@pytest.mark.envguard("ao:int4", host="none", deep=True)
def test_it_again(): pass

@pytest.mark.envguard("torchao:int8", deep=False)
def test_not_deep(): pass
"""
    run(text).assert_outcomes(passed=5)
    assert [(each["spec"], each["host"]) for each in tries] == [("torchao:int4", "none")]


def test_a_deep_mark_skips_what_the_rules_skip_and_tries_nothing(run: Run, tries: list[Any]) -> None:
    run(marked("'torchao:int4', deep=True"), data=without(accelerators=[])).assert_outcomes(skipped=1)
    assert tries == []


# What is required here


@pytest.mark.parametrize(
    ("options", "ini"),
    [
        (["--envguard-required=torchao"], ""),
        (["--envguard-required", "gguf, AO"], ""),
        ([], "envguard_required = torchao"),
        ([], "envguard_required = gguf,torchao"),
        ([], "envguard_required = gguf torchao"),
        ([], "envguard_required =\n    gguf\n    torchao:int8"),
    ],
)
def test_for_what_is_required_nothing_skips(run: Run, options: list[str], ini: str) -> None:
    undecided = without()
    del undecided["accelerators"]
    for data in (*(data for data, _ in WRONG.values()), undecided):
        result = run(marked("'torchao'"), *options, ini=ini, data=data)
        result.assert_outcomes(errors=1)
        assert "(required here: envguard_required)" in told(result)
    run(marked("'torchao'"), *options, ini=ini).assert_outcomes(passed=1)


def test_what_is_not_required_still_skips(run: Run) -> None:
    run(marked("'gguf'"), "--envguard-required=torchao").assert_outcomes(skipped=1)


def test_the_option_stands_for_the_ini(run: Run) -> None:
    run(marked("'gguf'"), "--envguard-required=", ini="envguard_required = gguf").assert_outcomes(skipped=1)


@pytest.mark.parametrize(("options", "ini"), [(["--envguard-required=torcha"], ""), ([], "envguard_required = torcha")])
def test_an_unknown_required_backend_is_an_error_of_the_suite(run: Run, options: list[str], ini: str) -> None:
    result = run("def test_it(): pass", *options, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "envguard_required: unknown backend 'torcha', did you mean torchao" in result.stderr.str()


# Defaults


@pytest.mark.parametrize(("options", "ini"), [(["--envguard-device=cpu"], ""), ([], "envguard_device = cpu")])
def test_the_device_of_the_session_is_for_marks_that_name_none(run: Run, options: list[str], ini: str) -> None:
    data = without(accelerators=[])
    run(marked("'torchao'"), *options, ini=ini, data=data).assert_outcomes(passed=1)
    run(marked("'torchao', device='cuda'"), *options, ini=ini, data=data).assert_outcomes(skipped=1)
    run("def test_it(envguard_torchao): pass", *options, ini=ini, data=data).assert_outcomes(passed=1)
    run("def test_it(require_backend): require_backend('torchao')", *options, ini=ini, data=data).assert_outcomes(
        passed=1
    )


@pytest.mark.parametrize(
    ("options", "ini"), [(["--envguard-host=transformers"], ""), ([], "envguard_host = transformers")]
)
def test_the_host_of_the_session_is_for_marks_that_name_none(run: Run, options: list[str], ini: str) -> None:
    run(marked("'torchao'"), *options, ini=ini).assert_outcomes(skipped=1)
    run(marked("'torchao', host='none'"), *options, ini=ini).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("option", "expected"), [("--envguard-device=gpu", "unknown device"), ("--envguard-host=x", "unknown host")]
)
def test_a_default_that_does_not_exist_is_an_error_of_the_suite(run: Run, option: str, expected: str) -> None:
    result = run("def test_it(envguard_gguf): pass", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert expected in result.stderr.str()


# Fixtures


def test_a_fixture_gives_the_guarded_backend(run: Run) -> None:
    text = """
from envguard import Guarded

def test_one(envguard_torchao):
    assert isinstance(envguard_torchao, Guarded)
    assert envguard_torchao.backend == "torchao" and envguard_torchao.scheme is None

def test_two(require_backend):
    assert require_backend("ao:int8wo").scheme == "int8"
    assert require_backend("torchao", device="cpu").report.backends[0].request.device == "cpu"

@pytest.mark.envguard("torchao:int8", device="cuda")
def test_three(envguard_torchao):
    request = envguard_torchao.report.backends[0].request
    assert (request.scheme, request.device) == ("int8", "cuda")
"""
    run(text).assert_outcomes(passed=3)


def test_a_fixture_takes_the_device_of_the_mark_of_another_backend(run: Run) -> None:
    text = """
@pytest.mark.envguard("torchao", device="cpu")
def test_it(envguard_gguf):
    assert envguard_gguf.report.backends[0].request.device == "cpu"
"""
    run(text, data=without(distributions={"torchao": {"version": "0.18.0"}, "gguf": {"version": "1"}})).assert_outcomes(
        passed=1
    )


@pytest.mark.parametrize(
    "test", ["def test_it(envguard_gguf): pass", "def test_it(require_backend): require_backend('gguf')"]
)
def test_a_fixture_skips_where_its_backend_cannot_run(run: Run, test: str) -> None:
    result = run(test)
    result.assert_outcomes(skipped=1)
    assert "gguf blocked: needs gguf, found gguf is not installed" in told(result)
    failing = run(test, "--envguard-required=gguf")
    assert failing.ret == pytest.ExitCode.TESTS_FAILED


def test_a_spec_that_nobody_knows_fails_the_test_that_asks_for_it(run: Run) -> None:
    result = run("def test_it(require_backend): require_backend('torcha')")
    result.assert_outcomes(failed=1)
    assert "unknown backend 'torcha', did you mean torchao" in told(result)


@pytest.mark.parametrize("name", ["bnb", "torchao", "quanto", "gguf", "modelopt"])
def test_every_backend_that_ships_has_a_fixture(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(shipped, "_loaded", None)
    text = f"def test_it(envguard_{name}): assert envguard_{name}.backend.startswith('{name[0]}')"
    run(text, data=everything()).assert_outcomes(passed=1)
    run(text, data=snapshot(distributions={}, distributions_complete=True)).assert_outcomes(skipped=1)


# The plugin itself


@pytest.fixture
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """For processes of their own, in which pytest finds the plugin by its entry point."""
    if not entry_points(group="pytest11", name="envguard"):  # a checkout on the path: as an installed one is found
        info = pytester.mkdir("site").joinpath("envguard_quant-0.dist-info")
        info.mkdir()
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: envguard-quant\nVersion: 0\n")
        info.joinpath("entry_points.txt").write_text("[pytest11]\nenvguard = envguard.pytest_plugin\n")
        monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return pytester


def test_the_plugin_is_on_where_envguard_is_installed_and_can_be_switched_off(installed: pytest.Pytester) -> None:
    installed.makepyfile("import pytest\n@pytest.mark.envguard('torchao:nonsense')\ndef test_it(): pass")
    on = installed.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider")
    assert on.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown scheme 'nonsense' of torchao" in on.stderr.str()
    off = installed.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider", "-p", "no:envguard")
    assert off.ret == pytest.ExitCode.INTERRUPTED
    assert "'envguard' not found in `markers` configuration option" in told(off)
    assert "envguard: " not in told(off), "its line in the header"


def test_this_environment_is_looked_at(installed: pytest.Pytester) -> None:
    """Without anything replaced: here every backend is there or not."""
    installed.makeini("[pytest]\nenvguard_device = cpu\nenvguard_host = none")
    installed.makepyfile("""
        import envguard
        import pytest

        @pytest.mark.parametrize("spec", ["bnb", "torchao", "quanto", "gguf", "modelopt"])
        def test_it(require_backend, spec):
            try:
                guarded = require_backend(spec)
            except (pytest.skip.Exception, pytest.fail.Exception):
                assert not envguard.available(spec, device="cpu", host="none")
            else:
                assert guarded.report.ok
                assert envguard.available(spec, device="cpu", host="none")
    """)
    installed.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=5)


def test_the_header_says_that_the_plugin_is_on(run: Run) -> None:
    run("def test_it(): pass").stdout.fnmatch_lines([f"envguard: {__version__} (rules of {RULES.version})"])


def test_the_summary_tells_what_tests_asked_for_and_what_came_of_it(run: Run) -> None:
    text = marked("'torchao'") + "\n" + marked("'gguf', device='cpu'").replace("test_it", "test_other")
    text += "\ndef test_third(envguard_torchao): pass"
    result = run(text, data=without(distributions={"torchao": {"version": "0.14.1"}, "gguf": {"version": "0.17.0"}}))
    result.stdout.fnmatch_lines(
        [
            "*= envguard =*",
            "gguf 0.17.0 ok (device cpu) [[]asked 1 time[]]",
            "torchao 0.14.1 blocked: needs torchao>=0.15, found torchao 0.14.1 [[]asked 2 times[]]",
        ]
    )


@pytest.mark.parametrize(("text", "option"), [("def test_it(): pass", "-v"), (marked("'torchao'"), "-q")])
def test_there_is_no_summary_where_nobody_asked_or_nobody_wants_one(run: Run, text: str, option: str) -> None:
    assert "= envguard =" not in told(run(text, option))


def test_workers_of_xdist_hand_on_what_they_were_asked(installed: pytest.Pytester) -> None:
    if not find_spec("xdist"):
        pytest.skip("pytest-xdist is not installed")
    installed.makeini("[pytest]\nenvguard_device = cpu\nenvguard_host = none")
    installed.makepyfile("""
        import pytest

        @pytest.mark.parametrize("number", range(6))
        @pytest.mark.envguard("gguf")
        def test_it(number): pass
    """)
    result = installed.runpytest_subprocess("-p", "no:cacheprovider", "-n2")
    assert result.ret == 0
    lines = [line for line in result.outlines if line.endswith("[asked 6 times]")]
    assert len(lines) == 1, "\n".join(result.outlines)
    assert lines[0].startswith("gguf ")


def test_the_marker_and_the_fixtures_explain_themselves(run: Run) -> None:
    assert "@pytest.mark.envguard(spec, *, device=, host=, operation=, deep=): skip the test" in told(
        run("", "--markers")
    )
    fixtures = told(run("", "--fixtures"))
    assert "envguard_bnb" in fixtures
    assert "The guarded backend bnb" in fixtures
    assert "--envguard-required" in told(run("", "--help"))


def test_a_suite_without_marks_looks_at_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise AssertionError("the environment was looked at")

    monkeypatch.setattr(checks, "examine", broken)
    run("def test_it(): pass").assert_outcomes(passed=1)


def test_a_quiet_suite_without_marks_reads_no_rules(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise AssertionError("the rules were read")

    monkeypatch.setattr(shipped, "load", broken)
    run("def test_it(): pass", "-q").assert_outcomes(passed=1)


def test_broken_rules_are_an_error_of_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise BadRules("acme: driver.toml: not TOML")

    monkeypatch.setattr(shipped, "load", broken)
    result = run("def test_it(): pass")
    assert "envguard: acme: driver.toml: not TOML" in result.stderr.str() + told(result)
    assert result.ret != 0


def test_a_report_of_the_run_holds_the_reason(run: Run, pytester: pytest.Pytester) -> None:
    run(marked("'gguf'"), "--junitxml=it.xml")
    assert "gguf is not installed" in pytester.path.joinpath("it.xml").read_text()


def test_what_the_project_ignores_skips_nothing_and_is_told_at_the_top(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml('[tool.envguard]\nignore = ["torchao/system"]\n')
    text = "@pytest.mark.envguard('torchao')\ndef test_it(): pass\n"
    result = run(text, "-Wdefault", data=machine(environment_variables={"X": "on"}, host={"system": "Windows"}))
    result.assert_outcomes(passed=1, warnings=1)
    header = f"envguard: {__version__} (rules of {RULES.version}), ignored by pyproject.toml: torchao/system"
    result.stdout.fnmatch_lines([header])


def test_a_rule_to_ignore_that_nobody_knows_is_an_error_of_the_suite(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml('[tool.envguard]\nignore = ["torchao/sistem"]\n')
    result = run("def test_it(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no rule has the id 'torchao/sistem', did you mean torchao/system?*"])


PROJECT = '[tool.envguard]\ndevice = "cpu"\nhost = "none"\nrequired = ["gguf"]\n'


def test_the_project_settles_what_neither_option_nor_ini_does(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml(PROJECT)
    data = without(accelerators=[])
    run(marked("'torchao'"), data=data).assert_outcomes(passed=1)
    run(marked("'torchao'"), "--envguard-device=auto", data=data).assert_outcomes(skipped=1)
    run(marked("'torchao'"), data=data, ini="envguard_device = cuda").assert_outcomes(skipped=1)
    run(marked("'torchao'"), "--envguard-host=transformers", data=data).assert_outcomes(skipped=1)
    run(marked("'gguf'")).assert_outcomes(errors=1)
    run(marked("'gguf'"), "--envguard-required=torchao").assert_outcomes(skipped=1)
    run(marked("'gguf'"), ini="envguard_required = torchao").assert_outcomes(skipped=1)


def test_a_setting_that_does_not_exist_is_an_error_of_the_suite(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.envguard]\nreqiured = ['gguf']\n")
    result = run("def test_it(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pyproject.toml: tool.envguard.reqiured: unknown key*"])
