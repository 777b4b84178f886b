"""Tokens and steps to reach a loss, by size; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 2, Zhang et al. (d2l.ai) §11.9.

Larger models reach a loss on fewer tokens. A run that never reaches a target is censored: the tokens it was given are a
lower bound, which is kept, and no mean is taken over it. Intervals are over seeds: their noise of the log loss, pooled
over sizes, becomes one of ln tokens by each curve's own slope, for a flat curve tells less of when it got there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.labels import UNLABELLED, Labels
from analysis.replicates import Pooled, log_mean, pooled, recipes
from analysis.table import Runs, read_table
from analysis.trajectories import Trajectory, targets_between, trajectories
from analysis.types import Array, Dropped, Estimate, Plain, Status, jsonable
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TARGETS = 6
_REACH = 0.25
_FLATTEST = 1e-3
"""A curve flatter than this tells hardly when it reaches a loss; its interval is that of this slope."""


@dataclass(frozen=True)
class Reach:
    """Tokens and steps of one size to one target, at its best rate and batch.

    `reached` of `runs` runs got there. Where fewer than all did, the estimates are unknown and `at_least` (tokens) is
    the geometric mean over runs of what each took or, where it never got there, was given.
    """

    target: float
    params: float
    batch_tokens: float
    tokens: Estimate
    steps: Estimate
    reached: int
    runs: int
    at_least: float
    run_ids: tuple[str, ...]
    slope: float = math.nan
    """−d ln L/d ln tokens there, by which the seeds' noise of the loss becomes that of the tokens."""

    @property
    def censored(self) -> bool:
        """Whether some run never reached the target."""
        return self.reached < self.runs

    def to_json(self) -> dict[str, Any]:
        """All fields and `censored`."""
        return jsonable({**vars(self), "censored": self.censored})


@dataclass(frozen=True)
class TargetSummary(Plain):
    """One target over all sizes.

    `first` is the size that takes the fewest tokens. `ratio` are the tokens of the smallest size over those of the
    largest, with an interval; where the smallest never got there the ratio is unknown and above `ratio_at_least`.
    `sooner` of `pairs` pairs of sizes whose order is known have the larger one first.
    """

    target: float
    first: float
    ratio: Estimate
    ratio_at_least: float
    sooner: int
    pairs: int
    status: Status
    reason: str


@dataclass(frozen=True)
class SampleEfficiency:
    """Every size at every target, targets falling and sizes rising, and each target's summary."""

    reaches: tuple[Reach, ...]
    summaries: tuple[TargetSummary, ...]
    noise: Pooled
    status: Status
    reason: str = ""
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    def to_json(self) -> dict[str, Any]:
        """All fields; `noise` is the seeds' sd of the log loss."""
        return jsonable({**vars(self), "noise": vars(self.noise)})


