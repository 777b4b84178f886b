"""The frontier of a fitted loss surface, shared by the approaches that fit one: minimise L(N, D) at cost C."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.approaches.base import Approach, Line, Task, build, interval, isoflop_groups, line
from analysis.costs import CostSurface, fit_cost, optimum
from analysis.estimation import Estimated, as_result, estimate_law
from analysis.laws.chinchilla import Chinchilla, Optimum
from analysis.solve import Objective
from analysis.types import Array, Frontier, FrontierPoint, Status

LAW = Chinchilla()
COST_MISFIT = 0.05
"""Beyond this relative error C is no smooth function of N and D, as when shapes of one size differ."""


def fit_surface(task: Task, objective: Objective) -> tuple[Estimated, CostSurface]:
    """Hoffmann's law fitted to the task's runs and draws, and the cost of N and D."""
    params, tokens = task.params, task.runs.tokens
    key = (task.count, objective)
    if key not in task.memo:
        x = {"params": params, "tokens": tokens}
        task.memo[key] = estimate_law(LAW, x, task.runs.loss, objective, task.resamples)
    fit: Estimated = task.memo[key]
    return fit, fit_cost(params, tokens, task.flops)


def best_at(values: Mapping[str, Array | float], flops: Array, cost: CostSurface) -> Optimum:
    """N*, D*, L* (G,) at budgets (G,); values of draws (B,) give (B, G)."""
    spread = {k: np.asarray(v)[..., None] for k, v in values.items()}
    return optimum(LAW, spread, flops, cost)


def surface_frontier(approach: Approach, task: Task, objective: Objective) -> Frontier:
    """The frontier of `approach`, which fits the surface by `objective`.

    Under 6ND the exponents are beta/(alpha+beta) and alpha/(alpha+beta). Under another cost N*(C) is no exact power
    law; its exponent is the log–log slope over the budgets of the rows.
    """
    fit, cost = fit_surface(task, objective)
    if not fit.usable:
        return approach.none(task, fit.status, fit.reason)
    lowest, highest = float(task.flops.min()), float(task.flops.max())
    if highest < lowest * 1.01:
        lowest, highest = lowest / 2, highest * 2
    grid = np.geomspace(lowest, highest, 9)
    n_line, d_line = _lines(fit, grid, cost)
    groups = [g.flops for g in isoflop_groups(task.runs, task.flops) if g.rows.size >= 3]
    budgets = np.array(groups) if len(groups) >= 2 else np.geomspace(lowest, highest, 7)
    warnings = list(fit.warnings)
    if cost.misfit > COST_MISFIT:
        warnings.append(f"FLOPs differ by up to {cost.misfit:.0%} from a smooth function of N times D")
    return build(
        approach,
        task,
        n_line,
        d_line,
        _points(fit, budgets, cost, task.level),
        status=fit.status,
        reason=fit.reason,
        dropped=(),
        warnings=tuple(warnings),
        diagnostics={
            **{k: v for k, v in fit.diagnostics.items() if k != "profile"},
            "values": dict(fit.values),
            "flops_per_param_token": [float(c) for c in cost.coefficients],
            "cost_misfit": cost.misfit,
        },
        surface=as_result(fit, task.count, task.cost, task.level, _data(task)),
    )


def _lines(fit: Estimated, grid: Array, cost: CostSurface) -> tuple[Line, Line]:
    main, drawn = best_at(fit.values, grid, cost), best_at(fit.draws, grid, cost)
    log_c = np.log(grid)
    with np.errstate(all="ignore"):
        return (
            line(log_c, np.log(main.params), np.log(drawn.params)),
            line(log_c, np.log(main.tokens), np.log(drawn.tokens)),
        )


def _points(fit: Estimated, budgets: Array, cost: CostSurface, level: float) -> list[FrontierPoint]:
    main, drawn = best_at(fit.values, budgets, cost), best_at(fit.draws, budgets, cost)
    status = fit.status if fit.status is not Status.TOO_FEW_POINTS else Status.NOT_RESOLVED
    with np.errstate(all="ignore"):
        return [
            FrontierPoint(
                float(c),
                float(main.params[i]),
                float(main.tokens[i]),
                float(main.loss[i]),
                status,
                fit.reason,
                interval(np.log(drawn.params[:, i]), level),
                interval(np.log(drawn.tokens[:, i]), level),
                interval(np.log(drawn.loss[:, i]), level),
            )
            for i, c in enumerate(budgets)
        ]


def _data(task: Task) -> dict[str, Array]:
    return {"params": task.params, "tokens": task.runs.tokens, "flops": task.flops, "loss": task.runs.loss}
