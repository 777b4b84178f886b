"""Batched solver: Levenberg–Marquardt with reweighting, many draws at once, float64, analytic gradients.

Variable projection (Golub and Pereyra 1973) on a grid gives the starts; all coordinates are then refined together.
The objectives are in `analysis.objectives`. For Huber's loss the step solves (H₁ + λH₂) s = −g, H₁ the curvature of the
residuals within delta alone (Newton on the active set: Madsen and Nielsen 1990, BIT 30:682), H₂ that of the reweighted
squares; λ large gives a safe short step, λ small a quadratic one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Array, Bound
from analysis.objectives import HUBER_DELTA as HUBER_DELTA
from analysis.objectives import OBJECTIVES as OBJECTIVES
from analysis.objectives import Loss, Objective, as_loss, residuals, working
from analysis.objectives import penalty as penalty
from analysis.threads import one_thread

_CHUNK_VALUES = 1 << 15
"""Residuals worked on at once, so that a chunk's Jacobian stays in the second-level cache."""
TOLERANCE = 1e-13
"""Relative gain of the objective below which a fit has arrived."""
DRAW_TOLERANCE = 1e-10
"""The same for bootstrap draws: their parameters are then right to some 1e-4 of their spread."""
_COARSE = 1e-8
"""The same for starts of which the best is then refined, and for profiles: far below what a test could see."""
_EXPLORING = 60
"""Iterations after which starts are left alone if two of them have met at the lowest objective of all."""
_POLISHING = 40
"""Iterations of a profile's second pass."""
_NEAR = 0.01
"""Relative gain of an iteration below which Huber's loss is worked on by its active set."""
_SMALL = 12
"""Up to this many coordinates, normal equations are solved for all problems at once by Cholesky, else by LAPACK."""


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


