"""Whether a package lets its compiled kernels load: what its own test on import does with the torch that is there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from envguard.links import Links

LOADS = "load_library"  # torch.ops.load_library
SAYS = ("warning", "info", "debug")  # of a logger
WATCHED = (LOADS, *SAYS)
_LONGEST = 200


def kernels(package: str, links: Links, names: Iterable[str]) -> dict[str, Any]:
    """The entry of section `compiled_kernels` for a package. `names` are the names in its folder.

    `loaded` is None where it cannot be told; the reason is what the package itself says where it says something.
    """
    libraries = [name for name in names if name.startswith("_C") and name.endswith((".so", ".pyd", ".dylib"))]
    if not libraries:
        return {"loaded": False, "reason": f"this build of {package} is Python alone and carries no compiled kernels"}
    if any(each.entry.partition(".")[0] == package for each in links.broken):
        return {"loaded": None, "reason": f"the import of {package} fails"}
    own = [call for call in links.calls if call.module == package]
    loads = [call for call in own if call.name == LOADS]
    if any(call.certain for call in loads):
        return {"loaded": True, "reason": None}
    if loads:
        return {"loaded": None, "reason": f"what {package} itself tests cannot be told from its files"}
    said = [
        " ".join(call.arguments[0].split()) for call in own if call.name in SAYS and call.certain and call.arguments
    ]
    reason = next((text for text in said if "kip" in text), None)
    return {"loaded": False, "reason": reason[:_LONGEST] if reason else f"{package} does not load them with this torch"}
