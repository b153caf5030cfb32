"""The command line: what may be typed, and what it means.

`parser()` is the one definition of the command line. `quick()` reads the commonest form of it without argparse, whose
import alone costs most of a bare interpreter start; whatever it does not know for certain it leaves to the parser,
and a property test holds the two equal.
"""

from __future__ import annotations

from envguard.frozen import Frozen
from envguard.model import HOSTS, OPERATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any, NoReturn

FORMATS = ("text", "json", "jsonl", "github", "junit", "sarif", "markdown")
SHELLS = ("bash", "zsh", "tcsh")


class CheckArguments(Frozen):
    """What `envguard check` was asked; a host or device of None was not named."""

    backend: tuple[str, ...] = ()
    host: str | None = None
    device: str | None = None
    operation: str = "quantize"
    model: str | None = None
    python: str | None = None
    snapshot: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    lock: str | None = None
    target: tuple[str, ...] = ()
    format: str = "text"
    output: str | None = None
    ignore: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    strict: bool = False
    allow_undecided: bool = False
    deep: bool = False
    timeout: float | None = None


_VALUES = {
    "--backend": "backend",
    "--host": "host",
    "--device": "device",
    "--for": "operation",
    "--model": "model",
    "--python": "python",
    "--snapshot": "snapshot",
    "--requirements": "requirements",
    "--lock": "lock",
    "--target": "target",
    "--format": "format",
    "--output": "output",
    "-o": "output",
    "--ignore": "ignore",
    "--rules": "rules",
}
_OF_THE_ROOT = ("command", "version", "print_completion")
_FLAGS = {"--strict": "strict", "--allow-undecided": "allow_undecided", "--deep": "deep"}
_REPEATED = ("backend", "snapshot", "requirements", "target", "ignore", "rules")
_CHOICES = {"host": HOSTS, "operation": OPERATIONS, "format": FORMATS}


def quick(words: Sequence[str]) -> CheckArguments | None:
    """The arguments of a `check` typed with whole option names and values, None for anything else."""
    if not words or words[0] != "check":
        return None
    given: dict[str, object] = {}
    rest = iter(words[1:])
    for word in rest:
        if word in _FLAGS:
            given[_FLAGS[word]] = True
            continue
        name = _VALUES.get(word)
        value = next(rest, None)
        if name is None or value is None or value.startswith("-") or value not in _CHOICES.get(name, (value,)):
            return None
        given[name] = (*given.get(name, ()), value) if name in _REPEATED else value  # type: ignore[misc]
    return CheckArguments(**given)  # type: ignore[arg-type]


def check_arguments(parsed: argparse.Namespace) -> CheckArguments:
    """The arguments of a `check` that the parser has read."""
    given: dict[str, Any] = {name: value for name, value in vars(parsed).items() if name not in _OF_THE_ROOT}
    return CheckArguments(**{**given, **{name: tuple(given[name]) for name in _REPEATED}})


