"""Which runs stand for a size: those at its best learning rate, where several were tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.types import Status
from sweeps.studies.part import Number, plain

if TYPE_CHECKING:
    import pandas as pd

CELL = ("architecture", "params_non_embedding", "batch_tokens", "tokens", "tokens_unique")
"""Runs that agree in these differ by their rate and seed alone."""


@dataclass(frozen=True)
class Tuned:
    """Finished runs of every cell at its best rate, the filter that selects them, and cells whose best is at an edge.

    `tried` is the number of cells with three rates or more.
    """

    rows: pd.DataFrame
    where: str
    edges: tuple[str, ...]
    tried: int
    cells: int

    def number(self, level: float) -> Number:
        """How many of the cells with several rates have an interior best."""
        interior = self.tried - len(self.edges)
        status = Status.CONVERGED if self.tried and not self.edges else Status.NON_INTERIOR
        reason = "" if self.tried else "no size was trained with three rates or more"
        reason = "at an edge: " + "; ".join(self.edges) if self.edges else reason
        label = "sizes whose best learning rate is neither the lowest nor the highest tried"
        call = "lowest mean ln loss over seeds, by size"
        value = plain(interior, level)
        return Number("interior_rates", label, value, str(status), self.where, self.tried, call, reason)


def at_best_rates(rows: pd.DataFrame, where: str) -> Tuned:
    """Chooses each cell's rate by its mean log loss over seeds; diverged runs count as rates tried."""
    done = rows[rows.status == "finished"]
    done = done.assign(log_loss=np.log(done.loss))
    kept, edges, tried, cells = [], [], 0, 0
    for key, cell in done.groupby(list(CELL), sort=True):
        cells += 1
        means = cell.groupby("lr").log_loss.mean()
        best = means.idxmin()
        mine = np.logical_and.reduce([rows[c] == v for c, v in zip(CELL, key, strict=True)])  # type: ignore[arg-type]
        rates = sorted(set(rows[mine].lr))
        if len(rates) >= 3:
            tried += 1
            if best in (rates[0], rates[-1]):
                end = "lowest" if best == rates[0] else "highest"
                edges.append(f"{key[0]} of {key[1]:,} parameters, {best:g} the {end}")  # type: ignore[index]
        kept.append(cell[cell.lr == best])
    chosen = rows[rows.run_id.isin({i for c in kept for i in c.run_id})].reset_index(drop=True)
    if len(chosen) < len(done):
        where = f"run_id in {sorted(chosen.run_id)}"
    return Tuned(chosen, where, tuple(edges), tried, cells)
