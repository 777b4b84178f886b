"""Predicting a run that has not been made: its best size and tokens at a budget, its loss, and two baselines' guesses.

The loss comes with a prediction interval: the law's uncertainty, by joint draws of its parameters, and the run-to-run
noise of one new run. Noise that all runs of a table share (the finite held-out text) is in none of them. An approach
that fits no surface (`isoflop`, `porian`, `envelope`) gives size and tokens by its lines, and the loss at them is that
of the surface `parametric`, draw by draw of the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.approaches import get_approach
from analysis.approaches.base import Approach, Task
from analysis.approaches.surface import SurfaceApproach, best_at, fit_surface
from analysis.best_loss import Best, along_law, baselines, best_losses, pace
from analysis.bootstrap import Choice, estimate
from analysis.costs import CostSurface
from analysis.estimation import Estimated
from analysis.fitting import check_draws
from analysis.frontiers import draws_of
from analysis.table import Runs, read_table
from analysis.types import Array, Estimate, Frontier, Prediction, Status
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SURFACES = ("parametric", "vpnls")
"""The approaches whose predictions rest on one fitted surface alone."""


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
    law: str | None = None,
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
        approach: one of `list_approaches()`, perhaps with a variant.
        count, cost, level, bootstrap, seed, scheme, law: as in `frontier`.
        runs_averaged: how many runs (seeds) the loss to be met is the mean of.
        columns, where, allow_mixed_data: see `read_table`.

    Raises:
        InputError: neither a budget nor a run was given, or one that is not positive.
        TableError: see `read_table`.
    """
    check_draws(max(bootstrap, 20), level)
    member, surface = _approaches(approach, law)
    _check_target(flops, params, tokens)
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=allow_mixed_data)
    task = Task(runs, count, cost, level, draws_of(runs, draws=bootstrap, seed=seed, scheme=scheme))
    fit, surface_cost = fit_surface(task, surface.objective, surface.law)
    if flops is None:
        assert params is not None
        assert tokens is not None
        budget = float(surface_cost.flops(np.array(params, dtype=float), np.array(tokens, dtype=float)))
        given = [_Drawn(float(v), np.full(task.resamples.draws, float(v))) for v in (params, tokens)]
        target = _Target(given[0], given[1])
    else:
        budget = float(flops)
        if isinstance(member, SurfaceApproach):
            target = _on_surface(fit, budget, surface_cost)
        else:
            target = _on_lines(member.frontier(task), budget)
    label = surface.label if flops is None else member.label
    found = _predicted(task, fit, surface_cost, target, budget, label, runs_averaged)
    return found if flops is None else replace(found, warnings=(*found.warnings, *_form_decides(found)))


def _approaches(name: str, law: str | None) -> tuple[Approach, SurfaceApproach]:
    """The approach, and the one whose surface gives the loss: itself where it has one."""
    member = get_approach(name)
    surface = member if isinstance(member, SurfaceApproach) else get_approach(SURFACES[0])
    if law is not None:
        surface = surface.of(law)
    assert isinstance(surface, SurfaceApproach)
    return (surface if isinstance(member, SurfaceApproach) else member), surface


class _Drawn(NamedTuple):
    """A value and its draws (B,)."""

    value: float
    draws: Array

    def estimate(self, level: float) -> Estimate:
        """As a user sees it; a quantity that was given, not found, is its own interval."""
        if math.isfinite(self.value) and (self.draws == self.value).all():
            return Estimate(self.value, (self.value, self.value), level)
        return estimate(self.value, self.draws, level)


class _Target(NamedTuple):
    """The run to be made, and what its size and tokens are worth."""

    params: _Drawn
    tokens: _Drawn
    status: Status = Status.CONVERGED
    reason: str = ""
    warnings: tuple[str, ...] = ()


def _nowhere(status: Status, reason: str) -> _Target:
    missing = _Drawn(math.nan, np.empty(0))
    return _Target(missing, missing, status, reason)


