"""The command line's door: reads arguments, calls the rooms, prints, and exits with the documented status.

It imports the other rooms only when it runs: `main` settles first what would slow that down.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import NoReturn, TextIO

    from envguard.arguments import CheckArguments
    from envguard.checks import Question
    from envguard.errors import BadInput
    from envguard.model import Report
    from envguard.output.findings import Anchor, Finding, Judged
    from envguard.probes.interpreter import Interpreter
    from envguard.recalled import Asked
    from envguard.rulebook import RuleBook
    from envguard.settings import Settings
    from envguard.subjects import Subject

FINE, BLOCKED, BAD_INPUT, UNDECIDED, FAULT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 70, 130, 141
STREAMED = ("text", "json", "jsonl")  # the formats in which each subject stands by itself
_SEVEREST = (FAULT, BAD_INPUT, BLOCKED, UNDECIDED, FINE)


def main() -> NoReturn:
    """Run the process's command line and end the process with its exit status."""
    import gc

    # A process of 20 milliseconds: collecting garbage and taking modules down would be a fifth of it.
    gc.disable()
    # The folder of the console scripts: on the path of this one, not of the programs that are asked about.
    if sys.path[:1] == [os.path.dirname(sys.executable)]:
        del sys.path[0]
    os._exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run one command line and return its exit status; nothing but an exit status comes out, whatever happens."""
    _replace_closed_streams()
    try:
        try:
            status = _run(words)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Exception as error:  # the last line of defence: no traceback reaches a user
            if _is_of_a_stream(error):
                raise
            status = _failed(error)
        sys.stdout.flush()  # what was judged before an error came is told too
        return status
    except KeyboardInterrupt:  # the second one, or nobody reads what is flushed
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        _complain(f"standard output: cannot be written: {error.strerror}")
        return BAD_INPUT


_UNWRITABLE = (5, 9, 27, 28, 122)  # EIO, EBADF, EFBIG, ENOSPC, EDQUOT


def _is_of_a_stream(error: Exception) -> bool:
    """Whether standard output could not be written, which is no fault of ours."""
    if isinstance(error, OSError):
        return isinstance(error, BrokenPipeError) or (error.filename is None and error.errno in _UNWRITABLE)
    return False


def _replace_closed_streams() -> None:
    """A stream that was closed (`>&-`) is None to Python, and what is printed to that goes to the other one."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends


def _bad(text: str) -> BadInput:
    from envguard.errors import BadInput

    return BadInput(text)


def _complain(text: str) -> None:
    from envguard.output.layout import error_line

    _tell(f"envguard: error: {error_line(text)}")


