"""Profile likelihood: how much a fit loses where one parameter is held elsewhere; intervals and flatness from it.

Twice the log likelihood lost is compared with the square of Student's quantile on the fit's n − p degrees of freedom
(Bates and Watts 1988, Nonlinear Regression Analysis, §6.1), which for a law linear in the parameter is the exact
interval. For squares and for Student's t it is n ln(S/S_min), the scale profiled out. Huber's sum is no likelihood: it
is scaled by E ψ′/E ψ² (Schrader and Hettmansperger 1980, Biometrika 67:93), ψ the score, so that its differences have
that limit whatever the noise; E ψ′ is smoothed, because few residuals lie within delta.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from analysis.laws.base import Array, Bound
from analysis.objectives import Loss
from analysis.solve import minimise, profile

_STEPS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 11.0, 18.0, 30.0, 60.0, 150.0)
"""Where a profile is looked at, in standard errors from the optimum."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A fit at its optimum `theta` (P,), `best` its objective.

    `pilot` (n,) are the log loss's residuals, by precision, about the least-squares fit at `pilot_theta`.
    """

    bound: Bound
    log_loss: Array
    weights: Array
    loss: Loss
    theta: Array
    best: float
    pilot: Array
    scale: Array | None = None
    pilot_theta: Array = field(default_factory=lambda: np.empty(0))

    @property
    def dof(self) -> int:
        """Degrees of freedom of the residuals."""
        return max(self.bound.n - self.theta.size, 1)

    def lost(self, objective: Array) -> Array:
        """Twice the log likelihood lost at objective values, in units whose limit is χ² of one degree."""
        if self.loss.kind == "huber_log":
            exact = self.bound.n * 1e-11 * self.loss.delta  # rounding, not noise
            return 2.0 * (objective - self.best) * huber_calibration(self.pilot, self.loss.delta, self.dof, exact)
        exact = self.bound.n * (1e-17 if self.loss.kind != "student_t" else 1e-22)
        return self.bound.n * np.log((objective + exact) / (self.best + exact))

    def critical(self, level: float) -> float:
        """What may be lost inside an interval of that level."""
        t = student_quantile((1.0 + level) / 2.0, self.dof)
        if self.loss.kind == "huber_log":
            return t * t
        return self.bound.n * math.log1p(t * t / self.dof)

    def lost_with(self, index: int, values: Array) -> Array:
        """Twice the log likelihood lost with coordinate `index` held at each of `values` (V,)."""
        found = profile(self.bound, self.log_loss, self.weights, self.theta, self.loss, index, values, scale=self.scale)
        return np.maximum(self.lost(found), 0.0)


def huber_calibration(r: Array, delta: float, dof: int, exact: float = 0.0) -> float:
    """E ψ′/E ψ² of Huber's score over residuals (n,) of a fit that left `dof` degrees of freedom."""
    r = r * math.sqrt(r.size / dof)
    spread = max(float(r.std()), 1e-300)
    width = 1.06 * spread * r.size ** (-0.2)
    centred = r / math.sqrt(1.0 + (width / spread) ** 2)  # a smoothed sample as wide as the sample
    cdf = NormalDist().cdf
    inside = np.mean([cdf((delta - v) / width) - cdf((-delta - v) / width) for v in centred])
    return float(inside / max(np.mean(np.minimum(np.abs(r), delta) ** 2), exact, 1e-300))


