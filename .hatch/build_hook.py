"""What the build adds: the rules as package data, and in the compiled form that a check reads.

A plain `force-include` of `rules/` in pyproject.toml would also put a copy beside an editable install, where it goes
stale. The compiled form is written into the checkout (git ignores it); there it counts only while the rules files are
those it was made from.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RulesHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts `rules/` into a wheel as `envguard/_rules/`, and compiles it to `envguard/_compiled.py`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds: `version` is "standard" or "editable".

        Raises BadRules for a row that does not hold to the format.
        """
        rules, compiled = os.path.join(self.root, "rules"), os.path.join(self.root, "envguard", "_compiled.py")
        sys.path.insert(0, self.root)
        from envguard.shipped import compiled_source

        source = compiled_source(rules)
        with open(compiled, "w", encoding="utf-8") as file:
            file.write(source)
        if version == "standard":
            for name in os.listdir(rules):  # its files alone: the pages of reference/ are for readers of the checkout
                if os.path.isfile(os.path.join(rules, name)):
                    build_data["force_include"][os.path.join(rules, name)] = f"envguard/_rules/{name}"
            build_data["force_include"][compiled] = "envguard/_compiled.py"
