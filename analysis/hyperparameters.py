"""Best learning rate and batch of each size and horizon from a grid of runs, and power laws through them.

A cell is the runs of one N and D. Its optimum is that of a quadratic surface in (ln lr, ln batch), fitted to the runs
near the best (`surface`); or all runs within .25 % of the best stand for it, as in DeepSeek LLM (arXiv 2401.02954)
and Li et al. 2025 (arXiv 2503.04715) (`within`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import Choice, percentile
from analysis.fitting import fit
from analysis.laws.batch_size import BatchSize
from analysis.laws.learning_rate import LearningRate
from analysis.table import Runs, check_name, read_table
from analysis.types import Array, Dropped, Estimate, FitResult, Status, jsonable, text_table
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Selection = Literal["surface", "within", "best"]

NEAR = 0.01
"""A surface is fitted to the runs whose loss is within this share of the cell's best: a quadratic holds no further."""
WITHIN = 0.0025
"""Share of the best loss within which a run stands for its cell's optimum (`within`)."""
_LEAST = 4
"""Runs beyond the surface's coefficients that a cell must have near its best; else further ones are taken."""
_SURFACE_DRAWS = 200
_LOG_RANGE = 200.0


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one N and D: the optimum of their surface, with intervals from its residuals, and what it is worth.

    `loss` is the surface's least loss in nats, `gap` how far the best run lies above it: what tuning the grid further
    would gain. `curvature` is the surface's Hessian over the `axes` that vary (ln lr, ln batch).
    """

    params: float
    tokens: float
    lr: Estimate
    batch_tokens: Estimate
    loss: float
    gap: float
    n: int
    status: Status
    reason: str
    axes: tuple[str, ...]
    curvature: Array
    rows: NDArray[np.intp]

    def to_json(self) -> dict[str, Any]:
        """The cell, without its rows."""
        names = ("params", "tokens", "lr", "batch_tokens", "loss", "gap", "n", "status", "reason")
        return {name: jsonable(getattr(self, name)) for name in names}


@dataclass(frozen=True, eq=False, repr=False)
class HyperparameterFit:
    """Laws of the best learning rate and batch, and the cells they were fitted to; a law is None where none could be.

    Their intervals are over cells.
    """

    lr: FitResult | None
    batch: FitResult | None
    cells: tuple[Cell, ...]
    selection: Selection
    dropped: tuple[Dropped, ...]

    def at(self, *, params: float, tokens: float, flops: float | None = None) -> dict[str, Estimate]:
        """Best `lr` and `batch_tokens` of a model and horizon, with the intervals of the laws; C is 6ND if left out."""
        known = {"params": params, "tokens": tokens, "flops": 6.0 * params * tokens if flops is None else flops}
        found = {}
        for law in (self.lr, self.batch):
            if law is not None:
                x = {v: np.float64(known[v]) for v in law.model.variables}
                value, ends = float(law.predict(**x)), (math.nan, math.nan)
                if law.draws:
                    ends = percentile(law.model.predict(law.draws, **x), law.level)
                found[law.model.response] = Estimate(value, ends, law.level)
        return found

    def to_json(self) -> dict[str, Any]:
        """`{"lr", "batch_tokens", "selection", "cells", "dropped"}`, the laws as `fit` objects."""
        return jsonable(
            {
                "lr": self.lr,
                "batch_tokens": self.batch,
                "selection": self.selection,
                "cells": list(self.cells),
                "dropped": list(self.dropped),
            }
        )

    def __repr__(self) -> str:
        rows = [
            [
                f"{c.params:.4g}",
                f"{c.tokens:.4g}",
                str(c.n),
                repr(c.lr),
                repr(c.batch_tokens),
                f"{c.gap:.4f}",
                c.status.value + (f": {c.reason}" if c.reason else ""),
            ]
            for c in self.cells
        ]
        header = ["params", "tokens", "runs", "lr", "batch_tokens", "gap", "status"]
        laws = [repr(law) for law in (self.lr, self.batch) if law is not None]
        return "\n".join([*laws, f"{self.selection}, {len(self.cells)} cells", *text_table(header, rows)])


def fit_hyperparameters(
    table: str | Path | pd.DataFrame | Runs,
    *,
    selection: Selection = "surface",
    lr: str = "params_tokens",
    batch: str = "tokens",
    within: float = WITHIN,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> HyperparameterFit:
    """Fits power laws of the best learning rate and batch to a grid of runs over N, D, lr and batch.

    A table of optima, one row for each N and D, does not need this: `fit(table, law="learning_rate")` takes it.

    Args:
        table: runs with params, tokens, lr, batch_tokens and loss; see `read_table`.
        selection: `surface`, each cell's quadratic optimum, cells at an edge of their grid left out; `within`, every
            run within a share of its cell's best loss; `best`, each cell's best run.
        lr, batch: what each law is over: params_tokens, params, tokens or flops.
        within: that share.
        bootstrap, level, seed: see `fit`; for `within` cells are drawn with replacement.
        columns, where: see `read_table`.

    Raises:
        TableError: see `read_table`.
        InputError: no such selection or variable, or a share that is not positive.
    """
    check_name("selection", selection, get_args(Selection))
    if not within > 0:
        raise InputError(f"within is {within}: a positive share of the loss, .0025 as published")
    laws = {"lr": LearningRate(lr), "batch_tokens": BatchSize(batch)}
    runs = read_table(table, columns=columns, where=where, needs=("params", "tokens", "lr", "batch_tokens", "loss"))
    cells = optimal_cells(runs, level=level, seed=seed)
    # Runs of a cell are drawn together; single optima are few, and for few rows drawing noise covers better.
    scheme: Choice = "case" if selection == "within" else "auto"
    found: dict[str, FitResult | None] = {}
    dropped: list[Dropped] = list(runs.dropped)
    for response, law in laws.items():
        points, out = _points(runs, cells, selection, within, response)
        dropped += out
        found[response] = (
            fit(points, law, objective="ls_log", bootstrap=bootstrap, level=level, seed=seed, scheme=scheme)
            if len(points)
            else None
        )
    return HyperparameterFit(found["lr"], found["batch_tokens"], cells, selection, tuple(dict.fromkeys(dropped)))


def optimal_cells(
    table: str | Path | pd.DataFrame | Runs, *, level: float = 0.9, seed: int = 0, near: float = NEAR
) -> tuple[Cell, ...]:
    """The optimum over learning rate and batch of each N and D of a table, by rising N, then D.

    Raises:
        TableError: see `read_table`.
    """
    runs = read_table(table, needs=("params", "tokens", "lr", "batch_tokens", "loss"))
    size, horizon = runs.variable("params"), runs.variable("tokens")
    _, cell = np.unique(np.round(np.log(np.stack([size, horizon])), 6), axis=1, return_inverse=True)
    return tuple(_cell(runs, np.flatnonzero(cell.ravel() == k), level, seed, near) for k in range(int(cell.max()) + 1))


def _cell(runs: Runs, rows: NDArray[np.intp], level: float, seed: int, near: float) -> Cell:
    """One cell's surface and optimum."""
    loss = runs.loss[rows]
    grid = {name: np.log(runs.variable(name)[rows]) for name in ("lr", "batch_tokens")}
    axes = tuple(name for name, values in grid.items() if np.ptp(values) > 1e-9)
    best = int(np.argmin(loss))
    at_best = {name: float(np.exp(values[best])) for name, values in grid.items()}
    estimates = {name: Estimate(at_best[name], (math.nan, math.nan), level) for name in grid}
    gap, least, curvature = math.nan, float(loss[best]), np.empty((0, 0))
    coefficients = 1 + len(axes) + len(axes) * (len(axes) + 1) // 2
    if not axes or rows.size < coefficients + 1:
        status, reason = Status.TOO_FEW_POINTS, f"{rows.size} runs for a surface of {coefficients} coefficients"
    else:
        z = np.stack([grid[name] for name in axes], axis=1)
        used = _near(loss, near, coefficients + _LEAST)
        surface = _Surface.fitted(z[used], loss[used])
        curvature = surface.hessian
        status, reason = surface.judge(z, best, axes)
        if status is Status.CONVERGED:
            draws = surface.optimum_draws(np.random.default_rng([seed, rows.size]), level)
            for k, name in enumerate(axes):
                estimates[name] = Estimate(
                    float(np.exp(surface.optimum[k])),
                    percentile(np.exp(np.clip(draws[:, k], -_LOG_RANGE, _LOG_RANGE)), level),
                    level,
                )
            least = surface.least
            gap = max(0.0, float(loss[best]) - least)
    return Cell(
        float(runs.variable("params")[rows[0]]),
        float(runs.variable("tokens")[rows[0]]),
        estimates["lr"],
        estimates["batch_tokens"],
        least,
        gap,
        rows.size,
        status,
        reason,
        axes,
        curvature,
        rows,
    )


