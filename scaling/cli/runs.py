"""Commands about trials: init, run, status, reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.plans import print_study_plan
from scaling.errors import InputError
from scaling.provenance import cores as cores


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
    pack: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Train up to N trials of one shape side by side [default: 64 on a GPU]."),
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
            pack=pack,
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
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Make only the runs of this part; may be repeated."),
    ] = None,
    within: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Leave in good order within 90s, 9m or 2h.")
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Train nothing: make the page of the runs that are there.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Train nothing: show what is left, its FLOPs and its time, by part.")
    ] = False,
    workers: o.Workers = None,
    serial: o.Serial = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Run a published study end to end.

    Sweeps, fits, figures and a page. Call again to go on where an earlier call stopped.
    """
    from sweeps.studies import reproduce as reproduce_study

    target = Path(folder) if folder else Path("results") / f"{name}-{scale}"
    if plan:
        if page or within is not None:
            raise InputError("--plan trains nothing and makes no page; leave --page and --for out")
        print_study_plan(name, scale, target, part or (), workers, json)
        return 0
    seconds = out.seconds_of(within, "--for") if within is not None else None
    with out.stdout_to_stderr():
        found = reproduce_study(
            name,
            scale,
            target,
            workers=workers,
            serial=serial,
            quiet=quiet,
            seconds=seconds,
            parts=part or (),
            train=not page,
        )
    if json:
        out.print_json(found)
    else:
        print(f"{name} at {scale} scale: {target}")
        if found.get("reason"):
            print(found["reason"])
        readme = target / "README.md"
        if readme.exists():
            print(f"read {readme}")
    return 1 if found.get("failures") else 0
