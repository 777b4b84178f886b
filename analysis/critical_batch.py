"""Critical batch size from a sweep over batches and rates: (S/S_min − 1)(E/E_min − 1) = 1 at fixed losses, B_crit(L).

McCandlish et al. 2018 (arXiv 1812.06162) §2.3; Kaplan et al. 2020 (arXiv 2001.08361) §5.1. S are optimizer steps and E
tokens to a loss at a batch of B tokens, read off the curve of the learning rate that gets there with the fewest;
B_crit = E_min/S_min; over losses B_crit = B L^(−1/alpha_B). Targets share their runs, so every draw of the bootstrap
moves a run's residuals at all targets together (wild, by lineage; see `analysis.bootstrap`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.approaches.base import line
from analysis.bootstrap import Resamples, resample
from analysis.estimation import as_result, estimate_law
from analysis.fitting import check_draws
from analysis.intervals import estimate
from analysis.labels import UNLABELLED, Labels
from analysis.laws.batch_trade_off import BatchTradeOff
from analysis.laws.critical_batch import CriticalBatch as CriticalBatchLaw
from analysis.table import Runs, check_name, read_table
from analysis.trajectories import Trajectory, targets_between, trajectories
from analysis.types import Array, Dropped, Estimate, FitResult, Plain, Status, jsonable
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Tuned = Literal["target", "end"]
MIN_SPAN = 5.0
"""Least ratio of the most to the fewest steps to a target: a shorter piece of a hyperbola tells no asymptotes."""
TARGETS = 8
FEWEST_TARGETS = 3


@dataclass(frozen=True)
class BatchPoint(Plain):
    """One batch at one target: the best rate's steps and tokens to it, one a seed.

    A batch that does not enter the fit says why: `non_interior` where its best rate is the lowest or highest tried (or
    the only one), `not_resolved` where the target was never reached (`steps` and `tokens` are then those it was given
    without reaching it, and `censored` is true) or lay above the curve's first point.
    """

    batch_tokens: float
    lr: float
    steps: tuple[float, ...]
    tokens: tuple[float, ...]
    run_ids: tuple[str, ...]
    status: Status = Status.CONVERGED
    reason: str = ""
    censored: bool = False


@dataclass(frozen=True, eq=False)
class TargetTradeOff:
    """Steps against tokens to one loss (nats) at one size: S_min steps, E_min and B_crit tokens, with intervals.

    `span` is the ratio of the most to the fewest steps among the batches that were fitted.
    """

    target: float
    params: float
    S_min: Estimate
    E_min: Estimate
    B_crit: Estimate
    span: float
    points: tuple[BatchPoint, ...]
    status: Status
    reason: str
    log_draws: Array
    """ln B_crit in every draw (B,), row-aligned over targets; empty where there are none."""

    def to_json(self) -> dict[str, Any]:
        """The fields, without draws."""
        return jsonable({k: v for k, v in vars(self).items() if k != "log_draws"})


@dataclass(frozen=True, eq=False)
class CriticalBatch:
    """Trade-offs by target and size, and `law`, B_crit(L) through those that converged; None where too few did."""

    targets: tuple[TargetTradeOff, ...]
    law: FitResult | None
    level: float
    status: Status
    reason: str = ""
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    @property
    def converged(self) -> tuple[TargetTradeOff, ...]:
        """The targets whose B_crit is measured."""
        return tuple(t for t in self.targets if t.status is Status.CONVERGED)

    def to_json(self) -> dict[str, Any]:
        """`{"targets", "law", "level", "status", "reason", "warnings", "dropped"}`."""
        return jsonable(dict(vars(self)))


def measure_critical_batch(
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    targets: Sequence[float] | None = None,
    *,
    count: str = "non_embedding",
    level: float = 0.9,
    min_span: float = MIN_SPAN,
    tuned: Tuned = "target",
    bootstrap: int = 400,
    seed: int = 0,
) -> CriticalBatch:
    """Measures the critical batch at fixed losses, and fits its law over losses.

    Args:
        rows: a store's rows: batches × learning rates × seeds at one size or more; diverged ones count as rates tried.
        curves: their curves: run_id, step, tokens, loss (held-out) or train_loss.
        targets: losses in nats; by default eight that most batches reach.
        count: which parameters tell sizes apart.
        level: nominal coverage of the intervals.
        min_span: least ratio of the most to the fewest steps at a target.
        tuned: whether a batch's rate is the one that reaches each target soonest (`target`), or for all targets the one
            with the lowest loss at its end (`end`), where the rates tried are interior for no early target.
        bootstrap, seed: draws, and their seed.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: targets that are not positive, a level outside (0, 1), too few draws, or no such tuning.
    """
    check_draws(bootstrap, level)
    check_name("tuned", tuned, get_args(Tuned))
    runs = read_table(rows, needs=("params", "tokens", "batch_tokens", "lr", "loss"))
    if targets is not None and not all(math.isfinite(t) and t > 0 for t in targets):
        raise InputError(f"targets {list(targets)} are not all positive losses in nats")
    paths, lost = trajectories(curves, runs.frame["run_id"])
    tried = _rates_tried(rows, runs, count)
    cells = _cells(runs, count, paths)
    if targets is None:
        targets = _default_targets(cells)
    draws = resample(runs.lineage, draws=bootstrap, seed=seed, scheme="wild") if bootstrap else None
    row_of = {str(r): i for i, r in enumerate(runs.frame["run_id"])}
    found = []
    for target in sorted(targets, reverse=True):
        for size in dict.fromkeys(n for n, _ in cells):
            mine = {b: c for (n, b), c in cells.items() if n == size}
            points = tuple(_best(target, b, c, tried.get((size, b), set()), tuned) for b, c in sorted(mine.items()))
            found.append(_trade_off(target, size, points, row_of, draws, level, min_span))
    law, status, reason = _law(found, level)
    labels = Labels.of(runs, count, measured=all(p.measured for p in paths.values()))
    trained = [] if all(p.measured for p in paths.values()) else ["some curves are smoothed training losses"]
    return CriticalBatch(tuple(found), law, level, status, reason, tuple(trained), (*runs.dropped, *lost), labels)


Cell = dict[float, list[Trajectory]]
"""Curves of one size and batch by learning rate."""


def _cells(runs: Runs, count: str, paths: dict[str, Trajectory]) -> dict[tuple[float, float], Cell]:
    found: dict[tuple[float, float], Cell] = {}
    size, batch, lr = runs.params(count), runs.variable("batch_tokens"), runs.variable("lr")
    for i, run_id in enumerate(map(str, runs.frame["run_id"])):
        if run_id in paths:
            cell = found.setdefault((float(size[i]), float(batch[i])), {})
            cell.setdefault(_rate(lr[i]), []).append(paths[run_id])
    return dict(sorted(found.items()))


def _default_targets(cells: dict[tuple[float, float], Cell]) -> list[float]:
    """Losses that most batches of a size reach, of every size."""
    found: set[float] = set()
    for size in dict.fromkeys(n for n, _ in cells):
        batches = [[t for paths in c.values() for t in paths] for (n, _), c in cells.items() if n == size]
        found |= set(targets_between(batches, TARGETS))
    return sorted(found)


def _rate(value: float) -> float:
    return float(f"{value:.4g}")


def _rates_tried(rows: pd.DataFrame, runs: Runs, count: str) -> dict[tuple[float, float], set[float]]:
    """Rates of every run that ended, diverged ones too: the best of them bounds the best rate as well."""
    column = f"params_{count}" if runs.conventions else "params"
    known = rows if "status" not in rows.columns else rows[rows["status"] != "failed"]
    found: dict[tuple[float, float], set[float]] = {}
    for n, b, lr in zip(known[column], known["batch_tokens"], known["lr"], strict=True):
        found.setdefault((float(n), float(b)), set()).add(_rate(lr))
    return found


def _best(target: float, batch: float, cell: Cell, tried: set[float], tuned: Tuned = "target") -> BatchPoint:
    """The rate that reaches the target with the fewest tokens (geometric mean over its seeds), and what it is worth."""
    rates = tried | set(cell)
    if tuned == "end":
        lowest = min(cell, key=lambda lr: float(np.mean([t.loss[-1] for t in cell[lr]])))
        cell = {lowest: cell[lowest]}
    reached = {lr: [t.reaches(target) for t in paths] for lr, paths in cell.items()}
    with np.errstate(invalid="ignore"):
        means = {lr: float(np.mean(np.log(tokens))) for lr, tokens in reached.items()}
    early = [lr for lr, mean in means.items() if math.isnan(mean)]
    if early:
        reason = "the loss is below the target at the curve's first point"
        return BatchPoint(batch, early[0], (), (), (), Status.NOT_RESOLVED, reason)
    best = min(means, key=lambda lr: (means[lr], lr))
    run_ids = tuple(t.run_id for t in cell[best])
    if math.isinf(means[best]):
        best = min(cell, key=lambda lr: float(np.mean([t.loss.min() for t in cell[lr]])))
        given = tuple(float(t.tokens[-1]) for t in cell[best])
        short = sum(math.isinf(v) for v in reached[best])
        reason = f"never reached by {short} of the {len(given)} runs at its best rate"
        run_ids = tuple(t.run_id for t in cell[best])
        steps = tuple(v / batch for v in given)
        return BatchPoint(batch, best, steps, given, run_ids, Status.NOT_RESOLVED, reason, censored=True)
    tokens = tuple(reached[best])
    point = BatchPoint(batch, best, tuple(v / batch for v in tokens), tokens, run_ids)
    if len(rates) == 1:
        return replace(point, status=Status.NON_INTERIOR, reason="one learning rate only")
    if best in (min(rates), max(rates)):
        end = "lowest" if best == min(rates) else "highest"
        return replace(point, status=Status.NON_INTERIOR, reason=f"the best rate, {best:g}, is the {end} tried")
    return point


def _trade_off(
    target: float,
    size: float,
    points: tuple[BatchPoint, ...],
    row_of: dict[str, int],
    draws: Resamples | None,
    level: float,
    min_span: float,
) -> TargetTradeOff:
    """The hyperbola of one target and size."""
    used = [p for p in points if p.status is Status.CONVERGED]
    means = [math.exp(float(np.mean(np.log(p.steps)))) for p in used]
    span = max(means) / min(means) if means else math.nan
    unknown = Estimate.missing(level)
    nothing = TargetTradeOff(
        target, size, unknown, unknown, unknown, span, points, Status.TOO_FEW_POINTS, "", np.empty(0)
    )
    if len(used) < 3:
        left = "; ".join(f"{p.batch_tokens:g}: {p.reason}" for p in points if p.reason)
        return replace(nothing, reason=f"{len(used)} batches reach it at an interior rate, three are needed ({left})")
    if not span >= min_span:
        reason = f"steps span {span:.2g}×, less than {min_span:g}×"
        return replace(nothing, status=Status.NOT_RESOLVED, reason=reason)
    at = np.array([row_of[r] for p in used for r in p.run_ids])
    batch = np.array([p.batch_tokens for p in used for _ in p.steps])
    steps = np.array([s for p in used for s in p.steps])
    fit = estimate_law(
        BatchTradeOff(), {"batch_tokens": batch}, steps, "ls_log", None if draws is None else draws.take(at)
    )
    if not fit.usable:
        return replace(nothing, status=fit.status, reason=fit.reason)
    s_min, b_crit = fit.values["S_min"], fit.values["B_crit"]
    s_draws, b_draws = fit.draws.get("S_min", np.empty(0)), fit.draws.get("B_crit", np.empty(0))
    status, reason = fit.status, fit.reason
    if status is Status.CONVERGED and not batch.min() <= b_crit <= batch.max():
        status = Status.NOT_RESOLVED
        reason = f"B_crit = {b_crit:.3g} lies outside the batches fitted, {batch.min():g} to {batch.max():g}"
    with np.errstate(invalid="ignore", divide="ignore"):
        log_draws = np.log(b_draws)
    return TargetTradeOff(
        target,
        size,
        estimate(s_min, s_draws, level),
        estimate(s_min * b_crit, s_draws * b_draws, level),
        estimate(b_crit, b_draws, level),
        span,
        points,
        status,
        reason,
        log_draws,
    )


def _law(found: list[TargetTradeOff], level: float) -> tuple[FitResult | None, Status, str]:
    """B_crit(L) through the targets that converged, each weighted by the spread of its draws."""
    kept = [t for t in found if t.status is Status.CONVERGED]
    if len({t.target for t in kept}) < FEWEST_TARGETS:
        reason = f"{len(kept)} targets give a critical batch, {FEWEST_TARGETS} different ones are needed"
        return None, Status.TOO_FEW_POINTS, reason
    loss, batch = np.array([t.target for t in kept]), np.array([t.B_crit.value for t in kept])
    drawn = all(t.log_draws.size for t in kept)
    noise = None
    if drawn:
        sd = np.array([float(np.nanstd(t.log_draws)) for t in kept])
        noise = np.maximum(sd, 0.1 * float(np.median(sd)) + 1e-9)
    fit = estimate_law(CriticalBatchLaw(), {"loss": loss}, batch, "ls_log", None, noise=noise)
    if drawn and noise is not None and fit.usable:
        logs = np.stack([t.log_draws for t in kept], axis=1)
        lines = line(np.log(loss), np.log(batch), logs, noise**-2.0)
        lower, upper = CriticalBatchLaw().parameter("alpha_B").lower, CriticalBatchLaw().parameter("alpha_B").upper
        steep = np.maximum(-lines.exponent_draws, 1.0 / upper)
        draws = {"B": np.exp(lines.log_coefficient_draws), "alpha_B": np.maximum(1.0 / steep, lower)}
        fit = replace(fit, draws=draws)
    result = as_result(fit, "total", "exact", level, {"loss": loss, "batch_tokens": batch})
    return result, result.status, result.reason


def law_values(law: CriticalBatch | FitResult | dict[str, float]) -> dict[str, float]:
    """B and alpha_B of a measurement, its law, or given constants.

    Raises:
        InputError: the measurement has no law, or a constant is missing.
    """
    if isinstance(law, CriticalBatch):
        if law.law is None:
            raise InputError(f"there is no law of the critical batch: {law.reason}")
        law = law.law
    values = law.values if isinstance(law, FitResult) else dict(law)
    if not {"B", "alpha_B"} <= set(values):
        raise InputError(f"the critical batch's law needs B and alpha_B; there are {', '.join(values)}")
    return {name: float(values[name]) for name in ("B", "alpha_B")}


def beyond(law: CriticalBatch | FitResult | dict[str, float], loss: Array) -> NDArray[np.bool_]:
    """Whether losses (n,) lie outside those that a measured law was fitted to; never outside given constants."""
    fitted = law.law if isinstance(law, CriticalBatch) else law
    if not isinstance(fitted, FitResult):
        return np.zeros(loss.size, dtype=bool)
    known = fitted.data["loss"]
    return np.asarray((loss < known.min() * (1 - 1e-9)) | (loss > known.max() * (1 + 1e-9)))


def extrapolated(law: CriticalBatch | FitResult | dict[str, float], loss: Array, what: str) -> tuple[str, ...]:
    """A warning where some of `what` at losses (n,) takes the law beyond what it was fitted to."""
    outside = int(beyond(law, loss).sum())
    return (f"B_crit(L) is extrapolated at {outside} of {loss.size} {what}",) if outside else ()


def adjusted(
    table: pd.DataFrame,
    law: CriticalBatch | FitResult | dict[str, float],
    *,
    flops: str = "flops_exact",
    steps: str = "steps",
) -> pd.DataFrame:
    """The table with `B_crit` at each row's loss, `S_min`, `E_min` and `C_min`; Kaplan et al. 2020 eqs. 5.4 and 5.5.

    S_min = S/(1 + B_crit/B), the steps of a batch far above B_crit; E_min = BS/(1 + B/B_crit) and C_min =
    C/(1 + B/B_crit), the tokens and compute of one far below. `B_crit_extrapolated` marks losses outside those that a
    measured law was fitted to.

    Args:
        table: runs, or points of curves, with `loss`, `batch_tokens`, and the columns named next.
        law: of `measure_critical_batch`, or its constants.
        flops, steps: columns that hold C and S.

    Raises:
        InputError: a column is missing, or there is no law.
    """
    values = law_values(law)
    for column in ("loss", "batch_tokens", flops, steps):
        if column not in table.columns:
            raise InputError(f"adjusted: the table has no column {column!r}")
    loss, batch, cost, done = (table[c].to_numpy(dtype=np.float64) for c in ("loss", "batch_tokens", flops, steps))
    b_crit = CriticalBatchLaw().predict(values, loss=loss)
    s_min, e_min = BatchTradeOff.minimal({"B_crit": b_crit}, done, batch)
    outside = beyond(law, loss)
    return table.assign(
        B_crit=b_crit, S_min=s_min, E_min=e_min, C_min=cost / (1.0 + batch / b_crit), B_crit_extrapolated=outside
    )
