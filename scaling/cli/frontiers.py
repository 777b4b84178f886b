"""The commands frontier and predict: what is optimal at a budget. They import neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.results import check_plot_file, estimate_cells, print_dropped, save_drawn, status_of

if TYPE_CHECKING:
    from analysis.types import Estimate, Frontier, FrontierSet, Prediction

MOST_POINTS = 6
"""Points of each frontier that a table for people shows."""


def frontier(
    table: o.Table,
    approach: Annotated[
        str, typer.Option(metavar="LIST", help="all, or some of those that `scaling list approaches` names.")
    ] = "all",
    count: Annotated[
        str, typer.Option(metavar="LIST", help="all, or some of total, non_embedding, non_embedding_head.")
    ] = "total",
    cost: Annotated[str, typer.Option(metavar="LIST", help="all, or some of exact, 6nd.")] = "exact",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    scheme: o.Scheme = "auto",
    law: o.SurfaceLaw = None,
    columns: o.Columns = None,
    where: o.Where = None,
    allow_mixed_data: o.MixedData = False,
    plot: o.PlotFile = None,
    json: o.Json = False,
) -> None:
    """Find the compute-optimal N*(C), D*(C), L*(C).

    By several approaches from the same draws, with intervals, and whether the approaches agree.
    """
    from analysis.frontiers import frontier as find

    check_plot_file(plot)
    found = find(
        table,
        o.names_of(approach),
        counts=o.names_of(count),
        costs=o.names_of(cost),
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        scheme=scheme,  # type: ignore[arg-type]
        law=law,
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    if json:
        out.print_json(found.to_json())
    else:
        _print_frontiers(found, level)
    if plot is not None:
        from analysis.figures.frontier import plot_frontier

        save_drawn(plot_frontier(found), plot)


def _print_frontiers(found: FrontierSet, level: float) -> None:
    names = [n for n in ("count", "cost") if len({getattr(f, n) for f in found}) > 1]
    first = found.frontiers[0]
    said = [f"N counts {first.count.replace('_', '-')} parameters"] * ("count" not in names)
    said += [f"C is {first.cost}"] * ("cost" not in names)
    print(", ".join([*said, f"intervals at {level:.0%}\n"]))
    out.print_table(
        ["approach", *names, "N* ~ C^", "N* interval", "D* ~ C^", "D* interval", "points", "status"],
        [
            [
                f.approach,
                *(getattr(f, n) for n in names),
                *estimate_cells(f.N_exponent),
                *estimate_cells(f.D_exponent),
                f"{sum(p.status.value == 'converged' for p in f.points)}/{len(f.points)}",
                f.status.value,
            ]
            for f in found
        ],
        left=("approach", "count", "cost", "status"),
        spare=("points", "D* interval"),
    )
    if names:
        _print_side_by_side(found, names)
    rows = [row for f in found for row in _point_rows(f, names)]
    if rows:
        print("\nat the largest budget" if names else "")
    out.print_table(
        ["approach", *names, "C", "N*", "D*", "L*", "tokens/N", "status"],
        rows,
        left=("approach", "count", "cost", "status"),
        spare=("tokens/N",),
    )
    _print_agreement(found, names)
    for f in found:
        where = f"{f.approach} ({', '.join(getattr(f, n) for n in names)})" if names else f.approach
        if f.reason:
            out.note(f"{where}: {f.status.value}: {f.reason}")
        for warning in f.warnings:
            out.note(f"warning: {where}: {warning}")
    print_dropped(list(dict.fromkeys(d for f in found for d in f.dropped)))


def _print_side_by_side(found: FrontierSet, names: list[str]) -> None:
    """The exponent of N* by approach, one column a convention: what the choice of convention alone does."""
    conventions = list(dict.fromkeys(tuple(str(getattr(f, n)) for n in names) for f in found))
    cells: dict[str, dict[tuple[str, ...], str]] = {}
    for f in found:
        text = out.number(f.N_exponent.value) if f.known else f.status.value
        cells.setdefault(f.approach, {})[tuple(str(getattr(f, n)) for n in names)] = text
    print("\nexponent of N* under each convention")
    out.print_table(
        ["approach", *(" ".join(c) for c in conventions)],
        [[approach, *(by.get(c, "") for c in conventions)] for approach, by in cells.items()],
        left=("approach",),
    )


def _print_agreement(found: FrontierSet, names: list[str]) -> None:
    pairs = found.agreement.get("pairs", [])
    if pairs:
        print(f"\nagreement on the exponent of N*, within {found.agreement['margin']:g}: {found.agreement['verdict']}")
    out.print_table(
        ["approaches", *names, "difference", "interval", "verdict"],
        [
            [
                f"{p['a']} - {p['b']}",
                *(p[n] for n in names),
                *estimate_cells(p["difference"]),
                str(p["verdict"]),
            ]
            for p in pairs
        ],
        left=("approaches", "count", "cost", "verdict"),
    )


def _point_rows(found: Frontier, names: list[str]) -> list[list[str]]:
    """Some of a frontier's points; where several conventions are shown, the one at the largest budget."""
    most, points = (1 if names else MOST_POINTS), found.points
    if len(points) > most:
        points = tuple(p for p in points if p.status.value == "converged") or points
    if len(points) > most:
        step = (len(points) - 1) / max(most - 1, 1)
        points = tuple(points[len(points) - 1 - round(i * step)] for i in reversed(range(most)))
    return [
        [
            found.approach,
            *(getattr(found, n) for n in names),
            out.number(p.flops),
            out.number(p.params),
            out.number(p.tokens),
            out.number(p.loss, 4),
            out.number(p.tokens / p.params),
            p.status.value,
        ]
        for p in points
    ]


