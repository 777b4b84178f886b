"""Choosing a law by what it predicts: held-out error first, AICc and BIC second.

Runs are held out by scale, never at random: the highest decade of compute, or one budget or one size at a time, since
the use of a law is to say what has not been run, and random folds reward interpolation (Choshen et al. 2024,
arXiv 2410.11840; Li et al. 2025, arXiv 2502.18969). AICc (Hurvich and Tsai 1989, Biometrika 76:297) and BIC (Schwarz
1978) take normal residuals of the log loss about each law's own least-squares fit, with n the number of runs: the
checkpoints of one run are one observation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import Resamples, choose_scheme, estimate, resample
from analysis.estimation import Estimated, estimate_law
from analysis.laws import get_law
from analysis.laws.base import Law
from analysis.overfitting import REPEATED
from analysis.table import Runs, check_name, read_table
from analysis.types import Array, Estimate, Status, jsonable, text_table
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

HOLDOUTS = ("top_decade", "budget", "size", "unique_tokens", "epochs")
LAWS = ("chinchilla", "power:params", "power:tokens", "power:flops", "power_floor:flops")
DRAWS = 200
LEAST_DRAWS = 20
SIZE_GROUPS = 10
"""More distinct sizes than this are held out in so many groups of neighbours."""
_DECADE = 10.0


@dataclass(frozen=True, repr=False)
class Candidate:
    """One law's record: errors over the `held_out` runs that it was not fitted to, and its fit to all runs.

    `are` is the mean absolute relative error, `log_rmse` the root mean square error of the log loss, `bias` its mean
    (predicted − observed), `coverage` the share of runs inside the prediction interval, `errors` (m,) the log errors by
    held-out row. `difference` is this law's log_rmse less the best law's, with its interval.
    """

    law: str
    status: Status
    reason: str = ""
    are: float = math.nan
    log_rmse: float = math.nan
    bias: float = math.nan
    coverage: float = math.nan
    aicc: float = math.nan
    bic: float = math.nan
    parameters: int = 0
    held_out: int = 0
    errors: Array = field(default_factory=lambda: np.empty(0))
    difference: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field but the errors by row, plain."""
        return jsonable({n: getattr(self, n) for n in self.__dataclass_fields__ if n != "errors"})


@dataclass(frozen=True, eq=False, repr=False)
class Choice:
    """Laws ranked by held-out error. `status` is `not_resolved` where a rival is within noise of the best."""

    holdout: str
    candidates: tuple[Candidate, ...]
    status: Status
    reason: str
    runs: int
    level: float
    rows: tuple[int | str, ...] = ()

    @property
    def best(self) -> str | None:
        """The law of the least held-out error; None where no law could be tried."""
        first = self.candidates[0] if self.candidates else None
        return first.law if first is not None and math.isfinite(first.log_rmse) else None

    def __getitem__(self, law: str) -> Candidate:
        """The record of that law.

        Raises:
            KeyError: it was not tried.
        """
        for candidate in self.candidates:
            if candidate.law == law:
                return candidate
        raise KeyError(f"no law {law!r} was tried; there are {', '.join(c.law for c in self.candidates)}")

    def to_json(self) -> dict[str, Any]:
        """`{"holdout", "best", "status", "reason", "runs", "level", "held_out_rows", "candidates": […]}`."""
        return jsonable(
            {
                "holdout": self.holdout,
                "best": self.best,
                "status": self.status.value,
                "reason": self.reason,
                "runs": self.runs,
                "level": self.level,
                "held_out_rows": self.rows,
                "candidates": self.candidates,
            }
        )

    def __repr__(self) -> str:
        head = f"held out: {self.holdout}; {self.status}" + (f", {self.reason}" if self.reason else "")
        header = ["law", "log RMSE", "less the best's", "|error|", "bias", f"in {self.level:.0%}", "AICc", "BIC", "fit"]
        rows = [
            [
                c.law,
                f"{c.log_rmse:.4f}",
                "" if c.difference is None else repr(c.difference),
                f"{c.are:.2%}",
                f"{c.bias:+.2%}",
                f"{c.coverage:.0%}",
                f"{c.aicc:.1f}",
                f"{c.bic:.1f}",
                c.status.value,
            ]
            for c in self.candidates
        ]
        return "\n".join([head, *text_table(header, rows)])


