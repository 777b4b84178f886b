"""What all tests share: no plan measures this machine unless a test asks for it; files that take long come first."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("SCALING_CALIBRATE", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file with a slow test before those without, so that no process is left with one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
