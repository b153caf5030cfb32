"""The version, in its one place: the build reads this line, `envguard --version` and the reports print it."""

from __future__ import annotations

__version__ = "0.1.0"
