"""The gradient's noise scale B_noise = tr Σ/|G|² along training, an independent look at the critical batch.

McCandlish et al. 2018 (arXiv 1812.06162) eq. 2.9: in tokens it should agree with B_crit to within a small factor. The
estimates of |G|² and tr Σ at one step are noisy and their ratio biased, so both are averaged over neighbouring points
before they are divided (ibid. A.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.replicates import Pooled, log_mean
from analysis.trajectories import Trajectory, targets_between, trajectories
from analysis.types import Array, Dropped, Estimate, Plain, Status
from scaling.errors import TableError

if TYPE_CHECKING:
    import pandas as pd

SIGNAL, NOISE, RATIO = "gradient_squared", "gradient_noise", "gradient_noise_scale"
WINDOW = 5
"""Neighbouring points over which |G|² and tr Σ are averaged."""
TARGETS = 8


@dataclass(frozen=True)
class NoisePoint(Plain):
    """The noise scale (tokens) at a loss (nats): geometric mean over `runs` runs, its interval from their spread."""

    loss: float
    noise_scale: Estimate
    runs: int


@dataclass(frozen=True)
class NoiseScale(Plain):
    """The noise scale by loss."""

    points: tuple[NoisePoint, ...]
    status: Status
    reason: str = ""
    dropped: tuple[Dropped, ...] = ()


def noise_scale(
    evals: pd.DataFrame, curves: pd.DataFrame, targets: Sequence[float] | None = None, *, level: float = 0.9
) -> NoiseScale:
    """The gradient noise scale of some runs at the losses where they passed.

    Args:
        evals: run_id, metric, x (step), value, with the metrics `gradient_squared` (|G|²) and `gradient_noise` (tr Σ,
            in tokens), or `gradient_noise_scale`, their ratio.
        curves: of the same runs; see `measure_critical_batch`.
        targets: losses in nats; by default eight that most of the runs pass.
        level: nominal coverage of the intervals, over runs.

    Raises:
        TableError: a column is missing.
    """
    lacking = [c for c in ("run_id", "metric", "x", "value") if c not in evals.columns]
    if lacking:
        raise TableError(f"evals lack {', '.join(lacking)}; a store's evals have them")
    mine = evals[evals["metric"].isin([SIGNAL, NOISE, RATIO])]
    ids = [str(r) for r in dict.fromkeys(mine["run_id"])]
    paths, dropped = trajectories(curves, ids)
    series = {r: _smoothed(part) for r, part in mine.groupby(mine["run_id"].astype(str), sort=False) if r in paths}
    if not series:
        reason = f"no run has the metrics {SIGNAL} and {NOISE}, or {RATIO}, and a curve"
        return NoiseScale((), Status.NEEDS_CURVES, reason, dropped)
    targets = targets_between([[paths[r]] for r in series], TARGETS) if targets is None else targets
    points = []
    for target in sorted(targets, reverse=True):
        logs = np.array([_at(target, paths[r], *series[r]) for r in series])
        logs = logs[np.isfinite(logs)]
        if logs.size:
            sd = float(logs.std(ddof=1)) if logs.size > 1 else math.nan
            points.append(NoisePoint(target, log_mean(np.exp(logs), Pooled(sd, logs.size - 1), level), int(logs.size)))
    if not points:
        return NoiseScale((), Status.TOO_FEW_POINTS, "no run passes a target where its noise was measured", dropped)
    return NoiseScale(tuple(points), Status.CONVERGED, "", dropped)


def _smoothed(part: pd.DataFrame) -> tuple[Array, Array]:
    """Steps (m,) and ln B_noise (m,), NaN where the averaged |G|² is not positive."""
    wide = part.pivot_table(index="x", columns="metric", values="value", aggfunc="mean").sort_index()
    steps = wide.index.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if {SIGNAL, NOISE} <= set(wide.columns):
            signal, noise = (_moving_mean(wide[c].to_numpy(dtype=np.float64)) for c in (SIGNAL, NOISE))
            ratio = np.where((signal > 0) & (noise > 0), noise / signal, np.nan)
        elif RATIO in wide.columns:
            ratio = wide[RATIO].to_numpy(dtype=np.float64)
        else:
            ratio = np.full(steps.size, np.nan)
        return steps, np.where(ratio > 0, np.log(ratio), np.nan)


def _moving_mean(values: Array) -> Array:
    half = np.minimum(WINDOW // 2, np.minimum(np.arange(values.size), values.size - 1 - np.arange(values.size)))
    return np.array([np.nanmean(values[i - h : i + h + 1]) for i, h in enumerate(half)])


def _at(target: float, path: Trajectory, steps: Array, log_ratio: Array) -> float:
    """ln B_noise at the step where the loss passes the target, NaN outside the steps measured."""
    tokens = path.reaches(target)
    known = np.isfinite(log_ratio)
    if not math.isfinite(tokens) or known.sum() < 2:
        return math.nan
    step = float(np.exp(np.interp(math.log(tokens), np.log(path.tokens), np.log(path.steps))))
    return float(np.interp(math.log(step), np.log(steps[known]), log_ratio[known], left=math.nan, right=math.nan))
