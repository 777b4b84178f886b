"""The frontier of a fitted loss surface, shared by the approaches that fit one: minimise L(N, D) at cost C.

The surface is Hoffmann's law unless a variant names another law of params and tokens: `parametric:kaplan_joint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from analysis.approaches.base import Approach, Line, Task, build, interval, isoflop_groups, line
from analysis.costs import CostSurface, fit_cost, optimum
from analysis.estimation import Estimated, as_result, estimate_law
from analysis.laws import get_law
from analysis.laws.base import Law
from analysis.laws.chinchilla import Chinchilla, Optimum
from analysis.solve import Objective
from analysis.types import Array, Frontier, FrontierPoint, Status
from scaling.errors import InputError

LAW = Chinchilla()
SURFACE_VARIABLES = {"params", "tokens"}
COST_MISFIT = 0.05
"""Beyond this relative error C is no smooth function of N and D, as when shapes of one size differ."""


class SurfaceApproach(Approach):
    """An approach that fits a surface by `objective`; its variants are the laws of params and tokens."""

    objective: ClassVar[Objective]
    law: Law = LAW

    def of(self, variant: str) -> Approach:
        """The same approach with another law as its surface."""
        law = get_law(variant)
        if set(law.variables) != SURFACE_VARIABLES or law.response != "loss":
            raise InputError(
                f"approach {self.name} needs a law of the loss over params and tokens; "
                f"{variant} is one of {law.response} over {', '.join(law.variables)}"
            )
        found = type(self)()
        found.law = law
        found.variant = "" if law.name == LAW.name else variant
        return found

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`."""
        return surface_frontier(self, task)


def fit_surface(task: Task, objective: Objective, law: Law = LAW) -> tuple[Estimated, CostSurface]:
    """A law of params and tokens fitted to the task's runs and draws, and the cost of N and D."""
    params, tokens = task.params, task.runs.tokens
    key = (task.count, objective, law.name)
    if key not in task.memo:
        x = {"params": params, "tokens": tokens}
        task.memo[key] = estimate_law(law, x, task.runs.loss, objective, task.resamples)
    fit: Estimated = task.memo[key]
    return fit, fit_cost(params, tokens, task.flops)


def best_at(law: Law, values: Mapping[str, Array | float], flops: Array, cost: CostSurface) -> Optimum:
    """N*, D*, L* (G,) of a surface at budgets (G,); values of draws (B,) give (B, G)."""
    spread = {k: np.asarray(v)[..., None] for k, v in values.items()}
    return optimum(law, spread, flops, cost)


def surface_frontier(approach: SurfaceApproach, task: Task) -> Frontier:
    """The frontier of `approach`; with its fitted surface wherever there is one, also where no exponent comes of it.

    Under 6ND Hoffmann's exponents are beta/(alpha+beta) and alpha/(alpha+beta). Under another cost, or another law,
    N*(C) need be no exact power law; its exponent is the log–log slope over the budgets of the rows.
    """
    fit, cost = fit_surface(task, approach.objective, approach.law)
    if not fit.usable:
        return approach.none(task, fit.status, fit.reason)
    surface = as_result(fit, task.count, task.cost, task.level, _data(task))
    if _no_optimum(fit, task):
        return approach.none(task, fit.status, fit.reason, surface=surface, warnings=fit.warnings)
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
            "flops_per_param_token": cost.kappa,
            "cost_misfit": cost.misfit,
        },
        surface=surface,
    )


def _no_optimum(fit: Estimated, task: Task) -> bool:
    """Whether the surface says nothing of the best N: one size, one number of tokens, or an exponent at its bound."""
    if fit.status is Status.CONVERGED:
        return False
    flat = any(np.ptp(np.log(x)) < 1e-9 for x in (task.params, task.runs.tokens))
    powers = [p for p in fit.law.parameters if p.scale == "linear" and np.isfinite([p.lower, p.upper]).all()]
    return flat or any(not p.lower * 1.0001 < fit.values[p.name] < p.upper * 0.9999 for p in powers)


def _lines(fit: Estimated, grid: Array, cost: CostSurface) -> tuple[Line, Line]:
    main, drawn = best_at(fit.law, fit.values, grid, cost), best_at(fit.law, fit.draws, grid, cost)
    log_c = np.log(grid)
    with np.errstate(all="ignore"):
        return (
            line(log_c, np.log(main.params), np.log(drawn.params)),
            line(log_c, np.log(main.tokens), np.log(drawn.tokens)),
        )


def _points(fit: Estimated, budgets: Array, cost: CostSurface, level: float) -> list[FrontierPoint]:
    main, drawn = best_at(fit.law, fit.values, budgets, cost), best_at(fit.law, fit.draws, budgets, cost)
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
