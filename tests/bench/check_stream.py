"""How many recorded environments a second `envguard check --format jsonl` judges, and whether its memory stays flat.

    python tests/bench/check_stream.py [--count 100000] [--snapshot FILE ...]

Makes distinct snapshots of at least 2 KiB in which every fact varies over what real machines have (released versions,
drivers, GPUs, paths of their own), gives them to one process for each kind of request, and prints snapshots a second,
microseconds for one, and the peak memory of a tenth of them against that of all. The first rows are floors: the same
lines through `json.loads` and nothing else, and read, checked against the schema and answered with one and the same
report about torchao, without judging any rule. What is remembered between snapshots are answers to a few facts each, so
the rows `unique` show the other end: a tenth as many machines of which no two have a version in common, not of
Python, of the driver or of any package. `--snapshot` adds the figure for full snapshots of real machines: copies of
those files, each with a time, a path and free memory of its own. No peak is told below that of this process, which
the system counts to its children.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from envguard.shipped import load

GPUS = [
    ("Tesla T4", "7.5", 15_828_320_256),
    ("NVIDIA A100-SXM4-80GB", "8.0", 85_094_825_984),
    ("NVIDIA A10G", "8.6", 24_110_104_576),
    ("NVIDIA GeForce RTX 3060", "8.6", 12_622_168_064),
    ("NVIDIA GeForce RTX 4090", "8.9", 25_386_352_640),
    ("NVIDIA L4", "8.9", 23_580_639_232),
    ("NVIDIA H100 80GB HBM3", "9.0", 85_045_870_592),
    ("NVIDIA H200", "9.0", 150_754_820_096),
    ("NVIDIA B200", "10.0", 191_514_000_000),
    ("Tesla V100-SXM2-16GB", "7.0", 16_935_682_048),
]
DRIVERS = [
    ("525.147.05", "12.0"),
    ("535.183.01", "12.2"),
    ("550.127.08", "12.4"),
    ("560.35.05", "12.6"),
    ("570.133.20", "12.8"),
    ("580.95.05", "13.0"),
    ("580.159.04", "13.0"),
    ("590.44.01", "13.1"),
]
BACKENDS = {
    "torchao": "torchao",
    "bitsandbytes": "bitsandbytes",
    "optimum-quanto": "optimum.quanto",
    "gguf": "gguf",
    "nvidia-modelopt": "modelopt",
}
COMPANIONS = ["accelerate", "diffusers", "transformers", "kernels"]
TAGS = {"12.1": "cu121", "12.4": "cu124", "12.6": "cu126", "12.8": "cu128", "13.0": "cu130", "13.2": "cu132"}


def made(number: int) -> dict[str, Any]:
    """One machine, like no other."""
    pick = random.Random(number)
    book = load()
    home = f"/home/user{number}/projects/p{pick.randrange(10**6)}/.venv"
    packages = f"{home}/lib/python3.{pick.randrange(10, 15)}/site-packages"
    build = pick.choice(book.torch_builds)
    cpu = pick.random() < 0.1
    torch = f"{build.release}+{'cpu' if cpu else TAGS[build.cuda]}"
    gpu, capability, memory = pick.choice(GPUS)
    driver, cuda = pick.choice(DRIVERS)
    versions = {name: pick.choice(book.releases(name)[-12:]) for name in (*BACKENDS, *COMPANIONS)}
    missing = {name for name in versions if pick.random() < 0.08}
    return {
        "schema": "envguard.snapshot/1",
        "taken_at": f"2026-{pick.randrange(1, 12):02}-{pick.randrange(1, 29):02}T10:{number % 60:02}:00+00:00",
        "python": {
            "version": f"3.{pick.randrange(10, 15)}.{pick.randrange(12)}",
            "implementation": "CPython",
            "executable": f"{home}/bin/python",
            "prefix": home,
            "free_threaded": pick.random() < 0.02,
            "externally_managed": pick.random() < 0.05,
            "writable": pick.random() < 0.95,
            "conda_prefix": None,
            "virtual_environment": True,
            "pip": pick.choice(["24.0", "25.1", "26.0", None]),
        },
        "host": {
            "system": pick.choice(["Linux"] * 8 + ["Windows"]),
            "release": f"6.{pick.randrange(20)}.{number}",
            "machine": "x86_64",
            "libc": f"glibc 2.{pick.randrange(31, 42)}",
            "wsl": False,
            "container": pick.choice([None, "docker"]),
        },
        "distributions": {
            "torch": {"version": torch, "requires": [], "location": packages, "top_level": ["torch"]},
            **{
                name: None
                if name in missing
                else {"version": version, "requires": ["torch>=2.4"], "location": packages}
                for name, version in versions.items()
            },
        },
        "distributions_complete": True,
        "import_owners": {
            module: {"origin": f"{packages}/{module}/__init__.py", "distribution": name, "kind": "package"}
            for name, module in BACKENDS.items()
            if name not in missing
        },
        "torch_build": {
            "version": torch,
            "cuda": None if cpu else build.cuda,
            "hip": None,
            "xpu": None,
            "arch_list": None if cpu else list(build.architectures),
        },
        "drivers": {"nvidia": driver, "cuda": cuda, "nvidia_status": "ok", "nvidia_devices": 1, "libcuda": None},
        "accelerators": [
            {
                "kind": "cuda",
                "index": 0,
                "name": gpu,
                "compute_capability": capability,
                "memory_total": memory,
                "memory_free": memory - pick.randrange(10**10),
                "mig": False,
                "uuid": f"GPU-{pick.getrandbits(128):032x}",
            }
        ],
        "toolchain": {"cxx": "/usr/bin/c++", "ninja": f"{home}/bin/ninja", "nvcc": None, "python_headers": None},
        "environment_variables": {"CUDA_VISIBLE_DEVICES": None, "PIP_NO_INDEX": None, "UV_OFFLINE": None},
    }


def unique(number: int) -> dict[str, Any]:
    """One machine of which no version was ever seen before."""
    machine = made(number)
    for entry in machine["distributions"].values():
        if entry is not None:
            public, plus, local = entry["version"].partition("+")
            entry["version"] = f"{public}.{number + 1}{plus}{local}"
    machine["torch_build"]["version"] = machine["distributions"]["torch"]["version"]
    machine["python"]["version"] += f".{number + 1}"
    machine["drivers"]["nvidia"] += f".{number + 1}"
    machine["accelerators"][0]["memory_total"] += number
    return machine


def copies(files: list[Path]) -> Callable[[int], dict[str, Any]]:
    """Snapshots of real machines, each with a time, a path and free memory of its own."""
    recorded = [json.loads(file.read_text("utf-8")) for file in files]

    def one(number: int) -> dict[str, Any]:
        data = dict(recorded[number % len(recorded)])
        data["taken_at"] = f"2026-11-22T10:{number % 60:02}:{number // 60 % 60:02}+00:00"
        data["python"] = {**data["python"], "executable": f"/home/user{number}/.venv/bin/python"}
        data["accelerators"] = [{**device, "memory_free": number} for device in data.get("accelerators", ())]
        return data

    return one


def write(path: str, make: Callable[[int], dict[str, Any]], count: int) -> int:
    """Write a stream and return the size of its smallest line."""
    smallest = 10**9
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            line = json.dumps(make(number))
            smallest = min(smallest, len(line))
            file.write(line + "\n")
    return smallest


def judge(path: str, words: list[str]) -> tuple[float, float]:
    """CPU seconds and peak MiB of one process that judges a stream."""
    return run([sys.executable, "-m", "envguard", "check", "--snapshot", path, "--format", "jsonl", *words])


def decode(path: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of a process that only decodes the lines."""
    return run([sys.executable, "-c", f"import json\nfor line in open({path!r}, 'rb'): json.loads(line)"])


