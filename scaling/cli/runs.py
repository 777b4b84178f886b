"""Commands about trials: init, plan, run, status, reproduce."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out

if TYPE_CHECKING:
    from sweeps.plan import Plan, PlanRow


def init(
    file: Annotated[str, typer.Argument(metavar="FILE.yaml", help="The file to write; it must not exist.")],
    json: o.Json = False,
) -> None:
    """Write a commented sweep definition, to be edited."""
    from sweeps.template import write_template

    path = write_template(file)
    if json:
        out.print_json({"file": str(path)})
    else:
        print(f"wrote {path}; next: scaling plan {path}")


def plan(
    sweep: o.SweepFile,
    store: o.StoreOption = None,
    workers: o.Workers = None,
    overrides: o.Overrides = None,
    json: o.Json = False,
) -> None:
    """Show every trial: size, tokens, FLOPs, time, memory, state."""
    from sweeps.definition import load_sweep
    from sweeps.run import default_store, plan_sweep

    definition = load_sweep(sweep, overrides or ())
    with out.stdout_to_stderr():
        found = plan_sweep(definition, Path(store) if store else default_store(definition))
    at_once = workers or cores()
    if json:
        out.print_json(found.to_json(at_once))
    else:
        _print_plan(found, at_once)


def _print_plan(found: Plan, workers: int) -> None:
    states = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in found.counts.items())
    left = sum(row.flops for row in found.left)
    print(f"{found.sweep}: {found.description}" if found.description else found.sweep)
    print(f"{len(found.rows)} trials ({found.design}): {states}")
    print(
        f"{out.number(found.flops)} FLOPs, {out.number(left)} left;"
        f" about {out.duration(found.wall_seconds(workers))} on {workers} worker{'s' * (workers > 1)}"
        f"{'' if found.measured else ' (by rates of another machine)'}\n"
    )
    header = ["run", "N", "shape", "FLOPs", "tokens", "tok/N", "steps", "batch", "lr", "time", "memory", "state"]
    out.print_table(
        header,
        [_plan_cells(row) for row in found.rows],
        left=("run", "shape", "state"),
        spare=("batch", "lr", "steps", "tok/N"),
    )
    print("\nN: non-embedding parameters; shape: layers x width x heads; FLOPs: exact")
    for warning in found.warnings:
        out.note(f"warning: {warning}")


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


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    sweep: o.SweepFile,
    store: o.StoreOption = None,
    workers: o.Workers = None,
    address: Annotated[str | None, typer.Option(metavar="ADDR", help="Run on the Ray cluster at this address.")] = None,
    gpus_per_trial: Annotated[
        float, typer.Option(min=0.0, metavar="X", help="GPUs, or a share, for each trial.")
    ] = 0.0,
    serial: o.Serial = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Run at most N trials.")] = None,
    within: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Leave in good order within 90s, 9m or 1h30m.")
    ] = None,
    overrides: o.Overrides = None,
    compile_trials: Annotated[
        bool | None, typer.Option("--compile/--eager", help="Force compiled or eager [default: by cost].")
    ] = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Run what the store lacks of a sweep.

    Ctrl-C checkpoints what runs and leaves within seconds, a second one leaves at once; rerun to go on.
    Exit status: 0 done, 1 some trial failed, 2 the input is wrong, 130 or 143 interrupted.
    """
    from sweeps.run import run_sweep

    seconds = out.seconds_of(within, "--for") if within is not None else None
    if store is not None and (Path(store) / "format.json").exists():
        # Before a corpus is prepared, which may take a minute.
        from scaling.store import Store

        Store.open(store, write=True)
    with out.stdout_to_stderr():
        outcome = run_sweep(
            sweep,
            Path(store) if store else None,
            workers=workers,
            address=address,
            gpus_per_trial=gpus_per_trial,
            serial=serial,
            limit=limit,
            seconds=seconds,
            overrides=overrides or (),
            quiet=quiet,
            compile_trials=compile_trials,
        )
    if json:
        out.print_json(outcome.to_json())
    else:
        for line in outcome.lines:
            print(line)
    return outcome.exit_status


def status(
    store: o.StoreFolder,
    sweep: Annotated[
        str | None, typer.Option(metavar="SWEEP.yaml", help="Also count what this sweep still lacks.")
    ] = None,
    overrides: o.Overrides = None,
    json: o.Json = False,
) -> None:
    """Show what finished, runs or failed, and the time left.

    Time left is weighted by FLOPs; with --sweep it counts the trials that have not begun as well.
    """
    from scaling.cli.progress import progress_of

    found = progress_of(Path(store), sweep, overrides or ())
    if json:
        out.print_json(found)
    else:
        _print_status(found)


def _print_status(found: dict[str, Any]) -> None:
    counts = found["counts"]
    print(f"{found['store']}: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n or state == "finished"))
    print(f"{out.number(found['flops_done'])} FLOPs done", end="")
    if found["flops_left"] is None:
        print(
            "" if not found["running"] else "; what is left is not known: name the sweep with --sweep SWEEP.yaml",
            end="",
        )
    elif found["flops_left"] > 0:
        left = out.duration(found["seconds_left"]) if found["seconds_left"] is not None else "an unknown time"
        print(f", {out.number(found['flops_left'])} left: about {left}", end="")
    else:
        print(", nothing left", end="")
    print()
    if found["running"]:
        print()
    out.print_table(
        ["running", "sweep", "step", "done", "heard of", "where"],
        [
            [
                r["run_id"],
                r["sweep"] or "–",
                f"{out.number(r['step'])}/{out.number(r['steps'])}",
                f"{r['fraction']:.0%}" if r["fraction"] is not None else "–",
                f"{out.duration(r['age_s'])} ago",
                f"{r['host']}:{r['pid']}",
            ]
            for r in found["running"]
        ],
        left=("running", "sweep", "where"),
        spare=("where", "heard of"),
    )
    for state in ("stopped", "failed", "diverged"):
        for run in found[state]:
            print(f"{state} {run['run_id']}: {run['reason']}")
    for item in found["quarantined"]:
        print(f"quarantined {item['file']}: {item['reason']}")


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study; `scaling list studies` names them.")],
    scale: Annotated[str, typer.Option(metavar="SCALE", help="smoke, toy or full.")] = "toy",
    folder: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="The study's folder [default: results/<name>-<scale>].")
    ] = None,
    workers: o.Workers = None,
    serial: o.Serial = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Run a published study end to end.

    Sweeps, fits, figures, and a prediction that is registered, trained and scored. Call again to go on where an
    earlier call stopped.
    """
    from sweeps.studies import reproduce as reproduce_study

    target = Path(folder) if folder else Path("results") / f"{name}-{scale}"
    with out.stdout_to_stderr():
        found = reproduce_study(name, scale, target, workers=workers, serial=serial, quiet=quiet)
    if json:
        out.print_json(found)
    else:
        print(f"{name} at {scale} scale: {target}")
        readme = target / "README.md"
        if readme.exists():
            print(f"read {readme}")
    return 1 if found.get("failures") else 0
