"""The code blocks of a Markdown file, and what its comments say about them.

python .ci/readme.py NAME prints the command that the README marks `<!-- command: NAME -->`.

An HTML comment on the line before a block says who runs it:
`<!-- command: NAME -->` .ci/tests does; `<!-- not run: REASON -->` nobody; `<!-- run: pytest -->` a test does, with
pytest; no comment, a test does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Block(NamedTuple):
    """One fenced block."""

    line: int
    language: str
    mark: str
    text: str


def blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text, with the comment on the line before it."""
    found = []
    lines = text.splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = lines[start - 1].strip() if start else ""
        mark = before[4:-3].strip() if before.startswith("<!--") and before.endswith("-->") else ""
        body = dedent("".join(f"{each}\n" for each in lines[start + 1 : number]))
        found.append(Block(start + 1, lines[start].strip()[3:], mark, body))
        start = None
    if start is not None:
        raise ValueError(f"line {start + 1}: the block has no end")
    return found


def command(text: str, name: str) -> str:
    """The one command marked `<!-- command: NAME -->`."""
    marked = [block.text for block in blocks(text) if block.mark == f"command: {name}"]
    if len(marked) != 1:
        raise ValueError(f"expected one block marked 'command: {name}', found {len(marked)}")
    return marked[0].strip()


def main() -> None:
    """Print the command that the first argument names."""
    print(command((ROOT / "README.md").read_text(encoding="utf-8"), sys.argv[1]))


if __name__ == "__main__":
    main()
