"""Loss, size, batch, steps and data of compute: L(C) at a fixed batch, and over C_min by the critical batch.

Kaplan et al. 2020 (arXiv 2001.08361) §§6 and B. The frontier is the lower envelope of the learning curves, any point of
which counts, as theirs did; so it means something where the rate is constant and each point stands for a run that ends
there. Over C_min = C/(1 + B/B_crit(L)) (ibid. eq. 5.5) the best N has S_min steps; at the batch B_crit(L) it takes
2 S_min steps and D = 2 C_min/(6N) tokens, as the constants of their Table 6 do at a PF-day: 2·8.64e19/(6·1.3e9) =
2.2e10. The best N is read off the parabola over ln N through the best size and its neighbours; where a neighbour is
missing the point is `non_interior` and enters no law. How it is done: `analysis.compute_envelope`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.approaches.base import line
from analysis.compute_envelope import BatchLaw, Best, Recipe, Shaking, best_sizes, overhead, recipes_of
from analysis.critical_batch import CriticalBatch, extrapolated
from analysis.estimation import Estimated, as_result, estimate_law
from analysis.fitting import check_draws
from analysis.intervals import estimate
from analysis.labels import UNLABELLED, Labels
from analysis.laws.base import Law
from analysis.laws.power import Power
from analysis.laws.power_floor import PowerFloor
from analysis.solve import DRAW_TOLERANCE, minimise
from analysis.table import Runs, read_table
from analysis.trajectories import Trajectory, trajectories
from analysis.types import Array, Dropped, Estimate, FitResult, Plain, Status, jsonable

if TYPE_CHECKING:
    import pandas as pd

BUDGETS = 60
"""Log-spaced budgets at which the best size is looked for."""
FEWEST_SIZES = 3
_FITTED = ("N", "B", "S", "D")


@dataclass(frozen=True, eq=False)
class Trend(Plain):
    """A quantity that grows as coefficient · C^exponent along the frontier (C in FLOPs)."""

    exponent: Estimate
    coefficient: Estimate
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class ComputePoint(Plain):
    """The best run at one budget: C in FLOPs, N, batch in tokens, steps, tokens, loss in nats."""

    flops: float
    params: float
    batch_tokens: float
    steps: float
    tokens: float
    loss: float
    status: Status
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ComputeFrontier(Plain):
    """One frontier: L(C) with and without a floor, and the trends of N, B, S and D (tokens) over C.

    `kind` is `naive` (C as spent, one batch; `trends` has N, S and D) or `adjusted` (C_min; `trends` has all four).
    """

    kind: str
    law: FitResult | None
    law_floor: FitResult | None
    trends: dict[str, Trend]
    points: tuple[ComputePoint, ...]
    status: Status
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Compute:
    """The naive frontier and, where there is a critical batch, the adjusted one; `curves` has what they were read off.

    `difference` is the adjusted exponent of N less the naive one, over the same draws of the noise.
    """

    naive: ComputeFrontier
    adjusted: ComputeFrontier | None
    difference: Estimate
    batch_tokens: float
    seed_sd: float
    seed_dof: int
    count: str
    cost: str
    curves: pd.DataFrame
    status: Status
    reason: str
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    def to_json(self) -> dict[str, Any]:
        """All fields but the curves."""
        return jsonable({k: v for k, v in vars(self).items() if k != "curves"})


def measure_compute(
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    critical_batch: CriticalBatch | FitResult | dict[str, float] | None = None,
    *,
    count: str = "non_embedding",
    cost: str = "exact",
    level: float = 0.9,
    bootstrap: int = 400,
    seed: int = 0,
) -> Compute:
    """Measures L(C), N_opt(C) and, with a critical batch, the same over C_min with B, S and D.

    Args:
        rows: a store's rows: sizes with data in plenty, several rates, batches and seeds if there are; the naive
            frontier takes the batch that most runs have.
        curves: their curves; see `measure_critical_batch`.
        critical_batch: B_crit(L); None gives the naive frontier alone.
        count: which parameters N counts.
        cost: what C is: exact or 6nd (with N by the count).
        level: nominal coverage of the intervals.
        bootstrap, seed: draws, and their seed.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: a critical batch without a law.
    """
    import pandas as pd

    check_draws(bootstrap, level)
    runs = read_table(rows, needs=("params", "tokens", "batch_tokens", "loss"))
    paths, lost = trajectories(curves, runs.frame["run_id"])
    recipes, noise = recipes_of(runs, paths, count, cost)
    batches = [r.batch for r in recipes for _ in range(r.runs)]
    common = max(set(batches), key=lambda b: (batches.count(b), -b)) if batches else math.nan
    kept = [r for r in recipes if r.batch == common]
    notes = []
    if len(kept) < len(recipes):
        notes.append(f"the naive frontier takes the runs at {common:g} tokens a step alone")
    if noise.dof == 0:
        notes.append("no size was run with several seeds: nothing tells the noise, so there are no intervals")
    draw = Shaking.of(bootstrap if noise.dof else 0, seed, noise)
    naive, n_naive = _frontier("naive", kept, None, draw, level)
    adjusted, n_adjusted, difference = None, np.empty(0), Estimate.missing(level)
    if critical_batch is not None:
        adjusted, n_adjusted = _frontier("adjusted", recipes, BatchLaw.of(critical_batch, draw.size), draw, level)
        inner = np.array([p.loss for p in adjusted.points if p.status is Status.CONVERGED])
        notes += extrapolated(critical_batch, inner, "budgets of the adjusted frontier")
        if naive.trends and adjusted.trends:
            change = adjusted.trends["N"].exponent.value - naive.trends["N"].exponent.value
            difference = estimate(change, n_adjusted - n_naive, level, interval="percentile")
    notes += _warnings(runs, paths)
    status, reason = (naive.status, naive.reason) if adjusted is None else (adjusted.status, adjusted.reason)
    seen = [
        pd.DataFrame(
            {
                "params": r.params,
                "batch_tokens": r.batch,
                "lr": r.lr,
                "flops": np.exp(r.log_c),
                "tokens": np.exp(r.log_tokens),
                "loss": np.exp(r.log_loss),
            }
        )
        for r in recipes
    ]
    table = pd.concat(seen, ignore_index=True) if seen else pd.DataFrame()
    return Compute(
        naive, adjusted, difference, common, noise.sd, noise.dof, count, cost, table, status, reason, tuple(notes),
        (*runs.dropped, *lost), Labels.of(runs, count, cost, measured=all(p.measured for p in paths.values())),
    )  # fmt: skip


def _frontier(
    kind: str, recipes: list[Recipe], law: BatchLaw | None, draw: Shaking, level: float
) -> tuple[ComputeFrontier, Array]:
    """One frontier with its laws, and the draws (B,) of its exponent of N."""
    none = np.full(draw.size, np.nan)
    if len({r.params for r in recipes}) < FEWEST_SIZES:
        reason = f"{len({r.params for r in recipes})} sizes have curves; a frontier needs {FEWEST_SIZES}"
        return ComputeFrontier(kind, None, None, {}, (), Status.NEEDS_CURVES, reason), none
    ends = [(c[0], c[-1]) for c in (r.log_c - overhead(r, law, r.log_loss, None) for r in recipes)]
    grid = np.linspace(float(np.median([e[0] for e in ends])), max(e[1] for e in ends), BUDGETS)
    found = best_sizes(recipes, law, grid, np.zeros(len(recipes)))
    points = _points(grid, found, law)
    inside = found.interior
    if inside.sum() < 3:
        reason = "hardly anywhere is a size best whose smaller and larger neighbours were run that far"
        return ComputeFrontier(kind, None, None, {}, points, Status.TOO_FEW_POINTS, reason), none
    shocks = np.stack([draw.shocks(r) for r in recipes], axis=1)
    drawn = [best_sizes(recipes, law, grid, shocks[b], b) for b in range(draw.size)]
    trends, n_draws = {}, none
    for name in _FITTED:
        if name == "B" and law is None:
            continue
        values = np.where(inside, found.logs[name], np.nan)
        draws = np.stack([np.where(d.interior, d.logs[name], np.nan) for d in drawn]) if drawn else values[None][:0]
        fitted = line(grid, values, draws)
        trends[name] = Trend(
            estimate(fitted.exponent, fitted.exponent_draws, level, interval="percentile"),
            estimate(
                math.exp(fitted.log_coefficient), np.exp(fitted.log_coefficient_draws), level, interval="percentile"
            ),
            Status.CONVERGED if drawn else Status.NOT_RESOLVED,
            "" if drawn else "no draws, so no interval",
        )
        n_draws = fitted.exponent_draws if name == "N" else n_draws
    laws = [_law(m, grid, found, drawn, level) for m in (Power("flops"), PowerFloor("flops"))]
    status, reason = Status.CONVERGED, ""
    span = float(grid[inside].max() - grid[inside].min())
    sizes = np.unique(found.size[inside]).size
    if sizes < FEWEST_SIZES:
        status, reason = Status.NOT_RESOLVED, f"{sizes} sizes are best anywhere; a trend needs {FEWEST_SIZES}"
    elif span < math.log(10.0):
        status, reason = Status.NOT_RESOLVED, f"the interior frontier spans {math.exp(span):.2g}× in C, under a decade"
    return ComputeFrontier(kind, laws[0], laws[1], trends, points, status, reason), n_draws


def _points(grid: Array, found: Best, law: BatchLaw | None) -> tuple[ComputePoint, ...]:
    """The best run at every budget where one is alive."""
    points = []
    for g in np.flatnonzero(np.isfinite(found.log_loss)):
        inner = bool(found.interior[g])
        reason = "" if inner else "no smaller or no larger size was run that far"
        batch = float(found.batch[g]) if law is None else math.exp(found.logs["B"][g])
        points.append(
            ComputePoint(
                math.exp(grid[g]),
                math.exp(found.logs["N"][g]),
                batch,
                math.exp(found.logs["S"][g]),
                math.exp(found.logs["D"][g]),
                math.exp(found.log_loss[g]),
                Status.CONVERGED if inner else Status.NON_INTERIOR,
                reason,
            )
        )
    return tuple(points)


def _law(law: Law, grid: Array, found: Best, drawn: list[Best], level: float) -> FitResult:
    """A law of C through the interior frontier, and through every draw's."""
    at = np.flatnonzero(found.interior)
    data = {"flops": np.exp(grid[at]), "loss": np.exp(found.log_loss[at])}
    fit = estimate_law(law, {"flops": data["flops"]}, data["loss"], "ls_log", None)
    if fit.usable and drawn and fit.bound is not None:
        fit = replace(fit, draws=_drawn(fit, at, drawn))
    return as_result(fit, "total", "exact", level, data, "percentile")