def measure_sample_efficiency(
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    targets: Sequence[float] | None = None,
    *,
    count: str = "non_embedding",
    level: float = 0.9,
) -> SampleEfficiency:
    """Tokens and steps to reach losses, by size.

    Args:
        rows: a store's rows: sizes, perhaps several rates, batches and seeds each; a size is read at the recipe with
            the lowest mean loss at its end.
        curves: their curves; see `measure_critical_batch`.
        targets: losses in nats; by default six that most sizes reach.
        count: which parameters N counts.
        level: nominal coverage of the intervals, which are over seeds with one noise for all sizes.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: targets that are not positive.
    """
    runs = read_table(rows, needs=("params", "tokens", "batch_tokens", "loss"))
    if targets is not None and not all(math.isfinite(t) and t > 0 for t in targets):
        raise InputError(f"targets {list(targets)} are not all positive losses in nats")
    paths, lost = trajectories(curves, runs.frame["run_id"])
    sizes = _best_recipes(runs, count, paths)
    batch = dict(zip(map(str, runs.frame["run_id"]), runs.variable("batch_tokens"), strict=True))
    dropped = (*runs.dropped, *lost)
    if targets is None:
        targets = targets_between(list(sizes.values()), TARGETS)
    if not sizes or not targets:
        reason = "no run has a curve" if not sizes else "no loss lies on the curves of most sizes"
        return SampleEfficiency((), (), Pooled(math.nan, 0), Status.NEEDS_CURVES, reason, dropped=dropped)
    wanted = sorted(set(targets), reverse=True)
    took = {(t, n): np.array([p.reaches(t) for p in part]) for t in wanted for n, part in sizes.items()}
    noise = _noise(took, sizes)
    # Targets share their runs: noise is known as well as one target's seeds tell it.
    noise = Pooled(noise.sd, noise.dof // len(wanted) if noise.dof >= len(wanted) else noise.dof)
    reaches = tuple(_reach(t, n, sizes[n], took[t, n], batch, noise, level) for t in wanted for n in sizes)
    summaries = tuple(_summary([r for r in reaches if r.target == t], noise, level) for t in wanted)
    notes, labels = [], Labels.of(runs, count, measured=all(p.measured for part in sizes.values() for p in part))
    if noise.dof == 0:
        notes.append("no size was run with several seeds: tokens have no interval")
    if not all(p.measured for part in sizes.values() for p in part):
        notes.append("some curves are smoothed training losses")
    if len(sizes) < 3:
        reason = f"{len(sizes)} sizes; three are the least for a trend"
        return SampleEfficiency(reaches, summaries, noise, Status.TOO_FEW_POINTS, reason, tuple(notes), dropped, labels)
    return SampleEfficiency(reaches, summaries, noise, Status.CONVERGED, "", tuple(notes), dropped, labels)


def _best_recipes(runs: Runs, count: str, paths: dict[str, Trajectory]) -> dict[float, list[Trajectory]]:
    """Curves of each size, rising, of the recipe (rate, batch, horizon) with the lowest mean final loss."""
    groups: dict[float, dict[tuple[float | str, ...], list[int]]] = {}
    ids = [str(r) for r in runs.frame["run_id"]]
    for i, key in enumerate(recipes(runs, count)):
        if ids[i] in paths:
            groups.setdefault(float(key[0]), {}).setdefault(key, []).append(i)
    found = {}
    for n in sorted(groups):
        best = min(groups[n].values(), key=lambda at: float(runs.loss[at].mean()))
        found[n] = [paths[ids[i]] for i in best]
    return found


def _log_losses(part: list[Trajectory], log_tokens: float) -> Array:
    """ln L of each curve at ln tokens."""
    return np.array([np.interp(log_tokens, np.log(p.tokens), np.log(p.loss)) for p in part])


def _noise(took: dict[tuple[float, float], Array], sizes: dict[float, list[Trajectory]]) -> Pooled:
    """The seeds' noise of ln L, where every seed of a size reaches a target, at the mean of their ln tokens."""
    labels, logs = [], []
    for (target, n), values in took.items():
        if np.isfinite(values).all():
            logs += _log_losses(sizes[n], float(np.log(values).mean())).tolist()
            labels += [(target, n)] * values.size
    return pooled(labels, np.array(logs))


def _slope(part: list[Trajectory], log_tokens: float) -> float:
    """−d ln L/d ln tokens of the mean curve, over a quarter of an e-fold to either side where it goes so far."""
    low = max(log_tokens - _REACH, max(float(np.log(p.tokens[0])) for p in part))
    high = min(log_tokens + _REACH, min(float(np.log(p.tokens[-1])) for p in part))
    if not high > low:
        return math.nan
    fall = float(_log_losses(part, low).mean() - _log_losses(part, high).mean())
    return max(fall / (high - low), _FLATTEST)


def _reach(
    target: float,
    params: float,
    part: list[Trajectory],
    tokens: Array,
    batch: dict[str, float],
    noise: Pooled,
    level: float,
) -> Reach:
    """One size at one target; a loss that lies below it from its first point on counts as reached there."""
    given = np.array([p.tokens[-1] for p in part])
    values = np.where(np.isnan(tokens), [p.tokens[0] for p in part], tokens)
    got = np.isfinite(values)
    at_least = math.exp(float(np.mean(np.log(np.where(got, values, given)))))
    run_ids = tuple(p.run_id for p in part)
    size = batch[run_ids[0]]
    if not got.all():
        unknown = Estimate.missing(level)
        return Reach(target, params, size, unknown, unknown, int(got.sum()), got.size, at_least, run_ids)
    slope = _slope(part, float(np.log(values).mean()))
    own = Pooled(noise.sd / slope, noise.dof)
    return Reach(
        target, params, size, log_mean(values, own, level), log_mean(values / size, own, level), got.size, got.size,
        at_least, run_ids, slope,
    )  # fmt: skip


def _summary(part: list[Reach], noise: Pooled, level: float) -> TargetSummary:
    """Which size gets to one target first, and how much sooner the largest is than the smallest."""
    target, small, large = part[0].target, part[0], part[-1]
    reached = [r for r in part if not r.censored]
    if not reached:
        unknown = Estimate.missing(level)
        return TargetSummary(
            target, math.nan, unknown, math.nan, 0, 0, Status.NOT_RESOLVED, "no size reached it with all its runs"
        )
    first = min(reached, key=lambda r: r.tokens.value).params
    sooner = pairs = 0
    for a, b in combinations(part, 2):
        if a.censored and b.censored:
            continue
        if a.censored or b.censored:
            known, bound = (b, a) if a.censored else (a, b)
            if bound.at_least <= known.tokens.value:
                continue  # it might have got there sooner, had it gone on
            pairs += 1
            sooner += known is b
        else:
            pairs += 1
            sooner += b.tokens.value < a.tokens.value
    status, reason, ratio, at_least = Status.CONVERGED, "", Estimate.missing(level), math.nan
    if large.censored:
        status, reason = Status.NOT_RESOLVED, "the largest size did not reach it with all its runs"
    elif small.censored:
        at_least = small.at_least / large.tokens.value
        status = Status.NOT_RESOLVED
        reason = f"the smallest size never got there: the ratio is above {at_least:.3g}"
    else:
        value = small.tokens.value / large.tokens.value
        variance = 1.0 / (small.runs * small.slope**2) + 1.0 / (large.runs * large.slope**2)
        half = noise.half_width(variance, level)
        ratio = Estimate(value, (value * math.exp(-half), value * math.exp(half)), level)
        at_least = ratio.ci[0]
    return TargetSummary(target, first, ratio, at_least, sooner, pairs, status, reason)
