"""Differences between recipes by size, with intervals: one panel a metric, one series a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.types import Status

if TYPE_CHECKING:
    from analysis.contrasts import Contrast

_APART = 0.05
"""Of the axis' logarithm, between the series of one size."""
_ACROSS = 2
"""Panels side by side."""


class Point(NamedTuple):
    """A contrast at a size; `status` where it is another than the contrast's own, such as `below_baseline`."""

    params: float
    found: Contrast
    status: str = ""


def plot_contrasts(
    panels: Mapping[str, Mapping[str, Sequence[Point]]], *, width_mm: float = style.DOUBLE_MM, title: str = ""
) -> Drawn:
    """Panel (its label on the ordinate) → series → points. Hollow is what is not told from 0, or does not count.

    Raises:
        NotDrawable: no point has a value.
    """
    kept = {
        panel: {name: [p for p in points if p.found.value.known] for name, points in series.items()}
        for panel, series in panels.items()
    }
    kept = {panel: series for panel, series in kept.items() if any(series.values())}
    if not kept:
        raise NotDrawable("no difference was measured")
    rows = Rows(["panel", "series", "status"], ["params", "value", "lo", "hi", "runs"])
    names = list(dict.fromkeys(n for series in kept.values() for n in series))
    look = {n: (style.COLOURS[k % len(style.COLOURS)], style.MARKERS[k % len(style.MARKERS)])
            for k, n in enumerate(names)}  # fmt: skip
    sizes = [p.params for series in kept.values() for points in series.values() for p in points]
    step = _APART * max(math.log(max(sizes) / min(sizes)), 1.0) / max(len(names), 1)
    with style.styled():
        across = 1 if style.is_narrow(width_mm) else min(_ACROSS, len(kept))
        figure = style.new_figure(width_mm, 14.0 + (56.0 if across == 1 else 60.0) * -(-len(kept) // across))
        panes = marks.panels_of(figure, len(kept), width_mm, title, across=across)
        for axes, (panel, series) in zip(panes, kept.items(), strict=True):
            axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
            for name, points in series.items():
                colour, marker = look[name]
                shift = step * (names.index(name) - (len(names) - 1) / 2)
                for p in points:
                    status = p.status or str(p.found.status)
                    clear = status == str(Status.CONVERGED)
                    face = colour if clear else "white"
                    marks.error_bar(axes, p.params * math.exp(shift), p.found.value, colour, marker, face=face)
                    lo, hi = p.found.value.ci
                    rows.add(panel=panel, series=name, status=status, params=p.params, value=p.found.value.value, lo=lo,
                             hi=hi, runs=p.found.runs)  # fmt: skip
            axes.set_xscale("log")
            style.log_axis(axes.xaxis, style.si_number)
            style.linear_axis(axes.yaxis, style.signed_number)
            axes.set_xlim(*style.log_limits(np.array([0.8 * min(sizes), 1.25 * max(sizes)])))
            axes.set_xlabel("N, non-embedding parameters")
            axes.set_ylabel(panel)
        handles = [Line2D([], [], color=c, marker=m, linestyle="none", label=n) for n, (c, m) in look.items()]
        handles.append(
            Line2D([], [], color="white", markeredgecolor=style.MUTED, marker="o", linestyle="none",
                   label="hollow: not told from 0, or does not count")
        )  # fmt: skip
        style.legend_below(figure, handles, columns=3)
        return finish(figure, rows)
