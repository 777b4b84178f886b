"""What every law states about itself: parameters, the formula as a pure function, its Jacobian, its starting points.

A law is a file in this package with a subclass of `Law`; that file is all there is to adding one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import combinations, product
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.errors import InputError

Array = NDArray[np.float64]
Scale = Literal["linear", "log"]
VARIABLES = ("params", "tokens", "flops", "unique_tokens", "steps", "batch_tokens", "lr", "loss")
"""What a law may be a function of; a law of its own may name any other column of its table."""


@dataclass(frozen=True)
class Parameter:
    """A law's parameter with its bounds in its own units (an infinite bound is none).

    `scale` is how a solver moves it: by itself, or by its logarithm (positive parameters of unknown size).
    """

    name: str
    meaning: str
    unit: str
    lower: float
    upper: float
    scale: Scale = "linear"


class Bound(ABC):
    """A law bound to the points it will be fitted to, in the solver's own coordinates.

    B draws, P coordinates, n points. `names` are the law's parameters that the coordinates stand for, in order;
    `lower` and `upper` are (P,).
    """

    names: tuple[str, ...]
    lower: Array
    upper: Array
    n: int

    @abstractmethod
    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """Log of the law (B, n) and its Jacobian (B, P, n) at coordinates (B, P)."""

    @abstractmethod
    def named(self, theta: Array) -> dict[str, Array]:
        """Coordinates (B, P) as the law's parameters, (B,) each."""

    @abstractmethod
    def coordinates(self, params: Mapping[str, float]) -> Array:
        """The law's parameters as coordinates (P,), moved inside the bounds."""

    @abstractmethod
    def starts(self, loss: Array, weights: Array, how_many: int) -> Array:
        """Starting coordinates (S, P), S <= how_many, from losses (n,) in nats and weights (n,)."""


class Law(ABC):
    """A positive `response` (loss in nats unless it says otherwise) as a function of `variables`. Members are frozen.

    `instances` holds published constants by citation key; `floor` names the parameter that is the response's limit
    where no variable binds, if there is one. `needs` and `misleads` say what data a fit wants and when it deceives.
    For the law's picture, `example` holds values where none are published, `view` the range of the first variable, then
    the second's values, a line each, and the third's, held fixed.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    misleads: ClassVar[str] = ""
    response: ClassVar[str] = "loss"
    floor: ClassVar[str | None] = None
    formula: str
    parameters: tuple[Parameter, ...]
    variables: tuple[str, ...]
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    example: ClassVar[Mapping[str, float]] = {}
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {}

    @property
    def tag(self) -> str:
        """What `get_law` takes for this very law: its name, and its settings after colons."""
        settings: list[Any] = [getattr(self, f.name) for f in fields(self)] if is_dataclass(self) else []
        return ":".join([self.name, *(str(v) for v in settings if isinstance(v, (str, int)))])

    @abstractmethod
    def predict(self, params: Mapping[str, Any], /, **variables: ArrayLike) -> Array:
        """The response; `params` values and `variables` broadcast together.

        Raises:
            InputError: a variable the law has not, or one it lacks.
        """

    @abstractmethod
    def jacobian(self, params: Mapping[str, float], /, **variables: ArrayLike) -> dict[str, Array]:
        """The response's derivative with respect to each parameter, by name, shaped as the variables."""

    @abstractmethod
    def bind(self, **variables: Array) -> Bound:
        """The law bound to points (n,) each."""

    def guess(self, loss: ArrayLike, /, **variables: ArrayLike) -> dict[str, float]:
        """A starting point from data: the response (n,), and the law's variables (n,)."""
        y = np.asarray(loss, dtype=np.float64)
        bound = self.bind(**{k: np.asarray(v, dtype=np.float64) for k, v in variables.items()})
        best = bound.starts(y, np.ones_like(y), 1)
        return {name: float(v[0]) for name, v in bound.named(best).items()}

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name."""
        return next(p for p in self.parameters if p.name == name)

    def unit(self, name: str) -> str:
        """The parameter's unit, "" where it has none."""
        return self.parameter(name).unit

    def check_variables(self, variables: Mapping[str, Any]) -> None:
        """Raises InputError unless exactly the law's variables are given."""
        if set(variables) != set(self.variables):
            raise InputError(
                f"law {self.name} takes {', '.join(self.variables)}; it was given {', '.join(variables) or 'none'}"
            )


@dataclass(frozen=True)
class Term:
    """One power: `amplitude` · x^−`exponent` over a variable x."""

    amplitude: str
    exponent: str
    variable: str


