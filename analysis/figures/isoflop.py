"""Loss against size at each budget, with parabolas and their minima: Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 3."""

from __future__ import annotations

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
    from analysis.table import Runs
    from analysis.types import Array, Frontier, FrontierPoint, Parabola


FEWEST = 3
"""Groups of fewer runs show no profile and are not drawn."""

MOST_NAMED = 10
"""Budgets beyond this many get a colour bar in place of a legend entry each."""


class IsoFlop(Kind):
    """IsoFLOP profiles of approach 2."""

    name: ClassVar[str] = "isoflop"
    summary: ClassVar[str] = "loss against N at each budget, parabolas with their minima; refused budgets hollow"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 3"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_isoflop(
            material.find("isoflop"),
            material.runs,
            convention=material.convention,
            width_mm=width_mm,
            title=material.title,
        )


def plot_isoflop(
    frontier: Frontier,
    runs: Runs | None = None,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Draws the frontier's isoFLOP groups: runs, parabola, and the minimum with its interval where one is accepted.

    A budget whose minimum is refused is hollow and dashed and says why in the legend; the table has the whole reason.

    Args:
        frontier: by an approach that leaves `parabolas`.
        runs: the table it came from, for the standard errors of its losses.
        convention: of the labels; by default the frontier's count and cost.
        width_mm: 85 to 170.
        title: above the axes.

    Raises:
        NotDrawable: the frontier has no isoFLOP group.
    """
    if not any(len(p.params) >= FEWEST for p in frontier.parabolas):
        why = frontier.reason or "no group of runs shares a budget"
        raise NotDrawable(f"the figure isoflop needs runs in isoFLOP groups: {frontier.status}, {why}")
    convention = convention or Convention(frontier.count, frontier.cost)
    rows = Rows(
        ["element", "status", "reason"], ["flops", "params", "params_lo", "params_hi", "tokens", "loss", "loss_se"]
    )
    with style.styled():
        height_mm = 88.0 if style.is_narrow(width_mm) else 95.0
        figure = style.new_figure(width_mm, height_mm)
        axes = figure.add_subplot(title=title)
        groups = sorted((p for p in frontier.parabolas if len(p.params) >= FEWEST), key=lambda p: p.flops)
        handles: list[Line2D] = []
        errors = [_standard_errors(g, runs, frontier.count) for g in groups]
        for k, (group, colour) in enumerate(zip(groups, style.shades(len(groups)), strict=True)):
            point = next((p for p in frontier.points if np.isclose(p.flops, group.flops, rtol=1e-9)), None)
            marker = style.MARKERS[k % len(style.MARKERS)]
            handles.append(_draw_group(axes, rows, group, point, errors[k], colour, marker))
        named = len(groups) <= MOST_NAMED
        if not named:
            refused: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "linestyle": (0, (3, 2))}
            some = any(g.status != Status.CONVERGED for g in groups)
            handles = [Line2D([], [], color=style.MUTED, label="minimum refused", **refused)] if some else []
            norm = style.size_scale([g.flops for g in groups])
            style.size_bar(figure, axes, norm, convention.flops_label(), style.power_number)
        dropped = runs.dropped if runs is not None else ()
        handles += _remarks(axes, np.concatenate(errors), "minimum" in rows.columns["element"], height_mm)
        if dropped:
            handles.append(style.note(f"left out: {style.summarise([d.reason for d in dropped])}"))
        for item in (*frontier.dropped, *dropped):
            rows.add(element="left out", status=str(item.row), reason=item.reason)
        style.log_axis(axes.xaxis, style.si_number)
        style.linear_axis(axes.yaxis)
        axes.set_xlim(*style.log_limits(np.concatenate([g.params for g in groups]), 0.05))
        axes.set_xlabel(convention.params_label())
        axes.set_ylabel(convention.loss_label())
        style.legend_below(figure, handles, columns=6, title=f"budget {convention.flops_label()}:" if named else None)
        return finish(figure, rows)


def _draw_group(
    axes: Axes, rows: Rows, group: Parabola, point: FrontierPoint | None, errors: Array, colour: object, marker: str
) -> Line2D:
    """One budget: its runs, its parabola over their range, its minimum; returns the legend's entry."""
    accepted = group.status == Status.CONVERGED
    face = colour if accepted else "white"
    axes.errorbar(
        group.params, group.loss, yerr=np.nan_to_num(errors), fmt="none", ecolor=style.INK, elinewidth=0.8, zorder=2
    )
    axes.plot(group.params, group.loss, linestyle="none", marker=marker, color=colour, markerfacecolor=face, zorder=3)
    shared = {"flops": group.flops, "status": group.status.value, "reason": group.reason}
    rows.add(element="run", params=group.params, tokens=group.tokens, loss=group.loss, loss_se=errors, **shared)
    if np.isfinite(group.coefficients).all():
        sizes = np.geomspace(group.params.min(), group.params.max(), 121)
        axes.plot(
            sizes, group(sizes), color=colour, linestyle="-" if accepted else (0, (3, 2)), linewidth=1.1, zorder=1
        )
        rows.add(element="parabola", params=sizes, loss=group(sizes), **shared)
    if point is not None and np.isfinite(point.params):
        loss = float(group(point.params))
        lo, hi = point.params_ci
        if np.isfinite([lo, hi]).all():
            axes.plot([lo, hi], [loss, loss], color=style.INK, linewidth=0.9, marker="|", markersize=5, zorder=3.5)
        star: dict[str, Any] = {"marker": "*", "linestyle": "none", "zorder": 4}
        axes.plot(point.params, loss, color="white", markersize=13, **star)
        axes.plot(point.params, loss, color=face, markersize=9, markeredgecolor=style.INK, markeredgewidth=0.6, **star)
        rows.add(
            element="minimum", params=point.params, params_lo=lo, params_hi=hi, tokens=point.tokens, loss=loss, **shared
        )
    label = style.power_number(group.flops) + ("" if accepted else f": {style.STATUS_LABELS[group.status]}")
    return Line2D(
        [],
        [],
        marker=marker,
        color=colour,
        markerfacecolor=face,
        linestyle="-" if accepted else (0, (3, 2)),
        label=label,
    )


def _remarks(axes: Axes, errors: Array, minima: bool, height_mm: float) -> list[Line2D]:
    """Legend entries of the minima and of the losses' standard errors, which may be too small to see."""
    bare: dict[str, Any] = {"linestyle": "none", "color": style.INK}
    found = [Line2D([], [], marker="*", markersize=8, label="minimum N*, with its interval", **bare)] if minima else []
    if np.isfinite(errors).any():
        low, high = axes.get_ylim()
        points = 72.0 * height_mm * style.MM * 0.7 * float(np.nanmax(errors)) / (high - low)
        if points > 2.5:
            found.append(Line2D([], [], marker="|", markersize=7, label="±1 s.e. of the loss", **bare))
        else:
            found.append(style.note("±1 s.e. of the loss is within the marks"))
    return found


def _standard_errors(group: Parabola, runs: Runs | None, count: str) -> Array:
    """The loss's standard error of each run of a group (n,), NaN where not known, found by size, tokens and loss."""
    errors = np.full(len(group.params), np.nan)
    if runs is None:
        return errors
    known = dict(zip(zip(runs.params(count), runs.tokens, runs.loss, strict=True), runs.loss_se, strict=True))
    for i, key in enumerate(zip(group.params, group.tokens, group.loss, strict=True)):
        errors[i] = known.get(key, np.nan)
    return errors
