"""Approach 2: at each budget a parabola of the loss in ln N; its vertex is N*; Hoffmann et al. 2022 §3.2.

Known biases (a parabola is not the surface): groups wider than about ±4× around the optimum shift the intercept where
alpha ≠ beta, and grids whose centre drifts against the optimum bias the exponent. Both are reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.approaches.base import Approach, Group, Task, build, interval, isoflop_groups, line
from analysis.bootstrap import MIN_DRAWS
from analysis.table import SAME_BUDGET
from analysis.types import Array, Dropped, Frontier, FrontierPoint, Parabola, Status

MIN_SIZES = 3
WIDE_GRID = 16.5
"""Largest over smallest size of a group beyond which the parabola's bias shows (±4×, with a little slack)."""


@dataclass(eq=False)
class _Vertex:
    """A group's parabola and minimum, with draws (B,) of ln N*, ln D*, L* (NaN where a draw has no minimum)."""

    group: Group
    centre: float
    coefficients: Array
    log_n: float
    log_d: float
    loss: float
    status: Status
    reason: str
    fitted: Array
    sizes: int
    log_n_draws: Array
    log_d_draws: Array
    loss_draws: Array

    def point(self, level: float) -> FrontierPoint:
        """The minimum as a point of the frontier; without numbers where it is refused."""
        if self.status not in (Status.CONVERGED, Status.NOT_RESOLVED):
            return FrontierPoint(self.group.flops, math.nan, math.nan, math.nan, self.status, self.reason)
        lo, hi = interval(np.log(np.maximum(self.loss_draws, 1e-300)), level)
        return FrontierPoint(
            self.group.flops,
            math.exp(self.log_n),
            math.exp(self.log_d),
            self.loss,
            self.status,
            self.reason,
            interval(self.log_n_draws, level),
            interval(self.log_d_draws, level),
            (lo, hi),
        )


def _design(u: Array) -> Array:
    return np.stack([np.ones_like(u), u, u * u], axis=-1)


def _fit(group: Group, params: Array, loss: Array) -> _Vertex:
    """The parabola of one group, without draws yet."""
    log_n = np.log(params[group.rows])
    y = loss[group.rows]
    centre = float((log_n.min() + log_n.max()) / 2)
    u = log_n - centre
    sizes = np.unique(log_n).size
    empty = np.empty(0)
    nan = np.full(3, np.nan)
    found = _Vertex(
        group, centre, nan, math.nan, math.nan, math.nan, Status.CONVERGED, "", y, sizes, empty, empty, empty
    )
    if sizes < MIN_SIZES:
        found.status, found.reason = Status.TOO_FEW_POINTS, f"{sizes} sizes; a parabola needs {MIN_SIZES}"
        return found
    found.coefficients = np.asarray(np.linalg.lstsq(_design(u), y, rcond=None)[0], dtype=np.float64)
    found.fitted = _design(u) @ found.coefficients
    _, c1, c2 = found.coefficients
    # Curvature that rounding alone could give is none.
    if c2 * np.ptp(u) ** 2 <= 1e-9 * float(np.abs(y).max()):
        found.status, found.reason = Status.NON_INTERIOR, "the loss does not bend upwards: no minimum"
        return found
    vertex = -c1 / (2 * c2)
    found.log_n, found.loss = centre + vertex, float(found.coefficients[0] - c1 * c1 / (4 * c2))
    by_size = {s: float(y[log_n == s].mean()) for s in np.unique(log_n)}
    best = min(by_size, key=lambda s: by_size[s])
    for edge, word in ((log_n.min(), "smallest"), (log_n.max(), "largest")):
        if best == edge:
            found.status, found.reason = (
                Status.NON_INTERIOR,
                f"the {word} size has the lowest loss: minimum not bracketed",
            )
    if not log_n.min() < found.log_n < log_n.max():
        side = "below the smallest" if found.log_n <= log_n.min() else "above the largest"
        found.status, found.reason = Status.NON_INTERIOR, f"the parabola's minimum lies {side} size"
    return found


