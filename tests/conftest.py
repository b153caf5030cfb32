"""What every test may use."""

from __future__ import annotations

import os

pytest_plugins = ["pytester"]

os.environ["ENVGUARD_CACHE"] = "0"  # each test looks for itself, processes that it starts too
