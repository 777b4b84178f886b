"""Simulated stores, which carry every convention of size and cost, on a known surface of total parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sweeps_by_law import LAW

EMBEDDING = 47491.0
"""N_total = N + EMBEDDING·N^(1/3): Pearce and Song 2024 (arXiv 2406.12907), for a vocabulary of 32,000."""


def total(n: np.ndarray) -> np.ndarray:
    """Total parameters of a model with `n` outside its embeddings."""
    return n + EMBEDDING * n ** (1 / 3)


def per_token(n: np.ndarray, convention: str) -> np.ndarray:
    """FLOPs a token: under `exact` with a term like attention's, else 6N under that count."""
    head = EMBEDDING * n ** (1 / 3)
    if convention == "exact":
        return 6 * total(n) + 500 * n ** (2 / 3)
    return 6 * {"total": total(n), "non_embedding": n, "non_embedding_head": n + head / 2}[convention]


def size(n: np.ndarray, count: str) -> np.ndarray:
    """The size of a model under a count."""
    return per_token(n, count) / 6


def rows(
    surface: dict[str, float],
    pairs: list[tuple[float, float]],
    sigma: float = 0.0,
    seed: int = 0,
    nominal: list[float] | None = None,
) -> pd.DataFrame:
    """Rows of runs (non-embedding size, tokens) with losses on the surface of total parameters."""
    n, d = (np.array(x, dtype=float) for x in zip(*pairs, strict=True))
    noise = np.exp(sigma * np.random.default_rng(seed).standard_normal(n.size))
    frame = pd.DataFrame({f"params_{c}": size(n, c) for c in ("total", "non_embedding", "non_embedding_head")})
    frame["tokens"] = d
    frame["flops_exact"] = per_token(n, "exact") * d
    for c in ("total", "non_embedding", "non_embedding_head"):
        frame[f"flops_6nd_{c}"] = per_token(n, c) * d
    frame["loss"] = LAW.predict(surface, params=total(n), tokens=d) * noise
    if nominal is not None:
        frame["budget"] = nominal
    return frame


def best(surface: dict[str, float], flops: float, convention: str) -> float:
    """The non-embedding size of the lowest loss at a cost, found numerically."""

    def loss(log_n: float) -> float:
        n = np.exp(log_n)
        return float(LAW.predict(surface, params=total(n), tokens=flops / per_token(n, convention)))

    return float(np.exp(minimize_scalar(loss, bounds=(2.0, 28.0), method="bounded", options={"xatol": 1e-10}).x))


def ladder(
    surface: dict[str, float],
    budgets: np.ndarray,
    sizes: int = 9,
    ratio: float = 2.0,
    sigma: float = 0.0,
    seed: int = 0,
    repeats: int = 1,
) -> pd.DataFrame:
    """IsoFLOP groups of exact cost whose sizes come from one ladder, so that a size is met at several budgets."""
    pairs = []
    for c in budgets:
        k = round(np.log(best(surface, c, "exact")) / np.log(ratio))
        for j in range(k - sizes // 2, k - sizes // 2 + sizes):
            n = ratio**j
            pairs += [(n, c / per_token(n, "exact"))] * repeats
    return rows(surface, pairs, sigma, seed)
