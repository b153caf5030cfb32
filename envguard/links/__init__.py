"""Which imports of installed packages fail, told from their files alone: nothing is imported or run.

`check_links` goes through the statements that run when some modules are imported and looks up every name that these
need from other modules. It follows the packages it is told to follow; of all others it only looks up names. It needs no
table of versions: what is there decides.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from envguard.links.interpreter import Interpreter
    from envguard.links.sources import Sources


_DEEPEST = 8_000  # frames: a chain of a hundred imports takes a thousand


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


class Call(Frozen):
    """A call that was watched for: the last part of its name, where it stands, and the constants it is given."""

    name: str
    module: str
    arguments: tuple[Any, ...]
    certain: bool


class Links(Frozen):
    """What an import check found: the findings, and every file that was read or folder that was listed for it.

    `looked` are the modules that are there, of those that were to be imported.
    """

    findings: tuple[Finding, ...]
    visited: Mapping[str, tuple[int, int, int]]
    calls: tuple[Call, ...] = ()
    looked: tuple[str, ...] = ()

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
    also: Mapping[str, str] | None = None,
    doubtful: Iterable[str] = (),
    watched: Iterable[str] = (),
    ahead: Iterable[str] = (),
) -> Links:
    """What fails when the modules `entries` are imported one after the other, with only what lies below `roots`.

    `roots` are folders (site-packages) and wheels, `also` further packages by import name. `follow`: packages that are
    gone through, by default those of the entries. `complete`: what is not found is not installed, but for the import
    names in `doubtful`; else it is taken to be there and whole. `watched`: functions (the last part of their names)
    whose calls are noted. `ahead`: the roots that come before the standard library, whose modules hide its own.
    """
    import gc
    import sys

    from envguard.links.interpreter import Interpreter
    from envguard.links.library import Surroundings
    from envguard.links.sources import Sources

    entries = tuple(entries)
    version = sys.version_info
    around = Surroundings(
        python or (version.major, version.minor, version.micro), platform or sys.platform, dict(environ or {})
    )
    sources = Sources(roots, also, doubtful, ahead)
    heads = [each.partition(".")[0] for each in entries]
    interpreter = Interpreter(sources, follow if follow is not None else heads, around, complete=complete)
    interpreter.watched = frozenset(watched)
    limit, collects = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    gc.disable()  # half of the time would go into looking at the trees again and again
    try:
        findings = _import_all(interpreter, entries, sources)
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()
    calls = [
        Call(name, module, tuple(each for each in arguments if isinstance(each, str)), certain)
        for name, module, arguments, certain in interpreter.calls
    ]
    looked = tuple(entry for entry in entries if interpreter.module(entry) is not None)
    return Links(tuple(findings), sources.visited, tuple(calls), looked)


def _import_all(interpreter: Interpreter, entries: Iterable[str], sources: Sources) -> Iterable[Finding]:
    from envguard.links.values import Module, Raised, Scope

    findings: dict[tuple[str, str, int, str], Finding] = {}
    for entry in entries:
        head = entry.partition(".")[0]
        module = interpreter.module(head)
        if module is None:
            continue
        outside = Scope("module", Module("__main__", module.place, followed=True), {})
        try:
            interpreter.load(entry, outside, 0)
        except Raised as failure:
            if failure.module.name == "__main__":  # the release has no such module: nothing of it can fail
                continue
            finding = _finding(failure, entry, sources, "import-fails")
            findings.setdefault((head, finding.module, finding.line, finding.name), finding)
        except RecursionError:
            continue
    for loss in interpreter.losses:
        raised = loss.raised
        absent = raised.kind == "ModuleNotFoundError" and (
            sources.find(raised.needed_from) is None or raised.error.startswith("No package metadata")
        )
        if absent or raised.kind not in _LOST or raised.needed_from == raised.module.name:
            continue  # something optional is not installed: that is what the handler is for
        head = raised.module.name.partition(".")[0]
        finding = _finding(raised, head, sources, "feature-lost")
        findings.setdefault((head, finding.module, finding.line, finding.name), finding)
    return findings.values()


_LOST = ("ImportError", "ModuleNotFoundError", "AttributeError")


def _finding(raised: Any, entry: str, sources: Sources, effect: str) -> Finding:
    place = sources.find(raised.module.name)
    is_package = place is not None and bool(place.inside)
    file = raised.module.name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    return Finding(raised.module.name, raised.name, raised.needed_from, raised.line, effect, raised.error, file, entry)
