"""Approach 2: at each budget a parabola of the loss in ln N; its vertex is N*; Hoffmann et al. 2022 §3.2.

Known biases (a parabola is not the surface): a wide grid shifts every vertex by the same factor where alpha ≠ beta, and
a grid whose centre drifts against the optimum bends the exponent. Both are reported: see `analysis.approaches.bias`.
Under a cost that is not the budgets' own the losses are interpolated between horizons: see `analysis.approaches.cells`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.approaches.base import Approach, Group, Task, build, interval, line
from analysis.approaches.bias import parabola_bias
from analysis.approaches.cells import MIN_SIZES, Cells, RowNoise, cells_of, measured_noise
from analysis.bootstrap import MIN_DRAWS
from analysis.types import Array, Dropped, Frontier, FrontierPoint, Parabola, Status

WIDE_GRID = 16.5
"""Largest over smallest size of a group beyond which the parabola's bias shows (±4×, with a little slack)."""


@dataclass(eq=False)
class Vertex:
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


def _fit(group: Group, params: Array, loss: Array) -> Vertex:
    """The parabola of one group, without draws yet."""
    log_n = np.log(params[group.rows])
    y = loss[group.rows]
    centre = float((log_n.min() + log_n.max()) / 2)
    u = log_n - centre
    sizes = np.unique(log_n).size
    empty = np.empty(0)
    nan = np.full(3, np.nan)
    found = Vertex(
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


def tokens_at(group: Group, cells: Cells, centre: float, log_n: Array | float) -> Array:
    """ln D at ln N within a group, by a parabola of ln D in ln N (exact where C = kappa N D, kappa constant)."""
    u = np.log(cells.params[group.rows]) - centre
    degree = min(2, np.unique(u).size - 1)
    coefficients = np.polynomial.polynomial.polyfit(u, np.log(cells.tokens[group.rows]), degree)
    return np.asarray(np.polynomial.polynomial.polyval(np.asarray(log_n) - centre, coefficients))


def _draw(v: Vertex, task: Task, cells: Cells, noise: Array | None) -> None:
    """Fills in the draws of a group's minimum."""
    rows = v.group.rows
    u = np.log(cells.params[rows]) - v.centre
    design = _design(u)
    if noise is not None:
        y = v.fitted * np.exp(noise[:, rows])
        coefficients = y @ np.linalg.pinv(design).T
        thin = np.zeros(len(y), bool)
    else:
        assert task.resamples.weights is not None
        drawn, weights = cells.drawn(task.resamples.weights)
        y, w = drawn[:, rows], weights[:, rows]
        gram = np.einsum("bn,ni,nj->bij", w, design, design)
        distinct = sum(((w * (u == s)).sum(axis=1) > 0).astype(int) for s in np.unique(u))
        thin = np.asarray(distinct) < MIN_SIZES
        gram[thin] = np.eye(3)
        coefficients = np.linalg.solve(gram, ((w * y) @ design)[..., None])[..., 0]
    c0, c1, c2 = coefficients.T
    reach = float(np.ptp(u))
    with np.errstate(all="ignore"):
        vertex = np.where((c2 > 0) & ~thin, -c1 / (2 * c2), np.nan)
    # A nearly flat draw has its vertex anywhere; beyond one more width of the grid it only says "outside".
    vertex = np.clip(vertex, u.min() - reach, u.max() + reach)
    v.log_n_draws = v.centre + vertex
    v.loss_draws = c0 + c1 * vertex + c2 * vertex**2
    v.log_d_draws = tokens_at(v.group, cells, v.centre, v.log_n_draws)
    if noise is not None and not np.isfinite(noise).all():
        return
    inside = float(np.mean((vertex >= u.min()) & (vertex <= u.max())))
    if v.status is Status.CONVERGED and inside < 0.5 and task.resamples.draws >= MIN_DRAWS:
        v.status, v.reason = Status.NOT_RESOLVED, f"only {inside:.0%} of draws have their minimum inside the sizes"


@dataclass(frozen=True, eq=False)
class Vertices:
    """Every group's minimum with its draws; the rows' noise; the points used."""

    found: list[Vertex]
    noise: RowNoise
    cells: Cells


def vertices_of(task: Task) -> Vertices | str:
    """Every group's minimum; or why there are no groups."""
    cells = cells_of(task)
    if isinstance(cells, str):
        return cells
    vertices = [_fit(g, cells.params, cells.loss) for g in cells.groups]
    measured = measured_noise(task, 2)
    noise = measured.draws(task)
    if noise is not None:
        noise = cells.noise(noise)
    for v in vertices:
        if math.isfinite(v.log_n):
            v.log_d = float(tokens_at(v.group, cells, v.centre, v.log_n))
            _draw(v, task, cells, noise)
    return Vertices(vertices, measured, cells)


class IsoFlop(Approach):
    """Parabola per budget, vertex, log–log line through the vertices of the budgets with an interior minimum."""

    name: ClassVar[str] = "isoflop"
    summary: ClassVar[str] = "approach 2: a parabola per budget; minima that are not interior are refused"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, §3.2"

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`; needs two budgets with interior minima."""
        seen = vertices_of(task)
        if isinstance(seen, str):
            return self.none(task, Status.NOT_ISOFLOP, seen)
        vertices = seen.found
        dropped = seen.cells.dropped + tuple(
            Dropped(f"budget {v.group.flops:.4g}", v.reason) for v in vertices if v.status is not Status.CONVERGED
        )
        used = [v for v in vertices if v.status is Status.CONVERGED]
        diagnostics = {
            "noise_relative": seen.noise.sigma,
            "noise_from": seen.noise.origin,
            "degrees_of_freedom": seen.noise.dof,
            "grid_width": [float(np.exp(np.ptp(np.log(seen.cells.params[v.group.rows])))) for v in vertices],
            "off_centre": [v.log_n - v.centre for v in vertices],
            **interpolation_of(seen.cells),
        }
        shared = {
            "points": [v.point(task.level) for v in vertices],
            "dropped": dropped,
            "parabolas": tuple(self._parabola(v, seen.cells) for v in vertices),
        }
        if len(used) < 2:
            status, why = too_few_minima(vertices)
            return self.none(
                task, status, why, **{**shared, "points": tuple(shared["points"])}, diagnostics=diagnostics
            )
        log_c = np.log([v.group.flops for v in used])
        n_line = line(log_c, np.array([v.log_n for v in used]), np.stack([v.log_n_draws for v in used], axis=1))
        d_line = line(log_c, np.array([v.log_d for v in used]), np.stack([v.log_d_draws for v in used], axis=1))
        bias, warnings = parabola_bias(task, seen.cells, used, n_line)
        return build(
            self,
            task,
            n_line,
            d_line,
            warnings=(*self._warnings(diagnostics, seen, len(used), "vertex_shift" in bias), *warnings),
            diagnostics={**diagnostics, "bias": bias},
            **shared,  # type: ignore[arg-type]
        )

    @staticmethod
    def _parabola(v: Vertex, cells: Cells) -> Parabola:
        rows = v.group.rows
        c0, c1, c2 = (float(c) for c in v.coefficients)
        return Parabola(
            v.group.flops,
            cells.params[rows],
            cells.tokens[rows],
            cells.loss[rows],
            v.centre,
            (c0, c1, c2),
            v.status,
            v.reason,
        )

    @staticmethod
    def _warnings(diagnostics: dict[str, object], seen: Vertices, used: int, bias_known: bool) -> tuple[str, ...]:
        found = []
        widths = diagnostics["grid_width"]
        assert isinstance(widths, list)
        if max(widths) > WIDE_GRID and not bias_known:
            found.append(f"sizes of a budget span {max(widths):.0f}×; beyond 16× the parabola biases the intercept")
        if used == 2:
            found.append("two budgets: the line is not tested by a third")
        return (*found, *noise_warnings(seen.noise.origin), *interpolation_warnings(seen.cells, seen.noise.sigma))


def too_few_minima(vertices: Sequence[Vertex]) -> tuple[Status, str]:
    """Status and reason where fewer than two budgets have an interior minimum."""
    used = sum(v.status is Status.CONVERGED for v in vertices)
    worst = next((v for v in vertices if v.status is not Status.CONVERGED), None)
    why = f"{used} of {len(vertices)} budgets have an interior minimum; a line needs two"
    if worst is not None and worst.reason:
        why += f" (budget {worst.group.flops:.4g}: {worst.reason})"
    if len(vertices) < 2 or worst is None or used == 1:
        return Status.TOO_FEW_POINTS, why
    return worst.status, why


def noise_warnings(origin: str) -> tuple[str, ...]:
    """What to say of noise that residuals did not give."""
    if origin == "loss_se":
        return ("no residual degrees of freedom: noise taken from loss_se",)
    if origin == "none":
        return ("no residual degrees of freedom and no loss_se: no intervals",)
    return ()


def interpolation_of(cells: Cells) -> dict[str, object]:
    """Diagnostics of an interpolation between horizons; empty where there was none."""
    if not cells.interpolated:
        return {}
    return {"interpolated": [int(g.rows.size) for g in cells.groups], "interpolation_gap": cells.gap()}


def interpolation_warnings(cells: Cells, sigma: float) -> tuple[str, ...]:
    """What to say of an interpolation between horizons, or of its want."""
    if not cells.interpolated:
        drift = f"FLOPs within a group differ by up to {cells.drift:.1%} under this cost, which shifts N*"
        return (drift,) if cells.drift else ()
    found = [f"losses interpolated between horizons at {len(cells.groups)} budgets of this cost"]
    gap = cells.gap()
    if math.isfinite(sigma) and gap > max(sigma, 1e-3):
        found.append(f"interpolants differ by up to {gap:.2%} of the loss, more than its noise ({sigma:.2%})")
    return tuple(found)
