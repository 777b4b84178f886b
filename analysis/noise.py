"""Seed noise: how the standard deviation of a run's log loss depends on N and D, from cells run more than once.

ln σ = s0 + s1 ln N + s2 ln D where the cells determine it, a constant where they do not: sample variances of repeated
cells follow σ² χ²_ν/ν, so the fit is a gamma regression with a logarithmic link, each cell weighted by its degrees of
freedom (McCullagh and Nelder 1989, Generalized Linear Models, ch. 8). Porian et al. 2024 (arXiv 2406.19146) take noise
to grow with the loss, from .2 % to 5 %; here the runs themselves say how it varies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.types import Array
from scaling.errors import InputError

if TYPE_CHECKING:
    from analysis.table import Runs

MIN_DOF_SLOPES = 8
"""Degrees of freedom of repeats below which σ is one number for the whole table."""
_MIN_CELLS_A_SLOPE = 3
_MOST_SLOPE = 1.0
"""|d ln σ / d ln x| is held below this: steeper is a fluke of few repeats, and would give single rows all weight."""


@dataclass(frozen=True, eq=False)
class SeedNoise:
    """`sigma` (n,), the sd of each row's log loss, on `dof` degrees of freedom of `cells` repeated cells."""

    sigma: Array
    dof: int
    cells: int
    slopes: Mapping[str, float]

    @property
    def relative(self) -> Array:
        """1/sigma (n,), with a mean square of 1: what residuals are multiplied with so that all are equally noisy."""
        return relative_precision(self.sigma)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a fit's diagnostics."""
        return {
            "sigma_range": [float(self.sigma.min()), float(self.sigma.max())],
            "degrees_of_freedom": self.dof,
            "repeated_cells": self.cells,
            "slopes_of_log_sigma": dict(self.slopes),
        }


def relative_precision(sigma: Array) -> Array:
    """1/sigma (n,), scaled to a mean square of 1.

    Raises:
        InputError: a standard deviation that is not positive and finite.
    """
    if not (np.isfinite(sigma) & (sigma > 0)).all():
        at = int(np.flatnonzero(~(np.isfinite(sigma) & (sigma > 0)))[0])
        raise InputError(
            f"row {at}: the noise that should weight it is {sigma[at]}, not a positive number; leave weights out"
        )
    precision = sigma.min() / sigma
    return np.asarray(precision / np.sqrt(np.mean(precision**2)))


def seed_noise(x: Mapping[str, Array], loss: Array, cells: Array | None = None) -> SeedNoise | None:
    """The seed noise of rows at variables `x` (n,) each with losses (n,); None where no cell is repeated.

    Args:
        x: what noise may depend on, positive: params and tokens.
        loss: nats.
        cells: (n,) or (n, k), equal for rows that differ by their seed alone; equal `x` where not given.
    """
    names = [v for v in x if np.ptp(np.log(x[v])) > 1e-9]
    logs = np.stack([np.log(x[v]) for v in x], axis=1)
    where = np.unique(logs if cells is None else cells, axis=0, return_inverse=True)[1].reshape(-1)
    count = np.bincount(where)
    sums = np.bincount(where, np.log(loss))
    squares = np.bincount(where, (np.log(loss) - (sums / count)[where]) ** 2)
    at = np.flatnonzero((count >= 2) & (squares > 0))
    if at.size == 0:
        return None
    nu = (count[at] - 1).astype(float)
    variance = squares[at] / nu
    first = np.array([int(np.flatnonzero(where == c)[0]) for c in at])
    centre = {v: float(np.log(x[v])[first].mean()) for v in names}
    slopes: dict[str, float] = {}
    log_sigma = np.full(loss.size, 0.5 * np.log(float(nu @ variance / nu.sum())))
    known = [v for v in names if np.ptp(np.log(x[v])[first]) > 1e-9]
    if known and nu.sum() >= MIN_DOF_SLOPES and at.size >= _MIN_CELLS_A_SLOPE * len(known):
        design = np.stack([np.ones(at.size), *(np.log(x[v])[first] - centre[v] for v in known)], axis=1)
        if np.linalg.cond(design.T @ design) < 1e8:
            found = _gamma_regression(design, variance, nu)
            constant = np.append(2 * log_sigma[0], np.zeros(len(known)))
            if _deviance(design @ constant, variance, nu) - _deviance(design @ found, variance, nu) <= 2 * len(known):
                return SeedNoise(np.exp(log_sigma), int(nu.sum()), int(at.size), {})  # no better by AIC
            slopes = dict(zip(known, np.clip(found[1:] / 2, -_MOST_SLOPE, _MOST_SLOPE).tolist(), strict=True))
            log_sigma = np.full(loss.size, found[0] / 2)
            for v in known:
                low, high = np.log(x[v])[first].min(), np.log(x[v])[first].max()
                log_sigma += slopes[v] * (np.clip(np.log(x[v]), low, high) - centre[v])  # never extrapolated
    return SeedNoise(np.exp(log_sigma), int(nu.sum()), int(at.size), slopes)


_SAME_BUT_SEED = (
    "architecture",
    "objective",
    "corpus",
    "schedule",
    "warmup_fraction",
    "lr",
    "batch_tokens",
    "n_layer",
    "d_model",
    "d_ff",
    "seq_len",
)


def noise_of_runs(runs: Runs, x: Mapping[str, Array], response: Array) -> SeedNoise | None:
    """The seed noise of a table's rows at a law's variables; None where no cell was run more than once.

    A cell's rows agree in the law's variables and in every column of the recipe that the table has.
    """
    columns = [c for c in _SAME_BUT_SEED if c in runs.frame.columns and c not in x]
    texts = [runs.frame[c].astype(str).fillna("") for c in columns]
    recipe = [np.unique(t, return_inverse=True)[1].astype(np.float64) for t in texts]
    sizes = {v: runs.variable(v) for v in ("params", "tokens") if runs.has(v)}
    cells = np.stack([*(np.log(v) for v in (*x.values(), *sizes.values())), *recipe], axis=1)
    return seed_noise(sizes or x, response, cells)


def _deviance(log_variance: Array, variance: Array, nu: Array) -> float:
    """Twice the log likelihood that fitted variances lose against the sample variances."""
    ratio = np.log(variance) - log_variance
    return float(nu @ (np.exp(ratio) - ratio - 1.0))


def _gamma_regression(design: Array, variance: Array, nu: Array) -> Array:
    """Coefficients (K,) of ln E s² = design·b, by iteratively reweighted least squares; the weights are ν/2."""
    b = np.linalg.lstsq(design, np.log(variance) + 1.0 / nu, rcond=None)[0]
    for _ in range(50):
        fitted = design @ b
        gram = (design * (nu / 2)[:, None]).T @ design
        right = (design * (nu / 2)[:, None]).T @ (np.exp(np.log(variance) - fitted) - 1.0)
        step = np.clip(np.linalg.solve(gram + 1e-12 * np.trace(gram) * np.eye(b.size), right), -1.0, 1.0)
        b = b + step
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(b)
