"""How fast envguard is, as ratios from one interleaved run.

python tests/bench/check_speed.py [--python EXE] [--envguard EXE] [--uv EXE] [--rounds N] [--require SPEC]

All commands look at the environment of `--python`, which has envguard and the backends. Every round runs each command
once, in an order that changes from round to round, so that a slow spell of the machine falls on all of them. Figures
are medians; memory is the peak that the system reports for the process. Limits stand beside the figures; nothing here
passes or fails.
POSIX only: it needs wait4.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

MIB = 1 << 20
# ru_maxrss counts KiB on Linux, bytes on macOS
RSS_UNIT = 1 if sys.platform == "darwin" else 1024

IMPORT = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import envguard
print(time.perf_counter() - start, len(set(sys.modules) - before))
"""

REQUIRE = """
import sys, time, warnings
warnings.simplefilter("ignore")
import envguard
spec, device = sys.argv[1:]

def require():
    try:
        envguard.require(spec, device=device)
        return "passes"
    except envguard.RequirementsNotMet:
        return "is refused"

start = time.perf_counter()
word = require()
first = time.perf_counter() - start
count = 20000 if word == "passes" else 5
start = time.perf_counter()
for _ in range(count):
    require()
print(first, (time.perf_counter() - start) / count, word)
"""


# A process starts with the peak of the one that it was forked from, so the smallest Python there is starts the command.
LAUNCHER = """
import os, sys, time
reading, writing = os.pipe()
actions = [
    (os.POSIX_SPAWN_DUP2, writing, 1),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_CLOSE, reading),
]
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
os.close(writing)
output = b""
while part := os.read(reading, 65536):
    output += part
status, usage = os.wait4(process, 0)[1:]
print(time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
sys.stdout.flush()
os.write(1, output)
"""


class Run(NamedTuple):
    """One run of one command."""

    seconds: float
    peak: int
    output: str


class Row(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    limit: str


def run(command: list[str]) -> Run:
    """Start a command, wait for it, and read what it cost."""
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    # from a folder without an `envguard`, which python -c would import
    done = subprocess.run(launch, cwd="/", stdout=subprocess.PIPE, encoding="utf-8", check=True)
    cost, _, output = done.stdout.partition("\n")
    seconds, peak, code = cost.split()
    if code not in ("0", "1", "3"):
        raise SystemExit(f"{' '.join(command)}: exit status {code}")
    return Run(float(seconds), int(peak) * RSS_UNIT, output)


def interleaved(commands: dict[str, list[str]], rounds: int) -> dict[str, list[Run]]:
    """Every command once a round, after one round that is not counted."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    order = list(commands)
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            result = run(commands[name])
            if number:
                runs[name].append(result)
    return runs


def median(runs: list[Run], value: Callable[[Run], float] = lambda each: each.seconds) -> float:
    """The median of one figure of some runs."""
    return statistics.median(map(value, runs))


def table(runs: dict[str, list[Run]], require: str) -> list[Row]:
    """The figures that the project promises, with their limits."""
    bare, one, all_five = runs["python -c pass"], runs["one"], runs["all"]
    rows = [
        Row("python -c pass", f"{median(bare) * 1e3:.1f} ms", ""),
        Row("envguard check --backend torchao", f"{median(one) * 1e3:.1f} ms", ""),
        Row("  / python -c pass", f"{median(one) / median(bare):.2f}", "<= 5"),
    ]
    if "uv pip check" in runs:
        checked = runs["uv pip check"]
        rows += [
            Row("uv pip check", f"{median(checked) * 1e3:.1f} ms", ""),
            Row("  envguard check --backend torchao / uv pip check", f"{median(one) / median(checked):.2f}", "<= 1.2"),
        ]
    first, warm = (median(runs["require"], lambda each, i=index: float(each.output.split()[i])) for index in (0, 1))  # type: ignore[misc]
    word = runs["require"][0].output.split(maxsplit=2)[2].strip()
    return [
        *rows,
        Row("envguard check (all five)", f"{median(all_five) * 1e3:.1f} ms", ""),
        Row("  / one", f"{median(all_five) / median(one):.2f}", "<= 1.5"),
        Row("python -c pass, peak memory", f"{median(bare, lambda each: each.peak) / MIB:.1f} MiB", ""),
        Row("one, peak memory", f"{median(one, lambda each: each.peak) / MIB:.1f} MiB", "<= 20 MiB without a GPU"),
        Row("all five, peak memory", f"{median(all_five, lambda each: each.peak) / MIB:.1f} MiB", ""),
        Row(
            "import envguard",
            f"{median(runs['import'], lambda each: float(each.output.split()[0])) * 1e3:.2f} ms",
            "<= 1 ms",
        ),
        Row("  modules that it adds", runs["import"][0].output.split()[1], "1"),
        Row(f"first require ({require} {word})", f"{first * 1e3:.1f} ms", "<= 30 ms without a GPU"),
        Row("  the next ones", f"{warm * 1e6:.2f} us", "<= 2 us where it passes"),
    ]


def main() -> None:
    """Read the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, metavar="EXE", help="the environment (default: this one)")
    parser.add_argument("--envguard", metavar="EXE", help="default: the script beside --python")
    parser.add_argument(
        "--uv", metavar="EXE", help="default: beside --python, else on PATH; left out where there is none"
    )
    parser.add_argument("--rounds", type=int, default=21, metavar="N", help="(default: 21)")
    parser.add_argument(
        "--require", default="gguf", metavar="SPEC", help="what require is measured with (default: gguf)"
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="its device (default: cpu)")
    arguments = parser.parse_args()

    python = os.path.abspath(arguments.python)
    scripts = os.path.dirname(python)
    envguard = os.path.abspath(arguments.envguard or os.path.join(scripts, "envguard"))
    uv = arguments.uv or shutil.which("uv", path=os.pathsep.join((scripts, os.environ.get("PATH", ""))))
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "one": [envguard, "check", "--backend", "torchao"],
        "all": [envguard, "check"],
        "import": [python, "-c", IMPORT],
        "require": [python, "-c", REQUIRE, arguments.require, arguments.device],
    }
    if uv is not None:
        commands["uv pip check"] = [uv, "pip", "check", "--python", python]
    rows = table(interleaved(commands, arguments.rounds), arguments.require)

    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[0]
    print(f"{version}\n{os.cpu_count()} cores, load {load:.1f}, medians of {arguments.rounds} interleaved runs")
    with open(envguard, "rb") as script:
        if b"\nimport re\n" in script.read():
            print("the script of an older pip, which imports re before envguard starts; uv writes one without")
    print()
    wide = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.what:<{wide}}  {row.figure:>10}  {row.limit}".rstrip())


if __name__ == "__main__":
    main()
