"""Loss by position in the context: L(T) = E + A T^−alpha by run, and two architectures side by side at equal size.

Kaplan et al. 2020 (arXiv 2001.08361) Fig. 7 and App. D.5: a recurrent net keeps up with a transformer early in the
context and falls behind later. Both are scored on the same held-out windows, so differences are free of the text's own
noise; what is left is the seeds', for which differences are taken seed by seed where both were run with the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.fitting import check_draws, fit
from analysis.labels import UNLABELLED, Labels
from analysis.laws.power import Power
from analysis.laws.power_floor import PowerFloor
from analysis.replicates import Pooled, pooled
from analysis.table import Runs, read_table
from analysis.types import Array, Dropped, Estimate, FitResult, Plain, Status
from scaling.errors import InputError, TableError

if TYPE_CHECKING:
    import pandas as pd

SAME_SIZE = 1.25
"""Sizes of two architectures whose ratio is below this are compared."""
_FIT_BINS = 24
_PART = 4
"""The first and the last of so many parts of the bins are early and late."""
SEPARATED, TOGETHER = "separated", "no separation visible"


@dataclass(frozen=True, eq=False)
class PositionFit(Plain):
    """Loss by position of one architecture and size, mean over its seeds, and the power law through it.

    `fit` is E + A T^−alpha where its floor is identified (`with_floor`), else A T^−alpha. `position` (geometric mean)
    and `loss` (nats), (G,), are what was fitted.
    """

    architecture: str
    params: float
    runs: int
    position: Array
    loss: Array
    fit: FitResult
    with_floor: bool
    reason: str


@dataclass(frozen=True)
class PositionGap(Plain):
    """`gap` is 100 ln of the first architecture's loss over the second's, between positions `low` and `high`."""

    low: float
    high: float
    gap_percent: Estimate
    status: Status


@dataclass(frozen=True)
class PositionComparison(Plain):
    """Two architectures at nearly one size: gaps by position, early, late, and how much wider late than early.

    The verdict is on the late gap: `separated` where its interval excludes 0. `bins` have intervals that hold together
    (Šidák).
    """

    first: str
    second: str
    params: tuple[float, float]
    pairs: int
    bins: tuple[PositionGap, ...]
    early: Estimate
    late: Estimate
    widening: Estimate
    verdict: str
    status: Status
    reason: str


@dataclass(frozen=True)
class Positions(Plain):
    """Fits by architecture and size, comparisons by size, and the verdict over all of them."""

    fits: tuple[PositionFit, ...]
    comparisons: tuple[PositionComparison, ...]
    verdict: str
    status: Status
    reason: str = ""
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED


def measure_positions(
    rows: pd.DataFrame,
    positions: pd.DataFrame,
    *,
    count: str = "non_embedding",
    architectures: Sequence[str] | None = None,
    level: float = 0.9,
    bins: int = 8,
    bootstrap: int = 200,
    seed: int = 0,
) -> Positions:
    """Fits and compares loss by position.

    Args:
        rows: a store's rows of both architectures, each size at its best learning rate.
        positions: run_id, x (position, from 1), value (mean loss there, nats) and perhaps se, of the same windows.
        count: which parameters N counts.
        architectures: the two compared, the gap being the first's loss over the second's; by default the rows' two,
            any other before `decoder`.
        level: nominal coverage of the intervals.
        bins: parts of the context, evenly spaced in ln T, that are compared.
        bootstrap, seed: draws of the fits, and their seed.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: more or fewer than two architectures, or fewer than four bins.
    """
    check_draws(bootstrap, level)
    if bins < _PART:
        raise InputError(f"bins is {bins}: {_PART} are the least")
    runs = read_table(rows, needs=("params", "tokens", "loss"), allow_mixed_data=False)
    lacking = [c for c in ("run_id", "x", "value") if c not in positions.columns]
    if lacking or "architecture" not in runs.frame.columns:
        raise TableError(f"positions need {', '.join(lacking) or 'rows with a column architecture'}")
    pair = _pair(runs, architectures)
    series, lost = _series(runs, positions)
    members = _members(runs, series, count)
    if not members:
        reason = "no run has losses by position"
        return Positions((), (), TOGETHER, Status.NEEDS_CURVES, reason, dropped=(*runs.dropped, *lost))
    fits = tuple(_fit(a, n, [series[i] for i in at], bootstrap, level, seed) for (a, n), at in sorted(members.items()))
    edges = _edges(list(series.values()), bins)
    seeds = runs.frame["seed"].to_numpy() if "seed" in runs.frame.columns else np.arange(len(runs))
    binned = {i: _binned(s, edges) for i, s in series.items()}
    found = _compare(members, binned, seeds, pair, edges, level)
    best = [c for c in found if c.verdict == SEPARATED]
    status = Status.CONVERGED if best else Status.NOT_RESOLVED
    reason = "" if best else (found[0].reason if found else f"no size of {pair[0]} is near one of {pair[1]}")
    notes = [f"{c.first} at N = {c.params[0]:.3g} against {c.params[1]:.3g}" for c in found if not _near(*c.params)]
    return Positions(
        fits,
        tuple(found),
        SEPARATED if best else TOGETHER,
        status,
        reason,
        tuple(notes),
        (*runs.dropped, *lost),
        Labels.of(runs, count),
    )


_Series = tuple[Array, Array, Array]
"""Positions (T,), losses (T,) and standard errors (T,) of one run."""


def _near(a: float, b: float) -> bool:
    return abs(math.log(a / b)) < math.log(1.05)


def _pair(runs: Runs, given: Sequence[str] | None) -> tuple[str, str]:
    known = sorted(set(runs.frame["architecture"].astype(str)), key=lambda a: (a == "decoder", a))
    names = known if given is None else list(given)
    if len(names) != 2 or not set(names) <= set(known):
        raise InputError(f"architectures: two of {', '.join(known)} are compared; name them")
    return names[0], names[1]


def _series(runs: Runs, positions: pd.DataFrame) -> tuple[dict[int, _Series], tuple[Dropped, ...]]:
    parts = {str(k): part for k, part in positions.groupby("run_id", sort=False)}
    found: dict[int, _Series] = {}
    lost = []
    for i, run_id in enumerate(map(str, runs.frame["run_id"])):
        part = parts.get(run_id)
        kept = None if part is None else part[(part["x"] >= 1) & (part["value"] > 0)].sort_values("x")
        if kept is None or len(kept) < _PART:
            lost.append(Dropped(run_id, "no losses by position"))
            continue
        se = kept["se"].to_numpy(dtype=np.float64) if "se" in kept else np.full(len(kept), np.nan)
        found[i] = (kept["x"].to_numpy(dtype=np.float64), kept["value"].to_numpy(dtype=np.float64), se)
    return found, tuple(lost)


def _members(runs: Runs, series: dict[int, _Series], count: str) -> dict[tuple[str, float], list[int]]:
    size = runs.params(count)
    found: dict[tuple[str, float], list[int]] = {}
    for i in series:
        found.setdefault((str(runs.frame["architecture"].iloc[i]), float(size[i])), []).append(i)
    return found


def _edges(series: list[_Series], bins: int) -> Array:
    """Edges of at most `bins` parts of the positions that all runs have, in whole positions, evenly in ln T."""
    low, high = max(s[0][0] for s in series), min(s[0][-1] for s in series)
    return np.unique(np.ceil(np.geomspace(low, high + 1, bins + 1) - 1e-9))


def _binned(series: _Series, edges: Array) -> tuple[Array, Array]:
    """Log of the mean loss (G,) between the edges, and its standard error."""
    at, loss, se = series
    where = np.searchsorted(edges, at, side="right") - 1
    means, errors = [], []
    for k in range(edges.size - 1):
        here = where == k
        mean = float(loss[here].mean())
        means.append(math.log(mean))
        errors.append(float(np.sqrt(np.mean(se[here] ** 2))) / mean)  # positions share their documents
    return np.array(means), np.array(errors)


def _fit(architecture: str, n: float, part: list[_Series], bootstrap: int, level: float, seed: int) -> PositionFit:
    """The power law of one architecture and size over log-spaced positions."""
    import pandas as pd

    edges = _edges(part, _FIT_BINS)
    losses = np.exp(np.mean([_binned(s, edges)[0] for s in part], axis=0))
    centres = []
    for k in range(edges.size - 1):
        at = part[0][0]
        here = at[(at >= edges[k]) & (at < edges[k + 1])]
        centres.append(math.exp(float(np.log(here).mean())))
    table = pd.DataFrame({"position": centres, "loss": losses})
    asked: dict[str, Any] = {"objective": "ls_log", "bootstrap": bootstrap, "level": level, "seed": seed}
    found, with_floor, reason = fit(table, PowerFloor("position"), **asked), True, ""
    if found.status is not Status.CONVERGED:
        reason = f"no floor: {found.reason}"
        found, with_floor = fit(table, Power("position"), **asked), False
    return PositionFit(architecture, n, len(part), np.array(centres), losses, found, with_floor, reason)


def _compare(
    members: dict[tuple[str, float], list[int]],
    binned: dict[int, tuple[Array, Array]],
    seeds: Any,
    pair: tuple[str, str],
    edges: Array,
    level: float,
) -> list[PositionComparison]:
    """Every size of the first architecture against the nearest of the second."""
    matched = []
    others = np.array([n for a, n in members if a == pair[1]])
    for a, n in sorted(members):
        if a != pair[0] or others.size == 0:
            continue
        nearest = float(others[np.argmin(np.abs(np.log(others / n)))])
        if max(n / nearest, nearest / n) < SAME_SIZE:
            matched.append(_Matched.of(n, nearest, members[a, n], members[pair[1], nearest], binned, seeds))
    if not matched:
        return []
    part = max(1, (edges.size - 1) // _PART)
    contrasts = {
        "early": _mean_of(edges.size - 1, range(part)),
        "late": _mean_of(edges.size - 1, range(edges.size - 1 - part, edges.size - 1)),
    }
    contrasts["widening"] = contrasts["late"] - contrasts["early"]
    return [_comparison(m, matched, pair, contrasts, edges, level) for m in matched]


def _mean_of(size: int, which: range) -> Array:
    weights = np.zeros(size)
    weights[list(which)] = 1.0 / len(which)
    return weights


@dataclass(frozen=True, eq=False)
class _Matched:
    """Two sizes side by side: differences of log loss by pair of runs and bin (K, G), and their text's error (G,)."""

    params: tuple[float, float]
    differences: Array
    error: Array
    by_seed: bool

    @classmethod
    def of(
        cls, n: float, m: float, a: list[int], b: list[int], binned: dict[int, tuple[Array, Array]], seeds: Any
    ) -> _Matched:
        """Differences seed by seed where both have the same seeds, else of runs in order, up to the fewer."""
        first, second = {seeds[i]: i for i in a}, {seeds[i]: i for i in b}
        shared = sorted(set(first) & set(second))
        pairs = [(first[s], second[s]) for s in shared] if shared else list(zip(a, b, strict=False))
        differences = np.array([binned[i][0] - binned[j][0] for i, j in pairs])
        error = np.sqrt(np.mean([binned[i][1] ** 2 + binned[j][1] ** 2 for i, j in pairs], axis=0))
        return cls((n, m), differences, error, bool(shared))


