"""Collapse of training curves: l(x) = (L(xC) - E)/(L(C) - E) over x = share of the run's compute.

Qiu et al. 2025 (arXiv 2507.02119): compute-optimally trained runs, whose schedules end with them, fall onto one curve,
with learning-rate decay to within the noise of seeds; a rung whose hyperparameters do not suit its size leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.table import Runs
from analysis.types import Array, Status, jsonable

POINTS = 40
FIRST, LAST = 0.2, 0.95
"""Shares of a run over which curves are compared: after warmup, and before the end, where all are 1."""
_FEWEST = 8
_SMOOTHING = 0.02
"""Width (share of the run) of the running mean over training losses."""


@dataclass(frozen=True, eq=False)
class Collapse:
    """R normalised curves on G shares `x` of their compute, of runs at `rows` of the table, by rising FLOPs.

    `curves` (R, G) are l(x). `departure` (R,) is the mean of ln l(x) less that of the other runs' median curve over the
    shares that are compared; `tolerance` (R,) what noise of the end loss alone would give (one standard deviation);
    `spread` (G,) the standard deviation of ln l(x) over runs.
    """

    x: Array
    curves: Array
    rows: NDArray[np.intp]
    flops: Array
    floor: float
    departure: Array
    tolerance: Array
    spread: Array
    status: Status
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every field, plain."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})


def optimal_rows(runs: Runs, params: Array, flops: Array) -> NDArray[np.intp]:
    """The run of lowest loss in each budget of three sizes or more, where it is neither smallest nor largest."""
    found = []
    for k in np.unique(runs.budget):
        rows = np.flatnonzero(runs.budget == k)
        best = rows[np.argmin(runs.loss[rows])]
        if np.unique(params[rows]).size >= 3 and params[rows].min() < params[best] < params[rows].max():
            found.append(int(best))
    return np.array(sorted(found, key=lambda i: flops[i]), dtype=np.intp)


def curve_of(curves: Any, run: str, *, held_out: bool | None = None) -> tuple[Array, Array] | None:
    """Share of the run's tokens (n,) and loss (n,) along one run, by held-out loss where measured often, else training.

    Training losses are means over a running window; None where the curve is too short.
    """
    own = curves[curves["run_id"].astype(str) == run]
    own = own[own["tokens"] > 0].sort_values("tokens")
    for column in ("loss", "train_loss"):
        if column not in own.columns or (held_out is not None and held_out != (column == "loss")):
            continue
        kept = own[own[column].notna()]
        if len(kept) < _FEWEST:
            continue
        x = kept["tokens"].to_numpy(dtype=np.float64)
        x, y = x / x[-1], kept[column].to_numpy(dtype=np.float64)
        return (x, y) if column == "loss" else (x, _running_mean(x, y))
    return None


def _running_mean(x: Array, y: Array) -> Array:
    """Mean of y within ±half a window of x; at the ends the window is cut, and stays centred."""
    half = np.minimum(_SMOOTHING / 2, np.minimum(x - x[0], x[-1] - x))
    first, last = np.searchsorted(x, x - half - 1e-12), np.searchsorted(x, x + half + 1e-12)
    # The end is compared with everything before it: it takes the last window's mean.
    first[-1] = np.searchsorted(x, x[-1] - _SMOOTHING)
    total = np.concatenate([[0.0], np.cumsum(y)])
    return np.asarray((total[last] - total[first]) / np.maximum(last - first, 1))


def collapse(
    runs: Runs, rows: NDArray[np.intp], flops: Array, *, floor: float, sigma: float = float("nan")
) -> Collapse:
    """Normalises the curves of the runs at `rows` and measures how far each leaves the others.

    Args:
        runs: the table, with curves.
        rows: compute-optimal runs, three or more; see `optimal_rows`.
        flops: FLOPs (n,) of every row of the table.
        floor: E, nats, of a fit to the same losses.
        sigma: noise of a run's log loss, for the tolerance.
    """
    x = np.linspace(FIRST, LAST, POINTS)
    empty = Collapse(
        x, np.empty((0, POINTS)), rows, flops[rows], floor, np.empty(0), np.empty(0), np.full(POINTS, np.nan),
        Status.CONVERGED,
    )  # fmt: skip
    frame = runs.curves
    if frame is None or "run_id" not in runs.frame.columns:
        return replace(empty, status=Status.NEEDS_CURVES, reason="the table has no training curves")
    ids = [str(r) for r in runs.frame["run_id"].iloc[rows]]
    series = [curve_of(frame, i, held_out=True) for i in ids]
    if any(s is None for s in series):
        series = [curve_of(frame, i, held_out=False) for i in ids]
    kept = [k for k, s in enumerate(series) if s is not None]
    if len(kept) < 3:
        return replace(
            empty, status=Status.NEEDS_CURVES, reason=f"{len(kept)} compute-optimal runs have curves; three are needed"
        )
    ends = np.array([series[k][1][-1] for k in kept])  # type: ignore[index]
    if not np.isfinite(floor) or (ends <= floor).any():
        why = (
            "no floor E is known"
            if not np.isfinite(floor)
            else f"the floor E = {floor:.4g} is above the end of a curve"
        )
        return replace(empty, status=Status.UNIDENTIFIED, reason=why)
    losses = np.stack([np.interp(x, *series[k]) for k in kept])  # type: ignore[misc]
    normal = np.maximum(losses - floor, 1e-12) / (ends - floor)[:, None]
    logs = np.log(normal)
    others = np.stack([np.median(np.delete(logs, i, axis=0), axis=0) for i in range(len(kept))])
    # ln l = ln(L - E) - ln(L_end - E): noise of the end loss enters undamped, that along the curve is averaged away.
    tolerance = sigma * ends / (ends - floor) * np.sqrt(1.0 + 1.0 / (len(kept) - 1))
    return replace(
        empty,
        curves=normal,
        rows=rows[kept],
        flops=flops[rows][kept],
        departure=(logs - others).mean(axis=1),
        tolerance=tolerance,
        spread=logs.std(axis=0, ddof=1),
    )
