"""pytest's door: a marker and fixtures that skip where a backend cannot run, a list of backends for which nothing
skips, and at the end what the tests asked for.

Loaded in every pytest run of an environment that has envguard, so it imports little before a test asks for a backend:
for the header the rules, whose date it tells.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn, TypeAlias

    from envguard.errors import RequirementsNotMet
    from envguard.guarded import Guarded
    from envguard.model import Report
    from envguard.rulebook import RuleBook
    from envguard.settings import Settings

    Key: TypeAlias = tuple[str, str, str, str, bool]
    Seen: TypeAlias = dict[Key, Guarded | RequirementsNotMet]

_OPTIONS = {
    "device": "device that the rules are checked for where a marker names none (auto, cuda, cpu, ...)",
    "host": "host that the rules are checked for where a marker names none (auto, diffusers, transformers, none)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and their ini forms."""
    group = parser.getgroup("envguard", "quantization backends")
    required = "backends for which a test fails instead of skipping, so that a job cannot go green by skipping"
    group.addoption("--envguard-required", metavar="B,B", help=required)
    parser.addini("envguard_required", required, type="args", default=[])
    for name, text in _OPTIONS.items():
        group.addoption(f"--envguard-{name}", metavar=name.upper(), help=text)
        parser.addini(f"envguard_{name}", text, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse settings that can never hold before anything is collected or distributed."""
    config.addinivalue_line(
        "markers",
        "envguard(spec, *, device=, host=, operation=, deep=): skip the test where the rules of a quantization backend"
        " do not pass (spec: a backend, or backend:scheme); deep=True: and fail it where a tiny model does not work",
    )
    config.stash[_settings] = _project(config)
    _required(config)
    if (_default(config, "host"), _default(config, "device")) != ("auto", "auto"):
        _check_defaults(config)


def pytest_report_header(config: pytest.Config) -> str:
    """Which envguard judges the run, by which rules, and what it ignores."""
    from envguard._version import __version__
    from envguard.errors import BadInput
    from envguard.shipped import load

    try:
        rules = load().version
    except BadInput as error:
        raise pytest.UsageError(f"envguard: {error}") from None
    ignored = _ignored(config)
    told = f", ignored by pyproject.toml: {', '.join(ignored)}" if ignored else ""
    return f"envguard: {__version__} (rules of {rules}){told}"


_settings: pytest.StashKey[Settings | None] = pytest.StashKey()


def _project(config: pytest.Config) -> Settings | None:
    """`[tool.envguard]` of the project. Raises UsageError."""
    from envguard.errors import BadInput
    from envguard.settings import find

    def book(folders: tuple[str, ...]) -> RuleBook:
        from envguard.shipped import load, use

        return use(folders) if folders else load()

    try:
        settings = find(str(config.rootpath), book)
        if settings is not None and settings.rules:
            book(settings.rules)
        return settings
    except BadInput as error:
        raise pytest.UsageError(f"envguard: {error}") from None


def _ignored(config: pytest.Config) -> tuple[str, ...]:
    """The rules that the project ignores."""
    settings = config.stash[_settings]
    return () if settings is None else settings.ignore


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A mark that can never hold is an error of the suite, not a skip."""
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist can fail tests only, and so it does
        return
    from envguard.errors import EnvguardError

    for item in items:
        try:
            _requests(item)
        except (EnvguardError, TypeError, ValueError) as error:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.envguard: {error}") from None


def _check_defaults(config: pytest.Config) -> None:
    from envguard.specs import validate

    try:
        validate(_default(config, "host"), _default(config, "device"), "quantize")
    except ValueError as error:
        raise pytest.UsageError(f"envguard_host, envguard_device: {error}") from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail before any fixture of the test runs, but not where pytest's own marks have skipped it.

    Of several marks all must hold, and none that skips hides one that fails.
    """
    from envguard.errors import EnvguardError, RequirementsNotMet

    try:
        requests = _requests(item)
    except (EnvguardError, TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.envguard: {error}", pytrace=False)
    found = [_look(item.config, key) for key in requests]
    reports = [each.report for each in found if isinstance(each, RequirementsNotMet)]
    if reports:
        _stop(item.config, reports)


def _requests(item: pytest.Item) -> list[Key]:
    """What all marks of a test ask for, the closest first."""
    return [_read(mark, item.config) for mark in item.iter_markers("envguard")]


def _read(mark: pytest.Mark, config: pytest.Config) -> Key:
    """What a marker asks for, with the session's defaults. Raises ValueError or TypeError where it cannot be."""
    from envguard.shipped import load
    from envguard.specs import resolve_spec, validate

    options = {"host": _default(config, "host"), "device": _default(config, "device"), "operation": "quantize"}
    given = dict(mark.kwargs)
    deep = given.pop("deep", False)
    texts = all(isinstance(each, str) for each in (*mark.args, *given.values()))
    if len(mark.args) != 1 or set(given) - set(options) or not texts or not isinstance(deep, bool):
        raise TypeError(
            "expected one spec and the keywords device, host and operation, as in envguard('bnb:nf4'), and deep=True or"
            " False"
        )
    options.update(given)
    backend, scheme = resolve_spec(load(), mark.args[0])  # bnb and bitsandbytes are one request
    validate(options["host"], options["device"], options["operation"])
    spec = backend if scheme is None else f"{backend}:{scheme}"
    return spec, options["host"], options["device"], options["operation"], deep


def _default(config: pytest.Config, name: str) -> str:
    """An option, from the nearest of its places: the command line, the ini file, the project's settings."""
    told = config.getoption(f"envguard_{name}") or config.getini(f"envguard_{name}")
    settings = config.stash[_settings]
    return str(told or (settings is not None and getattr(settings, name)) or "auto")


def _required(config: pytest.Config) -> set[str]:
    """The backends for which nothing skips. Raises UsageError for an unknown one."""
    given = config.getoption("envguard_required")
    settings = config.stash[_settings]
    texts = [given] if given is not None else config.getini("envguard_required")
    if not texts and settings is not None and given is None:
        texts = settings.required
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not names:
        return set()
    from envguard.errors import UnknownBackend
    from envguard.shipped import load
    from envguard.specs import resolve_spec

    try:
        return {resolve_spec(load(), name.partition(":")[0])[0] for name in names}
    except UnknownBackend as error:
        raise pytest.UsageError(f"envguard_required: {error}") from None


_seen: pytest.StashKey[Seen] = pytest.StashKey()
_asked: pytest.StashKey[dict[Key, list[Any]]] = pytest.StashKey()  # request -> what it came to, and how often


def _look(config: pytest.Config, key: Key) -> Guarded | RequirementsNotMet:
    """What a request comes to; each is looked at once a session."""
    from envguard.errors import RequirementsNotMet
    from envguard.guard import guarded_by

    seen = config.stash.setdefault(_seen, {})
    asked = config.stash.setdefault(_asked, {})
    if key not in seen:
        spec, host, device, operation, deep = key
        ignore = _ignored(config)
        try:
            if deep:
                seen[key] = _tried(_look(config, (*key[:4], False)), ignore)
            else:
                seen[key] = guarded_by(spec, host, device, operation, ignore=ignore)  # type: ignore[arg-type]
        except RequirementsNotMet as error:
            seen[key] = error
        asked[key] = [_line(key, seen[key].report), 0]
    asked[key][1] += 1
    return seen[key]


def _line(key: Key, report: Report) -> str:
    """What a request came to, in one line."""
    from envguard.output.text import one_line

    _, host, device, operation, deep = key
    backend = report.backends[0]
    said = [f"device {device}"] if device != "auto" else []
    said += [f"host {backend.request.host}"] if host != "auto" else []
    said += [operation] if operation != "quantize" else []
    said += ["deep"] if deep else []
    return one_line(backend) + (f" ({', '.join(said)})" if said else "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The verdict of each request that tests made, and how often."""
    asked = config.stash.get(_asked, {})
    if not asked or terminalreporter.verbosity < 0:
        return
    terminalreporter.write_sep("=", "envguard")
    for line, times in sorted(asked.values()):
        terminalreporter.write_line(f"{line} [asked {times} time{'' if times == 1 else 's'}]")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands what its tests asked for to the run that shows the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["envguard"] = [[list(key), *told] for key, told in session.config.stash.get(_asked, {}).items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker's tests asked for, added to that of the others."""
    asked = node.config.stash.setdefault(_asked, {})
    for key, line, times in getattr(node, "workeroutput", {}).get("envguard", ()):
        asked.setdefault(tuple(key), [line, 0])[1] += times


def _tried(found: Guarded | RequirementsNotMet, ignore: tuple[str, ...]) -> Guarded | RequirementsNotMet:
    """A guarded backend that a child process has tried on a tiny model. Raises RequirementsNotMet, BadInput."""
    from envguard.deep.smoke import deepened
    from envguard.errors import RequirementsNotMet
    from envguard.probes.interpreter import current
    from envguard.trials import SECONDS

    if not isinstance(found, RequirementsNotMet):
        report = deepened(found.report, current(), ignore, SECONDS)
        if not report.ok:
            raise RequirementsNotMet(str(report), report)
    return found


def _guarded(config: pytest.Config, key: Key) -> Guarded:
    """The guarded backend; skips or fails the test where there is none."""
    from envguard.errors import RequirementsNotMet

    found = _look(config, key)
    if isinstance(found, RequirementsNotMet):
        _stop(config, [found.report])
    return found


def _stop(config: pytest.Config, reports: Sequence[Report]) -> NoReturn:
    """Fail for the first of some reports that may not skip, else skip for the first."""
    from envguard.output.text import one_line

    for backend in [report.backends[0] for report in reports]:
        broken = any(o.kind == "broken" and o.status == "unmet" and o.severity == "error" for o in backend.outcomes)
        if broken or backend.request.backend in _required(config):
            why = "" if broken else " (required here: envguard_required)"
            pytest.fail(f"envguard: {one_line(backend)}{why}", pytrace=False)
    # the place told is that of the test, as for pytest's own marks
    raise pytest.skip.Exception(f"envguard: {one_line(reports[0].backends[0])}", _use_item_location=True)


@pytest.fixture
def require_backend(request: pytest.FixtureRequest) -> Callable[..., Guarded]:
    """Call it with a spec (and device, host, operation, deep): the guarded backend, or the test skips or fails."""

    def require(spec: str, **options: str | bool) -> Guarded:
        return _guarded(request.config, _read(pytest.mark.envguard(spec, **options).mark, request.config))

    return require


def _fixture(backend: str) -> Any:
    def guarded(request: pytest.FixtureRequest) -> Guarded:
        from envguard.shipped import load
        from envguard.specs import resolve_spec

        name, _ = resolve_spec(load(), backend)
        marks = _requests(request.node)
        asked = next((mark for mark in marks if mark[0].partition(":")[0] == name), None)
        elsewhere = marks[0] if marks else _read(pytest.mark.envguard(backend).mark, request.config)
        return _guarded(request.config, asked or (name, *elsewhere[1:4], False))

    guarded.__doc__ = f"The guarded backend {backend}, for the device of the test's marker."
    return pytest.fixture(name=f"envguard_{backend}")(guarded)


envguard_bnb = _fixture("bnb")
envguard_torchao = _fixture("torchao")
envguard_quanto = _fixture("quanto")
envguard_gguf = _fixture("gguf")
envguard_modelopt = _fixture("modelopt")
