"""Learning curves as arrays, one a run, and the tokens at which a curve reaches a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.types import Array, Dropped
from scaling.errors import TableError

if TYPE_CHECKING:
    import pandas as pd

FEWEST_POINTS = 4
"""A curve of fewer held-out losses is read off its training losses instead, and one of fewer points is left out."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One run's loss (nats) along its steps and tokens, (m,) each, ascending; `flops` are exact.

    `measured` says whether the loss is a held-out one; else it is the smoothed training loss.
    """

    run_id: str
    steps: Array
    tokens: Array
    flops: Array
    loss: Array
    measured: bool

    def reaches(self, target: float) -> float:
        """Tokens at which the loss first falls to `target`, linear in ln tokens between points.

        NaN where it lies below the target from its first point on, infinite where it never gets there.
        """
        below = np.flatnonzero(self.loss <= target)
        if below.size == 0:
            return math.inf
        i = int(below[0])
        if i == 0:
            return float(self.tokens[0]) if self.loss[0] == target else math.nan
        share = (self.loss[i - 1] - target) / (self.loss[i - 1] - self.loss[i])
        low, high = math.log(self.tokens[i - 1]), math.log(self.tokens[i])
        return math.exp(low + share * (high - low))

    def after(self, steps: float) -> Trajectory:
        """The points at or after a number of steps."""
        return self._take(self.steps >= steps)

    def thinned(self, points: int) -> Trajectory:
        """At most `points` of its points, evenly spread in ln steps, the last among them."""
        if self.steps.size <= points:
            return self
        even = np.searchsorted(self.steps, np.geomspace(self.steps[0], self.steps[-1], points) * (1 - 1e-12))
        return self._take(np.unique(np.clip(even, 0, self.steps.size - 1)))

    def _take(self, at: NDArray[Any]) -> Trajectory:
        return replace(self, steps=self.steps[at], tokens=self.tokens[at], flops=self.flops[at], loss=self.loss[at])


def trajectories(
    curves: pd.DataFrame, run_ids: Iterable[str], *, fewest: int = FEWEST_POINTS
) -> tuple[dict[str, Trajectory], tuple[Dropped, ...]]:
    """The curves of some runs by run id, and the runs that have none, with the reason.

    Args:
        curves: run_id, step, tokens, and loss (held-out) or train_loss; flops where costs are wanted.
        run_ids: the runs.
        fewest: points a curve must have.

    Raises:
        TableError: a column is missing.
    """
    from analysis.approaches.envelope import smooth

    lacking = [c for c in ("run_id", "step", "tokens") if c not in curves.columns]
    if lacking or not {"loss", "train_loss"} & set(curves.columns):
        raise TableError(f"curves lack {', '.join(lacking) or 'loss and train_loss'}; a store's curves have them")
    parts = {str(k): part for k, part in curves.groupby("run_id", sort=False)}
    found: dict[str, Trajectory] = {}
    dropped = []
    for run_id in map(str, run_ids):
        part = parts.get(run_id)
        for column in ("loss", "train_loss"):
            if part is None or column not in part.columns:
                continue
            kept = part[part[column].notna() & (part["tokens"] > 0) & (part["step"] > 0)].sort_values("step")
            if len(kept) < fewest:
                continue
            steps, tokens, loss = (kept[c].to_numpy(dtype=np.float64) for c in ("step", "tokens", column))
            flops = kept["flops"].to_numpy(dtype=np.float64) if "flops" in kept else np.full(steps.size, np.nan)
            measured = column == "loss"
            found[run_id] = Trajectory(run_id, steps, tokens, flops, loss if measured else smooth(loss), measured)
            break
        else:
            dropped.append(Dropped(run_id, f"no curve of {fewest} points or more"))
    return found, tuple(dropped)


def targets_between(groups: Iterable[Iterable[Trajectory]], n: int) -> tuple[float, ...]:
    """`n` losses, evenly spread in ln L, highest first, that lie on the curves of most groups.

    They start below every group's first point, and end at the loss that the better half of the groups gets to. Empty
    where no loss lies between.
    """
    parts = [list(group) for group in groups]
    first = [min(float(t.loss[0]) for t in part) for part in parts if part]
    last = [min(float(t.loss.min()) for t in part) for part in parts if part]
    if not first or not np.median(last) < min(first) * (1 - 1e-6):
        return ()
    edges = np.geomspace(min(first) * (1 - 1e-6), float(np.median(last)), n + 1)
    return tuple(float(f"{loss:.4g}") for loss in edges[1:])