FLOOR = """
import sys
from envguard.checks import Question
from envguard.output.json import report_line
from envguard.shipped import load
from envguard.snapshots import parse
lines = open(sys.argv[1], "rb")
question = Question(load(), ["torchao"], host="auto", device="auto", operation="quantize")
report = question.put_to(parse(next(lines)), "a machine")
for line in lines:
    parse(line)
    sys.stdout.write(report_line(report))
"""


def unjudged(path: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of a process that reads and checks the lines, and writes one report again and again."""
    return run([sys.executable, "-c", FLOOR, path])


def run(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak MiB of a process."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def requests() -> Iterator[tuple[str, Callable[[str], tuple[float, float]]]]:
    """What is asked of each stream, and what measures it."""
    yield "json.loads alone", decode
    yield "no rule judged", unjudged
    for words in ("--backend torchao:int8_weight_only", "--backend torchao", "--backend bnb:nf4 --device cuda", ""):
        yield words.removeprefix("--backend ") or "all five", partial(judge, words=words.split())


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--snapshot", type=Path, action="append", default=[])
    options = arguments.parse_args()
    kinds: list[tuple[str, Callable[[int], dict[str, Any]], int]] = [
        ("made", made, options.count),
        ("unique", unique, max(1, options.count // 10)),
    ]
    if options.snapshot:
        kinds.append(("real", copies(options.snapshot), max(1, options.count // 20)))
    print(
        f"{'stream':6} {'request':26} {'count':>7} {'bytes':>7} {'a second':>9} {'us each':>8} {'MiB tenth':>9}"
        f" {'MiB all':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, make, count in kinds:
            path, tenth = os.path.join(folder, f"{kind}.jsonl"), os.path.join(folder, f"{kind}-tenth.jsonl")
            smallest = write(path, make, count)
            write(tenth, make, max(1, count // 10))
            for name, measure in requests():
                _, early = measure(tenth)
                seconds, peak = measure(path)
                print(
                    f"{kind:6} {name:26} {count:7} {smallest:7} {count / seconds:9.0f} {seconds / count * 1e6:8.1f}"
                    f" {early:9.1f} {peak:8.1f}"
                )
    print(f"Python {sys.version.split()[0]}, CPU seconds of the whole process, finished {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
