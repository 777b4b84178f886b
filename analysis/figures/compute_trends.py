"""Best size, batch, steps and data over compute; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 14."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.compute import Compute, ComputeFrontier

FIELDS = {"N": "params", "B": "batch_tokens", "S": "steps", "D": "tokens"}
LOOK = {
    "naive": (style.COLOURS[1], "s", "over C, at the batch that was run"),
    "adjusted": (style.COLOURS[0], "o", "over C_min"),
}


def plot_compute_trends(
    found: Compute,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """One panel each for N, B, S and D of the best run at a budget, with the power law where there is one.

    Hollow are budgets at which the best size has not a smaller and a larger one measured beside it: they enter no law.

    Args:
        found: of `measure_compute`.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: neither frontier has a point and a trend.
    """
    frontiers = [f for f in (found.naive, found.adjusted) if f is not None and f.points and f.trends]
    if not frontiers:
        raise NotDrawable(f"the figure compute_trends needs a frontier over compute: {found.reason or 'there is none'}")
    convention = convention or marks.convention_of(found.labels)
    names = [n for n in FIELDS if any(n in f.trends for f in frontiers)]
    rows = Rows(["panel", "frontier", "element", "status"], ["flops", "value"])
    with style.styled():
        narrow = style.is_narrow(width_mm)
        high = (len(names) + 1) // 2
        figure = style.new_figure(width_mm, 12.0 + (52.0 * len(names) if narrow else 60.0 * high))
        panels = marks.panels_of(figure, len(names), width_mm, title, across=2)
        for axes, name in zip(panels, names, strict=True):
            _panel(axes, name, frontiers, rows)
            axes.set_ylabel(convention.variable_label(FIELDS[name])[0])
            axes.set_xlabel(convention.flops_label("C or C_min" if len(frontiers) == 2 else "C"))
        style.legend_below(figure, _handles(frontiers), columns=3)
        return finish(figure, rows)


def _panel(axes: Axes, name: str, frontiers: list[ComputeFrontier], rows: Rows) -> None:
    slopes, values = [], []
    for f in (f for f in frontiers if name in f.trends):
        colour, marker, _ = LOOK[f.kind]
        for p in f.points:
            value = getattr(p, FIELDS[name])
            face = colour if p.status is Status.CONVERGED else "white"
            axes.plot([p.flops], [value], color=face, markeredgecolor=colour, marker=marker, linestyle="none", zorder=3)
            rows.add(panel=name, frontier=f.kind, element="point", status=str(p.status), flops=p.flops, value=value)
            values.append(value)
        trend, inside = f.trends[name], [p.flops for p in f.points if p.status is Status.CONVERGED]
        if trend.status is Status.CONVERGED and f.status is Status.CONVERGED and len(inside) > 1:
            x = np.array([min(inside), max(inside)])
            y = trend.coefficient.value * x**trend.exponent.value
            axes.plot(x, y, color=colour, linewidth=1.0, zorder=2)
            rows.add(panel=name, frontier=f.kind, element="law", status=str(trend.status), flops=x, value=y)
            lo, hi = trend.exponent.ci
            over = "C_min" if f.kind == "adjusted" else "C"
            slopes.append(f"∝ {over}^{trend.exponent.value:.2f} [{lo:.2f}, {hi:.2f}]".replace("-", "−"))
    axes.set_title("; ".join(slopes) or "no power law is resolved", loc="right", fontsize=6.5, color=style.MUTED)
    style.log_axis(axes.xaxis, style.power_number)
    style.log_axis(axes.yaxis, style.si_number)
    marks.limits(axes, [p.flops for f in frontiers for p in f.points], values, 0.08)


def _handles(frontiers: list[ComputeFrontier]) -> list[Line2D]:
    handles = []
    for f in frontiers:
        colour, marker, label = LOOK[f.kind]
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=label))
    if any(p.status is not Status.CONVERGED for f in frontiers for p in f.points):
        label = "no size measured on both sides of the best"
        handles.append(
            Line2D([], [], color="white", markeredgecolor=style.MUTED, marker="o", linestyle="none", label=label)
        )
    return handles
