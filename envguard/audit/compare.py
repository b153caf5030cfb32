"""What changed between the gates of two releases."""

from __future__ import annotations

from envguard.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.audit.gate import Gate


class Change(Frozen):
    """A gate that is new, is gone, or is there in both releases and not the same."""

    what: str
    old: Gate | None
    new: Gate | None

    @property
    def gate(self) -> Gate:
        """The newer of the two."""
        gate: Any = self.new or self.old  # never neither
        found: Gate = gate
        return found


def changes(old: Iterable[Gate], new: Iterable[Gate]) -> list[Change]:
    """Every change, in the order of the newer release. Lines that only moved are none."""
    before, after = _by_identity(old), _by_identity(new)
    found: list[Change] = []
    for identity, gates in after.items():
        earlier = before.get(identity, [])
        known = {gate.content for gate in earlier}
        here = {gate.content for gate in gates}
        left = [gate for gate in earlier if gate.content not in here]
        for gate in gates:
            if gate.content in known:
                continue
            found.append(Change("changed", left.pop(0), gate) if left else Change("new", None, gate))
        found += [Change("gone", gate, None) for gate in left]
    for identity, gates in before.items():
        if identity not in after:
            found += [Change("gone", gate, None) for gate in gates]
    return found


def _by_identity(gates: Iterable[Gate]) -> dict[tuple[str, ...], list[Gate]]:
    found: dict[tuple[str, ...], list[Gate]] = {}
    for gate in gates:
        if all(gate.content != known.content for known in found.setdefault(gate.identity, [])):
            found[gate.identity].append(gate)
    return found
