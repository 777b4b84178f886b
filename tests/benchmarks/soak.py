"""A soak of 500 killed drivers: half at seeded moments, half at named points; nothing lost, nothing counted twice.

The storm is that of the tests (tests/sweeps/fault_world.py), ten seeds of fifty kills each. Every store is read after
every kill, and a difference from the unfaulted run, a row without its curve or a damaged file ends it with an error.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

KILLS = 500
SEEDS = 10


def _world() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "sweeps" / "fault_world.py"
    spec = importlib.util.spec_from_file_location("fault_world", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fault_world"] = module
    spec.loader.exec_module(module)
    return module


def table() -> str:
    """The table, as Markdown; raises AssertionError where a kill changed anything."""
    world = _world()
    lines = [
        "# Soak: drivers killed with SIGKILL",
        "",
        f"{KILLS} kills of `scaling run --serial`'s code on a sweep of four trials with checkpoints every 0.2 s; after",
        "each kill the store was read, verified and compared bit for bit with an unfaulted run. Command:",
        "`python -m tests.benchmarks soak`.",
        "",
        "| seed | kills at moments | kills at named points | stores finished | seconds |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SCALING_CACHE"] = str(Path(folder) / "cache")
        for seed in range(1, SEEDS + 1):
            started = time.monotonic()
            place = Path(folder) / str(seed)
            place.mkdir()
            found = world.run_storm(place, KILLS // SEEDS, seed, timeout=3600.0)
            seconds = time.monotonic() - started
            lines.append(f"| {seed} | {found['moments']} | {found['points']} | {found['stores']} | {seconds:.0f} |")
    lines += ["", "No loss differed, no run was lost or counted twice, no file was damaged."]
    return "\n".join(lines) + "\n"
