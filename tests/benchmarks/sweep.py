"""A sweep's wall time against its training time, and what everything around training costs.

The sweep runs on Ray, one trial a core, eager, longest first; each trial trains for over ten seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: overhead
architecture: {type: decoder, seq_len: 128}
objective: causal
corpus: python-v1
heldout: full
recipe: small-v1
seeds: [0, 1]
design:
  type: ladder
  sizes: {widths: [32, 48, 64]}
  tokens_per_parameter: [TOKENS]
"""
TOKENS = 60.0
EMPTY_TRIALS = 40


def seconds_of(work: Callable[[], object], rounds: int = 5) -> float:
    """Median seconds of a call."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def process(code: str) -> float:
    """Median seconds of a Python process that runs `code`."""
    return seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT))


def whole(folder: Path) -> dict[str, float]:
    """A sweep: wall seconds, training, evaluation and compilation seconds summed over trials, trials, workers."""
    import json

    from scaling.store import Store
    from sweeps.run import cores, run_sweep

    file = folder / "overhead.yaml"
    file.write_text(SWEEP.replace("TOKENS", str(TOKENS)))
    started = time.perf_counter()
    run_sweep(file, folder / "store", quiet=True, compile_trials=False)
    wall = time.perf_counter() - started
    rows = Store.open(folder / "store").rows()
    eval_s = sum(json.loads(p)["eval_s"] for p in rows.provenance)
    return {
        "wall": wall,
        "training": float(rows.wall_s.sum()),
        "shortest": float(rows.wall_s.min()),
        "evaluation": eval_s,
        "trials": float(len(rows)),
        "workers": float(cores()),
    }


def launcher(folder: Path) -> float:
    """Seconds a trial that the launcher takes: empty jobs (their rows are there already) through reused workers."""
    from scaling.job import Job
    from scaling.store import Store
    from sweeps.drain import Drain
    from sweeps.launch import run_on_ray
    from sweeps.progress import SweepProgress
    from sweeps.run import cores
    from tests.benchmarks.worlds import decoder, planned, runner

    plan = planned(decoder(16, 1, 1, batch_tokens=128, steps=300, heldout="nested"), compiled=False)
    work = runner(folder / "empty", plan)
    while not work.advance(60.0).done:
        pass
    jobs = [Job(planned=(plan,))] * EMPTY_TRIALS
    assert Store.open(folder / "empty").has(plan.run_id)

    def run(some: list[Job]) -> float:
        started = time.perf_counter()
        with Drain(folder / "empty", None) as drain, SweepProgress("empty", some, 0, quiet=True) as progress:
            run_on_ray(some, folder / "empty", drain, progress, workers=cores())
        return time.perf_counter() - started

    return (run(jobs) - run(jobs[:2])) / (EMPTY_TRIALS - 2)


def around(folder: Path) -> dict[str, float]:
    """Seconds of what stands around training, each on its own."""
    from tests.benchmarks.worlds import decoder, planned, runner

    plan = planned(decoder(64, 3, 4, batch_tokens=512, steps=1_000_000), compiled=False)
    work = runner(folder / "around", plan)
    work.advance(0.5)
    run = work.run
    assert run is not None
    course = run.courses[0]
    step = iter(range(10**9))
    found = {
        "one batch of 512 tokens": seconds_of(lambda: course.batch(next(step)), 200),
        "a checkpoint of 165k parameters": seconds_of(run.save),
        "held-out text scored, 2^20 bytes at width 64": seconds_of(lambda: run.evaluate(0, lambda: False), 1),
    }
    held, _ = run.evaluate(0, lambda: False)
    row = course.row(held, 1.0)
    names = iter(f"{i:016x}" for i in range(10**6))

    def publish() -> None:
        run_id = next(names)
        points = [{**point, "run_id": run_id} for point in course.points(None)]
        work.store.publish({**row, "run_id": run_id}, points, held.evals(run_id) if held else None)

    found["a row written, with curve and evals"] = seconds_of(publish, 10)
    return found


def table() -> str:
    """The table, as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep, empty, parts = whole(folder), launcher(folder), around(folder)
    ideal = (sweep["training"] + sweep["evaluation"]) / sweep["workers"]
    starts = {
        "`import scaling`": process("import scaling"),
        "`import torch`": process("import torch"),
        "`scaling --help`": process(
            "import sys; sys.argv = ['scaling', '--help']; from scaling.cli.main import main; main()"
        ),
        "the launcher before Ray starts (imports, corpus from the cache)": process(
            "from sweeps.run import prepare_sweep; prepare_sweep('sweeps/hoffmann-decoder-toy.yaml')"
        ),
    }
    lines = [
        "# What stands around training",
        "",
        f"A sweep of {sweep['trials']:.0f} trials on {sweep['workers']:.0f} workers,",
        f"the shortest {sweep['shortest']:.0f} s: wall {sweep['wall']:.1f} s;",
        f"over trials, training {sweep['training']:.1f} s and evaluation {sweep['evaluation']:.1f} s;",
        f"wall / (both / workers) = {sweep['wall'] / ideal:.3f}, Ray's start included.",
        f"The launcher takes {1e3 * empty:.0f} ms a trial (empty jobs through reused workers).",
        "Command: `python -m tests.benchmarks sweep`.",
        "",
        "| what | seconds |",
        "|---|---|",
        *(f"| {what} | {s:.4f} |" for what, s in {**starts, **parts}.items()),
    ]
    return "\n".join(lines) + "\n"
