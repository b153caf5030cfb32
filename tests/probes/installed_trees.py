"""Builds folders as pip leaves them: packages with their metadata."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path


def install(
    site: Path,
    name: str,
    version: str = "1.0",
    *,
    files: dict[str, str] | None = None,
    requires: tuple[str, ...] = (),
    python: str | None = None,
    top_level: tuple[str, ...] | None = None,
    record: bool = True,
    project: Path | None = None,
) -> Path:
    """Install a distribution as from a wheel; with `project` as an editable one. Returns its dist-info folder."""
    stem = name.replace("-", "_")
    info = site / f"{stem}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [f"Requires-Python: {python}\n"] if python else []
    lines += [f"Requires-Dist: {line}\n" for line in requires]
    (info / "METADATA").write_text("".join(lines) + "\nLong description.\n\nVersion: 99\n", encoding="utf-8")
    (info / "INSTALLER").write_text("pip\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n")
    if top_level is not None:
        (info / "top_level.txt").write_text("".join(f"{one}\n" for one in top_level))
    if project is not None:
        (info / "direct_url.json").write_text(json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}}))
    listed = []
    for file, text in (files or {}).items():
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        listed.append(f"{file},sha256={digest},{len(text)}\n")
    if record:
        listed += [f"{info.name}/METADATA,,\n", f"{info.name}/RECORD,,\n"]
        (info / "RECORD").write_text("".join(listed), encoding="utf-8")
    return info


def egg_info(folder: Path, name: str, version: str = "1.0", top_level: tuple[str, ...] = ()) -> Path:
    """The metadata that setuptools leaves beside the sources of a project."""
    info = folder / f"{name.replace('-', '_')}.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if top_level:
        (info / "top_level.txt").write_text("\n".join(top_level) + "\n")
    return info


def module(folder: Path, file: str, text: str = "") -> Path:
    """A file somewhere below a folder."""
    target = folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target