def student_quantile(p: float, dof: int) -> float:
    """Quantile of Student's t, by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5); .1 % off at 3."""
    x = NormalDist().inv_cdf(p)
    g1 = (x**3 + x) / 4
    g2 = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    g3 = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    g4 = (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160
    if dof <= 2:
        exact = math.tan(math.pi * (p - 0.5)) if dof == 1 else (2 * p - 1) / math.sqrt(2 * p * (1 - p))
        return exact
    return x + g1 / dof + g2 / dof**2 + g3 / dof**3 + g4 / dof**4


class _Tilted(Bound):
    """A bound law in which coordinate `index` is replaced by a linear function of the coordinates: row·theta."""

    def __init__(self, bound: Bound, index: int, row: Array) -> None:
        self.inner, self.n, self.names = bound, bound.n, bound.names
        self.matrix = np.eye(row.size)
        self.matrix[index] = row
        self.back = np.linalg.inv(self.matrix)
        self.lower, self.upper = bound.lower.copy(), bound.upper.copy()
        if not np.array_equal(self.matrix, np.eye(row.size)):
            self.lower[index], self.upper[index] = -1e3, 1e3

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See `Bound.evaluate`."""
        value, jac = self.inner.evaluate(theta @ self.back.T)
        return value, np.einsum("jk,bjn->bkn", self.back, jac)

    def named(self, theta: Array) -> dict[str, Array]:
        """See `Bound.named`."""
        return self.inner.named(theta @ self.back.T)

    def coordinates(self, params: Mapping[str, float]) -> Array:
        """See `Bound.coordinates`."""
        return self.matrix @ self.inner.coordinates(params)

    def starts(self, loss: Array, weights: Array, how_many: int) -> Array:
        """See `Bound.starts`."""
        return self.inner.starts(loss, weights, how_many) @ self.matrix.T


def _row(bound: Bound, theta: Array, name: str) -> tuple[Array, bool]:
    """The parameter, or else its logarithm, as a linear function of the coordinates: its gradient, and which it is.

    A law moves each parameter or its logarithm linearly, so that a difference quotient is exact to rounding.
    """
    step = 1e-4
    moved = np.concatenate([theta[None], theta + step * np.eye(theta.size), theta + 2 * step * np.eye(theta.size)])
    values = bound.named(moved)[name]
    p = theta.size
    for log in (False, True):
        v = np.log(values) if log and (values > 0).all() else values
        once, twice = (v[1 : p + 1] - v[0]) / step, (v[p + 1 :] - v[0]) / (2 * step)
        if np.abs(once - twice).max() <= 1e-6 * max(float(np.abs(once).max()), 1e-300):
            return np.asarray(once), log
    return np.asarray(once), True


def standard_errors(problem: Problem) -> Array:
    """Approximate standard errors of the coordinates (P,), from the curvature at the optimum."""
    jac = problem.bound.evaluate(problem.theta[None])[1][0]
    if problem.scale is not None:
        jac = jac * problem.scale
    sigma = float(np.sqrt(np.sum(problem.pilot**2) / problem.dof))
    size = np.sqrt(np.maximum((jac**2).sum(axis=1), 1e-300))
    scaled = jac / size[:, None]
    inverse = np.linalg.pinv(scaled @ scaled.T, rcond=1e-12, hermitian=True)
    return sigma * np.sqrt(np.maximum(np.diag(inverse), 1e-12)) / size


def profile_interval(problem: Problem, name: str, level: float) -> tuple[float, float]:
    """The profile-likelihood interval of one parameter; an end that the data do not set is the parameter's bound."""
    index = problem.bound.names.index(name)
    row, log = _row(problem.bound, problem.theta, name)
    tilted = _Tilted(problem.bound, index, row)
    inside = Problem(
        tilted,
        problem.log_loss,
        problem.weights,
        problem.loss,
        tilted.matrix @ problem.theta,
        problem.best,
        problem.pilot,
        problem.scale,
    )
    at, critical = float(inside.theta[index]), problem.critical(level)
    offset = float(np.log(problem.bound.named(problem.theta[None])[name][0]) if log else 0.0) - (at if log else 0.0)
    if not log:
        offset = float(problem.bound.named(problem.theta[None])[name][0]) - at
    unit = float(standard_errors(inside)[index])
    ends = []
    for sign, edge in ((-1.0, float(tilted.lower[index])), (1.0, float(tilted.upper[index]))):
        end = _crossing(inside, index, at, sign * unit, edge, critical)
        ends.append(math.exp(end + offset) if log else end + offset)
    parameter_low, parameter_high = _limits(problem.bound, name)
    return max(ends[0], parameter_low), min(ends[1], parameter_high)


def _limits(bound: Bound, name: str) -> tuple[float, float]:
    law = getattr(bound, "law", None)
    if law is None:
        return -math.inf, math.inf
    parameter = law.parameter(name)
    return parameter.lower, parameter.upper


def _crossing(problem: Problem, index: int, at: float, unit: float, edge: float, critical: float) -> float:
    """The coordinate beyond `at`, towards `edge`, at which `critical` is lost; the edge where it never is."""
    values = at + unit * np.array(_STEPS)
    inside = values < edge if unit > 0 else values > edge
    values = np.append(values[inside], edge) if math.isfinite(edge) else values[inside]
    lost = problem.lost_with(index, values)
    beyond = np.flatnonzero(lost > critical)
    if beyond.size == 0:
        return edge
    i = int(beyond[0])
    near, near_lost = (at, 0.0) if i == 0 else (float(values[i - 1]), float(lost[i - 1]))
    far, far_lost = float(values[i]), float(lost[i])
    for _ in range(3):  # the root of what is lost is nearly a straight line
        a, b = math.sqrt(near_lost), math.sqrt(far_lost)
        share = min(max((math.sqrt(critical) - a) / max(b - a, 1e-300), 0.02), 0.98)
        middle = near + share * (far - near)
        value = float(problem.lost_with(index, np.array([middle]))[0])
        if value > critical:
            far, far_lost = middle, value
        else:
            near, near_lost = middle, value
    a, b = math.sqrt(near_lost), math.sqrt(far_lost)
    return near + (math.sqrt(critical) - a) / max(b - a, 1e-300) * (far - near)


def flat_ends(problem: Problem, level: float, skip: tuple[int, ...] = ()) -> dict[str, tuple[bool, bool]]:
    """Coordinates whose profile stays below the level's threshold out to a finite bound: (at the lower, at the upper).

    Only coordinates with a flat end are named; those in `skip` are not tried.
    """
    p = problem.theta.size
    sides = (problem.bound.lower, problem.bound.upper)
    tried = [(j, k) for j in range(p) for k in (0, 1) if j not in skip and math.isfinite(sides[k][j])]
    if not tried:
        return {}
    start, frozen = np.repeat(problem.theta[None], len(tried), axis=0), np.zeros((len(tried), p), bool)
    for i, (j, k) in enumerate(tried):
        start[i, j], frozen[i, j] = sides[k][j], True
    ends = minimise(
        problem.bound,
        problem.log_loss,
        problem.weights,
        start,
        problem.loss,
        frozen=frozen,
        scale=problem.scale,
        max_iterations=60,
        tolerance=1e-6,
    )
    flat = problem.lost(ends.objective) < problem.critical(level)
    found: dict[str, tuple[bool, bool]] = {}
    for (j, k), is_flat in zip(tried, flat, strict=True):
        if is_flat:
            low, high = found.get(problem.bound.names[j], (False, False))
            found[problem.bound.names[j]] = (low or k == 0, high or k == 1)
    return found
