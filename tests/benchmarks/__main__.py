"""Runs every benchmark and writes its table to results/benchmarks."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import fit, step

OUT = Path(__file__).resolve().parents[2] / "results" / "benchmarks"


def main() -> None:
    """Runs and writes."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, benchmark in (("step", step), ("fit", fit)):
        text = benchmark.table()
        (OUT / f"{name}.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
