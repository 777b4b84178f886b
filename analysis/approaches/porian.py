"""Porian et al. 2024 (arXiv 2406.19146): Akima through each budget, noise replicates, inverse-variance weighted line.

At each budget the loss is interpolated by Akima's spline in (ln N, ln L) on a grid of 25 points a gap between sizes,
and its lowest point is taken, unless that is an end. Replicates with noise added to the losses give N* (their median),
the standard deviation of ln N* (at least a third of a gap, divided by the share of replicates with an inner minimum),
and the draws; a budget where fewer than half have one is left out. The line through ln N* is weighted by inverse
variance.

Noise is measured here, as the scatter of a table's own losses, so that it rises in proportion to the loss; a variant
takes a published schedule of it instead: `porian:porian_2024_owt2`. Replicates add noise to losses that have it
already, and the lowest point of a noisy curve jumps: as draws of N* they gave 90 % intervals that covered 73 % (60
sweeps of 10 budgets x 7 sizes, .5 % noise). With measured noise the draws are therefore minima of noise about a smooth
curve through the losses, moved to N* (92 % there; 93 to 97 % on nine other designs); with a schedule they are the
replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from analysis.approaches.base import Approach, Group, Line, Task, build, interval, line
from analysis.approaches.cells import MIN_SIZES, Cells, RowNoise, cells_of, measured_noise, through
from analysis.approaches.isoflop import (
    interpolation_of,
    interpolation_warnings,
    noise_warnings,
    tokens_at,
)
from analysis.bootstrap import MIN_DRAWS
from analysis.table import check_name
from analysis.types import Array, Dropped, Frontier, FrontierPoint, Status

POINTS_A_GAP = 25
LEAST_SPREAD = 0.33
"""Least standard deviation of ln N* as a share of the mean gap between sizes: the sizes do not resolve more."""
LEAST_VALID = 0.5
NOISE_DEGREE = 4
"""Degree of the polynomial that measures noise; a parabola's misfit on wide grids would count as noise."""


@dataclass(frozen=True)
class LossNoise:
    """Standard deviation in nats: `low` up to loss `below`, `high` from `above` on, log–log interpolated between."""

    low: float
    high: float
    below: float
    above: float

    def __call__(self, loss: Array) -> Array:
        """The standard deviation at losses (m,)."""
        at = np.log([self.below, self.above])
        return np.asarray(np.exp(np.interp(np.log(loss), at, np.log([self.low, self.high]))))


SCHEDULES: Mapping[str, LossNoise] = MappingProxyType(
    {
        # As stated; the authors' code compares ln L with the limits, so that below e^3 nats its noise is `low`
        # throughout, and that is what their stored exponents were computed with.
        "porian_2024_refinedweb": LossNoise(0.002, 0.05, 3.0, 7.0),
        "porian_2024_owt2": LossNoise(0.01, 0.1, 3.0, 6.0),
        "porian_2024_refinedweb_as_run": LossNoise(0.002, 0.002, 3.0, 7.0),
        "porian_2024_owt2_as_run": LossNoise(0.01, 0.01, 3.0, 6.0),
    }
)


@dataclass(frozen=True, eq=False)
class Minimum:
    """One budget's minimum: ln N*, L*, its standard deviation, and draws (B,) of both, NaN where at an end."""

    status: Status
    reason: str
    log_n: float = math.nan
    loss: float = math.nan
    deviation: float = math.nan
    log_n_draws: Array | None = None
    loss_draws: Array | None = None


