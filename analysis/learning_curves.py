"""Loss of size and steps after warmup: L(N, S_min) = A N^−alpha + B S_min^−beta; Kaplan et al. 2020 eqs. 1.6 and 5.6.

S_min = S/(1 + B_crit(L)/B) (ibid. eq. 5.4) makes steps at one batch into those of a batch far above the critical one.
Points of one run share its noise, so the bootstrap moves a run's residuals together; see `analysis.cluster_wild`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.cluster_wild import cluster_draws
from analysis.critical_batch import CriticalBatch, extrapolated, law_values
from analysis.estimation import as_result, estimate_law
from analysis.fitting import check_draws
from analysis.labels import UNLABELLED, Labels
from analysis.laws.batch_trade_off import BatchTradeOff
from analysis.laws.critical_batch import CriticalBatch as CriticalBatchLaw
from analysis.laws.kaplan_steps import EfficientExponents, KaplanSteps
from analysis.replicates import pooled, recipes
from analysis.table import Runs, read_table
from analysis.trajectories import trajectories
from analysis.types import Array, Dropped, FitResult, Status, jsonable

if TYPE_CHECKING:
    import pandas as pd

FIRST_STEP = 10
"""No point lies before this step, even without warmup."""
POINTS = 16


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """The law fitted to points of the runs' curves; `table` has them: run_id, params, steps, S_min, loss, predicted.

    `seed_sd` is the standard deviation of the log loss between seeds at the end of a run, on `seed_dof` degrees of
    freedom; residuals above it are what the law misses.
    """

    fit: FitResult
    table: pd.DataFrame
    adjusted: bool
    seed_sd: float
    seed_dof: int
    status: Status
    reason: str
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    def efficient_exponents(self, alpha_B: float) -> EfficientExponents:
        """What the law implies for compute-efficient training; see `KaplanSteps.efficient_exponents`."""
        return KaplanSteps.efficient_exponents(self.fit.values, alpha_B)

    def to_json(self) -> dict[str, Any]:
        """The fit and what it was made of, without the points."""
        names = ("fit", "adjusted", "seed_sd", "seed_dof", "status", "reason", "warnings", "dropped", "labels")
        runs = int(self.table["run_id"].nunique())
        return jsonable({name: getattr(self, name) for name in names} | {"runs": runs, "points": len(self.table)})


def fit_learning_curves(
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    critical_batch: CriticalBatch | FitResult | dict[str, float] | None = None,
    *,
    count: str = "non_embedding",
    points: int = POINTS,
    level: float = 0.9,
    bootstrap: int = 400,
    seed: int = 0,
) -> LearningCurves:
    """Fits L(N, S_min) to the runs' curves after warmup.

    Args:
        rows: a store's rows: sizes with data in plenty, each at its best learning rate.
        curves: their curves; see `measure_critical_batch`.
        critical_batch: the law that makes steps S_min; None takes steps as they are, with a warning.
        count: which parameters N counts.
        points: of each curve, at most, evenly spread in ln steps.
        level: nominal coverage of the intervals.
        bootstrap, seed: draws, and their seed.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: a critical batch without a law, a level outside (0, 1), or too few draws.
    """
    runs = read_table(rows, needs=("params", "tokens", "batch_tokens", "loss"))
    paths, lost = trajectories(curves, runs.frame["run_id"])
    table = _points(runs, paths, count, points)
    dropped = (*runs.dropped, *lost)
    adjusted = critical_batch is not None
    beyond: tuple[str, ...] = ()
    if critical_batch is not None and len(table):
        b_crit = CriticalBatchLaw().predict(law_values(critical_batch), loss=table["loss"].to_numpy())
        s_min, _ = BatchTradeOff.minimal({"B_crit": b_crit}, table["S"].to_numpy(), table["batch_tokens"].to_numpy())
        table = table.assign(steps=s_min)
        beyond = extrapolated(critical_batch, table["loss"].to_numpy(dtype=np.float64), "points")
    if not len(table):
        reason = f"no run of {len(runs)} has a curve after its warmup"
        empty = FitResult(
            "kaplan_steps", {}, math.nan, "ls_log", 0, Status.NEEDS_CURVES, reason, level, math.nan, KaplanSteps()
        )
        return LearningCurves(empty, table, adjusted, math.nan, 0, Status.NEEDS_CURVES, reason, dropped=dropped)
    check_draws(bootstrap, level)
    x = {name: table[name].to_numpy(dtype=np.float64) for name in ("params", "steps")}
    loss = table["loss"].to_numpy(dtype=np.float64)
    plain = estimate_law(KaplanSteps(), x, loss, "ls_log", None, verify=True)
    run = np.unique(table["lineage"], return_inverse=True)[1]
    drawn = cluster_draws(plain, loss, run, draws=bootstrap, seed=seed)
    found = as_result(drawn, count, "exact", level, {**x, "loss": loss}, "percentile")
    predicted = found.data.get("predicted", np.full(len(table), np.nan))
    table = table.assign(predicted=predicted).rename(columns={"steps": "S_min"})
    noise = pooled(recipes(runs, count), np.log(runs.loss))
    warnings = (*found.warnings, *beyond, *_warnings(runs, table, adjusted, noise.sd, found))
    if not all(p.measured for p in paths.values()):
        warnings += ("some curves are smoothed training losses",)
    return LearningCurves(
        found,
        table,
        adjusted,
        noise.sd,
        noise.dof,
        found.status,
        found.reason,
        warnings,
        dropped,
        Labels.of(runs, count, measured=all(p.measured for p in paths.values())),
    )


def _points(runs: Runs, paths: dict[str, Any], count: str, points: int) -> pd.DataFrame:
    """Points of every curve after its warmup; `steps` and `S` are both the steps done."""
    import pandas as pd

    size, batch, tokens = runs.params(count), runs.variable("batch_tokens"), runs.tokens
    share = np.zeros(len(runs))
    if "warmup_fraction" in runs.frame.columns:
        share = runs.frame["warmup_fraction"].fillna(0.0).to_numpy(dtype=np.float64)
    found = []
    for i, run_id in enumerate(map(str, runs.frame["run_id"])):
        if run_id not in paths:
            continue
        path = paths[run_id].after(max(FIRST_STEP, share[i] * tokens[i] / batch[i]))
        if path.steps.size < 2:
            continue
        path = path.thinned(points)
        found.append(
            pd.DataFrame(
                {
                    "run_id": run_id,
                    "lineage": str(int(runs.lineage[i])),
                    "params": size[i],
                    "batch_tokens": batch[i],
                    "steps": path.steps,
                    "S": path.steps,
                    "loss": path.loss,
                }
            )
        )
    columns = ["run_id", "lineage", "params", "batch_tokens", "steps", "S", "loss"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _warnings(runs: Runs, table: pd.DataFrame, adjusted: bool, sd: float, found: FitResult) -> list[str]:
    """What the points cannot tell."""
    notes = []
    named = set(runs.frame["schedule"].dropna().astype(str)) if "schedule" in runs.frame.columns else set()
    decaying = sorted(named - {"constant"})
    if decaying:
        notes.append(
            f"schedule {', '.join(decaying)}: a point before the end is not the loss of a run that ends there,"
            " which bends the curves and biases beta"
        )
    if not adjusted:
        notes.append("steps are taken as they are: without B_crit(L) they are S_min only far above the critical batch")
    sizes = table["params"].unique()
    if sizes.max() / sizes.min() < 30:
        notes.append(f"sizes span {sizes.max() / sizes.min():.2g}×: A and alpha rest on less than a decade and a half")
    residual = found.sigma
    if math.isfinite(sd) and sd > 0 and math.isfinite(residual) and residual > 3 * sd:
        notes.append(
            f"residuals of {100 * residual:.2g} % are {residual / sd:.1f} times the {100 * sd:.2g} % between seeds:"
            " the law has no floor and misses more than noise"
        )
    return notes


def points_of(found: LearningCurves) -> dict[float, Array]:
    """Points (m, 3) of S_min, loss and predicted loss by size, by rising S_min."""
    size = found.table["params"].to_numpy(dtype=np.float64)
    points = found.table[["S_min", "loss", "predicted"]].to_numpy(dtype=np.float64)
    by_size = {float(n): points[size == n] for n in np.unique(size)}
    return {n: part[np.argsort(part[:, 0], kind="stable")] for n, part in by_size.items()}
