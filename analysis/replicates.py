"""Runs that differ by their seed alone: their pooled standard deviation, and Student's intervals of means by it.

s² = Σ_g Σ_i (y_gi − mean_g)² / Σ_g (n_g − 1) over groups g of replicates: one noise for all groups, since two or three
seeds cannot tell a noise of their own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from analysis.types import Estimate

if TYPE_CHECKING:
    from analysis.table import Runs

_RECIPE = ("architecture", "corpus", "schedule", "unique_tokens", "tokens", "batch_tokens", "lr")


@dataclass(frozen=True)
class Pooled:
    """A standard deviation on `dof` degrees of freedom; NaN on none."""

    sd: float
    dof: int

    def half_width(self, variance: float, level: float) -> float:
        """Half of the Student interval of a value whose variance is `variance` times the pooled one; NaN on none."""
        if self.dof < 1:
            return math.nan
        return student(self.dof, level) * self.sd * math.sqrt(variance)

    def estimate(self, level: float) -> Estimate:
        """The standard deviation with its interval for normal noise, by χ² on `dof` degrees of freedom."""
        from scipy.special import chdtri

        if self.dof < 1:
            return Estimate.missing(level)
        tails = (0.5 - 0.5 * level, 0.5 + 0.5 * level)
        lo, hi = (self.sd * math.sqrt(self.dof / float(chdtri(self.dof, p))) for p in tails)
        return Estimate(self.sd, (lo, hi), level)


def student(dof: float, level: float) -> float:
    """The t beyond which 1 − level of Student's distribution lies, both sides together."""
    from scipy.special import stdtrit

    return float(stdtrit(dof, 0.5 + 0.5 * level))


def pooled(groups: Sequence[Hashable], values: ArrayLike) -> Pooled:
    """The pooled standard deviation of finite values (n,) about the means of their groups (n,)."""
    y = np.asarray(values, dtype=np.float64)
    by_group: dict[Hashable, list[float]] = {}
    for group, value in zip(groups, y, strict=True):
        if math.isfinite(value):
            by_group.setdefault(group, []).append(float(value))
    dof = sum(len(v) - 1 for v in by_group.values())
    if dof == 0:
        return Pooled(math.nan, 0)
    squares = sum(float(np.sum((np.array(v) - np.mean(v)) ** 2)) for v in by_group.values())
    return Pooled(math.sqrt(squares / dof), dof)


def log_mean(values: ArrayLike, noise: Pooled, level: float) -> Estimate:
    """The geometric mean of positive values (n,), with its interval by the pooled noise of their logarithms."""
    y = np.log(np.asarray(values, dtype=np.float64))
    centre, half = float(y.mean()), noise.half_width(1.0 / y.size, level)
    return Estimate(math.exp(centre), (math.exp(centre - half), math.exp(centre + half)), level)


def recipes(runs: Runs, count: str) -> list[tuple[float | str, ...]]:
    """What each run (n,) shares with those that differ from it by their seed alone: size first, then its recipe."""
    columns: list[list[float | str]] = [[float(n) for n in runs.params(count)]]
    for name in _RECIPE:
        if name in ("architecture", "corpus", "schedule"):
            if name in runs.frame.columns:
                columns.append([str(v) for v in runs.frame[name]])
        elif runs.has(name):
            columns.append([float(f"{v:.6g}") for v in runs.variable(name)])
    return list(zip(*columns, strict=True))
