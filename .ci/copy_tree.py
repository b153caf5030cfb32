"""Copy the project to a folder: every file that is tracked or would be if it were added, as it is now.

python .ci/copy_tree.py FOLDER [--without NAME]...
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Read the arguments and copy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="a top-level name to leave out")
    arguments = parser.parse_args()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        source = ROOT / name
        # a tracked file may be deleted in the work tree
        if source.is_file() and Path(name).parts[0] not in arguments.without:
            target = arguments.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


if __name__ == "__main__":
    main()