def minimise(
    bound: Bound,
    log_loss: Array,
    weights: Array,
    theta: Array,
    objective: Objective | Loss,
    *,
    frozen: NDArray[np.bool_] | None = None,
    scale: Array | None = None,
    max_iterations: int = 300,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Minimises Σ_i w_i ρ(s_i residual_i) for B problems at once from `theta` (B, P).

    Args:
        bound: the law at its n points.
        log_loss: ln of the losses, (n,) or (B, n).
        weights: (n,) or (B, n), how often a point counts; zero leaves it out.
        theta: starting coordinates (B, P).
        objective: which ρ.
        frozen: (P,) or (B, P), coordinates held at their start.
        scale: s (n,), the reciprocal of each point's noise relative to the others'; none is 1.
        max_iterations: after which a problem counts as not converged.
        tolerance: relative gain at which a problem has arrived.
    """
    batch = theta.shape[0]
    step = max(1, _CHUNK_VALUES // max(1, bound.n))
    y = np.broadcast_to(log_loss, (batch, bound.n))
    w = np.broadcast_to(weights, (batch, bound.n))
    held = np.broadcast_to(np.zeros(theta.shape[1], bool) if frozen is None else frozen, theta.shape)
    loss = as_loss(objective)
    parts = []
    # Far starts overflow; what is not finite is not accepted.
    with np.errstate(over="ignore", invalid="ignore"), one_thread():
        for i in range(0, batch, step):
            part = slice(i, i + step)
            chunk = _Chunk(bound, y[part], w[part], theta[part], loss, held[part], scale)
            parts.append(chunk.run(max_iterations, tolerance))
    return Solution(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in ("theta", "objective", "converged", "gradient"))
    )


def solve_spd(matrix: Array, right: Array) -> Array:
    """x (B, P) with matrix (B, P, P) · x = right (B, P), matrices symmetric and positive definite."""
    batch, p = right.shape
    if p > _SMALL or batch < 8:
        try:
            return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0], dtype=np.float64)
        except np.linalg.LinAlgError:  # singular to rounding: the pivots below are kept from 0
            pass
    a = np.ascontiguousarray(matrix.transpose(1, 2, 0))
    x = np.ascontiguousarray(right.T)
    for j in range(p):  # LDLᵀ in place, one numpy operation for all problems
        pivot = a[j, j]
        np.copyto(pivot, 1e-300, where=np.abs(pivot) < 1e-300)
        for i in range(j + 1, p):
            factor = a[i, j] / pivot
            a[i, j + 1 : i + 1] -= factor * a[j + 1 : i + 1, j]
            x[i] -= factor * x[j]
    for i in range(p - 1, -1, -1):
        x[i] /= a[i, i]
        for k in range(i):
            x[k] -= a[i, k] * x[i]
    return np.ascontiguousarray(x.T)


class _Chunk:
    """State of one chunk of problems; finished ones are taken out of the work."""

    def __init__(
        self,
        bound: Bound,
        y: Array,
        w: Array,
        theta: Array,
        loss: Loss,
        frozen: NDArray[np.bool_],
        scale: Array | None,
    ) -> None:
        self.bound, self.loss = bound, loss
        self.y, self.w, self.scale = y, w, scale
        self.theta = np.clip(theta, bound.lower, bound.upper)
        self.frozen = frozen

    def _model(self, theta: Array, y: Array, w: Array) -> tuple[Array, Array, Array, Array | None]:
        """Objective (b,), gradient (b, P), curvature (b, P, P) of the reweighted squares, and the active set's."""
        f, jac = self.bound.evaluate(theta)
        r = residuals(f, y, self.loss)
        if self.loss.kind == "ls":
            jac *= np.exp(f)[:, None, :]
        if self.scale is not None:
            r = r * self.scale
            jac *= self.scale
        value, u, inside = working(r, w, self.loss)
        weighted = jac * (w if u is None else w * u)[:, None, :]
        gradient = (weighted @ r[:, :, None])[:, :, 0]
        transposed = jac.swapaxes(1, 2)
        curvature = weighted @ transposed
        if inside is None:
            return value, gradient, curvature, None
        np.multiply(weighted, inside[:, None, :], out=weighted)
        return value, gradient, curvature, weighted @ transposed

    def _held(self, theta: Array, gradient: Array) -> NDArray[np.bool_]:
        """Coordinates that may not move: frozen, or at a bound with the descent pointing outside."""
        low = (theta <= self.bound.lower) & (gradient > 0)
        high = (theta >= self.bound.upper) & (gradient < 0)
        return self.frozen | low | high

    def _move(
        self, held: NDArray[np.bool_], g: Array, h: Array, active: Array | None, damping: Array, far: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """The damped step (b, P), and what it gains by the quadratic model (b,); `far` ones take reweighted squares."""
        diagonal = np.arange(g.shape[1])
        steep = np.where(held, 0.0, g)
        scale = h[:, diagonal, diagonal]
        scale = np.maximum(scale, 1e-12 * scale.sum(axis=1)[:, None] + 1e-300)
        if active is None:
            matrix = h.copy()
            matrix[:, diagonal, diagonal] += damping[:, None] * scale
        else:
            matrix = np.where(far, 1.0, damping)[:, None, None] * h
            matrix += np.where(far, 0.0, 1.0)[:, None, None] * active
            matrix[:, diagonal, diagonal] += np.where(far, damping, 1e-9)[:, None] * scale
        if held.any():
            matrix[held[:, :, None] | held[:, None, :]] = 0.0
            matrix[:, diagonal, diagonal] += held * scale
        move = -solve_spd(matrix, steep)
        return np.clip(move, -3.0, 3.0), -0.5 * np.einsum("bp,bp->b", steep, move)

    def run(self, max_iterations: int, tolerance: float) -> Solution:
        """Iterates until every problem is at its minimum to rounding, or out of iterations."""
        batch = self.theta.shape[0]
        live = np.arange(batch)
        theta, y, w = self.theta.copy(), self.y, self.w
        value, g, h, active = self._model(theta, y, w)
        damping = np.full(batch, 1e-3 if active is None else 0.1)
        quiet, done, far = np.zeros(batch, int), ~np.isfinite(value), np.full(batch, active is not None)
        nothing = 1e-28 if self.loss.kind != "student_t" else 1e-22 * self.bound.n
        out = Solution(theta.copy(), value.copy(), np.zeros(batch, bool), np.full(batch, np.inf))
        for _ in range(max_iterations):
            move, promised = self._move(self._held(theta, g), g, h, active, damping, far)
            trial = np.clip(theta + move, self.bound.lower, self.bound.upper)
            new, g2, h2, active2 = self._model(trial, y, w)
            better = new <= value
            gain = np.abs(value - new) / np.maximum(value, 1e-300)
            small = (gain < tolerance) | (value < nothing)
            quiet = np.where(small, quiet + 1, np.where(better, 0, quiet))
            # A short damped step gains little anywhere; a full one that promises nothing is at a minimum.
            done |= (quiet >= 3) | (small & ~far & (damping <= 0.1) & (promised <= tolerance * value))
            # Trust the quadratic model more where it kept its promise, less where a kink of the loss broke it.
            kept = (value - new) / np.maximum(promised, 1e-300)
            factor = np.where(kept > 0.6, 0.1, np.where(kept > 0.2, 1.0, np.where(better, 3.0, 8.0)))
            damping = np.clip(damping * factor, 1e-12, 1e12)
            near = far & better & (gain < _NEAR)
            far &= ~near
            damping[near] = 0.1
            theta[better], value[better], g[better], h[better] = trial[better], new[better], g2[better], h2[better]
            if active is not None and active2 is not None:
                active[better] = active2[better]
            if done.sum() > 0.15 * live.size:
                self._settle(out, live, theta, value, g, h, done)
                keep = ~done
                live, theta, value, g, h = live[keep], theta[keep], value[keep], g[keep], h[keep]
                active = None if active is None else active[keep]
                damping, quiet, far, y, w, done = (v[keep] for v in (damping, quiet, far, y, w, done))
                self.frozen = self.frozen[keep]
                if live.size == 0:
                    return out
        self._settle(out, live, theta, value, g, h, np.ones(live.size, bool))
        out.converged[live] &= done | (out.gradient[live] < 1e-3)
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
        exact = (1e-18 if self.loss.kind != "student_t" else 1e-15) * self.bound.n  # rounding has no scale of its own
        norm = (np.abs(free) / np.sqrt(curvature * np.maximum(value, exact)[:, None])).max(axis=1)
        at = live[done]
        out.theta[at], out.objective[at], out.gradient[at] = theta[done], value[done], norm[done]
        out.converged[at] = np.isfinite(value[done]) & (norm[done] < 0.05)


def multistart(
    bound: Bound,
    log_loss: Array,
    weights: Array,
    objective: Objective | Loss,
    how_many: int = 8,
    *,
    scale: Array | None = None,
) -> tuple[Solution, float]:
    """The best of several starts for one problem, and the share of starts that reached it (within 1e-6)."""
    starts = bound.starts(np.exp(log_loss), weights if scale is None else weights * scale**2, how_many)
    for iterations in (_EXPLORING, 300):
        found = minimise(
            bound, log_loss, weights, starts, objective, scale=scale, max_iterations=iterations, tolerance=_COARSE
        )
        best = int(np.argmin(np.where(np.isfinite(found.objective), found.objective, np.inf)))
        near = found.objective <= found.objective[best] * (1 + 1e-6) + 1e-28
        if near.sum() >= min(2, len(starts)):
            break
        starts = found.theta
    return minimise(bound, log_loss, weights, found.theta[best : best + 1], objective, scale=scale), float(near.mean())


def multistart_draws(
    bound: Bound,
    log_loss: Array,
    weights: Array,
    objective: Objective | Loss,
    warm: Array,
    how_many: int = 2,
    *,
    scale: Array | None = None,
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
    found = minimise(bound, y[owner], w[owner], theta, objective, scale=scale)
    order = np.lexsort((found.objective, owner))
    first = order[np.concatenate([[0], np.cumsum(count)[:-1]])]
    return Solution(found.theta[first], found.objective[first], found.converged[first], found.gradient[first])


def profile(
    bound: Bound,
    log_loss: Array,
    weights: Array,
    theta: Array,
    objective: Objective | Loss,
    index: int,
    values: Array,
    *,
    scale: Array | None = None,
) -> Array:
    """The objective (V,) minimised over all other coordinates with coordinate `index` held at each of `values` (V,).

    Every value starts from the minimum `theta` (P,), and then from where its two neighbours ended.
    """
    frozen = np.zeros(theta.size, bool)
    frozen[index] = True
    start = np.repeat(theta[None], values.size, axis=0)
    start[:, index] = values
    settings: dict[str, Any] = {"frozen": frozen, "scale": scale, "tolerance": _COARSE}
    found = minimise(bound, log_loss, weights, start, objective, **settings)
    if values.size == 1:
        return found.objective
    again = np.concatenate([np.roll(found.theta, 1, axis=0), np.roll(found.theta, -1, axis=0)])
    again[:, index] = np.tile(values, 2)
    second = minimise(bound, log_loss, weights, again, objective, max_iterations=_POLISHING, **settings)
    return np.minimum(found.objective, second.objective.reshape(2, -1).min(axis=0))
