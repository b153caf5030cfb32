"""The wheels of host releases that the long tests read: kept outside the repository, fetched by hand.

`python tests/maintain/fetch_hosts.py` fills the folder from the package index.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DIFFUSERS = [
    "0.31.0", "0.32.0", "0.32.1", "0.32.2", "0.33.0", "0.33.1", "0.34.0", "0.35.0", "0.35.1", "0.35.2", "0.36.0",
    "0.37.0", "0.37.1", "0.38.0", "0.39.0", "0.40.0", "0.41.0", "0.42.0", "0.42.1",
]  # fmt: skip
TRANSFORMERS = [
    "4.46.3", "4.47.1", "4.48.3", "4.49.0", "4.50.3", "4.51.3", "4.52.4", "4.53.3", "4.54.1", "4.55.4", "4.56.2",
    "4.57.6", "5.0.0", "5.1.0", "5.2.0", "5.3.0", "5.4.0", "5.5.4", "5.6.2", "5.7.0", "5.8.1", "5.9.0", "5.10.4",
    "5.11.0", "5.12.1", "5.13.1", "5.14.1", "5.15.1", "5.16.1", "5.17.0", "5.18.0", "5.19.0", "5.20.2", "5.21.1",
    "5.22.2", "5.23.0",
]  # fmt: skip
RELEASES = [("diffusers", version) for version in DIFFUSERS] + [("transformers", version) for version in TRANSFORMERS]


def folder() -> Path:
    """Where wheels are kept: ENVGUARD_HOST_WHEELS, else a folder in the user's cache."""
    told = os.environ.get("ENVGUARD_HOST_WHEELS")
    if told:
        return Path(told)
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/envguard-host-wheels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envguard-host-wheels"


def wheel(host: str, version: str) -> Path:
    """The wheel of a release, there or not."""
    return folder() / f"{host}-{version}-py3-none-any.whl"


def complete() -> bool:
    """Whether every wheel is there."""
    return all(wheel(*release).is_file() for release in RELEASES)
