"""A frontier whose draws are refits to losses that were moved by given amounts, in one call of its approach."""

from __future__ import annotations

import numpy as np

from analysis.approaches import get_approach
from analysis.approaches.base import Task
from analysis.bootstrap import Resamples
from analysis.checks.base import Subject
from analysis.table import Runs
from analysis.types import Array, Frontier


def moved_frontier(subject: Subject, runs: Runs, approach: str, moved: Array) -> Frontier:
    """The frontier of `runs` (n) with a draw for each row of `moved` (B, n), changes of the fitted log losses."""
    draws, n = moved.shape
    resamples = Resamples("seeds", subject.seed, draws, shocks=moved, sigma=np.ones(n))
    count = subject.count if runs.conventions else "total"
    return get_approach(approach).frontier(Task(runs, count, runs.cost_name(subject.cost), subject.level, resamples))


def moved_values(found: Frontier, flops: float) -> Array:
    """Exponent of N* and ln N* at `flops` of each draw, (B, 2)."""
    exponent = found.draws["N_exponent"]
    return np.stack([exponent, found.draws["log_N_coefficient"] + exponent * np.log(flops)], axis=1)


def spread(values: Array) -> Array:
    """Standard deviation of each column (K,) over the finite draws (B, K); NaN where fewer than half are."""
    kept = values[np.isfinite(values).all(axis=1)]
    if len(kept) < max(2, len(values) / 2):
        return np.full(values.shape[1], np.nan)
    return np.asarray(kept.std(axis=0, ddof=1))
