"""The best size where a law has no closed form, where inference counts, and what it costs to leave the best.

Least loss at a budget: min L(N, D) with C = kappa N D. Least cost of a loss l, training and serving: min kappa N D +
2 N D_inf with L(N, D) = l; Sardana et al. 2024 (arXiv 2401.00448) eq. 2. For any law of params and tokens (or steps).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.bootstrap import estimate
from analysis.laws.base import Array, Law
from analysis.laws.chinchilla import Optimum
from analysis.types import Estimate, FitResult, Status, jsonable
from scaling.errors import InputError

TRAIN_FLOPS, SERVE_FLOPS = 6.0, 2.0
"""FLOPs per parameter and token, trained and served."""

_GRID = 161
_STEP = 0.06
"""First difference in ln N and ln D; three halvings, extrapolated, leave errors near 1e-13 of the loss."""
_HALVINGS = 60
_LARGEST = 92.0
"""Sizes and tokens up to e^92 = 1e40 are looked at."""
_CHUNK = 512


class Cheapest(NamedTuple):
    """Size, training tokens and FLOPs (training and serving) of the cheapest way to a loss; NaN where there is none."""

    params: Array
    tokens: Array
    flops: Array


@dataclass(frozen=True, eq=False)
class Departure:
    """A run (N, D) against the best: what its compute could have reached, and what its loss could have cost.

    `excess_compute` is flops/`least_flops` − 1; `excess_loss` is loss − `least_loss`, nats. NaN where there is no
    interior optimum.
    """

    flops: Array
    loss: Array
    least_flops: Array
    least_loss: Array

    @property
    def excess_compute(self) -> Array:
        """Share of compute beyond the least that reaches the same loss."""
        return self.flops / self.least_flops - 1.0

    @property
    def excess_loss(self) -> Array:
        """Nats beyond the least loss of the same compute."""
        return self.loss - self.least_loss


@dataclass(frozen=True, eq=False)
class Deployment:
    """The model to train so that training and serving together cost least at a loss; intervals from the fit's draws."""

    loss: float
    inference_tokens: float
    params: Estimate
    tokens: Estimate
    flops: Estimate
    status: Status
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """`{"loss", "inference_tokens", "params", "tokens", "flops", "status", "warnings"}`."""
        names = ("loss", "inference_tokens", "params", "tokens", "flops")
        found = {name: jsonable(getattr(self, name)) for name in names}
        return {**found, "status": self.status.value, "warnings": [self.reason] if self.reason else []}


def best_at_budget(
    law: Law, values: Mapping[str, Any], flops: ArrayLike, *, kappa: float = TRAIN_FLOPS, **fixed: Any
) -> Optimum:
    """N*, D*, L* of any law of params and tokens at budgets C = kappa N D; parameters and budgets broadcast.

    Args:
        law: of params and tokens (or steps: then D* is steps, and kappa FLOPs per parameter and step).
        values: its parameters, numbers or draws.
        flops: budgets.
        kappa: FLOPs per parameter and token.
        fixed: values of the law's other variables, such as unique_tokens.

    Returns:
        The global minimum, NaN where it lies at the edge of what can be trained (N or D of 1).

    Raises:
        InputError: the law is not of params and tokens, a variable is missing, or a budget is not positive.
    """
    problem = _Problem.of(law, values, fixed, budget=flops)
    log_nd = np.log(problem.extra / kappa)
    u = _bracketed(
        lambda s, u: s.loss(u, log_nd[s.at][:, None] - u),
        lambda s, u: np.subtract(*s.slopes(u, log_nd[s.at] - u)),
        problem,
        np.zeros_like(log_nd),
        log_nd,
    )
    best = problem.loss(u[:, None], (log_nd - u)[:, None])[:, 0]
    shaped = [problem.shaped(a) for a in (np.exp(u), np.exp(log_nd - u), best)]
    return Optimum(*shaped)


def cheapest_to_loss(
    law: Law,
    values: Mapping[str, Any],
    loss: ArrayLike,
    *,
    inference_tokens: float = 0.0,
    kappa: float = TRAIN_FLOPS,
    serve: float = SERVE_FLOPS,
    **fixed: Any,
) -> Cheapest:
    """The size and training tokens that reach a loss at the least kappa N D + serve N D_inf; all broadcast.

    Args:
        law, values, kappa, fixed: see `best_at_budget`.
        loss: target losses, nats.
        inference_tokens: D_inf, tokens served in the model's life.
        serve: FLOPs per parameter and token served.

    Raises:
        InputError: as `best_at_budget`, or a number of tokens that is negative or not finite.
    """
    if not (math.isfinite(inference_tokens) and inference_tokens >= 0):
        raise InputError(f"inference_tokens is {inference_tokens}; it must be a number of tokens, 0 or more")
    problem = _Problem.of(law, values, fixed, loss=loss)
    served = serve / kappa * inference_tokens

    def cost(s: _Problem, u: Array) -> Array:
        return u + np.log(np.exp(s.reach(u)) + served)

    def slope(s: _Problem, u: Array) -> Array:
        v = s.reach(u[:, None])[:, 0]
        by_u, by_v = s.slopes(u, v)
        return np.exp(v) * (1.0 - by_u / by_v) + served

    size = problem.extra.size
    u = _bracketed(cost, slope, problem, np.zeros(size), np.full(size, _LARGEST / 2))
    v = problem.reach(u[:, None])[:, 0]
    total = kappa * np.exp(u) * (np.exp(v) + served)
    return Cheapest(*(problem.shaped(a) for a in (np.exp(u), np.exp(v), total)))


