"""What a parabola of the loss in ln N adds to N*, expected from a fitted surface on the grid that was run.

Czech et al. 2026, "Problems with Chinchilla Approach 2" (arXiv 2603.22339): the vertex lies off the optimum by a factor
that grows with the grid's width and with |alpha − beta|, the same at every budget where the grid is centred alike (the
intercept is biased, the exponent not), and drifting where the grid's centre drifts (the exponent too).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.approaches.base import Line, Task, line
from analysis.bootstrap import MIN_DRAWS, percentile
from analysis.costs import fit_cost, optimum
from analysis.estimation import Estimated, estimate_law
from analysis.laws.chinchilla import Chinchilla
from analysis.types import Array

if TYPE_CHECKING:
    from analysis.approaches.cells import Cells
    from analysis.approaches.isoflop import Vertex

LAW = Chinchilla()


def vertex_shift(log_n: Array, loss: Array, log_best: float) -> float:
    """ln of the parabola's N* through points (m,) of a surface over the surface's own N* (ln `log_best`); NaN if none.

    In D* at the same cost the shift is its negative.
    """
    u = log_n - log_best
    c2, c1, _ = np.polyfit(u, loss, 2)
    return float(-c1 / (2 * c2)) if c2 > 0 else float("nan")


def parabola_bias(
    task: Task, cells: Cells, used: Sequence[Vertex], n_line: Line
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The expected bias of approach 2 at the budgets `used`, and a warning where it exceeds an interval's half width.

    `vertex_shift` is ln(N* of the parabola / N* of the surface) at each budget, `N_exponent` what the shifts add to the
    exponent, `N_factor` the factor on N* at the middle budget; D* has the negatives and the inverse. `surface` is the
    status of the least-squares fit they come from.
    """
    fit = _surface(task)
    if not fit.usable:
        return {"surface": fit.status.value}, ()
    cost = fit_cost(task.params, task.runs.tokens, task.flops)
    log_c = np.log([v.group.flops for v in used])
    best = optimum(LAW, fit.values, np.exp(log_c), cost)
    shifts = np.full(len(used), np.nan)
    for k, v in enumerate(used):
        rows = v.group.rows
        if np.isfinite(best.params[k]) and best.params[k] > 0:
            loss = LAW.predict(fit.values, params=cells.params[rows], tokens=cells.tokens[rows])
            shifts[k] = vertex_shift(np.log(cells.params[rows]), loss, float(np.log(best.params[k])))
    if not np.isfinite(shifts).all():
        return {"surface": fit.status.value}, ()
    added = line(log_c, shifts, shifts[None])
    factor = float(np.exp(added.log_coefficient + added.exponent * log_c.mean()))
    bias = {
        "surface": fit.status.value,
        "vertex_shift": shifts.tolist(),
        "N_exponent": added.exponent,
        "N_factor": factor,
    }
    return bias, tuple(_warnings(task, n_line, float(log_c.mean()), added.exponent, float(np.log(factor))))


def _warnings(task: Task, n_line: Line, middle: float, exponent: float, shift: float) -> list[str]:
    found: list[str] = []
    if task.resamples.draws < MIN_DRAWS:
        return found
    half = _half_width(n_line.exponent_draws, task.level)
    if abs(exponent) > max(half, 1e-6):
        found.append(
            f"drift of the grid against the optimum is expected to add {exponent:+.3f} to the exponent of N*, "
            f"more than its interval's half width ({half:.3f})"
        )
    half = _half_width(n_line.log_coefficient_draws + n_line.exponent_draws * middle, task.level)
    if abs(shift) > max(half, 1e-6):
        found.append(
            f"the parabola is expected to put N* off by {np.expm1(shift):+.1%}, "
            f"more than its interval's half width ({np.expm1(half):.1%})"
        )
    return found


def _half_width(draws: Array, level: float) -> float:
    lo, hi = percentile(draws, level)
    return (hi - lo) / 2 if np.isfinite(hi - lo) else float("inf")


def _surface(task: Task) -> Estimated:
    """The least-squares fit of the approach `vpnls`, without draws where nobody has asked for them."""
    for key in ((task.count, "ls", LAW.name), ("bias", task.count)):
        if key in task.memo:
            found: Estimated = task.memo[key]
            return found
    x = {"params": task.params, "tokens": task.runs.tokens}
    task.memo["bias", task.count] = estimate_law(LAW, x, task.runs.loss, "ls", None)
    return task.memo["bias", task.count]  # type: ignore[no-any-return]
