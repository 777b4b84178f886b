"""Whether muP and CompleteP do what they are for: coordinates move alike at every size, and one rate is best at all.

The first table is the coordinate check of Yang et al. 2022 (arXiv 2203.03466) by width and of Dey et al. 2025 (arXiv
2505.01618) by depth; the second trains a few widths at rates a factor of two apart and asks where the best one lies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tests.scaling.coordinates import KINDS, by_depth, by_width, slopes

WIDTHS, DEPTHS = (32, 64, 128, 256, 512), (2, 4, 8, 16)
LR, STEPS, SEEDS = 4e-3, 4, 2
TOLERANCE = 0.2
"""Of a slope: a factor of 1.15 for each doubling."""

BASIN_WIDTHS, BASIN_STEPS, BASIN_TOKENS = (32, 64, 128), 150, 512
RATES = tuple(2.0**power for power in range(-10, -2))
SEQ_LEN, WARMUP, LAST = 64, 15, 30


def _row(what: str, sizes: Sequence[int], found: Sequence[Mapping[str, float]], judged: bool) -> str:
    slope = slopes(sizes, found)
    worst = max(abs(s) for s in slope.values())
    verdict = ("yes" if worst <= TOLERANCE else "no") if judged else ""
    return f"| {what} | {' | '.join(f'{slope[kind]:+.2f}' for kind in KINDS)} | {worst:.2f} | {verdict} |"


def coordinates() -> list[str]:
    """Slopes of log rms change on log size, by kind of activation."""
    given: dict[str, Any] = {"lr": LR, "steps": STEPS, "seeds": SEEDS}
    rows = []
    for kind in ("decoder", "encoder"):
        for name in ("standard", "mup"):
            rows.append(_row(f"{kind}, {name}, by width", WIDTHS, by_width(name, WIDTHS, kind=kind, **given), True))
    for name in ("standard", "mup"):
        found = by_width(name, WIDTHS, heads=4, **given)
        rows.append(_row(f"decoder, {name}, by width, always four heads", WIDTHS, found, False))
    for name in ("standard", "mup", "completep"):
        rows.append(_row(f"decoder, {name}, by depth", DEPTHS, by_depth(name, DEPTHS, **given), True))
    header = ["", *(kind.replace("_", " ") for kind in KINDS), "largest", f"all within {TOLERANCE}"]
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *rows]


def basin(width: int, parametrisation: str) -> list[float]:
    """Training loss, nats per byte, at each rate: all rates side by side as one pack on the same batches."""
    from scaling.corpora.order import gather
    from scaling.corpora.prepare import prepare
    from scaling.job import Execution
    from scaling.step import StepFunction
    from tests.benchmarks.worlds import decoder

    shape: dict[str, Any] = {"type": "decoder", "n_layer": 2, "d_model": width, "n_head": width // 8}
    shape["seq_len"] = SEQ_LEN
    if parametrisation != "standard":
        shape |= {"parametrisation": parametrisation, "base_width": BASIN_WIDTHS[0], "base_head": 8}
    trial = decoder(width, 2, 1, batch_tokens=BASIN_TOKENS, steps=BASIN_STEPS, precision="fp32", architecture=shape)
    corpus = prepare(trial.corpus, trial.tokenizer)
    models = len(RATES)
    function = StepFunction(trial, corpus.vocabulary.size, Execution(attention="manual", pack=models))
    theta = function.initial([trial] * models, corpus.vocabulary.size)
    state, rng = trial.optimizer.state(theta), np.random.default_rng(0)
    rates, scale = torch.tensor(RATES), torch.tensor(1.0 / BASIN_TOKENS)
    losses = []
    for step in range(1, BASIN_STEPS + 1):
        starts = rng.integers(0, corpus.n_train - SEQ_LEN - 1, BASIN_TOKENS // SEQ_LEN)
        batch = trial.objective.train_batch(gather(corpus.train, starts, SEQ_LEN + 1), corpus.vocabulary, rng)
        result = function.step(theta, function.to_device([batch] * models), scale)
        losses.append(result.loss)
        norm = result.grad.norm(dim=1, keepdim=True)
        grad = result.grad * (1.0 / norm).clamp(max=1.0)
        shape_of_rate = min(1.0, step / WARMUP, (BASIN_STEPS - step + 1) / (BASIN_STEPS - WARMUP))
        trial.optimizer.update(theta, grad, state, function.layout.stretches, step, rates * shape_of_rate)
    return [float(x) for x in torch.stack(losses[-LAST:]).mean(0)]


def best_rate(losses: Sequence[float]) -> float:
    """log2 of the best rate: the vertex of a parabola through the least loss and its neighbours; the end, at an end."""
    finite = [x if math.isfinite(x) else math.inf for x in losses]
    at = int(np.argmin(finite))
    place = math.log2(RATES[at])
    if 0 < at < len(RATES) - 1 and math.isfinite(finite[at - 1] + finite[at + 1]):
        left, here, right = finite[at - 1 : at + 2]
        place += 0.5 * (left - right) / (left - 2 * here + right)
    return place


def basins() -> list[str]:
    """Losses by rate and width, and how the best rate moves for each doubling of the width."""
    header = ["", "width", *(f"2^{math.log2(rate):.0f}" for rate in RATES), "best rate", "its power of the width"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name in ("standard", "mup"):
        found = {width: basin(width, name) for width in BASIN_WIDTHS}
        best = {width: best_rate(losses) for width, losses in found.items()}
        power = np.polyfit(np.log2(BASIN_WIDTHS), list(best.values()), 1)[0]
        for width, losses in found.items():
            cells = " | ".join(f"{x:.3f}" if math.isfinite(x) else "diverged" for x in losses)
            last = f"{power:+.2f}" if width == BASIN_WIDTHS[-1] else ""
            lines.append(f"| {name} | {width} | {cells} | 2^{best[width]:.2f} | {last} |")
    return lines


def table() -> str:
    """Markdown: both tables."""
    torch.set_num_threads(1)
    lines = [
        "# Coordinate check and learning-rate basins: standard, muP and CompleteP",
        "",
        f"Change of activations after {STEPS} steps of AdamW at {LR:g} on one repeated batch of a random chain of 32",
        f"symbols, {SEEDS} seeds: slope of log rms on log width ({', '.join(map(str, WIDTHS))}; two layers, heads of",
        f"8) or depth ({', '.join(map(str, DEPTHS))} at width 32); the first size is the base model. Criterion: every",
        f"slope within {TOLERANCE} of 0. With four heads at every width the heads widen, and scores q·k·√base_head/k",
        "move by a random part ∝ k^-1/2 beside the aligned one, which shows at these widths; no criterion there.",
        "",
        *coordinates(),
        "",
        f"Training loss (nats per byte, mean of the last {LAST} of {BASIN_STEPS} steps of {BASIN_TOKENS} bytes of",
        f"Python source; two layers; linear warmup and decay) by peak rate; base width {BASIN_WIDTHS[0]}:",
        "",
        *basins(),
        "",
        "Command: `python -m tests.benchmarks coordinate_check`.",
        "",
    ]
    return "\n".join(lines)
