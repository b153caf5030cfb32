"""The checks behind one guarded backend: the one that it was made by, and those before each of its calls."""

from __future__ import annotations

from envguard.checks import examine
from envguard.errors import EnvguardWarning
from envguard.frozen import replace
from envguard.permits import issue
from envguard.shipped import load
from envguard.specs import resolve_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envguard.model import Environment, Host, Operation, Report
    from envguard.permits import Permit


class CallChecks:
    """The checks behind one guarded backend: the report that it was made from, and those before each of its calls."""

    def __init__(
        self,
        spec: str,
        host: str,
        device: str,
        operation: Operation,
        undecided: str,
        ignore: tuple[str, ...] = (),
    ) -> None:
        if undecided not in ("block", "allow"):
            raise ValueError(f"undecided: expected 'block' or 'allow', found {undecided!r}")
        self._book = load()
        self._device = device
        self._undecided = undecided
        self._ignore = ignore
        self._warned: set[str] = set()
        self._permits: dict[tuple[str | None, Operation, Host, str | None], tuple[object, Permit]] = {}
        self.report = self._look(spec, operation, host)[0]

    def scheme(self, name: str) -> str:
        """The official name of a scheme of the backend. Raises UnknownScheme."""
        return resolve_spec(self._book, f"{self._backend}:{name}")[1] or name

    def permit(self, scheme: str | None, operation: Operation, host: Host, weights: str | None = None) -> Permit:
        """The permit for a call, looked for again only where something may have changed. Raises RequirementsNotMet.

        `weights` is the form in which the model is stored, where one was named.
        """
        from envguard.probes.changes import stamp

        now = stamp()
        then, permit = self._permits.get((scheme, operation, host, weights), (None, None))
        if permit is None or then != now:
            spec = f"{self._backend}:{scheme}" if scheme else self._backend
            report, environment = self._look(spec, operation, host, weights)
            permit = issue(report, environment, self._book.backends[self._backend].import_name, self._undecided)
            self._permits[scheme, operation, host, weights] = now, permit
            self.warn_if_degraded(report, stacklevel=5)  # warn_if_degraded, permit, loading, guarded, its caller
        return permit

    def warn_if_degraded(self, report: Report, stacklevel: int) -> None:
        """One EnvguardWarning for what is lost, once for each rule."""
        lost = [o for b in report.backends for o in b.outcomes if o.status == "unmet" and o.severity != "info"]
        new = [outcome for outcome in lost if outcome.rule not in self._warned]
        if new:
            import warnings

            self._warned.update(outcome.rule for outcome in new)
            text = "; ".join(f"{outcome.rule}: {outcome.message}" for outcome in new)
            warnings.warn(f"{self._backend} runs degraded: {text}", EnvguardWarning, stacklevel=stacklevel)

    @property
    def _backend(self) -> str:
        return self.report.backends[0].request.backend

    def _look(
        self, spec: str, operation: Operation, host: str, weights: str | None = None
    ) -> tuple[Report, Environment]:
        from envguard.probes.interpreter import current

        examined = examine(
            self._book,
            (spec,),
            None,
            current,
            host=host,
            device=self._device,
            operation=operation,
            ignore=self._ignore,
            weights=weights,
        )
        return replace(examined.report, undecided=self._undecided), examined.environment
