"""Losses at equal cost, as the approaches by budget read them: a budget's own runs, or values between horizons.

A group of runs of one cost is no group of another: what agrees in exact FLOPs spans a factor of two in 6ND without
embeddings. Under a cost that is not the budgets' own, each size's loss is therefore interpolated in ln C between that
size's own horizons (Akima 1970, J. ACM 17:589, in (ln C, ln L)), at one new budget for each old one. Nothing is
extrapolated, a size needs three horizons, and no budget is relabelled; what cannot be had so is `not_isoflop`, unless
the budgets' own runs agree within 5 % under this cost as well, and then the drift of cost within them is warned of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.approaches.base import Group, Task, isoflop_groups
from analysis.table import SAME_BUDGET
from analysis.types import Array, Dropped
from scaling.accounting import COSTS, COUNTS

MIN_SIZES = 3
MIN_HORIZONS = 3
OWN_SPREAD = 0.01
"""Groups whose FLOPs agree this well, or as well as under the budgets' own cost, are taken as they are."""
_TOUCHING = 1e-6
"""Horizons, and ends of a range, closer than this in ln C are the same."""


@dataclass(frozen=True, eq=False)
class Size:
    """One size's rows (k,), the horizon of each (k,), the horizons' ln C (H,), and ln(C/D), the same for all."""

    log_n: float
    rows: NDArray[np.intp]
    horizon: NDArray[np.intp]
    log_c: Array
    log_per_token: float

    def spans(self, log_c: float) -> bool:
        """Whether a cost lies between the shortest and the longest horizon."""
        return bool(self.log_c[0] - _TOUCHING <= log_c <= self.log_c[-1] + _TOUCHING)

    def nodes(self, values: Array, weights: Array | None = None) -> Array:
        """Mean of row values (B, n) at each horizon (B, H); NaN where `weights` (B, n) leave none."""
        here = np.zeros((self.rows.size, self.log_c.size))
        here[np.arange(self.rows.size), self.horizon] = 1.0
        w = np.ones((1, self.rows.size)) if weights is None else weights[:, self.rows]
        total = w @ here
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, (w * values[:, self.rows]) @ here / total, np.nan)


def sizes_of(task: Task) -> list[Size]:
    """The table's sizes with at least three horizons, by rising size; sizes of unequal cost a token are not one."""
    log_c, log_d, log_n = np.log(task.flops), np.log(task.runs.tokens), np.log(task.params)
    keys = np.round(np.stack([log_n, log_c - log_d], axis=1), 5)
    found = []
    for key in np.unique(keys, axis=0):
        rows = np.flatnonzero((keys == key).all(axis=1))
        order = rows[np.argsort(log_c[rows], kind="stable")]
        horizon = np.concatenate([[0], np.cumsum(np.diff(log_c[order]) > _TOUCHING)])
        at = np.bincount(horizon, log_c[order]) / np.bincount(horizon)
        if at.size >= MIN_HORIZONS:
            per_token = float((log_c[order] - log_d[order]).mean())
            found.append(Size(float(log_n[order].mean()), order, horizon.astype(np.intp), at, per_token))
    return sorted(found, key=lambda s: s.log_n)


def through(x: Array, y: Array, at: Array) -> Array:
    """Akima splines (B, T) at `at` (T,) through `y` (B, H) over rising `x` (H,), NaN nodes left out.

    NaN outside the nodes that are left, and where fewer than three are.
    """
    from scipy.interpolate import Akima1DInterpolator

    out = np.full((y.shape[0], at.size), np.nan)
    present, which = np.unique(np.isfinite(y), axis=0, return_inverse=True)
    for k, keep in enumerate(present):
        if keep.sum() >= MIN_HORIZONS:
            rows, nodes = which.reshape(-1) == k, x[keep]
            edge = np.where(np.abs(at - nodes[0]) <= _TOUCHING, nodes[0], at)
            edge = np.where(np.abs(at - nodes[-1]) <= _TOUCHING, nodes[-1], edge)
            out[rows] = Akima1DInterpolator(nodes, y[rows][:, keep], axis=1)(edge)
    return out


