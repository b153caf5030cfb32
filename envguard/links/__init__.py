"""Which imports of installed packages fail, told from their files alone: nothing is imported or run.

`check_links` goes through the statements that run when some modules are imported and looks up every name that these need
from other modules. It follows the packages it is told to follow; of all others it only looks up names. It needs no table
of versions: what is there decides.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Finding(Frozen):
    """A name that an import needs and that is not there.

    `module` and `line` tell the statement, `name` what it asks of `needed_from`, `error` what Python says. `effect` is
    import-fails, or feature-lost where the package catches the failure and goes on without.
    """

    module: str
    name: str
    needed_from: str
    line: int
    effect: str
    error: str
    file: str
    entry: str
    certain: bool = True

    def to_data(self) -> dict[str, Any]:
        """As a snapshot writes it."""
        return {name: getattr(self, name) for name in self.__match_args__}


class Links(Frozen):
    """What an import check found: the findings, and every file that was read or folder that was listed for it."""

    findings: tuple[Finding, ...]
    visited: tuple[str, ...]
    calls: tuple[tuple[str, tuple[Any, ...], bool], ...] = ()

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Those that make an import fail."""
        return tuple(each for each in self.findings if each.effect == "import-fails")


def check_links(
    roots: Iterable[str],
    entries: Iterable[str],
    *,
    follow: Iterable[str] | None = None,
    python: tuple[int, int, int] | None = None,
    platform: str | None = None,
    environ: Mapping[str, str] | None = None,
    complete: bool = True,
    watched: Iterable[str] = (),
) -> Links:
    """What fails when the modules `entries` are imported one after the other, with only what is below `roots` installed.

    `roots` are folders (site-packages) and wheels. `follow`: packages that are gone through, by default those of the
    entries. `complete`: what is not below the roots is not installed; else it is taken to be there and whole.
    """
    import sys

    from envguard.links.interpreter import Interpreter
    from envguard.links.library import Surroundings
    from envguard.links.sources import Sources
    from envguard.links.values import Module, Raised, Scope

    entries = tuple(entries)
    version = sys.version_info
    around = Surroundings(
        python or (version.major, version.minor, version.micro), platform or sys.platform, dict(environ or {})
    )
    sources = Sources(roots)
    heads = [each.partition(".")[0] for each in entries]
    interpreter = Interpreter(sources, follow if follow is not None else heads, around, complete=complete)
    interpreter.watched = frozenset(watched)
    findings: dict[tuple[str, int, str], Finding] = {}
    for entry in entries:
        module = interpreter.module(entry.partition(".")[0])
        if module is None:
            continue
        outside = Scope("module", Module("__main__", module.place, followed=True), {})
        try:
            interpreter.load(entry, outside, 0)
        except Raised as raised:
            if raised.module.name == "__main__":  # the release has no such module: nothing of it can fail
                continue
            finding = _finding(raised, entry, sources.find(raised.module.name), "import-fails")
            findings[finding.module, finding.line, finding.name] = finding
        except RecursionError:
            continue
    for loss in interpreter.losses:
        raised = loss.raised
        absent = raised.kind == "ModuleNotFoundError" and sources.find(raised.needed_from) is None
        if absent or raised.needed_from == raised.module.name:
            continue  # something optional is not installed: that is what the handler is for
        finding = _finding(raised, "", sources.find(raised.module.name), "feature-lost")
        findings.setdefault((finding.module, finding.line, finding.name), finding)
    return Links(tuple(findings.values()), tuple(sources.visited), tuple(_calls(interpreter.calls)))


def _finding(raised: Any, entry: str, place: Any, effect: str) -> Finding:
    file = place.file if place is not None else raised.module.name
    return Finding(
        raised.module.name, raised.name, raised.needed_from, raised.line, effect, raised.error, file, entry
    )


def _calls(calls: Iterable[tuple[str, list[Any], bool]]) -> Iterable[tuple[str, tuple[Any, ...], bool]]:
    for path, arguments, certain in calls:
        yield path, tuple(each for each in arguments if isinstance(each, (str, int, float))), certain
