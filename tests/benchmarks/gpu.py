"""A GPU: one compiled trial at a time against packs of many, and the share of the card's bf16 rate by model size.

Where there is no GPU nothing is measured and the table's cells stay blank.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

SHAPES = ((64, 3, 4, 512), (128, 4, 8, 1024), (256, 6, 8, 4096), (384, 6, 6, 8192))
PACKS = (1, 8, 32, 64)
LARGE = (768, 12, 12, 65536)
ROUNDS, SECONDS = 3, 5.0


def rate(width: int, layers: int, heads: int, batch_tokens: int, pack: int) -> float:
    """Tokens a second over all models of a pack (1: one trial alone)."""
    from tests.benchmarks.worlds import decoder, planned, tokens_per_s

    plans = []
    for seed in range(pack):
        plan = planned(decoder(width, layers, heads, batch_tokens=batch_tokens, steps=1_000_000, seed=seed), True)
        plans.append(plan.model_copy(update={"execution": plan.execution.model_copy(update={"pack": pack})}))
    with tempfile.TemporaryDirectory() as folder:
        return tokens_per_s(Path(folder) / "store", SECONDS, *plans)


def card_rate() -> float:
    """The card's own bf16 FLOP/s on square products, 8192 wide."""
    import time

    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(50):
        a @ b
    torch.cuda.synchronize()
    return 50 * 2 * 8192**3 / (time.perf_counter() - started)


def table() -> str:
    """The table, as Markdown."""
    import torch

    from tests.benchmarks.plain import Shape

    here = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if here else "no GPU on the machine that made this table"
    top = card_rate() if here else None
    lines = [
        "# Training on a GPU: packs of one shape against one compiled trial at a time",
        "",
        f"{name}. Tokens a second over all models of a pack, median of {ROUNDS} rounds of {SECONDS:g} s;",
        "ratio to a pack of one. Command: `python -m tests.benchmarks gpu`.",
        "",
        "| width × layers | batch, tokens | " + " | ".join(f"pack of {p}" for p in PACKS) + " | best ratio |",
        "|---" * (len(PACKS) + 3) + "|",
    ]
    for width, layers, heads, batch in SHAPES:
        cells = [""] * len(PACKS)
        best = ""
        if here:
            rates = [statistics.median(rate(width, layers, heads, batch, p) for _ in range(ROUNDS)) for p in PACKS]
            cells, best = [f"{r / 1e6:.2f}M" for r in rates], f"{max(rates) / rates[0]:.1f}"
        lines.append(f"| {width} × {layers} | {batch} | {' | '.join(cells)} | {best} |")
    width, layers, heads, batch = LARGE
    share = ""
    if top is not None:
        flops = Shape(width, layers, heads, batch).flops_per_token
        share = f"{rate(width, layers, heads, batch, 1) * flops / top:.0%} of {top / 1e12:.0f} TFLOP/s"
    lines += [
        "",
        f"One trial of {width} × {layers}, {batch} tokens a step, share of the card's bf16 rate: {share or '(blank)'}",
    ]
    return "\n".join(lines) + "\n"
