"""What the plugin adds to a run of pytest: `pytest` with and without it, on a suite of one test, interleaved.

python tests/bench/plugin_start.py [--rounds N]

In an environment that has envguard and pytest. Prints the ratio and the milliseconds between the medians (limit: 15).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
COMMANDS = {
    "without": [*PYTEST, "-p", "no:envguard"],
    "with": PYTEST,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21, metavar="N", help="(default: 21)")
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "test_it.py"), "w", encoding="utf-8") as file:
            file.write("def test_it(): pass\n")
        for number in range(rounds + 1):
            for name in random.sample(sorted(COMMANDS), len(COMMANDS)):
                start = time.perf_counter()
                done = subprocess.run(COMMANDS[name], cwd=folder, capture_output=True, text=True, check=True)
                if number:
                    taken[name].append(time.perf_counter() - start)
                if ("envguard: " in done.stdout) != (name == "with"):
                    raise SystemExit(f"pytest {name} the plugin: {done.stdout}")
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    added = (medians["with"] - medians["without"]) * 1000
    for name, seconds in medians.items():
        print(f"pytest {name:<8} {seconds * 1000:7.1f} ms")
    print(f"ratio           {medians['with'] / medians['without']:7.3f}")
    print(f"added           {added:7.1f} ms  limit 15")


if __name__ == "__main__":
    main()