class _Fold(NamedTuple):
    """Rows to fit and rows to predict."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def choose(
    table: str | Path | pd.DataFrame | Runs,
    laws: Sequence[str] = LAWS,
    *,
    holdout: str = "top_decade",
    count: str = "total",
    cost: str = "exact",
    level: float = 0.9,
    seed: int = 0,
    bootstrap: int = DRAWS,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> Choice:
    """Ranks laws by their error on held-out runs of a table.

    Args:
        table: see `read_table`.
        laws: names, such as "chinchilla" or "power:flops"; see `list_laws()`.
        holdout: "top_decade" holds out the highest decade of compute, "budget" each budget in turn, "size" each size,
            "unique_tokens" each text that some run saw again, "epochs" the runs of more epochs than the geometric mean
            of one and the most.
        count, cost: what N counts and C means.
        level: of the prediction intervals and of the differences between laws.
        bootstrap, seed: draws of each fit, and their seed.
        columns, where: see `read_table`.

    Raises:
        InputError: no such holdout, law, count or cost; random folds are not offered.
        TableError: see `read_table`.
    """
    if holdout in ("random", "kfold", "cv"):
        raise InputError(f"holdout {holdout!r}: random folds test interpolation and are not offered; use top_decade")
    check_name("holdout", holdout, HOLDOUTS)
    if not 0.0 < level < 1.0 or bootstrap < LEAST_DRAWS:
        raise InputError(f"level {level} must be between 0 and 1, and bootstrap {bootstrap} at least {LEAST_DRAWS}")
    chosen = {name: get_law(name) for name in dict.fromkeys(laws)}
    if not chosen:
        raise InputError("no laws to choose from; name two or more")
    runs = read_table(table, columns=columns, where=where)
    flops = runs.flops(cost, count)
    folds, why = _folds(runs, runs.params(count), flops, holdout)
    clusters = int(np.unique(runs.lineage).size)
    rows = tuple(runs.labels[i] for f in folds for i in f.test)
    if not folds:
        empty = tuple(Candidate(name, Status.TOO_FEW_POINTS, why) for name in chosen)
        return Choice(holdout, empty, Status.TOO_FEW_POINTS, why, clusters, level, rows)
    tried = [
        _try(name, law, runs, _variables(law, runs, count, cost), folds, level, seed, bootstrap)
        for name, law in chosen.items()
    ]
    known = sorted(
        (t for t in tried if math.isfinite(t.record.log_rmse)), key=lambda t: (t.record.log_rmse, t.record.aicc)
    )
    lost = tuple(t.record for t in tried if not math.isfinite(t.record.log_rmse))
    if not known:
        return Choice(holdout, lost, Status.TOO_FEW_POINTS, lost[0].reason, clusters, level, rows)
    ranked = _compared(known, level, seed)
    status, reason = _verdict(ranked, known)
    return Choice(holdout, (*ranked, *lost), status, reason, clusters, level, rows)


def _folds(runs: Runs, params: Array, flops: Array, holdout: str) -> tuple[list[_Fold], str]:
    """The splits; or none, and why. A lineage never lies on both sides."""
    if holdout == "top_decade":
        line = flops.max() / _DECADE
        groups = [np.flatnonzero(flops >= line * (1 - 1e-9))]
        if flops.min() >= line:
            return (
                [],
                f"all runs lie within one decade of compute ({flops.max() / flops.min():.3g}×): none are below it",
            )
    elif holdout in ("unique_tokens", "epochs"):
        groups, why = _repeated(runs, holdout)
        if why:
            return [], why
    elif holdout == "budget":
        groups = [np.flatnonzero(runs.budget == k) for k in np.unique(runs.budget)]
    else:
        sizes = np.unique(np.round(np.log(params), 9), return_inverse=True)[1]
        if sizes.max() >= SIZE_GROUPS:
            # Grids that follow the optimum hold a size once: neighbours are held out together.
            sizes = sizes * SIZE_GROUPS // (sizes.max() + 1)
        groups = [np.flatnonzero(sizes == k) for k in np.unique(sizes)]
    if holdout in ("budget", "size") and len(groups) < 3:
        return [], f"{len(groups)} groups by {holdout}; holding one out needs three"
    folds = []
    for test in groups:
        train = np.flatnonzero(~np.isin(runs.lineage, runs.lineage[test]))
        if train.size:
            folds.append(_Fold(train, test))
    return folds, "" if folds else "every run shares a lineage with the held-out ones"


def _repeated(runs: Runs, holdout: str) -> tuple[list[NDArray[np.intp]], str]:
    """The runs of each text that was seen again, or all those of many epochs; or none, and why."""
    if not runs.has("unique_tokens"):
        return [], "the table has no unique_tokens"
    unique = runs.variable("unique_tokens")
    epochs = runs.tokens / unique
    if not (epochs > REPEATED).any():
        return [], "no run saw its text again"
    if holdout == "epochs":
        return [np.flatnonzero(epochs > max(REPEATED, math.sqrt(float(epochs.max())) * (1 + 1e-9)))], ""
    texts = np.unique(unique[epochs > REPEATED])
    return [np.flatnonzero(unique == u) for u in texts], ""


@dataclass(frozen=True, eq=False)
class _Tried:
    """A candidate with what a comparison needs: predictions of its draws (B, m), and its residual sd."""

    record: Candidate
    predicted: Array
    drawn: Array
    observed: Array
    sigma: float


def _variables(law: Law, runs: Runs, count: str, cost: str) -> dict[str, Array]:
    """What the law is a function of, (n,) each; what the table has not is left out."""
    return {v: runs.variable(v, count, cost) for v in law.variables if runs.has(v)}


def _try(
    name: str,
    law: Law,
    runs: Runs,
    data: Mapping[str, Array],
    folds: Sequence[_Fold],
    level: float,
    seed: int,
    draws: int,
) -> _Tried:
    missing = [v for v in law.variables if v not in data]
    nothing = np.empty(0)
    if missing or law.response != "loss":
        lacks = f"the table has no {', '.join(missing)}" if missing else f"it predicts {law.response}, not the loss"
        why = f"law {law.name}: {lacks}"
        return _Tried(Candidate(name, Status.TOO_FEW_POINTS, why), nothing, nothing, nothing, math.nan)
    log_loss = np.log(runs.loss)
    predicted, drawn, inside, status, reason = [], [], [], Status.CONVERGED, ""
    for k, fold in enumerate(folds):
        trained = {v: x[fold.train] for v, x in data.items()}
        found, resamples = _fitted(law, runs.take(fold.train), trained, seed + k, draws)
        if not found.usable:
            return _Tried(Candidate(name, found.status, found.reason), nothing, nothing, nothing, math.nan)
        if found.status is not Status.CONVERGED:
            status, reason = found.status, found.reason
        at = {v: data[v][fold.test] for v in law.variables}
        with np.errstate(all="ignore"):
            mean = np.log(law.predict(found.values, **at))
            cloud = np.log(law.predict({p: v[:, None] for p, v in found.draws.items()}, **at))
        noise = resamples.new_run(found.sigma, found.dof)[:, None]
        lo, hi = np.nanpercentile(cloud + noise, [50 * (1 - level), 50 * (1 + level)], axis=0)
        inside.append((lo <= log_loss[fold.test]) & (log_loss[fold.test] <= hi))
        predicted.append(mean)
        drawn.append(cloud)
    observed = log_loss[np.concatenate([f.test for f in folds])]
    error = np.concatenate(predicted) - observed
    aicc, bic, sigma, parameters = _information(law, runs, data)
    record = Candidate(
        name,
        status,
        reason,
        float(np.mean(np.abs(np.expm1(error)))),
        float(np.sqrt(np.mean(error**2))),
        float(np.mean(error)),
        float(np.mean(np.concatenate(inside))),
        aicc,
        bic,
        parameters,
        error.size,
        error,
    )
    return _Tried(record, np.concatenate(predicted), np.concatenate(drawn, axis=1), observed, sigma)


def _fitted(law: Law, runs: Runs, data: Mapping[str, Array], seed: int, draws: int) -> tuple[Estimated, Resamples]:
    """The law fitted to training runs and to draws of them, by Huber's loss."""
    scheme = choose_scheme(runs.lineage, None, "auto")
    resamples = resample(runs.lineage, draws=draws, seed=seed, scheme=scheme)
    return estimate_law(law, {v: data[v] for v in law.variables}, runs.loss, "huber_log", resamples), resamples


