"""What an installer will install, read from a file: requirements.txt, uv.lock, pylock.toml, the output of pip freeze.

`read_lock` and `read_requirements` give what a file lists; `describe` makes an Environment of that and of a target:
what no file can say (`parse_target`). Nothing is installed, fetched or run, and nothing is asked of this machine.
"""

from __future__ import annotations

from envguard.lockfiles.described import describe
from envguard.lockfiles.files import read_lock, read_requirements
from envguard.lockfiles.target import Target, parse_target

__all__ = ["Target", "describe", "parse_target", "read_lock", "read_requirements"]
