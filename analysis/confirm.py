"""Showing a global optimum: a second solver from other starts must end where the first one did.

The second solver is scipy's L-BFGS-B in coordinates whitened at its start, from starting points that did not lead the
first solver to its optimum, and last from one displaced from that optimum. Two fits agree where their objectives differ
by less than .01 in twice the log likelihood; one that disagrees shows that at least one of the two is no optimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.laws.base import Array, Bound
from analysis.objectives import Loss, residuals, working
from analysis.solve import Solution, minimise
from analysis.threads import one_thread

AGREE = 0.01
"""Difference of twice the log likelihood within which two fits are one."""
_OTHER_STARTS = 2
_MOST_WORK = 2e7
"""Evaluations of a start times points times parameters, so that long tables take seconds and not minutes."""
_DISPLACED = 2.0
"""How far the last start lies from the optimum, in standard errors along every axis of the curvature."""


@dataclass(frozen=True)
class Confirmation:
    """Whether a second solver agrees: `agrees`, its best `objective`, and from how many of `starts` it got there.

    `local` says that only the start displaced from the optimum led back to it. `solution` is lower than the fit that
    was to be confirmed, where the second solver found such a one and the first one polished it.
    """

    agrees: bool
    local: bool
    objective: float
    reached: int
    starts: int
    solution: Solution | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a fit's diagnostics."""
        return {
            "solver": "scipy L-BFGS-B",
            "agrees": self.agrees,
            "local_only": self.local,
            "objective": self.objective,
            "reached_from": self.reached,
            "starts": self.starts,
        }


def confirm(
    bound: Bound, log_loss: Array, weights: Array, best: Array, loss: Loss, scale: Array | None = None
) -> Confirmation:
    """Minimises again from elsewhere and compares; `best` (P,) is the optimum to be confirmed.

    A lower optimum of the second solver is polished by the first and then has to be met again.
    """
    found = minimise(bound, log_loss, weights, best[None], loss, scale=scale)
    replaced = None
    for _ in range(3):
        target, at = float(found.objective[0]), found.theta[0]
        ends = [_descend(bound, log_loss, weights, s, loss, scale) for s in _elsewhere(bound, log_loss, weights, at)]
        values = np.array([v for v, _ in ends])
        lowest = int(np.nanargmin(values))
        if not _twice_log_likelihood(target, values[lowest], loss, weights) > AGREE:
            break
        polished = minimise(bound, log_loss, weights, ends[lowest][1][None], loss, scale=scale)
        if not polished.objective[0] < target:
            break
        found = replaced = polished
    target = float(found.objective[0])
    near = np.array([abs(_twice_log_likelihood(v, target, loss, weights)) <= AGREE for v in values])
    return Confirmation(
        bool(near.any()),
        bool(near.any() and not near[:-1].any()),
        float(values.min()),
        int(near.sum()),
        near.size,
        replaced,
    )


def _twice_log_likelihood(value: float, other: float, loss: Loss, weights: Array) -> float:
    """By how much `other` is the likelier of two objective values; Huber's loss is taken as Laplace's."""
    exact = float(weights.sum()) * (1e-11 if loss.kind == "huber_log" else 1e-17)  # rounding, not noise
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.inf
    k = 2.0 if loss.kind == "huber_log" else 1.0
    return k * float(weights.sum()) * math.log((value + exact) / (other + exact))


def _elsewhere(bound: Bound, log_loss: Array, weights: Array, best: Array) -> Array:
    """Starts of the law's own that are farthest from `best` in fit, and one displaced from it."""
    starts = bound.starts(np.exp(log_loss), weights, 6)
    f, at = bound.evaluate(starts)[0], bound.evaluate(best[None])[0]
    order = np.argsort(-np.abs(f - at).max(axis=1), kind="stable")
    root, spread = _whitening(bound, log_loss, best)
    signs = np.where(np.arange(best.size) % 2 == 0, 1.0, -1.0)
    aside = np.clip(best + _DISPLACED * spread * (root @ signs), bound.lower, bound.upper)
    return np.concatenate([starts[order[:_OTHER_STARTS]], aside[None]])


def _whitening(bound: Bound, log_loss: Array, theta: Array) -> tuple[Array, float]:
    """R (P, P) with R Rᵀ the inverse curvature of the squared residuals at `theta`, and the residuals' sd."""
    f, jac = bound.evaluate(theta[None])
    curvature = jac[0] @ jac[0].T
    size = np.sqrt(np.maximum(np.diag(curvature), 1e-12 * np.trace(curvature) + 1e-300))
    values, vectors = np.linalg.eigh(curvature / np.outer(size, size))
    root = vectors / np.sqrt(np.maximum(values, max(1e-9 * float(values.max()), 1e-300)))
    return root / size[:, None], float(np.sqrt(np.mean((f[0] - log_loss) ** 2)))


def _descend(
    bound: Bound, log_loss: Array, weights: Array, start: Array, loss: Loss, scale: Array | None
) -> tuple[float, Array]:
    """Objective and coordinates (P,) where scipy's L-BFGS-B ends from `start` (P,)."""
    from scipy.optimize import minimize

    root, _ = _whitening(bound, log_loss, start)
    w, s = weights[None], 1.0 if scale is None else scale

    def objective(z: Array) -> tuple[float, Array]:
        raw = start + root @ z
        theta = np.clip(raw, bound.lower, bound.upper)
        f, jac = bound.evaluate(theta[None])
        slope = jac[0] * (np.exp(f[0]) if loss.kind == "ls" else 1.0) * s
        r = residuals(f, log_loss, loss) * s
        value, u, _ = working(r, w, loss)
        gradient = slope @ (weights * r[0] * (1.0 if u is None else u[0]))
        return float(value[0]) / unit, root.T @ np.where(raw == theta, gradient, 0.0) / unit

    unit = 1.0
    unit = max(objective(np.zeros(start.size))[0], 1e-300)
    most = int(np.clip(_MOST_WORK / (bound.n * start.size), 300, 3000))
    options = {"maxiter": most, "maxfun": most, "ftol": 1e-15, "gtol": 1e-11, "maxcor": 20}
    with np.errstate(all="ignore"), one_thread():
        end = minimize(objective, np.zeros(start.size), jac=True, method="L-BFGS-B", options=options)
    value = float(end.fun) * unit
    return (value if math.isfinite(value) else math.inf), np.clip(start + root @ end.x, bound.lower, bound.upper)
