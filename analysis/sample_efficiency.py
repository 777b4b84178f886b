"""Tokens and steps to reach a loss, by size; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 2, Zhang et al. (d2l.ai) §11.9.

Larger models reach a loss on fewer tokens. A run that never reaches a target is censored: the tokens it was given are a
lower bound, which is kept, and no mean is taken over it; one that lies below it from its first point on has an upper
bound there. Intervals are over seeds: their noise of the log loss, pooled over sizes, becomes one of ln tokens by each
curve's own slope, for a flat curve tells less of when it got there.
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
_CANDIDATES = 200
_FEWEST = 3
"""Sizes that a trend of tokens over size needs."""
_REACH = 0.25
_FLATTEST = 1e-3
"""A curve flatter than this tells hardly when it reaches a loss; its interval is that of this slope."""


@dataclass(frozen=True)
class Reach:
    """Tokens and steps of one size to one target, at its best rate and batch.

    `reached` of `runs` runs got there. Where fewer than all did, the estimates are unknown and `at_least` (tokens) is
    the geometric mean over runs of what each took or, where it never got there, was given. Where a run was there at its
    first point, they are unknown as well, and `at_most` is the mean of what each took or had been given by then.
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
    at_most: float = math.inf

    @property
    def early(self) -> bool:
        """Whether some run lay below the target from its first point on, and all got there."""
        return not self.censored and not self.tokens.known

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most tokens that it can have taken, seeds' noise apart."""
        if self.censored:
            return self.at_least, math.inf
        return (0.0, self.at_most) if self.early else (self.tokens.value, self.tokens.value)

    @property
    def censored(self) -> bool:
        """Whether some run never reached the target."""
        return self.reached < self.runs

    def to_json(self) -> dict[str, Any]:
        """All fields, `censored` and `early`."""
        return jsonable({**vars(self), "censored": self.censored, "early": self.early})


@dataclass(frozen=True)
class TargetSummary(Plain):
    """One target over all sizes.

    `first` is the size that takes the fewest tokens, NaN where several were there at their first points. `ratio` are
    the tokens of the smallest size over those of the largest, with an interval; where the smallest never got there, or
    the largest was there at its first point, the ratio is unknown and above `ratio_at_least`. `sooner` of `pairs` pairs
    of sizes whose order is known have the larger one first. Tokens ∝ N^`exponent` over the `sizes` sizes whose curves
    pass the target, three or more.
    """

    target: float
    first: float
    ratio: Estimate
    ratio_at_least: float
    sooner: int
    pairs: int
    exponent: Estimate
    sizes: int
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
        targets: losses in nats; by default six that the curves of three sizes or more pass.
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
        targets = _targets(list(sizes.values()))
    if not sizes or not targets:
        reason = "no run has a curve" if not sizes else "no two curves pass one loss"
        return SampleEfficiency((), (), Pooled(math.nan, 0), Status.NEEDS_CURVES, reason, dropped=dropped)
    wanted = sorted(set(targets), reverse=True)
    took = {(t, n): np.array([p.reaches(t) for p in part]) for t in wanted for n, part in sizes.items()}
    noise, notes = _noise(took, sizes), []
    reaches = tuple(_reach(t, n, sizes[n], took[t, n], batch, noise, level) for t in wanted for n in sizes)
    summaries = tuple(_summary([r for r in reaches if r.target == t], noise, level) for t in wanted)
    if noise.dof == 0:
        notes.append("no size was run with several seeds: tokens have no interval")
    labels = Labels.of(runs, count, measured=all(p.measured for part in sizes.values() for p in part))
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
    """The seeds' noise of ln L: at the end of their runs, and where every seed of a size passes a target.

    The readings of a run are not independent, so that the degrees of freedom are those of the ends alone.
    """
    ends = {(0.0, n): math.log(min(p.tokens[-1] for p in part)) for n, part in sizes.items()}
    met = {key: float(np.log(v).mean()) for key, v in took.items() if np.isfinite(v).all()}
    logs = {key: _log_losses(sizes[key[1]], at) for key, at in {**ends, **met}.items()}
    found = pooled([key for key, v in logs.items() for _ in v], np.concatenate([*logs.values()]))
    return Pooled(found.sd, sum(len(part) - 1 for part in sizes.values()))


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
    """One size at one target."""
    given = np.array([p.tokens[-1] for p in part])
    values = np.where(np.isnan(tokens), [p.tokens[0] for p in part], tokens)
    got = np.isfinite(values)
    at_least = math.exp(float(np.mean(np.log(np.where(got, values, given)))))
    run_ids = tuple(p.run_id for p in part)
    size, unknown = batch[run_ids[0]], Estimate.missing(level)
    if not got.all() or np.isnan(tokens).any():
        at_most = at_least if got.all() else math.inf
        return Reach(
            target, params, size, unknown, unknown, int(got.sum()), got.size, at_least, run_ids, at_most=at_most
        )
    slope = _slope(part, float(np.log(values).mean()))
    own = Pooled(noise.sd / slope, noise.dof)
    return Reach(
        target, params, size, log_mean(values, own, level), log_mean(values / size, own, level), got.size, got.size,
        at_least, run_ids, slope, at_least,
    )  # fmt: skip


