"""The closed loop: fit what was run, predict a larger budget, register the prediction, train it, score it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.predictions import SURFACES, predict
from analysis.scoring import score
from analysis.types import Estimate, Prediction, Status, jsonable
from analysis.where import select_rows
from scaling import ledger
from scaling.errors import InputError, ScalingError
from scaling.provenance import version
from scaling.store import Store
from sweeps.definition import Sweep, load_sweep
from sweeps.run import Prepared, prepare_sweep

if TYPE_CHECKING:
    from analysis.figures.prediction import Scored

COUNT = "non_embedding"
COST = "exact"


@dataclass(frozen=True)
class Forecast:
    """A prediction of a sweep's optimum at a budget, and the sweep that trains it; or the reason why there is none."""

    flops: float
    prediction: Prediction | None
    target: Prepared | None
    reason: str = ""
    overrides: tuple[str, ...] = ()
    where: str = ""
    """The filter of the rows it rests on."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Runs to be trained."""
        if self.target is None:
            return ()
        return tuple(w.trial.run_id(self.target.digest) for w in self.target.wanted)


def rows_of(sweep: Sweep) -> str:
    """The `where` that keeps a sweep's own rows."""
    return f"sweep == '{sweep.name}'"


def best_at(
    store: Path, where: str, flops: float, *, level: float = 0.9, runs_averaged: int = 1, bootstrap: int = 1000
) -> Prediction:
    """The optimum at `flops` by the parametric fit, or by variable projection where that fails."""
    found = None
    for approach in SURFACES:
        found = predict(
            store, flops=flops, approach=approach, count=COUNT, cost=COST, level=level,
            where=where, runs_averaged=runs_averaged, bootstrap=bootstrap,
        )  # fmt: skip
        if found.loss.known and found.params.known:
            return found
    assert found is not None
    return found


def forecast(
    store: Path,
    sweep_file: Path,
    flops: float,
    *,
    level: float = 0.9,
    where: str | None = None,
    seeds: Sequence[int] = (),
    bootstrap: int = 1000,
) -> Forecast:
    """Predicts the optimum of `sweep_file`'s recipe at `flops` from its rows in `store`, and plans the run there.

    The loss is predicted for the very run that will be trained: its shape is the nearest the recipe has to N*.

    Args:
        store: the rows.
        sweep_file: an isoFLOP sweep.
        flops: the budget.
        level: of the intervals.
        where: rows the fit rests on; the sweep's own where it is left out.
        seeds: of the runs to be trained, whose mean loss is predicted; the sweep's own where left out.
        bootstrap: draws behind the intervals.
    """
    sweep = load_sweep(sweep_file)
    where = where or rows_of(sweep)
    optimum = best_at(store, where, flops, level=level, bootstrap=bootstrap)
    if not (optimum.loss.known and optimum.params.known):
        reason = f"no prediction: the fit is {optimum.status}, {optimum.reason}"
        return Forecast(flops, None, None, reason, where=where)
    overrides = target_overrides(sweep, flops, optimum.params.value, seeds)
    try:
        target = prepare_sweep(sweep_file, overrides)
    except ScalingError as error:
        reason = f"N* = {optimum.params.value:.3g} cannot be trained at {flops:.3g} FLOPs: {error}"
        return Forecast(flops, None, None, reason, where=where)
    trial = target.wanted[0].trial
    size = trial.objective.params(trial.architecture, target.vocab_size).by_name(COUNT)  # type: ignore[arg-type]
    there = predict(
        store,
        params=float(size),
        tokens=float(trial.tokens),
        approach=optimum.approach,
        count=COUNT,
        cost=COST,
        level=level,
        where=where,
        runs_averaged=len(target.wanted),
        bootstrap=bootstrap,
    )
    made = replace(optimum, loss=there.loss, mean_loss=there.mean_loss)
    return Forecast(flops, made, target, overrides=overrides, where=where)


def target_overrides(sweep: Sweep, flops: float, params: float, seeds: Sequence[int] = ()) -> tuple[str, ...]:
    """The settings that turn an isoFLOP sweep into the one run (or one a seed) at its predicted optimum."""
    return (
        f"name={sweep.name}-prediction",
        f"design.budgets=[{flops:.6g}]",
        f"design.sizes={{params: [{params:.4g}], count: {COUNT}}}",
        *([f"seeds={list(seeds)}"] if seeds else []),
    )


def standing(store: Path, sweep_file: Path, flops: float, *, seeds: Sequence[int] = ()) -> Forecast | None:
    """The forecast that an earlier call registered for this budget, so that it is trained and not made anew."""
    sweep = load_sweep(sweep_file)
    for entry in ledger.predictions(Store.open(store)):
        if entry.sweep == sweep.name and entry.target.flops == flops and entry.predicted.params is not None:
            overrides = target_overrides(sweep, flops, entry.predicted.params.value, seeds)
            return Forecast(flops, None, prepare_sweep(sweep_file, overrides), "registered before", overrides)
    return None


