"""What the figures are drawn from: runs, and frontiers and a fit made from them, each once and only if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import style
from analysis.figures.base import NotDrawable
from analysis.figures.style import Convention
from analysis.types import FitResult, Frontier, FrontierSet

if TYPE_CHECKING:
    import pandas as pd

    from analysis.comparing import Comparison
    from analysis.figures.prediction import Scored
    from analysis.table import Runs

FEWEST_CURVE_POINTS = 5
SURFACES = ("parametric", "vpnls")
"""Approaches that fit a law of size and data, in order of preference for its frontier."""


@dataclass(frozen=True, eq=False)
class Material:
    """Runs under one count and one cost, and what follows from them.

    `law` and `objective` are those of the fit; `against` is the table to compare with; `target` are FLOPs to
    extrapolate to; `scored` predictions with their outcomes; `given` and `given_fit` results already made, which are
    then not made again; `level`, `bootstrap`, `seed` as in `analysis.frontier`.
    """

    runs: Runs
    approaches: str | Sequence[str] = "all"
    count: str = "total"
    cost: str = "exact"
    target: float | None = None
    scored: Sequence[Scored] = ()
    level: float = 0.9
    bootstrap: int = 1000
    seed: int = 0
    title: str = ""
    law: str = "chinchilla"
    objective: str = "huber_log"
    against: str | Runs | None = None
    given: FrontierSet | None = None
    given_fit: FitResult | None = None

    @cached_property
    def convention(self) -> Convention:
        """How the runs count size, cost, data and loss."""
        return convention_of(self.runs, self.count, self.cost)

    @cached_property
    def frontiers(self) -> FrontierSet:
        """The frontiers under this count and cost by the approaches asked for."""
        if self.given is not None:
            mine = tuple(f for f in self.given if (f.count, f.cost) == (self.count, self.cost))
            return replace(self.given, frontiers=mine)
        return self._frontiers(self.approaches)

    @cached_property
    def fit(self) -> FitResult:
        """The law fitted to the runs."""
        if self.given_fit is not None:
            return self.given_fit
        from analysis.fitting import fit

        return fit(
            self.runs,
            self.law,
            count=self.count,
            cost=self.cost,
            objective=self.objective,  # type: ignore[arg-type]
            level=self.level,
            bootstrap=self.bootstrap,
            seed=self.seed,
        )

    @cached_property
    def comparison(self) -> Comparison:
        """These runs against another table's, under this count and cost."""
        if self.against is None:
            raise NotDrawable("the figure comparison needs a second table: name it with against")
        from analysis.comparing import compare

        approach = self.approaches if isinstance(self.approaches, str) and self.approaches != "all" else "isoflop"
        return compare(
            self.runs,
            self.against,
            approach=approach,
            count=self.count,
            cost=self.cost,
            bootstrap=self.bootstrap,
            level=self.level,
            seed=self.seed,
        )

    def find(self, approach: str) -> Frontier:
        """The frontier by one approach, made if it was not asked for."""
        for found in self.frontiers:
            if found.approach == approach:
                return found
        return self._frontiers(approach)[approach]

    @property
    def surface_frontier(self) -> Frontier:
        """The frontier of the fitted law: a known one by an approach of `SURFACES`, else the first."""
        known = [f for f in self.frontiers if f.approach in SURFACES and f.known]
        return min(known, key=lambda f: SURFACES.index(f.approach)) if known else self.find(SURFACES[0])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """See `curves_of`."""
        return curves_of(self.runs, self.count, self.cost)[0]

    @cached_property
    def curve_convention(self) -> Convention:
        """The convention with the name of the loss that the curves hold."""
        return replace(self.convention, what=curves_of(self.runs, self.count, self.cost)[1])

    def _frontiers(self, approaches: str | Sequence[str]) -> FrontierSet:
        from analysis.frontiers import frontier

        return frontier(
            self.runs,
            approaches,
            counts=self.count,
            costs=self.cost,
            level=self.level,
            bootstrap=self.bootstrap,
            seed=self.seed,
        )


def convention_of(runs: Runs, count: str, cost: str) -> Convention:
    """What a table says of its units: tokenizer and objective where rows name them, "as given" where it does not."""
    frame = runs.frame
    named = {c: [str(v) for v in frame[c].dropna().unique()] for c in ("tokenizer", "objective") if c in frame.columns}
    token, loss = style.units(named.get("tokenizer", ()), named.get("objective", ()))
    what = "held-out loss" if runs.conventions else "loss"
    if runs.conventions:
        return Convention(count, cost, token, loss, what)
    given = "given" if cost == "exact" and "flops" in frame.columns else "6nd"
    return Convention("given", given, token, loss, what)


def curves_of(runs: Runs, count: str, cost: str) -> tuple[pd.DataFrame, str]:
    """Training curves as `run_id`, `params`, `flops`, `loss`, and what that loss is.

    Held-out losses where every run has at least five, else the smoothed training loss, as approach 1 takes them. FLOPs
    along a run grow with its tokens, under every cost.

    Raises:
        NotDrawable: the table has no curves.
    """
    import pandas as pd

    from analysis.approaches.envelope import smooth

    frame = runs.curves
    if frame is None or "run_id" not in runs.frame.columns:
        raise NotDrawable(f"the figure envelope needs training curves: {runs.source} has none")
    parts = {str(k): part.sort_values("tokens") for k, part in frame.groupby("run_id", sort=False)}
    ids = [str(r) for r in runs.frame["run_id"]]
    held_out = "loss" in frame.columns and all(
        r in parts and int(parts[r]["loss"].notna().sum()) >= FEWEST_CURVE_POINTS for r in ids
    )
    column = "loss" if held_out else "train_loss"
    if column not in frame.columns:
        raise NotDrawable(f"the figure envelope needs curves of loss or train_loss: {runs.source} has neither in full")
    params, flops, tokens = runs.params(count), runs.flops(cost, count), runs.tokens
    found = []
    for i, run in enumerate(ids):
        if run not in parts:
            continue
        part = parts[run]
        part = part[part[column].notna() & (part["tokens"] > 0)]
        if len(part) < FEWEST_CURVE_POINTS:
            continue
        loss = part[column].to_numpy(dtype=np.float64)
        spent = part["tokens"].to_numpy(dtype=np.float64) * flops[i] / tokens[i]
        values = loss if held_out else smooth(loss)
        found.append(pd.DataFrame({"run_id": run, "params": params[i], "flops": spent, "loss": values}))
    if not found:
        raise NotDrawable(
            f"the figure envelope needs training curves: no run of {runs.source} has {FEWEST_CURVE_POINTS} points"
        )
    return pd.concat(found, ignore_index=True), "held-out loss" if held_out else "training loss, smoothed"
