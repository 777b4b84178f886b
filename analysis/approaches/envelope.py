"""Approach 1: the lower envelope of the training curves over FLOPs; Hoffmann et al. 2022 (arXiv 2203.15556) §3.1, D.1.

Curves are smoothed and interpolated in ln C; at 1,500 log-spaced C the best run gives N*(C) and D*(C), and a power law
goes through them. In a table without curves, the finished runs of a size at three horizons or more are its curve.

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
from analysis.approaches.cells import Size, sizes_of, through
from analysis.estimation import estimate_law, log_residuals
from analysis.laws.chinchilla import Chinchilla
from analysis.types import Array, Dropped, Frontier, FrontierPoint, Status
from scaling.errors import InputError

BUDGETS = 1500
"""Log-spaced C at which the best run is looked for; `envelope:100` looks at 100."""
LAST_PART = 0.85
SMOOTHING = 10.0
"""Width (standard deviation ×2) of the Gaussian kernel over a training curve, in its points."""
FEWEST_POINTS = 5
_DRAWN_BUDGETS = 300
"""Budgets at which the draws look, to be quick."""


@dataclass(frozen=True, eq=False)
class _Curves:
    """R curves on a grid of G log budgets: log loss (R, G), NaN where one is not alive; share done (R, G); N (R,).

    `rows` (R,) are the runs behind training curves; curves through finished runs have `sizes` instead.
    """

    rows: NDArray[np.intp]
    grid: Array
    log_loss: Array
    done: Array
    params: Array
    tokens_per_flop: Array
    sizes: tuple[Size, ...] = ()

    def thinned(self, every: int) -> _Curves:
        """The same curves on every so many-th budget."""
        at = slice(None, None, every)
        return replace(self, grid=self.grid[at], log_loss=self.log_loss[:, at], done=self.done[:, at])

    def shaken(self, noise: Array) -> Array:
        """Log loss (R, G) with noise of the rows' log loss (n,) added."""
        if not self.sizes:
            return self.log_loss + noise[self.rows][:, None]
        moves = [np.interp(self.grid, s.log_c, s.nodes(noise[None])[0]) for s in self.sizes]
        return self.log_loss + np.stack(moves)

    def drawn(self, weights: Array) -> Array:
        """Log loss (R, G) where the rows have `weights` (n,): NaN beside a run that was not drawn."""
        if not self.sizes:
            return np.where(weights[self.rows][:, None] > 0, self.log_loss, np.nan)
        found = self.log_loss.copy()
        for k, s in enumerate(self.sizes):
            there = np.bincount(s.horizon, weights[s.rows], s.log_c.size) > 0
            found[k, np.interp(self.grid, s.log_c, there.astype(float)) < 1 - 1e-9] = np.nan
        return found


def smooth(values: Array, width: float = SMOOTHING) -> Array:
    """Gaussian smoothing of a curve (n,), with the kernel cut and renormalised at the ends."""
    reach = int(np.ceil(2 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (width / 2)) ** 2)
    same = slice(reach, reach + values.size)
    return np.convolve(values, kernel)[same] / np.convolve(np.ones_like(values), kernel)[same]


def _finished(task: Task, budgets: int) -> tuple[_Curves | None, str, list[Dropped]]:
    """Curves through the finished runs of each size, every point of which is the end of a run."""
    sizes = sizes_of(task)
    if len(sizes) < 3:
        return (
            None,
            f"the table has no training curves, and {len(sizes)} sizes have three horizons (three are needed)",
            [],
        )
    grid = np.linspace(min(s.log_c[0] for s in sizes), max(s.log_c[-1] for s in sizes), budgets)
    log_rows = np.log(task.runs.loss)[None]
    log_loss = np.concatenate([through(s.log_c, s.nodes(log_rows), grid) for s in sizes])
    params, per_token = np.exp([s.log_n for s in sizes]), np.exp([s.log_per_token for s in sizes])
    empty = np.empty(0, dtype=np.intp)
    return _Curves(empty, grid, log_loss, np.ones_like(log_loss), params, 1 / per_token, tuple(sizes)), "", []


def _curves(task: Task, budgets: int) -> tuple[_Curves | None, str, list[Dropped]]:
    """The runs' curves on the grid; or why there are none; and the runs left out."""
    frame = task.runs.curves
    if frame is None:
        return _finished(task, budgets)
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
    grid = np.linspace(ends.min() + np.log(LAST_PART), ends.max(), budgets)
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
    budgets: int = BUDGETS

    def of(self, variant: str) -> Approach:
        """The envelope at another number of budgets, 10 to 100,000."""
        if not variant.isdecimal() or not 10 <= int(variant) <= 100_000:
            raise InputError(f"approach envelope: {variant!r} is no number of budgets from 10 to 100000")
        found = Envelope()
        found.variant, found.budgets = variant, int(variant)
        return found

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`; needs curves, and two runs that touch the envelope at their ends."""
        curves, why, dropped = _curves(task, self.budgets)
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
            "curves": "finished runs" if curves.sizes else "training curves",
            "N_exponent_ends_kept": _slope(curves.grid[late], np.log(curves.params[best][late])),
        }
        ends = curves.grid[good]
        if selected.size < 2 or np.ptp(ends) < np.log(1.5):
            what = "sizes" if curves.sizes else "runs"
            reason = (
                f"{selected.size} {what} touch the envelope near their end with sizes on both sides; a line needs two"
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
        thin = curves.thinned(max(1, curves.grid.size // _DRAWN_BUDGETS))
        draws = task.resamples.draws
        weights = task.resamples.weights
        noise = _noise(task) if weights is None else np.empty((draws, 0))
        rng = np.random.default_rng([task.resamples.seed, 4])
        below, above = _cells(curves.params)
        shift = rng.uniform(-1.0, 1.0, (draws, curves.params.size))
        shift = np.where(shift < 0, shift * below, shift * above)
        log_n, log_d = np.full((draws, thin.grid.size), np.nan), np.full((draws, thin.grid.size), np.nan)
        for b in range(draws):
            shaken = thin.shaken(noise[b]) if weights is None else thin.drawn(weights[b])
            best, late, interior = _select(thin, shaken)
            good = late & interior
            move = shift[b, best]
            log_n[b] = np.where(good, np.log(thin.params[best]) + move, np.nan)
            log_d[b] = np.where(good, thin.grid + np.log(thin.tokens_per_flop[best]) - move, np.nan)
        return log_n, log_d, thin.grid


def _slope(log_c: Array, log_n: Array) -> float:
    """Slope over every budget, those included where the best size is the smallest or largest of all."""
    return line(log_c, log_n, log_n[None]).exponent if log_c.size >= 2 else float("nan")


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
        return task.resamples.noise(fit.sigma, fit.dof, log_residuals(fit, task.runs.loss))
    relative = task.runs.loss_se / task.runs.loss
    known = relative[np.isfinite(relative)]
    sigma = float(np.sqrt(np.mean(known**2))) if known.size else 0.0
    return task.resamples.noise(sigma, 0)
