"""What the analysis returns: estimates with intervals, typed statuses, fits, frontiers, predictions, and their JSON."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.laws.base import Law

Array = NDArray[np.float64]


def _figures() -> Any:
    """The figures, imported on first use: matplotlib is slow to import."""
    return importlib.import_module("analysis.figures")


class Status(StrEnum):
    """What a number is worth; a closed list. Everything but `converged` comes with a reason."""

    CONVERGED = "converged"
    BOUND_HIT = "bound_hit"
    UNIDENTIFIED = "unidentified"
    NON_INTERIOR = "non_interior"
    TOO_FEW_POINTS = "too_few_points"
    NEEDS_CURVES = "needs_curves"
    NOT_ISOFLOP = "not_isoflop"
    NOT_RESOLVED = "not_resolved"
    NOT_CONVERGED = "not_converged"


class Dropped(NamedTuple):
    """A row (its index, run id or group, as text or number) that was left out, and why."""

    row: int | str
    reason: str


def jsonable(value: Any) -> Any:
    """Plain JSON values: NaN and infinities become null; numpy and tuples become plain; `to_json` is used."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Dropped):
        return {"row": jsonable(value.row), "reason": value.reason}
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return [jsonable(v) for v in value.tolist()]
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, StrEnum):
        return str(value)
    return value


class Plain:
    """What a result that is nothing but its fields shares."""

    def to_json(self) -> dict[str, Any]:
        """Every field, as plain JSON values."""
        found: dict[str, Any] = jsonable(dict(vars(self)))
        return found


@dataclass(frozen=True, repr=False)
class Estimate:
    """A value and its interval `ci` = (lo, hi) of nominal coverage `level`; NaN where it could not be had."""

    value: float
    ci: tuple[float, float]
    level: float

    @classmethod
    def missing(cls, level: float) -> Estimate:
        """The estimate that is not: all NaN (null in JSON)."""
        return cls(math.nan, (math.nan, math.nan), level)

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return math.isfinite(self.value)

    def excludes(self, value: float = 0.0) -> bool:
        """Whether the interval lies wholly to one side of a value."""
        lo, hi = self.ci
        return self.known and (lo > value or hi < value)

    def told_from(self, value: float = 0.0, no_interval: str = "it has no interval") -> tuple[Status, str]:
        """`converged` where the interval excludes a value, else `not_resolved` and why."""
        if self.excludes(value):
            return Status.CONVERGED, ""
        bounded = math.isfinite(self.ci[0]) or math.isfinite(self.ci[1])
        return Status.NOT_RESOLVED, f"{value:g} is inside the interval" if bounded else no_interval

    def to_json(self) -> dict[str, Any]:
        """`{"value", "ci": [lo, hi], "level"}`."""
        return {"value": jsonable(self.value), "ci": jsonable(self.ci), "level": self.level}

    def __repr__(self) -> str:
        if not self.known:
            return "unknown"
        lo, hi = self.ci
        return f"{self.value:.4g} [{lo:.4g}, {hi:.4g}]"


@dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """One law fitted to one table.

    `draws` holds each parameter's bootstrap draws, (n_draws,) each, row-aligned across parameters so that any function
    of them propagates jointly; `data` the fitted points as arrays (n,): the law's variables, `loss`, `predicted`.
    `sigma` is the standard deviation of a run's log loss about the law.
    """

    law: str
    params: Mapping[str, Estimate]
    objective_value: float
    objective: str
    n: int
    status: Status
    reason: str
    level: float
    sigma: float
    model: Law
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()
    draws: Mapping[str, Array] = field(default_factory=dict)
    data: Mapping[str, Array] = field(default_factory=dict)
    count: str = "total"
    cost: str = "exact"
    command: str = ""

    @property
    def values(self) -> dict[str, float]:
        """Parameter values by name."""
        return {name: e.value for name, e in self.params.items()}

    def interval(self, name: str) -> tuple[float, float]:
        """The interval (lo, hi) of a parameter.

        Raises:
            KeyError: the law has no such parameter.
        """
        if name not in self.params:
            raise KeyError(f"law {self.law} has no parameter {name!r}; it has {', '.join(self.params)}")
        return self.params[name].ci

    def predict(self, **variables: ArrayLike) -> Array:
        """Mean loss (nats) at the law's variables (`params=…, tokens=…`), broadcast; other names are errors."""
        return self.model.predict(self.values, **variables)

    def predict_interval(self, *, new_run: bool = False, **variables: ArrayLike) -> tuple[Array, Array]:
        """(lo, hi) of the mean loss from the joint draws, or of a new run's loss (adds `sigma` of run-to-run noise)."""
        x = {k: np.asarray(v, dtype=np.float64)[..., None] for k, v in variables.items()}
        losses = self.model.predict(self.draws, **x)
        if new_run:
            losses = losses * np.exp(self.sigma * np.random.default_rng(0).standard_normal(losses.shape[-1]))
        tail = 50.0 * (1.0 - self.level)
        lo, hi = np.nanpercentile(losses, [tail, 100.0 - tail], axis=-1)
        return lo, hi

    def plot(self) -> Figure:
        """Observed against predicted loss and residuals, as a matplotlib figure."""
        figure: Figure = _figures().plot_fit(self)
        return figure

    def to_json(self) -> dict[str, Any]:
        """The `fit` object of the command line."""
        from analysis.version import version

        return jsonable(
            {
                "law": self.law,
                "params": self.params,
                "objective_value": self.objective_value,
                "objective": self.objective,
                "n": self.n,
                "status": self.status.value,
                "warnings": [*([self.reason] if self.reason else []), *self.warnings],
                "diagnostics": self.diagnostics,
                "dropped": list(self.dropped),
                "command": self.command,
                "version": version(),
            }
        )

    def __repr__(self) -> str:
        head = f"{self.law}: {self.model.formula}   {self.status}, n = {self.n}, "
        head += f"{self.objective} = {self.objective_value:.6g}"
        rows = [
            f"  {name:<12} {e!r}  {self.level:.0%}" + (f"  {self.model.unit(name)}" if self.model.unit(name) else "")
            for name, e in self.params.items()
        ]
        notes = [f"  ! {w}" for w in ([self.reason] if self.reason else []) + list(self.warnings)]
        if self.dropped:
            notes.append(f"  {len(self.dropped)} rows dropped, first: {self.dropped[0].row}: {self.dropped[0].reason}")
        return "\n".join([head, *rows, *notes])


