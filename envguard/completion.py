"""The completion script of a shell, made by shtab from the definition of the command line."""

from __future__ import annotations

from envguard.errors import BadInput
from envguard.trials import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from envguard.rulebook import RuleBook

_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
_PATHS = ("model", "output", "python", "snapshot", "requirements", "lock", "rules", "source", "against")
_DEVICES = ("auto", "cuda", "cuda:0", "rocm", "xpu", "mps", "cpu")


def script(parser: argparse.ArgumentParser, shell: str, book: RuleBook) -> str:
    """What a shell evaluates to complete commands, options, files, backends, schemes and rule ids.

    Raises BadInput where shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise BadInput(
            "--print-completion needs shtab, which is not installed: python -m pip install 'envguard-quant[completion]'"
        ) from None
    for action in _actions(parser):
        if action.dest in _PATHS:
            action.complete = _FILES  # type: ignore[attr-defined]
        elif action.choices is None:
            action.choices = _choices(action.dest, book)
    made: str = shtab.complete(parser, shell)
    return made


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The actions of a parser and of its commands."""
    for action in parser._actions:  # argparse has no other way to ask; shtab goes it too
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _actions(command)


def _choices(name: str, book: RuleBook) -> list[str] | None:
    if name == "backend":
        schemes = [f"{each.name}:{scheme}" for each in book.backends.values() for scheme in each.schemes]
        return [*book.backends, *schemes]
    if name in ("rule", "ignore"):
        return list(ids(book))
    return list(_DEVICES) if name == "device" else None
