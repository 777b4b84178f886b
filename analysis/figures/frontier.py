"""N*(C) and D*(C) by every approach, with their intervals: Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 1, Table 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.figures.material import Material
    from analysis.types import Frontier

APART = 0.012
"""Points of different approaches at one budget stand this far apart in C, as a share of the log range drawn."""


class FrontierLines(Kind):
    """Compute-optimal size and tokens by every approach."""

    name: ClassVar[str] = "frontier"
    summary: ClassVar[str] = "N*(C) and D*(C) by every approach with interval bands, extrapolated to a target (dashed)"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 1 and Table 2"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_frontier(
            material.frontiers,
            target=material.target,
            convention=material.convention,
            width_mm=width_mm,
            title=material.title,
        )


def plot_frontier(
    frontiers: Iterable[Frontier],
    *,
    target: float | None = None,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Draws each known frontier of one count and cost: line, band of its level, points with bars where it has its own.

    Args:
        frontiers: any; those of another count or cost than the first known one are left out.
        target: FLOPs to extrapolate to, dashed; None: no further than the points.
        convention: of the labels; by default the frontiers' count and cost.
        width_mm: 85 (panels above one another) to 170 (side by side).
        title: above the figure.

    Raises:
        NotDrawable: no frontier is known.
    """
    everything = list(frontiers)
    known = [f for f in everything if f.known]
    if not known:
        why = "; ".join(f"{f.approach}: {f.status}" + (f", {f.reason}" if f.reason else "") for f in everything)
        raise NotDrawable(f"the figure frontier needs a known frontier; {why or 'there is none'}")
    known = [f for f in known if (f.count, f.cost) == (known[0].count, known[0].cost)]
    convention = convention or Convention(known[0].count, known[0].cost)
    narrow = style.is_narrow(width_mm)
    rows = Rows(
        ["panel", "element", "approach", "status", "reason"],
        ["flops", "flops_drawn", "value", "value_lo", "value_hi", "level"],
    )
    with style.styled():
        figure = style.new_figure(width_mm, 135.0 if narrow else 84.0)
        panels = figure.subplots(2, 1, sharex=True) if narrow else figure.subplots(1, 2)
        if title:
            figure.suptitle(title, fontsize=8.5)
        low, high = _range(known)
        shift = APART * np.log(max(high, target or high) / low)
        for axes, which, letter in zip(panels, "ND", "ab", strict=True):
            for k, frontier in enumerate(known):
                _draw_one(axes, rows, frontier, which, (low, high, target), k, (k - (len(known) - 1) / 2) * shift)
            style.log_axis(axes.xaxis, style.power_number)
            style.log_axis(axes.yaxis, style.si_number)
            axes.set_xlim(*style.log_limits([low, high, target or high], 0.04))
            if target is not None and target > high:
                axes.axvline(target, color=style.MUTED, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
            axes.set_ylabel(convention.params_label("N*") if which == "N" else convention.tokens_label("D*"))
            if not (narrow and which == "N"):
                axes.set_xlabel(convention.flops_label())
            style.panel_letter(axes, letter)
        handles = [_handle(f, k) for k, f in enumerate(known)]
        if target is not None and target > high:
            label = f"extrapolated to {style.power_number(target)} FLOPs"
            handles.append(Line2D([], [], color=style.MUTED, linestyle=(0, (4, 2)), label=label))
        handles.append(style.note(f"bands and bars: {known[0].N_exponent.level:.0%} intervals"))
        for f in everything:
            if not f.known:
                handles.append(style.note(f"{f.approach}: {style.STATUS_LABELS[f.status]}"))
                rows.add(element="unknown", approach=f.approach, status=f.status.value, reason=f.reason)
        style.legend_below(figure, handles, columns=4)
        return finish(figure, rows)


def _range(frontiers: list[Frontier]) -> tuple[float, float]:
    """The lowest and highest C of any point."""
    c = [p.flops for f in frontiers for p in f.points if np.isfinite(p.flops)]
    if not c:
        raise NotDrawable("the figure frontier needs budgets: no frontier has a point")
    low, high = min(c), max(c)
    return (low, high) if high > low * 1.01 else (low / 2, high * 2)


def _own_points(frontier: Frontier) -> bool:
    """Whether points were estimated one by one; those of a fitted surface lie on its line and say nothing more."""
    return frontier.surface is None and "values" not in frontier.diagnostics


def _style(k: int) -> tuple[str, str]:
    return style.COLOURS[k % len(style.COLOURS)], style.MARKERS[k % len(style.MARKERS)]


def _draw_one(
    axes: Axes,
    rows: Rows,
    frontier: Frontier,
    which: str,
    span: tuple[float, float, float | None],
    k: int,
    shift: float,
) -> None:
    """Line, band and points of one approach in one panel."""
    low, high, target = span
    colour, marker = _style(k)
    panel = f"{which}*"
    parts = [("fitted", np.geomspace(low, high, 61), "-")]
    if target is not None and target > high:
        parts.append(("extrapolated", np.geomspace(high, target, 31), (0, (4, 2))))
    for element, c, dashes in parts:
        value = frontier.params(c) if which == "N" else frontier.tokens(c)
        lo, hi = frontier.band(c, which)
        axes.plot(c, value, color=colour, linestyle=dashes, linewidth=1.3, zorder=3)
        if np.isfinite(lo).all():
            axes.fill_between(c, lo, hi, color=colour, alpha=0.13, linewidth=0, zorder=1)
        common = {
            "panel": panel,
            "approach": frontier.approach,
            "status": frontier.status.value,
            "reason": frontier.reason,
        }
        rows.add(
            element=element,
            flops=c,
            flops_drawn=c,
            value=value,
            value_lo=lo,
            value_hi=hi,
            level=frontier.N_exponent.level,
            **common,
        )
    if not _own_points(frontier):
        ends = np.array([low, high])
        axes.plot(
            ends,
            frontier.params(ends) if which == "N" else frontier.tokens(ends),
            linestyle="none",
            marker=marker,
            color=colour,
        )
        return
    many = len(frontier.points) > 30
    for p in frontier.points:
        value, (lo, hi) = (p.params, p.params_ci) if which == "N" else (p.tokens, p.tokens_ci)
        if not np.isfinite(value):
            continue
        x = p.flops * float(np.exp(0.0 if many else shift))
        face = colour if p.status == Status.CONVERGED else "white"
        if np.isfinite([lo, hi]).all():
            axes.plot([x, x], [lo, hi], color=colour, linewidth=0.9, zorder=3)
        axes.plot(
            x,
            value,
            marker=marker,
            markersize=2.0 if many else 4.5,
            color=colour,
            markerfacecolor=face,
            linestyle="none",
            zorder=4,
        )
        rows.add(
            panel=panel, element="point", approach=frontier.approach, status=p.status.value, reason=p.reason,
            flops=p.flops, flops_drawn=x, value=value, value_lo=lo, value_hi=hi, level=frontier.N_exponent.level,
        )  # fmt: skip


def _handle(frontier: Frontier, k: int) -> Line2D:
    colour, marker = _style(k)
    return Line2D(
        [], [], color=colour, marker=marker, linewidth=1.3, label=f"{frontier.approach}: N* ∝ C^{exponent(frontier)}"
    )


def exponent(frontier: Frontier) -> str:
    """Such as "0.49 [0.46, 0.53]"."""
    e = frontier.N_exponent
    lo, hi = e.ci
    return f"{e.value:.2f}" + (f" [{lo:.2f}, {hi:.2f}]" if np.isfinite([lo, hi]).all() else "")