def departure(
    law: Law,
    values: Mapping[str, Any],
    params: ArrayLike,
    tokens: ArrayLike,
    *,
    kappa: float = TRAIN_FLOPS,
    **fixed: Any,
) -> Departure:
    """What runs of `params` and `tokens` lose against compute-optimal ones, by any law; all broadcast.

    Raises:
        InputError: as `best_at_budget`.
    """
    n, d = np.broadcast_arrays(np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64))
    second = _second(law, fixed)
    flops = kappa * n * d
    loss = law.predict(values, **{"params": n, second: d, **fixed})
    least = cheapest_to_loss(law, values, loss, kappa=kappa, **fixed).flops
    return Departure(flops, loss, least, best_at_budget(law, values, flops, kappa=kappa, **fixed).loss)


def kaplan_excess_compute(ratio: ArrayLike, alpha_N: float = 0.077, alpha_S: float = 0.76) -> Array:
    """Compute over the least, C/C_min − 1, of a size `ratio` = N/N_eff times the best one for its loss.

    C/C_min = ratio [1 + (alpha_S/alpha_N)(1 − ratio^−alpha_N)]^(−1/alpha_S); Kaplan et al. 2020 (arXiv 2001.08361)
    eq. B.16, for the law `kaplan_steps` at a batch that depends on the loss alone. Infinite where the size is too small
    to reach the loss at all.
    """
    x = np.asarray(ratio, dtype=np.float64)
    with np.errstate(all="ignore"):
        left = 1.0 + alpha_S / alpha_N * (1.0 - x**-alpha_N)
        return np.where(left > 0, x * np.maximum(left, 0.0) ** (-1.0 / alpha_S), np.inf) - 1.0


def deploy(fit: FitResult, *, loss: float, inference_tokens: float, **options: Any) -> Deployment:
    """The cheapest model of a loss, served for so many tokens, by a fit of any law of params and tokens.

    Args:
        fit: from `analysis.fit`; its draws give the intervals.
        loss: target, nats.
        inference_tokens: tokens served in the model's life.
        options: see `cheapest_to_loss`.

    Raises:
        InputError: as `cheapest_to_loss`.
    """
    missing = Estimate.missing(fit.level)
    if not all(math.isfinite(v) for v in fit.values.values()):
        reason = f"the fit of {fit.law} has no parameters: {fit.reason}"
        return Deployment(loss, inference_tokens, missing, missing, missing, fit.status, reason)
    found = cheapest_to_loss(fit.model, fit.values, loss, inference_tokens=inference_tokens, **options)
    if not np.isfinite(found.flops):
        reason = f"no size and number of tokens reach {loss:.4g} nats at a least cost by law {fit.law}"
        return Deployment(loss, inference_tokens, missing, missing, missing, Status.NON_INTERIOR, reason)
    draws: Any = Cheapest(*(np.empty(0),) * 3)
    if fit.draws:
        draws = cheapest_to_loss(fit.model, fit.draws, loss, inference_tokens=inference_tokens, **options)
    n, d, c = (estimate(float(v), some, fit.level) for v, some in zip(found, draws, strict=True))
    return Deployment(loss, inference_tokens, n, d, c, fit.status, fit.reason)


def _second(law: Law, fixed: Mapping[str, Any]) -> str:
    """The variable beside params: tokens, or steps."""
    free = [v for v in law.variables if v not in fixed and v != "params"]
    unknown = [v for v in fixed if v not in law.variables]
    if "params" not in law.variables or len(free) != 1 or free[0] not in ("tokens", "steps") or unknown:
        raise InputError(
            f"law {law.name} is of {', '.join(law.variables)}; an optimum needs params and tokens (or steps), and"
            f" values of all others; it was given {', '.join(fixed) or 'none'}"
        )
    return free[0]