@dataclass(frozen=True)
class FrontierPoint:
    """The optimum at one budget: FLOPs, parameters, tokens, loss (nats), intervals where known, and its worth."""

    flops: float
    params: float
    tokens: float
    loss: float
    status: Status
    reason: str = ""
    params_ci: tuple[float, float] = (math.nan, math.nan)
    tokens_ci: tuple[float, float] = (math.nan, math.nan)
    loss_ci: tuple[float, float] = (math.nan, math.nan)

    def to_json(self) -> dict[str, Any]:
        """`{"flops", "params", "tokens", "loss", "status"}`."""
        return {
            "flops": jsonable(self.flops),
            "params": jsonable(self.params),
            "tokens": jsonable(self.tokens),
            "loss": jsonable(self.loss),
            "status": self.status.value,
        }


@dataclass(frozen=True, eq=False)
class Parabola:
    """An isoFLOP group and its parabola: loss = c0 + c1 u + c2 u², u = ln N − `centre`.

    `params`, `tokens`, `loss` (n,) are the group's runs, or, under a cost that is not the budgets' own, what those
    sizes' losses interpolate to at `flops`.
    """

    flops: float
    params: Array
    tokens: Array
    loss: Array
    centre: float
    coefficients: tuple[float, float, float]
    status: Status
    reason: str = ""

    def __call__(self, params: ArrayLike) -> Array:
        """The parabola's loss at sizes `params`."""
        u = np.log(np.asarray(params, dtype=np.float64)) - self.centre
        c0, c1, c2 = self.coefficients
        return c0 + c1 * u + c2 * u * u


