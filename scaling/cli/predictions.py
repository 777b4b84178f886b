"""Commands about predictions made before training: register, score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.results import typed
from scaling.errors import InputError

if TYPE_CHECKING:
    from analysis.types import Estimate
    from scaling import ledger
    from sweeps.expand import Wanted
    from sweeps.run import Prepared

SAME_BUDGET = 0.05
"""A target run whose exact FLOPs are further than this share from the budget that was named is refused."""


def register(
    context: typer.Context,
    store: o.StoreFolder,
    flops: Annotated[float | None, typer.Option(metavar="C", help="The budget, exact FLOPs.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="SWEEP.yaml", help="Predict this sweep's optimum at the budget; or")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--run", metavar="SWEEP.yaml", help="predict the very runs of this sweep.")
    ] = None,
    overrides: o.Overrides = None,
    approach: Annotated[str, typer.Option(metavar="NAME", help="With --run: parametric or vpnls.")] = "parametric",
    count: Annotated[str, typer.Option(metavar="NAME", help="With --run: what N counts.")] = "non_embedding",
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    where: Annotated[
        str | None, typer.Option(metavar="EXPR", help="With --run: the rows to fit [default: the target's objective].")
    ] = None,
    json: o.Json = False,
) -> None:
    """Put a prediction into the ledger, before training.

    --like predicts the optimum of the sweep that was run, at --flops, and prints the command that trains it;
    --run predicts the loss of the very runs that a sweep file defines.
    """
    from scaling import ledger
    from scaling.store import Store

    if (like is None) == (target is None):
        raise InputError(
            "register needs --like SWEEP.yaml (its optimum at --flops) or --run SWEEP.yaml (its very runs)"
        )
    path = Path(store)
    if target is not None:
        how = {"approach": approach, "count": count, "level": level, "seed": seed}
        identities = _register_runs(path, target, overrides or (), flops, where, how, typed(context))
        command = out.command_line("scaling run", [target, "--store", store, *_flags(overrides or ())])
    else:
        assert like is not None
        identities, command = _register_optimum(path, like, flops, overrides, level)
    entries = [e for e in ledger.predictions(Store.open(path)) if e.id in identities]
    if json:
        out.print_json({"registered": [_entry(e) for e in entries], "command": command})
        return
    for entry in entries:
        loss, aim = entry.predicted.loss, entry.target
        print(
            f"registered {entry.id}: loss {out.number(loss.value, 4)} {_ends(loss)} at {out.number(aim.flops)} FLOPs,"
            f" N = {out.number(aim.params)}, D = {out.number(aim.tokens)}"
        )
    print(f"train: {command}\nscore: scaling score {store}")


def _ends(estimate: ledger.Estimate) -> str:
    lo, hi = estimate.ci
    return "" if lo is None or hi is None else out.interval((lo, hi), 4)


def _flags(overrides: Any) -> list[str]:
    return [word for text in overrides for word in ("--set", text)]


def _entry(entry: ledger.Prediction) -> dict[str, Any]:
    return {"id": entry.id, **entry.model_dump(mode="json")}


def _register_optimum(
    path: Path, sweep: str, flops: float | None, overrides: Any, level: float
) -> tuple[set[str], str]:
    """Registers the optimum of a sweep's recipe at a budget; returns the entry's id and the command that trains it."""
    from scaling.store import Store
    from sweeps.studies import closed_loop

    if flops is None or not flops > 0:
        raise InputError("register --like needs --flops C, a positive budget")
    if overrides:
        raise InputError("register --like takes no --set; write the sweep as it was run")
    Store.open(path)
    with out.stdout_to_stderr():
        made = closed_loop.forecast(path, Path(sweep), flops, level=level)
    identity = closed_loop.register(path, Path(sweep), made)
    if identity is None:
        raise InputError(f"{path}: {made.reason}")
    return {identity}, out.command_line("scaling run", [sweep, "--store", str(path), *_flags(made.overrides)])


def _register_runs(
    path: Path, sweep: str, overrides: Any, flops: float | None, where: str | None, how: dict[str, Any], command: str
) -> set[str]:
    """Registers one prediction for each distinct size and horizon among a sweep's trials; returns their ids."""
    from scaling import ledger
    from scaling.store import Store
    from sweeps.run import prepare_sweep

    store = Store.open(path, write=True)
    with out.stdout_to_stderr():
        ready = prepare_sweep(sweep, overrides)
    groups: dict[tuple[int, int], list[Wanted]] = {}
    for item in ready.wanted:
        size = item.trial.objective.params(item.trial.architecture, ready.vocab_size).by_name(how["count"])
        groups.setdefault((size, item.trial.tokens), []).append(item)
    contents = [
        _content(path, ready, group, size, tokens, flops, where, how, command)
        for (size, tokens), group in groups.items()
    ]
    return {ledger.register(store, content) for content in contents}


