"""Approach 1: the lower envelope of the training curves over FLOPs; Hoffmann et al. 2022 (arXiv 2203.15556) §3.1, D.1.

Curves are smoothed and interpolated in ln C; at 1,500 log-spaced C the best run gives N*(C) and D*(C), and a power law
goes through them.

What compares fairly: a run in mid-schedule, its learning rate still high, loses to a shorter run whose schedule has
ended, so that the envelope means something only where the run that touches it is near its end. Points whose run is less
than 85 % through are marked `not_resolved`, points where the best run is the smallest or largest alive `non_interior`,
and neither enters the fit. What is left is N* rounded to the sizes that were trained: each draw moves a selected run's
size at random within its cell between the neighbouring sizes, so the interval holds the rounding as well as the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.approaches.base import Approach, Line, Task, build, line
from analysis.estimation import estimate_law
from analysis.laws.chinchilla import Chinchilla
from analysis.types import Array, Dropped, Frontier, FrontierPoint, Status

BUDGETS = 1500
LAST_PART = 0.85
SMOOTHING = 10.0
"""Width (standard deviation ×2) of the Gaussian kernel over a training curve, in its points."""
FEWEST_POINTS = 5
_DRAW_EVERY = 5


@dataclass(frozen=True, eq=False)
class _Curves:
    """R runs on a grid of G log budgets: log loss (R, G), NaN where a run is not alive; share done (R, G); N (R,)."""

    rows: NDArray[np.intp]
    grid: Array
    log_loss: Array
    done: Array
    params: Array
    tokens_per_flop: Array


def smooth(values: Array, width: float = SMOOTHING) -> Array:
    """Gaussian smoothing of a curve (n,), with the kernel cut and renormalised at the ends."""
    reach = int(np.ceil(2 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (width / 2)) ** 2)
    same = slice(reach, reach + values.size)
    return np.convolve(values, kernel)[same] / np.convolve(np.ones_like(values), kernel)[same]


def _curves(task: Task) -> tuple[_Curves | None, str, list[Dropped]]:
    """The runs' curves on the grid; or why there are none; and the runs left out."""
    frame = task.runs.curves
    if frame is None:
        return None, "the table has no training curves", []
    by_run = {str(k): g for k, g in frame.groupby("run_id", sort=False)}
    ids = [str(r) for r in task.runs.frame["run_id"]]
    measured = "loss" in frame.columns and all(
        r in by_run and int(by_run[r]["loss"].notna().sum()) >= FEWEST_POINTS for r in ids
    )
    column = "loss" if measured else "train_loss"
    if column not in frame.columns:
        return None, "the curves hold too few held-out losses, and no train_loss", []
    params, flops, tokens = task.params, task.flops, task.runs.tokens
    rows, series, dropped = [], [], []
    for i, run in enumerate(ids):
        curve = by_run.get(run)
        curve = curve if curve is None else curve[curve[column].notna() & (curve["tokens"] > 0)].sort_values("tokens")
        if curve is None or len(curve) < FEWEST_POINTS:
            dropped.append(Dropped(task.runs.labels[i], f"fewer than {FEWEST_POINTS} points on its curve"))
            continue
        y = curve[column].to_numpy(float)
        # FLOPs along a run grow with its tokens, under every cost.
        c = curve["tokens"].to_numpy(float) * flops[i] / tokens[i]
        rows.append(i)
        series.append((np.log(c), np.log(y if measured else smooth(y))))
    if len(rows) < 3:
        return None, f"{len(rows)} runs have curves; an envelope needs three", dropped
    index = np.array(rows)
    ends = np.array([s[0][-1] for s in series])
    grid = np.linspace(ends.min() + np.log(LAST_PART), ends.max(), BUDGETS)
    log_loss = np.stack([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in series])
    done = np.exp(grid[None] - ends[:, None])
    return _Curves(index, grid, log_loss, done, params[index], tokens[index] / flops[index]), "", dropped