@dataclass(frozen=True, eq=False, repr=False)
class Frontier:
    """N*(C) = N_coefficient · C^N_exponent, and D*(C) alike, by one approach under one count and one cost.

    `draws` holds `N_exponent`, `log_N_coefficient`, `D_exponent`, `log_D_coefficient`, each (n_draws,), row-aligned
    with the draws of every other frontier of the same table and seed.
    """

    approach: str
    count: str
    cost: str
    N_exponent: Estimate
    D_exponent: Estimate
    N_coefficient: Estimate
    D_coefficient: Estimate
    status: Status
    points: tuple[FrontierPoint, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    reason: str = ""
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    draws: Mapping[str, Array] = field(default_factory=dict)
    parabolas: tuple[Parabola, ...] = ()
    surface: FitResult | None = None

    @property
    def known(self) -> bool:
        """Whether there is a frontier at all."""
        return self.N_exponent.known

    def params(self, flops: ArrayLike) -> Array:
        """N*(C) at budgets `flops`."""
        return self.N_coefficient.value * np.asarray(flops, dtype=np.float64) ** self.N_exponent.value

    def tokens(self, flops: ArrayLike) -> Array:
        """D*(C) at budgets `flops`."""
        return self.D_coefficient.value * np.asarray(flops, dtype=np.float64) ** self.D_exponent.value

    def band(self, flops: ArrayLike, which: str = "N") -> tuple[Array, Array]:
        """(lo, hi) of N*(C) (`which="N"`) or D*(C) (`"D"`) at budgets `flops` (n,), from the joint draws."""
        log_c = np.log(np.asarray(flops, dtype=np.float64))
        if not self.draws:
            nan = np.full(log_c.shape, np.nan)
            return nan, nan
        lines = self.draws[f"log_{which}_coefficient"] + self.draws[f"{which}_exponent"] * log_c[..., None]
        tail = 50.0 * (1.0 - self.N_exponent.level)
        lo, hi = np.nanpercentile(lines, [tail, 100.0 - tail], axis=-1)
        return np.exp(lo), np.exp(hi)

    def to_json(self) -> dict[str, Any]:
        """One entry of the `frontier` object of the command line."""
        return {
            "approach": self.approach,
            "count": self.count,
            "cost": self.cost,
            "N_exponent": self.N_exponent.to_json(),
            "D_exponent": self.D_exponent.to_json(),
            "N_coefficient": self.N_coefficient.to_json(),
            "D_coefficient": self.D_coefficient.to_json(),
            "status": self.status.value,
            "points": jsonable(self.points),
            "dropped": jsonable(self.dropped),
        }

    def __repr__(self) -> str:
        head = f"{self.approach} ({self.count}, {self.cost}): {self.status}" + (
            f", {self.reason}" if self.reason else ""
        )
        if not self.known:
            return head
        return f"{head}\n  N* ∝ C^ {self.N_exponent!r}\n  D* ∝ C^ {self.D_exponent!r}  {self.N_exponent.level:.0%}"


@dataclass(frozen=True, eq=False, repr=False)
class FrontierSet:
    """Frontiers of one table by several approaches and conventions, and how far the approaches agree."""

    frontiers: tuple[Frontier, ...]
    agreement: Mapping[str, Any]

    def __iter__(self) -> Iterator[Frontier]:
        return iter(self.frontiers)

    def find(
        self, approach: str | None = None, *, count: str | None = None, cost: str | None = None
    ) -> tuple[Frontier, ...]:
        """The frontiers by that approach, under that count, under that cost; None takes any."""
        wanted = {"approach": approach, "count": count, "cost": cost}
        return tuple(f for f in self.frontiers if all(v is None or getattr(f, name) == v for name, v in wanted.items()))

    def __getitem__(self, approach: str) -> Frontier:
        """The first frontier by that approach.

        Raises:
            KeyError: none was asked for.
        """
        for frontier in self.frontiers:
            if frontier.approach == approach:
                return frontier
        raise KeyError(f"no frontier by {approach!r}; there are {', '.join(f.approach for f in self.frontiers)}")

    def to_json(self) -> dict[str, Any]:
        """The `frontier` object of the command line."""
        return {"frontiers": jsonable(self.frontiers), "agreement": jsonable(self.agreement)}

    def plot(self) -> Figure:
        """N*(C) and D*(C) by every approach, with bands, as a matplotlib figure."""
        figure: Figure = _figures().plot_frontiers(self)
        return figure

    def __repr__(self) -> str:
        header = ["approach", "count", "cost", "N exponent", "D exponent", "points", "status"]
        rows = [
            [
                f.approach,
                f.count,
                f.cost,
                repr(f.N_exponent),
                repr(f.D_exponent),
                f"{sum(p.status == Status.CONVERGED for p in f.points)}/{len(f.points)}",
                f.status.value + (f": {f.reason}" if f.reason else ""),
            ]
            for f in self.frontiers
        ]
        lines = text_table(header, rows)
        for pair in self.agreement.get("pairs", []):
            lines.append(
                f"{pair['a']} − {pair['b']} ({pair['count']}, {pair['cost']}):"
                f" {pair['difference']!r}, {pair['verdict']}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Size, tokens and loss of a run to be made; `loss` has a prediction interval for that run, `mean_loss` the mean's.

    `baselines` holds the same run's loss by rules that know no law of N and D.
    """

    params: Estimate
    tokens: Estimate
    loss: Estimate
    flops: float
    status: Status
    reason: str = ""
    mean_loss: Estimate | None = None
    baselines: Mapping[str, Estimate] = field(default_factory=dict)
    approach: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """`{"params", "tokens", "loss"}`, each an Estimate."""
        return {name: getattr(self, name).to_json() for name in ("params", "tokens", "loss")}

    def __repr__(self) -> str:
        head = f"C = {self.flops:.4g} by {self.approach}: {self.status}" + (f", {self.reason}" if self.reason else "")
        rows = [f"  {name:<8} {getattr(self, name)!r}" for name in ("params", "tokens", "loss")]
        rows += [f"  baseline {name}: loss {e!r}" for name, e in self.baselines.items()]
        return "\n".join([head, *rows])


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a plain table, columns padded to their widest cell."""
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]
    return ["  ".join(str(c).ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [header, *rows]]
