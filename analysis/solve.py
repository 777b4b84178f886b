"""Batched solver: Levenberg–Marquardt with reweighting, many draws at once, float64, analytic gradients.

Variable projection (Golub and Pereyra 1973) on a grid gives the starts; all coordinates are then refined together.
Objectives: `huber_log`, Σ Huber_δ(ln L̂ − ln L), δ = 1e-3, summed and never averaged (Hoffmann et al. 2022,
arXiv 2203.15556, eq. 3; Besiroglu et al. 2024, arXiv 2404.10102, on averaging); `ls_log`, Σ (ln L̂ − ln L)²/2; `ls`,
Σ (L̂ − L)²/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Array, Bound

Objective = Literal["huber_log", "ls_log", "ls"]
OBJECTIVES: tuple[Objective, ...] = ("huber_log", "ls_log", "ls")
HUBER_DELTA = 1e-3

_CHUNK_VALUES = 1 << 15
"""Residuals worked on at once, so that a chunk's Jacobian stays in the second-level cache."""


@dataclass(frozen=True)
class Solution:
    """Minimisers of B problems: `theta` (B, P), `objective` (B,), `converged` (B,), `gradient` (B,).

    `gradient` is the largest component of the objective's gradient over free coordinates, in units of
    sqrt(curvature · objective): far below 1 at a minimum.
    """

    theta: Array
    objective: Array
    converged: NDArray[np.bool_]
    gradient: Array


def residuals(log_fit: Array, log_loss: Array, objective: Objective) -> Array:
    """Residuals that the objective sums: of the log loss, or of the loss for `ls`."""
    if objective == "ls":
        return np.exp(log_fit) - np.exp(log_loss)
    return log_fit - log_loss


def penalty(r: Array, objective: Objective) -> Array:
    """What each residual adds to the objective."""
    if objective != "huber_log":
        return 0.5 * r * r
    size = np.abs(r)
    return np.where(size <= HUBER_DELTA, 0.5 * r * r, HUBER_DELTA * (size - 0.5 * HUBER_DELTA))


def minimise(
    bound: Bound,
    log_loss: Array,
    weights: Array,
    theta: Array,
    objective: Objective,
    *,
    frozen: NDArray[np.bool_] | None = None,
    max_iterations: int = 300,
) -> Solution:
    """Minimises Σ_i w_i ρ(residual_i) for B problems at once from `theta` (B, P).

    Args:
        bound: the law at its n points.
        log_loss: ln of the losses, (n,) or (B, n).
        weights: (n,) or (B, n); zero leaves a point out.
        theta: starting coordinates (B, P).
        objective: which ρ.
        frozen: (P,), coordinates held at their start.
        max_iterations: after which a problem counts as not converged.
    """
    batch = theta.shape[0]
    step = max(1, _CHUNK_VALUES // max(1, bound.n))
    y = np.broadcast_to(log_loss, (batch, bound.n))
    w = np.broadcast_to(weights, (batch, bound.n))
    parts = [
        _Chunk(bound, y[i : i + step], w[i : i + step], theta[i : i + step], objective, frozen).run(max_iterations)
        for i in range(0, batch, step)
    ]
    return Solution(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in ("theta", "objective", "converged", "gradient"))
    )


