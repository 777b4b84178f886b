"""Predicting a run that has not been made: its best size and tokens at a budget, its loss, and two baselines' guesses.

The loss comes with a prediction interval: the law's uncertainty, by joint draws of its parameters, and the run-to-run
noise of one new run. Noise that all runs of a table share (the finite held-out text) is in none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.approaches.base import Task, line
from analysis.approaches.isoflop import vertices_of
from analysis.approaches.surface import best_at, fit_surface
from analysis.bootstrap import Choice, estimate
from analysis.estimation import Estimated
from analysis.fitting import check_draws
from analysis.frontiers import draws_of
from analysis.solve import Objective
from analysis.table import Runs, check_name, read_table
from analysis.types import Array, Estimate, Prediction, Status
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SURFACES: Mapping[str, Objective] = {"parametric": "huber_log", "vpnls": "ls"}


def predict(
    table: str | Path | pd.DataFrame | Runs,
    *,
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    approach: str = "parametric",
    count: str = "total",
    cost: str = "exact",
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
    scheme: Choice = "auto",
    runs_averaged: int = 1,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    allow_mixed_data: bool = False,
) -> Prediction:
    """Size, tokens and loss of the compute-optimal run at `flops`, or the loss of a run of `params` and `tokens`.

    Args:
        table: see `read_table`.
        flops: the budget, under `cost`; or
        params, tokens: the run itself, with `params` under `count`.
        approach: the surface: parametric or vpnls.
        count, cost, level, bootstrap, seed, scheme: as in `frontier`.
        runs_averaged: how many runs (seeds) the loss to be met is the mean of.
        columns, where, allow_mixed_data: see `read_table`.

    Raises:
        InputError: neither a budget nor a run was given, or one that is not positive.
        TableError: see `read_table`.
    """
    check_draws(max(bootstrap, 20), level)
    check_name("approach", approach, tuple(SURFACES))
    _check_target(flops, params, tokens)
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=allow_mixed_data)
    task = Task(runs, count, cost, level, draws_of(runs, draws=bootstrap, seed=seed, scheme=scheme))
    fit, surface_cost = fit_surface(task, SURFACES[approach])
    if not fit.usable:
        missing = Estimate.missing(level)
        size = missing if params is None else Estimate(params, (params, params), level)
        data = missing if tokens is None else Estimate(tokens, (tokens, tokens), level)
        budget = math.nan if flops is None else flops
        guesses = baselines(task, budget) if flops is not None else {}
        return Prediction(size, data, missing, budget, fit.status, fit.reason, missing, guesses, approach)
    if flops is not None:
        target = np.array([flops])
        main, drawn = best_at(fit.values, target, surface_cost), best_at(fit.draws, target, surface_cost)
        with np.errstate(all="ignore"):
            size = estimate(float(main.params[0]), drawn.params[:, 0], level)
            data = estimate(float(main.tokens[0]), drawn.tokens[:, 0], level)
        mean, losses, budget = float(main.loss[0]), drawn.loss[:, 0], float(flops)
    else:
        assert params is not None
        assert tokens is not None
        size, data = Estimate(float(params), (params, params), level), Estimate(float(tokens), (tokens, tokens), level)
        mean = float(fit.law.predict(fit.values, params=params, tokens=tokens))
        losses = fit.law.predict(fit.draws, params=params, tokens=tokens)
        budget = float(surface_cost.flops(np.array(params, dtype=float), np.array(tokens, dtype=float)))
    noise = task.resamples.new_run(fit.sigma / math.sqrt(runs_averaged), fit.dof)
    return Prediction(
        size,
        data,
        estimate(mean, losses * np.exp(noise), level),
        budget,
        fit.status,
        fit.reason,
        estimate(mean, losses, level),
        baselines(task, budget),
        approach,
        _warnings(task, budget, fit),
    )


def _check_target(flops: float | None, params: float | None, tokens: float | None) -> None:
    if (flops is None) == (params is None and tokens is None):
        raise InputError("predict needs a budget (flops) or a run (params and tokens), one of the two")
    if flops is None and (params is None or tokens is None):
        raise InputError("predict needs params and tokens together")
    for name, value in (("flops", flops), ("params", params), ("tokens", tokens)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}, not a positive number")


def _warnings(task: Task, budget: float, fit: Estimated) -> tuple[str, ...]:
    highest = float(task.flops.max())
    found = list(fit.warnings)
    if budget > 10 * highest:
        found.append(
            f"the budget is {budget / highest:.0f}× the largest of the table; the interval trusts the law's form"
        )
    return tuple(found)


def baselines(task: Task, flops: float) -> dict[str, Estimate]:
    """The best loss at budget `flops` by two rules that know only the best loss of each budget.

    `power_law`: the pure power law L = A C^−alpha through every budget's best loss. `last_two`: the straight line in
    log–log through the last two budgets. A budget's best loss is its parabola's minimum where that is interior, else
    its lowest observed loss. Empty where the table has not two budgets.
    """
    vertices, sigma, dof, _ = vertices_of(task)
    vertices = [v for v in vertices if v.group.rows.size >= 2]
    if len(vertices) < 2:
        return {}
    log_c, best, drawn = _best_losses(task, vertices, sigma, dof)
    found = {}
    for name, part in (("power_law", slice(None)), ("last_two", slice(-2, None))):
        through = line(log_c[part], best[part], drawn[:, part])
        target = math.log(flops)
        value = math.exp(through.log_coefficient + through.exponent * target)
        with np.errstate(all="ignore"):
            found[name] = estimate(
                value, np.exp(through.log_coefficient_draws + through.exponent_draws * target), task.level
            )
    return found


def _best_losses(task: Task, vertices: list[Any], sigma: float, dof: int) -> tuple[Array, Array, Array]:
    """ln C (G,), ln of the best loss (G,) and its draws (B, G)."""
    loss, draws = task.runs.loss, task.resamples.draws
    noise = None
    if task.resamples.scheme == "noise":
        noise = task.resamples.noise(sigma, dof) if math.isfinite(sigma) else np.full((draws, loss.size), np.nan)
    best, drawn = [], []
    for v in vertices:
        if v.status is Status.CONVERGED:
            best.append(math.log(v.loss))
            drawn.append(np.log(np.maximum(v.loss_draws, 1e-300)))
            continue
        row = int(v.group.rows[np.argmin(loss[v.group.rows])])
        best.append(math.log(float(loss[row])))
        shaken = np.zeros(draws) if noise is None else noise[:, row]
        drawn.append(math.log(float(loss[row])) + shaken)
    return np.log([v.group.flops for v in vertices]), np.array(best), np.stack(drawn, axis=1)
