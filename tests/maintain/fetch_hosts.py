"""Fetch the wheels that the long tests read: `python tests/maintain/fetch_hosts.py [HOST VERSION]...`.

From the package index by name, one after the other, into ENVGUARD_HOST_WHEELS or the user's cache folder; what is
there stays. Without arguments every release that the tests list.
"""

from __future__ import annotations

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "audit"))

from host_wheels import RELEASES, folder, wheel


def fetch(host: str, version: str) -> None:
    """Download one wheel where it is not there."""
    if wheel(host, version).is_file():
        return
    print(f"{host} {version}", flush=True)
    folder().mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--ignore-requires-python", "--only-binary", ":all:", "--dest", str(folder()), f"{host}=={version}"]
    subprocess.run(command, check=True)


def main() -> None:
    """Fetch what the arguments name, or all."""
    words = sys.argv[1:]
    for host, version in list(zip(words[::2], words[1::2])) or RELEASES:
        fetch(host, version)
    print(folder())


if __name__ == "__main__":
    main()