def minimum_of(log_n: Array, loss: Array, replicates: Array | None, draws: Array | None = None) -> Minimum:
    """The interpolated minimum of one budget.

    Args:
        log_n: ln of the sizes (m,), rising, m of at least three.
        loss: their losses (m,), nats.
        replicates: losses (B, m) with noise, or NaN where a draw lacks a size; None where noise is not known.
        draws: losses (B, m) whose minima are the draws of N*; the replicates where not given.
    """
    grid = np.linspace(log_n[0], log_n[-1], POINTS_A_GAP * (log_n.size - 1))
    least = LEAST_SPREAD * POINTS_A_GAP * float(grid[1] - grid[0])
    curve = through(log_n, np.log(loss)[None], grid)[0]
    at = int(curve.argmin())
    if float(curve.max() - curve.min()) <= 1e-9:
        return Minimum(Status.NON_INTERIOR, "the losses are equal: no minimum")
    if at in (0, grid.size - 1):
        word = "smallest" if at == 0 else "largest"
        return Minimum(Status.NON_INTERIOR, f"the {word} size has the lowest loss: minimum not bracketed")
    if replicates is None:
        return Minimum(Status.CONVERGED, "", float(grid[at]), float(np.exp(curve[at])), least)
    log_draws, loss_draws = _inner_minima(log_n, replicates, grid)
    inner = np.isfinite(log_draws)
    share = float(inner.mean())
    if share < LEAST_VALID:
        return Minimum(Status.NOT_RESOLVED, f"only {share:.0%} of draws have their minimum inside the sizes")
    kept = log_draws[inner]
    found = Minimum(
        Status.CONVERGED,
        "",
        # The median of N, not of ln N: an even number of draws may straddle two grid points.
        float(log_n[0] + np.log(np.median(np.exp(kept - log_n[0])))),
        float(np.median(loss_draws[inner])),
        max(float(kept.std()), least) / share,
        log_draws,
        loss_draws,
    )
    if draws is None:
        return found
    log_draws, loss_draws = _inner_minima(log_n, draws, grid)
    inner = np.isfinite(log_draws)
    if inner.any():  # their scatter is that of the estimate, their centre the smooth curve's
        log_draws = log_draws + found.log_n - np.median(log_draws[inner])
        loss_draws = loss_draws * (found.loss / np.median(loss_draws[inner]))
    return replace(found, log_n_draws=log_draws, loss_draws=loss_draws)


def _inner_minima(log_n: Array, losses: Array, grid: Array) -> tuple[Array, Array]:
    """ln N* and L* (B,) of losses (B, m) interpolated to `grid`; NaN where the lowest point is an end."""
    with np.errstate(all="ignore"):
        curves = through(log_n, np.log(losses), grid)
    low = np.where(np.isfinite(curves), curves, np.inf)
    at, here, last = low.argmin(axis=1), np.arange(len(low)), grid.size - 1
    # A draw that lacks its outer sizes ends earlier.
    beside = np.isfinite(low[here, np.maximum(at - 1, 0)]) & np.isfinite(low[here, np.minimum(at + 1, last)])
    inner = np.isfinite(low[here, at]) & (at > 0) & (at < last) & beside
    return np.where(inner, grid[at], np.nan), np.where(inner, np.exp(low[here, at]), np.nan)


