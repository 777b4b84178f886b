"""Measures this machine: a handful of shapes through the public training path, as many processes at once as trials.

The driver starts the processes, waits until all are ready, lets them go together and takes medians: trials that run at
the same time share memory and power, and one measured alone would look faster than it will be.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.calibration import (
    CACHED_COMPILE_SECONDS,
    Calibration,
    Measured,
    Shape,
    at_once,
    fitted,
    load,
    machine_facts,
    save,
)

EAGER_SHAPES = (
    (2, 16, 128),
    (3, 64, 128),
    (4, 112, 128),
    (3, 48, 256),
    (3, 32, 512),
    (2, 96, 512),
    (3, 128, 1024),
    (3, 32, 2048),
)
COMPILED_SHAPES = ((3, 104, 128), (3, 24, 512), (3, 64, 512), (3, 32, 2048))
GPU_SHAPES = ((2, 64, 2048), (4, 256, 8192), (8, 512, 16384), (4, 256, 65536))
"""Layers, width, tokens of a step."""

SLICE_SECONDS = 0.1
SLICES = 4
WARM_STEPS = 4
MATMUL_SIZE = 1024
PATIENCE_SECONDS = 120.0
"""How long the processes may take to come up; compiling may take as long for each shape."""


def measure(
    workers: int, *, precision: str = "bf16", compiled: bool = False, say: Callable[[str], None] = lambda text: None
) -> Calibration | None:
    """Measures and keeps a calibration for `workers` trials at once; None where it could not be done (said why)."""
    count = at_once(workers)
    say(f"measuring how fast {count} trial{'s' * (count > 1)} at once run here (some seconds, kept for later plans)")
    try:
        results = _run_processes(count, precision, compiled)
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError, KeyError) as error:
        say(f"could not measure: {error}; the plan's times follow the shipped table")
        return None
    points = []
    for group in zip(*(r["points"] for r in results), strict=True):
        seconds = statistics.median(p["seconds"] for p in group)
        points.append(Measured(Shape(**group[0]["shape"]), group[0]["compiled"], seconds))
    # What an earlier measurement compiled comes from the cache, and says nothing of a cold compilation.
    compile_times = [s for r in results for s in r["compile_s"] if s > 2 * CACHED_COMPILE_SECONDS]
    calibration = fitted(
        points,
        matmul_flops_per_s=statistics.median(r["matmul_flops_per_s"] for r in results),
        compile_s=statistics.median(compile_times) if compile_times else None,
        concurrency=count,
        precision=precision,
        machine={**machine_facts(), "device": results[0]["device"]},
    )
    save(calibration)
    return calibration


def calibrate(
    workers: int,
    *,
    precision: str = "bf16",
    when: str = "missing",
    compiled: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Calibration:
    """The calibration to plan by.

    `when`: `never` takes the cached one or the shipped table, `missing` measures where nothing is cached, `always`
    measures. Compiled graphs are measured where asked for, and again where an earlier measurement left them compiled.
    """
    found = load(workers, precision)
    if when == "always" or (when == "missing" and found is None):
        found = (
            measure(
                workers,
                precision=precision,
                compiled=compiled or (found is not None and found.compiled_measured),
                say=say,
            )
            or found
        )
    return found or Calibration()


def _run_processes(count: int, precision: str, compiled: bool) -> list[dict[str, Any]]:
    """The answers of `count` processes that measure at the same time."""
    _corpus()  # Made once, before anybody needs it.
    with tempfile.TemporaryDirectory(prefix="scaling-measure-") as scratch:
        command = [sys.executable, "-m", "sweeps.measure", precision, "compiled" if compiled else "eager"]
        processes = [
            subprocess.Popen(
                [*command, f"{scratch}/{i}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for i in range(count)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                if b"ready" not in process.stdout.readline():
                    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
                    raise RuntimeError((errors.decode(errors="replace").strip().splitlines() or ["it died"])[-1])
            limit = PATIENCE_SECONDS * (1 + len(COMPILED_SHAPES) * compiled)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
                process.stdin.flush()
            for process in processes:
                _, errors = process.communicate(timeout=limit)
                if process.returncode:
                    raise RuntimeError((errors.decode(errors="replace").strip().splitlines() or ["it died"])[-1])
            return [json.loads(Path(f"{scratch}/{i}.json").read_text()) for i in range(count)]
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()


def _corpus() -> Any:
    from scaling.corpora.markov import Markov
    from scaling.corpora.prepare import prepare
    from scaling.tokenizers.byte import Byte

    return prepare(Markov(order=1, symbols=8, n_documents=512, document_length=512), Byte())


def _trial(n_layer: int, width: int, batch_tokens: int, precision: str) -> Any:
    from scaling.trial import Trial
    from sweeps.recipes.small_v1 import heads

    return Trial.model_validate(
        {
            "architecture": {"type": "decoder", "n_layer": n_layer, "d_model": width, "n_head": heads(width)},
            "objective": {"type": "causal"},
            "corpus": {
                "type": "markov",
                **{"order": 1, "symbols": 8, "n_documents": 512, "document_length": 512},
            },
            "optimizer": {"type": "adamw", "lr": 1e-4},
            "batch_tokens": batch_tokens,
            "steps": 1_000_000,
            "precision": precision,
            "repeat": True,
        }
    )


def _worker(precision: str, compiled: bool, scratch: Path) -> dict[str, Any]:
    """One process: every shape in turn, through the same `JobRunner` that trains a sweep."""
    from scaling.execution import can_compile, prepare_process, substitute
    from scaling.store import Store

    prepare_process()
    import torch

    cuda = torch.cuda.is_available()
    store = Store.create(scratch)
    computed = substitute(precision, cuda) or precision
    matmul = _matmul_rate("cuda" if cuda else "cpu", computed)
    print("ready", flush=True)
    sys.stdin.readline()
    shapes = [(s, False) for s in (GPU_SHAPES if cuda else EAGER_SHAPES)]
    if compiled and can_compile() is None and precision != "fp64":
        shapes += [(s, True) for s in (GPU_SHAPES if cuda else COMPILED_SHAPES)]
    points, compile_s = [], []
    for number, (shape, as_graph) in enumerate(shapes):
        started = time.perf_counter()
        point, warm_s = _measured(_trial(*shape, precision), as_graph, store, f"{number:016x}")
        if as_graph:
            compile_s.append(max(0.0, time.perf_counter() - started - warm_s))
        points.append(point)
    return {
        "points": points,
        "compile_s": compile_s,
        "matmul_flops_per_s": max(matmul, _matmul_rate("cuda" if cuda else "cpu", computed)),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
    }


def _measured(trial: Any, compiled: bool, store: Any, run_id: str) -> tuple[dict[str, Any], float]:
    """Seconds of a step of one trial, and how long measuring them took."""
    from dataclasses import asdict

    from scaling.execution import choose_execution
    from scaling.job import Job, Planned
    from scaling.job_runner import JobRunner

    corpus = _corpus()
    size = corpus.vocabulary.size
    execution = choose_execution(trial, size, compile_trials=compiled)
    planned = Planned(
        trial=trial,
        run_id=run_id,
        lineage=run_id,
        data_digest=corpus.digest,
        sweep="calibration",
        execution=execution,
        vocab_size=size,
    )
    runner = JobRunner(Job(planned=(planned,)), store)
    while (state := runner.advance(SLICE_SECONDS / 2)).step < WARM_STEPS:
        if state.statuses:
            raise RuntimeError(f"a trial of width {trial.architecture.d_model} did not train")
    began = time.perf_counter()
    # A trial on one thread is timed by its own processor time, so that other people's work here does not count.
    clock = time.process_time if execution.device == "cpu" and execution.threads == 1 else time.perf_counter
    found = []
    for _ in range(SLICES):
        before, started = state.step, clock()
        state = runner.advance(SLICE_SECONDS)
        found.append((clock() - started) / max(1, state.step - before))
    store.clear_running(run_id)
    shape = Shape.of(trial, size, execution.micro_batch_tokens)
    point = {"shape": asdict(shape), "compiled": execution.compiled, "seconds": statistics.median(found)}
    return point, time.perf_counter() - began


def _matmul_rate(device: str, precision: str) -> float:
    """FLOP/s of square matrix products, the best of some: what no training step can exceed."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}[precision]
    n = MATMUL_SIZE * (8 if device == "cuda" else 1)
    a = torch.ones(n, n, dtype=dtype, device=device)
    best = 0.0
    for _ in range(6):
        started = time.perf_counter()
        b = a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - started))
        del b
    return best


if __name__ == "__main__":
    _precision, _mode, _scratch = sys.argv[1:]
    _found = _worker(_precision, _mode == "compiled", Path(_scratch))
    Path(f"{_scratch}.json").write_text(json.dumps(_found))
