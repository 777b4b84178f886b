"""Simulated sweeps on known surfaces, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.laws import get_law

LAW = get_law("chinchilla")
SURFACES = {
    "chinchilla": dict(LAW.instances["besiroglu_2024"]),
    "symmetric": {"E": 1.8, "A": 1000.0, "alpha": 0.35, "B": 1000.0, "beta": 0.35},
    "asymmetric": {"E": 1.8, "A": 300.0, "alpha": 0.28, "B": 6000.0, "beta": 0.42},
}


def exponent(surface: dict[str, float]) -> float:
    return surface["beta"] / (surface["alpha"] + surface["beta"])


def isoflop(
    surface: dict[str, float],
    budgets: np.ndarray,
    sizes: int = 7,
    ratio: float = 2.0,
    sigma: float = 0.0,
    seed: int = 0,
    off_centre: float = 0.0,
) -> pd.DataFrame:
    """`sizes` sizes `ratio` apart about the optimum (shifted by `off_centre` in ln N) at each budget, C = 6ND."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in budgets:
        best = float(LAW.frontier(surface, c).params) * np.exp(off_centre)
        for k in range(sizes):
            n = best * ratio ** (k - (sizes - 1) / 2)
            d = c / 6 / n
            loss = float(LAW.predict(surface, params=n, tokens=d))
            rows.append((n, d, c, loss * np.exp(sigma * rng.standard_normal())))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])


def cosine_curves(
    table: pd.DataFrame, surface: dict[str, float], points: int = 60
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table with run ids, and curves that reach the law's loss only at their end (matched decay)."""
    table = table.assign(run_id=[f"run{i}" for i in range(len(table))])
    parts = []
    for row in table.itertuples():
        tokens = np.linspace(row.tokens / points, row.tokens, points)
        law = LAW.predict(surface, params=row.params, tokens=tokens)
        late = 1 + 0.05 * (1 - tokens / row.tokens)
        parts.append(pd.DataFrame({"run_id": row.run_id, "tokens": tokens, "loss": law * late}))
    return table, pd.concat(parts, ignore_index=True)