@dataclass(frozen=True, eq=False)
class Cells:
    """Points (m,) in groups of equal cost; the groups' rows index the points.

    `sources` is empty where the points are the table's own rows; else each size with its target ln C (T,) and the
    points (T,) that they gave.
    """

    groups: list[Group]
    params: Array
    tokens: Array
    loss: Array
    log_rows: Array
    """ln L of the table's rows (n,)."""
    sources: tuple[tuple[Size, Array, NDArray[np.intp]], ...] = ()
    dropped: tuple[Dropped, ...] = ()
    drift: float = 0.0
    """How far FLOPs within a group differ where they do more than under the budgets' own cost."""

    @property
    def interpolated(self) -> bool:
        """Whether the points lie between horizons."""
        return bool(self.sources)

    def noise(self, rows: Array) -> Array:
        """Noise of the points' log loss (B, m) that noise of the rows' (B, n) gives."""
        if not self.interpolated:
            return rows
        out = np.zeros((rows.shape[0], self.loss.size))
        for size, targets, points in self.sources:
            nodes = size.nodes(self.log_rows[None])
            shaken = through(size.log_c, nodes + size.nodes(rows), targets)
            out[:, points] = shaken - through(size.log_c, nodes, targets)
        return out

    def drawn(self, weights: Array) -> tuple[Array, Array]:
        """Losses and weights (B, m) of the points where the rows have `weights` (B, n); weight 0 where none is left."""
        if not self.interpolated:
            return np.broadcast_to(self.loss, weights.shape), weights
        losses, heavy = (
            np.full((weights.shape[0], self.loss.size), np.nan),
            np.zeros((weights.shape[0], self.loss.size)),
        )
        for size, targets, points in self.sources:
            log_loss = through(size.log_c, size.nodes(self.log_rows[None], weights), targets)
            share = weights[:, size.rows].sum(axis=1, keepdims=True) / size.rows.size
            losses[:, points] = np.exp(log_loss)
            heavy[:, points] = np.where(np.isfinite(log_loss), share, 0.0)
        return np.nan_to_num(losses, nan=1.0), heavy

    def gap(self) -> float:
        """Largest difference in ln L between the Akima and the monotone (PCHIP) interpolant at the points."""
        from scipy.interpolate import PchipInterpolator

        found = 0.0
        for size, targets, points in self.sources:
            other = PchipInterpolator(size.log_c, size.nodes(self.log_rows[None])[0])(
                np.clip(targets, size.log_c[0], size.log_c[-1])
            )
            found = max(found, float(np.abs(other - np.log(self.loss[points])).max()))
        return found


def cells_of(task: Task) -> Cells | str:
    """The task's groups of equal cost; or why there are none."""
    key = ("cells", task.count, task.cost)
    if key not in task.memo:
        task.memo[key] = _cells(task)
    found: Cells | str = task.memo[key]
    return found


def _cells(task: Task) -> Cells | str:
    groups = isoflop_groups(task.runs, task.flops)
    large = [g for g in groups if g.rows.size >= MIN_SIZES]
    if not large:
        return f"no {MIN_SIZES} runs share a budget (FLOPs within {SAME_BUDGET:.0%})"
    widest = max(g.spread for g in large)
    plain = Cells(groups, task.params, task.runs.tokens, task.runs.loss, np.log(task.runs.loss))
    if widest <= max(OWN_SPREAD, 2 * _least_spread(task)) and widest <= SAME_BUDGET:
        return plain
    sizes = sizes_of(task)
    budgets, dropped = _new_budgets(task, large, sizes)
    if len(budgets) >= min(2, len(large)):
        return _interpolated(task, budgets, sizes, tuple(dropped))
    if widest <= SAME_BUDGET:
        return replace(plain, drift=widest)
    why = f"FLOPs within a group differ by {widest:.1%} under cost {task.cost} and count {task.count}, and "
    if len(sizes) < MIN_SIZES:
        return why + f"{len(sizes)} sizes have the {MIN_HORIZONS} horizons that interpolating between them takes"
    return why + f"at {len(budgets)} budgets do {MIN_SIZES} sizes have horizons on both sides; two are the least"


def _least_spread(task: Task) -> float:
    """The widest group's spread under the cost that agrees best within the groups: the budgets' own."""
    runs = task.runs
    conventions = {(runs.cost_name(cost), count if cost == "6nd" else "total") for cost in COSTS for count in COUNTS}
    spreads = []
    for cost, count in sorted(conventions):
        groups = isoflop_groups(runs, runs.flops(cost, count))
        spreads.append(max((g.spread for g in groups if g.rows.size >= MIN_SIZES), default=0.0))
    return min(spreads)


