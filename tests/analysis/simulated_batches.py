"""Sweeps over batch and rate on a surface whose critical batch and S_min are known; steps carry the runs' noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

B, ALPHA_B = 9e4, 0.25
"""B_crit = B L^(-1/alpha_B): 9e4 tokens at 1 nat, 5,600 at 2, 1,100 at 3."""
FLOOR, A, ALPHA_S = 1.0, 60.0, 0.6
"""Loss of S_min: FLOOR + A S_min^-ALPHA_S."""
LOSSES = np.linspace(6.0, 1.35, 1200)


def store_row(run_id, n, tokens, loss, *, batch_tokens=512, lr=0.004, seed=0, **more):
    """A finished row as a store gives it, with every convention of size and cost."""
    sizes = {"total": n + 10_000, "non_embedding": n, "non_embedding_head": n + 8_000}
    row = {
        "run_id": run_id,
        "lineage": run_id,
        "status": "finished",
        "reason": "",
        "seed": seed,
        "batch_tokens": batch_tokens,
        "lr": lr,
        "tokens": tokens,
        "steps": tokens / batch_tokens,
        "loss": loss,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "flops_exact": 6.0 * n * tokens,
    }
    row |= {f"params_{c}": v for c, v in sizes.items()} | {f"flops_6nd_{c}": 6.0 * v * tokens for c, v in sizes.items()}
    return row | more


def critical(loss):
    return B * np.asarray(loss, dtype=float) ** (-1 / ALPHA_B)


def least_steps(loss):
    return ((np.asarray(loss, dtype=float) - FLOOR) / A) ** (-1 / ALPHA_S)


def sweep(
    *,
    batches=(128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    rates=(0.25, 0.5, 1.0, 2.0, 4.0),
    seeds=2,
    sigma=0.03,
    tokens=(5e5, 2e8),
    steps=60_000,
    seed=0,
    size=100_000,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and curves of a constant-rate sweep; rate 1 is every batch's best.

    A run ends after so many steps or tokens, tokens[0] at the least.
    """
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    for batch in batches:
        for rate in rates:
            for s in range(seeds):
                slower = np.exp(0.12 * np.log(rate) ** 2 + sigma * rng.standard_normal())
                needed = least_steps(LOSSES) * (1 + critical(LOSSES) / batch) * slower
                last = min(steps, max(tokens[0], min(tokens[1], 6e6 * (batch / 128) ** 0.55)) / batch)
                at = np.unique(np.round(np.geomspace(32, last, 45)))
                loss = np.interp(np.log(at), np.log(needed), LOSSES)
                run_id = f"{size}-{batch}-{rate}-{s}"
                rows.append(
                    store_row(
                        run_id, size, at[-1] * batch, float(loss[-1]), batch_tokens=batch, lr=0.004 * rate, seed=s
                    )
                )
                curves.append(
                    pd.DataFrame(
                        {
                            "run_id": run_id,
                            "step": at.astype(int),
                            "tokens": at * batch,
                            "flops": 6.0 * size * at * batch,
                            "loss": loss,
                        }
                    )
                )
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)
