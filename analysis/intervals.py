"""Intervals from draws: percentile, and bias-corrected and accelerated (BCa; Efron 1987, JASA 82:171).

Where draws are skewed or lie off the estimate, the percentile interval errs twice in the same direction; BCa mends that
to second order. Its bias correction z0 needs nothing but the estimate and its draws. Its acceleration comes from the
draws as well: their regression on what each row was given in each draw yields every row's influence (Efron and
Narasimhan 2020, J. Comput. Graph. Stat. 29:608), so that no further fits are needed. Draws of normal noise about a
fixed design have no acceleration: the score of their family has no skewness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np

from analysis.types import Array, Estimate

Interval = Literal["bca", "percentile", "profile"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)
MIN_DRAWS = 10
"""Fewer finite draws than this give no interval."""

_QUANTILE: Literal["weibull"] = "weibull"
"""The (B + 1)p-th smallest of B draws: the one that a new draw falls below with probability p."""
_MOST_BIAS = 1.5
"""Beyond this bias correction, in standard deviations of the draws, BCa's ends rest on draws that are not there."""


def percentile(draws: Array, level: float) -> tuple[float, float]:
    """The central interval of the finite draws; NaN where fewer than half, or than `MIN_DRAWS`, are finite."""
    kept = draws[np.isfinite(draws)]
    if kept.size < max(0.5 * draws.size, MIN_DRAWS):
        return math.nan, math.nan
    tail = 50.0 * (1.0 - level)
    lo, hi = np.percentile(kept, [tail, 100.0 - tail], method=_QUANTILE)
    return float(lo), float(hi)


def estimate(
    value: float, draws: Array, level: float, *, interval: Interval = "bca", acceleration: float = 0.0
) -> Estimate:
    """A value with the interval of its draws (B,)."""
    if interval == "percentile" or not math.isfinite(value):
        return Estimate(float(value), percentile(draws, level), level)
    return Estimate(float(value), bca_accelerated(value, draws, level, acceleration), level)


def bca_accelerated(value: float, draws: Array, level: float, acceleration: float) -> tuple[float, float]:
    """The BCa interval at a known acceleration; the percentile interval where more bias shows than it can mend."""
    plain = percentile(draws, level)
    if not math.isfinite(plain[0]):
        return plain
    kept = draws[np.isfinite(draws)]
    normal = NormalDist()
    below = (float((kept < value).sum()) + 0.5 * float((kept == value).sum())) / kept.size
    z0 = normal.inv_cdf(min(max(below, 0.5 / kept.size), 1 - 0.5 / kept.size))
    if abs(z0) > _MOST_BIAS:
        return plain
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + normal.inv_cdf(tail)
        ends.append(normal.cdf(z0 + z / max(1 - acceleration * z, 1e-6)))
    lo, hi = np.quantile(kept, ends, method=_QUANTILE)
    return float(lo), float(hi)


def bca(value: float, draws: Array, jackknife: Array, level: float) -> tuple[float, float]:
    """The BCa interval whose acceleration is from a `jackknife` that leaves out a cluster a time."""
    kept = draws[np.isfinite(draws)]
    left = jackknife[np.isfinite(jackknife)]
    if kept.size < 0.5 * draws.size or kept.size == 0 or left.size < 3:
        return math.nan, math.nan
    return bca_accelerated(value, draws, level, skewness_of(left.mean() - left))


def skewness_of(influence: Array) -> float:
    """BCa's acceleration, Σ l³ / (6 (Σ l²)^1.5), from every row's influence (n,)."""
    scale = float(np.abs(influence).max(initial=0.0))
    if not scale > 0.0:
        return 0.0
    unit = influence / scale
    return float((unit**3).sum() / (6.0 * (unit**2).sum() ** 1.5))


def accelerations(draws: Mapping[str, Array], given: Array) -> dict[str, float]:
    """The acceleration of each quantity of `draws`, (B,) each, from what the draws gave each row.

    Args:
        draws: quantities by name.
        given: (B, n), each row's count (case), or the sign of its residual (wild); rows of one cluster are alike.

    Returns:
        0 where there are fewer than three draws for each cluster.
    """
    given = np.unique(given, axis=1)
    b, k = given.shape
    if b < 3 * k or k < 3:
        return dict.fromkeys(draws, 0.0)
    centred = given - given.mean(axis=0)
    # Counts sum to a constant, hence a ridge, far below the counts' variance.
    gram = centred.T @ centred
    gram[np.diag_indices(k)] += 1e-6 * np.trace(gram) / k + 1e-300
    counts = bool((given >= 0).all())
    found = {}
    for name, values in draws.items():
        kept = np.isfinite(values)
        y = np.where(kept, values, np.mean(values[kept]) if kept.any() else 0.0)
        lo, hi = np.percentile(y, [1, 99])  # one runaway draw would be the whole regression
        y = np.clip(y, lo, hi)
        slopes = np.linalg.solve(gram, centred.T @ (y - y.mean()))
        found[name] = skewness_of(slopes - slopes.mean() if counts else slopes)
    return found