@dataclass(frozen=True, eq=False)
class _Problem:
    """M problems: a law, its parameters (M, 1) each, other variables (M, 1) each, and a budget or a loss (M,)."""

    law: Law
    second: str
    values: Mapping[str, Array]
    fixed: Mapping[str, Array]
    extra: Array
    shape: tuple[int, ...]
    at: slice = field(default_factory=lambda: slice(None))

    @classmethod
    def of(cls, law: Law, values: Mapping[str, Any], fixed: Mapping[str, Any], **given: ArrayLike) -> _Problem:
        """The broadcast of everything, flattened."""
        second = _second(law, fixed)
        ((name, extra),) = given.items()
        arrays: dict[tuple[str, str], Any] = {("p", q.name): values[q.name] for q in law.parameters}
        arrays |= {("x", k): v for k, v in fixed.items()}
        known = [np.asarray(a, dtype=np.float64) for a in (*arrays.values(), extra)]
        shape = np.broadcast_shapes(*(a.shape for a in known))
        flat = [np.broadcast_to(a, shape).reshape(-1) for a in known]
        bad = ~(np.isfinite(flat[-1]) & (flat[-1] > 0))
        if name == "loss":  # of a draw that failed
            bad &= ~np.isnan(flat[-1])
        if bad.any():
            raise InputError(f"a {name} of {flat[-1][bad][0]:.4g} is not a positive number")
        columns = {key: a[:, None] for key, a in zip(arrays, flat[:-1], strict=True)}
        parts = [{k: a for (kind, k), a in columns.items() if kind == which} for which in ("p", "x")]
        return cls(law, second, parts[0], parts[1], flat[-1], shape)

    def part(self, at: slice) -> _Problem:
        """Some of the problems."""
        cut = [{k: a[at] for k, a in group.items()} for group in (self.values, self.fixed)]
        return _Problem(self.law, self.second, cut[0], cut[1], self.extra[at], self.shape, at)

    def shaped(self, a: Array) -> Array:
        """(M,) in the shape of the broadcast."""
        return a.reshape(self.shape)

    def loss(self, u: Array, v: Array) -> Array:
        """The law (M, G) at ln N and ln D (M, G) each."""
        with np.errstate(all="ignore"):
            n, d = np.broadcast_arrays(np.exp(u), np.exp(v))
            return self.law.predict(self.values, **{"params": n, self.second: d, **self.fixed})

    def slopes(self, u: Array, v: Array) -> tuple[Array, Array]:
        """dL/du and dL/dv (M,) at u and v (M,): central differences, extrapolated twice."""
        steps = _STEP * np.array([1.0, 0.5, 0.25])
        ends = np.concatenate([steps, -steps])
        found = []
        for du, dv in ((ends, 0 * ends), (0 * ends, ends)):
            f = self.loss(u[:, None] + du, v[:, None] + dv)
            d1, d2, d3 = ((f[:, :3] - f[:, 3:]) / (2 * steps)).T
            e1, e2 = (4 * d2 - d1) / 3, (4 * d3 - d2) / 3
            found.append((16 * e2 - e1) / 15)
        return found[0], found[1]

    def reach(self, u: Array) -> Array:
        """ln D (M, G) at which sizes u (M, G) reach the loss; NaN where none between 1 and 1e40 does."""
        target = self.extra[:, None]
        low, high = np.zeros_like(u), np.full_like(u, _LARGEST)
        with np.errstate(all="ignore"):
            none = ~(self.loss(u, high) < target) | ~(self.loss(u, low) > target)
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                above = self.loss(u, middle) > target
                low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.where(none, np.nan, 0.5 * (low + high))


def _bracketed(cost: Any, slope: Any, problem: _Problem, low: Array, high: Array) -> Array:
    """ln N (M,) of the least cost between `low` and `high` (M,): a grid, then halving where the slope changes sign."""
    found = np.full(low.size, np.nan)
    share = np.linspace(0.0, 1.0, _GRID)
    for i in range(0, low.size, _CHUNK):
        at = slice(i, i + _CHUNK)
        part = problem.part(at)
        grid = low[at, None] + (high - low)[at, None] * share
        with np.errstate(all="ignore"):
            values = cost(part, grid)
        best = np.argmin(np.where(np.isfinite(values), values, np.inf), axis=1)
        rows = np.arange(best.size)
        inside: NDArray[np.bool_] = (best > 0) & (best < _GRID - 1) & np.isfinite(values[rows, best])
        left, right = grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, _GRID - 1)]
        with np.errstate(all="ignore"):
            for _ in range(_HALVINGS):
                middle = 0.5 * (left + right)
                tilt = slope(part, middle)
                # A size too small to reach the loss costs without bound: the least lies to its right.
                falling = (tilt < 0) | np.isnan(tilt)
                left, right = np.where(falling, middle, left), np.where(falling, right, middle)
        found[at] = np.where(inside, 0.5 * (left + right), np.nan)
    return found
