"""Resampling: which runs, or which noise, each draw sees; and intervals from the draws.

Two schemes. `case` draws runs with replacement, rows of one lineage together (Davison and Hinkley 1997 §3.8), within
each isoFLOP group where there are groups; it assumes nothing of the noise, and needs many runs. `noise` keeps the
design and adds noise to the fitted losses (ibid. §6.2, a parametric residual bootstrap): a sweep with one seed in each
of some five cells of a budget loses its bracket, or its last degree of freedom, in most case draws, so there the design
must stay. Its noise is normal in the log loss, with the residual variance s² on the fit's own degrees of freedom nu
divided by a fresh χ²(nu)/nu in each draw, which for a quantity linear in the losses gives Student's interval, and is
shared within a lineage to the degree that its residuals agree. Every approach sees the same draws of a table, so
differences between approaches are paired.

Simulated coverage of nominal 90 % intervals for the exponent of N* (`noise`, 150 sweeps, .7 % noise, surface of
Besiroglu et al. 2024): 3 budgets x 5 sizes isoflop .93, parametric .91, vpnls .89; 5 x 7 .86, .94, .89. The standard
error of such a figure is .025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.types import Array, Estimate
from scaling.errors import InputError

Scheme = Literal["case", "noise"]
Choice = Literal["auto", "case", "noise"]

MIN_CLUSTERS_PER_BUDGET = 12
"""Fewer runs than this in a budget, and case draws lose brackets: at nine, 90 % intervals covered 98 % (isoflop)."""
MIN_DRAWS = 10
"""Fewer finite draws than this give no interval."""
MIN_CLUSTERS = 60
"""Fewer runs than this without budgets, and case draws of a five-parameter law degenerate."""


@dataclass(frozen=True, eq=False)
class Resamples:
    """B draws of a table of n rows: `weights` (B, n) counts (case), or `shocks` (B, n) of unit variance (noise)."""

    scheme: Scheme
    seed: int
    draws: int
    weights: Array | None = None
    shocks: Array | None = None

    def noise(self, sigma: float, dof: int) -> Array:
        """Noise of the log loss (B, n) where s² = `sigma`² was estimated on `dof` degrees of freedom."""
        assert self.shocks is not None
        chi2 = np.random.default_rng([self.seed, 2]).chisquare(max(dof, 1), self.draws)
        spread = sigma * np.sqrt(max(dof, 1) / np.maximum(chi2, 1e-12)) if dof > 0 else np.full(self.draws, sigma)
        return spread[:, None] * self.shocks

    def new_run(self, sigma: float, dof: int) -> Array:
        """Noise (B,) of the log loss of a run that is not in the table."""
        rng = np.random.default_rng([self.seed, 3])
        scale = np.sqrt(dof / np.maximum(rng.chisquare(dof, self.draws), 1e-12)) if dof > 0 else 1.0
        return sigma * scale * rng.standard_normal(self.draws)

    def take(self, rows: NDArray[np.intp]) -> Resamples:
        """The same draws of some of the rows."""
        return Resamples(
            self.scheme,
            self.seed,
            self.draws,
            None if self.weights is None else self.weights[:, rows],
            None if self.shocks is None else self.shocks[:, rows],
        )


def choose_scheme(clusters: NDArray[np.intp], strata: NDArray[np.intp] | None, choice: Choice) -> Scheme:
    """`case` where every stratum (or the whole table) holds runs enough, else `noise`.

    Raises:
        InputError: no such scheme.
    """
    if choice not in ("auto", "case", "noise"):
        raise InputError(f"there is no bootstrap scheme {choice!r}; there are auto, case, noise")
    if choice != "auto":
        return choice
    if strata is None:
        return "case" if np.unique(clusters).size >= MIN_CLUSTERS else "noise"
    fewest = min(np.unique(clusters[strata == s]).size for s in np.unique(strata))
    return "case" if fewest >= MIN_CLUSTERS_PER_BUDGET else "noise"


def resample(
    clusters: NDArray[np.intp],
    *,
    draws: int,
    seed: int,
    scheme: Scheme,
    strata: NDArray[np.intp] | None = None,
    shared: float = 0.0,
) -> Resamples:
    """Draws of a table whose rows belong to `clusters` (n,) and perhaps to `strata` (n,).

    Args:
        clusters: lineage of each row; rows of one lineage are drawn, or shaken, together.
        draws: how many.
        seed: of the draws; the same seed gives the same draws.
        scheme: `case` or `noise`.
        strata: groups that keep their number of clusters in every draw (case); a lineage in several groups makes one
            stratum of its own kind with every lineage that lies in the same groups.
        shared: share of the noise's variance that a lineage's rows have in common (noise).
    """
    ids, cluster = np.unique(clusters, return_inverse=True)
    rng = np.random.default_rng([seed, 1])
    if scheme == "noise":
        own = rng.standard_normal((draws, cluster.size))
        if shared > 0 and ids.size < cluster.size:
            common = rng.standard_normal((draws, ids.size))[:, cluster]
            own = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
        return Resamples("noise", seed, draws, shocks=own)
    kinds = np.zeros(ids.size, int)
    if strata is not None:
        membership = [tuple(np.unique(strata[cluster == k])) for k in range(ids.size)]
        kinds = np.array([sorted(set(membership)).index(m) for m in membership])
    counts = np.zeros((draws, ids.size))
    for kind in np.unique(kinds):
        at = np.flatnonzero(kinds == kind)
        counts[:, at] = rng.multinomial(at.size, np.full(at.size, 1.0 / at.size), size=draws)
    return Resamples("case", seed, draws, weights=counts[:, cluster])


def shared_noise(residual: Array, clusters: NDArray[np.intp]) -> float:
    """Share of the residual variance common to the rows of a cluster, by products of pairs, in [0, 1]."""
    ids, cluster, size = np.unique(clusters, return_inverse=True, return_counts=True)
    pairs = float((size * (size - 1)).sum())
    if pairs == 0:
        return 0.0
    sums = np.bincount(cluster, residual, ids.size)
    squares = np.bincount(cluster, residual**2, ids.size)
    variance = float(np.mean(residual**2))
    return float(np.clip((sums**2 - squares).sum() / pairs / variance, 0.0, 1.0)) if variance > 0 else 0.0


def percentile(draws: Array, level: float) -> tuple[float, float]:
    """The central interval of the finite draws; NaN where fewer than half, or than `MIN_DRAWS`, are finite."""
    kept = draws[np.isfinite(draws)]
    if kept.size < max(0.5 * draws.size, MIN_DRAWS):
        return math.nan, math.nan
    tail = 50.0 * (1.0 - level)
    lo, hi = np.percentile(kept, [tail, 100.0 - tail])
    return float(lo), float(hi)


def estimate(value: float, draws: Array, level: float) -> Estimate:
    """A value with its percentile interval."""
    return Estimate(float(value), percentile(draws, level), level)


def bca(value: float, draws: Array, jackknife: Array, level: float) -> tuple[float, float]:
    """The bias-corrected, accelerated interval (Efron 1987, JASA 82:171); `jackknife` leaves out a cluster a time."""
    kept = draws[np.isfinite(draws)]
    left = jackknife[np.isfinite(jackknife)]
    if kept.size < 0.5 * draws.size or kept.size == 0 or left.size < 3:
        return math.nan, math.nan
    normal = NormalDist()
    below = (float((kept < value).sum()) + 0.5 * float((kept == value).sum())) / kept.size
    z0 = normal.inv_cdf(min(max(below, 0.5 / kept.size), 1 - 0.5 / kept.size))
    away = left.mean() - left
    spread = float((away**2).sum())
    acceleration = float((away**3).sum()) / (6.0 * spread**1.5) if spread > 0 else 0.0
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + normal.inv_cdf(tail)
        ends.append(normal.cdf(z0 + z / max(1 - acceleration * z, 1e-6)))
    lo, hi = np.quantile(kept, ends)
    return float(lo), float(hi)
