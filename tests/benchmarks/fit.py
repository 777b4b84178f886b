"""Fit speed: Hoffmann's law to 240 rows against scipy's BFGS from Hoffmann's 4,500 starts, extrapolated from some."""

from __future__ import annotations

import itertools
import statistics
import time

import numpy as np
import pandas as pd
from scipy.optimize import minimize

ROWS, NOISE, STARTS, DRAWS, ROUNDS = 240, 0.01, 20, 1000, 3
DELTA = 1e-3


def sample() -> pd.DataFrame:
    """A synthetic table on Hoffmann's published surface with 1 % noise."""
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(5e7), np.log(1.5e10), ROWS))
    tokens = np.exp(rng.uniform(np.log(1e9), np.log(5e11), ROWS))
    loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss * np.exp(NOISE * rng.standard_normal(ROWS))})


def objective(theta: np.ndarray, frame: pd.DataFrame) -> float:
    """Hoffmann's D.2: sum of Huber on log loss, LSE form; theta = (a, b, e, alpha, beta)."""
    a, b, e, alpha, beta = theta
    terms = np.stack(
        [a - alpha * np.log(frame.params), b - beta * np.log(frame.tokens), np.full(len(frame), e)], axis=0
    )
    top = terms.max(axis=0)
    residual = np.abs(top + np.log(np.exp(terms - top).sum(axis=0)) - np.log(frame.loss))
    return float(np.where(residual <= DELTA, 0.5 * residual**2, DELTA * (residual - 0.5 * DELTA)).sum())


def table() -> str:
    """The table, as Markdown."""
    from analysis import fit

    frame = sample()
    grid = list(
        itertools.product(
            (0, 5, 10, 15, 20, 25), (0, 5, 10, 15, 20, 25), (-1, -0.5, 0, 0.5, 1), *[(0, 0.5, 1, 1.5, 2)] * 2
        )
    )
    rng = np.random.default_rng(1)
    ours, draws, theirs, best = [], [], [], np.inf
    for _ in range(ROUNDS):
        started = time.perf_counter()
        result = fit(frame, law="chinchilla", bootstrap=0)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        fit(frame, law="chinchilla", bootstrap=DRAWS)
        draws.append(time.perf_counter() - started)
        started = time.perf_counter()
        for index in rng.choice(len(grid), STARTS, replace=False):
            found = minimize(objective, np.array(grid[index], dtype=float), args=(frame,), method="BFGS")
            best = min(best, float(found.fun))
        theirs.append((time.perf_counter() - started) / STARTS * len(grid))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return "\n".join(
        [
            "# Fitting Hoffmann's law to 240 rows",
            "",
            f"Median of {ROUNDS} rounds, one process. Command: `make benchmarks`.",
            "",
            "| what | seconds | objective |",
            "|---|---|---|",
            f"| ours, to the global optimum | {statistics.median(ours):.3f} | {result.objective_value:.9f} |",
            f"| ours, with {DRAWS} bootstrap draws | {statistics.median(draws):.2f} | |",
            f"| scipy BFGS, numeric gradient, {len(grid)} starts (from {STARTS}) | {statistics.median(theirs):.0f} "
            f"| {best:.9f} (best of {STARTS * ROUNDS}) |",
            "",
            f"Ratio of one fit: {ratio:.0f}.",
            "",
        ]
    )
