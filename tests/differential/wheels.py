"""The wheels of host releases: from the package index by name, kept outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def folder() -> Path:
    """Where wheels are kept: ENVGUARD_HOST_WHEELS, else a folder in the user's cache."""
    told = os.environ.get("ENVGUARD_HOST_WHEELS")
    if told:
        return Path(told)
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/envguard-host-wheels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envguard-host-wheels"


def wheel(host: str, release: str) -> Path:
    """The wheel of a release, downloaded where it is not there yet."""
    path = folder() / f"{host}-{release}-py3-none-any.whl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
        command += ["--ignore-requires-python", "--only-binary", ":all:", "-d", str(path.parent), f"{host}=={release}"]
        subprocess.run(command, check=True)
    return path
