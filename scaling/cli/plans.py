"""What a sweep will cost, what is done and what it can resolve (the command plan); what a study has left to train."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.provenance import cores

if TYPE_CHECKING:
    from sweeps.plan import Plan, PlanRow


def plan(
    sweep: o.SweepFile,
    store: o.StoreOption = None,
    workers: o.Workers = None,
    overrides: o.Overrides = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate", help="Measure this machine anew, or never [default: where that was not done]."
        ),
    ] = None,
    compile_trials: Annotated[
        bool | None, typer.Option("--compile/--eager", help="Plan compiled or eager trials [default: by cost].")
    ] = None,
    power: Annotated[
        bool, typer.Option("--power", help="Simulate the fit: the intervals its exponents would get.")
    ] = False,
    surface: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE", help="With --power: simulate the surface fitted to it [default: the store, or published]."
        ),
    ] = None,
    noise: Annotated[
        float | None, typer.Option(metavar="S", help="With --power: noise of a log loss [default: the table's].")
    ] = None,
    count: Annotated[str, typer.Option(metavar="NAME", help="With --power: what N counts.")] = "non_embedding",
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> None:
    """Show every trial: size, tokens, FLOPs, time, memory, state.

    Times are measured on this machine: once, for some seconds, through the training path itself. --power simulates
    the sweep's fit, noise included, and says what the budget cannot resolve.
    """
    from sweeps.definition import load_sweep
    from sweeps.run import default_store, plan_sweep

    definition = load_sweep(sweep, overrides or ())
    at_once = workers or cores()
    place = Path(store) if store else default_store(definition)
    when = _when_to_calibrate(calibrate)
    with out.stdout_to_stderr():
        found = plan_sweep(
            definition, place, workers=at_once, calibrate=when, compile_trials=compile_trials, say=out.note
        )
    resolves = None
    if power:
        from sweeps.power import power as simulate

        resolves = simulate(found, surface=surface, noise=noise, count=count, level=level, seed=seed, own_store=place)
    if json:
        shown = found.to_json(at_once) | {"disk_free_bytes": _free_bytes(place)}
        out.print_json(shown | ({"power": resolves.to_json()} if resolves is not None else {}))
        return
    _print_plan(found, at_once, _free_bytes(place))
    if resolves is not None:
        print("\nwhat it can resolve:")
        for line in resolves.lines:
            print(f"  {line}")


def print_study_plan(
    name: str, scale: str, target: Path, parts: Sequence[str], workers: int | None, json: bool
) -> None:
    """Prints what a study has left to train."""
    from sweeps.studies import plan as plan_of

    with out.stdout_to_stderr():
        found = plan_of(
            name, scale, target, workers=workers, parts=parts, calibrate=_when_to_calibrate(None), say=out.note
        )
    if json:
        out.print_json(found.to_json())
        return
    at_once = f"{found.workers} worker{'s' * (found.workers > 1)}"
    print(f"{name} at {scale} scale: {target}")
    print(
        f"{out.number(found.flops_left)} FLOPs left;"
        f" {'about ' * math.isfinite(found.seconds_left)}{out.duration(found.seconds_left)} on {at_once}"
        f"{'' if found.measured else ' (by rates of another machine)'}"
    )
    print()
    out.print_table(
        ["part", "runs", "done", "to be chosen", "FLOPs left", "time"],
        [
            [
                p.part,
                out.number(p.runs),
                out.number(p.done),
                out.number(len(p.later)),
                out.number(p.flops_left),
                out.duration(p.seconds_left),
            ]
            for p in found.parts
        ],
        left=("part",),
    )
    print("\nto be chosen: runs whose size a forecast has yet to choose; a run that two parts need counts in the first")


def _when_to_calibrate(wanted: bool | None) -> str:
    if wanted is None:
        return "never" if os.environ.get("SCALING_CALIBRATE") == "0" else "missing"
    return "always" if wanted else "never"


def _free_bytes(store: Path) -> int:
    """Free bytes on the disk where a store lies or will lie."""
    place = store.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _print_plan(found: Plan, workers: int, free: int) -> None:
    states = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in found.counts.items())
    left = sum(row.flops_marginal for row in found.left)
    print(f"{found.sweep}: {found.description}" if found.description else found.sweep)
    print(f"{len(found.rows)} trials ({found.design}): {states}")
    print(
        f"{out.number(found.flops)} FLOPs, {out.number(left)} left;"
        f" about {out.duration(found.wall_seconds(workers))} on {workers} worker{'s' * (workers > 1)}"
        f"{'' if found.measured else ' (by rates of another machine)'}"
    )
    if found.left:
        need = found.peak_disk_bytes(workers)
        print(f"disk: {out.size(found.disk_bytes)} to stay, {out.size(need)} at most; {out.size(free)} free")
    print()
    header = ["run", "N", "shape", "FLOPs", "tokens", "tok/N", "steps", "batch", "lr", "time", "memory", "state"]
    out.print_table(
        header,
        [_plan_cells(row) for row in found.rows],
        left=("run", "shape", "state"),
        spare=("batch", "lr", "steps", "tok/N"),
    )
    print("\nN: non-embedding parameters; shape: layers x width x heads; FLOPs: exact")
    for notice in found.notices:
        out.note(f"note: {notice}")
    for warning in found.warnings:
        out.note(f"warning: {warning}")
    if found.left and found.peak_disk_bytes(workers) > free:
        out.note(f"warning: the run needs {out.size(found.peak_disk_bytes(workers))} and {out.size(free)} are free")


def _plan_cells(row: PlanRow) -> list[str]:
    return [
        (row.run_id or "–")[:8],
        out.number(row.params["non_embedding"]),
        "x".join(str(n) for n in (row.n_layer, row.d_model, row.n_head) if n is not None),
        out.number(row.flops),
        out.number(float(f"{row.tokens:.3g}") if row.tokens >= 1e7 else row.tokens),
        out.number(row.tokens_per_param),
        out.number(row.steps),
        out.number(row.batch_tokens),
        out.number(row.lr, 2),
        out.duration(row.seconds),
        out.size(row.memory_bytes),
        row.status.replace("_", " "),
    ]
