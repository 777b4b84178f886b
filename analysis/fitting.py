"""Fitting one law to one table, with intervals, a status, and what a reader must know of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.bootstrap import Choice, Resamples, bca, choose_scheme, resample, shared_noise
from analysis.estimation import Estimated, as_result, estimate_law, log_residuals
from analysis.laws import get_law
from analysis.laws.base import Array, Law
from analysis.solve import HUBER_DELTA, OBJECTIVES, Objective, minimise
from analysis.table import Runs, check_name, read_table
from analysis.types import Estimate, FitResult
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def fit(
    table: str | Path | pd.DataFrame | Runs,
    law: str | Law = "chinchilla",
    *,
    x: str | None = None,
    count: str = "total",
    cost: str = "exact",
    objective: Objective = "huber_log",
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    scheme: Choice = "auto",
    interval: str = "percentile",
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    allow_mixed_data: bool = False,
) -> FitResult:
    """Fits a law to a table of runs.

    Args:
        table: a store, a parquet or CSV file, a DataFrame, or runs already read; see `read_table`.
        law: its name, such as "chinchilla" or "power:tokens"; `list_laws()` has them all.
        x: the variable of a law that has one free: params, tokens or flops.
        count: which parameters N counts: total, non_embedding, non_embedding_head.
        cost: what flops mean: exact or 6nd.
        objective: huber_log (summed, delta 1e-3), ls_log or ls.
        bootstrap: number of draws; 0 gives no intervals.
        level: nominal coverage of the intervals.
        seed: of the draws.
        scheme: case (runs drawn with replacement, lineages together), noise (fixed design), or auto; see
            `analysis.bootstrap`.
        interval: percentile or bca.
        columns, where, allow_mixed_data: see `read_table`.

    Raises:
        InputError: no such law, variable, count, cost, objective, or a level outside (0, 1).
        TableError: see `read_table`.
    """
    chosen = get_law(law, x)
    check_name("objective", objective, OBJECTIVES)
    check_name("interval", interval, ("percentile", "bca"))
    check_draws(bootstrap, level)
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=allow_mixed_data)
    data = {"params": runs.params(count), "tokens": runs.tokens, "flops": runs.flops(cost, count), "loss": runs.loss}
    variables: dict[str, Array] = {v: data[v] for v in chosen.variables}
    resamples = None
    if bootstrap:
        plain = estimate_law(chosen, variables, runs.loss, "ls_log", None) if _repeats(runs) else None
        shared = shared_noise(log_residuals(plain, runs.loss), runs.lineage) if plain and plain.usable else 0.0
        resamples = resample(
            runs.lineage, draws=bootstrap, seed=seed, scheme=choose_scheme(runs.lineage, None, scheme), shared=shared
        )
    found = estimate_law(chosen, variables, runs.loss, objective, resamples)
    result = as_result(
        found,
        count,
        cost,
        level,
        data,
        diagnostics={**found.diagnostics, "checklist": _checklist(runs, chosen, count, cost, objective, resamples)},
        warnings=(*found.warnings, *_warnings(runs, data, chosen)),
        dropped=runs.dropped,
        command=_command(chosen, count, cost, objective, bootstrap, level, seed, where),
    )
    if interval == "bca" and resamples is not None and found.usable:
        return _with_bca(result, found, runs, objective, level)
    return result


def check_draws(bootstrap: int, level: float) -> None:
    """Raises InputError unless there are no draws, or enough for the level."""
    if not 0.0 < level < 1.0:
        raise InputError(f"level {level} is not between 0 and 1; 0.9 is usual")
    if bootstrap < 0 or 0 < bootstrap < 20:
        raise InputError(f"bootstrap {bootstrap} draws are too few for an interval; 0 for none, 1000 is usual")


def _repeats(runs: Runs) -> bool:
    return bool(np.unique(runs.lineage).size < len(runs))


def _warnings(runs: Runs, data: Mapping[str, Array], law: Law) -> list[str]:
    """What makes this table weak for this law."""
    found = []
    for v in law.variables:
        values = data[v]
        sizes, span = np.unique(values).size, float(values.max() / values.min())
        if 1 < sizes < 5:
            found.append(f"{sizes} distinct {v}: five or more are wanted")
        if 1.0 < span < 10.0:
            found.append(f"{v} span only {span:.1f}×: exponents from less than a decade carry little")
    if len(law.variables) == 2:
        logs = np.log(np.stack([data[v] for v in law.variables]))
        if (np.ptp(logs, axis=1) > 0).all():
            r = float(np.corrcoef(logs)[0, 1])
            if abs(r) > 0.95:
                found.append(
                    f"{' and '.join(law.variables)} move together (r = {r:.3f}): their terms cannot be told apart"
                )
    if runs.dropped:
        found.append(f"{len(runs.dropped)} rows did not finish and are left out")
    return found


def _checklist(
    runs: Runs, law: Law, count: str, cost: str, objective: Objective, resamples: Resamples | None
) -> dict[str, Any]:
    """What a fit must state to be repeatable, as far as the table knows it; Li et al. 2025 (arXiv 2502.18969)."""
    frame = runs.frame

    def distinct(column: str) -> list[Any] | None:
        if column not in frame.columns:
            return None
        values = sorted({str(v) for v in frame[column].dropna()})
        return values if len(values) <= 12 else [f"{len(values)} values"]

    cells = np.unique(np.stack([runs.params(count), runs.tokens], axis=1), axis=0)
    return {
        "form": law.formula,
        "variables": list(law.variables),
        "params_counted": count if runs.conventions else "as in the table",
        "flops_counted": cost if runs.conventions or "flops" in frame.columns else "6ND",
        "rows": len(runs),
        "runs": int(np.unique(runs.lineage).size),
        "distinct_params": int(np.unique(runs.params(count)).size),
        "distinct_tokens": int(np.unique(runs.tokens).size),
        "params_range": [float(runs.params(count).min()), float(runs.params(count).max())],
        "tokens_range": [float(runs.tokens.min()), float(runs.tokens.max())],
        "repeats_per_cell": len(runs) / len(cells),
        "metric": "held-out loss, nats per predicted token" if runs.conventions else "loss, as in the table",
        "points_per_run": "one, the end of each run",
        "architectures": distinct("architecture"),
        "objectives": distinct("objective"),
        "corpora": distinct("corpus"),
        "tokenizers": distinct("tokenizer"),
        "schedules": distinct("schedule"),
        "warmup_fractions": distinct("warmup_fraction"),
        "learning_rates": distinct("lr"),
        "batch_tokens": distinct("batch_tokens"),
        "largest_epochs": float(frame["epochs"].max()) if "epochs" in frame.columns else None,
        "left_out": len(runs.dropped),
        "fit_loss": f"Huber, delta {HUBER_DELTA:g}, on log loss, summed" if objective == "huber_log" else objective,
        "initialisation": "variable projection grid, best of up to eight spread starts",
        "intervals": f"{resamples.scheme} bootstrap, {resamples.draws} draws, seed {resamples.seed}"
        if resamples
        else None,
    }


def _command(
    law: Law, count: str, cost: str, objective: str, bootstrap: int, level: float, seed: int, where: str | None
) -> str:
    name = f"{law.name}:{getattr(law, 'x')}" if hasattr(law, "x") else law.name  # noqa: B009
    parts = [f"fit(table, law={name!r}, count={count!r}, cost={cost!r}, objective={objective!r}"]
    parts += [f"bootstrap={bootstrap}", f"level={level}", f"seed={seed}"]
    return ", ".join(parts + ([f"where={where!r}"] if where else [])) + ")"


def _with_bca(result: FitResult, found: Estimated, runs: Runs, objective: Objective, level: float) -> FitResult:
    """The result with BCa intervals; the jackknife leaves out a lineage at a time."""
    from dataclasses import replace

    assert found.bound is not None
    ids = np.unique(runs.lineage)
    weights = (runs.lineage[None] != ids[:, None]).astype(float)
    left = minimise(found.bound, np.log(runs.loss), weights, np.repeat(found.theta[None], ids.size, axis=0), objective)
    jackknife = found.bound.named(left.theta)
    params = {
        k: Estimate(e.value, bca(e.value, found.draws[k], jackknife[k], level), level) for k, e in result.params.items()
    }
    return replace(result, params=params)
