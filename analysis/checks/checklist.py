"""The checklist of a fit: what a reader needs to repeat it, answered from the table, `not stated` where it is silent.

The four parts and their questions follow Li et al. 2025, "(Mis)Fitting" (arXiv 2502.18969): hypothesis, training,
data, fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.table import Runs

if TYPE_CHECKING:
    from analysis.laws.base import Law

NOT_STATED = "not stated"
_MANY = 12
_SAID: Mapping[str, str] = {
    "huber_log": "Huber, delta 0.001, on log loss, summed",
    "ls_log": "squares of log loss",
    "ls": "squares of loss",
    "student_t": "Student's t on log loss, scale profiled out",
}


def checklist(
    runs: Runs,
    law: Law,
    *,
    count: str = "total",
    cost: str = "exact",
    objective: str = "huber_log",
    resamples: Any = None,
    weights: str = "none",
    validation: str | None = None,
) -> dict[str, dict[str, Any]]:
    """`{"hypothesis", "training", "data", "fit"}`, each question to its answer (text, number or list).

    Args:
        runs: the fitted table.
        law: the law.
        count, cost: what N counts and C means.
        objective: of the fit, by its name or in words.
        resamples: the bootstrap's draws, with `scheme`, `draws` and `seed`; None where there are no intervals.
        weights: what the residuals are weighted by.
        validation: how the law was tried on runs that it was not fitted to.
    """
    return {
        "hypothesis": _hypothesis(runs, law, count, cost),
        "training": _training(runs, law, count, cost),
        "data": _data(runs),
        "fit": _fit(runs, objective, resamples, weights, validation),
    }


def open_questions(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The questions without an answer, as `part.question`."""
    return [
        f"{part}.{name}" for part, found in answers.items() for name, answer in found.items() if answer == NOT_STATED
    ]


def _hypothesis(runs: Runs, law: Law, count: str, cost: str) -> dict[str, Any]:
    fixed = {
        name: values[0]
        for name in ("architecture", "objective", "corpus", "tokenizer", "schedule", "warmup_fraction", "seq_len")
        if isinstance(values := _distinct(runs, name), list) and len(values) == 1
    }
    return {
        "form": law.formula,
        "variables": list(law.variables),
        "parameters": [p.name for p in law.parameters],
        "source": law.source,
        "held_fixed": fixed or NOT_STATED,
        "params_counted": count if runs.conventions else "as in the table",
        "flops_counted": cost if runs.conventions or "flops" in runs.frame.columns else "6ND",
    }


def _training(runs: Runs, law: Law, count: str, cost: str) -> dict[str, Any]:
    names = dict.fromkeys(("params", "tokens", "flops", *law.variables))
    scales = {v: runs.variable(v, count, cost) for v in names if runs.has(v)}
    varied = np.stack([x for v, x in scales.items() if v in law.variables or v in ("params", "tokens")], axis=1)
    return {
        "rows": len(runs),
        "runs": int(np.unique(runs.lineage).size),
        **{f"distinct_{v}": int(np.unique(x).size) for v, x in scales.items()},
        **{f"{v}_range": [float(x.min()), float(x.max())] for v, x in scales.items()},
        "repeats_per_cell": len(runs) / len(np.unique(varied, axis=0)),
        "seeds": _distinct(runs, "seed"),
        "architectures": _distinct(runs, "architecture"),
        "objectives": _distinct(runs, "objective"),
        "optimizers": _in_spec(runs, "optimizer", "type"),
        "precision": _in_spec(runs, "precision"),
        "schedules": _distinct(runs, "schedule"),
        "warmup_fractions": _distinct(runs, "warmup_fraction"),
        "learning_rates": _distinct(runs, "lr"),
        "batch_tokens": _distinct(runs, "batch_tokens"),
        "settings_chosen_by": _settings(runs, count),
        "largest_epochs": _largest(runs, "epochs"),
        "code": _in_provenance(runs, "commit"),
    }