def _on_surface(fit: Estimated, budget: float, cost: CostSurface) -> _Target:
    if not fit.usable:
        return _nowhere(fit.status, fit.reason)
    at = np.array([budget])
    main, drawn = best_at(fit.law, fit.values, at, cost), best_at(fit.law, fit.draws, at, cost)
    return _Target(_Drawn(float(main.params[0]), drawn.params[:, 0]), _Drawn(float(main.tokens[0]), drawn.tokens[:, 0]))


def _on_lines(found: Frontier, budget: float) -> _Target:
    if not found.known:
        return _nowhere(found.status, found.reason)
    at = math.log(budget)
    with np.errstate(all="ignore"):
        size, data = (
            np.exp(found.draws[f"log_{k}_coefficient"] + found.draws[f"{k}_exponent"] * at) for k in ("N", "D")
        )
    return _Target(
        _Drawn(float(found.params(budget)), size),
        _Drawn(float(found.tokens(budget)), data),
        found.status,
        found.reason,
        found.warnings,
    )


def _predicted(
    task: Task, fit: Estimated, cost: CostSurface, target: _Target, budget: float, approach: str, runs_averaged: int
) -> Prediction:
    """The prediction from the run to be made and the surface's draws, which are paired."""
    size, data = target.params.estimate(task.level), target.tokens.estimate(task.level)
    best = best_losses(task)
    guesses = baselines(best, budget, task.level) if math.isfinite(budget) else {}
    status, reason = target.status, target.reason
    if status is Status.CONVERGED:
        status, reason = fit.status, fit.reason
    if not fit.usable or not math.isfinite(target.params.value):
        missing = Estimate.missing(task.level)
        return Prediction(size, data, missing, budget, status, reason, missing, guesses, approach)
    with np.errstate(all="ignore"):
        mean = float(fit.law.predict(fit.values, params=target.params.value, tokens=target.tokens.value))
        losses = fit.law.predict(fit.draws, params=target.params.draws, tokens=target.tokens.draws)
    noise = task.resamples.new_run(fit.sigma / math.sqrt(runs_averaged), fit.dof)
    return Prediction(
        size,
        data,
        estimate(mean, losses * np.exp(noise), task.level),
        budget,
        status,
        reason,
        estimate(mean, losses, task.level),
        guesses,
        approach,
        tuple(dict.fromkeys((*_warnings(task, budget, fit), *_bends(task, fit, cost, budget, best), *target.warnings))),
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


def _bends(task: Task, fit: Estimated, cost: CostSurface, budget: float, best: Best | None) -> list[str]:
    """Beyond the table, that the best loss of its budgets slows down less over compute than along the fitted law.

    How far forecasts told so were off: `python -m tests.benchmarks rolling`. Where it slows down more nothing is said,
    since those forecasts were not too low.
    """
    if best is None or not budget > task.flops.max():
        return []
    found = pace(best, task.level, along_law(fit.law, fit.values, fit.draws, cost, best.log_flops))
    if found is None or not found.excess.ci[0] > 0:
        return []
    lo, hi = found.excess.ci
    return [
        f"over these budgets the exponent by which the best loss falls changes by {found.rise.value:+.3g} a decade,"
        f" along the law by {found.law:+.3g} (they differ by {found.excess.value:+.3g} [{lo:+.3g}, {hi:+.3g}]): reckon"
        " with a lower loss than this"
    ]


def _form_decides(found: Prediction) -> list[str]:
    """That a pure power law's guess lies outside the law's interval, which holds nothing of the form's error.

    Of published sweeps what came lay within the span of both intervals then (`python -m tests.benchmarks rolling`).
    """
    other = found.baselines.get("power_law")
    if other is None or not (other.known and found.loss.known) or found.loss.ci[0] <= other.value <= found.loss.ci[1]:
        return []
    ends = (*found.loss.ci, *other.ci)
    return [
        f"a pure power law through the best losses reaches {other.value:.4g}, outside this interval, which holds"
        f" nothing of the law's form: reckon with {min(ends):.4g} to {max(ends):.4g}, the span of both"
    ]
