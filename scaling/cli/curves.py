"""The command fit-curves: laws over learning-rate schedules, from training curves. Imports neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.fits import print_fit
from scaling.cli.results import typed

if TYPE_CHECKING:
    from analysis.curve_fits import CurveFit


def fit_curves(
    context: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A store, or a table of run, step, lr, loss.")],
    law: Annotated[str, typer.Option(metavar="NAME", help="multi_power or annealing.")] = "multi_power",
    train: Annotated[
        str | None, typer.Option(metavar="LIST", help="Runs to fit; the others are held out [default: all].")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option("--warmup-steps", min=0, metavar="N", help="Warmup that the logged points miss.")
    ] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME", help="The loss: loss or train_loss.")] = None,
    objective: o.Objective = "huber_log",
    bootstrap: o.Bootstrap = 100,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    points: Annotated[int, typer.Option(min=8, metavar="N", help="Of each curve, at most.")] = 256,
    json: o.Json = False,
) -> None:
    """Fit a law over learning-rate schedules to training curves, and score it on runs held out."""
    from analysis.curve_fits import fit_curves as fit_law

    found = fit_law(
        table,
        law,
        train=o.names_of(train) if train is not None else None,
        warmup_steps=warmup,
        column=column,
        objective=objective,  # type: ignore[arg-type]
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        points=points,
    )
    if json:
        out.print_json({**found.to_json(), "command": typed(context)})
        return
    print_fit(found, table, "points")
    _print_scores(found)


def _print_scores(found: CurveFit) -> None:
    print()
    out.print_table(
        ["run", "", "R²", "mean error", "at the end", "worst"],
        [
            [
                run,
                "fitted" if s.fitted else "held out",
                f"{s.r2:.4f}",
                out.number(s.mae),
                out.number(s.final),
                out.per_cent(s.worst),
            ]
            for run, s in found.scores.items()
        ],
        left=("run", ""),
    )
