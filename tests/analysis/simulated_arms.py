"""A family of sizes whose head weighs more the smaller they are, trained under protocols of known exponents."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.protocols import Arm

VOCABULARY = 4096
WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
BUDGETS = (1.25e12, 2.5e12, 5e12, 1e13)
E, A, B, ALPHA, BETA = 1.5, 60.0, 400.0, 0.35, 0.42
FIRST, LONGEST = 5e5, 4e7
"""Tokens of a long run's curve."""


def row(width: int, tokens: float, name: str, loss: float, **more) -> dict[str, object]:
    """A row as a store gives it."""
    blocks, head = 36 * width**2, VOCABULARY * width
    counts = {"total": blocks + 2 * head, "non_embedding": blocks, "non_embedding_head": blocks + head}
    found: dict[str, object] = {
        "run_id": f"{name}-{width}-{tokens:.0f}",
        "status": "finished",
        "reason": "",
        "architecture": "decoder",
        "objective": "causal",
        "tokenizer": "bpe",
        "d_model": width,
        "seed": 0,
        "lr": 0.01,
        "batch_tokens": 2048,
        "tokens_unique": 1e8,
        "tokens": tokens,
        "steps": tokens / 2048,
        "loss": loss,
        "loss_se": 0.02,
        "flops_exact": per_token(width) * tokens,
        "schedule": "cosine",
        "warmup_fraction": 0.0,
    }
    found |= {f"params_{c}": v for c, v in counts.items()} | {
        f"flops_6nd_{c}": 6 * v * tokens for c, v in counts.items()
    }
    return found | more


def per_token(width: int) -> float:
    """Exact FLOPs a token, attention over a window of 128 included."""
    return 3.0 * (2.0 * (36 * width**2 + VOCABULARY * width) + 1536.0 * width)


def loss_of(width, tokens, handicap: float = 0.0):
    """The surface of blocks and head; `handicap` (in tokens) is lost at the start of every run."""
    size = 36.0 * width**2 + VOCABULARY * width
    return E + A * size**-ALPHA + B * np.maximum(np.asarray(tokens, dtype=float) - handicap, 1.0) ** -BETA


def ended(name: str, *, handicap: float = 0.0, sigma: float = 0.0, seed: int = 0, budgets=BUDGETS) -> Arm:
    """Runs matched to their budgets, seven widths about the best."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in budgets:
        losses = [float(loss_of(d, c / per_token(d), handicap)) for d in WIDTHS]
        centre = int(np.clip(np.argmin(losses), 3, len(WIDTHS) - 4))
        for d in WIDTHS[centre - 3 : centre + 4]:
            tokens = c / per_token(d)
            loss = float(loss_of(d, tokens, handicap)) * np.exp(sigma * rng.standard_normal())
            rows.append(row(d, tokens, name, loss, budget=c))
    return Arm(name, name, pd.DataFrame(rows))


def midway(
    name: str, *, handicap: float = 0.0, sigma: float = 0.0, seed: int = 0, count="non_embedding_head", cost="exact"
) -> Arm:
    """One long run a width with its curve, each log loss shaken as a whole; the same runs whatever the counting."""
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    for d in WIDTHS:
        shake = np.exp(sigma * rng.standard_normal())
        at = np.geomspace(FIRST, LONGEST, 60)
        seen = loss_of(d, at, handicap) * shake
        made = row(d, LONGEST, "long", float(seen[-1]))
        rows.append(made)
        part = {"run_id": made["run_id"], "step": (at / 2048).round().astype(int), "tokens": at, "loss": seen}
        curves.append(pd.DataFrame({**part, "flops": per_token(d) * at}))
    return Arm(name, name, pd.DataFrame(rows), count, cost, pd.concat(curves, ignore_index=True))


def exponent(handicap: float = 0.0, count: str = "non_embedding_head", budgets=BUDGETS) -> float:
    """The slope of ln N* over ln C (exact) on the surface, by a dense search over widths."""
    widths = np.geomspace(WIDTHS[0], WIDTHS[-1], 4000)
    sizes = {"non_embedding": 36 * widths**2, "non_embedding_head": 36 * widths**2 + VOCABULARY * widths}[count]
    best = [sizes[np.argmin(loss_of(widths, c / np.array([per_token(w) for w in widths]), handicap))] for c in budgets]
    return float(np.polyfit(np.log(budgets), np.log(best), 1)[0])
