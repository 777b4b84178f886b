"""bf16 against float32: the same trials in both, over a ladder of sizes and several seeds, by final held-out loss.

The difference of a pair (same trial, same seed, same text) is set against the spread between seeds: precision is proved
where the mean difference is smaller than the standard deviation of a seed at every size.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LADDER = ((16, 2, 1), (32, 3, 2), (48, 3, 3), (64, 3, 4), (96, 3, 6))
SEEDS, STEPS, BATCH_TOKENS, PROCESSES = 6, 1500, 512, 2


def loss(width: int, layers: int, heads: int, precision: str, seed: int) -> float:
    """Final held-out loss of one trial."""
    import tempfile

    from tests.benchmarks.worlds import decoder, final_loss, planned

    trial = decoder(
        width,
        layers,
        heads,
        batch_tokens=BATCH_TOKENS,
        steps=STEPS,
        precision=precision,
        seed=seed,
        heldout="nested",
        lr=5.6e-3 * 64 / width,
    )
    with tempfile.TemporaryDirectory() as folder:
        return final_loss(Path(folder) / "store", planned(trial, compiled=True))


def _losses(wanted: list[tuple[tuple[int, int, int], str, int]]) -> list[float]:
    """Losses of the trials wanted; two processes at a time share them."""
    code = (
        "import json, sys; from tests.benchmarks.precision import loss\n"
        "print(json.dumps([loss(*shape, precision, seed) for shape, precision, seed in json.loads(sys.argv[1])]))"
    )
    parts = [wanted[i::PROCESSES] for i in range(PROCESSES)]
    running = [
        subprocess.Popen([sys.executable, "-c", code, json.dumps(p)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for p in parts
    ]
    answers = [json.loads(p.communicate()[0].splitlines()[-1]) for p in running]
    found: list[float] = [0.0] * len(wanted)
    for i, answer in enumerate(answers):
        found[i::PROCESSES] = answer
    return found


def table() -> str:
    """The table, as Markdown."""
    wanted = [(shape, p, seed) for shape in LADDER for p in ("bf16", "fp32") for seed in range(SEEDS)]
    found = dict(zip(wanted, _losses(wanted), strict=True))
    lines = [
        "# bf16 against float32: final held-out loss, nats per byte",
        "",
        f"{STEPS} steps of {BATCH_TOKENS} bytes of Python source, cosine, {SEEDS} seeds (initialisation and data",
        "order); paired by seed. Command: `python -m tests.benchmarks precision`.",
        "",
        "| width × layers | bf16 | float32 | difference, mean ± s.e. | largest | sd between seeds | within |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in LADDER:
        half, full = ([found[shape, p, seed] for seed in range(SEEDS)] for p in ("bf16", "fp32"))
        gaps = [a - b for a, b in zip(half, full, strict=True)]
        mean, error = statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(SEEDS)
        spread = math.sqrt((statistics.variance(half) + statistics.variance(full)) / 2)
        verdict = "yes" if abs(mean) < spread else "no"
        lines.append(
            f"| {shape[0]} × {shape[1]} | {statistics.mean(half):.4f} | {statistics.mean(full):.4f} |"
            f" {mean:+.4f} ± {error:.4f} | {max(gaps, key=abs):+.4f} | {spread:.4f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"
