"""Fitting one law to one table, with intervals, a status, and what a reader must know of the fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.bootstrap import MULTIPLIERS, Choice, Multiplier, choose_scheme, resample, shared_noise
from analysis.checks.checklist import checklist
from analysis.estimation import as_result, estimate_law, log_residuals
from analysis.intervals import INTERVALS, Interval
from analysis.laws import get_law
from analysis.laws.base import Array, Law
from analysis.noise import SeedNoise, noise_of_runs
from analysis.objectives import HUBER_DELTA, OBJECTIVES, STUDENT_NU, Loss, Objective, profile_nu
from analysis.table import Runs, check_name, read_table
from analysis.types import FitResult
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_ALWAYS = ("count", "cost", "objective", "bootstrap", "level", "seed")
WEIGHTS = ("none", "seeds", "se")
"""What residuals may be weighted by."""


def fit(
    table: str | Path | pd.DataFrame | Runs,
    law: str | Law = "chinchilla",
    *,
    x: str | None = None,
    count: str = "total",
    cost: str = "exact",
    objective: Objective = "huber_log",
    delta: float = HUBER_DELTA,
    nu: float | str = STUDENT_NU,
    weights: str = "none",
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    scheme: Choice = "auto",
    multiplier: Multiplier = "rademacher",
    stratify: bool = False,
    interval: Interval = "bca",
    verify: bool = True,
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
        objective: huber_log (summed), ls_log, ls or student_t; see `analysis.objectives`. Where a few runs may be
            outliers student_t loses 5 % of the rows' worth to least squares, huber_log a third.
        delta: of Huber's loss, in log loss.
        nu: degrees of freedom of Student's t, or "profile" for the likeliest.
        weights: none; seeds (by σ(N, D) from cells that were run more than once); or se (by the column loss_se).
        bootstrap: number of draws; 0 gives no intervals.
        level: nominal coverage of the intervals.
        seed: of the draws.
        scheme: case (runs drawn with replacement, lineages together), noise, residual, wild, seeds, or auto: case for
            60 runs or more, else noise; see `analysis.bootstrap`.
        multiplier: of the wild bootstrap: rademacher or mammen.
        stratify: whether case draws keep the number of runs of each budget.
        interval: bca, percentile or profile (likelihood). Simulated, nominal 90 % intervals of every objective and
            scheme covered 87 to 93 % with bca (student_t with case draws 91 to 94 %); percentile with case draws and
            huber_log covered 95 to 98 %.
        verify: whether a second solver must find the same optimum.
        columns, where, allow_mixed_data: see `read_table`.

    Raises:
        InputError: no such law, variable, count, cost, objective, weights, scheme or interval, a level outside (0, 1),
            or repeats or standard errors asked for that the table has not.
        TableError: see `read_table`.
    """
    chosen = get_law(law, x)
    if "rates" in chosen.variables:
        raise InputError(f"law {chosen.name} is over whole schedules: fit it to training curves, with fit_curves")
    check_name("objective", objective, OBJECTIVES)
    check_name("interval", interval, INTERVALS)
    check_name("weights", weights, WEIGHTS)
    check_name("multiplier", multiplier, MULTIPLIERS)
    check_draws(bootstrap, level)
    loss = Loss(objective, delta, STUDENT_NU if nu == "profile" else _number("nu", nu))
    needs = (*chosen.variables, chosen.response)
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=allow_mixed_data, needs=needs)
    wanted = dict.fromkeys((*(v for v in ("params", "tokens", "flops", "loss") if runs.has(v)), *needs))
    data = {v: runs.variable(v, count, cost) for v in wanted}
    variables: dict[str, Array] = {v: data[v] for v in chosen.variables}
    response = data[chosen.response]
    seeds = noise_of_runs(runs, variables, response)
    noise = _noise(runs, weights, seeds, response)
    if nu == "profile" and objective == "student_t":
        loss = _likeliest(chosen, variables, response, loss, noise)
    resamples = None
    if bootstrap:
        plain = estimate_law(chosen, variables, response, "ls_log", None) if _repeats(runs) else None
        resamples = resample(
            runs.lineage,
            draws=bootstrap,
            seed=seed,
            scheme=choose_scheme(runs.lineage, runs.budget if stratify else None, scheme),
            strata=runs.budget if stratify else None,
            shared=shared_noise(log_residuals(plain, response), runs.lineage) if plain and plain.usable else 0.0,
            multiplier=multiplier,
            seeds=seeds,
        )
    found = estimate_law(chosen, variables, response, loss, resamples, noise=noise, verify=verify)
    stated = checklist(
        runs, chosen, count=count, cost=cost, objective=loss.meaning, resamples=resamples, weights=weights
    )
    extra = {"weights": weights, "interval": interval, **({"seed_noise": seeds.to_json()} if seeds else {})}
    return as_result(
        found,
        count,
        cost,
        level,
        data,
        interval,
        diagnostics={**found.diagnostics, **extra, "checklist": stated},
        warnings=(*found.warnings, *_warnings(runs, data, chosen)),
        dropped=runs.dropped,
        command=_command(
            chosen,
            where,
            count=count,
            cost=cost,
            objective=objective,
            delta=delta,
            nu=nu,
            weights=weights,
            bootstrap=bootstrap,
            level=level,
            seed=seed,
            scheme=scheme,
            multiplier=multiplier,
            stratify=stratify,
            interval=interval,
            verify=verify,
        ),
    )


def _number(name: str, value: float | str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name} is {value!r}, neither a number nor 'profile'") from None


def _noise(runs: Runs, weights: str, seeds: SeedNoise | None, response: Array) -> Array | None:
    """Standard deviation (n,) of each row's log response by the weights asked for; None for none.

    Raises:
        InputError: the table cannot give them.
    """
    if weights == "none":
        return None
    if weights == "seeds":
        if seeds is None:
            raise InputError(
                "weights seeds needs cells, equal in everything but the seed, that were run more than once"
            )
        return seeds.sigma
    if "loss_se" not in runs.frame.columns:
        raise InputError(f"weights se needs a column loss_se, which {runs.source} has not")
    return np.asarray(runs.loss_se / response)


def _likeliest(law: Law, x: Mapping[str, Array], response: Array, loss: Loss, noise: Array | None) -> Loss:
    """Student's t with the degrees of freedom likeliest for the residuals; once more after the fit has moved."""
    for _ in range(2):
        found = estimate_law(law, x, response, loss, None, noise=noise)
        if not found.usable:
            break
        scale = 1.0 if found.scale is None else found.scale
        loss = Loss(loss.kind, loss.delta, profile_nu(log_residuals(found, response) * scale, np.ones(response.size)))
    return loss


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


def _command(law: Law, where: str | None, **given: Any) -> str:
    """The call that gives this result again, without what is at its default."""
    defaults = inspect.signature(fit).parameters
    parts = [f"fit(table, law={law.tag!r}"]
    parts += [f"{k}={v!r}" for k, v in given.items() if k in _ALWAYS or v != defaults[k].default]
    return ", ".join(parts + ([f"where={where!r}"] if where else [])) + ")"
