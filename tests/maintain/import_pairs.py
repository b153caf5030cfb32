"""Compare what the import check says with what importing does.

python tests/maintain/import_pairs.py MODULE[,MODULE...] PATH [PATH ...]

Each PATH is a search path (folders, as in PYTHONPATH) with one combination of packages. The modules are imported in a
process of their own, which may abort. Prints a line for each path, and exits 1 where the two differ.
"""

from __future__ import annotations

import os
import subprocess
import sys

from envguard.links import check_links


def main() -> int:
    """Compare and print."""
    if len(sys.argv) < 3:
        print(__doc__)
        return 2
    modules, differ = sys.argv[1].split(","), 0
    for path in sys.argv[2:]:
        told = check_links([each for each in path.split(os.pathsep) if each], modules).broken
        code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
        done = subprocess.run(
            [sys.executable, "-c", code, *modules],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        same = bool(told) == bool(done.returncode)
        differ += not same
        last = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else "is imported"
        print("same  " if same else "DIFFER", path, "|", told[0].error if told else "every name is there", "|", last)
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
