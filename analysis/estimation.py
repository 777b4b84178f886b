"""One law at one set of points: the best fit, what it is worth, its noise, and its bootstrap draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.bootstrap import Resamples
from analysis.confirm import confirm
from analysis.intervals import Interval, accelerations, estimate
from analysis.judging import judge, too_few
from analysis.laws.base import Array, Bound, Law
from analysis.noise import relative_precision
from analysis.objectives import Loss, Objective, as_loss, residuals
from analysis.profiles import Problem, profile_interval
from analysis.solve import DRAW_TOLERANCE, Solution, minimise, multistart, multistart_draws
from analysis.types import Estimate, FitResult, Status
from scaling.errors import InputError

_RECHECKED = 24
"""Draws that are solved again from starts of their own."""
_SCOUTING = 25
"""Iterations after which another start is given up unless it is lower already."""
_SMALL_TABLE = 100
"""Up to this many rows every draw is solved from several starts."""


@dataclass(frozen=True, eq=False)
class Estimated:
    """A law's fit to n points: `values` by parameter, `draws` (B,) by parameter.

    `sigma` is the standard deviation of the log loss about the law's least-squares fit, on `dof` degrees of freedom,
    at the points' mean precision; `scale` (n,) each point's precision relative to it, None where all are equal;
    `accelerations` are those of the draws' BCa intervals; `problem` is what profiles are made of.
    """

    law: Law
    objective: Objective
    status: Status
    reason: str
    values: Mapping[str, float]
    objective_value: float = math.nan
    sigma: float = math.nan
    dof: int = 0
    log_fit: Array = field(default_factory=lambda: np.empty(0))
    draws: Mapping[str, Array] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    bound: Bound | None = None
    theta: Array = field(default_factory=lambda: np.empty(0))
    loss: Loss | None = None
    scale: Array | None = None
    accelerations: Mapping[str, float] = field(default_factory=dict)
    problem: Problem | None = None

    @property
    def usable(self) -> bool:
        """Whether there are parameter values at all."""
        return bool(self.values) and all(math.isfinite(v) for v in self.values.values())


def estimate_law(
    law: Law,
    x: Mapping[str, Array],
    loss: Array,
    objective: Objective | Loss,
    resamples: Resamples | None,
    *,
    noise: Array | None = None,
    verify: bool = False,
) -> Estimated:
    """Fits `law` at points `x` (n,) each to losses (n,) in nats, and to every draw of `resamples`.

    The optimum is the best of up to eight starts spread over the law's own grid of starts. Draws start from it (small
    tables: from other starts as well), and some are solved again from starts of their own, so that a draw stuck in a
    poorer minimum would show in the diagnostics.

    Args:
        law: what is fitted.
        x: the law's variables, positive.
        loss: what it is fitted to (the law's response), positive.
        objective: its name, or a `Loss` with a constant of its own.
        resamples: the draws; None gives none.
        noise: standard deviation (n,) of each log loss, up to a common factor; residuals are weighted by its
            reciprocal in every objective. None weights all alike.
        verify: whether a second solver must agree (see `analysis.confirm`); else the fit is `not_converged`.

    Raises:
        InputError: values that are not positive finite numbers.
    """
    kind = as_loss(objective)
    _check(law, x, loss)
    lacking = too_few(law, dict(x))
    if lacking:
        return Estimated(law, kind.kind, Status.TOO_FEW_POINTS, lacking, {}, loss=kind)
    bound = law.bind(**dict(x))
    y, ones = np.log(loss), np.ones(loss.size)
    scale = None if noise is None else relative_precision(noise * loss if kind.kind == "ls" else noise)
    best, share = multistart(bound, y, ones, kind, scale=scale)
    confirmation = confirm(bound, y, ones, best.theta[0], kind, scale) if verify else None
    if confirmation is not None and confirmation.solution is not None:
        best = confirmation.solution
    fit = _described(law, bound, y, kind, best, scale)
    if not fit.usable:
        return fit
    assert fit.problem is not None
    verdict = judge(law, fit.problem, float(best.gradient[0]), bool(best.converged[0]), confirmation)
    diagnostics = {**fit.diagnostics, "starts_at_optimum": share, **verdict.diagnostics}
    if confirmation is not None:
        diagnostics["second_solver"] = confirmation.to_json()
    draws, accelerated = _draw(fit, y, resamples, diagnostics) if resamples is not None else ({}, {})
    return replace(
        fit,
        status=verdict.status,
        reason=verdict.reason,
        warnings=tuple(verdict.warnings),
        diagnostics=diagnostics,
        draws=draws,
        accelerations=accelerated,
    )


def _check(law: Law, x: Mapping[str, Array], loss: Array) -> None:
    for name, values in ((law.response, loss), *((v, x[v]) for v in law.variables)):
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            raise InputError(f"row {bad[0]}: {name} is {values[bad[0]]}, not a positive finite number")


def _described(law: Law, bound: Bound, y: Array, kind: Loss, best: Solution, scale: Array | None) -> Estimated:
    """The fit without a verdict and without draws."""
    theta, value = best.theta[0], float(best.objective[0])
    values = {k: float(v[0]) for k, v in bound.named(theta[None]).items()}
    wild = [k for k, v in values.items() if not math.isfinite(v)]
    if wild or not math.isfinite(value):
        what = f"{wild[0]} is beyond the range of numbers" if wild else "the objective is no number at any start"
        reason = f"{what}; rescale the table's columns"
        return Estimated(law, kind.kind, Status.NOT_CONVERGED, reason, {}, loss=kind)
    ones = np.ones(y.size)
    pilot = theta
    if kind.kind != "ls_log":
        pilot = minimise(bound, y, ones, theta[None], "ls_log", scale=_log_scale(scale, y, kind)).theta[0]
    pilot_fit = bound.evaluate(pilot[None])[0][0]
    about = (y - pilot_fit) * _or_one(_log_scale(scale, y, kind))
    dof = y.size - theta.size
    sigma = float(np.sqrt(np.sum(about**2) / dof))
    diagnostics = {"gradient": float(best.gradient[0]), "residual_sd_log": sigma, "degrees_of_freedom": dof}
    problem = Problem(bound, y, ones, kind, theta, value, about, scale, pilot)
    log_fit = bound.evaluate(theta[None])[0][0]
    return Estimated(
        law,
        kind.kind,
        Status.CONVERGED,
        "",
        values,
        value,
        sigma,
        dof,
        log_fit,
        diagnostics=diagnostics,
        bound=bound,
        theta=theta,
        loss=kind,
        scale=_log_scale(scale, y, kind),
        problem=problem,
    )


def _log_scale(scale: Array | None, y: Array, kind: Loss) -> Array | None:
    """Relative precision of the log losses, from that of the residuals the objective sums."""
    if scale is None or kind.kind != "ls":
        return scale
    return relative_precision(1.0 / (scale * np.exp(y)))


def _or_one(scale: Array | None) -> Array | float:
    return 1.0 if scale is None else scale


def leverages(bound: Bound, theta: Array, scale: Array | None) -> Array:
    """Diagonal (n,) of the projection on a fit's tangent space."""
    jac = bound.evaluate(theta[None])[1][0] * _or_one(scale)
    size = np.sqrt(np.maximum((jac**2).sum(axis=1, keepdims=True), 1e-300))
    q = np.linalg.qr((jac / size).T)[0]
    return np.asarray((q**2).sum(axis=1))


def shaken(fit: Estimated, resamples: Resamples) -> Array:
    """Log losses (B, n) that a bootstrap of noise gives a fit."""
    assert fit.problem is not None
    problem = fit.problem
    leverage = leverages(problem.bound, problem.pilot_theta, fit.scale)
    noise = resamples.noise(fit.sigma, fit.dof, problem.pilot, leverage)
    # A model of the seeds' noise speaks of each row already; all else is in units of the rows' mean precision.
    return fit.log_fit + (noise if resamples.sigma is not None else noise / _or_one(fit.scale))


def _draw(
    fit: Estimated, y: Array, resamples: Resamples, diagnostics: dict[str, Any]
) -> tuple[dict[str, Array], dict[str, float]]:
    """Parameters of every draw, (B,) by name, NaN where a draw failed, with accelerations; counts in `diagnostics`."""
    assert fit.problem is not None
    problem, kind = fit.problem, fit.problem.loss
    bound, theta, scale = problem.bound, problem.theta, problem.scale
    if resamples.weights is not None:
        weights, losses = resamples.weights, y[None]
    else:
        weights, losses = np.ones((1, y.size)), shaken(fit, resamples)
    warm = np.repeat(theta[None], resamples.draws, axis=0)
    found = minimise(bound, losses, weights, warm, kind, scale=scale, tolerance=DRAW_TOLERANCE)
    if y.size <= _SMALL_TABLE:
        for start in bound.starts(np.exp(y), np.ones(y.size), 3):
            _try_start(problem, losses, weights, start, found)
    sub = slice(0, min(_RECHECKED, resamples.draws))
    again = multistart_draws(
        bound,
        losses[sub] if losses.shape[0] > 1 else losses,
        weights[sub] if weights.shape[0] > 1 else weights,
        kind,
        theta,
        scale=scale,
    )
    gap = found.objective[sub] / np.maximum(again.objective, 1e-300) - 1.0
    lost = ~np.isfinite(found.objective) | ~np.isfinite(found.theta).all(axis=1)
    edge = ((found.theta <= bound.lower) | (found.theta >= bound.upper)).any(axis=1)
    diagnostics["bootstrap"] = {
        "scheme": resamples.scheme,
        "seed": resamples.seed,
        "draws": resamples.draws,
        "failed": int(lost.sum()),
        "not_converged": int((~found.converged & ~lost).sum()),
        "at_bound": int(edge.sum()),
        "restarted": int(gap.size),
        "restarts_better": int((gap > 1e-6).sum()),
    }
    named = {k: np.where(lost, np.nan, v) for k, v in bound.named(found.theta).items()}
    return named, _accelerations(named, fit, resamples)


def _accelerations(draws: Mapping[str, Array], fit: Estimated, resamples: Resamples) -> dict[str, float]:
    """BCa's accelerations: by rows' counts (case) or their signs (wild); 0 for normal noise, which has none."""
    assert fit.problem is not None
    if resamples.weights is not None:
        return accelerations(draws, resamples.weights)
    if resamples.scheme == "wild" and resamples.shocks is not None:
        return accelerations(draws, resamples.shocks)
    return dict.fromkeys(draws, 0.0)


def _try_start(problem: Problem, losses: Array, weights: Array, start: Array, found: Solution) -> None:
    """Tries another start (P,) for every draw of `found`, and follows to the end, in place, those that got lower."""
    bound, draws = problem.bound, found.objective.size
    y = np.broadcast_to(losses, (draws, bound.n))
    w = np.broadcast_to(weights, (draws, bound.n))
    starts = np.repeat(start[None], draws, axis=0)
    settings: dict[str, Any] = {"scale": problem.scale, "tolerance": DRAW_TOLERANCE}
    scout = minimise(bound, y, w, starts, problem.loss, max_iterations=_SCOUTING, **settings)
    lower = np.flatnonzero(scout.objective < found.objective * (1 - 1e-7))
    if lower.size:
        other = minimise(bound, y[lower], w[lower], scout.theta[lower], problem.loss, **settings)
        for name in ("theta", "objective", "converged", "gradient"):
            getattr(found, name)[lower] = getattr(other, name)


def log_residuals(fit: Estimated, loss: Array) -> Array:
    """Observed minus fitted log loss (n,)."""
    return -residuals(fit.log_fit, np.log(loss), "ls_log")


def parameter_estimates(fit: Estimated, level: float, interval: Interval = "bca") -> dict[str, Estimate]:
    """Every parameter with its interval; all unknown where the fit is not usable."""
    if not fit.usable:
        return {p.name: Estimate.missing(level) for p in fit.law.parameters}
    if interval == "profile":
        assert fit.problem is not None
        return {k: Estimate(v, profile_interval(fit.problem, k, level), level) for k, v in fit.values.items()}
    return {
        k: estimate(
            v, fit.draws.get(k, np.empty(0)), level, interval=interval, acceleration=fit.accelerations.get(k, 0.0)
        )
        for k, v in fit.values.items()
    }


def as_result(
    fit: Estimated,
    count: str,
    cost: str,
    level: float,
    data: Mapping[str, Array],
    interval: Interval = "bca",
    **rest: Any,
) -> FitResult:
    """The fit as a user sees it; `data` holds the fitted points, to which `predicted` is added."""
    if fit.usable:
        data = {**data, "predicted": np.exp(fit.log_fit)}
    return FitResult(
        law=fit.law.name,
        params=parameter_estimates(fit, level, interval),
        objective_value=fit.objective_value,
        objective=fit.objective,
        n=int(data[fit.law.response].size),
        status=fit.status,
        reason=fit.reason,
        level=level,
        sigma=fit.sigma,
        model=fit.law,
        draws=fit.draws,
        data=data,
        count=count,
        cost=cost,
        **{"warnings": fit.warnings, "diagnostics": fit.diagnostics, **rest},
    )
