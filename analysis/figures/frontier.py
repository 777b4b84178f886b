"""N*(C) and D*(C) by every approach, with their intervals: Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 1, Table 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.figures.material import Material
    from analysis.types import Array, Frontier

APART = 0.012
"""Points of different approaches at one budget stand this far apart in C, as a share of the log range drawn."""

Span = tuple[float, float, float | None]
"""Lowest and highest C of the points, and the target beyond them, if any."""


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
        beyond = target if target is not None and target > high else None
        span = (low, high, beyond)
        shift = APART * float(np.log((beyond or high) / low))
        for axes, which, letter in zip(panels, "ND", "ab", strict=True):
            for k, frontier in enumerate(known):
                _draw_line(axes, rows, frontier, which, span, k)
                if _own_points(frontier):
                    _draw_points(axes, rows, frontier, which, k, (k - (len(known) - 1) / 2) * shift)
                else:
                    _draw_marks(axes, rows, frontier, which, span, k, len(known))
            style.log_axis(axes.xaxis, style.power_number)
            style.log_axis(axes.yaxis, style.si_number)
            axes.set_xlim(*style.log_limits([low, beyond or high], 0.04))
            if beyond:
                axes.axvline(beyond, color=style.MUTED, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
            axes.set_ylabel(convention.params_label("N*") if which == "N" else convention.tokens_label("D*"))
            if not (narrow and which == "N"):
                axes.set_xlabel(convention.flops_label())
            style.panel_letter(axes, letter)
        handles = [_handle(f, k) for k, f in enumerate(known)]
        if beyond:
            label = f"extrapolated to {style.power_number(beyond)} FLOPs"
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
    c = [p.flops for f in frontiers for p in f.points if np.isfinite([p.flops, p.params]).all()]
    if not c:
        raise NotDrawable("the figure frontier needs budgets: no frontier has a point")
    low, high = min(c), max(c)
    return (low, high) if high > low * 1.01 else (low / 2, high * 2)


def _own_points(frontier: Frontier) -> bool:
    """Whether points were estimated one by one; those of a fitted surface lie on its line and say nothing more."""
    return frontier.surface is None and "values" not in frontier.diagnostics


def _style(k: int) -> tuple[str, str]:
    return style.COLOURS[k % len(style.COLOURS)], style.MARKERS[k % len(style.MARKERS)]


def _at(frontier: Frontier, flops: Array, which: str) -> Array:
    return frontier.params(flops) if which == "N" else frontier.tokens(flops)


def _draw_line(axes: Axes, rows: Rows, frontier: Frontier, which: str, span: Span, k: int) -> None:
    """Line and band of one approach, solid over the points, dashed to the target; later lines are thinner, on top."""
    low, high, target = span
    colour, _ = _style(k)
    parts: list[tuple[str, Array, Any]] = [("fitted", np.geomspace(low, high, 61), "-")]
    if target is not None:
        parts.append(("extrapolated", np.geomspace(high, target, 31), (0, (4, 2))))
    for element, c, dashes in parts:
        value, (lo, hi) = _at(frontier, c, which), frontier.band(c, which)
        axes.plot(c, value, color=colour, linestyle=dashes, linewidth=max(0.9, 2.0 - 0.35 * k), zorder=3)
        if np.isfinite(lo).all():
            axes.fill_between(c, lo, hi, color=colour, alpha=0.13, linewidth=0, zorder=1)
        rows.add(
            panel=f"{which}*", element=element, approach=frontier.approach, status=frontier.status.value,
            reason=frontier.reason, flops=c, flops_drawn=c, value=value, value_lo=lo, value_hi=hi,
            level=frontier.N_exponent.level,
        )  # fmt: skip


def _draw_marks(axes: Axes, rows: Rows, frontier: Frontier, which: str, span: Span, k: int, how_many: int) -> None:
    """Two marks on a fitted surface's line, at places of its own, that tell it apart without colour."""
    low, high, _ = span
    colour, marker = _style(k)
    share = (k + 0.5) / (2 * how_many)
    at = low * (high / low) ** np.array([share, share + 0.5])
    value = _at(frontier, at, which)
    axes.plot(at, value, linestyle="none", marker=marker, color=colour, zorder=3)
    rows.add(panel=f"{which}*", element="mark", approach=frontier.approach, flops=at, flops_drawn=at, value=value)


def _draw_points(axes: Axes, rows: Rows, frontier: Frontier, which: str, k: int, shift: float) -> None:
    """The points that made the line, with their intervals, moved by `shift` in ln C."""
    colour, marker = _style(k)
    for p in frontier.points:
        value, (lo, hi) = (p.params, p.params_ci) if which == "N" else (p.tokens, p.tokens_ci)
        if p.status != Status.CONVERGED or not np.isfinite(value):
            continue
        x = p.flops * float(np.exp(shift))
        if np.isfinite([lo, hi]).all():
            axes.plot([x, x], [lo, hi], color=colour, linewidth=0.9, zorder=3)
        axes.plot(x, value, marker=marker, markersize=4.5, color=colour, linestyle="none", zorder=4)
        rows.add(
            panel=f"{which}*", element="point", approach=frontier.approach, status=p.status.value, reason=p.reason,
            flops=p.flops, flops_drawn=x, value=value, value_lo=lo, value_hi=hi, level=frontier.N_exponent.level,
        )  # fmt: skip


def _handle(frontier: Frontier, k: int) -> Line2D:
    colour, marker = _style(k)
    label = f"{frontier.approach}: N* ∝ C^{exponent(frontier)}"
    if frontier.status != Status.CONVERGED:
        label += f", {style.STATUS_LABELS[frontier.status]}"
    return Line2D([], [], color=colour, marker=marker, linewidth=1.3, label=label)


def exponent(frontier: Frontier) -> str:
    """Such as "0.49 [0.46, 0.53]"."""
    e = frontier.N_exponent
    lo, hi = e.ci
    text = f"{e.value:.2f}" + (f" [{lo:.2f}, {hi:.2f}]" if np.isfinite([lo, hi]).all() else "")
    return text.replace("-", "−")
