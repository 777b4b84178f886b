"""Commands about rows: fit, frontier, predict, plot. None of them imports torch or ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.errors import InputError

if TYPE_CHECKING:
    from analysis.types import FitResult, Frontier, FrontierSet, Prediction

MOST_POINTS = 6
"""Points of each frontier that a table for people shows."""


def fit(
    context: typer.Context,
    table: o.Table,
    law: Annotated[str, typer.Option(metavar="NAME", help="`scaling list laws` names them.")] = "chinchilla",
    x: Annotated[
        str | None, typer.Option(metavar="NAME", help="Variable of a law that has one: params, tokens or flops.")
    ] = None,
    count: o.Count = "total",
    cost: o.Cost = "exact",
    objective: Annotated[str, typer.Option(metavar="NAME", help="huber_log, ls_log or ls.")] = "huber_log",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    scheme: o.Scheme = "auto",
    interval: Annotated[str, typer.Option(metavar="NAME", help="percentile or bca.")] = "percentile",
    columns: o.Columns = None,
    where: o.Where = None,
    allow_mixed_data: o.MixedData = False,
    json: o.Json = False,
) -> None:
    """Fit one law, with intervals, a status and diagnostics."""
    from analysis.fitting import fit as fit_law

    found = fit_law(
        table,
        law,
        x=x,
        count=count,
        cost=cost,
        objective=objective,  # type: ignore[arg-type]
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        scheme=scheme_of(scheme),
        interval=interval,
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    if json:
        out.print_json({**found.to_json(), "command": typed(context)})
    else:
        _print_fit(found, table)


def typed(context: typer.Context) -> str:
    """The command as it was typed, without what changes nothing of its answer."""
    arguments = [a for a in context.find_root().meta.get("scaling.arguments", []) if a != "--json"]
    return out.command_line("scaling", arguments)


def scheme_of(name: str) -> Any:
    """Checks the name of a bootstrap scheme. Raises InputError."""
    if name not in ("auto", "case", "noise"):
        raise InputError(f"there is no scheme {name!r}; there are auto, case, noise")
    return name


def _print_fit(found: FitResult, table: str) -> None:
    print(f"{found.law}: {found.model.formula}")
    print(f"{found.n} runs of {table}; {found.objective} = {found.objective_value:.7g}; {_status(found)}\n")
    out.print_table(
        ["parameter", "value", f"{found.level:.0%} interval", "unit"],
        [[n, out.number(e.value, 4), out.interval(e.ci, 4), found.model.unit(n)] for n, e in found.params.items()],
        left=("parameter", "unit"),
    )
    for warning in found.warnings:
        out.note(f"warning: {warning}")
    _print_dropped(found.dropped)


def _status(found: Any) -> str:
    return f"{found.status.value}{': ' + found.reason if found.reason else ''}"


def _print_dropped(dropped: Any) -> None:
    for item in dropped[:5]:
        out.note(f"left out: {item.row}: {item.reason}")
    if len(dropped) > 5:
        out.note(f"left out: {len(dropped) - 5} more; --json names all")


def frontier(
    table: o.Table,
    approach: Annotated[
        str, typer.Option(metavar="LIST", help="all, or some of those that `scaling list approaches` names.")
    ] = "all",
    count: Annotated[str, typer.Option(metavar="LIST", help="Of total, non_embedding, non_embedding_head.")] = "total",
    cost: Annotated[str, typer.Option(metavar="LIST", help="Of exact, 6nd.")] = "exact",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    scheme: o.Scheme = "auto",
    columns: o.Columns = None,
    where: o.Where = None,
    allow_mixed_data: o.MixedData = False,
    json: o.Json = False,
) -> None:
    """Find the compute-optimal N*(C), D*(C), L*(C).

    By several approaches from the same draws, with intervals, and whether the approaches agree.
    """
    from analysis.frontiers import frontier as find

    found = find(
        table,
        o.names_of(approach),
        counts=o.names_of(count),
        costs=o.names_of(cost),
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        scheme=scheme_of(scheme),
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    if json:
        out.print_json(found.to_json())
    else:
        _print_frontiers(found, level)


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
                out.number(f.N_exponent.value),
                out.interval(f.N_exponent.ci),
                out.number(f.D_exponent.value),
                out.interval(f.D_exponent.ci),
                f"{sum(p.status.value == 'converged' for p in f.points)}/{len(f.points)}",
                f.status.value,
            ]
            for f in found
        ],
        left=("approach", "count", "cost", "status"),
        spare=("points", "D* interval"),
    )
    rows = [row for f in found for row in _point_rows(f, names)]
    if rows:
        print()
    out.print_table(
        ["approach", *names, "C", "N*", "D*", "L*", "tokens/N", "status"],
        rows,
        left=("approach", "count", "cost", "status"),
        spare=("tokens/N",),
    )
    pairs = found.agreement.get("pairs", [])
    if pairs:
        print(f"\nagreement on the exponent of N*, within {found.agreement['margin']:g}: {found.agreement['verdict']}")
    out.print_table(
        ["approaches", *names, "difference", "interval", "verdict"],
        [
            [
                f"{p['a']} - {p['b']}",
                *(p[n] for n in names),
                out.number(p["difference"].value),
                out.interval(p["difference"].ci),
                str(p["verdict"]),
            ]
            for p in pairs
        ],
        left=("approaches", "count", "cost", "verdict"),
    )
    for f in found:
        where = f"{f.approach} ({', '.join(getattr(f, n) for n in names)})" if names else f.approach
        if f.reason:
            out.note(f"{where}: {f.status.value}: {f.reason}")
        for warning in f.warnings:
            out.note(f"warning: {where}: {warning}")
    _print_dropped(list(dict.fromkeys(d for f in found for d in f.dropped)))


def _point_rows(found: Frontier, names: list[str]) -> list[list[str]]:
    points = found.points
    if len(points) > MOST_POINTS:
        points = tuple(p for p in points if p.status.value == "converged") or points
    if len(points) > MOST_POINTS:
        step = (len(points) - 1) / (MOST_POINTS - 1)
        points = tuple(points[round(i * step)] for i in range(MOST_POINTS))
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
    approach: Annotated[str, typer.Option(metavar="NAME", help="parametric or vpnls.")] = "parametric",
    count: o.Count = "total",
    cost: o.Cost = "exact",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    scheme: o.Scheme = "auto",
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
        scheme=scheme_of(scheme),
        columns=o.columns_of(columns),
        where=where,
        allow_mixed_data=allow_mixed_data,
    )
    if json:
        out.print_json(found.to_json())
        if found.status.value != "converged":
            out.note(f"{found.approach}: {_status(found)}")
    else:
        _print_prediction(found, level)
    for warning in found.warnings:
        out.note(f"warning: {warning}")


def _print_prediction(found: Prediction, level: float) -> None:
    print(f"C = {out.number(found.flops)} FLOPs by {found.approach}: {_status(found)}\n")
    rows = [
        ["params", found.params, "parameters"],
        ["tokens", found.tokens, "tokens"],
        ["loss", found.loss, "nats per predicted token, of one new run"],
        *([["mean loss", found.mean_loss, "of runs like it"]] if found.mean_loss is not None else []),
        *([f"baseline {name}", guess, "loss"] for name, guess in found.baselines.items()),
    ]
    out.print_table(
        ["", "value", f"{level:.0%} interval", "unit"],
        [[str(n), out.number(e.value, 4), out.interval(e.ci, 4), str(u)] for n, e, u in rows],  # type: ignore[attr-defined]
        left=("", "unit"),
    )


def plot(
    table: o.Table,
    figure: Annotated[
        str | None, typer.Option(metavar="LIST", help="`scaling list figures` names them [default: all that can be].")
    ] = None,
    folder: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the files go.")] = "figures",
    approach: Annotated[str, typer.Option(metavar="LIST", help="Approaches of the frontier.")] = "all",
    count: o.Count = "total",
    cost: o.Cost = "exact",
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
    if Path(table).is_dir():
        from scaling.cli.predictions import scored_for_figure

        scored = scored_for_figure(Path(table))
    drawn = draw(
        table,
        figure,
        out=folder,
        approach=o.names_of(approach) if approach != "all" else approach,
        count=count,
        cost=cost,
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
