"""How long the first look at the imports of what is installed takes, and how long the next ones.

python tests/bench/check_links.py [--python EXE] [--backend SPEC] [--rounds N]

A first look has no cache, a next one finds it; both are whole processes. Figures are medians in milliseconds. The
limits: 1.5 s for the first, for the next ones what check_speed.py says.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--python", default=sys.executable, help="an interpreter that has envguard and the backend")
    options.add_argument("--backend", default="torchao")
    options.add_argument("--rounds", type=int, default=10)
    asked = options.parse_args()
    first, following = [], []
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as cache:
            first.append(_check(asked.python, asked.backend, cache))
            following += [_check(asked.python, asked.backend, cache) for _ in range(3)]
    print(f"first {statistics.median(first):.0f} ms, next {statistics.median(following):.1f} ms")


def _check(python: str, backend: str, cache: str) -> float:
    environ = {**os.environ, "XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache, "HOME": cache}
    environ.pop("ENVGUARD_CACHE", None)
    start = time.perf_counter()
    subprocess.run(
        [python, "-m", "envguard", "check", "--backend", backend, "--device", "cpu"],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
