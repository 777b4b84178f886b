"""Checks of a table of runs: detectors with typed verdicts, diagnostics of the fit, noise budget, undertuning.

A detector is one file in this package, found by importing every module; `check` runs them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.checks.base import Check, Finding, Subject, Verdict
from analysis.registry import classes, listing, named

if TYPE_CHECKING:
    import pandas as pd

    from analysis.checks.report import Report
    from analysis.table import Runs
    from analysis.types import FitResult, Frontier

__all__ = ["Check", "Finding", "Subject", "Verdict", "check", "get_check", "list_checks"]


def list_checks() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every detector, sorted by name."""
    return listing(classes(__name__, Check))  # type: ignore[type-abstract]


def get_check(name: str) -> Check:
    """The detector of that name.

    Raises:
        InputError: there is none.
    """
    return named("check", name, classes(__name__, Check))()  # type: ignore[type-abstract]


def check(
    table: str | Path | pd.DataFrame | Runs,
    fit: FitResult | None = None,
    frontier: Frontier | None = None,
    *,
    names: str | Sequence[str] = "all",
    law: str = "chinchilla",
    approach: str = "isoflop",
    count: str = "total",
    cost: str = "exact",
    used: str | None = None,
    grids: str | Path | pd.DataFrame | Runs | None = None,
    budget: bool = True,
    level: float = 0.9,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> Report:
    """Looks for what would make the table's fits and frontiers wrong, and measures what their intervals hold.

    Args:
        table: see `read_table`; rows of several data sets are read, and reported.
        fit: of the table's surface, its rows in the table's order; default `law`, fitted here by squares of log loss.
        frontier: of the table, by the approach whose noise is budgeted; default `approach`.
        names: "all", or the detectors to run; see `list_checks()`.
        law: of the default fit.
        approach: of the noise budget and of the shift by undertuning.
        count, cost: what N counts and C means.
        used: a filter that says which run of a rung with a grid is used; default the best of each.
        grids: another table, with grids of learning rate and batch, where `table` has none.
        budget: whether to make the noise budget, which refits the frontier once for each run.
        level: of intervals.
        seed: of draws.
        columns, where: see `read_table`.

    Raises:
        InputError: no such check, law, approach, count or cost.
        TableError: see `read_table`.
    """
    from analysis.checks.report import report
    from analysis.table import read_table

    wanted = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    members = list(classes(__name__, Check)) if wanted == ["all"] else wanted  # type: ignore[type-abstract]
    found = [get_check(n) for n in members]
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=True)
    if frontier is not None:
        approach, count, cost = frontier.approach, frontier.count, frontier.cost
    read: Any = None if grids is None else read_table(grids, columns=columns, allow_mixed_data=True)
    return report(
        runs, found, fit=fit, frontier=frontier, law=law, approach=approach, count=count, cost=cost, used=used,
        grids=read, budget=budget, level=level, seed=seed,
    )  # fmt: skip
