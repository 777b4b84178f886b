"""Whether loss curves of compute-optimal runs fall onto one more closely than seeds let single curves agree.

Supercollapse (Qiu et al. 2025, arXiv 2507.02119): l(x) = (L(xC) − E)/(L(C) − E) of runs of several budgets spreads less
than ln(L(xC) − E) does between seeds of one run, since each curve is divided by its own end. Both spreads are root mean
squares over the shares x that are compared; shares are correlated, so that a spread has the degrees of freedom of its
runs alone, and their ratio has the interval of F.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.curves import Collapse, collapse, curve_of
from analysis.replicates import Pooled, recipes
from analysis.table import Runs
from analysis.types import Array, Estimate, Status, jsonable


@dataclass(frozen=True, eq=False)
class Collapsed:
    """The collapse, with `spread` of ln l over runs, `seeds` of ln(L − E) between seeds of one run, and their `ratio`.

    `seed_spread` (G,) is that of seeds by share; `params` (R,) the sizes of the runs. `status` is of the ratio.
    """

    collapse: Collapse
    params: Array
    spread: Estimate
    seeds: Estimate
    ratio: Estimate
    seed_spread: Array
    seed_dof: int
    status: Status
    reason: str = ""

    @property
    def verdict(self) -> str:
        """`supercollapse`, `no supercollapse`, or `not resolved`."""
        if self.status is not Status.CONVERGED:
            return "not resolved"
        return "supercollapse" if self.ratio.ci[1] < 1 else "no supercollapse"

    def to_json(self) -> dict[str, Any]:
        """Every field, plain, and the verdict."""
        return jsonable({**{name: getattr(self, name) for name in self.__dataclass_fields__}, "verdict": self.verdict})


def nearest_rows(runs: Runs, params: Array, best: dict[float, float]) -> NDArray[np.intp]:
    """The run nearest in ln N to the best size of each budget, by rising budget; of several seeds the first row.

    Args:
        runs: the table, with a column `budget`.
        params: sizes (n,) of its rows.
        best: best size by budget.
    """
    budgets = runs.frame["budget"].to_numpy(dtype=np.float64)
    found = []
    for budget, size in sorted(best.items()):
        rows = np.flatnonzero(np.isclose(budgets, budget, rtol=1e-6))
        if rows.size and math.isfinite(size) and size > 0:
            found.append(int(rows[np.argmin(np.round(np.abs(np.log(params[rows] / size)), 9))]))
    return np.array(found, dtype=np.intp)


def measure_collapse(
    runs: Runs, rows: NDArray[np.intp], *, floor: float, count: str, cost: str, level: float = 0.9
) -> Collapsed:
    """How closely the curves of the runs at `rows` fall onto one, against the seeds of the table's repeated runs.

    Args:
        runs: the table, with curves.
        rows: compute-optimal runs, three or more, of different budgets.
        floor: E, nats, of a fit to the same losses.
        count, cost: what N counts and C means.
        level: of the intervals.
    """
    found = collapse(runs, rows, runs.flops(cost, count), floor=floor)
    params = runs.params(count)[found.rows]
    nothing = Estimate.missing(level)
    blank = np.full(found.x.size, np.nan)
    if found.status is not Status.CONVERGED:
        return Collapsed(found, params, nothing, nothing, nothing, blank, 0, found.status, found.reason)
    between = Pooled(float(np.sqrt(np.mean(found.spread**2))), len(found.rows) - 1)
    by_share, dof = _between_seeds(runs, recipes(runs, count), found.x, floor)
    spread = between.estimate(level)
    if dof == 0:
        reason = "no run with a curve was repeated with another seed"
        return Collapsed(found, params, spread, nothing, nothing, blank, 0, Status.TOO_FEW_POINTS, reason)
    noise = Pooled(float(np.sqrt(np.mean(by_share**2))), dof)
    ratio = _ratio(between, noise, level)
    status, reason = ratio.told_from(1)
    return Collapsed(found, params, spread, noise.estimate(level), ratio, by_share, dof, status, reason)


def _between_seeds(runs: Runs, cells: list[tuple[float | str, ...]], x: Array, floor: float) -> tuple[Array, int]:
    """Standard deviation (G,) of ln(L(x) − E) between seeds, pooled over repeated cells, and its degrees of freedom."""
    held_out = _has_held_out(runs)
    squares, dof = np.zeros(x.size), 0
    for cell in dict.fromkeys(cells):
        curves = []
        for i in [k for k, c in enumerate(cells) if c == cell]:
            series = curve_of(runs.curves, str(runs.frame["run_id"].iloc[i]), held_out=held_out)
            if series is not None:
                curves.append(np.log(np.maximum(np.interp(x, *series) - floor, 1e-12)))
        if len(curves) > 1:
            squares += np.sum((np.array(curves) - np.mean(curves, axis=0)) ** 2, axis=0)
            dof += len(curves) - 1
    return np.sqrt(squares / max(dof, 1)), dof


def _has_held_out(runs: Runs) -> bool:
    """Whether every run has held-out losses along it, which are then what is compared."""
    return all(curve_of(runs.curves, str(i), held_out=True) is not None for i in runs.frame["run_id"])


def _ratio(over: Pooled, under: Pooled, level: float) -> Estimate:
    """The ratio of two independent standard deviations, with the interval of F."""
    from scipy.special import fdtri

    if not (over.sd > 0 and under.sd > 0):
        return Estimate.missing(level)
    value = over.sd / under.sd
    ends = [value / math.sqrt(float(fdtri(over.dof, under.dof, p))) for p in (0.5 + 0.5 * level, 0.5 - 0.5 * level)]
    return Estimate(value, (ends[0], ends[1]), level)
