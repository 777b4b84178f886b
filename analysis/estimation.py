"""One law at one set of points: the best fit, what it is worth, its noise, and its bootstrap draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.bootstrap import Resamples, estimate
from analysis.laws.base import FLOOR_AT_ZERO, Array, Bound, Law
from analysis.solve import HUBER_DELTA, Objective, Solution, minimise, multistart, multistart_draws, profile, residuals
from analysis.types import Estimate, FitResult, Status

PROFILE_DROP = 3.84
"""Twice the log likelihood that a parameter must cost to be told from another value at 95 % (χ², one degree)."""

_RECHECKED = 24
"""Draws that are solved again from starts of their own."""
_SCOUTING = 25
"""Iterations after which another start is given up unless it is lower already."""
_SMALL_TABLE = 100
"""Up to this many rows every draw is solved from several starts."""


@dataclass(frozen=True, eq=False)
class Estimated:
    """A law's fit to n points: `values` by parameter, `draws` (B,) by parameter, log-loss noise `sigma` on `dof`."""

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

    @property
    def usable(self) -> bool:
        """Whether there are parameter values at all."""
        return bool(self.values) and all(math.isfinite(v) for v in self.values.values())


def estimate_law(
    law: Law, x: Mapping[str, Array], loss: Array, objective: Objective, resamples: Resamples | None
) -> Estimated:
    """Fits `law` at points `x` (n,) each to losses (n,) in nats, and to every draw of `resamples`.

    The optimum is the best of up to eight starts spread over the variable-projection grid. Draws start from it (small
    tables: from other starts of the grid as well), and some are solved again from starts of their own, so that a draw
    stuck in a poorer minimum would show in the diagnostics.
    """
    lacking = _too_few(law, x)
    if lacking:
        return Estimated(law, objective, Status.TOO_FEW_POINTS, lacking, {})
    bound = law.bind(**dict(x))
    y, ones = np.log(loss), np.ones(loss.size)
    best, share = multistart(bound, y, ones, objective)
    theta = best.theta[0]
    values = {k: float(v[0]) for k, v in bound.named(theta[None]).items()}
    log_fit, jac = bound.evaluate(theta[None])
    dof = loss.size - theta.size
    sigma = float(np.sqrt(np.sum((y - log_fit[0]) ** 2) / dof))
    diagnostics: dict[str, Any] = {
        "starts_at_optimum": share,
        "gradient": float(best.gradient[0]),
        "condition": _condition(jac[0]),
        "residual_sd_log": sigma,
        "degrees_of_freedom": dof,
    }
    status, reason, warnings = _judge(law, bound, theta, y, objective, bool(best.converged[0]), diagnostics)
    draws: dict[str, Array] = {}
    if resamples is not None:
        draws = _draw(bound, theta, y, log_fit[0], objective, resamples, sigma, dof, diagnostics)
    return Estimated(
        law,
        objective,
        status,
        reason,
        values,
        float(best.objective[0]),
        sigma,
        dof,
        log_fit[0],
        draws,
        tuple(warnings),
        diagnostics,
        bound,
        theta,
    )


def _too_few(law: Law, x: Mapping[str, Array]) -> str:
    """Why these points cannot carry the law's parameters at all; "" where they can."""
    needed = len(law.parameters)
    distinct = len(np.unique(np.stack([x[v] for v in law.variables], axis=1), axis=0))
    if distinct <= needed:
        return f"{distinct} distinct points for {needed} parameters; {needed + 1} are the least"
    return ""


def _condition(jacobian: Array) -> float:
    """Condition number of the scaled normal equations of a Jacobian (P, n) of the log loss."""
    norm = np.sqrt((jacobian**2).sum(axis=1))
    if (norm < 1e-10 * norm.max()).any():
        return math.inf
    scaled = jacobian / norm[:, None]
    values = np.linalg.eigvalsh(scaled @ scaled.T)
    return float(values[-1] / values[0]) if values[0] > 0 else math.inf


def _judge(
    law: Law, bound: Bound, theta: Array, y: Array, objective: Objective, converged: bool, diagnostics: dict[str, Any]
) -> tuple[Status, str, list[str]]:
    """Status, reason and warnings of a fit; adds the floor's profile to `diagnostics`."""
    warnings: list[str] = []
    flat = [v for v in law.variables if np.ptp(_variable(bound, law, v)) < 1e-9]
    if flat:
        return Status.UNIDENTIFIED, f"all runs have the same {flat[0]}", warnings
    at_bound = [
        name
        for name, value, lo, hi in zip(bound.names, theta, bound.lower, bound.upper, strict=True)
        if value <= lo + 1e-9 or value >= hi - 1e-9
    ]
    floor = getattr(law, "floor", None)
    upper = math.nan
    if floor is not None:
        upper, from_below = _floor_profile(bound, theta, y, objective, bound.names.index(floor), diagnostics)
        value = float(np.exp(theta[bound.names.index(floor)]))
        if value < FLOOR_AT_ZERO * float(np.exp(y.min())):
            return Status.BOUND_HIT, f"the best {floor} is 0; any up to {upper:.3g} nats fits as well", warnings
        if at_bound:
            return Status.BOUND_HIT, f"{', '.join(at_bound)} at the edge of the allowed range", warnings
        if not from_below:
            return (
                Status.UNIDENTIFIED,
                f"{floor} is bounded above only: any up to {upper:.3g} nats fits as well",
                warnings,
            )
    if at_bound:
        return Status.BOUND_HIT, f"{', '.join(at_bound)} at the edge of the allowed range", warnings
    if diagnostics["condition"] > 1e12:
        return Status.UNIDENTIFIED, f"parameters trade off freely (condition {diagnostics['condition']:.1g})", warnings
    if not converged:
        return Status.NOT_CONVERGED, f"gradient {diagnostics['gradient']:.2g} after the last iteration", warnings
    return Status.CONVERGED, "", warnings


