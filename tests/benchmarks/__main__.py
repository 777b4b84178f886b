"""Runs benchmarks and writes their tables to results/benchmarks: all, or by name (`python -m tests.benchmarks fit`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "results" / "benchmarks"
NAMES = (
    "step",
    "precision",
    "dtypes",
    "dropout",
    "cross_entropy",
    "profile",
    "growth",
    "sweep",
    "gpu",
    "planning",
    "fit",
    "coverage",
    "rolling",
    "checks",
    "schedule_laws",
    "known_answers",
    "kaplan",
    "coordinate_check",
    "soak",
)


def main(names: list[str]) -> None:
    """Runs the benchmarks of these names (none: every one) and writes their tables."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        text = importlib.import_module(f"tests.benchmarks.{name}").table()
        (OUT / f"{name}.md").write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
