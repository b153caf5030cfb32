"""What the tests of the backends share."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

_cache = pytest.StashKey[str]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test of what a CPU cannot run skips there for a reason of its own, also where its backend is required."""
    if (config.getoption("envguard_device") or "auto").startswith("cuda"):
        return
    for item in items:
        if item.get_closest_marker("only_on_cuda"):
            item.add_marker(pytest.mark.skip(reason="only on CUDA"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What the files say about their imports is found out once a session: a test here asks for it several times.

    A hook, because our plugin looks before any fixture is made.
    """
    if not item.path.is_relative_to(Path(__file__).parent):
        return (yield)
    if _cache not in item.config.stash:
        item.config.stash[_cache] = folder = tempfile.mkdtemp(prefix="envguard-tests-")
        item.config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    folder = item.config.stash[_cache]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVGUARD_CACHE", "1")
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", *(["HOME"] if sys.platform == "darwin" else [])):
            patch.setenv(name, folder)
        return (yield)