def _tokens_at(group: Group, params: Array, tokens: Array, centre: float, log_n: Array | float) -> Array:
    """ln D at ln N within a group, by a parabola of ln D in ln N (exact where C = kappa N D, kappa constant)."""
    u = np.log(params[group.rows]) - centre
    degree = min(2, np.unique(u).size - 1)
    coefficients = np.polynomial.polynomial.polyfit(u, np.log(tokens[group.rows]), degree)
    return np.asarray(np.polynomial.polynomial.polyval(np.asarray(log_n) - centre, coefficients))


def noise_of(vertices: list[_Vertex], loss: Array, loss_se: Array) -> tuple[float, int, str]:
    """Relative noise of a loss, its degrees of freedom, and where it is from.

    Residuals pooled over the groups' parabolas; where they leave no degree of freedom (three sizes each), the stored
    standard errors, which hold noise that all runs share and are therefore on the safe side.
    """
    squares, dof = 0.0, 0
    for v in vertices:
        if v.sizes >= MIN_SIZES:
            squares += float((((loss[v.group.rows] - v.fitted) / v.fitted) ** 2).sum())
            dof += v.group.rows.size - 3
    if dof > 0:
        return math.sqrt(squares / dof), dof, "residuals"
    relative = (loss_se / loss)[np.isfinite(loss_se)]
    if relative.size:
        return float(np.sqrt(np.mean(relative**2))), 0, "loss_se"
    return math.nan, 0, "none"


def _draw(v: _Vertex, task: Task, params: Array, tokens: Array, loss: Array, noise: Array | None) -> None:
    """Fills in the draws of a group's minimum."""
    rows = v.group.rows
    u = np.log(params[rows]) - v.centre
    design = _design(u)
    if noise is not None:
        y = v.fitted * np.exp(noise[:, rows])
        coefficients = y @ np.linalg.pinv(design).T
        thin = np.zeros(len(y), bool)
    else:
        assert task.resamples.weights is not None
        w = task.resamples.weights[:, rows]
        gram = np.einsum("bn,ni,nj->bij", w, design, design)
        distinct = sum(((w * (u == s)).sum(axis=1) > 0).astype(int) for s in np.unique(u))
        thin = np.asarray(distinct) < MIN_SIZES
        gram[thin] = np.eye(3)
        coefficients = np.linalg.solve(gram, ((w * loss[rows]) @ design)[..., None])[..., 0]
    c0, c1, c2 = coefficients.T
    reach = float(np.ptp(u))
    with np.errstate(all="ignore"):
        vertex = np.where((c2 > 0) & ~thin, -c1 / (2 * c2), np.nan)
    # A nearly flat draw has its vertex anywhere; beyond one more width of the grid it only says "outside".
    vertex = np.clip(vertex, u.min() - reach, u.max() + reach)
    v.log_n_draws = v.centre + vertex
    v.loss_draws = c0 + c1 * vertex + c2 * vertex**2
    v.log_d_draws = _tokens_at(v.group, params, tokens, v.centre, v.log_n_draws)
    inside = float(np.mean((vertex >= u.min()) & (vertex <= u.max())))
    if v.status is Status.CONVERGED and inside < 0.5 and task.resamples.draws >= MIN_DRAWS:
        v.status, v.reason = Status.NOT_RESOLVED, f"only {inside:.0%} of draws have their minimum inside the sizes"


def vertices_of(task: Task) -> tuple[list[_Vertex], float, int, str]:
    """Every group's minimum with its draws; and the noise, its degrees of freedom and its origin."""
    params, tokens, loss = task.params, task.runs.tokens, task.runs.loss
    vertices = [_fit(g, params, loss) for g in isoflop_groups(task.runs, task.flops)]
    sigma, dof, origin = noise_of(vertices, loss, task.runs.loss_se)
    noise = None
    if task.resamples.scheme == "noise":
        noise = (
            task.resamples.noise(sigma, dof)
            if math.isfinite(sigma)
            else np.full((task.resamples.draws, loss.size), np.nan)
        )
    for v in vertices:
        if math.isfinite(v.log_n):
            v.log_d = float(_tokens_at(v.group, params, tokens, v.centre, v.log_n))
            _draw(v, task, params, tokens, loss, noise)
    return vertices, sigma, dof, origin


