"""Where a model lies: a path, or a hub id in the local cache of huggingface_hub. Nothing is downloaded."""

from __future__ import annotations

import os

from envguard.errors import BadModel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_FILES = 20_000


def locate(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The path that a text means: one that is there, else the snapshot of a hub id (owner/name) in the local cache.

    Raises BadModel: for an id that is not in the cache, or not all of it, with the command that downloads it.
    """
    try:
        if os.path.lexists(text):
            return text
    except ValueError:  # a NUL in it
        raise BadModel(f"{text!r}: expected a path or a hub id such as owner/name") from None
    if not is_hub_id(text):
        raise BadModel(f"{text}: expected a file or folder, or a hub id such as owner/name; found no such path")
    environ = os.environ if environ is None else environ
    cache = cache_folder(environ)
    folder = os.path.join(cache, f"models--{text.replace('/', '--')}")
    download = download_command(text)
    if not os.path.isdir(folder):
        raise BadModel(f"{text}: expected a path, or a model in the cache {cache}; found neither: {download}")
    snapshot = _snapshot(folder)
    if snapshot is None:
        raise BadModel(f"{text}: expected a snapshot in {folder}; found none: {download}")
    missing = _missing(snapshot)
    if missing is not None:
        raise BadModel(f"{text}: expected all of its files in the cache; {missing} is missing: {download}")
    return snapshot


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of a hub id: owner/name."""
    parts = text.split("/")
    return len(parts) == 2 and all(
        0 < len(part) <= 96
        and part.replace("-", "").replace("_", "").replace(".", "").isalnum()
        and part.isascii()
        and part[0] not in "-."
        and ".." not in part
        for part in parts
    )


def cache_folder(environ: Mapping[str, str]) -> str:
    """The folder of the models that huggingface_hub has downloaded (huggingface_hub 2.4, constants.py)."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return os.path.expanduser(environ[name])
    home = environ.get("HF_HOME")
    if not home:
        home = os.path.join(environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface")
    return os.path.join(os.path.expanduser(home), "hub")


def download_command(hub_id: str) -> str:
    """The command that downloads a model, for the huggingface_hub beside us: `hf` came with 0.34."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("huggingface_hub").split(".")
        old = (int(release[0]), int(release[1])) < (0, 34)
    except (PackageNotFoundError, ValueError, IndexError):
        old = False
    return f"{'huggingface-cli' if old else 'hf'} download {hub_id}"


def _snapshot(folder: str) -> str | None:
    snapshots = os.path.join(folder, "snapshots")
    try:
        with open(os.path.join(folder, "refs", "main"), "rb") as file:
            revision = file.read(100).decode("ascii").strip()
        if revision.isalnum() and os.path.isdir(os.path.join(snapshots, revision)):
            return os.path.join(snapshots, revision)
    except (OSError, ValueError):
        pass
    try:
        found = sorted(os.listdir(snapshots))
    except OSError:
        return None
    # no branch of that name was asked for, but one revision is there
    return os.path.join(snapshots, found[0]) if len(found) == 1 else None


def _missing(snapshot: str) -> str | None:
    """The first file of a snapshot that points to nothing."""
    seen = 0
    for folder, _, names in os.walk(snapshot):
        for name in sorted(names):
            seen += 1
            if seen > _MOST_FILES:
                return None
            if not os.path.exists(os.path.join(folder, name)):
                return os.path.relpath(os.path.join(folder, name), snapshot)
    return None
