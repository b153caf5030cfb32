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
            # the same name, imported otherwise, is one change; another error is another gate
            same = [each for each in left if _same_end(each, gate)] or (left[:1] if gate.kind == "symbol" else [])
            if same:
                left.remove(same[0])
                found.append(Change("changed", same[0], gate))
            else:
                found.append(Change("new", None, gate))
        found += [Change("gone", gate, None) for gate in left]
    for identity, lost in before.items():
        if identity not in after:
            found += [Change("gone", gate, None) for gate in lost]
    return found


def _by_identity(gates: Iterable[Gate]) -> dict[tuple[str, ...], list[Gate]]:
    found: dict[tuple[str, ...], list[Gate]] = {}
    for gate in gates:
        if all(gate.content != known.content for known in found.setdefault(gate.identity, [])):
            found[gate.identity].append(gate)
    return found


def _same_end(one: Gate, other: Gate) -> bool:
    return (one.effect, one.exception) == (other.effect, other.exception)
