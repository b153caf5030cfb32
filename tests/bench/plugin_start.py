"""What the plugin adds to a run of pytest: `pytest` with and without it, on a suite of one test, interleaved.

python tests/bench/plugin_start.py [--rounds N]

In an environment that has envguard and pytest. Prints the ratio and the milliseconds between the medians (limit: 15),
by the clock and by the processor's time, which a busy machine stretches less. POSIX only: it needs getrusage.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
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
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "test_it.py"), "w", encoding="utf-8") as file:
            file.write("def test_it(): pass\n")
        for number in range(rounds + 1):
            for name in random.sample(sorted(COMMANDS), len(COMMANDS)):
                start, used = time.perf_counter(), processor()
                done = subprocess.run(COMMANDS[name], cwd=folder, capture_output=True, text=True, check=True)
                if number:
                    taken[name].append((time.perf_counter() - start, processor() - used))
                if ("envguard: " in done.stdout) != (name == "with"):
                    raise SystemExit(f"pytest {name} the plugin: {done.stdout}")
    print(f"{'':<14} {'clock':>8} {'processor':>10}")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}
    for name, (clock, used) in medians.items():
        print(f"pytest {name:<7} {clock * 1000:8.1f} {used * 1000:10.1f} ms")
    pairs = list(zip(medians["with"], medians["without"], strict=True))
    print("ratio          {:8.3f} {:10.3f}".format(*[one / other for one, other in pairs]))
    print("added          {:8.1f} {:10.1f} ms  limit 15".format(*[(one - other) * 1000 for one, other in pairs]))


def processor() -> float:
    """The processor's seconds of all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