def _near(loss: Array, near: float, least: int) -> NDArray[np.intp]:
    """Rows within a share of the best loss, or the best `least` where those are fewer."""
    order = np.argsort(loss, kind="stable")
    inside = int((loss <= loss.min() * (1 + near)).sum())
    return order[: max(inside, min(least, loss.size))]


@dataclass(frozen=True, eq=False)
class _Surface:
    """loss = c0 + g·u + uᵀ H u/2 by least squares, u = z − `centre` (d,); `design` is (n, coefficients)."""

    centre: Array
    design: Array
    coefficients: Array
    residual: Array

    @classmethod
    def fitted(cls, z: Array, loss: Array) -> _Surface:
        """The surface through points z (n, d)."""
        centre = z.mean(axis=0)
        u = z - centre
        d = u.shape[1]
        pairs = [u[:, i] * u[:, j] * (0.5 if i == j else 1.0) for i in range(d) for j in range(i, d)]
        design = np.stack([np.ones(len(u)), *u.T, *pairs], axis=1)
        coefficients = np.linalg.lstsq(design, loss, rcond=None)[0]
        return cls(centre, design, coefficients, loss - design @ coefficients)

    @property
    def hessian(self) -> Array:
        """H (d, d)."""
        return _unpack(self.coefficients[None], self.centre.size)[1][0]

    @property
    def optimum(self) -> Array:
        """z (d,) where the surface is stationary."""
        return _stationary(self.coefficients[None], self.centre)[0]

    @property
    def least(self) -> float:
        """The surface's value there."""
        step = self.optimum - self.centre
        return float(self.coefficients[0] + 0.5 * self.coefficients[1 : 1 + step.size] @ step)

    def judge(self, z: Array, best: int, axes: tuple[str, ...]) -> tuple[Status, str]:
        """Whether the surface has a least inside the grid z (n, d), and on which edge it or the best run lies."""
        edge = _edge(z, z[best], axes)
        if edge:
            return Status.NON_INTERIOR, f"the best run lies at the {edge}"
        if np.linalg.matrix_rank(self.design) < self.design.shape[1]:
            return Status.UNIDENTIFIED, "the runs near the best do not span a surface"
        if not (np.linalg.eigvalsh(self.hessian) > 0).all():
            return Status.NOT_RESOLVED, "the surface near the best run has no least point"
        edge = _edge(z, self.optimum, axes)
        if edge:
            return Status.NON_INTERIOR, f"the optimum lies at or beyond the {edge}"
        return Status.CONVERGED, ""

    def optimum_draws(self, rng: np.random.Generator, level: float) -> Array:
        """Optima (draws, d) under resampled residuals; NaN where a draw has no least point.

        Widened from the normal's quantile at `level` to Student's t on the residuals' few degrees of freedom.
        """
        n, p = self.design.shape
        noise = self.residual[rng.integers(0, n, (_SURFACE_DRAWS, n))] * math.sqrt(n / max(n - p, 1))
        draws = self.coefficients + noise @ np.linalg.pinv(self.design).T
        found = _stationary(draws, self.centre)
        hessian = _unpack(draws, self.centre.size)[1]
        found[~(np.linalg.eigvalsh(hessian) > 0).all(axis=1)] = np.nan
        z = NormalDist().inv_cdf(0.5 + 0.5 * level)
        wider = 1.0 + (z * z + 1.0) / (4.0 * max(n - p, 1))  # Cornish and Fisher's first term
        return np.asarray(self.optimum + wider * (found - self.optimum))


