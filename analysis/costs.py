"""What a run costs beyond N·D: C = kappa(N)·N·D, with kappa fitted from the rows, and the optimum under such a cost.

Under 6ND kappa is 6 and the optimum has a closed form. Exact FLOPs of a Transformer hold terms that grow slower than
N (attention scores, head), so kappa = k0 + k1 N^-1/3 + k2 N^-2/3, as width grows like N^1/3 at a fixed aspect ratio
(cf. Pearce and Song 2024, arXiv 2406.12907, for counts); it is smooth, and tends to a constant outside the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.laws.base import Array
from analysis.laws.chinchilla import Chinchilla, Optimum


@dataclass(frozen=True, eq=False)
class CostSurface:
    """kappa(N) = Σ_k coefficients[k] (N/centre)^(−k/3); `misfit` is its largest relative error over the rows."""

    coefficients: Array
    centre: float
    misfit: float

    @property
    def constant(self) -> bool:
        """Whether C is simply proportional to N·D."""
        return self.coefficients.size == 1

    def log_kappa(self, log_n: Array) -> tuple[Array, Array, Array]:
        """ln kappa and its first and second derivatives with respect to ln N."""
        powers = -np.arange(self.coefficients.size) / 3.0
        u = np.exp(np.asarray(log_n)[..., None] * powers - powers * np.log(self.centre)) * self.coefficients
        value, first, second = u.sum(-1), (u * powers).sum(-1), (u * powers**2).sum(-1)
        value = np.maximum(value, 1e-300)
        slope = first / value
        return np.log(value), slope, second / value - slope**2

    def flops(self, params: Array, tokens: Array) -> Array:
        """FLOPs of runs of these sizes and tokens."""
        return np.exp(self.log_kappa(np.log(params))[0]) * params * tokens


def fit_cost(params: Array, tokens: Array, flops: Array) -> CostSurface:
    """The cost surface of rows (n,) each, by least squares on the relative error."""
    kappa = flops / (params * tokens)
    centre = float(np.exp(np.log(params).mean()))
    mean = float(np.exp(np.log(kappa).mean()))
    if np.abs(kappa / mean - 1).max() < 1e-6:
        return CostSurface(np.array([mean]), centre, 0.0)
    for size in range(min(3, np.unique(params).size), 0, -1):
        design = (params / centre)[:, None] ** (-np.arange(size) / 3.0)
        coefficients = np.linalg.lstsq(design / kappa[:, None], np.ones(kappa.size), rcond=None)[0]
        far = np.geomspace(params.min() / 1e3, params.max() * 1e6, 60)[:, None]
        if ((far / centre) ** (-np.arange(size) / 3.0) @ coefficients > 0).all():
            break
    misfit = float(np.abs(design @ coefficients / kappa - 1).max())
    return CostSurface(np.asarray(coefficients, dtype=np.float64), centre, misfit)


def optimum(law: Chinchilla, params: Mapping[str, Array | float], flops: Array, cost: CostSurface) -> Optimum:
    """N*, D*, L* at budgets `flops` where C = kappa(N) N D; `params` and budgets broadcast.

    Sets d/dlnN of A N^−alpha + B (C/(kappa N))^−beta to zero by Newton's method on the log of the two terms' ratio,
    which is monotone in ln N as long as C grows with N.
    """
    kappa = float(np.exp(cost.log_kappa(np.log(np.array(cost.centre)))[0]))
    first = law.frontier(params, flops, kappa)
    if cost.constant:
        return first
    alpha, beta = np.asarray(params["alpha"]), np.asarray(params["beta"])
    with np.errstate(all="ignore"):
        left = np.log(alpha) + np.log(params["A"])
        right = np.log(beta) + np.log(params["B"])
        log_c = np.log(flops)
        log_n = np.log(first.params)
        for _ in range(60):
            log_kappa, slope, bend = cost.log_kappa(log_n)
            tilt = np.maximum(1.0 + slope, 1e-3)
            gap = left - alpha * log_n - right - np.log(tilt) - beta * (log_kappa + log_n - log_c)
            move = np.clip(gap / np.maximum(alpha + beta * tilt + bend / tilt, 1e-6), -1.0, 1.0)
            log_n = log_n + move
            if np.max(np.abs(np.nan_to_num(move))) < 1e-13:
                break
        n = np.exp(log_n)
        d = np.exp(log_c - cost.log_kappa(log_n)[0] - log_n)
    return Optimum(n, d, law.predict(params, params=n, tokens=d))
