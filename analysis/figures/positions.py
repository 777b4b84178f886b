"""Loss by position in the context, two architectures side by side; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 7."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.positions import Positions

DASHES = ("-", "--", ":", "-.")


def plot_positions(
    found: Positions,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) Loss by position with its power law, by architecture and size; (b) the gap of two architectures by position.

    Args:
        found: of `measure_positions`.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no run has losses by position.
    """
    if not found.fits:
        raise NotDrawable(f"the figure positions needs losses by position: {found.reason}")
    convention = convention or marks.convention_of(found.labels)
    rows = Rows(["panel", "element", "architecture", "status"], ["params", "position", "high", "value", "lo", "hi"])
    with style.styled():
        figure = style.new_figure(width_mm, 158.0 if style.is_narrow(width_mm) else 88.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        handles = _losses(left, found, rows)
        handles += _gaps(right, found, rows)
        left.set_ylabel(convention.loss_label())
        for axes in (left, right):
            axes.set_xlabel(f"T, position, {convention.token}")
        style.size_bar(
            figure, [left, right], style.size_scale([f.params for f in found.fits]), convention.params_label()
        )
        style.legend_below(figure, handles, columns=3)
        return finish(figure, rows)


def _losses(axes: Axes, found: Positions, rows: Rows) -> list[Line2D]:
    names = list(dict.fromkeys(f.architecture for f in found.fits))
    norm = style.size_scale([f.params for f in found.fits])
    for f in found.fits:
        k = names.index(f.architecture)
        colour = style.sequential()(norm(f.params))
        axes.plot(
            f.position, f.loss, color=colour if k == 0 else "white", markeredgecolor=colour, marker=style.MARKERS[k],
            markersize=3.0, linestyle="none", zorder=3,
        )  # fmt: skip
        rows.add(
            panel="a", element="mean", architecture=f.architecture, params=f.params, position=f.position, value=f.loss
        )
        if f.fit.params and all(e.known for e in f.fit.params.values()):
            at = np.geomspace(f.position[0], f.position[-1], 61)
            line = f.fit.predict(position=at)
            axes.plot(at, line, color=colour, linestyle=DASHES[k], linewidth=0.9, zorder=2)
            rows.add(
                panel="a", element="law", architecture=f.architecture, status=str(f.fit.status), params=f.params,
                position=at, value=line,
            )  # fmt: skip
    style.log_axis(axes.xaxis, style.si_number)
    style.log_axis(axes.yaxis, style.plain_number)
    return [
        Line2D([], [], color=style.MUTED if k == 0 else "white", markeredgecolor=style.MUTED, marker=style.MARKERS[k],
               markersize=3.0, linestyle="none", label=f"{name}, and its power law ({'line' if k == 0 else 'dashed'})")
        for k, name in enumerate(names)
    ]  # fmt: skip


def _gaps(axes: Axes, found: Positions, rows: Rows) -> list[Line2D]:
    if not found.comparisons:
        marks.no_marks(axes, found.reason)
        return []
    norm = style.size_scale([f.params for f in found.fits])
    n = len(found.comparisons)
    for k, c in enumerate(found.comparisons):
        colour = style.sequential()(norm(c.params[0]))
        shift = 1.0 + 0.05 * (k - (n - 1) / 2)
        at = [math.sqrt(b.low * b.high) * shift for b in c.bins]
        axes.plot(at, [b.gap_percent.value for b in c.bins], color=colour, linewidth=0.7, zorder=1)
        for x, b in zip(at, c.bins, strict=True):
            face = None if b.status is Status.CONVERGED else "white"
            marks.error_bar(axes, x, b.gap_percent, colour, "o", face=face)
            rows.add(
                panel="b", element="gap, %", architecture=f"{c.first}/{c.second}", status=str(b.status),
                params=c.params[0], position=b.low, high=b.high, value=b.gap_percent.value,
                lo=b.gap_percent.ci[0], hi=b.gap_percent.ci[1],
            )  # fmt: skip
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=0)
    style.log_axis(axes.xaxis, style.si_number)
    style.linear_axis(axes.yaxis, style.signed_number)
    first = found.comparisons[0]
    axes.set_ylabel(f"loss of {first.first} over {first.second}, %")
    level = first.bins[0].gap_percent.level ** len(first.bins)
    return [
        style.note(f"late in the context: {found.verdict}"),
        Line2D([], [], color="white", markeredgecolor=style.MUTED, marker="o", linestyle="none",
               label=f"0 within its interval ({level:.0%}, all positions together)"),
    ]  # fmt: skip
