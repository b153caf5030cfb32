"""Write rules/native.toml: `python tests/maintain/native_table.py WHEELS [RELEASE]...`.

The file lists of every released wheel come from the package index, by pip's own reading of a wheel's last bytes; what a
library links and which GPU code it has needs the whole wheel: of those in the folder WHEELS it is read, and holds for
every other wheel with the same file (size and checksum). Without releases those of rules/releases.toml from 0.43.0 on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from packaging.version import Version

from envguard.probes.binaries import describe
from envguard.probes.distributions import parse_header
from envguard.probes.libstdcxx import newest
from envguard.probes.torch_architectures import code
from envguard.shipped import rules_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLATFORMS = {
    "Linux x86_64": "manylinux_2_24_x86_64",
    "Linux aarch64": "manylinux_2_24_aarch64",
    "Windows x86_64": "win_amd64",
    "Windows aarch64": "win_arm64",
    "Darwin aarch64": "macosx_14_0_arm64",
}
FIRST = "0.43.0"
SUFFIXES = (".so", ".dll", ".dylib")
HEAD = """\
# Which compiled libraries the released bitsandbytes wheels carry. Made by tests/maintain/native_table.py, not by hand.
# Checked {checked}. A name such as cuda126 is libbitsandbytes_cuda126 with the suffix of the system; its number counts
# in `kinds`, -1: nothing but the name is known.
"""


def wheel(version: str, tag: str) -> Any:
    """The wheel of a release for a platform, opened: pip fetches of it what is read. None where there is no such."""
    from pip._internal.network.lazy_wheel import LazyZipOverHTTP
    from pip._internal.network.session import PipSession

    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    command += ["--ignore-requires-python", "--only-binary", ":all:", "--platform", tag, "--python-version", "3.11"]
    command += [
        "--implementation",
        "py",
        "--target",
        tempfile.gettempdir(),
        "--report",
        "-",
        f"bitsandbytes=={version}",
    ]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        return None
    return zipfile.ZipFile(
        LazyZipOverHTTP(json.loads(asked.stdout)["install"][0]["download_info"]["url"], PipSession())
    )


def read(path: str) -> dict[str, Any]:
    """What the rules want to know of one library."""
    binary = describe(path)
    facts: dict[str, Any] = {"machine": binary.machine}
    if binary.needs is not None:
        facts["needs"] = list(binary.needs)
    for name, prefix in (("glibc", "GLIBC_"), ("glibcxx", "GLIBCXX_"), ("cxxabi", "CXXABI_")):
        version = newest(binary.versions, prefix)
        if version:
            facts[name] = version
    if "_cuda" in path:
        facts["gpu_archs"] = list(code(path))
    return facts


def whole(folder: str) -> dict[tuple[str, int, int], dict[str, Any]]:
    """The facts of every library of the wheels in a folder, by name, size and checksum."""
    known = {}
    for path in sorted(Path(folder).glob("bitsandbytes-*.whl")):
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as room:
            for entry in archive.infolist():
                if entry.filename.endswith(SUFFIXES):
                    name = os.path.basename(entry.filename)
                    known[name, entry.file_size, entry.CRC] = read(archive.extract(entry, room))
        print(path.name, flush=True)
    return known


def stem(file: str) -> str:
    """cuda126 of bitsandbytes/libbitsandbytes_cuda126.so."""
    return os.path.basename(file).partition(".")[0].removeprefix("libbitsandbytes_")


def main() -> None:
    """Write the table."""
    known = whole(sys.argv[1])
    table = tomllib.loads(Path(rules_folder(), "releases.toml").read_text("utf-8"))["releases"]["bitsandbytes"]
    versions = sys.argv[2:] or [each for each in table if Version(each) >= Version(FIRST)]
    kinds: list[dict[str, Any]] = []
    rows: list[str] = []
    for version in versions:
        header, platforms = "", []
        for platform, tag in PLATFORMS.items():
            archive = wheel(version, tag)
            if archive is None:
                continue
            carried = {}
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                if entry.filename.endswith(SUFFIXES):
                    facts = known.get((os.path.basename(entry.filename), entry.file_size, entry.CRC))
                    if facts is not None and facts not in kinds:
                        kinds.append(facts)
                    carried[stem(entry.filename)] = -1 if facts is None else kinds.index(facts)
                elif entry.filename.endswith(".dist-info/METADATA"):
                    header = archive.read(entry).decode("utf-8").partition("\n\n")[0]
            platforms.append(f"{quoted(platform)} = {{ {', '.join(f'{k} = {v}' for k, v in carried.items())} }}")
        _, requires, python = parse_header(header)
        wanted = [line for line in requires if line.startswith("torch") and ";" not in line]
        rows += [f"\n[native.bitsandbytes.releases.{quoted(version)}]", f"python = {quoted((python or '').strip())}"]
        rows += [
            f"requires = {listed(wanted)}",
            f"[native.bitsandbytes.releases.{quoted(version)}.platforms]",
            *platforms,
        ]
        print(version, flush=True)
    checked = max(line for line in Path(rules_folder(), "releases.toml").read_text("utf-8").split() if line[:2] == "20")
    text = HEAD.format(checked=checked.rstrip(".")) + "\n[native.bitsandbytes]\nkinds = [\n"
    text += "".join(f"    {{ {', '.join(f'{k} = {shown(v)}' for k, v in facts.items())} }},\n" for facts in kinds)
    Path(rules_folder(), "native.toml").write_text(text + "]\n" + "\n".join(rows) + "\n", "utf-8")


def quoted(text: str) -> str:
    return json.dumps(text)


def listed(values: list[str]) -> str:
    return f"[{', '.join(map(quoted, values))}]"


def shown(value: Any) -> str:
    return listed(value) if isinstance(value, list) else quoted(value)


if __name__ == "__main__":
    main()