class _Chunk:
    """State of one chunk of problems; finished ones are taken out of the work."""

    def __init__(
        self,
        bound: Bound,
        y: Array,
        w: Array,
        theta: Array,
        objective: Objective,
        frozen: NDArray[np.bool_] | None,
    ) -> None:
        self.bound, self.kind = bound, objective
        self.y, self.w = y, w
        self.theta = np.clip(theta, bound.lower, bound.upper)
        self.frozen = np.zeros(theta.shape[1], bool) if frozen is None else frozen

    def _model(self, theta: Array, y: Array, w: Array) -> tuple[Array, Array, Array, Array]:
        """Objective (b,), gradient (b, P), curvature (b, P, P) of the reweighted squares, residuals (b, n)."""
        f, jac = self.bound.evaluate(theta)
        r = residuals(f, y, self.kind)
        value = np.einsum("bn,bn->b", w, penalty(r, self.kind))
        if self.kind == "ls":
            jac *= np.exp(f)[:, None, :]
        u = w if self.kind != "huber_log" else w * np.minimum(1.0, HUBER_DELTA / np.maximum(np.abs(r), 1e-300))
        weighted = jac * u[:, None, :]
        gradient = (weighted @ r[:, :, None])[:, :, 0]
        return value, gradient, weighted @ jac.swapaxes(1, 2), r

    def _held(self, theta: Array, gradient: Array) -> NDArray[np.bool_]:
        """Coordinates that may not move: frozen, or at a bound with the descent pointing outside."""
        low = (theta <= self.bound.lower) & (gradient > 0)
        high = (theta >= self.bound.upper) & (gradient < 0)
        return self.frozen | low | high

    def run(self, max_iterations: int) -> Solution:
        """Iterates until every problem is at its minimum to rounding, or out of iterations."""
        batch, p = self.theta.shape
        live = np.arange(batch)
        theta = self.theta.copy()
        y, w = self.y, self.w
        value, g, h, _ = self._model(theta, y, w)
        damping = np.full(batch, 1e-3)
        quiet = np.zeros(batch, int)
        out = Solution(theta.copy(), value.copy(), np.zeros(batch, bool), np.full(batch, np.inf))
        diagonal = np.arange(p)
        for _ in range(max_iterations):
            held = self._held(theta, g)
            gg = np.where(held, 0.0, g)
            hh = np.where(held[:, :, None] | held[:, None, :], 0.0, h)
            scale = np.maximum(
                np.diagonal(h, axis1=1, axis2=2), 1e-12 * np.trace(h, axis1=1, axis2=2)[:, None] + 1e-300
            )
            hh[:, diagonal, diagonal] += damping[:, None] * scale + held * scale
            move = -np.linalg.solve(hh, gg[..., None])[..., 0]
            trial = np.clip(theta + np.clip(move, -3.0, 3.0), self.bound.lower, self.bound.upper)
            new, g2, h2, _ = self._model(trial, y, w)
            better = new <= value
            gain = (value - new) / np.maximum(value, 1e-300)
            small = (np.abs(gain) < 1e-13) | (value < 1e-28)
            quiet = np.where(small, quiet + 1, np.where(better, 0, quiet))
            damping = np.where(better, np.maximum(damping * 0.2, 1e-12), np.minimum(damping * 6.0, 1e12))
            theta[better], value[better], g[better], h[better] = trial[better], new[better], g2[better], h2[better]
            done = quiet >= 3
            if done.any():
                self._settle(out, live, theta, value, g, h, done)
                keep = ~done
                live, theta, value, g, h = live[keep], theta[keep], value[keep], g[keep], h[keep]
                damping, quiet, y, w = damping[keep], quiet[keep], y[keep], w[keep]
                if live.size == 0:
                    return out
        self._settle(out, live, theta, value, g, h, np.ones(live.size, bool))
        out.converged[live] &= out.gradient[live] < 1e-3
        return out

    def _settle(
        self,
        out: Solution,
        live: NDArray[np.intp],
        theta: Array,
        value: Array,
        g: Array,
        h: Array,
        done: NDArray[np.bool_],
    ) -> None:
        """Writes finished problems into `out` with their scaled gradients."""
        free = np.where(self._held(theta, g), 0.0, g)
        curvature = np.maximum(np.diagonal(h, axis1=1, axis2=2), 1e-300)
        exact = 1e-18 * self.bound.n  # an exact fit leaves rounding only, which has no scale of its own
        norm = (np.abs(free) / np.sqrt(curvature * np.maximum(value, exact)[:, None])).max(axis=1)
        at = live[done]
        out.theta[at], out.objective[at], out.gradient[at] = theta[done], value[done], norm[done]
        out.converged[at] = np.isfinite(value[done]) & (norm[done] < 0.05)


def multistart(
    bound: Bound, log_loss: Array, weights: Array, objective: Objective, how_many: int = 8
) -> tuple[Solution, float]:
    """The best of several starts for one problem, and the share of starts that reached it (within 1e-6)."""
    starts = bound.starts(np.exp(log_loss), weights, how_many)
    found = minimise(bound, log_loss, weights, starts, objective)
    best = int(np.nanargmin(found.objective))
    near = found.objective <= found.objective[best] * (1 + 1e-6) + 1e-28
    pick = Solution(
        found.theta[best : best + 1],
        found.objective[best : best + 1],
        found.converged[best : best + 1],
        found.gradient[best : best + 1],
    )
    return pick, float(near.mean())


def multistart_draws(
    bound: Bound, log_loss: Array, weights: Array, objective: Objective, warm: Array, how_many: int = 2
) -> Solution:
    """Each of B problems from the warm start (P,) and from its own variable-projection starts; the best is kept.

    `log_loss` and `weights` are (B, n) or (n,).
    """
    batch = max(np.atleast_2d(log_loss).shape[0], np.atleast_2d(weights).shape[0])
    y = np.broadcast_to(log_loss, (batch, bound.n))
    w = np.broadcast_to(weights, (batch, bound.n))
    own = [bound.starts(np.exp(y[i]), w[i], how_many) for i in range(batch)]
    theta = np.concatenate([np.concatenate([warm[None], s]) for s in own])
    count = np.array([len(s) + 1 for s in own])
    owner = np.repeat(np.arange(batch), count)
    found = minimise(bound, y[owner], w[owner], theta, objective)
    order = np.lexsort((found.objective, owner))
    first = order[np.concatenate([[0], np.cumsum(count)[:-1]])]
    return Solution(found.theta[first], found.objective[first], found.converged[first], found.gradient[first])


def profile(
    bound: Bound, log_loss: Array, weights: Array, theta: Array, objective: Objective, index: int, values: Array
) -> Array:
    """The objective (V,) minimised over all other coordinates with coordinate `index` held at each of `values` (V,).

    Walks outwards from the minimum `theta` (P,), each step warm-started from its neighbour as well as from `theta`.
    """
    frozen = np.zeros(theta.size, bool)
    frozen[index] = True
    start = np.repeat(theta[None], values.size, axis=0)
    start[:, index] = values
    found = minimise(bound, log_loss, weights, start, objective, frozen=frozen)
    for neighbour in (np.roll(found.theta, 1, axis=0), np.roll(found.theta, -1, axis=0)):
        again = neighbour.copy()
        again[:, index] = values
        second = minimise(bound, log_loss, weights, again, objective, frozen=frozen)
        better = second.objective < found.objective
        found.theta[better], found.objective[better] = second.theta[better], second.objective[better]
    return found.objective
