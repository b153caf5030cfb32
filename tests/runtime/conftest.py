"""What the tests of the backends share."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test of what a CPU cannot run skips there for a reason of its own, also where its backend is required."""
    if (config.getoption("envguard_device") or "auto").startswith("cuda"):
        return
    for item in items:
        if item.get_closest_marker("only_on_cuda"):
            item.add_marker(pytest.mark.skip(reason="only on CUDA"))
