"""`envguard rules audit`: the gates in the source of a host release, and the rules that speak of them.

A gate is a test on what the environment decides. `source` finds a release, `package` parses it, `reading` and `walk`
read it without running it, `extract` says where gates stand, `coverage` compares them with the rules, `compare` with
those of another release, `report` shows what came of it. A check imports none of this.
"""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard.audit.compare import Change
    from envguard.audit.coverage import Finding
    from envguard.audit.source import Release
    from envguard.rulebook import RuleBook


class Audit(Frozen):
    """What the rules say of one release; with `against`, what it changed since another one."""

    host: str
    version: str
    place: str
    findings: tuple[Finding, ...]
    against: str | None = None
    changes: tuple[Change, ...] = ()

    @property
    def open(self) -> tuple[Finding, ...]:
        """What is not covered."""
        return tuple(finding for finding in self.findings if finding.is_open)


def audit(release: Release, book: RuleBook, against: Release | None = None) -> Audit:
    """Compare a release with the rules, and with another release. Raises BadInput where one cannot be read."""
    from envguard.audit.compare import changes
    from envguard.audit.coverage import cover
    from envguard.audit.extract import extract
    from envguard.audit.known import load

    gates = extract(release, book.backends)
    findings = tuple(cover(release.host, release.version, gates, book, load()))
    if against is None:
        return Audit(release.host, release.version, release.place, findings)
    found = tuple(changes(extract(against, book.backends), gates))
    return Audit(release.host, release.version, release.place, findings, against.version, found)