def _select(curves: _Curves, log_loss: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """Best run (G,), whether it is near its end, and whether a smaller and a larger size were alive."""
    alive = np.isfinite(log_loss)
    best = np.where(alive, log_loss, np.inf).argmin(axis=0)
    at = np.arange(curves.grid.size)
    sizes = np.where(alive, curves.params[:, None], np.nan)
    some = alive.any(axis=0)
    low = np.where(some, np.nanmin(np.where(some, sizes, 0.0), axis=0), np.nan)
    high = np.where(some, np.nanmax(np.where(some, sizes, 0.0), axis=0), np.nan)
    chosen = curves.params[best]
    late = some & (curves.done[best, at] >= LAST_PART)
    return best, late, some & (chosen > low) & (chosen < high)


def _cells(params: Array) -> tuple[Array, Array]:
    """For each run, how far its cell reaches below and above its ln N: half-way to the neighbouring sizes."""
    sizes = np.unique(np.log(params))
    half = np.diff(sizes) / 2 if sizes.size > 1 else np.zeros(1)
    below = np.concatenate([half[:1], half])[: sizes.size]
    above = np.concatenate([half, half[-1:]])[: sizes.size]
    at = np.searchsorted(sizes, np.log(params))
    return below[at], above[at]


class Envelope(Approach):
    """Lower envelope of the training curves, its points kept only where their run is near its end."""

    name: ClassVar[str] = "envelope"
    summary: ClassVar[str] = "approach 1: the lower envelope of training curves; runs count near their end only"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, §3.1"

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`; needs curves, and two runs that touch the envelope at their ends."""
        curves, why, dropped = _curves(task)
        if curves is None:
            return self.none(task, Status.NEEDS_CURVES, why, dropped=tuple(dropped))
        best, late, interior = _select(curves, curves.log_loss)
        good = late & interior
        points = self._points(curves, best, late, interior)
        selected = np.unique(best[good])
        diagnostics = {
            "share_in_last_part": float(late.mean()),
            "share_interior": float(interior.mean()),
            "runs_selected": int(selected.size),
        }
        ends = curves.grid[good]
        if selected.size < 2 or np.ptp(ends) < np.log(1.5):
            reason = (
                f"{selected.size} runs touch the envelope near their end with sizes on both sides; a line needs two"
            )
            return self.none(
                task,
                Status.TOO_FEW_POINTS,
                reason,
                points=tuple(points),
                dropped=tuple(dropped),
                diagnostics=diagnostics,
            )
        draws_n, draws_d, at = self._draws(task, curves)
        log_n = np.where(good, np.log(curves.params[best]), np.nan)
        log_d = np.where(good, curves.grid + np.log(curves.tokens_per_flop[best]), np.nan)
        n_line = _line(curves.grid, log_n, at, draws_n)
        d_line = _line(curves.grid, log_d, at, draws_d)
        return build(
            self, task, n_line, d_line, points, dropped=tuple(dropped), diagnostics=diagnostics,
            warnings=("N* is rounded to the sizes trained; the interval holds that rounding",),
        )  # fmt: skip

    @staticmethod
    def _points(
        curves: _Curves, best: NDArray[np.intp], late: NDArray[np.bool_], interior: NDArray[np.bool_]
    ) -> list[FrontierPoint]:
        """One point for each stretch of the envelope with one run and one status: the last budget of the stretch."""
        kind = np.where(~late, 2, np.where(~interior, 1, 0))
        last = np.flatnonzero(np.append((np.diff(best) != 0) | (np.diff(kind) != 0), True))
        found = []
        for g in last:
            run = best[g]
            if not np.isfinite(curves.log_loss[run, g]):
                continue
            c = float(np.exp(curves.grid[g]))
            status, reason = Status.CONVERGED, ""
            if kind[g] == 2:
                status, reason = Status.NOT_RESOLVED, f"the best run is only {curves.done[run, g]:.0%} through"
            elif kind[g] == 1:
                status, reason = Status.NON_INTERIOR, "the best run is the smallest or largest at this budget"
            found.append(
                FrontierPoint(
                    c,
                    float(curves.params[run]),
                    c * float(curves.tokens_per_flop[run]),
                    float(np.exp(curves.log_loss[run, g])),
                    status,
                    reason,
                )
            )
        return found

    @staticmethod
    def _draws(task: Task, curves: _Curves) -> tuple[Array, Array, Array]:
        """ln N* and ln D* (B, g) on a coarser grid for each draw, NaN where not fair; and that grid (g,)."""
        thin = _Curves(
            curves.rows,
            curves.grid[::_DRAW_EVERY],
            curves.log_loss[:, ::_DRAW_EVERY],
            curves.done[:, ::_DRAW_EVERY],
            curves.params,
            curves.tokens_per_flop,
        )
        draws = task.resamples.draws
        noise = _noise(task)[:, curves.rows] if task.resamples.scheme == "noise" else None
        rng = np.random.default_rng([task.resamples.seed, 4])
        below, above = _cells(curves.params)
        shift = rng.uniform(-1.0, 1.0, (draws, curves.rows.size))
        shift = np.where(shift < 0, shift * below, shift * above)
        log_n, log_d = np.full((draws, thin.grid.size), np.nan), np.full((draws, thin.grid.size), np.nan)
        for b in range(draws):
            if noise is not None:
                shaken = thin.log_loss + noise[b][:, None]
            else:
                assert task.resamples.weights is not None
                shaken = np.where(task.resamples.weights[b, curves.rows][:, None] > 0, thin.log_loss, np.nan)
            best, late, interior = _select(thin, shaken)
            good = late & interior
            move = shift[b, best]
            log_n[b] = np.where(good, np.log(thin.params[best]) + move, np.nan)
            log_d[b] = np.where(good, thin.grid + np.log(thin.tokens_per_flop[best]) - move, np.nan)
        return log_n, log_d, thin.grid


def _line(grid: Array, values: Array, thin: Array, draws: Array) -> Line:
    """The line through the full grid's points, with the draws' lines on the coarser grid."""
    main = line(grid, values, values[None])
    drawn = line(thin, np.zeros_like(thin), draws)
    return replace(drawn, exponent=main.exponent, log_coefficient=main.log_coefficient)


def _noise(task: Task) -> Array:
    """Run-to-run noise of the log loss (B, n): residuals about Hoffmann's law, else the stored standard errors."""
    fit = estimate_law(
        Chinchilla(), {"params": task.params, "tokens": task.runs.tokens}, task.runs.loss, "ls_log", None
    )
    if fit.usable:
        return task.resamples.noise(fit.sigma, fit.dof)
    relative = task.runs.loss_se / task.runs.loss
    known = relative[np.isfinite(relative)]
    sigma = float(np.sqrt(np.mean(known**2))) if known.size else 0.0
    return task.resamples.noise(sigma, 0)