def _data(runs: Runs) -> dict[str, Any]:
    lineages = np.unique(runs.lineage, return_counts=True)[1]
    one = "one, the end of each run" if lineages.max() == 1 else f"up to {int(lineages.max())} of one lineage"
    stored = runs.conventions
    return {
        "corpora": _distinct(runs, "corpus"),
        "data_digests": _distinct(runs, "data_digest"),
        "tokenizers": _distinct(runs, "tokenizer"),
        "vocabulary_sizes": _distinct(runs, "vocab_size"),
        "metric": "held-out loss, nats per predicted token" if stored else "loss, as in the table",
        "held_out_part": _in_spec(runs, "heldout", default="full"),
        "standard_error_of_loss": _largest(runs, "loss_se"),
        "points_per_run": one if "lineage" in runs.frame.columns or "run_id" in runs.frame.columns else NOT_STATED,
        "smoothing": "none: held-out loss is measured" if stored else NOT_STATED,
        "interpolation": "none" if stored else NOT_STATED,
        "left_out_when_read": len(runs.dropped),
    }


def _fit(runs: Runs, objective: str, resamples: Any, weights: str, validation: str | None) -> dict[str, Any]:
    intervals = NOT_STATED
    if resamples is not None:
        intervals = f"{resamples.scheme} bootstrap, {resamples.draws} draws, seed {resamples.seed}"
    return {
        "loss": _SAID.get(objective, objective),
        "optimiser": "batched Levenberg-Marquardt, analytic Jacobian, float64",
        "initialisation": "variable projection grid, best of up to eight spread starts",
        "weights": weights,
        "exclusions": [f"{d.row}: {d.reason}" for d in runs.dropped[:_MANY]] or "none",
        "intervals": intervals,
        "validation": validation or NOT_STATED,
    }


def _distinct(runs: Runs, column: str) -> list[str] | str:
    """The distinct values of a column, sorted; their number and range where they are many."""
    if column not in runs.frame.columns:
        return NOT_STATED
    found = runs.frame[column].dropna()
    values = sorted({str(v) for v in found if str(v) != ""})
    if not values:
        return NOT_STATED
    if len(values) <= _MANY:
        return values
    try:
        numbers = found.astype(float)
    except ValueError:
        return [f"{len(values)} values"]
    return [f"{len(values)} values, {numbers.min():.4g} to {numbers.max():.4g}"]


def _largest(runs: Runs, column: str) -> float | str:
    if column not in runs.frame.columns or not runs.frame[column].notna().any():
        return NOT_STATED
    return float(runs.frame[column].max())


def _settings(runs: Runs, count: str) -> str:
    """How rate and batch were chosen, as far as the rows show it."""
    if "lr" not in runs.frame.columns or not runs.has("params") or not runs.has("flops"):
        return NOT_STATED
    import pandas as pd

    rate = pd.to_numeric(runs.frame["lr"], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(rate).all():
        return NOT_STATED
    keys = np.round(np.log(runs.params(count)), 9) + 1e3 * runs.budget
    tried = [len({f"{r:.6g}" for r in rate[keys == k]}) for k in np.unique(keys)]
    if max(tried) == 1:
        return "one rate at each size and budget" if np.unique(rate).size > 1 else "one rate for all"
    return f"grids of up to {max(tried)} rates at {sum(t > 1 for t in tried)} of {len(tried)} sizes and budgets"


def _objects(runs: Runs, column: str) -> list[dict[str, Any]]:
    if column not in runs.frame.columns:
        return []
    return [json.loads(v) for v in runs.frame[column] if isinstance(v, str) and v.startswith("{")]


def _in_spec(runs: Runs, *path: str, default: str = "default") -> list[str] | str:
    """Distinct values of a field of the canonical trials, where a field at its default is left out."""
    specs = _objects(runs, "spec")
    if not any(specs):
        return NOT_STATED
    found = set()
    for spec in specs:
        value: Any = spec
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        found.add(default if value is None else str(value))
    return sorted(found)


def _in_provenance(runs: Runs, key: str) -> list[str] | str:
    found = sorted({str(p[key])[:12] for p in _objects(runs, "provenance") if p.get(key)})
    if not found:
        return NOT_STATED
    return found if len(found) <= _MANY else [f"{len(found)} values"]
