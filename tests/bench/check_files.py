"""How long judging a file of 200 packages takes, as a ratio to a check of an environment; from one interleaved run.

python tests/bench/check_files.py [--python EXE] [--envguard EXE] [--rounds N]

`--python` is the environment that the plain check looks at: one that has the backends, as what the files list would be.
The files are written as uv and pip write them, with some dozen wheels a package. POSIX only, as `check_speed.py` is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench.check_speed import interleaved

PINS = {
    "torch": "2.11.0",
    "diffusers": "0.42.1",
    "transformers": "5.20.0",
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "torchao": "0.18.0",
    "optimum-quanto": "0.2.7",
    "gguf": "0.19.0",
}
TARGET = "python=3.12,linux,x86_64,gpu=RTX 4090,driver=580.65.06"
WHEELS = 13
MARKERS = (
    "sys_platform == 'linux'",
    "platform_machine == 'x86_64' and sys_platform == 'linux'",
    "python_full_version < '3.13'",
    "sys_platform == 'win32'",
)


def packages(count: int) -> dict[str, str]:
    """Names and versions: the backends, and others up to the count."""
    return {**PINS, **{f"package-{number}": f"1.{number}.0" for number in range(count - len(PINS))}}


def wheels(name: str, version: str) -> list[str]:
    """The entries of a package's wheels, each as long as a real one."""
    file = f"{name.replace('-', '_')}-{version}-cp312-cp312-manylinux_2_28_x86_64.whl"
    url = f"https://files.pythonhosted.org/packages/{'0' * 60}/{file}"
    hashes = f'hashes = {{ sha256 = "{"0" * 64}" }}'
    entry = f'    {{ url = "{url}", upload-time = 2026-10-09T08:38:56Z, size = 118387, {hashes} }},'
    return [entry] * WHEELS


def uv_lock(pins: dict[str, str]) -> str:
    """A uv.lock: each package depends on three others, some only on other systems."""
    names = list(pins)
    text = ["version = 1", "revision = 3", 'requires-python = ">=3.11"', ""]
    for place, (name, version) in enumerate(pins.items()):
        text += ["[[package]]", f'name = "{name}"', f'version = "{version}"']
        text += ['source = { registry = "https://pypi.org/simple" }', "dependencies = ["]
        text += [
            f'    {{ name = "{names[(place * 3 + step) % len(names)]}", marker = "{MARKERS[(place + step) % 4]}" }},'
            for step in range(3)
        ]
        text += ["]", "wheels = ["]
        text += [
            entry.replace("hashes = { sha256 = ", "hash = ").replace(" } },", " },") for entry in wheels(name, version)
        ]
        text += ["]", ""]
    text += ["[[package]]", 'name = "demo"', 'version = "0.1.0"', 'source = { virtual = "." }', "dependencies = ["]
    return "\n".join([*text, *[f'    {{ name = "{name}" }},' for name in names], "]", ""])


def pylock(pins: dict[str, str]) -> str:
    """A pylock.toml as uv exports it."""
    text = ['lock-version = "1.0"', 'created-by = "uv"', 'requires-python = ">=3.11"', ""]
    for place, (name, version) in enumerate(pins.items()):
        text += ["[[packages]]", f'name = "{name}"', f'version = "{version}"', 'index = "https://pypi.org/simple"']
        text += [f'marker = "{MARKERS[place % 3]}"', "wheels = [", *wheels(name, version), "]", ""]
    return "\n".join(text)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--envguard", default=shutil.which("envguard"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--packages", type=int, default=200)
    given = parser.parse_args()
    program = [given.envguard] if given.envguard else [sys.executable, "-m", "envguard"]
    pins = packages(given.packages)
    frozen = "".join(f"{name}=={version}\n" for name, version in pins.items())
    with tempfile.TemporaryDirectory() as folder:
        commands = {"check": [*program, "check", "--python", given.python]}
        if os.path.realpath(given.python) == os.path.realpath(sys.executable):
            commands = {"check": [*program, "check"]}
        for name, text in {"freeze.txt": frozen, "uv.lock": uv_lock(pins), "pylock.toml": pylock(pins)}.items():
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            commands[f"--lock {name}"] = [*program, "check", "--lock", path, "--target", TARGET]
        runs = interleaved(commands, given.rounds)
    medians = {name: statistics.median(run.seconds for run in done) for name, done in runs.items()}
    print(f"{'what':<20} {'ms':>6} {'ratio':>6}  limit")
    for name, seconds in medians.items():
        print(f"{name:<20} {seconds * 1000:6.1f} {seconds / medians['check']:6.2f}  {'2' if name != 'check' else ''}")


if __name__ == "__main__":
    main()