def _drawn(fit: Estimated, at: NDArray[np.intp], drawn: list[Best]) -> dict[str, Array]:
    """The law's parameters in every draw; budgets that are not interior in a draw have no weight in it."""
    assert fit.bound is not None
    logs = np.stack([np.where(d.interior[at], d.log_loss[at], np.nan) for d in drawn])
    weights = np.isfinite(logs).astype(np.float64)
    filled = np.where(weights > 0, logs, fit.log_fit)
    warm = np.repeat(fit.theta[None], len(drawn), axis=0)
    solved = minimise(fit.bound, filled, weights, warm, "ls_log", tolerance=DRAW_TOLERANCE)
    thin = weights.sum(axis=1) <= fit.theta.size
    return {k: np.where(thin, np.nan, v) for k, v in fit.bound.named(solved.theta).items()}


def _warnings(runs: Runs, paths: dict[str, Trajectory]) -> list[str]:
    notes = []
    if "schedule" in runs.frame.columns:
        decaying = sorted(set(runs.frame["schedule"].dropna().astype(str)) - {"constant"})
        if decaying:
            notes.append(
                f"schedule {', '.join(decaying)}: a point before the end is not the loss of a run ending there"
            )
    if not all(p.measured for p in paths.values()):
        notes.append("some curves are smoothed training losses")
    return notes
