"""The command fit: one law, one table. Imports neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.results import check_plot_file, estimate_cells, print_dropped, save_drawn, status_of, typed

if TYPE_CHECKING:
    from analysis.types import FitResult


def fit(
    context: typer.Context,
    table: o.Table,
    law: Annotated[str, typer.Option(metavar="NAME", help="`scaling list laws` names them.")] = "chinchilla",
    x: Annotated[
        str | None, typer.Option(metavar="NAME", help="Variable of a law that has one: params, tokens or flops.")
    ] = None,
    count: o.Count = "total",
    cost: o.Cost = "exact",
    objective: o.Objective = "huber_log",
    delta: Annotated[float, typer.Option(metavar="X", help="Of huber_log, in log loss.")] = 1e-3,
    nu: Annotated[
        str, typer.Option(metavar="X", help="Degrees of freedom of student_t, or profile for the likeliest.")
    ] = "4",
    weights: Annotated[
        str, typer.Option(metavar="NAME", help="none, seeds (noise of repeated runs) or se (column loss_se).")
    ] = "none",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    scheme: o.Scheme = "auto",
    multiplier: Annotated[
        str, typer.Option(metavar="NAME", help="Of the wild bootstrap: rademacher or mammen.")
    ] = "rademacher",
    stratify: Annotated[bool, typer.Option("--stratify", help="Case draws keep each budget's number of runs.")] = False,
    interval: o.Interval = "bca",
    verify: Annotated[bool, typer.Option(help="A second solver must find the same optimum.")] = True,
    columns: o.Columns = None,
    where: o.Where = None,
    allow_mixed_data: o.MixedData = False,
    plot: o.PlotFile = None,
    json: o.Json = False,
) -> None:
    """Fit one law, with intervals, a status and diagnostics."""
    from analysis.fitting import fit as fit_law

    check_plot_file(plot)
    found = fit_law(
        table,
        law,
        x=x,
        count=count,
        cost=cost,
        objective=objective,  # type: ignore[arg-type]
        delta=delta,
        nu=_nu(nu),
        weights=weights,
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        scheme=scheme,  # type: ignore[arg-type]
        multiplier=multiplier,  # type: ignore[arg-type]
        stratify=stratify,
        interval=interval,  # type: ignore[arg-type]
        verify=verify,
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    if json:
        out.print_json({**found.to_json(), "command": typed(context)})
    else:
        print_fit(found, table)
    if plot is not None:
        from analysis.figures.fitted import plot_fit

        save_drawn(plot_fit(found), plot)


def _nu(text: str) -> float | str:
    """Degrees of freedom, or the word for fitting them; the fit itself refuses other words."""
    try:
        return float(text)
    except ValueError:
        return text


def print_fit(found: FitResult, source: str, what: str = "runs") -> None:
    """A fit as a table for people; warnings and left-out rows go to stderr."""
    print(f"{found.law}: {found.model.formula}")
    print(f"{found.n} {what} of {source}; {found.objective} = {found.objective_value:.7g}; {status_of(found)}\n")
    out.print_table(
        ["parameter", "value", f"{found.level:.0%} interval", "unit"],
        [[name, *estimate_cells(e, 4), found.model.unit(name)] for name, e in found.params.items()],
        left=("parameter", "unit"),
    )
    for warning in found.warnings:
        out.note(f"warning: {warning}")
    print_dropped(found.dropped)
