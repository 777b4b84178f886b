"""N*(C), D*(C) by several approaches under several conventions, from the same draws, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.approaches import get_approach, list_approaches
from analysis.approaches.base import Approach, Task, isoflop_groups
from analysis.approaches.surface import SurfaceApproach
from analysis.bootstrap import Choice, Resamples, choose_scheme, estimate, resample, shared_noise
from analysis.estimation import estimate_law, log_residuals
from analysis.fitting import check_draws
from analysis.laws.chinchilla import Chinchilla
from analysis.noise import noise_of_runs
from analysis.table import Runs, check_name, read_table
from analysis.types import Frontier, FrontierSet
from scaling.accounting import COSTS, COUNTS
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

EQUIVALENCE_MARGIN = 0.05
"""Exponents of N* closer than this mean the same advice within any budget range that toy sweeps reach."""


def frontier(
    table: str | Path | pd.DataFrame | Runs,
    approaches: str | Sequence[str] = "all",
    *,
    counts: str | Sequence[str] = "total",
    costs: str | Sequence[str] = "exact",
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
    scheme: Choice = "auto",
    law: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    allow_mixed_data: bool = False,
) -> FrontierSet:
    """Compute-optimal frontiers of a table of runs, by every approach under every convention asked for, side by side.

    Args:
        table: see `read_table`.
        approaches: "all", or names among those of `list_approaches()`, perhaps with a variant (`vpnls:kaplan_joint`).
        counts: "all", or some of total, non_embedding, non_embedding_head; a plain table has one size, called total.
        costs: "all", or some of exact, 6nd; a table without FLOPs has 6nd alone.
        level: nominal coverage of the intervals.
        bootstrap: number of draws, shared by all approaches.
        seed: of the draws.
        scheme: of the bootstrap; see `analysis.bootstrap`.
        law: the surface of parametric and vpnls, any law of params and tokens; Hoffmann's where it is left out.
        columns, where, allow_mixed_data: see `read_table`.

    Raises:
        InputError: no such approach, count or cost.
        TableError: see `read_table`.
    """
    check_draws(bootstrap, level)
    members = _members(_listed(approaches), law)
    wanted = _all_of("count", _listed(counts), COUNTS), _all_of("cost", _listed(costs), COSTS)
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=allow_mixed_data)
    conventions = _conventions(runs, *wanted)
    resamples = draws_of(runs, draws=bootstrap, seed=seed, scheme=scheme)
    memo: dict[Any, Any] = {}
    found = [
        a.frontier(Task(runs, count, cost, level, resamples, memo)) for count, cost in conventions for a in members
    ]
    return FrontierSet(tuple(found), agreement(found, level))


def _members(names: list[str], law: str | None) -> list[Approach]:
    """The approaches of these names, with `law` as the surface of those that fit one."""
    if names == ["all"]:
        names = [a["name"] for a in list_approaches()]
    members = [get_approach(n) for n in names]
    if law is None:
        return members
    fitted = [m for m in members if isinstance(m, SurfaceApproach)]
    if not fitted:
        raise InputError(f"none of {', '.join(names)} fits a surface; leave law {law!r} out")
    return [m.of(law) if m in fitted and not m.variant else m for m in members]


def _all_of(what: str, names: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    if names == ["all"]:
        return known
    for name in names:
        check_name(what, name, known)
    return tuple(names)


def _conventions(runs: Runs, counts: tuple[str, ...], costs: tuple[str, ...]) -> list[tuple[str, str]]:
    """Count and cost of each convention that the table tells apart, in the order asked for."""
    if counts == COUNTS and not runs.conventions:
        counts = counts[:1]
    return [(n, c) for n in dict.fromkeys(counts) for c in dict.fromkeys(runs.cost_name(c) for c in costs)]


def _listed(names: str | Sequence[str]) -> list[str]:
    listed = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    if not listed or not all(listed):
        raise InputError("an empty list of approaches, counts or costs; leave it out for the default")
    return listed


def draws_of(runs: Runs, *, draws: int, seed: int, scheme: Choice) -> Resamples:
    """The draws that every approach to this table shares.

    Budgets are strata where the table has at least two groups of three runs or more; noise shared within a lineage is
    measured on the residuals of Hoffmann's law.
    """
    draws = max(draws, 1)
    groups = [g for g in isoflop_groups(runs, runs.flops()) if g.rows.size >= 3]
    inside = sum(g.rows.size for g in groups)
    strata = runs.budget if len(groups) >= 2 and inside >= 0.8 * len(runs) else None
    chosen = choose_scheme(runs.lineage, strata, scheme)
    x = {"params": runs.params(), "tokens": runs.tokens}
    shared = 0.0
    if chosen != "case" and np.unique(runs.lineage).size < len(runs):
        fit = estimate_law(Chinchilla(), x, runs.loss, "ls_log", None)
        shared = shared_noise(log_residuals(fit, runs.loss), runs.lineage) if fit.usable else 0.0
    seeds = noise_of_runs(runs, x, runs.loss) if chosen == "seeds" else None
    return resample(runs.lineage, draws=draws, seed=seed, scheme=chosen, strata=strata, shared=shared, seeds=seeds)


def agreement(frontiers: Sequence[Frontier], level: float, margin: float = EQUIVALENCE_MARGIN) -> dict[str, Any]:
    """Paired differences of the exponents of N* between approaches under one convention.

    A pair agrees where the interval of its difference lies within ±margin, differs where it excludes 0 and reaches
    beyond the margin, and is not resolved otherwise; a wide interval is no agreement.
    """
    pairs = []
    for a, b in combinations(frontiers, 2):
        if (a.count, a.cost) != (b.count, b.cost) or not (a.known and b.known):
            continue
        difference = estimate(
            a.N_exponent.value - b.N_exponent.value, a.draws["N_exponent"] - b.draws["N_exponent"], level
        )
        lo, hi = difference.ci
        verdict = "not_resolved"
        if -margin <= lo and hi <= margin:
            verdict = "agree"
        elif lo > 0 or hi < 0:
            verdict = "differ"
        pairs.append(
            {
                "a": a.approach,
                "b": b.approach,
                "count": a.count,
                "cost": a.cost,
                "difference": difference,
                "verdict": verdict,
            }
        )
    verdicts = {p["verdict"] for p in pairs}
    overall = next((v for v in ("differ", "not_resolved", "agree") if v in verdicts), "not_resolved")
    return {"margin": margin, "level": level, "pairs": pairs, "verdict": overall}
