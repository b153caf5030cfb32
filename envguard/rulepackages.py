"""Which installed packages may ship rules for envguard; `addedrules.py` reads them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MARK = "envguard"  # in the name of a distribution that ships rules
_OWN = "envguard_quant"


def shipping_rules(environ: Mapping[str, str], path: Iterable[str]) -> list[tuple[str, str]]:
    """Folder and metadata folder of each distribution that may ship rules: its name holds `envguard`.

    By the name alone, because looking into the metadata of each distribution would be felt in every check.
    """
    if environ.get("ENVGUARD_ADDED_RULES") == "0":
        return []
    found = []
    for folder in path:
        if not folder.endswith("-packages"):
            continue
        try:
            entries = os.listdir(folder)
        except OSError:
            continue  # the search path of every Python names folders that are not there
        named = [entry for entry in entries if entry.endswith(".dist-info") and _MARK in entry.lower()]
        found += [(folder, entry) for entry in named if not entry.lower().startswith(_OWN)]
    return found
