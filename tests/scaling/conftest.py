"""Fixtures of the command line's tests: a little world, and a private copy of it as the working folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_world import SWEEP, TINY, fill, write_text


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, two sweeps, and the store of one of them."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(folder / "cache"))
        write_text(folder / "text.txt")
        (folder / "sweep.yaml").write_text(SWEEP.format(text=folder / "text.txt"))
        (folder / "tiny.yaml").write_text(TINY.format(text=folder / "text.txt"))
        fill(folder / "sweep.yaml", folder / "store")
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the world's store and sweeps, as the working folder."""
    monkeypatch.setenv("SCALING_CACHE", str(world / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world / "store", "store")
    for name in ("sweep.yaml", "tiny.yaml"):
        shutil.copy(world / name, name)
    return tmp_path