def _variable(bound: Bound, law: Law, name: str) -> Array:
    x: Array = bound.x[law.variables.index(name)]  # type: ignore[attr-defined]
    return x


def _floor_profile(
    bound: Bound, theta: Array, y: Array, objective: Objective, index: int, diagnostics: dict[str, Any]
) -> tuple[float, bool]:
    """Profile likelihood of the floor: its 95 % upper end in nats, and whether the data bound it from below.

    2Δl = k n ln(S/S_min), the objective's scale profiled out: k = 1 where the objective is quadratic in its residuals
    (normal), 2 where it is linear (Laplace), in between by the share of residuals beyond Huber's delta.
    """
    lowest, value = float(np.exp(y.min())), float(np.exp(theta[index]))
    grid = np.concatenate([lowest * np.array([0.001, 0.1]), lowest * np.linspace(0.2, 0.995, 22)])
    grid = np.unique(np.append(grid, np.clip(value * np.array([0.98, 1.0, 1.02]), grid[0], None)))
    s = profile(bound, y, np.ones(y.size), theta, objective, index, np.log(grid))
    best = minimise(bound, y, np.ones(y.size), theta[None], objective).objective[0]
    r = y - bound.evaluate(theta[None])[0][0]
    k = 1.0 + float(np.mean(np.abs(r) > HUBER_DELTA)) if objective == "huber_log" else 1.0
    exact = y.size * (1e-11 if objective == "huber_log" else 1e-17)  # rounding, not noise
    rise = k * y.size * np.log((s + exact) / (min(best, s.min()) + exact))
    at = int(np.argmin(rise))
    upper, lower = _crossing(grid[at:], rise[at:]), _crossing(grid[at::-1], rise[at::-1])
    diagnostics["profile"] = {bound.names[index]: grid.tolist(), "two_delta_log_likelihood": rise.tolist()}
    diagnostics["profile_interval_95"] = [lower, upper]
    return upper, bool(rise[0] > PROFILE_DROP)


def _crossing(values: Array, rise: Array) -> float:
    """Where a profile, walked outwards from its minimum, first exceeds the threshold; its end where it never does."""
    beyond = np.flatnonzero(rise > PROFILE_DROP)
    if beyond.size == 0 or beyond[0] == 0:
        return float(values[-1] if beyond.size == 0 else values[0])
    i = int(beyond[0])
    share = (PROFILE_DROP - rise[i - 1]) / (rise[i] - rise[i - 1])
    return float(values[i - 1] + share * (values[i] - values[i - 1]))


def _draw(
    bound: Bound,
    theta: Array,
    y: Array,
    log_fit: Array,
    objective: Objective,
    resamples: Resamples,
    sigma: float,
    dof: int,
    diagnostics: dict[str, Any],
) -> dict[str, Array]:
    """Parameters of every draw, (B,) by name, NaN where a draw failed; counts go to `diagnostics`."""
    if resamples.scheme == "case":
        assert resamples.weights is not None
        weights, losses = resamples.weights, y[None]
    else:
        weights, losses = np.ones((1, y.size)), log_fit + resamples.noise(sigma, dof)
    found = minimise(bound, losses, weights, np.repeat(theta[None], resamples.draws, axis=0), objective)
    if y.size <= _SMALL_TABLE:
        for start in bound.starts(np.exp(y), np.ones(y.size), 3):
            _try_start(bound, losses, weights, start, objective, found)
    sub = slice(0, min(_RECHECKED, resamples.draws))
    again = multistart_draws(
        bound,
        losses[sub] if losses.shape[0] > 1 else losses,
        weights[sub] if weights.shape[0] > 1 else weights,
        objective,
        theta,
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
    named = bound.named(found.theta)
    return {k: np.where(lost, np.nan, v) for k, v in named.items()}


def _try_start(
    bound: Bound, losses: Array, weights: Array, start: Array, objective: Objective, found: Solution
) -> None:
    """Tries another start (P,) for every draw of `found`, and follows to the end, in place, those that got lower."""
    draws = found.objective.size
    y = np.broadcast_to(losses, (draws, bound.n))
    w = np.broadcast_to(weights, (draws, bound.n))
    scout = minimise(bound, y, w, np.repeat(start[None], draws, axis=0), objective, max_iterations=_SCOUTING)
    lower = np.flatnonzero(scout.objective < found.objective * (1 - 1e-9))
    if lower.size:
        other = minimise(bound, y[lower], w[lower], scout.theta[lower], objective)
        for name in ("theta", "objective", "converged", "gradient"):
            getattr(found, name)[lower] = getattr(other, name)


def log_residuals(fit: Estimated, loss: Array) -> Array:
    """Observed minus fitted log loss (n,)."""
    return -residuals(fit.log_fit, np.log(loss), "ls_log")


def as_result(fit: Estimated, count: str, cost: str, level: float, data: Mapping[str, Array], **rest: Any) -> FitResult:
    """The fit as a user sees it; `data` holds the fitted points, to which `predicted` is added."""
    if fit.usable:
        params = {k: estimate(v, fit.draws.get(k, np.empty(0)), level) for k, v in fit.values.items()}
        data = {**data, "predicted": np.exp(fit.log_fit)}
    else:
        params = {p.name: Estimate.missing(level) for p in fit.law.parameters}
    return FitResult(
        law=fit.law.name,
        params=params,
        objective_value=fit.objective_value,
        objective=fit.objective,
        n=int(data["loss"].size),
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
