"""Options that several commands share, and the parsing of their texts."""

from __future__ import annotations

from typing import Annotated

import typer

from scaling.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Table = Annotated[
    str, typer.Argument(metavar="TABLE", help="A store, a parquet file or a CSV; TABLE::EXPR for some of its rows.")
]
StoreFolder = Annotated[str, typer.Argument(metavar="STORE", help="A store's folder.")]
SweepFile = Annotated[str, typer.Argument(metavar="SWEEP.yaml", help="A sweep definition.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="DIR", help="The store [default: runs/<name of the sweep>].")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a field of the sweep; may be repeated.")
]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Trials at once [default: one a core].")]
Serial = Annotated[bool, typer.Option("--serial", help="Run in this process, without Ray.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Bootstrap = Annotated[int, typer.Option(min=0, metavar="N", help="Draws behind the intervals; 0: none.")]
Level = Annotated[float, typer.Option(metavar="P", help="Nominal coverage of the intervals.")]
Seed = Annotated[int, typer.Option(min=0, metavar="S", help="Seed of the draws.")]
Scheme = Annotated[str, typer.Option(metavar="NAME", help="Bootstrap: auto, case, noise, residual, wild or seeds.")]
Objective = Annotated[str, typer.Option(metavar="NAME", help="huber_log, ls_log, ls or student_t.")]
Interval = Annotated[str, typer.Option(metavar="NAME", help="bca, percentile or profile (likelihood).")]
SurfaceLaw = Annotated[
    str | None,
    typer.Option("--law", metavar="NAME", help="Law of size and data behind a surface [default: chinchilla]."),
]
PlotFile = Annotated[
    str | None, typer.Option("--plot", metavar="FILE", help="Draw it to FILE.svg, .pdf or .png, with a CSV.")
]
Columns = Annotated[
    str | None, typer.Option(metavar="params=N,tokens=D,loss=L", help="The table's names for our columns.")
]
Where = Annotated[str | None, typer.Option(metavar="EXPR", help="Keep rows where, e.g., \"objective == 'causal'\".")]
MixedData = Annotated[bool, typer.Option("--allow-mixed-data", help="Use rows of several data sets together.")]
Count = Annotated[str, typer.Option(metavar="NAME", help="What N counts: total, non_embedding or non_embedding_head.")]
Cost = Annotated[str, typer.Option(metavar="NAME", help="What C counts: exact or 6nd.")]


def columns_of(text: str | None) -> dict[str, str] | None:
    """`{"params": "N", "tokens": "D"}` of `params=N,tokens=D`; None of None.

    Raises:
        InputError: the text is not of that form, or names a column twice.
    """
    if text is None:
        return None
    found: dict[str, str] = {}
    for part in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (ours and equals and theirs):
            raise InputError(
                f"--columns: {part.strip()!r} is not of the form OURS=THEIRS, as in params=N,tokens=D,loss=L"
            )
        if ours in found:
            raise InputError(f"--columns names {ours!r} twice; keep one")
        found[ours] = theirs
    return found


def names_of(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",")]