class Porian(Approach):
    """Interpolated minima with inverse-variance weights; variants are the published noise schedules."""

    name: ClassVar[str] = "porian"
    summary: ClassVar[str] = "Akima interpolation at each budget, noise replicates, inverse-variance weighted line"
    source: ClassVar[str] = "Porian et al. 2024, arXiv 2406.19146"
    schedule: LossNoise | None = None

    def of(self, variant: str) -> Approach:
        """The approach with a published noise schedule."""
        check_name("noise schedule", variant, tuple(SCHEDULES))
        found = Porian()
        found.variant, found.schedule = variant, SCHEDULES[variant]
        return found

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`; needs two budgets with inner minima."""
        cells = cells_of(task)
        if isinstance(cells, str):
            return self.none(task, Status.NOT_ISOFLOP, cells)
        noise = measured_noise(task, NOISE_DEGREE)
        origin = noise.origin if self.schedule is None else "schedule"
        drawn = self._draws(task, cells, noise)
        found = [(g, _minimum(g, cells, drawn)) for g in cells.groups]
        points = tuple(_point(g, m, cells, task.level) for g, m in found)
        dropped = cells.dropped + tuple(
            Dropped(f"budget {g.flops:.4g}", m.reason) for g, m in found if m.status is not Status.CONVERGED
        )
        used = [(g, m) for g, m in found if m.status is Status.CONVERGED]
        diagnostics = {
            "noise_relative": noise.sigma,
            "noise_from": origin,
            "degrees_of_freedom": noise.dof,
            "log_N_deviation": [m.deviation for _, m in found],
            **interpolation_of(cells),
        }
        if len(used) < 2:
            bad = next(((g, m) for g, m in found if m.status is not Status.CONVERGED), None)
            why = f"{len(used)} of {len(found)} budgets have an inner minimum; a line needs two"
            why += f" (budget {bad[0].flops:.4g}: {bad[1].reason})" if bad is not None else ""
            few = len(found) < 2 or bad is None or len(used) == 1
            status = Status.TOO_FEW_POINTS if few or bad is None else bad[1].status
            return self.none(task, status, why, points=points, dropped=dropped, diagnostics=diagnostics)
        n_line, d_line = _lines(task, cells, used)
        return build(
            self,
            task,
            n_line,
            d_line,
            list(points),
            dropped=dropped,
            warnings=(
                *(["two budgets: the line is not tested by a third"] if len(used) == 2 else []),
                *noise_warnings(origin),
                *interpolation_warnings(cells, noise.sigma),
            ),
            diagnostics=diagnostics,
        )

    def _draws(self, task: Task, cells: Cells, noise: RowNoise) -> _Losses:
        """Losses of the points in replicates and draws."""
        resamples = task.resamples
        if self.schedule is not None:
            loss = task.runs.loss
            shocks = resamples.shocks if resamples.scheme == "noise" else None
            if shocks is None:
                shocks = np.random.default_rng([resamples.seed, 5]).standard_normal((resamples.draws, loss.size))
            shaken = np.maximum(loss + self.schedule(loss) * shocks, 1e-300)
            return _Losses(cells.loss * np.exp(cells.noise(np.log(shaken / loss))))
        if resamples.weights is not None:
            return _Losses(*cells.drawn(resamples.weights))
        drawn = noise.draws(task)
        if drawn is None or not np.isfinite(drawn).all():
            return _Losses(None)
        factor = np.exp(cells.noise(drawn))
        residual = np.nan_to_num(np.log1p(noise.residual))
        smooth = cells.loss * np.exp(cells.noise(-residual[None])[0])
        return _Losses(cells.loss * factor, None, smooth * factor)


class _Losses(NamedTuple):
    """Replicates (B, m) about the observed losses, None where noise is unknown; case weights; draws about a curve."""

    replicates: Array | None
    weights: Array | None = None
    draws: Array | None = None


def _minimum(g: Group, cells: Cells, drawn: _Losses) -> Minimum:
    """A group's minimum, seeds of one size averaged."""
    sizes, size = np.unique(np.round(np.log(cells.params[g.rows]), 9), return_inverse=True)
    log_n = np.asarray(sizes, dtype=np.float64)
    if log_n.size < MIN_SIZES:
        return Minimum(Status.TOO_FEW_POINTS, f"{log_n.size} sizes; an inner minimum needs {MIN_SIZES}")
    member = np.zeros((g.rows.size, log_n.size))
    member[np.arange(g.rows.size), size.reshape(-1)] = 1.0
    w = np.ones((1, g.rows.size)) if drawn.weights is None else drawn.weights[:, g.rows]

    def averaged(losses: Array | None) -> Array | None:
        if losses is None:
            return None
        total = w @ member
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, (w * losses[:, g.rows]) @ member / total, np.nan)

    mean = cells.loss[g.rows] @ member / member.sum(axis=0)
    return minimum_of(log_n, mean, averaged(drawn.replicates), averaged(drawn.draws))


def _lines(task: Task, cells: Cells, used: list[tuple[Group, Minimum]]) -> tuple[Line, Line]:
    """The weighted lines through ln N* and ln D*, and their draws, which hold the rounding to the grid as well."""
    draws = task.resamples.draws
    rng = np.random.default_rng([task.resamples.seed, 6])
    log_n, log_d, n_draws, d_draws = [], [], [], []
    for g, m in used:
        sizes = np.unique(np.log(cells.params[g.rows]))
        step = float(np.ptp(sizes)) / (POINTS_A_GAP * (sizes.size - 1) - 1)
        moved = np.full(draws, np.nan) if m.log_n_draws is None else m.log_n_draws
        moved = moved + step * rng.uniform(-0.5, 0.5, draws)
        centre = float(sizes.mean())
        log_n.append(m.log_n)
        log_d.append(float(tokens_at(g, cells, centre, m.log_n)))
        n_draws.append(moved)
        d_draws.append(tokens_at(g, cells, centre, moved))
    log_c = np.log([g.flops for g, _ in used])
    weights = np.array([m.deviation for _, m in used]) ** -2.0
    return (
        line(log_c, np.array(log_n), np.stack(n_draws, axis=1), weights),
        line(log_c, np.array(log_d), np.stack(d_draws, axis=1), weights),
    )


def _point(g: Group, m: Minimum, cells: Cells, level: float) -> FrontierPoint:
    if m.status is not Status.CONVERGED:
        return FrontierPoint(g.flops, math.nan, math.nan, math.nan, m.status, m.reason)
    centre = float(np.log(cells.params[g.rows]).mean())
    log_d = float(tokens_at(g, cells, centre, m.log_n))
    if m.log_n_draws is None or m.loss_draws is None or m.log_n_draws.size < MIN_DRAWS:
        return FrontierPoint(g.flops, math.exp(m.log_n), math.exp(log_d), m.loss, m.status, m.reason)
    return FrontierPoint(
        g.flops,
        math.exp(m.log_n),
        math.exp(log_d),
        m.loss,
        m.status,
        m.reason,
        interval(m.log_n_draws, level),
        interval(tokens_at(g, cells, centre, m.log_n_draws), level),
        interval(np.log(m.loss_draws), level),
    )
