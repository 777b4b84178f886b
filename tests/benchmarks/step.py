"""Tokens per second of our training loop against a plain eager float32 GPT of the same shape, one thread a process.

Two processes of one side run at once, one a core, as trials of a sweep do; sides alternate within a round. Ours is the
harness's own loop: data, step, clipping, optimizer, losses. Ceilings are this machine's own bf16 matrix products,
measured between the rounds in the same way.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.plain import Shape

ROOT = Path(__file__).resolve().parents[2]
SHAPES = (
    Shape(32, 2, 2, 2048),
    Shape(32, 2, 2, 512),
    Shape(64, 3, 4, 2048),
    Shape(64, 3, 4, 512),
    Shape(128, 4, 8, 2048),
    Shape(128, 4, 8, 512),
    Shape(256, 4, 8, 2048),
    Shape(384, 6, 12, 2048),
    Shape(128, 4, 8, 2048, vocab=4096, seq_len=256),
)
PROCESSES, ROUNDS, SECONDS = 2, 3, 4.0


def our_rate(shape: Shape, seconds: float, compiled: bool) -> float:
    """Tokens per second of the harness's loop on real text (vocabulary 256: bytes; else BPE)."""
    import tempfile

    from scaling.corpora.prepare import prepare
    from scaling.execution import choose_execution
    from scaling.job import Job, Planned
    from scaling.job_runner import JobRunner
    from scaling.store import Store
    from scaling.trial import Trial

    tokenizer = {"type": "byte"} if shape.vocab == 256 else {"type": "bpe", "vocab_size": shape.vocab}
    trial = Trial.model_validate(
        {
            "architecture": {
                "type": "decoder",
                "n_layer": shape.layers,
                "d_model": shape.width,
                "n_head": shape.heads,
                "seq_len": shape.seq_len,
            },
            "objective": "causal",
            "corpus": "python-v1",
            "tokenizer": tokenizer,
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "batch_tokens": shape.batch_tokens,
            "steps": 1_000_000,
            "repeat": True,
        }
    )
    corpus = prepare(trial.corpus, trial.tokenizer)
    planned = Planned(
        trial=trial,
        run_id=trial.run_id(corpus.digest),
        lineage=trial.lineage(corpus.digest),
        data_digest=corpus.digest,
        sweep="benchmark",
        execution=choose_execution(trial, corpus.vocabulary.size, compile_trials=compiled),
        vocab_size=corpus.vocabulary.size,
    )
    with tempfile.TemporaryDirectory() as folder:
        runner = JobRunner(Job(planned=(planned,)), Store.create(Path(folder) / "store"), checkpoint_seconds=1e9)
        runner.advance(1.0)
        assert runner.run is not None
        before, started = runner.run.step, time.perf_counter()
        runner.advance(seconds)
        return (runner.run.step - before) * shape.batch_tokens / (time.perf_counter() - started)


def ceiling(seconds: float) -> float:
    """FLOP/s of square bf16 products of one thread, 1024 wide."""
    import torch

    from tests.benchmarks.plain import rate_of

    torch.set_num_threads(1)
    a, b = (torch.randn(1024, 1024).bfloat16() for _ in range(2))
    return rate_of(lambda: a @ b, 2 * 1024**3, seconds)


def pair(call: str, processes: int = PROCESSES) -> float:
    """Mean over processes at once of what `call`, an expression of this module or `plain`, gives."""
    code = (
        "import json; from tests.benchmarks.step import *; from tests.benchmarks import plain\n"
        f"print(json.dumps({call}))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(processes)
    ]
    found = []
    for process in running:
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{call}: {err[-2000:]}")
        found.append(float(json.loads(out.splitlines()[-1])))
    return statistics.mean(found)


def measure(shapes: tuple[Shape, ...] = SHAPES, rounds: int = ROUNDS) -> list[dict[str, object]]:
    """Rates of every side by shape, tokens per second a process: plain, eager, compiled and, where installed, jax."""
    sides = {
        "plain": "plain.torch_rate({}, SECONDS)",
        "eager": "our_rate({}, SECONDS, False)",
        "compiled": "our_rate({}, SECONDS, True)",
    }
    if importlib.util.find_spec("jax"):
        sides["jax"] = "plain.jax_rate({}, SECONDS)"
    found: list[dict[str, object]] = []
    for shape in shapes:
        our_rate(shape, 0.1, True)  # compiles and prepares the text before anything is timed
        rates: dict[str, list[float]] = {side: [] for side in sides}
        ceilings = []
        for _ in range(rounds):
            ceilings.append(pair("ceiling(1.0)"))
            for side, call in sides.items():
                rates[side].append(pair(call.format(f"plain.{shape}")))
        found.append({"shape": shape._asdict(), "rates": rates, "ceiling": ceilings})
    return found


def table() -> str:
    """The table, as Markdown; a figure and the numbers are written beside it."""
    from tests.benchmarks.roofline import draw, render

    found = measure()
    out = ROOT / "results" / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    (out / "step.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, out / "step")
    return render(found)
