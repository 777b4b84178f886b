"""What every approach to the compute-optimal frontier is given, and how its power laws N*(C), D*(C) are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import MIN_DRAWS, Resamples, estimate, percentile
from analysis.table import Runs
from analysis.types import Array, Dropped, Estimate, FitResult, Frontier, FrontierPoint, Parabola, Status
from scaling.errors import InputError


@dataclass(frozen=True, eq=False)
class Task:
    """One table under one count and one cost, with the draws that all approaches share."""

    runs: Runs
    count: str
    cost: str
    level: float
    resamples: Resamples
    memo: dict[Any, Any] = field(default_factory=dict)
    """Fits that do not depend on the cost, shared by the tasks of one call."""

    @property
    def params(self) -> Array:
        """Sizes (n,) under the task's count."""
        return self.runs.params(self.count)

    @property
    def flops(self) -> Array:
        """FLOPs (n,) under the task's cost."""
        return self.runs.flops(self.cost, self.count)


class Approach(ABC):
    """A way to a frontier. Members hold no state but their variant; their file here is all there is to adding one."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    variant: str = ""
    """What follows the colon in `name:variant`, such as the law of a surface; "" for the approach as it is."""

    @property
    def label(self) -> str:
        """The name under which its frontiers are reported."""
        return f"{self.name}:{self.variant}" if self.variant else self.name

    @abstractmethod
    def frontier(self, task: Task) -> Frontier:
        """The frontier, or one without numbers whose status and reason say why."""

    def of(self, variant: str) -> Approach:
        """The approach's variant of that name.

        Raises:
            InputError: it has no such variant.
        """
        raise InputError(f"approach {self.name} has no variants; leave out {':' + variant!r}")

    def none(self, task: Task, status: Status, reason: str, **rest: Any) -> Frontier:
        """A frontier without numbers."""
        missing = Estimate.missing(task.level)
        return Frontier(
            self.label, task.count, task.cost, missing, missing, missing, missing, status, reason=reason, **rest
        )


@dataclass(frozen=True, eq=False)
class Line:
    """A straight line in log–log: exponent and log coefficient, with their draws (B,)."""

    exponent: float
    log_coefficient: float
    exponent_draws: Array
    log_coefficient_draws: Array


def line(log_c: Array, value: Array, draws: Array, weights: Array | None = None) -> Line:
    """Least-squares line through `value` (G,) over `log_c` (G,), and through each of `draws` (B, G), NaNs left out."""
    w = np.ones(value.size) if weights is None else weights
    slope, intercept = _line(log_c, value[None], np.where(np.isfinite(value), w, 0.0)[None])
    slopes, intercepts = _line(log_c, draws, np.where(np.isfinite(draws), w, 0.0))
    return Line(float(slope[0]), float(intercept[0]), slopes, intercepts)


def _line(x: Array, y: Array, w: Array) -> tuple[Array, Array]:
    y = np.where(w > 0, y, 0.0)
    total = w.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (w * x).sum(axis=1) / total, (w * y).sum(axis=1) / total
        away = x - mean_x[:, None]
        spread = (w * away**2).sum(axis=1)
        slope = np.where(spread > 1e-12, (w * away * (y - mean_y[:, None])).sum(axis=1) / spread, np.nan)
        return slope, mean_y - slope * mean_x


def build(
    approach: Approach,
    task: Task,
    n_line: Line,
    d_line: Line,
    points: list[FrontierPoint],
    *,
    status: Status = Status.CONVERGED,
    reason: str = "",
    dropped: tuple[Dropped, ...] = (),
    warnings: tuple[str, ...] = (),
    diagnostics: Mapping[str, Any] | None = None,
    parabolas: tuple[Parabola, ...] = (),
    surface: FitResult | None = None,
) -> Frontier:
    """A frontier from its two lines; its own status gives way where it claims more than the lines and draws hold."""
    failed = int((~np.isfinite(n_line.exponent_draws)).sum())
    n_exponent = estimate(n_line.exponent, n_line.exponent_draws, task.level)
    if status is Status.CONVERGED and not n_exponent.known:
        status, reason = Status.UNIDENTIFIED, "no finite exponent comes out of the fit"
    if status is Status.CONVERGED and task.resamples.draws >= MIN_DRAWS and not np.isfinite(n_exponent.ci[0]):
        status, reason = (
            Status.NOT_RESOLVED,
            f"{failed} of {n_line.exponent_draws.size} draws have no frontier: no interval",
        )
    return Frontier(
        approach.label,
        task.count,
        task.cost,
        n_exponent,
        estimate(d_line.exponent, d_line.exponent_draws, task.level),
        _coefficient(n_line, task.level),
        _coefficient(d_line, task.level),
        status,
        tuple(points),
        dropped,
        reason,
        warnings,
        {**(diagnostics or {}), "failed_draws": failed, "scheme": task.resamples.scheme},
        {
            "N_exponent": n_line.exponent_draws,
            "log_N_coefficient": n_line.log_coefficient_draws,
            "D_exponent": d_line.exponent_draws,
            "log_D_coefficient": d_line.log_coefficient_draws,
        },
        parabolas,
        surface,
    )


def _coefficient(found: Line, level: float) -> Estimate:
    with np.errstate(over="ignore", under="ignore"):
        return estimate(float(np.exp(found.log_coefficient)), np.exp(found.log_coefficient_draws), level)


def interval(log_draws: Array, level: float) -> tuple[float, float]:
    """The interval of exp of draws (B,)."""
    lo, hi = percentile(log_draws, level)
    return float(np.exp(lo)), float(np.exp(hi))


@dataclass(frozen=True, eq=False)
class Group:
    """An isoFLOP group: row indices, geometric-mean FLOPs, and the largest relative departure from it."""

    rows: NDArray[np.intp]
    flops: float
    spread: float


def isoflop_groups(runs: Runs, flops: Array) -> list[Group]:
    """The table's groups, by rising FLOPs, costed by `flops` (n,)."""
    found = []
    for k in np.unique(runs.budget[runs.budget >= 0]):
        rows = np.flatnonzero(runs.budget == k)
        logs = np.log(flops[rows])
        centre = float(logs.mean())
        found.append(Group(rows, float(np.exp(centre)), float(np.expm1(np.abs(logs - centre).max()))))
    return sorted(found, key=lambda g: g.flops)
