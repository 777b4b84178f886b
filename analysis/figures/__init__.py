"""The canonical figures, found by importing every module of this package: one figure, one file.

Each is drawn from typed results, comes with a table of exactly what it shows, and is saved as SVG, PDF, PNG and CSV.
Importing the package does not import matplotlib; the functions do.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.registry import classes, listing, named
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.figures.base import Drawn, Kind
    from analysis.figures.prediction import Scored
    from analysis.table import Runs
    from analysis.types import FitResult, FrontierSet

_HOME = {
    "Convention": "analysis.figures.style",
    "Drawn": "analysis.figures.base",
    "Material": "analysis.figures.material",
    "NotDrawable": "analysis.figures.base",
    "Scored": "analysis.figures.prediction",
    "plot_comparison": "analysis.figures.comparison",
    "plot_contours": "analysis.figures.contours",
    "plot_envelope": "analysis.figures.envelope",
    "plot_frontier": "analysis.figures.frontier",
    "plot_isoflop": "analysis.figures.isoflop",
    "plot_predicted": "analysis.figures.predicted",
    "plot_prediction": "analysis.figures.prediction",
    "plot_profile": "analysis.figures.profile",
    "save": "analysis.figures.base",
}

__all__ = sorted({*_HOME, "Plotted", "get_figure", "list_figures", "plot", "plot_fit", "plot_frontiers"})


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis.figures' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def _kinds() -> dict[str, type[Kind]]:
    from analysis.figures.base import Kind

    return classes(__name__, Kind)  # type: ignore[type-abstract]


def list_figures() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every figure, sorted by name."""
    return listing(_kinds())


def get_figure(name: str) -> Kind:
    """The figure of that name.

    Raises:
        InputError: there is none.
    """
    return named("figure", name, _kinds())()


@dataclass(frozen=True, eq=False)
class Plotted:
    """Figures by name, the files written for each, and the figures that could not be drawn, with the reason."""

    drawn: Mapping[str, Drawn]
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def plot(
    table: str | Path | pd.DataFrame | Runs,
    figures: str | Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    approach: str | Sequence[str] = "all",
    count: str = "total",
    cost: str = "exact",
    law: str = "chinchilla",
    objective: str = "huber_log",
    against: str | Runs | None = None,
    target: float | None = None,
    scored: Sequence[Scored] = (),
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
    width_mm: float = 170.0,
    title: str = "",
    prefix: str = "",
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    allow_mixed_data: bool = False,
    frontiers: FrontierSet | None = None,
    fit: FitResult | None = None,
) -> Plotted:
    """Draws the canonical figures of a table of runs and, with `out`, saves each in four forms.

    Args:
        table: see `analysis.read_table`.
        figures: names (also comma-separated) of `list_figures()`; None: every one that this table can give, the others
            in `skipped`.
        out: folder to write `prefix + name`.svg, .pdf, .png and .csv to; None: nothing is written.
        approach: approaches to draw in the frontier figure.
        count, cost: conventions of N and C.
        law, objective: of the fit that the figures fit, profile, predicted and contours show; see `analysis.fit`.
        against: the second table, for the figure comparison; see `analysis.compare`.
        target: FLOPs to extrapolate to.
        scored: predictions with their outcomes, for the figure `prediction`.
        level, bootstrap, seed: of the intervals; see `analysis.frontier`.
        width_mm: 85 (one column) to 170 (two columns).
        title: above each figure.
        prefix: put before each file's name.
        columns, where, allow_mixed_data: see `analysis.read_table`.
        frontiers, fit: results already made of the same table, which are then not made again.

    Raises:
        NotDrawable: a figure asked for by name, or every figure, lacks what it needs.
        InputError: no such figure, a width outside 60 to 400 mm, or a target that is not positive.
        TableError: see `analysis.read_table`.
    """
    from analysis.figures.base import NotDrawable
    from analysis.figures.material import Material
    from analysis.table import read_table

    if not 60.0 <= width_mm <= 400.0:
        raise InputError(f"width {width_mm:g} mm is outside 60 to 400; 85 is one column, 170 two")
    if target is not None and not 0.0 < target < float("inf"):
        raise InputError(f"target {target} is not a positive number of FLOPs")
    names = [n.strip() for n in figures.split(",")] if isinstance(figures, str) else figures
    kinds = [get_figure(n) for n in (names if names is not None else _kinds())]
    if not kinds:
        raise InputError("an empty list of figures; leave it out for every figure")
    runs = read_table(table, columns=columns, where=where, allow_mixed_data=allow_mixed_data)
    if len(runs) == 0:
        raise InputError(f"{runs.source}: there are no runs to draw")
    material = Material(
        runs, approach, count, cost, target, scored, level, bootstrap, seed, title, law, objective, against,
        frontiers, fit
    )  # fmt: skip
    drawn: dict[str, Drawn] = {}
    skipped: dict[str, str] = {}
    for kind in kinds:
        try:
            drawn[kind.name] = kind.draw(material, width_mm)
        except NotDrawable as error:
            if figures is not None:
                raise
            skipped[kind.name] = str(error)
    if not drawn:
        raise NotDrawable(f"{runs.source}: no figure can be drawn; " + "; ".join(skipped.values()))
    files = {n: tuple(d.save(out, prefix + n)) for n, d in drawn.items()} if out is not None else {}
    return Plotted(drawn, files, skipped)


def plot_fit(fit: FitResult) -> Figure:
    """A fit as a figure: a law of one variable against it, else observed against predicted; residuals; normal Q–Q."""
    from analysis.figures import fitted

    return fitted.plot_fit(fit).figure


def plot_frontiers(frontiers: FrontierSet) -> Figure:
    """N*(C) and D*(C) by every approach, as a figure."""
    from analysis.figures.frontier import plot_frontier

    return plot_frontier(frontiers).figure
