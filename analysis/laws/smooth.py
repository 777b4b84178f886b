"""Laws that are no sum of powers: a smooth response with analytic derivatives, bound to points for the batched solver.

A member states its parameters, its variables, one method that gives the response with its derivatives, and a box of
starting values. Starts are quasi-random points in that box, amplitudes by non-negative least squares inside.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.laws.base import FLOOR_AT_ZERO, Array, Bound, Law, nnls_small

Derivatives = tuple[Any, dict[str, Any]]

_LOG_RANGE = 200.0
_LOG_RESPONSE = 150.0
"""A response beyond e^±150, or none at all, counts as e^150 with no slope: a point the solver steps back from."""
_POINTS = 512
"""Points tried for a start, and rows at which they are tried."""
_APART = 0.12
"""Two starts differ by this share of the box in some parameter."""


class SmoothLaw(Law):
    """A law given by its response and derivatives.

    `amplitudes` are the non-negative parameters the response is linear in; `log_amplitudes` those whose exponential
    it is linear in. `pivots` says which powers an amplitude comes with, as in `{"A": (("alpha", "params", -1.0),)}`
    for A·N^−alpha: the solver then moves the amplitude at the centre of the data, which frees it of the exponent.
    """

    amplitudes: ClassVar[tuple[str, ...]] = ()
    log_amplitudes: ClassVar[tuple[str, ...]] = ()
    pivots: ClassVar[Mapping[str, tuple[tuple[str, str, float], ...]]] = {}

    @abstractmethod
    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """The response and its derivative by each parameter's name.

        Parameters `p` and variables `x` are arrays that broadcast together (in a fit (B, 1) and (n,)). Use plain
        numpy operations that hold for complex parameters: the derivatives are tested by complex steps.
        """

    @abstractmethod
    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Where to look for each parameter that is no amplitude: (low, high), low < high, from the data (n,) each.

        One with `pivots` is meant at the centre of the data, as the solver moves it.
        """

    def place(self, p: dict[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        """Parameters (G, 1) each from what was drawn in `box`, for a law that is better searched in other terms."""
        return p

    def linear(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """The response as offset + Σ amplitude · column, for starts: the offset, and a column for each amplitude.

        Here from the derivatives at amplitudes of 1 (log amplitudes of 0); a law that is linear in them only nearly
        gives columns of its own.
        """
        value, derivatives = self.respond(p, x)
        columns = [derivatives[name] for name in self.amplitudes + self.log_amplitudes]
        return value - sum(columns), columns

    def predict(self, params: Mapping[str, Any], /, **variables: ArrayLike) -> Array:
        """See `Law.predict`; NaN where the formula has no value."""
        value, _ = self._at(params, variables)
        return np.asarray(value, dtype=np.float64)

    def jacobian(self, params: Mapping[str, Any], /, **variables: ArrayLike) -> dict[str, Array]:
        """See `Law.jacobian`."""
        value, derivatives = self._at(params, variables)
        return {
            p.name: np.broadcast_to(np.asarray(derivatives[p.name], dtype=np.float64), np.shape(value))
            for p in self.parameters
        }

    def _at(self, params: Mapping[str, Any], variables: Mapping[str, ArrayLike]) -> Derivatives:
        self.check_variables(variables)
        p = {q.name: np.asarray(params[q.name], dtype=np.float64) for q in self.parameters}
        with np.errstate(all="ignore"):
            return self.respond(p, {k: np.asarray(v, dtype=np.float64) for k, v in variables.items()})

    def bind(self, **variables: Array) -> BoundSmooth:
        """See `Law.bind`."""
        self.check_variables(variables)
        return BoundSmooth(self, variables)


class BoundSmooth(Bound):
    """Coordinates: each parameter or its logarithm, by its `scale`; amplitudes at the centre of the data (`pivots`)."""

    def __init__(self, law: SmoothLaw, variables: Mapping[str, Array]) -> None:
        self.law = law
        self.names = tuple(p.name for p in law.parameters)
        self.variables = {v: np.asarray(variables[v], dtype=np.float64) for v in law.variables}
        self.x = np.log(np.stack([self.variables[v] for v in law.variables]))
        self.n = self.x.shape[1]
        self.log = np.array([p.scale == "log" for p in law.parameters])
        lower, upper = (np.array([getattr(p, end) for p in law.parameters]) for end in ("lower", "upper"))
        with np.errstate(divide="ignore"):
            self.lower = np.where(self.log, np.maximum(np.log(np.maximum(lower, 0.0)), -_LOG_RANGE), lower)
            self.upper = np.where(self.log, np.minimum(np.log(np.maximum(upper, 0.0)), _LOG_RANGE), upper)
        # theta = centring @ t, t the parameters or their logs: amplitudes take in their powers at the centre.
        self.centring = np.eye(len(self.names))
        centre = dict(zip(law.variables, self.x.mean(axis=1), strict=True))
        for amplitude, powers in law.pivots.items():
            for exponent, variable, sign in powers:
                self.centring[self.names.index(amplitude), self.names.index(exponent)] = sign * centre[variable]
        self.uncentring = np.linalg.inv(self.centring).astype(np.float64)
        self._tried: tuple[Any, NDArray[np.intp], Array, Array, Array] | None = None

    def open(self, theta: Array) -> tuple[Array, Array | None]:
        """Parameters or their logs (B, P) at coordinates (B, P), and their derivatives (P, P) or (B, P, P); None for 1.

        A law that is better solved in other coordinates binds to a subclass with `open` and `close` of its own.
        """
        if not self.law.pivots:
            return theta, None
        t: Array = theta @ self.uncentring.T
        return t, self.uncentring

    def close(self, t: Array) -> Array:
        """Coordinates (B, P) of parameters or their logs (B, P)."""
        theta: Array = t @ self.centring.T
        return theta

    def _values(self, t: Array) -> dict[str, Array]:
        """Parameters, (B, 1) each, from them or their logs (B, P)."""
        values = np.where(self.log, np.exp(np.where(self.log, t, 0.0)), t)
        return {name: values[:, j : j + 1] for j, name in enumerate(self.names)}

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See `Bound.evaluate`."""
        t, slopes = self.open(theta)
        jac = np.empty((t.shape[0], t.shape[1], self.n))
        with np.errstate(all="ignore"):
            p = self._values(t)
            value, derivatives = self.law.respond(p, self.variables)
            log_value = np.broadcast_to(np.log(value), (t.shape[0], self.n)).copy()
            for j, name in enumerate(self.names):
                np.divide(derivatives[name], value, out=jac[:, j])
                if self.log[j]:
                    jac[:, j] *= p[name]
            bad = ~(np.abs(log_value) < _LOG_RESPONSE) | ~np.isfinite(jac).all(axis=1)
        if bad.any():
            log_value[bad] = _LOG_RESPONSE
            jac[np.broadcast_to(bad[:, None, :], jac.shape)] = 0.0
        return log_value, jac if slopes is None else np.swapaxes(slopes, -1, -2) @ jac

    def named(self, theta: Array) -> dict[str, Array]:
        """See `Bound.named`."""
        t, _ = self.open(np.atleast_2d(theta))
        with np.errstate(over="ignore"):
            return {n: np.exp(t[:, j]) if self.log[j] else t[:, j].copy() for j, n in enumerate(self.names)}

    def coordinates(self, params: Mapping[str, float]) -> Array:
        """See `Bound.coordinates`."""
        t = [np.log(max(params[n], 1e-300)) if self.log[j] else params[n] for j, n in enumerate(self.names)]
        return np.clip(self.close(np.array([t], dtype=np.float64))[0], self.lower, self.upper)

    def starts(self, loss: Array, weights: Array, how_many: int) -> Array:
        """Quasi-random points in the law's box, amplitudes by non-negative least squares; the best, no two neighbours.

        `loss` is the law's response. With amplitudes the residual is relative, (L̂ − L)/L; without, that of the log.
        """
        rows, unit, t, rest = self._try(loss)
        y, w = loss[rows], weights[rows]
        linear = self.law.amplitudes + self.law.log_amplitudes
        if linear:
            basis = rest[:, 1:] / y
            amplitudes, rss = nnls_small(basis, 1.0 - rest[:, 0] / y, w)
            with np.errstate(divide="ignore"):
                least = FLOOR_AT_ZERO * float(y.min()) / np.abs(rest[:, 1:]).mean(axis=2)
            amplitudes = np.maximum(amplitudes, np.nan_to_num(least, posinf=1.0))
            t = t.copy()
            for k, name in enumerate(linear):
                j = self.names.index(name)
                as_log = self.log[j] or name in self.law.log_amplitudes
                t[:, j] = np.log(amplitudes[:, k]) if as_log else amplitudes[:, k]
        else:
            rss = (np.clip(rest[:, 0] - np.log(y), -1e3, 1e3) ** 2) @ w
        order = np.argsort(np.nan_to_num(rss, nan=np.inf), kind="stable")
        taken: list[int] = []
        for i in order:
            if len(taken) == how_many:
                break
            if all(np.abs(unit[i] - unit[j]).max() > _APART for j in taken) if unit.shape[1] else not taken:
                taken.append(int(i))
        return np.clip(self.close(t[taken]), self.lower, self.upper)

    def _try(self, loss: Array) -> tuple[NDArray[np.intp], Array, Array, Array]:
        """Rows used (m,), points in the unit box (G, K), as parameters or their logs (G, P), and what they give.

        That is, with amplitudes, the response without them and their derivatives (G, 1 + K, m); else the log response
        (G, 1, m). Kept while the box stays the same, as it does for draws of one table.
        """
        law = self.law
        box = dict(law.box(loss, self.variables))
        key = tuple(sorted(box.items()))
        if self._tried is not None and self._tried[0] == key:
            return self._tried[1:]
        linear = law.amplitudes + law.log_amplitudes
        free = [n for n in self.names if n not in linear]
        unit = _spread(len(free))
        t = np.zeros((len(unit), len(self.names)))
        for k, name in enumerate(free):
            low, high = (np.log(box[name]) if law.parameter(name).scale == "log" else np.array(box[name])).tolist()
            t[:, self.names.index(name)] = low + (high - low) * unit[:, k]
        t = t @ self.uncentring.T  # the box means pivoted parameters at the centre
        for name in linear:
            j = self.names.index(name)
            t[:, j] = 0.0 if self.log[j] or name in law.log_amplitudes else 1.0
        p = law.place(self._values(t), self.variables)
        with np.errstate(all="ignore"):
            t = np.stack([np.log(p[n][:, 0]) if self.log[j] else p[n][:, 0] for j, n in enumerate(self.names)], axis=1)
        rows = np.arange(self.n)
        if self.n > _POINTS:
            rows = np.sort(np.random.default_rng(0).choice(self.n, _POINTS, replace=False))
        x = {k: v[rows] for k, v in self.variables.items()}
        shape = (len(unit), rows.size)
        with np.errstate(all="ignore"):
            if linear:
                offset, columns = law.linear(p, x)
                rest = np.stack([np.broadcast_to(c, shape) for c in (offset, *columns)], axis=1)
            else:
                rest = np.broadcast_to(np.log(law.respond(p, x)[0]), shape)[:, None, :]
        usable = np.isfinite(rest).all(axis=(1, 2)) & (np.abs(rest) < 1e100).all(axis=(1, 2))
        usable &= (np.abs(rest[:, 1:]).max(axis=2) > 1e-100).all(axis=1)
        if not usable.any():
            usable[:1], rest = True, np.nan_to_num(rest, nan=1.0, posinf=1.0, neginf=1.0)
        found = (rows, unit[usable], t[usable], rest[usable])
        self._tried = (key, *found)
        return found


@cache
def _spread(dimensions: int) -> Array:
    """Evenly spread points (G, dimensions) of the unit box; one point where there is nothing to choose.

    The additive recurrence k·(1/r, 1/r², …) mod 1 with r^(dimensions + 1) = r + 1, r > 1 (Roberts 2018): about as even
    as Sobol's points, without the half second that importing scipy.stats for those takes.
    """
    if dimensions == 0:
        return np.zeros((1, 0))
    r = 2.0
    for _ in range(64):
        r = (1.0 + r) ** (1.0 / (dimensions + 1))
    return (0.5 + np.outer(np.arange(1, _POINTS + 1), r ** -np.arange(1.0, dimensions + 1))) % 1.0