def _summary(part: list[Reach], noise: Pooled, level: float) -> TargetSummary:
    """Which size gets to one target first, and how much sooner the largest is than the smallest."""
    target, small, large = part[0].target, part[0], part[-1]
    unknown = Estimate.missing(level)
    reached, passed = [r for r in part if not r.censored], [r for r in part if r.tokens.known]
    if not reached:
        reason = "no size reached it with all its runs"
        return TargetSummary(target, math.nan, unknown, math.nan, 0, 0, unknown, 0, Status.NOT_RESOLVED, reason)
    first = min(reached, key=lambda r: r.bounds)
    sure = not first.early or sum(r.early for r in reached) == 1
    sooner = pairs = 0
    for a, b in combinations(part, 2):
        if b.bounds[1] < a.bounds[0]:
            sooner, pairs = sooner + 1, pairs + 1
        elif a.bounds[1] <= b.bounds[0]:
            pairs += 1
    status, reason, ratio, at_least = Status.NOT_RESOLVED, "", unknown, math.nan
    if large.censored:
        reason = "the largest size did not reach it with all its runs"
    elif small.early:
        reason = "the smallest size was there at its first point"
    elif small.censored or large.early:
        at_least = small.bounds[0] / large.bounds[1]
        why = ["the smallest size never got there"] * small.censored
        why += ["the largest was there at its first point"] * large.early
        reason = f"{' and '.join(why)}: the ratio is above {at_least:.3g}"
    else:
        value = small.tokens.value / large.tokens.value
        variance = 1.0 / (small.runs * small.slope**2) + 1.0 / (large.runs * large.slope**2)
        half = noise.half_width(variance, level)
        ratio = Estimate(value, (value * math.exp(-half), value * math.exp(half)), level)
        at_least, status = ratio.ci[0], Status.CONVERGED
    return TargetSummary(
        target, first.params if sure else math.nan, ratio, at_least, sooner, pairs,
        _exponent(passed, noise, level), len(passed), status, reason,
    )  # fmt: skip


def _exponent(passed: list[Reach], noise: Pooled, level: float) -> Estimate:
    """Of tokens ∝ N^exponent by least squares weighted by the seeds' noise; misfit widens it, never narrows it."""
    if len(passed) < _FEWEST:
        return Estimate.missing(level)
    x = np.log([r.params for r in passed])
    y = np.log([r.tokens.value for r in passed])
    weight = np.array([r.runs * r.slope**2 for r in passed])
    x = x - np.average(x, weights=weight)
    spread = float(np.sum(weight * x**2))
    slope = float(np.sum(weight * x * y)) / spread
    left = y - np.average(y, weights=weight) - slope * x
    misfit = Pooled(math.sqrt(float(np.sum(weight * left**2)) / (y.size - 2)), y.size - 2)
    half = max((w.half_width(1.0 / spread, level) for w in (noise, misfit) if w.dof), default=math.nan)
    return Estimate(slope, (slope - half, slope + half), level)


def _targets(sizes: list[list[Trajectory]]) -> tuple[float, ...]:
    """Six losses, evenly spread over those that the curves of three sizes or more pass, of two where none has three."""
    first = np.array([min(float(p.loss[0]) for p in part) for part in sizes])
    last = np.array([max(float(p.loss.min()) for p in part) for part in sizes])
    if first.size == 0 or not last.min() < first.max():
        return ()
    losses = np.geomspace(first.max(), last.min(), _CANDIDATES)
    passed = ((first[:, None] > losses) & (last[:, None] <= losses)).sum(axis=0)
    if passed.max() < 2:
        return targets_between(sizes, TARGETS)
    wide = losses[passed >= min(_FEWEST, int(passed.max()))]
    chosen = wide[np.unique(np.linspace(0, wide.size - 1, TARGETS + 2).round().astype(int))[1:-1]]
    return tuple(float(f"{loss:.4g}") for loss in chosen)
