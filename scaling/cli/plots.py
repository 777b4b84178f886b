"""The command plot: the canonical figures of a table. Imports neither torch nor ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out


def plot(
    table: o.Table,
    figure: Annotated[
        str | None, typer.Option(metavar="LIST", help="`scaling list figures` names them [default: all that can be].")
    ] = None,
    folder: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the files go.")] = "figures",
    approach: Annotated[str, typer.Option(metavar="LIST", help="Approaches of the frontier.")] = "all",
    count: o.Count = "total",
    cost: o.Cost = "exact",
    law: Annotated[str, typer.Option(metavar="NAME", help="Law of the figures of a fit.")] = "chinchilla",
    objective: o.Objective = "huber_log",
    against: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The other table of the figure comparison.")
    ] = None,
    flops: Annotated[float | None, typer.Option(metavar="C", help="Extrapolate to this budget.")] = None,
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    width: Annotated[float, typer.Option(metavar="MM", help="Width of a figure: 85 to 170 mm.")] = 170.0,
    columns: o.Columns = None,
    where: o.Where = None,
    allow_mixed_data: o.MixedData = False,
    json: o.Json = False,
) -> None:
    """Draw the canonical figures as SVG, PDF, PNG and CSV."""
    from analysis.figures import plot as draw

    scored: Any = ()
    if os.path.isdir(table):
        from scaling.cli.predictions import scored_for_figure

        scored = scored_for_figure(Path(table))
    drawn = draw(
        table,
        figure,
        out=folder,
        approach=o.names_of(approach) if approach != "all" else approach,
        count=count,
        cost=cost,
        law=law,
        objective=objective,
        against=against,
        target=flops,
        scored=scored,
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        width_mm=width,
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    files = {name: [str(path) for path in paths] for name, paths in drawn.files.items()}
    if json:
        figures = [{"name": name, "files": paths} for name, paths in files.items()]
        skipped = [{"name": name, "reason": reason} for name, reason in drawn.skipped.items()]
        out.print_json({"figures": figures, "skipped": skipped})
        return
    for name, paths in files.items():
        endings = ",".join(Path(p).suffix[1:] for p in paths)
        print(f"{name}: {Path(paths[0]).with_suffix('')}.{{{endings}}}")
    for name, reason in drawn.skipped.items():
        out.note(f"not drawn: {name}: {reason}")