def _edge(z: Array, point: Array, axes: tuple[str, ...]) -> str:
    """Which edge of a grid z (n, d) a point (d,) lies at or beyond; "" inside."""
    for k, name in enumerate(axes):
        if point[k] <= z[:, k].min() + 1e-9:
            return f"lower edge of the grid's {name}"
        if point[k] >= z[:, k].max() - 1e-9:
            return f"upper edge of the grid's {name}"
    return ""


def _unpack(coefficients: Array, d: int) -> tuple[Array, Array]:
    """Gradients (B, d) and Hessians (B, d, d) of coefficients (B, P)."""
    hessian = np.empty((len(coefficients), d, d))
    upper = [(i, j) for i in range(d) for j in range(i, d)]
    for k, (i, j) in enumerate(upper):
        hessian[:, i, j] = hessian[:, j, i] = coefficients[:, 1 + d + k]
    return coefficients[:, 1 : 1 + d], hessian


def _stationary(coefficients: Array, centre: Array) -> Array:
    """z (B, d) where each surface is stationary."""
    gradient, hessian = _unpack(coefficients, centre.size)
    safe = hessian + 1e-300 * np.eye(centre.size)
    singular = np.abs(np.linalg.det(safe)) < 1e-30
    safe[singular] = np.eye(centre.size)
    found: Array = centre - np.linalg.solve(safe, gradient[..., None])[..., 0]
    found[singular] = np.nan
    return found


def _points(
    runs: Runs, cells: tuple[Cell, ...], selection: Selection, within: float, response: str
) -> tuple[pd.DataFrame, list[Dropped]]:
    """What one law is fitted to, a lineage for each cell, and the cells left out."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    flops = runs.variable("flops")
    for k, cell in enumerate(cells):
        name = f"N = {cell.params:.4g}, D = {cell.tokens:.4g}"
        loss = runs.loss[cell.rows]
        if response not in cell.axes:
            dropped.append(Dropped(name, f"one {response} only"))
            continue
        if selection == "surface":
            if cell.status is not Status.CONVERGED:
                dropped.append(Dropped(name, cell.reason))
                continue
            chosen, values = cell.rows[:1], np.array([getattr(cell, response).value])
        else:
            share = loss / loss.min() - 1.0
            chosen = cell.rows[share < within] if selection == "within" else cell.rows[[int(np.argmin(loss))]]
            values = runs.variable(response)[chosen]
        rows += [
            {"params": cell.params, "tokens": cell.tokens, "flops": flops[i], "lineage": f"cell {k}", response: value}
            for i, value in zip(chosen, values, strict=True)
        ]
    return pd.DataFrame(rows), dropped