def _content(
    path: Path,
    ready: Prepared,
    group: list[Wanted],
    size: int,
    tokens: int,
    flops: float | None,
    where: str | None,
    how: dict[str, Any],
    command: str,
) -> dict[str, Any]:
    """A ledger entry for runs of one size and horizon, of which the loss to be met is the mean."""
    from analysis.predictions import predict
    from analysis.table import read_table
    from scaling import ledger
    from scaling.cost import trial_flops
    from scaling.provenance import version

    trial = group[0].trial
    exact = float(sum(trial_flops(trial, ready.vocab_size).values()))
    if flops is not None and abs(exact / flops - 1) > SAME_BUDGET:
        raise InputError(
            f"sweep {ready.sweep.name}: a run of {size:,} parameters costs {exact:.4g} FLOPs, not --flops {flops:g};"
            " mend the sweep or leave --flops out"
        )
    runs = read_table(path, where=where or f"objective == '{trial.objective.type}'")
    found = predict(runs, params=size, tokens=tokens, runs_averaged=len(group), **how)
    if not found.loss.known:
        raise InputError(f"{path}: no prediction: the fit is {found.status.value}, {found.reason}")
    best = predict(runs, flops=exact, **how)
    return {
        "sweep": ready.sweep.name,
        "objective": trial.objective.type,
        "target": {
            "flops": exact,
            "params": size,
            "tokens": tokens,
            "run_ids": [w.trial.run_id(ready.digest) for w in group],
        },
        "predicted": {
            "loss": found.loss.to_json(),
            "params": _known(best.params),
            "tokens": _known(best.tokens),
        },
        "baselines": {name: e.value if e.known else None for name, e in best.baselines.items()},
        "fitted_on": ledger.FittedOn.of(str(i) for i in runs.frame["run_id"]),
        "approach": how["approach"],
        "law": "chinchilla",
        "command": command,
        "version": version(),
    }


def _known(estimate: Estimate) -> dict[str, Any] | None:
    return estimate.to_json() if estimate.known else None


def score(store: o.StoreFolder, json: o.Json = False) -> None:
    """Score the ledger's predictions, beside two baselines."""
    from sweeps.studies.closed_loop import outcomes

    found = outcomes(Path(store))
    if json:
        out.print_json({"predictions": [{**f.to_json(), "reasons": list(f.reasons)} for f in found]})
        return
    if not found:
        print(f"{store}: no predictions; `scaling register` makes one")
    out.print_table(
        ["prediction", "C", "N", "predicted", "interval", "observed", "error", "inside", "interval score"],
        [_score_cells(f) for f in found],
        left=("prediction", "inside"),
        spare=("N", "interval score"),
    )
    scored = [(f.entry.id[:8], f.score.skill) for f in found if f.score is not None]
    names = list(dict.fromkeys(name for _, skill in scored for name in skill))
    if names:
        print("\nskill against baselines: 1 - |error| / |baseline's error|")
        out.print_table(
            ["prediction", *(n.replace("_", " ") for n in names)],
            [[identity, *(out.number(skill.get(n)) for n in names)] for identity, skill in scored],
            left=("prediction",),
        )
    for f in found:
        if f.made_after_training:
            out.note(f"warning: {f.entry.id}: no prediction, its runs began before it: {'; '.join(f.reasons)}")
        if f.fitted_runs:
            out.note(f"note: {f.entry.id}: {f.fitted_runs}; what was registered stands")


def _score_cells(found: Any) -> list[str]:
    loss, result = found.entry.predicted.loss, found.score
    waiting = f"{len(found.observed)} of {len(found.entry.target.run_ids)} runs in"
    return [
        found.entry.id[:8],
        out.number(found.entry.target.flops),
        out.number(found.entry.target.params),
        out.number(loss.value, 4),
        _ends(loss),
        out.number(result.observed, 4) if result is not None else waiting,
        f"{result.error_relative:+.2%}" if result is not None else "–",
        ("yes" if result.inside else "no") if result is not None else "–",
        out.number(result.interval_score) if result is not None else "–",
    ]


def scored_for_figure(path: Path) -> list[Any]:
    """The store's predictions as the figure `prediction` takes them; none where the ledger is empty."""
    from scaling import ledger

    if not any((path / ledger.FOLDER).glob("*.json")):
        return []
    from sweeps.studies.closed_loop import outcomes

    return [found.drawn() for found in outcomes(path)]