EXPONENT_BOUNDS = (1e-3, 4.0)
"""Outside these no finite table tells a power law from a constant or a step."""

_LOG_RANGE = 200.0
"""Floors and amplitudes lie within e^±200: far from overflow, and wider than any unit of loss."""

FLOOR_AT_ZERO = 1e-3
"""A floor below this share of the lowest loss is a floor at zero."""


class SumOfPowers(Law):
    """L = [E +] Σ_k A_k x_k^−alpha_k: linear in floor and amplitudes, hence fit for variable projection."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """The powers, in order."""
        raise AttributeError(f"law {self.name} states no terms")  # a member's own property replaces this

    @property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """The variables of the terms."""
        return tuple(t.variable for t in self.terms)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """Floor first, then amplitude and exponent of each term."""
        found = []
        if self.floor is not None:
            found.append(Parameter(self.floor, "loss that neither size nor data removes", "nats", 0.0, np.inf, "log"))
        for t in self.terms:
            unit = f"nats·{t.variable}^{t.exponent}"
            found.append(Parameter(t.amplitude, f"amplitude over {t.variable}", unit, 0.0, np.inf, "log"))
            found.append(Parameter(t.exponent, f"exponent of {t.variable}", "", *EXPONENT_BOUNDS))
        return tuple(found)

    def predict(self, params: Mapping[str, Any], /, **variables: ArrayLike) -> Array:
        """See `Law.predict`."""
        self.check_variables(variables)
        total: Any = 0.0 if self.floor is None else params[self.floor]
        for t in self.terms:
            x = np.asarray(variables[t.variable], dtype=np.float64)
            with np.errstate(all="ignore"):
                total = total + params[t.amplitude] * x ** (-np.asarray(params[t.exponent]))
        return np.asarray(total, dtype=np.float64)

    def jacobian(self, params: Mapping[str, float], /, **variables: ArrayLike) -> dict[str, Array]:
        """See `Law.jacobian`."""
        self.check_variables(variables)
        shape = np.broadcast_shapes(*(np.shape(v) for v in variables.values()))
        found: dict[str, Array] = {}
        if self.floor is not None:
            found[self.floor] = np.ones(shape)
        for t in self.terms:
            x = np.broadcast_to(np.asarray(variables[t.variable], dtype=np.float64), shape)
            power = x ** -params[t.exponent]
            found[t.amplitude] = power
            found[t.exponent] = -params[t.amplitude] * power * np.log(x)
        return found

    def bind(self, **variables: Array) -> BoundPowers:
        """See `Law.bind`."""
        self.check_variables(variables)
        return BoundPowers(self, variables)


class BoundPowers(Bound):
    """Coordinates: ln E, then (ln of the amplitude at the geometric mean of x, exponent) of each term.

    Taking amplitudes at the data's centre removes most of their correlation with the exponents.
    """

    def __init__(self, law: SumOfPowers, variables: Mapping[str, Array]) -> None:
        self.law = law
        self.names = tuple(p.name for p in law.parameters)
        logs = [np.log(np.asarray(variables[t.variable], dtype=np.float64)) for t in law.terms]
        self.centres = np.array([float(x.mean()) for x in logs])
        self.x = np.stack([x - c for x, c in zip(logs, self.centres, strict=True)])
        self.n = self.x.shape[1]
        self.first = 0 if law.floor is None else 1
        low = [-_LOG_RANGE] * self.first + [-_LOG_RANGE, EXPONENT_BOUNDS[0]] * len(logs)
        high = [_LOG_RANGE] * self.first + [_LOG_RANGE, EXPONENT_BOUNDS[1]] * len(logs)
        self.lower, self.upper = np.array(low), np.array(high)

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See `Bound.evaluate`; the log of a sum, by its largest term."""
        batch, first = theta.shape[0], self.first
        jac = np.empty((batch, theta.shape[1], self.n))
        peak: Array | None = None
        if first:
            jac[:, 0] = theta[:, 0:1]
            peak = jac[:, 0].copy()
        for k, x in enumerate(self.x):
            j = first + 2 * k
            np.multiply(theta[:, j + 1 : j + 2], -x, out=jac[:, j])
            jac[:, j] += theta[:, j : j + 1]
            peak = jac[:, j].copy() if peak is None else np.maximum(peak, jac[:, j], out=peak)
        assert peak is not None
        rows = [*([0] if first else []), *(first + 2 * k for k in range(len(self.x)))]
        total = np.zeros_like(peak)
        for j in rows:
            jac[:, j] -= peak
            np.exp(jac[:, j], out=jac[:, j])
            total += jac[:, j]
        for j in rows:
            jac[:, j] /= total
        for k, x in enumerate(self.x):
            j = first + 2 * k
            np.multiply(jac[:, j], -x, out=jac[:, j + 1])
        return peak + np.log(total), jac

    def named(self, theta: Array) -> dict[str, Array]:
        """See `Bound.named`."""
        theta = np.atleast_2d(theta)
        found: dict[str, Array] = {}
        if self.law.floor is not None:
            found[self.law.floor] = np.exp(theta[:, 0])
        for k, t in enumerate(self.law.terms):
            j = self.first + 2 * k
            with np.errstate(over="ignore"):
                found[t.amplitude] = np.exp(theta[:, j] + theta[:, j + 1] * self.centres[k])
            found[t.exponent] = theta[:, j + 1].copy()
        return found

    def coordinates(self, params: Mapping[str, float]) -> Array:
        """See `Bound.coordinates`."""
        found: list[float] = []
        if self.law.floor is not None:
            found.append(float(np.log(max(params[self.law.floor], 1e-300))))
        for k, t in enumerate(self.law.terms):
            exponent = params[t.exponent]
            found += [float(np.log(max(params[t.amplitude], 1e-300))) - exponent * self.centres[k], exponent]
        return np.clip(np.array(found), self.lower, self.upper)

    def starts(self, loss: Array, weights: Array, how_many: int) -> Array:
        """Variable projection on a grid: exponents outside, non-negative amplitudes by least squares inside.

        The residual is relative, (L̂ − L)/L, hence close to that of the log loss.
        """
        per_axis = 40 if len(self.x) == 1 else 12
        axis = np.geomspace(0.02, 2.0, per_axis)
        grid = np.array(list(product(axis, repeat=len(self.x))))
        columns = [np.exp(-grid[:, k : k + 1] * x) for k, x in enumerate(self.x)]
        if self.first:
            columns.insert(0, np.ones((len(grid), self.n)))
        basis = np.stack(columns, axis=1) / loss
        amplitudes, rss = nnls_small(basis, np.ones(self.n), weights)
        order = np.argsort(rss)
        floor_at = np.full(amplitudes.shape[1], FLOOR_AT_ZERO * float(loss.min()))
        amplitudes = np.log(np.maximum(amplitudes, floor_at))
        found = np.empty((len(grid), len(self.names)))
        if self.first:
            found[:, 0] = amplitudes[:, 0]
        for k in range(len(self.x)):
            found[:, self.first + 2 * k] = amplitudes[:, self.first + k]
            found[:, self.first + 2 * k + 1] = grid[:, k]
        return np.clip(found[_spread(order, grid, how_many)], self.lower, self.upper)