def _new_budgets(
    task: Task, groups: list[Group], sizes: list[Size]
) -> tuple[list[tuple[float, list[int]]], list[Dropped]]:
    """One ln C for each old budget, where most of that budget's sizes have horizons on both sides; and those sizes."""
    log_c, log_n = np.log(task.flops), np.log(task.params)
    found: list[tuple[float, list[int]]] = []
    dropped = []
    for g in sorted(groups, key=lambda g: g.flops):
        low, high = log_n[g.rows].min() - _TOUCHING, log_n[g.rows].max() + _TOUCHING
        inside = [i for i, s in enumerate(sizes) if low <= s.log_n <= high]
        centre = float(log_c[g.rows].mean())
        wanted = [centre, *(float(c) for c in log_c[g.rows])]
        cover = [[i for i in inside if sizes[i].spans(c)] for c in wanted]
        best = max(range(len(wanted)), key=lambda k: (len(cover[k]), -abs(wanted[k] - centre)))
        if len(cover[best]) < MIN_SIZES:
            why = f"{len(cover[best])} of its sizes have horizons on both sides; {MIN_SIZES} are the least"
            dropped.append(Dropped(f"budget {g.flops:.4g}", why))
        elif any(abs(wanted[best] - c) < SAME_BUDGET for c, _ in found):
            dropped.append(Dropped(f"budget {g.flops:.4g}", "between horizons it is the budget of another group"))
        else:
            found.append((wanted[best], cover[best]))
    return found, dropped


def _interpolated(
    task: Task, budgets: list[tuple[float, list[int]]], sizes: list[Size], dropped: tuple[Dropped, ...]
) -> Cells:
    log_rows = np.log(task.runs.loss)
    groups, by_size, params, tokens = [], {}, [], []  # type: ignore[var-annotated]
    for log_c, members in budgets:
        rows = np.arange(len(params), len(params) + len(members))
        groups.append(Group(rows, float(np.exp(log_c)), 0.0))
        for i, point in zip(members, rows, strict=True):
            by_size.setdefault(i, []).append((log_c, int(point)))
            params.append(np.exp(sizes[i].log_n))
            tokens.append(np.exp(log_c - sizes[i].log_per_token))
    loss, sources = np.empty(len(params)), []
    for i, wanted in by_size.items():
        targets, points = np.array([c for c, _ in wanted]), np.array([p for _, p in wanted])
        loss[points] = np.exp(through(sizes[i].log_c, sizes[i].nodes(log_rows[None]), targets)[0])
        sources.append((sizes[i], targets, points))
    return Cells(groups, np.array(params), np.array(tokens), loss, log_rows, tuple(sources), dropped)


@dataclass(frozen=True, eq=False)
class RowNoise:
    """Run-to-run noise of the rows' log loss: its sd, degrees of freedom and origin; residuals and leverages (n,)."""

    sigma: float
    dof: int
    origin: str
    residual: Array
    leverage: Array

    def draws(self, task: Task) -> Array | None:
        """Noise of the rows (B, n); None where the draws are of cases, NaN where nothing is known of it."""
        resamples = task.resamples
        if resamples.weights is not None:
            return None
        if np.isfinite(self.sigma) or resamples.sigma is not None:
            sigma = self.sigma if np.isfinite(self.sigma) else 0.0
            return resamples.noise(sigma, self.dof, self.residual if self.dof else None, self.leverage)
        return np.full((resamples.draws, len(task.runs)), np.nan)


def measured_noise(task: Task, degree: int) -> RowNoise:
    """The run-to-run noise of a table's log losses.

    Residuals of the rows about a polynomial in ln N of `degree` at most (fewer where a budget has few sizes), pooled
    over the budgets as they were run, so that seeds of one cell count fully; where they leave no degree of freedom,
    the stored standard errors, which hold noise that all runs share and are therefore on the safe side.
    """
    loss, log_n = task.runs.loss, np.log(task.params)
    residual, leverage = np.full(loss.size, np.nan), np.zeros(loss.size)
    squares, dof = 0.0, 0
    for g in isoflop_groups(task.runs, task.flops):
        u, y = log_n[g.rows], loss[g.rows]
        sizes = np.unique(u).size
        fitted = min(degree, max(sizes - 2, 2))
        if sizes < MIN_SIZES:
            continue
        basis, _ = np.linalg.qr(np.vander((u - u.mean()) / np.ptp(u), fitted + 1))
        smooth = basis @ (basis.T @ y)
        residual[g.rows] = y / smooth - 1
        leverage[g.rows] = (basis**2).sum(axis=1)
        squares += float((residual[g.rows] ** 2).sum())
        dof += y.size - fitted - 1
    if dof > 0:
        return RowNoise(float(np.sqrt(squares / dof)), dof, "residuals", residual, leverage)
    relative = (task.runs.loss_se / loss)[np.isfinite(task.runs.loss_se)]
    if relative.size:
        return RowNoise(float(np.sqrt(np.mean(relative**2))), 0, "loss_se", residual, leverage)
    return RowNoise(float("nan"), 0, "none", residual, leverage)
