"""What laws over whole learning-rate schedules share: L = L0 + A S1^−alpha − (drop gained by lowering the rate).

The variables are `rates` (T,), the rate of every step, and `steps` (m,), the steps at which the loss is wanted: index
i of `rates` is step i. Both laws are linear in floor and amplitudes, so starts come by non-negative least squares.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.base import FLOOR_AT_ZERO, Array, Bound, Law, nnls_small
from analysis.schedules import FIT_ORDER, PREDICT_ORDER, SCOUT_ORDER, Sampled, Steps, check_rates, flat_warmup, sample
from scaling.errors import InputError

_LOG_RANGE = 200.0
_POINTS = 256
"""Sobol points tried for a start …"""
_SCOUTED = 160
"""… at about so many points of the curves."""
_APART = 0.12
"""Two starts differ by this share of the box in some parameter."""


class ScheduleLaw(Law):
    """A law over schedules, given by its drop per unit amplitude and that drop's derivatives.

    `drop_amplitude` multiplies the drop; `shape` names the drop's other parameters, `box` where to look for alpha and
    for them. `flat` says that the law counts the warmup as if at its full rate.
    """

    floor: ClassVar[str | None] = "L0"
    drop_amplitude: ClassVar[str] = ""
    shape: ClassVar[tuple[str, ...]] = ()
    box: ClassVar[Mapping[str, tuple[float, float]]] = {}
    flat: ClassVar[bool] = False
    variables: tuple[str, ...] = ("rates", "steps")

    @abstractmethod
    def drop(self, p: Mapping[str, float], at: Sampled) -> tuple[Array, dict[str, Array]]:
        """The drop per unit amplitude at n points, and its derivative by each parameter of `shape`, (n,) each."""

    def sampled(self, curves: Sequence[tuple[Array, Steps]], order: int) -> Sampled:
        """Schedules (rates, steps) as this law counts them, joined."""
        return sample([(flat_warmup(rates) if self.flat else rates, steps) for rates, steps in curves], order)

    def at(self, p: Mapping[str, float], at: Sampled) -> tuple[Array, dict[str, Array]]:
        """The law at n points and its derivative by every parameter, (n,) each."""
        amplitude = p[self.drop_amplitude]
        drop, by_shape = self.drop(p, at)
        with np.errstate(divide="ignore", invalid="ignore"):  # no rate, no area: infinite loss
            power = at.area ** -p["alpha"]
            derivatives = {"L0": np.ones(at.n), "A": power, "alpha": -p["A"] * power * np.log(at.area)}
        derivatives[self.drop_amplitude] = -drop
        derivatives |= {name: -amplitude * d for name, d in by_shape.items()}
        return p["L0"] + p["A"] * power - amplitude * drop, derivatives

    def predict(self, params: Mapping[str, Any], /, **variables: ArrayLike) -> Array:
        """Loss in nats at `steps` of the schedule `rates` (T,), shaped as `steps`; with draws (B,), a last axis B.

        Raises:
            InputError: rates that are no schedule, or a step outside it.
        """
        at, back = self._points(variables)
        draws = np.broadcast_arrays(*(np.asarray(params[q.name], dtype=np.float64) for q in self.parameters))
        if draws[0].ndim == 0:
            return self.at(params, at)[0][back]
        rows = [
            self.at({q.name: float(d[i]) for q, d in zip(self.parameters, draws, strict=True)}, at)[0]
            for i in range(draws[0].size)
        ]
        return np.stack(rows, axis=-1)[back]

    def jacobian(self, params: Mapping[str, float], /, **variables: ArrayLike) -> dict[str, Array]:
        """See `Law.jacobian`; shaped as `steps`."""
        at, back = self._points(variables)
        derivatives = self.at(params, at)[1]
        return {q.name: derivatives[q.name][back] for q in self.parameters}

    def _points(self, variables: Mapping[str, ArrayLike]) -> tuple[Sampled, Steps]:
        """The distinct points asked for, and the number of each of `steps` among them, shaped as `steps`."""
        self.check_variables(variables)
        rates, steps = check_rates(variables["rates"]), np.asarray(variables["steps"])
        whole = np.round(steps.astype(np.float64))
        if steps.size == 0 or not (np.abs(whole - steps) < 1e-9).all() or whole.min() < 0 or whole.max() >= rates.size:
            raise InputError(f"steps must be whole and lie in 0…{rates.size - 1}, the steps of the schedule")
        unique, back = np.unique(whole.astype(np.intp).ravel(), return_inverse=True)
        return self.sampled([(rates, unique)], PREDICT_ORDER), back.reshape(steps.shape)

    def bind(self, **variables: Array) -> BoundCurves:
        """The law bound to one schedule; `bind_curves` takes several."""
        self.check_variables(variables)
        return self.bind_curves([(check_rates(variables["rates"]), np.asarray(variables["steps"], dtype=np.intp))])

    def bind_curves(self, curves: Sequence[tuple[Array, Steps]]) -> BoundCurves:
        """The law bound to the points of several schedules (rates, ascending steps), joined in order."""
        total = sum(steps.size for _, steps in curves)
        stride = -(-total // _SCOUTED)
        kept = [np.arange(0, steps.size, stride) for _, steps in curves]
        few = self.sampled([(rates, steps[k]) for (rates, steps), k in zip(curves, kept, strict=True)], SCOUT_ORDER)
        before = np.cumsum([0, *(steps.size for _, steps in curves[:-1])])
        rows = np.concatenate([k + first for k, first in zip(kept, before, strict=True)])
        return BoundCurves(self, self.sampled(curves, FIT_ORDER), few, rows)


class BoundCurves(Bound):
    """Coordinates: parameters or their logs by `scale`; A is taken at the geometric mean of S1.

    Starts are scouted at a `few` of the points, those at `rows`.
    """

    def __init__(self, law: ScheduleLaw, at: Sampled, few: Sampled, rows: Steps) -> None:
        self.law, self.sampled, self.n = law, at, at.n
        self.few, self.rows = few, rows
        self.names = tuple(q.name for q in law.parameters)
        self.log = np.array([q.scale == "log" for q in law.parameters])
        lower, upper = (np.array([getattr(q, end) for q in law.parameters]) for end in ("lower", "upper"))
        with np.errstate(divide="ignore"):
            self.lower = np.where(self.log, np.maximum(np.log(np.maximum(lower, 0.0)), -_LOG_RANGE), lower)
            self.upper = np.where(self.log, np.minimum(np.log(np.maximum(upper, 0.0)), _LOG_RANGE), upper)
        self.centring = np.eye(len(self.names))
        self.centring[self.names.index("A"), self.names.index("alpha")] = -float(np.log(at.area).mean())
        self.uncentring = np.linalg.inv(self.centring)

    def hold(self, fixed: Mapping[str, float]) -> None:
        """Holds parameters other than A at a value."""
        for name, value in fixed.items():
            j = self.names.index(name)
            self.lower[j] = self.upper[j] = np.log(value) if self.log[j] else value

    def _values(self, t: Array) -> Array:
        return np.where(self.log, np.exp(np.where(self.log, t, 0.0)), t)

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See `Bound.evaluate`; a loss of 0 or less counts as e^-30 with no slope, which the solver steps back from."""
        t = theta @ self.uncentring.T
        values = self._values(t)
        log_loss, jac = np.empty((len(t), self.n)), np.empty((len(t), t.shape[1], self.n))
        for i, row in enumerate(values):
            loss, derivatives = self.law.at(dict(zip(self.names, row, strict=True)), self.sampled)
            bad = ~(loss > 0)
            safe = np.where(bad, 1.0, loss)
            log_loss[i] = np.where(bad, -30.0, np.log(safe))
            for j, name in enumerate(self.names):
                jac[i, j] = np.where(bad, 0.0, derivatives[name] * (row[j] if self.log[j] else 1.0) / safe)
        return log_loss, np.einsum("jk,bjn->bkn", self.uncentring, jac)

    def named(self, theta: Array) -> dict[str, Array]:
        """See `Bound.named`."""
        values = self._values(np.atleast_2d(theta) @ self.uncentring.T)
        return {name: values[:, j] for j, name in enumerate(self.names)}

    def coordinates(self, params: Mapping[str, float]) -> Array:
        """See `Bound.coordinates`."""
        t = [np.log(max(params[n], 1e-300)) if self.log[j] else params[n] for j, n in enumerate(self.names)]
        return np.clip(self.centring @ np.array(t, dtype=np.float64), self.lower, self.upper)

    def starts(self, loss: Array, weights: Array, how_many: int) -> Array:
        """Sobol points over alpha and the drop's shape; floor and amplitudes by non-negative least squares inside."""
        from scipy.stats import qmc  # slow to import

        law, loss, weights = self.law, loss[self.rows], weights[self.rows]
        free = ("alpha", *law.shape)
        unit = qmc.Sobol(len(free), scramble=True, seed=0).random(_POINTS)
        points = np.empty((_POINTS, len(self.names)))
        basis = np.empty((_POINTS, 3, self.few.n))
        for i, u in enumerate(unit):
            p = {"L0": 1.0, "A": 1.0, law.drop_amplitude: 1.0}
            for k, name in enumerate(free):
                low, high = law.box[name]
                p[name] = float(
                    low * (high / low) ** u[k] if law.parameter(name).scale == "log" else low + (high - low) * u[k]
                )
            _, derivatives = law.at(p, self.few)
            basis[i] = np.stack([derivatives[name] for name in ("L0", "A", law.drop_amplitude)]) / loss
            points[i] = [p[name] for name in self.names]
        amplitudes, rss = nnls_small(basis, np.ones(self.few.n), weights)
        least = FLOOR_AT_ZERO * float(loss.min()) / np.maximum(np.abs(basis * loss).mean(axis=2), 1e-100)
        for k, name in enumerate(("L0", "A", law.drop_amplitude)):
            points[:, self.names.index(name)] = np.maximum(amplitudes[:, k], least[:, k])
        taken: list[int] = []
        for i in np.argsort(rss, kind="stable"):
            if all(np.abs(unit[i] - unit[j]).max() > _APART for j in taken):
                taken.append(int(i))
            if len(taken) == how_many:
                break
        with np.errstate(divide="ignore"):
            t = np.where(self.log, np.log(np.maximum(points[taken], 1e-300)), points[taken])
        return np.clip(t @ self.centring.T, self.lower, self.upper)