def _contrast(m: _Matched, matched: list[_Matched], weights: Array, level: float) -> Estimate:
    """A weighted mean over bins of 100 ln of the ratio of losses, with Student's interval.

    The noise is pooled over sizes; without any replicate it is the text's own, which both share, hence too wide.
    """
    value = 100.0 * float(m.differences.mean(axis=0) @ weights)
    groups = [k for k, other in enumerate(matched) for _ in other.differences]
    noise = pooled(groups, np.concatenate([o.differences @ weights for o in matched]))
    if noise.dof == 0:
        noise = Pooled(float(np.abs(weights) @ m.error) * math.sqrt(len(m.differences)), 1000)
    half = 100.0 * noise.half_width(1.0 / len(m.differences), level)
    return Estimate(value, (value - half, value + half), level)


def _comparison(
    m: _Matched,
    matched: list[_Matched],
    pair: tuple[str, str],
    contrasts: dict[str, Array],
    edges: Array,
    level: float,
) -> PositionComparison:
    size = edges.size - 1
    together = level ** (1.0 / size)
    bins = []
    for k in range(size):
        gap = _contrast(m, matched, np.eye(size)[k], together)
        outside = not gap.ci[0] <= 0.0 <= gap.ci[1] if math.isfinite(gap.ci[0]) else False
        status = Status.CONVERGED if outside else Status.NOT_RESOLVED
        bins.append(PositionGap(float(edges[k]), float(edges[k + 1] - 1), gap, status))
    found = {name: _contrast(m, matched, w, level ** (1.0 / len(matched))) for name, w in contrasts.items()}
    late = found["late"]
    known = math.isfinite(late.ci[0])
    apart = known and not late.ci[0] <= 0.0 <= late.ci[1]
    reason = ""
    if not known:
        reason = "one run a size and no standard errors: nothing to tell a gap by"
    elif not apart:
        reason = f"the late gap of {late.value:+.2g} % has an interval of {late.ci[0]:+.2g} to {late.ci[1]:+.2g} %"
    return PositionComparison(
        pair[0], pair[1], m.params, len(m.differences), tuple(bins), found["early"], late, found["widening"],
        SEPARATED if apart else TOGETHER, Status.CONVERGED if apart else Status.NOT_RESOLVED, reason,
    )  # fmt: skip
