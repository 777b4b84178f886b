"""The commands compare, choose and check: two sweeps, several laws, one table. They import neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.results import check_plot_file, estimate_cells, save_drawn, status_of

if TYPE_CHECKING:
    from analysis.checks.report import Report
    from analysis.choosing import Choice
    from analysis.comparing import Comparison, Difference


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A table; a part of it as 'TABLE::EXPR'.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another, or another part of the same.")],
    approach: Annotated[str, typer.Option(metavar="NAME", help="Of the frontiers.")] = "isoflop",
    count: o.Count = "non_embedding",
    cost: o.Cost = "exact",
    metric: Annotated[str, typer.Option(metavar="NAME", help="loss, or an evaluation of the stores.")] = "loss",
    bootstrap: o.Bootstrap = 1000,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    columns: o.Columns = None,
    settings: Annotated[
        str, typer.Option(metavar="TEXT", help="Of the metric's evaluation: a part that names one of several.")
    ] = "",
    same_axis: Annotated[
        bool, typer.Option("--same-axis", help="The losses of two plain tables are of one objective and text.")
    ] = False,
    allow_mixed_data: o.MixedData = False,
    plot: o.PlotFile = None,
    json: o.Json = False,
) -> None:
    """Compare two sweeps: exponents, tokens per parameter, and the compute one needs for the other's loss."""
    from analysis.comparing import compare as compare_tables

    check_plot_file(plot)
    found = compare_tables(
        a,
        b,
        approach=approach,
        count=count,
        cost=cost,
        metric=metric,
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        columns=o.columns_of(columns),
        same_axis=same_axis,
        allow_mixed_data=allow_mixed_data,
        settings=settings,
    )
    if json:
        out.print_json(found.to_json())
    else:
        _print_comparison(found)
    if plot is not None:
        from analysis.figures.comparison import plot_comparison

        save_drawn(plot_comparison(found), plot)


def _print_comparison(found: Comparison) -> None:
    print(f"a: {found.a}, {found.runs[0]} runs\nb: {found.b}, {found.runs[1]} runs")
    print(f"{found.approach}, N counts {found.count.replace('_', '-')}, C is {found.cost}; {found.pairing}")
    print(f"{status_of(found)}\n")

    def cells(what: str, d: Difference) -> list[str]:
        change = ("×" if d.ratio else "") + " ".join(estimate_cells(d.change))
        return [what, " ".join(estimate_cells(d.a)), " ".join(estimate_cells(d.b)), change, d.verdict]

    rows = [cells(f"exponent of {name}*", d) for name, d in found.exponents.items()]
    for p in found.tokens_per_param:
        rows.append(cells(f"tokens/N at {out.number(p.flops)}", p.seen))
        if p.predicted.a.value != p.seen.a.value or p.predicted.b.value != p.seen.b.value:
            rows.append(cells(f"predicted tokens/N at {out.number(p.flops)}", p.predicted))
    for m in found.multipliers:
        what = f"C for {found.metric} {out.number(m.score, 4)}"
        change = "×" + " ".join(estimate_cells(m.multiplier))
        rows.append([what, out.number(m.flops_a), out.number(m.flops_b), change, m.verdict])
    out.print_table(["", "a", "b", "b against a", "b is"], rows, left=("", "b is"))
    if m_reason := found.multiplier_reason:
        out.note(f"compute multiplier: {found.multiplier_status.value}: {m_reason}")
    for warning in found.warnings:
        out.note(f"warning: {warning}")


def choose(
    table: o.Table,
    laws: Annotated[
        str | None,
        typer.Option("--law", metavar="LIST", help="Laws to compare [default: chinchilla and the power laws]."),
    ] = None,
    holdout: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Held out: top_decade of compute; each budget, size or unique_tokens; epochs."
        ),
    ] = "top_decade",
    count: o.Count = "total",
    cost: o.Cost = "exact",
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    columns: o.Columns = None,
    where: o.Where = None,
    json: o.Json = False,
) -> None:
    """Compare laws by their error on held-out runs, AICc and BIC second."""
    from analysis.choosing import LAWS
    from analysis.choosing import choose as choose_law

    found = choose_law(
        table,
        o.names_of(laws) if laws is not None else LAWS,
        holdout=holdout,
        count=count,
        cost=cost,
        level=level,
        seed=seed,
        columns=o.columns_of(columns),
        where=where,
    )
    if json:
        out.print_json(found.to_json())
    else:
        _print_choice(found)


def _print_choice(found: Choice) -> None:
    said = f"best: {found.best}" if found.best else "no law could be tried"
    print(f"{len(found.rows)} of {found.runs} runs held out by {found.holdout}; {said}; {status_of(found)}\n")
    out.print_table(
        ["law", "log RMSE", "less the best's", "|error|", "bias", f"in {found.level:.0%}", "AICc", "BIC", "fit"],
        [
            [
                c.law,
                out.number(c.log_rmse),
                "" if c.difference is None else " ".join(estimate_cells(c.difference)),
                out.per_cent(c.are),
                out.per_cent(c.bias, signed=True),
                out.per_cent(c.coverage, 0),
                out.number(c.aicc, 5),
                out.number(c.bic, 5),
                c.status.value,
            ]
            for c in found.candidates
        ],
        left=("law", "fit"),
        spare=("BIC", "AICc", "less the best's"),
    )
    for c in found.candidates:
        if c.reason:
            out.note(f"{c.law}: {c.status.value}: {c.reason}")


def check(
    table: o.Table,
    names: Annotated[
        str, typer.Option("--check", metavar="LIST", help="all, or some of `scaling list checks`.")
    ] = "all",
    law: Annotated[str, typer.Option(metavar="NAME", help="The surface that residuals are taken from.")] = "chinchilla",
    approach: Annotated[str, typer.Option(metavar="NAME", help="Approach whose noise is budgeted.")] = "isoflop",
    count: o.Count = "total",
    cost: o.Cost = "exact",
    used: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Which run of a tuning grid is used [default: its best].")
    ] = None,
    grids: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Another table, with grids of learning rate and batch.")
    ] = None,
    budget: Annotated[bool, typer.Option(help="Make the noise budget, which takes longest.")] = True,
    level: o.Level = 0.9,
    seed: o.Seed = 0,
    columns: o.Columns = None,
    where: o.Where = None,
    json: o.Json = False,
) -> None:
    """Look for what makes fits of a table wrong: undertuned rungs, mixed schedules, narrow ranges, …

    With the diagnostics of its fit, what its intervals hold, and the checklist that a paper should answer.
    """
    from analysis.checks import check as check_table

    found = check_table(
        table,
        names=names,
        law=law,
        approach=approach,
        count=count,
        cost=cost,
        used=used,
        grids=grids,
        budget=budget,
        level=level,
        seed=seed,
        columns=o.columns_of(columns),
        where=where,
    )
    if json:
        out.print_json(found.to_json())
    else:
        _print_report(found)


def _print_report(found: Report) -> None:
    suspected = len(found.suspected)
    print(f"{found.source}: {suspected} of {len(found.findings)} checks suspect something\n")
    order = ("suspected", "cannot_tell", "clear")
    out.print_table(
        ["check", "verdict", "reason"],
        [
            [f.check, f.verdict.value, f.reason]
            for f in (*sorted(found.findings, key=lambda f: order.index(f.verdict.value)), found.undertuned)
        ],
        left=("check", "verdict", "reason"),
    )
    for part in (found.gaps, found.shift, found.noise):
        if part is not None:
            print(f"\n{part!r}")
