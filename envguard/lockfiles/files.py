"""A file's path -> what it lists; the format is found by its name and its content."""

from __future__ import annotations

import os

from envguard.errors import BadInput
from envguard.lockfiles.reading import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envguard.lockfiles.listed import Listed
    from envguard.lockfiles.target import Target


_OTHERS = ("poetry.lock", "pdm.lock", "pipfile", "pipfile.lock", "pixi.lock", "conda-lock.yml", "environment.yml")
_NO_LOCKS = (*_OTHERS, "environment.yaml", "pyproject.toml")


def read_lock(path: str, target: Target) -> Listed:
    """What a uv.lock, a pylock.toml or the output of pip freeze lists: everything that gets installed.

    Raises BadInput with one line: the file, the line or key, and what is wrong there.
    """
    name = os.path.basename(path)
    if name.lower() in _NO_LOCKS:
        raise BadInput(
            f"{path}: --lock reads uv.lock, pylock.toml and the output of pip freeze: have the tool of this file write"
            " one of these"
        )
    if name == "pylock.toml" or (name.startswith("pylock.") and name.endswith(".toml")):
        from envguard.lockfiles.pylock import read_pylock

        return read_pylock(read_text(path), path, target)
    if _is_toml(name):
        from envguard.lockfiles.uv import read_uv

        return read_uv(read_text(path), path, target)
    from envguard.lockfiles.requirements import read_frozen

    return read_frozen(path, target)


def read_requirements(paths: Sequence[str], target: Target) -> Listed:
    """What some requirements.txt ask for together, with all that they include. Raises BadInput."""
    for path in paths:
        if _is_toml(os.path.basename(path)):
            raise BadInput(f"{path}: --requirements reads requirements.txt: give it as --lock {path}")
    from envguard.lockfiles.requirements import read_asked

    return read_asked(paths, target)


def _is_toml(name: str) -> bool:
    """Whether a file is TOML by its name; requirements.lock is what rye calls its requirements."""
    return name.endswith(".toml") or (name.endswith(".lock") and not name.startswith("requirements"))