def parser() -> argparse.ArgumentParser:
    """The definition of the command line: help, errors and completion come from it."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            from envguard.output.layout import error_line

            self.exit(2, f"envguard: error: {error_line(message)} (see {self.prog} --help)\n")

    root = Parser(
        prog="envguard",
        description="Will this quantization backend work in this environment, why not, and what exactly fixes it?",
        allow_abbrev=False,
    )
    root.add_argument("--version", action="store_true", help="print the version of envguard and the date of its rules")
    root.add_argument("--print-completion", choices=SHELLS, help="print a completion script for a shell (needs shtab)")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_check(commands.add_parser("check", help="say whether backends work here", allow_abbrev=False))
    snapshot = commands.add_parser("snapshot", help="record this environment as JSON", allow_abbrev=False)
    snapshot.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of standard output (-)")
    snapshot.add_argument("--python", metavar="EXE", help="another interpreter or virtual environment")
    explain = commands.add_parser("explain", help="say what a rule needs, why, and how to mend it", allow_abbrev=False)
    explain.add_argument("rule", metavar="RULE-ID", help="such as bitsandbytes/version")
    _add_rules(explain)
    rules = commands.add_parser("rules", help="list the rules", allow_abbrev=False)
    rules.add_argument("--backend", metavar="B", help="the rules of one backend")
    rules.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    _add_rules(rules)
    parts = rules.add_subparsers(dest="part", metavar="audit", parser_class=Parser)
    _add_audit(
        parts.add_parser("audit", help="compare the rules with the source of a host release", allow_abbrev=False)
    )
    return root


def _add_rules(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--rules", metavar="FOLDER", action="append", default=[], help="a folder of further rules; repeats"
    )


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.description = (
        "Reads the tests that a release of diffusers or transformers makes of the environment, without importing it,"
        " and says which of them no rule covers. Exit status: 0 all are covered, 1 some are not, 2 bad usage or input."
    )
    audit.add_argument(
        "source", nargs="?", metavar="SOURCE", help="a wheel or a source folder (default: what is installed)"
    )
    audit.add_argument(
        "--host", choices=("diffusers", "transformers"), default="diffusers", help="(default: diffusers)"
    )
    audit.add_argument("--python", metavar="EXE", help="look for it in another interpreter or virtual environment")
    audit.add_argument("--against", metavar="SOURCE", help="another release: tell what changed since it too")
    audit.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")


def _add_check(check: argparse.ArgumentParser) -> None:
    check.description = (
        "Without --backend, all backends are surveyed. Exit status: 0 fine, 1 blocked, 2 bad usage or input,"
        " 3 undecided, 70 a fault of envguard. A survey exits 0 unless --strict."
    )
    check.add_argument(
        "--backend",
        metavar="SPEC",
        action="append",
        default=[],
        help="a backend, or backend:scheme as bnb:nf4; repeats",
    )
    check.add_argument("--host", choices=HOSTS, help="the library it runs in (default: auto)")
    check.add_argument("--device", metavar="D", help="auto, cuda, cuda:N, rocm, xpu, mps, cpu (default: auto)")
    check.add_argument(
        "--for", dest="operation", choices=OPERATIONS, default="quantize", help="what to do (default: quantize)"
    )
    check.add_argument(
        "--model",
        metavar="PATH",
        help="a model: its folder, .safetensors or .gguf file, or the hub id of one in the local cache",
    )
    where = check.add_argument_group("what to look at (default: this interpreter)")
    where.add_argument("--python", metavar="EXE", help="another interpreter or virtual environment")
    where.add_argument(
        "--snapshot",
        metavar="FILE",
        action="append",
        default=[],
        help="a recorded environment, - for standard input; repeats",
    )
    where.add_argument(
        "--lock", metavar="FILE", help="what gets installed: a uv.lock, a pylock.toml, or the output of pip freeze"
    )
    where.add_argument(
        "--requirements",
        metavar="FILE",
        action="append",
        default=[],
        help="what pip is asked to install: a requirements.txt; repeats",
    )
    where.add_argument(
        "--target",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="the machine that a file is judged for: python, system, machine, gpu, memory, driver, cuda, torch; and of"
        " a lock, extra and group; repeats, or several by commas",
    )
    check.add_argument("--format", choices=FORMATS, default="text", help="(default: text)")
    check.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of standard output (-)")
    check.add_argument(
        "--ignore", metavar="RULE-ID", action="append", default=[], help="a rule that does not decide; repeats"
    )
    _add_rules(check)
    check.add_argument("--strict", action="store_true", help="exit 1 for a degraded backend, and in a survey too")
    check.add_argument("--allow-undecided", action="store_true", help="exit 0 where a fact could not be observed")
    check.add_argument(
        "--deep",
        action="store_true",
        help="then try what passes: a child process quantizes, runs and saves a tiny model",
    )
    check.add_argument("--timeout", metavar="S", type=float, help="seconds that --deep gives a child (default: 120)")
