"""Marks that several figures share: a law with its band, values with intervals, slopes for orientation, panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.figures import style
from analysis.figures.style import Convention
from analysis.types import Array, Estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.labels import Labels
    from analysis.types import FitResult


def convention_of(labels: Labels, what: str = "") -> Convention:
    """The convention of a result's labels; `what` names the loss where it is another than they say."""
    return Convention(
        labels.count, labels.cost, *style.units(labels.tokenizers, labels.objectives), what or labels.loss
    )


def convention_of_rows(rows: pd.DataFrame, count: str = "non_embedding") -> Convention:
    """The convention of a store's rows: units by their tokenizers and objectives."""
    units = style.units(*(sorted(set(rows[c])) if c in rows else [] for c in ("tokenizer", "objective")))
    return Convention(count, "exact", *units, "held-out loss") if units else Convention(count, what="held-out loss")


def panels_of(
    figure: Figure, number: int, width_mm: float, title: str, *, across: int = 0, sharey: bool = False
) -> list[Axes]:
    """That many lettered panels, `across` of them (by default all) side by side, or one where the figure is narrow."""
    across = 1 if style.is_narrow(width_mm) else min(across or number, number)
    grid: Any = figure.subplots(-(-number // across), across, squeeze=False, sharey=sharey)
    if title:
        figure.suptitle(title, fontsize=8.5)
    found: list[Axes] = grid.ravel().tolist()
    for spare in found[number:]:
        spare.remove()
    for axes, letter in zip(found[:number], "abcdefghijkl", strict=False):
        style.panel_letter(axes, letter)
    return found[:number]


def law_band(axes: Axes, fit: FitResult, x: Array, colour: str, **look: Any) -> tuple[Array, Array, Array]:
    """Draws a law of one variable over x (n,) with the band of its mean; returns the line and the band's ends."""
    (name,) = fit.model.variables
    line = fit.predict(**{name: x})
    nan = np.full(x.size, np.nan)
    lo, hi = fit.predict_interval(**{str(name): x}, new_run=False) if fit.draws else (nan, nan)
    axes.plot(x, line, color=colour, zorder=2, **look)
    axes.fill_between(x, lo, hi, color=colour, alpha=0.16, linewidth=0, zorder=1)
    return line, lo, hi


def error_bar(
    axes: Axes, x: float, estimate: Estimate, colour: Any, marker: str, *, face: Any = None, **look: Any
) -> None:
    """A value with its interval, upright at x."""
    if not estimate.known:
        return
    if np.isfinite(estimate.ci).all():
        axes.plot([x, x], list(estimate.ci), color=colour, linewidth=1.0, solid_capstyle="butt", zorder=2)
    fill = colour if face is None else face
    axes.plot(
        [x], [estimate.value], color=fill, markeredgecolor=colour, marker=marker, linestyle="none", zorder=3, **look
    )


def slope_triangle(
    axes: Axes, slope: float, label: str, *, at: tuple[float, float] = (0.62, 0.86), decades: float = 0.0
) -> None:
    """A small triangle whose hypotenuse has a slope in log–log, labelled beside it.

    It shows a slope for orientation and lies on no data; call it when the limits are set.

    Args:
        axes: with both scales logarithmic.
        slope: d ln y/d ln x.
        label: what it is, in a few words.
        at: left upper corner, shares of the axes.
        decades: length along x; by default a sixth of the axis.
    """
    (x0, x1), (y0, y1) = np.log10(axes.get_xlim()), np.log10(axes.get_ylim())
    run = decades or (x1 - x0) / 6
    left, top = x0 + at[0] * (x1 - x0), y0 + at[1] * (y1 - y0)
    drop = slope * run
    corners = [(left, top), (left + run, top + drop), (left, top + drop), (left, top)]
    xs, ys = (10.0 ** np.array(v) for v in zip(*corners, strict=True))
    axes.plot(xs, ys, color=style.MUTED, linewidth=0.7, zorder=1, scalex=False, scaley=False)
    axes.annotate(
        label, (10 ** (left + run), 10 ** (top + drop / 2)), xytext=(3, 0), textcoords="offset points", ha="left",
        va="center", fontsize=6.0, color=style.MUTED,
    )  # fmt: skip


def no_marks(axes: Axes, reason: str) -> None:
    """Why a panel has no marks, in its middle."""
    import textwrap

    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, textwrap.fill(reason, 26), transform=axes.transAxes, ha="center", va="center", fontsize=7.0,
        color=style.MUTED,
    )  # fmt: skip


def limits(axes: Axes, x: ArrayLike | None = None, y: ArrayLike | None = None, margin: float = 0.06) -> None:
    """Log limits around values."""
    if x is not None:
        axes.set_xlim(*style.log_limits(x, margin))
    if y is not None:
        axes.set_ylim(*style.log_limits(y, margin))


def size_colours(sizes: Sequence[float]) -> dict[float, Any]:
    """A colour for each size, in order."""
    ordered = sorted(set(sizes))
    return dict(zip(ordered, style.shades(len(ordered)), strict=True))


def finite(values: ArrayLike) -> list[float]:
    """The finite ones."""
    return [float(v) for v in np.ravel(np.asarray(values, dtype=np.float64)) if math.isfinite(v)]
