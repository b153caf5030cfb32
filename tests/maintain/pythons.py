"""For which Pythons the releases in rules/releases.toml are, as PyPI tells: writes the table `[pythons]` there.

    python tests/maintain/pythons.py [--check]

What counts is Requires-Python; and where a release has no source distribution, its wheels for Linux x86_64 too, because
without one an installer finds nothing. `--check` writes nothing and ends in status 1 where the table would change.
Needs the network, and packaging alone.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomllib
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

FILE = Path(__file__).parents[2] / "rules" / "releases.toml"
MINORS = range(8, 16)  # of Python 3: older ones no backend knows, newer ones nobody has a wheel for
NEXT = "# What the torch wheels on PyPI were built for"
HEADER = """\
# From this release on: the Pythons that a release is for, by Requires-Python on PyPI; where there is no source
# distribution, by the wheels for Linux x86_64 too. Written by tests/maintain/pythons.py.
[pythons]
"""


def files_of(distribution: str) -> list[dict[str, Any]]:
    """The files of a distribution on PyPI."""
    address = f"https://pypi.org/simple/{distribution}/"
    request = urllib.request.Request(address, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files: list[dict[str, Any]] = json.load(answer)["files"]
        return files


def minors_of(file: dict[str, Any], release: str) -> set[int] | None:
    """The minor versions of Python 3 that one file of a release is for; None for a file of another release, or for
    another system.
    """
    name, asked = file["filename"], SpecifierSet(file.get("requires-python") or "")
    allowed = {minor for minor in MINORS if asked.contains(f"3.{minor}.99")}
    if name.endswith((".tar.gz", ".zip")):
        version = re.sub(r"\.(tar\.gz|zip)$", "", name.rpartition("-")[2])
        return allowed if version == release else None
    try:
        _, version, _, tags = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return None
    systems = [tag for tag in tags if tag.platform == "any" or re.fullmatch(r"(many)?linux.*_x86_64", tag.platform)]
    if version != Version(release) or not systems:
        return None
    return {minor for minor in allowed if any(_serves(tag.interpreter, tag.abi, minor) for tag in systems)}


def _serves(interpreter: str, abi: str, minor: int) -> bool:
    if interpreter == "py3":
        return True
    own = re.fullmatch(r"cp3(\d+)", interpreter)
    return own is not None and (int(own[1]) == minor if abi != "abi3" else int(own[1]) <= minor)


def pythons(files: list[dict[str, Any]], release: str) -> str:
    """The Pythons of a release as a specifier."""
    sets = [minors for file in files if (minors := minors_of(file, release)) is not None]
    minors = sorted(set().union(*sets))
    if not minors:
        names = ", ".join(sorted({file["filename"] for file in files if release in file["filename"]}))
        raise SystemExit(f"no file of {release} tells a Python: {names or 'there is none'}")
    upper = f",<3.{minors[-1] + 1}" if minors[-1] != MINORS[-1] else ""
    return f">=3.{minors[0]}{upper}"


def rows(releases: dict[str, list[str]]) -> Iterator[str]:
    """A line for each distribution: the releases from which on another range of Pythons holds."""
    for name, versions in releases.items():
        files = files_of(name)
        told = [(version, pythons(files, version)) for version in versions]
        changes = [told[0], *[after for before, after in pairwise(told) if before[1] != after[1]]]
        pairs = [f"{json.dumps(version)} = {json.dumps(asked)}" for version, asked in changes]
        yield f"{name} = {{ {', '.join(pairs)} }}"


def main() -> None:
    """Write the table, or compare it."""
    text = FILE.read_text("utf-8")
    made = HEADER + "\n".join(rows(tomllib.loads(text)["releases"])) + "\n\n"
    without = re.sub(re.escape(HEADER) + r".*?\n\n", "", text, flags=re.DOTALL)
    new = without.replace(NEXT, made + NEXT, 1)
    if "--check" in sys.argv:
        sys.exit(new != text)
    FILE.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
