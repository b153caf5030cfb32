"""Writes .github/terminal.svg, the picture in the README: what a terminal shows of a real check of a recorded machine.

python tests/maintain/picture.py
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.terminal_theme import MONOKAI  # noqa: E402
from rich.text import Text  # noqa: E402

import envguard  # noqa: E402
from envguard.output.text import render  # noqa: E402

MACHINE = ROOT / "tests" / "machines" / "all-backends-cpu.json"
PICTURE = ROOT / ".github" / "terminal.svg"
SPECS, HOST, DEVICE = ("torchao:int8wo", "gguf", "modelopt"), "diffusers", "cpu"
WIDTH = 88
# one font that every system has instead of one fetched from elsewhere, and nothing else of rich's frame but the title
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="envguard check">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px; \
line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>\
</clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture() -> str:
    """The picture's SVG."""
    machine = envguard.Environment.from_json(MACHINE.read_text(encoding="utf-8"))
    report = envguard.check(*SPECS, host=HOST, device=DEVICE, environment=machine)
    command = f"$ envguard check {' '.join(f'--backend {spec}' for spec in SPECS)} --device {DEVICE}"
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="standard")
    console.print(Text(f"{command}\n"), soft_wrap=True)
    console.print(Text.from_ansi(render(report, color=True, width=WIDTH)))
    svg = console.export_svg(title="envguard", theme=MONOKAI, code_format=_FORMAT, unique_id="envguard")
    return "\n".join([line.rstrip() for line in svg.splitlines() if line.strip()]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8", newline="\n")
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KiB")