def _tell(text: str) -> None:
    """Write to standard error; where nothing can be written to it, the exit status has to say it alone."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def _failed(error: Exception) -> int:
    from envguard.errors import EnvguardError

    if not isinstance(error, EnvguardError):
        return _fault(error)
    _complain(str(error))
    return BAD_INPUT


def _fault(error: Exception) -> int:
    import traceback

    if os.environ.get("ENVGUARD_TRACEBACK"):
        _tell("".join(traceback.format_exception(error)).rstrip())
    from envguard.output.layout import visible

    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    _tell(
        f"envguard: a fault of envguard itself: {type(error).__name__}: {visible(str(error)[:200])} ({where})."
        " Please report it with the output of the same command under ENVGUARD_TRACEBACK=1 and of envguard --version."
    )
    return FAULT


def _run(words: list[str]) -> int:
    from envguard.arguments import check_arguments, parser, quick

    arguments = quick(words)
    if arguments is not None:
        return _check(arguments)

    definition = parser()
    try:
        parsed = definition.parse_args(words)
    except SystemExit as stop:  # argparse has printed its help or its one line
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    if parsed.version:
        return _version()
    if parsed.print_completion is not None:
        from envguard.completion import script
        from envguard.shipped import load

        print(script(definition, parsed.print_completion, load()))
        return FINE
    match parsed.command:
        case "check":
            return _check(check_arguments(parsed))
        case "snapshot":
            return _snapshot(parsed)
        case "explain":
            return _explain(parsed.rule, parsed.rules)
        case "rules":
            return _audit(parsed) if parsed.part == "audit" else _rules(parsed)
    definition.print_help(sys.stderr)
    return BAD_INPUT


def _version() -> int:
    from envguard._version import __version__
    from envguard.shipped import load

    print(f"envguard {__version__} (rules of {load().version})")
    return FINE


def _check(arguments: CheckArguments) -> int:
    from envguard.specs import validate

    if arguments.snapshot and arguments.python is not None:
        raise _bad("--python and --snapshot name two different things to look at: give one of them")
    if arguments.deep or arguments.timeout is not None:
        _refuse_deep(arguments)
    try:
        validate(arguments.host or "auto", arguments.device or "auto", arguments.operation)
    except ValueError as error:
        raise _bad(str(error)) from None
    project, book = _project(arguments.rules)
    asked = arguments if project is None else _with_settings(arguments, project)

    def rules() -> RuleBook:
        return _holding(arguments, book())

    if asked.output in (None, "-"):
        return _judge(asked, rules, sys.stdout)
    from envguard.placing import Placed

    with Placed(asked.output) as out:
        return _judge(asked, rules, out)


def _holding(arguments: CheckArguments, book: RuleBook) -> RuleBook:
    """The rules, once they are known to hold what the command line names. Raises what says that they do not."""
    from envguard.settings import known
    from envguard.specs import resolve_spec

    for spec in arguments.backend:
        resolve_spec(book, spec)
    known("--ignore", arguments.ignore, book)
    return book


def _judge(arguments: CheckArguments, rules: Callable[[], RuleBook], out: TextIO) -> int:
    if arguments.lock is not None or arguments.requirements or arguments.target:
        return _check_file(arguments, rules, out)
    if arguments.model is not None:
        return _check_model(arguments, rules(), out)
    if arguments.snapshot:
        return _check_snapshots(arguments, rules(), out)
    return _emit(_live(arguments, rules), arguments, rules, out)


def _check_file(arguments: CheckArguments, rules: Callable[[], RuleBook], out: TextIO) -> int:
    """Judge what a file installs on a target."""
    if arguments.lock is None and not arguments.requirements:
        raise _bad("--target says what a file cannot: give it with --lock or --requirements")
    for option, given in (("--python", arguments.python), ("--snapshot", arguments.snapshot)):
        if given:
            raise _bad(f"a file and {option} name two different things to look at: give one of them")
    if arguments.model is not None:
        raise _bad("--model takes an environment or a snapshot, not a file of packages")
    asked = _asked(arguments)

    def judge() -> Report:
        from envguard.filechecks import check_file

        return check_file(
            rules(),
            asked.specs,
            lock=arguments.lock,
            requirements=arguments.requirements,
            target=arguments.target,
            host=asked.host,
            device=asked.device,
            operation=asked.operation,
            ignore=asked.ignore,
        )

    if arguments.lock is None or arguments.requirements:
        return _emit(judge(), arguments, rules, out)
    from envguard.recalled import check_lock

    return _emit(check_lock(asked, arguments.lock, arguments.target, judge), arguments, rules, out)


def _asked(arguments: CheckArguments) -> Asked:
    from envguard.recalled import Asked

    return Asked(
        arguments.backend,
        arguments.host or "auto",
        arguments.device or "auto",
        arguments.operation,  # type: ignore[arg-type]
        arguments.ignore,
        arguments.rules,
    )


def _refuse_deep(arguments: CheckArguments) -> None:
    """Raises BadInput for a deep look at what cannot be run."""
    from envguard.deep.smoke import validate_timeout

    if not arguments.deep:
        raise _bad("--timeout is for the child processes of --deep: give that too")
    if arguments.snapshot:
        raise _bad("--deep runs what is installed, and a recorded environment cannot be run: leave --snapshot out")
    if arguments.model is not None:
        raise _bad("--deep tries a tiny model of its own: leave --model out")
    if arguments.lock is not None or arguments.requirements:
        raise _bad("--deep runs what is installed, and a file of packages cannot be run: leave the file out")
    if arguments.timeout is not None:
        try:
            validate_timeout(arguments.timeout)
        except ValueError as error:
            raise _bad(f"--{error}") from None


def _project(folders: Sequence[str]) -> tuple[Settings | None, Callable[[], RuleBook]]:
    """The settings of the project around the working folder; what loads the rules, with its folders and those given."""
    from envguard.settings import find

    books: dict[tuple[str, ...], RuleBook] = {}

    def book(rules: tuple[str, ...] = ()) -> RuleBook:
        from envguard.shipped import load

        if rules not in books:
            books[rules] = load((*rules, *folders))
        return books[rules]

    try:
        folder = os.getcwd()
    except OSError:  # it was removed; then no project is around it
        return None, book
    project = find(folder, book)
    return project, book if project is None else lambda: book(project.rules)


def _with_settings(arguments: CheckArguments, project: Settings) -> CheckArguments:
    """What was asked, and where the command line does not say, what the project says."""
    from envguard.frozen import replace

    return replace(
        arguments,
        backend=arguments.backend or (project.backends if arguments.model is None else ()),
        host=arguments.host or project.host,
        device=arguments.device or project.device,
        ignore=(*arguments.ignore, *project.ignore),
        rules=(*project.rules, *arguments.rules),
    )


def _check_model(arguments: CheckArguments, book: RuleBook, out: TextIO) -> int:
    """Judge a model, here or in one recorded environment."""
    from envguard.models import check_model_in
    from envguard.probes.interpreter import ask, current
    from envguard.subjects import subjects

    if len(arguments.backend) > 1:
        raise _bad("--model takes one --backend, to which every component in full precision is quantized")
    if arguments.operation != "quantize":
        raise _bad("--model says itself what has to be done: leave --for out")
    environment, other, name = None, arguments.python, None
    if arguments.snapshot:
        found = list(subjects(arguments.snapshot))
        if len(found) != 1 or found[0].environment is None:
            error = found[0].error if len(found) == 1 else f"expected one snapshot, found {len(found)}"
            raise _bad(f"{', '.join(arguments.snapshot)}: {error}")
        environment, name = found[0].environment, found[0].name
    report = check_model_in(
        book,
        arguments.model or "",
        arguments.backend[0] if arguments.backend else None,
        environment,
        current if other is None else lambda: ask(other),
        host=arguments.host or "auto",
        device=arguments.device or "auto",
        ignore=arguments.ignore,
        subject=name,
    )
    if arguments.format == "text":
        from envguard.output.model_text import print_report

        print_report(report, out, os.environ)
    elif arguments.format in STREAMED:
        out.write(report.to_json() + "\n")
    else:
        from envguard.output.model_judged import as_judged

        out.write(_whole([as_judged(report)], arguments, book, asked=report.decides))
    verdict = report.verdict if report.decides else report.report.verdict  # a survey decides with --strict alone
    return _status(verdict, report.decides, arguments)


def _live(arguments: CheckArguments, rules: Callable[[], RuleBook]) -> Report:
    from envguard.probes.interpreter import ask, current
    from envguard.recalled import check

    interpreter = current() if arguments.python is None else ask(arguments.python)
    report = check(_asked(arguments), interpreter, rules)
    return _deepened(report, interpreter, arguments) if arguments.deep else report


def _deepened(report: Report, interpreter: Interpreter, arguments: CheckArguments) -> Report:
    from envguard.deep.smoke import deepened
    from envguard.frozen import replace
    from envguard.trials import SECONDS

    report = replace(report, undecided="allow" if arguments.allow_undecided else "block")
    return deepened(report, interpreter, arguments.ignore, arguments.timeout or SECONDS)


def _check_snapshots(arguments: CheckArguments, book: RuleBook, out: TextIO) -> int:
    """Judge recorded environments, one at a time: a stream of any length takes no more memory than its longest line."""
    from envguard.checks import Question
    from envguard.subjects import subjects

    found = subjects(arguments.snapshot)
    question = Question(
        book,
        arguments.backend,
        host=arguments.host or "auto",
        device=arguments.device or "auto",
        operation=arguments.operation,  # type: ignore[arg-type]
        ignore=arguments.ignore,
    )
    if arguments.format not in STREAMED:
        return _check_together(found, arguments, book, out, question)
    status = None
    between = ""
    for subject in _single(found) if arguments.format == "json" else found:
        if subject.environment is None:
            new = _refuse(subject.name, subject.line, subject.error or "", arguments, out)
        else:
            report = question.put_to(subject.environment, subject.name)
            out.write(between)
            new = _emit(report, arguments, lambda: book, out)
            between = "\n" if arguments.format == "text" else ""
        status = new if status in (None, new) else severest(status, new)
    if status is None:
        raise _nothing(arguments)
    return status


def _nothing(arguments: CheckArguments) -> BadInput:
    return _bad(f"{', '.join(arguments.snapshot)}: no snapshot in it")


def _check_together(
    found: Iterable[Subject], arguments: CheckArguments, book: RuleBook, out: TextIO, question: Question
) -> int:
    """Judge recorded environments for a format that is one document, or that sums all of them up first."""
    from envguard.output.findings import Judged

    judged: list[Judged] = []
    statuses: list[int] = []
    for subject in found:
        if subject.environment is None:
            error = subject.error or ""
            statuses.append(_refuse(subject.name, subject.line, error, arguments, out))
            judged.append(Judged(subject.name, None, error, subject.line))
        else:
            report = question.put_to(subject.environment, subject.name)
            statuses.append(exit_status(report, arguments))
            judged.append(Judged(subject.name, report, line=subject.line))
    if not judged:
        raise _nothing(arguments)
    out.write(_whole(judged, arguments, book, asked=bool(arguments.backend)))
    return severest(*statuses)


def _whole(judged: Sequence[Judged], arguments: CheckArguments, book: RuleBook, asked: bool) -> str:
    """All subjects in one of the formats of other tools."""
    from envguard.output.findings import Deciding

    deciding = Deciding(asked, arguments.strict, arguments.allow_undecided)
    match arguments.format:
        case "github":
            from envguard.output.github import render as github

            text = github(judged, deciding, _anchor(arguments, book))
        case "junit":
            from envguard.output.junit import render as junit

            text = junit(judged, deciding)
        case "sarif":
            from envguard.output.sarif import render as sarif

            text = sarif(judged, deciding, _anchor(arguments, book), book.version)
        case _:
            from envguard.output.markdown import render as markdown

            text = markdown(judged, deciding, book.version)
    return text + "\n"


def _anchor(arguments: CheckArguments, book: RuleBook) -> Callable[[Finding], Anchor | None]:
    """Where the files of the working folder name the packages of a finding, as the repository calls those files."""
    from envguard.anchors import find_anchors
    from envguard.output.findings import names_of

    judged = [*arguments.requirements, *([] if arguments.lock is None else [arguments.lock])]
    anchor = find_anchors(os.curdir, os.environ.get("GITHUB_WORKSPACE"), judged)
    distributions = {name: backend.distribution for name, backend in book.backends.items()}
    return lambda finding: anchor(names_of(finding, distributions))


def _single(found: Iterator[Subject]) -> list[Subject]:
    """The subject of --format json. Raises BadInput where there are several."""
    first, second = next(found, None), next(found, None)
    if second is not None:
        raise _bad("--format json takes one subject: use --format jsonl for several")
    return [] if first is None else [first]


def _refuse(name: str, line: int | None, error: str, arguments: CheckArguments, out: TextIO) -> int:
    """Say that a subject cannot be judged, in its place; the others are judged all the same."""
    if arguments.format == "jsonl":
        from envguard.output.json import error_record

        out.write(error_record(line or 1, error) + "\n")
    _complain(f"{name}{f' line {line}' if line is not None else ''}: {error}")
    return BAD_INPUT


def _emit(report: Report, arguments: CheckArguments, rules: Callable[[], RuleBook], out: TextIO) -> int:
    """Write one report in the format asked for and return its exit status."""
    if arguments.format == "text":
        from envguard.output.text import print_report

        print_report(report, out, os.environ, survey=not arguments.backend)
    elif arguments.format in STREAMED:
        from envguard.output.json import render, report_line

        out.write((render if arguments.format == "json" else report_line)(report) + "\n")
    else:
        from envguard.output.findings import Judged

        out.write(_whole([Judged(report.subject, report)], arguments, rules(), asked=bool(arguments.backend)))
    return exit_status(report, arguments)


def exit_status(report: Report, arguments: CheckArguments) -> int:
    """What a verdict means for a script (CONTRACT of the command line: see the README's table)."""
    return _status(report.verdict, bool(arguments.backend), arguments)


def _status(verdict: str, asked: bool, arguments: CheckArguments) -> int:
    if not asked and not arguments.strict:
        return FINE
    match verdict:
        case "blocked":
            return BLOCKED
        case "undecided":
            return FINE if arguments.allow_undecided else UNDECIDED
        case "degraded":
            return BLOCKED if arguments.strict else FINE
    return FINE


def severest(*statuses: int) -> int:
    """The exit status of several subjects: 70 > 2 > 1 > 3 > 0."""
    return min(statuses, key=_SEVEREST.index)


def _snapshot(parsed: argparse.Namespace) -> int:
    from envguard.guard import snapshot_of
    from envguard.placing import write_whole
    from envguard.probes.interpreter import ask, current

    text = snapshot_of(current() if parsed.python is None else ask(parsed.python)).to_json()
    if parsed.output in (None, "-"):
        print(text)
    else:
        write_whole(text, parsed.output)
    return FINE


def _explain(rule_id: str, folders: list[str]) -> int:
    from envguard import trials
    from envguard.output.explain import explain
    from envguard.specs import near

    book = _project(folders)[1]()
    rows = trials.rows(book, rule_id)
    if not rows:
        raise _bad(f"no rule has the id {rule_id!r}{near(rule_id, trials.ids(book))} (envguard rules lists them)")
    print(explain(rows, releases=book.releases, encoding=sys.stdout.encoding))
    return FINE


def _rules(parsed: argparse.Namespace) -> int:
    from envguard import trials
    from envguard.output.explain import rules_table
    from envguard.specs import resolve_spec

    book = _project(parsed.rules)[1]()
    backend = None if parsed.backend is None else resolve_spec(book, parsed.backend)[0]
    print(rules_table(trials.rows(book, backend=backend), parsed.format, encoding=sys.stdout.encoding))
    return FINE


def _audit(parsed: argparse.Namespace) -> int:
    from envguard.audit import audit
    from envguard.audit.report import as_json, as_text
    from envguard.audit.source import given, installed
    from envguard.probes.interpreter import ask, current
    from envguard.shipped import load

    if parsed.source is not None and parsed.python is not None:
        raise _bad("--python and a source name two different things to look at: give one of them")
    if parsed.source is not None:
        release = given(parsed.host, parsed.source)
    else:
        release = installed(parsed.host, current() if parsed.python is None else ask(parsed.python))
    found = audit(release, load(), None if parsed.against is None else given(parsed.host, parsed.against))
    print(as_json(found) if parsed.format == "json" else as_text(found, encoding=sys.stdout.encoding))
    return BLOCKED if found.open else FINE
