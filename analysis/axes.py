"""Whether the losses of two tables can be laid on one axis, and evaluations in the place of the loss.

Losses compare only over the same objective (a masked loss with its mask rate), tokenizer and held-out text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.table import Runs
from analysis.types import Array
from scaling.errors import InputError


def two_axes(a: Runs, b: Runs, same_axis: bool) -> str:
    """Why the two losses have no common axis; "" where they have."""
    if same_axis:
        return ""
    if not (_says(a) and _says(b)):
        return "the tables do not say that their losses are of one objective, tokenizer and held-out text (same_axis)"
    differ = [
        name
        for name in ("objective", "tokenizer", "vocab_size", "data_digest")
        if name in a.frame.columns and _values(a, name) != _values(b, name)
    ]
    parts = [n for n in ("objective", "heldout") if n not in differ and _parts(a, n) != _parts(b, n)]
    if apart := [*differ, *parts]:
        verb = "differs" if len(apart) == 1 else "differ"
        return f"the losses are on two axes: {', '.join(apart)} {verb}; compare a metric that both have"
    return ""


def _says(runs: Runs) -> bool:
    return {"objective", "tokenizer", "data_digest"} <= set(runs.frame.columns)


def _values(runs: Runs, name: str) -> set[str]:
    return {str(v) for v in runs.frame[name]}


def _parts(runs: Runs, name: str) -> set[str]:
    """A field of the canonical trials, such as the objective with its mask rate; empty where there are none."""
    if "spec" not in runs.frame.columns:
        return set()
    return {json.dumps(json.loads(s).get(name), sort_keys=True) for s in runs.frame["spec"] if str(s).startswith("{")}


def scored(runs: Runs, metric: str, rises: bool | None = None, settings: str = "") -> Runs:
    """The runs with an evaluation in the loss's place: an error, lower is better.

    Args:
        runs: of a store.
        metric: of its evals.
        rises: whether it is a share that rises as models improve, of which one less the share is taken; None: as
            `rising` reads it off these runs.
        settings: a part of the settings of the evaluation that is meant, where it was made with several.

    Raises:
        InputError: the table is no store, not every run has the metric, it was measured with several settings, or it is
            neither an error nor a share.
    """
    mean = _means(runs, metric, settings)
    if rises is None:
        rises = rising([runs], metric, settings)
    if rises:
        if mean.min() < 0 or mean.max() >= 1:
            raise InputError(
                f"{runs.source}: {metric!r} rises as the loss falls and is no share below 1; give an error"
            )
        mean = 1.0 - mean
    if mean.min() <= 0:
        raise InputError(f"{runs.source}: {metric!r} holds values that are not positive; give an error")
    return replace(runs, frame=runs.frame.assign(loss=mean, loss_se=np.nan))


def rising(sides: Sequence[Runs], metric: str, settings: str = "") -> bool:
    """Whether a metric rises as the loss falls: by the rank correlations of all sides, so that they read it alike."""
    total = 0.0
    for runs in sides:
        mean = _means(runs, metric, settings)
        if len(mean) > 1:
            own, loss = (np.argsort(np.argsort(v)).astype(np.float64) for v in (mean, runs.loss))
            total += len(mean) * float(np.corrcoef(own, loss)[0, 1])
    return total < 0


def _means(runs: Runs, metric: str, settings: str) -> Array:
    """The metric of each run, (n,), weighted by the items behind its values."""
    if "run_id" not in runs.frame.columns or not Path(runs.source).is_dir():
        raise InputError(f"{runs.source}: metric {metric!r} is read from a store's evals, and this is no store")
    from scaling.store import Store

    ids = [str(r) for r in runs.frame["run_id"]]
    store = Store.open(Path(runs.source))
    evals = store.evals(ids, metric)
    if len(evals) == 0:
        known = sorted({str(m) for m in store.evals(ids)["metric"]})
        raise InputError(f"{runs.source}: no evaluation {metric!r}; there are {', '.join(known) or 'none'}")
    evals = evals[evals["settings"].str.contains(settings, regex=False)]
    evals = evals[evals["eval_version"] == evals.groupby("settings")["eval_version"].transform("max")]
    made = sorted(set(evals["settings"]))
    if len(made) != 1:
        raise InputError(
            f"{runs.source}: {metric!r} was measured with {len(made) or 'no such'} settings; name one by a part of it:"
            f" {'; '.join(made) or settings}"
        )
    weight = evals["n"].fillna(1).clip(lower=1).astype(float)
    sums = (evals["value"] * weight).groupby(evals["run_id"].astype(str)).sum()
    mean = (sums / weight.groupby(evals["run_id"].astype(str)).sum()).reindex(ids).to_numpy(dtype=np.float64)
    if not np.isfinite(mean).all():
        lost = runs.labels[int(np.flatnonzero(~np.isfinite(mean))[0])]
        raise InputError(f"{runs.source}: run {lost} has no {metric!r}; filter it out with where")
    return mean


def below_baseline(runs: Runs, metric: str, settings: str = "") -> int:
    """How many runs' scores on a task do not beat their baselines by three standard errors (`analysis.probes`)."""
    from analysis.probes import BELOW, judge
    from scaling.store import Store

    evals = Store.open(Path(runs.source)).evals([str(r) for r in runs.frame["run_id"]])
    evals = evals[evals["settings"].str.contains(settings, regex=False)]
    return len({s.run_id for s in judge(evals) if s.metric == metric and s.status == BELOW})
