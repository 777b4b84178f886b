"""Recipes scored on the same items, several seeds each: what tells them apart, by items and by seeds.

A run has a score and what the score would be on bootstrap draws of the items (documents, sentences, pairs), the same
draws for every run, so that a difference between runs is paired. A contrast Σ_g c_g · mean_s y_gs over groups of runs
that differ by their seed alone has the variance

    v = v_items + v_seeds,  v_items = Var over draws of Σ_g c_g · mean_s y_gs,  v_seeds = s² Σ_g c_g²/S_g,

s² pooled over all groups on ν degrees of freedom, and Student's interval on ν (v/v_seeds)² of them (Satterthwaite 1946,
Biometrics Bull. 2:110).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.replicates import Pooled, pooled, student
from analysis.types import Array, Estimate, Plain, Status

DRAWS = 400
SEED = 20_160_229
_MOST_DOF = 1e6


class Scored(NamedTuple):
    """A run's score, and what it would be on each draw of the items, (B,)."""

    value: float
    draws: Array

    def log(self) -> Scored:
        """Its logarithm, so that a contrast is a relative difference."""
        return Scored(math.log(self.value), np.log(self.draws))


@lru_cache(maxsize=8)
def _times(items: int, draws: int) -> Array:
    """How often each item is in each draw, (B, K)."""
    chosen = np.random.default_rng(SEED).integers(0, items, (draws, items))
    found = np.zeros((draws, items))
    for row, drawn in zip(found, chosen, strict=True):
        row += np.bincount(drawn, minlength=items)
    return found


def ratio(sums: ArrayLike, counts: ArrayLike, draws: int = DRAWS) -> Scored:
    """Σ sums / Σ counts over items (K,): a mean loss of documents, or with counts of 1 a share of right answers."""
    s, n = (np.asarray(a, dtype=np.float64) for a in (sums, counts))
    times = _times(len(s), draws)
    return Scored(float(s.sum() / n.sum()), np.asarray((times @ s) / (times @ n)))


def given(value: float, draws: int = DRAWS) -> Scored:
    """A score whose items are not known: exact but for the seeds."""
    return Scored(value, np.full(draws, value))


@dataclass(frozen=True)
class Contrast(Plain):
    """Σ_g c_g · mean_s y_gs with its interval; `not_resolved` where 0 is inside it, or nothing tells the noise."""

    value: Estimate
    se_items: float
    se_seeds: float
    runs: int
    status: Status
    reason: str = ""


def seed_noise(groups: Sequence[Sequence[Scored]]) -> Pooled:
    """The deviation of a score between seeds, pooled over groups of runs that differ by nothing else."""
    names = [k for k, group in enumerate(groups) for _ in group]
    return pooled(names, [run.value for group in groups for run in group])


def contrast(
    terms: Sequence[tuple[float, Sequence[Scored]]], noise: Pooled, level: float = 0.9, *, scale: float = 1.0
) -> Contrast:
    """The contrast of groups with their weights c_g, times `scale`.

    Args:
        terms: weight and runs of each group; every run scored on the same items.
        noise: of `seed_noise`, over these groups and any others of the same metric.
        level: nominal coverage.
        scale: 100 for percent or points.
    """
    runs = sum(len(group) for _, group in terms)
    if not terms or any(len(group) == 0 for _, group in terms):
        return Contrast(
            Estimate.missing(level), math.nan, math.nan, runs, Status.TOO_FEW_POINTS, "a recipe has no scored run"
        )
    value = scale * sum(c * float(np.mean([r.value for r in group])) for c, group in terms)
    drawn = np.sum([c * np.mean([r.draws for r in group], axis=0) for c, group in terms], axis=0)
    items = scale * scale * float(drawn.var(ddof=1))
    if noise.dof < 1:
        nan = Estimate(value, (math.nan, math.nan), level)
        return Contrast(nan, math.sqrt(items), math.nan, runs, Status.NOT_RESOLVED, "no recipe was run with two seeds")
    seeds = (scale * noise.sd) ** 2 * sum(c * c / len(group) for c, group in terms)
    total = items + seeds
    dof = min(noise.dof * (total / seeds) ** 2, _MOST_DOF) if seeds > 0 else _MOST_DOF
    half = student(dof, level) * math.sqrt(total)
    found = Estimate(value, (value - half, value + half), level)
    return Contrast(found, math.sqrt(items), math.sqrt(seeds), runs, *found.told_from())


def slope_weights(x: ArrayLike) -> Array:
    """Weights (n,) whose contrast of y at x is the slope of its least-squares line: (x − x̄)/Σ(x − x̄)²."""
    centred = np.asarray(x, dtype=np.float64) - np.mean(np.asarray(x, dtype=np.float64))
    return np.asarray(centred / np.square(centred).sum())
