"""Reading training curves for the laws over schedules: step, rate and loss of several runs, and the rate of every step.

A long table has columns `run`, `step`, `lr`, `loss`; a store's curves have `run_id`, `step`, `lr`, `train_loss` and,
where it was measured, held-out `loss`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.schedules import Steps, check_rates, warmup_end
from analysis.types import Array, Dropped
from scaling.errors import InputError, TableError

if TYPE_CHECKING:
    import pandas as pd

CurveTable: TypeAlias = "str | Path | pd.DataFrame | Mapping[str, pd.DataFrame | str | Path]"

_LEAST_POINTS = 4


@dataclass(frozen=True, eq=False)
class Curve:
    """One run: the rate of every step `rates` (T,), and the loss in nats at `steps` (m,), ascending."""

    run: str
    rates: Array
    steps: Steps
    loss: Array

    def thinned(self, points: int) -> Curve:
        """At most `points` of its points, evenly spread, the last among them."""
        if self.steps.size <= points:
            return self
        at = np.unique(np.linspace(0, self.steps.size - 1, points).round().astype(np.intp))
        return Curve(self.run, self.rates, self.steps[at], self.loss[at])


@dataclass(frozen=True)
class Curves:
    """Checked curves by run, in the table's order, the points left out, and the column that is the loss."""

    runs: Mapping[str, Curve]
    dropped: tuple[Dropped, ...]
    column: str
    source: str


def read_curves(
    table: CurveTable,
    *,
    schedules: Mapping[str, ArrayLike] | None = None,
    warmup_steps: int | None = None,
    column: str | None = None,
) -> Curves:
    """Reads and checks training curves.

    Points before the end of the warmup are left out, as no law over schedules describes them.

    Args:
        table: a DataFrame, CSV or parquet file with run (or run_id), step, lr, loss; a store's folder; or one table
            without `run` for each run, by its name.
        schedules: the rate of every step of a run, index i for step i, by its name. Without it the rates between
            logged points are interpolated, which blurs a sudden change over one logging interval.
        warmup_steps: length of a linear warmup from 0 that the logged points miss. Without it a rate that already
            stands at its peak at the first point is taken to have stood there from the start, and a lower one to have
            risen from 0.
        column: the loss: `loss`, or `train_loss`; by default `loss` where every run has it, else `train_loss`.

    Raises:
        TableError: no such file or column, no curve, a value that is no number, or a step that comes twice.
        InputError: a schedule that is none, ends before its curve, or is of no run of the table.
    """
    frame, source = _frame(table)
    lacking = [name for name in ("run", "step", "lr") if name not in frame.columns]
    if lacking:
        raise TableError(
            f"{source}: no column {lacking[0]!r}; curves need run, step, lr and a loss, and it has"
            f" {', '.join(str(c) for c in frame.columns[:20])}"
        )
    chosen = _loss_column(frame, column, source)
    runs: dict[str, Curve] = {}
    dropped: list[Dropped] = []
    for name, rows in frame.groupby(frame["run"].astype(str), sort=False):
        run = str(name)
        curve, early = _curve(run, rows, chosen, (schedules or {}).get(run), warmup_steps, source)
        if early:
            dropped.append(Dropped(run, f"{early} points before the end of the warmup"))
        if curve is None:
            dropped.append(Dropped(run, f"fewer than {_LEAST_POINTS} points after the warmup"))
        else:
            runs[run] = curve
    unknown = set(schedules or {}) - set(frame["run"].astype(str))
    if unknown:
        raise InputError(f"schedules: {source} has no run {min(unknown)!r}; it has {', '.join(list(runs)[:12])}")
    if not runs:
        raise TableError(f"{source}: no run has {_LEAST_POINTS} points with a loss after its warmup")
    return Curves(runs, tuple(dropped), chosen, source)