def _information(law: Law, runs: Runs, data: Mapping[str, Array]) -> tuple[float, float, float, int]:
    """AICc, BIC, residual sd of the log loss, and number of parameters, the noise's variance among them; all runs."""
    found = estimate_law(law, {v: data[v] for v in law.variables}, runs.loss, "ls_log", None)
    k, n = len(law.parameters) + 1, int(np.unique(runs.lineage).size)
    if not found.usable:
        return math.nan, math.nan, math.nan, k
    mean_square = float(np.mean((np.log(runs.loss) - found.log_fit) ** 2))
    deviance = n * (math.log(2 * math.pi * max(mean_square, 1e-300)) + 1)
    aicc = deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else math.inf
    return aicc, deviance + k * math.log(n), found.sigma, k


def _compared(known: Sequence[_Tried], level: float, seed: int) -> tuple[Candidate, ...]:
    """Candidates with the paired difference of their held-out error from the best's.

    Each draw takes every law's own refit and one set of held-out losses for all laws, the observed ones shaken by the
    noise of the law that fits closest, so that noise which all laws meet alike drops out of a difference.
    """
    from dataclasses import replace

    best = known[0]
    sigma = float(np.nanmin([t.sigma for t in known]))
    shaken = best.observed + sigma * np.random.default_rng([seed, 21]).standard_normal(best.drawn.shape)

    def errors(tried: _Tried) -> Array:
        return np.asarray(np.sqrt(np.mean((tried.drawn - shaken) ** 2, axis=1)))

    reference, found = errors(best), [best.record]
    for tried in known[1:]:
        difference = estimate(tried.record.log_rmse - best.record.log_rmse, errors(tried) - reference, level)
        found.append(replace(tried.record, difference=difference))
    return tuple(found)


def _verdict(ranked: Sequence[Candidate], known: Sequence[_Tried]) -> tuple[Status, str]:
    best = ranked[0]
    same = [
        c.law
        for c, t in zip(ranked[1:], known[1:], strict=True)
        if c.difference is None or not c.difference.ci[0] > 0 or np.allclose(t.predicted, known[0].predicted, atol=1e-9)
    ]
    if same:
        return Status.NOT_RESOLVED, f"{', '.join(same)} within noise of {best.law} on the held-out runs"
    if best.status is not Status.CONVERGED:
        return best.status, f"the best law, {best.law}: {best.reason}"
    return Status.CONVERGED, ""