class IsoFlop(Approach):
    """Parabola per budget, vertex, log–log line through the vertices of the budgets with an interior minimum."""

    name: ClassVar[str] = "isoflop"
    summary: ClassVar[str] = "approach 2: a parabola per budget; minima that are not interior are refused"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, §3.2"

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`; needs two budgets with interior minima."""
        groups = [g for g in isoflop_groups(task.runs, task.flops) if g.rows.size >= MIN_SIZES]
        if not groups:
            return self.none(
                task, Status.NOT_ISOFLOP, f"no {MIN_SIZES} runs share a budget (FLOPs within {SAME_BUDGET:.0%})"
            )
        widest = max(g.spread for g in groups)
        if widest > SAME_BUDGET:
            return self.none(
                task,
                Status.NOT_ISOFLOP,
                f"FLOPs within a group differ by {widest:.1%} under cost {task.cost} and count {task.count}",
            )
        vertices, sigma, dof, origin = vertices_of(task)
        points = [v.point(task.level) for v in vertices]
        dropped = tuple(
            Dropped(f"budget {v.group.flops:.4g}", v.reason) for v in vertices if v.status is not Status.CONVERGED
        )
        parabolas = tuple(self._parabola(v, task) for v in vertices)
        used = [v for v in vertices if v.status is Status.CONVERGED]
        diagnostics = {
            "noise_relative": sigma,
            "noise_from": origin,
            "degrees_of_freedom": dof,
            "grid_width": [float(np.exp(np.ptp(np.log(task.params[v.group.rows])))) for v in vertices],
            "off_centre": [v.log_n - v.centre for v in vertices],
        }
        if len(used) < 2:
            worst = next((v for v in vertices if v.status is not Status.CONVERGED), None)
            why = f"{len(used)} of {len(vertices)} budgets have an interior minimum; a line needs two"
            status = Status.TOO_FEW_POINTS if len(vertices) < 2 or worst is None else worst.status
            if len(used) == 1 and len(vertices) >= 2:
                status = Status.TOO_FEW_POINTS
            return self.none(
                task, status, why, points=tuple(points), dropped=dropped, diagnostics=diagnostics, parabolas=parabolas
            )
        log_c = np.log([v.group.flops for v in used])
        n_line = line(log_c, np.array([v.log_n for v in used]), np.stack([v.log_n_draws for v in used], axis=1))
        d_line = line(log_c, np.array([v.log_d for v in used]), np.stack([v.log_d_draws for v in used], axis=1))
        return build(
            self,
            task,
            n_line,
            d_line,
            points,
            dropped=dropped,
            warnings=self._warnings(diagnostics, origin, len(used)),
            diagnostics=diagnostics,
            parabolas=parabolas,
        )

    @staticmethod
    def _parabola(v: _Vertex, task: Task) -> Parabola:
        rows = v.group.rows
        c0, c1, c2 = (float(c) for c in v.coefficients)
        return Parabola(
            v.group.flops,
            task.params[rows],
            task.runs.tokens[rows],
            task.runs.loss[rows],
            v.centre,
            (c0, c1, c2),
            v.status,
            v.reason,
        )

    @staticmethod
    def _warnings(diagnostics: dict[str, object], origin: str, used: int) -> tuple[str, ...]:
        found = []
        widths = diagnostics["grid_width"]
        assert isinstance(widths, list)
        if max(widths) > WIDE_GRID:
            found.append(f"sizes of a budget span {max(widths):.0f}×; beyond 16× the parabola biases the intercept")
        if used == 2:
            found.append("two budgets: the line is not tested by a third")
        if origin == "loss_se":
            found.append("no residual degrees of freedom: noise taken from loss_se")
        if origin == "none":
            found.append("no residual degrees of freedom and no loss_se: no intervals")
        return tuple(found)
