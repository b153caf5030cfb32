"""Run the shell steps of our action as a runner of GitHub would.

python .ci/action.py [INPUT=VALUE]...

What the steps write to the job summary is printed after what they print themselves. The exit status is that of the
step that failed, or 0.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / ".github" / "actions" / "envguard"
_INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")


def action() -> dict[str, Any]:
    """The action as YAML has it."""
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
    return loaded


def inputs(given: Mapping[str, str]) -> dict[str, str]:
    """The value of every input. Raises ValueError for one that the action does not have."""
    known = {name: str(value["default"]) for name, value in action()["inputs"].items()}
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(f"no input {', '.join(sorted(unknown))}")
    return {**known, **given}


def run(given: Mapping[str, str], folder: Path, temporary: Path, *, only: str | None = None) -> Iterator[Any]:
    """Run the steps, or one, in a folder until one fails; what each of them did."""
    values = inputs(given)
    for name in ("summary.md", "output.txt"):
        (temporary / name).touch()
    environment = os.environ | {
        "RUNNER_TEMP": str(temporary),
        "GITHUB_ACTION_PATH": str(FOLDER),
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_STEP_SUMMARY": str(temporary / "summary.md"),
        "GITHUB_OUTPUT": str(temporary / "output.txt"),
    }
    for step in action()["runs"]["steps"]:
        if only is not None and step["name"] != only:
            continue
        own = {name: _filled(value, values) for name, value in step.get("env", {}).items()}
        where = folder / _filled(step.get("working-directory", "."), values)
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=where, env=environment | own, capture_output=True, encoding="utf-8", check=False
        )
        yield done
        if done.returncode:
            return


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _INPUT.sub(lambda found: values[found[1]], text)


def main() -> int:
    """Run all steps in this folder with the inputs given."""
    status = 0
    with tempfile.TemporaryDirectory() as temporary:
        given = dict(word.split("=", 1) for word in sys.argv[1:])
        for done in run(given, Path.cwd(), Path(temporary)):
            sys.stdout.write(done.stdout)
            sys.stderr.write(done.stderr)
            status = done.returncode
        sys.stdout.write((Path(temporary) / "summary.md").read_text(encoding="utf-8"))
    return status


if __name__ == "__main__":
    sys.exit(main())