def _spread(order: NDArray[np.intp], grid: Array, how_many: int) -> list[int]:
    """The best `how_many` grid points that are not neighbours of a better one already taken."""
    taken: list[int] = []
    for i in order:
        if all(np.abs(np.log(grid[i] / grid[j])).max() > 0.5 for j in taken):
            taken.append(int(i))
        if len(taken) == how_many:
            break
    return taken


def nnls_small(basis: Array, target: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted non-negative least squares for many small problems at once, exactly, by trying every support.

    Args:
        basis: (G, K, n), K columns of each of G problems; K of at most 4 or so (2^K − 1 supports are tried).
        target: (n,), or (G, n) where each problem has its own.
        weights: (n,).

    Returns:
        Amplitudes (G, K), all >= 0, and residual sums of squares (G,).
    """
    size, k = basis.shape[:2]
    root = np.sqrt(weights)
    a = basis * root
    scale = np.sqrt((a * a).sum(axis=2, keepdims=True))
    a = a / scale
    b = np.broadcast_to(target * root, (size, a.shape[2]))
    gram, rhs = a @ a.swapaxes(1, 2), (a @ b[..., None])[..., 0]
    best = (b * b).sum(axis=1)
    found = np.zeros((size, k))
    for support in (s for r in range(1, k + 1) for s in combinations(range(k), r)):
        idx = list(support)
        g = gram[:, idx][:, :, idx] + 1e-13 * np.eye(len(idx))
        x = np.linalg.solve(g, rhs[:, idx][..., None])[..., 0]
        # The residual itself, not b·b − x·rhs, which cancels near an exact fit.
        r = (x[:, None, :] @ a[:, idx])[:, 0] - b
        rss = (r * r).sum(axis=1)
        better = (x >= 0).all(axis=1) & (rss < best)
        best[better] = rss[better]
        found[better] = 0.0
        found[np.ix_(better, idx)] = x[better]
    return found / scale[..., 0], best