def _frame(table: CurveTable) -> tuple[pd.DataFrame, str]:
    """The long table with a `run` column, and its name."""
    import pandas as pd

    if isinstance(table, Mapping):
        parts = [_frame(part)[0].assign(run=str(run)) for run, part in table.items()]
        if not parts:
            raise TableError("curves: there is no run")
        return pd.concat(parts, ignore_index=True), "curves"
    if isinstance(table, pd.DataFrame):
        frame, source = table.reset_index(drop=True), "curves"
    else:
        path = Path(table)
        source = str(path)
        if path.is_dir():
            from scaling.store import Store

            frame = Store.open(path).curves().reset_index(drop=True)
        elif not path.exists():
            raise TableError(f"{path}: no such file or store")
        else:
            try:
                frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
            except (ValueError, OSError) as error:
                raise TableError(f"{path}: cannot be read: {str(error).strip().splitlines()[0]}") from None
            frame.columns = [str(c).strip() for c in frame.columns]
    if "run" not in frame.columns and "run_id" in frame.columns:
        frame = frame.rename(columns={"run_id": "run"})
    return frame, source


def _loss_column(frame: pd.DataFrame, column: str | None, source: str) -> str:
    """The column that holds the loss."""
    known = [name for name in ("loss", "train_loss") if name in frame.columns]
    if column is not None:
        if column not in frame.columns:
            raise TableError(f"{source}: no column {column!r}; it has {', '.join(str(c) for c in frame.columns[:20])}")
        return column
    if not known:
        raise TableError(f"{source}: no column 'loss' or 'train_loss'; name the loss with column=…")
    if len(known) == 2:
        measured = frame.groupby("run")["loss"].count()
        return "loss" if (measured >= 2 * _LEAST_POINTS).all() else "train_loss"
    return known[0]


def _numbers(rows: pd.DataFrame, name: str, run: str, source: str) -> Array:
    """A column as float64; NaN where empty."""
    import pandas as pd

    found = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse(rows, np.isnan(found) & rows[name].notna().to_numpy(), name, run, source, "is not a number")
    return found


def _refuse(rows: pd.DataFrame, bad: NDArray[np.bool_], name: str, run: str, source: str, why: str) -> None:
    """Raises TableError at the first bad row, if there is one."""
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise TableError(f"{source}: row {rows.index[at]} (run {run}): {name} is {rows[name].iloc[at]}, which {why}")


def _curve(
    run: str, rows: pd.DataFrame, column: str, schedule: Any, warmup_steps: int | None, source: str
) -> tuple[Curve | None, int]:
    """One run's curve, or None where too few points are left, and how many points lie in the warmup."""
    step, lr, loss = (_numbers(rows, name, run, source) for name in ("step", "lr", column))
    for name, bad, why in (
        ("step", ~(np.isfinite(step) & (step >= 0) & (np.round(step) == step)), "is no whole number of at least 0"),
        ("lr", ~(np.isfinite(lr) & (lr >= 0)), "is no rate of at least 0"),
        (column, ~np.isnan(loss) & ~(np.isfinite(loss) & (loss > 0)), "is no positive finite loss"),
    ):
        _refuse(rows, bad, name, run, source, why)
    order = np.argsort(step, kind="stable")
    steps = step[order].astype(np.intp)
    twice = np.flatnonzero(np.diff(steps) == 0)
    if twice.size:
        _twice(f"{source}: run {run}: step {steps[twice[0]]}")
    if schedule is not None:
        rates = check_rates(schedule, f"schedule of {run}")
        if rates.size <= steps[-1]:
            raise InputError(f"schedule of {run}: {rates.size} rates, but its curve reaches step {steps[-1]}")
    else:
        rates = _every_rate(steps, lr[order], warmup_steps, f"{source}: run {run}")
    measured = np.isfinite(loss[order])
    late = steps >= warmup_end(rates)
    keep = measured & late
    curve = Curve(run, rates, steps[keep], loss[order][keep]) if keep.sum() >= _LEAST_POINTS else None
    return curve, int((measured & ~late).sum())


def _twice(where: str) -> NoReturn:
    raise TableError(f"{where} comes twice; give each run a name of its own")


def _every_rate(steps: Steps, lr: Array, warmup_steps: int | None, what: str) -> Array:
    """The rate of every step up to the last, from the logged ones."""
    every = np.arange(steps[-1] + 1)
    if warmup_steps is None and lr[0] < lr[int(np.argmax(lr))]:
        late = steps > 0
        steps, lr = np.concatenate([[0], steps[late]]), np.concatenate([[0.0], lr[late]])
    rates = check_rates(np.interp(every, steps, lr), what)
    if warmup_steps:
        end = min(warmup_steps, every.size)
        rates[:end] = np.linspace(0.0, rates[min(end, every.size - 1)], end)
    return rates
