"""What a run costs beyond N·D: C = kappa(N)·N·D, with kappa fitted from the rows, and the optimum under such a cost.

Under 6ND kappa is 6 and the optimum has a closed form. Exact FLOPs of a Transformer hold terms that grow slower than
N (attention scores, head), so kappa = k0 + k1 N^-1/3 + k2 N^-2/3, as width grows like N^1/3 at a fixed aspect ratio
(cf. Pearce and Song 2024, arXiv 2406.12907, for counts). Where that does not follow the rows, as under a count that
holds the embeddings, ln kappa is a polynomial in ln N. Either is smooth, and tends to a constant outside the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.laws.base import Array, Law
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

    @property
    def kappa(self) -> float:
        """FLOPs per parameter and token at the rows' mean size."""
        return float(np.exp(self.log_kappa(np.log(np.array(self.centre)))[0]))

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


@dataclass(frozen=True, eq=False)
class PolynomialCost(CostSurface):
    """ln kappa(N) = Σ_k coefficients[k] u^k, u = ln(N/centre), for u in `reach`; beyond it the slope dies away."""

    reach: tuple[float, float] = (0.0, 0.0)

    def log_kappa(self, log_n: Array) -> tuple[Array, Array, Array]:
        """See `CostSurface.log_kappa`."""
        u = np.asarray(log_n, dtype=np.float64) - np.log(self.centre)
        inside = np.clip(u, *self.reach)
        poly = np.polynomial.Polynomial(self.coefficients)
        value, first, second = poly(inside), poly.deriv(1)(inside), poly.deriv(2)(inside)
        beyond = u - inside
        fade = np.exp(-np.abs(beyond) / _FADING)
        outside = beyond != 0.0
        tail = np.sign(beyond) * _FADING * (1.0 - fade)
        bend = np.where(outside, -np.sign(beyond) * first * fade / _FADING, second)
        return value + first * tail, first * np.where(outside, fade, 1.0), bend


_FADING = 3.0
"""E-folds of N beyond the rows within which the slope of a fitted polynomial dies away."""
_SAME = 1e-6
_FOLLOWS = 1e-3
"""Relative error below which a cost surface follows its rows; rounding of tokens and sizes to whole numbers is less."""


def fit_cost(params: Array, tokens: Array, flops: Array) -> CostSurface:
    """The cost surface of rows (n,) each, by least squares on the relative error."""
    kappa = flops / (params * tokens)
    centre = float(np.exp(np.log(params).mean()))
    mean = float(np.exp(np.log(kappa).mean()))
    if np.abs(kappa / mean - 1).max() < _SAME:
        return CostSurface(np.array([mean]), centre, 0.0)
    sizes = np.unique(params).size
    for size in range(min(3, sizes), 0, -1):
        design = (params / centre)[:, None] ** (-np.arange(size) / 3.0)
        coefficients = np.linalg.lstsq(design / kappa[:, None], np.ones(kappa.size), rcond=None)[0]
        far = np.geomspace(params.min() / 1e3, params.max() * 1e6, 60)[:, None]
        if ((far / centre) ** (-np.arange(size) / 3.0) @ coefficients > 0).all():
            break
    misfit = float(np.abs(design @ coefficients / kappa - 1).max())
    found = CostSurface(np.asarray(coefficients, dtype=np.float64), centre, misfit)
    if misfit < _FOLLOWS or sizes < 4:
        return found
    u = np.log(params / centre)
    for degree in range(2, min(7, sizes - 1)):
        fitted = np.asarray(np.polynomial.polynomial.polyfit(u, np.log(kappa), degree), dtype=np.float64)
        error = float(np.abs(np.expm1(np.polynomial.polynomial.polyval(u, fitted) - np.log(kappa))).max())
        if error < 0.5 * found.misfit:  # a term that does not halve the error follows scatter
            found = PolynomialCost(fitted, centre, error, (float(u.min()), float(u.max())))
    return found


def optimum(law: Law, params: Mapping[str, Array | float], flops: Array, cost: CostSurface) -> Optimum:
    """N*, D*, L* at budgets `flops` where C = kappa(N) N D; `params` and budgets broadcast; NaN where there is none.

    Hoffmann's law has a closed form under constant kappa, and otherwise sets d/dlnN of A N^−alpha +
    B (C/(kappa N))^−beta to zero by Newton's method on the log of the two terms' ratio, monotone in ln N as long as C
    grows with N. Any other law of params and tokens is minimised along the budget by bracketing and bisection.
    """
    if isinstance(law, Chinchilla):
        return _chinchilla_optimum(law, params, flops, cost)
    return _searched_optimum(law, params, flops, cost)


def _chinchilla_optimum(
    law: Chinchilla, params: Mapping[str, Array | float], flops: Array, cost: CostSurface
) -> Optimum:
    first = law.frontier(params, flops, cost.kappa)
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


_BELOW, _ABOVE, _COARSE = 20.0, 30.0, 0.25
"""Where the minimum is looked for: e-folds of N below and above the rows' geometric mean, and the spacing."""
_DIFFERENCE = 3e-4
"""Half step of the central difference in ln N: the root is then good to some 1e-8 of N."""


def _searched_optimum(law: Law, params: Mapping[str, Array | float], flops: Array, cost: CostSurface) -> Optimum:
    values = {k: np.asarray(v, dtype=np.float64) for k, v in params.items()}
    shape = np.broadcast_shapes(np.shape(flops), *(v.shape for v in values.values()))
    log_c = np.broadcast_to(np.log(np.asarray(flops, dtype=np.float64)), shape)

    def along(log_n: Array, more: int = 0) -> Array:
        """Log loss at ln N, of `shape` with `more` axes behind it."""
        ahead = (...,) + (None,) * more
        log_d = log_c[ahead] - cost.log_kappa(log_n)[0] - log_n
        loss = law.predict({k: v[ahead] for k, v in values.items()}, params=np.exp(log_n), tokens=np.exp(log_d))
        return np.asarray(np.log(loss))

    centre = float(np.log(cost.centre))
    grid = np.arange(centre - _BELOW, centre + _ABOVE, _COARSE)
    with np.errstate(all="ignore"):
        coarse = along(np.broadcast_to(grid, (*shape, grid.size)), 1)
        at = np.where(np.isfinite(coarse), coarse, np.inf).argmin(axis=-1)
        inside = (at > 0) & (at < grid.size - 1)
        low, high = grid[np.maximum(at - 1, 0)], grid[np.minimum(at + 1, grid.size - 1)]
        for _ in range(40):
            middle = (low + high) / 2
            rising = along(middle + _DIFFERENCE) > along(middle - _DIFFERENCE)
            low, high = np.where(rising, low, middle), np.where(rising, middle, high)
        log_n = np.where(inside, (low + high) / 2, np.nan)
        log_d = log_c - cost.log_kappa(log_n)[0] - log_n
        return Optimum(np.exp(log_n), np.exp(log_d), np.exp(along(log_n)))
