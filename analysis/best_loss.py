"""The best loss of each budget: two rules that know nothing else, how fast it falls, and whether a law falls alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from analysis.approaches.base import Task, isoflop_groups, line
from analysis.approaches.cells import measured_noise
from analysis.approaches.isoflop import Vertex, vertices_of
from analysis.approaches.surface import best_at
from analysis.bootstrap import estimate
from analysis.costs import CostSurface
from analysis.laws.base import Law
from analysis.types import Array, Estimate, Status


class Best(NamedTuple):
    """ln C (G,) of the budgets ascending, ln of the best loss (G,) and its draws (B, G)."""

    log_flops: Array
    log_loss: Array
    draws: Array


class Pace(NamedTuple):
    """How the best loss falls: by C^−exponent from each budget to the next (G − 1,), and how that changes."""

    exponents: Array
    rise: Estimate
    """Of the exponent in a decade of compute, by a parabola through ln L over ln C; above 0 the loss accelerates."""
    law: float
    """The same along the frontier of a law at these budgets; NaN where none was given."""
    excess: Estimate
    """What the observed rise has beyond the law's, draws paired; missing where no law was given."""


def pace(best: Best, level: float, along: Best | None = None) -> Pace | None:
    """The pace of a table's best losses; None of fewer than three budgets.

    Args:
        best: of every budget.
        level: nominal coverage.
        along: `along_law` of a law fitted to the same table, at the same budgets and of the same draws.
    """
    x = best.log_flops - best.log_flops.mean()
    if x.size < 3:
        return None
    bend = -2.0 * math.log(10.0) * np.linalg.pinv(np.vander(x, 3))[0]
    seen, drawn = float(bend @ best.log_loss), best.draws @ bend
    exponents = -np.diff(best.log_loss) / np.diff(best.log_flops)
    rise = estimate(seen, drawn, level)
    if along is None:
        return Pace(exponents, rise, math.nan, Estimate.missing(level))
    law = float(bend @ along.log_loss)
    return Pace(exponents, rise, law, estimate(seen - law, drawn - along.draws @ bend, level))


def along_law(
    law: Law, values: Mapping[str, float], draws: Mapping[str, Array], cost: CostSurface, log_flops: Array
) -> Best:
    """The loss of a fitted surface at its best size for every budget ln C (G,); values of draws are (B,)."""
    flops = np.exp(log_flops)
    with np.errstate(all="ignore"):
        main, drawn = (best_at(law, v, flops, cost) for v in (values, draws))
        return Best(log_flops, np.log(main.loss), np.log(drawn.loss))


def baselines(best: Best | None, flops: float, level: float) -> dict[str, Estimate]:
    """The best loss at budget `flops` by two rules that know only the best loss of each budget.

    `power_law`: the pure power law L = A C^−alpha through every budget's best loss. `last_two`: the straight line in
    log–log through the last two budgets. A budget's best loss is its parabola's minimum where that is interior, else
    its lowest observed loss. Empty where the table has not two budgets (None).
    """
    if best is None:
        return {}
    log_c, value, drawn = best
    found = {}
    for name, part in (("power_law", slice(None)), ("last_two", slice(-2, None))):
        through = line(log_c[part], value[part], drawn[:, part])
        target = math.log(flops)
        guess = math.exp(through.log_coefficient + through.exponent * target)
        with np.errstate(all="ignore"):
            found[name] = estimate(
                guess, np.exp(through.log_coefficient_draws + through.exponent_draws * target), level
            )
    return found


def best_losses(task: Task) -> Best | None:
    """The best loss of every budget of a table; None where there are not two budgets."""
    seen = vertices_of(task)
    if isinstance(seen, str):
        groups, loss = isoflop_groups(task.runs, task.flops), task.runs.loss
        by_group: dict[int, Vertex] = {}
        noise = measured_noise(task, 2).draws(task)
    else:
        groups, loss = seen.cells.groups, seen.cells.loss
        by_group = dict(enumerate(seen.found))
        noise = seen.noise.draws(task)
        noise = None if noise is None else seen.cells.noise(noise)
    log_c, best, drawn = [], [], []
    for k, g in enumerate(groups):
        v = by_group.get(k)
        if g.rows.size < 2:
            continue
        log_c.append(math.log(g.flops))
        if v is not None and v.status is Status.CONVERGED:
            best.append(math.log(v.loss))
            drawn.append(np.log(np.maximum(v.loss_draws, 1e-300)))
            continue
        row = int(g.rows[np.argmin(loss[g.rows])])
        best.append(math.log(float(loss[row])))
        drawn.append(math.log(float(loss[row])) + (np.zeros(task.resamples.draws) if noise is None else noise[:, row]))
    if len(best) < 2:
        return None
    return Best(np.array(log_c), np.array(best), np.stack(drawn, axis=1))