def register(store_path: Path, sweep_file: Path, made: Forecast) -> str | None:
    """Puts a forecast into the store's ledger, unless it stands there already; returns its id.

    Raises:
        InputError: the target was trained before it was predicted.
    """
    if made.prediction is None or made.target is None:
        return None
    store = Store.open(store_path, write=True)
    for entry in ledger.predictions(store):
        if set(entry.target.run_ids) == set(made.run_ids):
            return entry.id
    sweep = load_sweep(sweep_file)
    where = made.where or rows_of(sweep)
    rows = store.rows()
    fitted = rows[select_rows(rows, where) & (rows.status == "finished")]
    trial = made.target.wanted[0].trial
    size = trial.objective.params(trial.architecture, made.target.vocab_size).by_name(COUNT)  # type: ignore[arg-type]
    optimum = made.prediction
    return ledger.register(
        store,
        {
            "sweep": sweep.name,
            "objective": trial.objective.type,
            "target": {"flops": made.flops, "params": size, "tokens": trial.tokens, "run_ids": list(made.run_ids)},
            "predicted": {
                "loss": optimum.loss.to_json(),
                "params": optimum.params.to_json(),
                "tokens": optimum.tokens.to_json(),
            },
            "baselines": {name: jsonable(e.value) for name, e in optimum.baselines.items()},
            "fitted_on": ledger.FittedOn.of(fitted.run_id),
            "approach": optimum.approach,
            "law": "chinchilla",
            "command": f'scaling predict STORE --flops {made.flops:g} --count {COUNT} --where "{where}"',
            "version": version(),
        },
    )


@dataclass(frozen=True)
class Outcome:
    """A registered prediction and, once its runs are in, its score."""

    entry: ledger.Prediction
    made_after_training: bool
    reasons: tuple[str, ...]
    observed: tuple[float, ...]
    observed_se: float
    score: Any | None
    fitted_runs: str = ""
    """What of the runs it was fitted on is no longer there as it was; empty where all are."""

    def to_json(self) -> dict[str, Any]:
        """`{"id", "sweep", "objective", "flops", "registered_at", "predicted": {…}, "baselines", "observed": [],
        "observed_se", "made_after_training", "fitted_runs", "score": {…}|null}`."""
        entry = self.entry
        return jsonable(
            {
                "id": entry.id,
                "sweep": entry.sweep,
                "objective": entry.objective,
                "flops": entry.target.flops,
                "params": entry.target.params,
                "tokens": entry.target.tokens,
                "registered_at": entry.registered_at,
                "approach": entry.approach,
                "predicted": entry.predicted.model_dump(mode="json"),
                "baselines": entry.baselines,
                "observed": list(self.observed),
                "observed_se": self.observed_se,
                "made_after_training": self.made_after_training,
                "fitted_runs": self.fitted_runs,
                "score": self.score.to_json() if self.score is not None else None,
            }
        )

    def drawn(self) -> Scored:
        """As the figure `prediction` takes it."""
        from analysis.figures.prediction import Scored

        loss = self.entry.predicted.loss
        return Scored(
            name=self.entry.sweep,
            flops=self.entry.target.flops,
            predicted=_estimate(loss),
            observed=sum(self.observed) / len(self.observed) if self.observed else math.nan,
            observed_se=self.observed_se,
            baselines=_baselines(self.entry),
        )


def _estimate(stored: ledger.Estimate) -> Estimate:
    lo, hi = (math.nan if end is None else end for end in stored.ci)
    return Estimate(stored.value, (lo, hi), stored.level)


def _baselines(entry: ledger.Prediction) -> dict[str, Estimate]:
    level = entry.predicted.loss.level
    known = {name: value for name, value in entry.baselines.items() if value is not None}
    return {name: Estimate(value, (math.nan, math.nan), level) for name, value in known.items()}


def outcomes(store_path: Path) -> list[Outcome]:
    """Every prediction of a store's ledger, scored where its runs have finished.

    Raises:
        InputError: the ledger was altered.
    """
    store = Store.open(store_path)
    if breaks := ledger.check(store):
        raise InputError(f"{store_path / breaks[0].file}: {breaks[0].reason}")
    found = []
    for match in ledger.match(store):
        entry = match.prediction
        done = match.observed[match.observed.status == "finished"]
        losses = tuple(float(x) for x in done.loss)
        complete = set(done.run_id) == set(entry.target.run_ids)
        se = float((done.loss_se**2).sum() ** 0.5 / max(len(done), 1)) if losses else math.nan
        result = None
        if complete and losses:
            loss = _estimate(entry.predicted.loss)
            unknown = Estimate.missing(loss.level)
            as_made = Prediction(
                unknown, unknown, loss, entry.target.flops, Status.CONVERGED, baselines=_baselines(entry)
            )
            result = score(as_made, losses)
        found.append(
            Outcome(entry, match.made_after_training, tuple(match.reasons), losses, se, result, match.fitted_runs)
        )
    return found
