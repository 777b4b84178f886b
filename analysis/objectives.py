"""What a fit minimises: Huber on the log loss, least squares, Student's t; value and weights for a batched solver.

- `huber_log`: Σ w ρ_δ(r), r = ln L̂ − ln L, δ = 1e-3, summed and never averaged (Hoffmann et al. 2022, arXiv
  2203.15556, eq. 3; Besiroglu et al. 2024, arXiv 2404.10102, on averaging). With δ far below the noise it is close to
  least absolute deviations: robust, and for normal noise as wide as least squares on some 64 % of the rows.
- `ls_log`: Σ w r²/2. `ls`: the same with r = L̂ − L.
- `student_t`: the t likelihood of r with its scale τ profiled out (Lange, Little and Taylor 1989, JASA 84:881), written
  as (Σw/2) τ² exp(Σ w (ν+1) ln(1 + r²/(ν τ²)) / Σw − 1): it falls as the likelihood rises, tends to `ls_log` as ν
  grows, and, as for squares, twice the log likelihood ratio of two fits is Σw ln(S/S').
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scaling.errors import InputError

Array = NDArray[np.float64]
Objective = Literal["huber_log", "ls_log", "ls", "student_t"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
HUBER_DELTA = 1e-3
STUDENT_NU = 4.0
"""Degrees of freedom of the t; four guards against outliers at a fifth more variance where there are none."""

_NUS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0)
_ROUNDING = 1e-12
"""A scale that rounding alone gives the residuals of an exact fit."""


@dataclass(frozen=True)
class Loss:
    """An objective with its constant: `delta` of Huber's (log loss), `nu` of Student's t."""

    kind: Objective
    delta: float = HUBER_DELTA
    nu: float = STUDENT_NU

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise InputError(f"there is no objective {self.kind!r}; there are {', '.join(OBJECTIVES)}")
        for name in ("delta", "nu"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}, not a positive number")

    @property
    def meaning(self) -> str:
        """What is minimised, in words."""
        if self.kind == "huber_log":
            return f"Huber, delta {self.delta:g}, on log loss, summed"
        if self.kind == "student_t":
            return f"Student's t, nu {self.nu:g}, on log loss, scale profiled out"
        return f"least squares on {'log loss' if self.kind == 'ls_log' else 'loss'}"


def as_loss(objective: Objective | Loss) -> Loss:
    """The objective with its constant; a name alone has the default one."""
    return objective if isinstance(objective, Loss) else Loss(objective)


def residuals(log_fit: Array, log_loss: Array, objective: Objective | Loss) -> Array:
    """Residuals that the objective sums: of the log loss, or of the loss for `ls`."""
    if as_loss(objective).kind == "ls":
        return np.asarray(np.exp(log_fit) - np.exp(log_loss))
    return log_fit - log_loss


def penalty(r: Array, objective: Objective | Loss) -> Array:
    """What each residual adds to an objective that is a sum (every one but `student_t`)."""
    loss = as_loss(objective)
    if loss.kind != "huber_log":
        return 0.5 * r * r
    inner = np.minimum(np.abs(r), loss.delta)
    return inner * (np.abs(r) - 0.5 * inner)


def working(r: Array, w: Array, loss: Loss) -> tuple[Array, Array | None, Array | None]:
    """Objective (B,) at residuals (B, n) under weights (B, n); and the factors of its derivatives.

    Returns:
        The value; u (B, n) with gradient Σ w u r ∂r, None where u = 1; and h (B, n), the curvature's share Σ w h ∂r ∂r
        where it is less than u's, else None.
    """
    if loss.kind == "huber_log":
        size = np.abs(r)
        inner = np.minimum(size, loss.delta)
        value = np.einsum("bn,bn->b", w, inner * (size - 0.5 * inner))
        u = inner / np.maximum(size, 1e-300)
        return value, np.where(size > 0, u, 1.0), (size <= loss.delta).astype(np.float64)
    if loss.kind == "student_t":
        total = np.maximum(w.sum(axis=1), 1e-300)
        square = r * r
        scale = student_scale(square, w, loss.nu)[:, None]
        logs = np.einsum("bn,bn->b", w, np.log1p(square / (loss.nu * scale)))
        spread = scale[:, 0] * np.exp((loss.nu + 1.0) * logs / total - 1.0)
        return 0.5 * total * spread, (loss.nu + 1.0) * spread[:, None] / (loss.nu * scale + square), None
    return 0.5 * np.einsum("bn,bn,bn->b", w, r, r), None, None


def student_scale(square: Array, w: Array, nu: float) -> Array:
    """The t's squared scale τ² (B,) that is likeliest for squared residuals (B, n) under weights (B, n).

    The root in ln τ² of Σ w (ν+1) r²/(ν τ² + r²) = Σ w, which falls monotonely; by Newton's method.
    """
    total = np.maximum(w.sum(axis=1), 1e-300)
    scale = np.maximum(np.einsum("bn,bn->b", w, square) / total, _ROUNDING**2)
    for _ in range(30):
        share = square / (nu * scale[:, None] + square)
        level = (nu + 1.0) * np.einsum("bn,bn->b", w, share) / total
        slope = (nu + 1.0) * np.einsum("bn,bn,bn->b", w, share, 1.0 - share) / total
        # In the logarithm of `level` the function is nearly linear, so that far starts come in without overshooting.
        move = np.clip(np.log(np.maximum(level, 1e-300)) * level / np.maximum(slope, 1e-300), -2.0, 2.0)
        scale = np.maximum(scale * np.exp(move), _ROUNDING**2)
        if np.max(np.abs(np.where(scale > _ROUNDING**2, move, 0.0)), initial=0.0) < 1e-7:  # converges quadratically
            break
    return scale


def profile_nu(r: Array, w: Array) -> float:
    """The likeliest ν among 1.5…100 for residuals (n,) of the log loss under weights (n,)."""

    def minus_log_likelihood(nu: float) -> float:
        scale = float(student_scale((r * r)[None], w[None], nu)[0])
        constant = math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2) + 0.5 * math.log(nu * math.pi * scale)
        return float(w.sum()) * constant + float(w @ np.log1p(r * r / (nu * scale))) * (nu + 1) / 2

    return min(_NUS, key=minus_log_likelihood)
