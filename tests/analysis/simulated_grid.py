"""Sweeps over size with known L(N, S_min), B_crit(L) and L(N, D): the exponents of every measurement are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from simulated_batches import store_row

A, ALPHA = 7.0, 0.12
STEPS, BETA = 40.0, 0.6
"""L = A N^-ALPHA + STEPS S_min^-BETA."""
B, ALPHA_B = 4e4, 0.25
"""B_crit = B L^(-1/ALPHA_B)."""
SIZES = tuple(float(round(n)) for n in np.geomspace(3e3, 1e6, 8))


def loss_of(n, s_min):
    return A * n**-ALPHA + STEPS * s_min**-BETA


def curve_sweep(
    *, sizes=SIZES, batch=512, seeds=2, sigma=0.004, tokens=4e7, points=40, seed=0, schedule="constant"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and curves of constant-rate runs, each run's log loss shaken as a whole."""
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    for n in sizes:
        s_min = np.geomspace(1.0, 1e7, 4000)
        loss = loss_of(n, s_min)
        steps = s_min * (1 + B * loss ** (-1 / ALPHA_B) / batch)
        for s in range(seeds):
            at = np.unique(np.round(np.geomspace(32, tokens / batch, points)))
            seen = np.interp(np.log(at), np.log(steps), loss) * np.exp(sigma * rng.standard_normal())
            run_id = f"{n:.0f}-{s}"
            rows.append(
                store_row(
                    run_id, n, at[-1] * batch, float(seen[-1]), batch_tokens=batch, seed=s, schedule=schedule,
                    warmup_fraction=0.002, architecture="decoder",
                )
            )  # fmt: skip
            part = {"run_id": run_id, "step": at.astype(int), "tokens": at * batch, "flops": 6.0 * n * at * batch}
            curves.append(pd.DataFrame({**part, "loss": seen}))
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)


JOINT = {"A": 8.0, "alpha": 0.11, "B": 30.0, "beta": 0.2}


def data_sweep(*, sizes=(2e4, 1e5, 5e5), seeds=2, sigma=0.004, seed=0) -> pd.DataFrame:
    """Rows of runs on limited unique data that follow Kaplan's joint law."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in sizes:
        for d in 2.0 ** np.arange(14, 26, 2):
            truth = (JOINT["A"] * n ** -JOINT["alpha"]) ** (1 / JOINT["beta"]) + JOINT["B"] ** (1 / JOINT["beta"]) / d
            truth = truth ** JOINT["beta"]
            for s in range(seeds):
                best = float(truth * np.exp(sigma * rng.standard_normal()))
                row = store_row(f"{n:.0f}-{d:.0f}-{s}", n, 4.0 * d, best * 1.05, seed=s)
                rows.append(row | {"tokens_unique": d, "loss_best": best, "epochs": 1.0 if d == 2**24 else 4.0})
    return pd.DataFrame(rows)