def predict(
    table: o.Table,
    flops: Annotated[float | None, typer.Option(metavar="C", help="The budget, FLOPs; or")] = None,
    params: Annotated[float | None, typer.Option(metavar="N", help="the run's parameters")] = None,
    tokens: Annotated[float | None, typer.Option(metavar="D", help="and its tokens.")] = None,
    approach: Annotated[str, typer.Option(metavar="NAME", help="`scaling list approaches` names them.")] = "parametric",
    count: o.Count = "total",
    cost: o.Cost = "exact",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    scheme: o.Scheme = "auto",
    law: o.SurfaceLaw = None,
    columns: o.Columns = None,
    where: o.Where = None,
    allow_mixed_data: o.MixedData = False,
    json: o.Json = False,
) -> None:
    """Predict the best N, D and loss at a budget, or a run's loss.

    Give --flops for the optimum at a budget, or --params and --tokens for one run. The interval of the loss is that of
    a new run: what is not known of the law, and the noise of a run.
    """
    from analysis.predictions import predict as predict_run

    found = predict_run(
        table,
        flops=flops,
        params=params,
        tokens=tokens,
        approach=approach,
        count=count,
        cost=cost,
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        scheme=scheme,  # type: ignore[arg-type]
        law=law,
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    if json:
        out.print_json(found.to_json())
        if found.status.value != "converged":
            out.note(f"{found.approach}: {status_of(found)}")
    else:
        _print_prediction(found, level)
    for warning in found.warnings:
        out.note(f"warning: {warning}")


def _print_prediction(found: Prediction, level: float) -> None:
    print(f"C = {out.number(found.flops)} FLOPs by {found.approach}: {status_of(found)}\n")
    rows: list[tuple[str, Estimate, str]] = [
        ("params", found.params, "parameters"),
        ("tokens", found.tokens, "tokens"),
        ("loss", found.loss, "nats per predicted token, of one new run"),
    ]
    if found.mean_loss is not None:
        rows.append(("mean loss", found.mean_loss, "of runs like it"))
    rows += [(f"baseline {name}", guess, "loss") for name, guess in found.baselines.items()]
    out.print_table(
        ["", "value", f"{level:.0%} interval", "unit"],
        [[name, *estimate_cells(e, 4), unit] for name, e, unit in rows],
        left=("", "unit"),
    )
