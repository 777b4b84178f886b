"""Iso-loss contours of the fitted law over (C, N) with the frontier and the runs: Hoffmann et al. 2022, Fig. 4 left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.costs import fit_cost
from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.figures.material import Material
    from analysis.table import Runs
    from analysis.types import Array, FitResult, Frontier

GRID = 140
"""Points of the grid along each axis."""


class Contours(Kind):
    """The fitted loss surface and what it says is optimal."""

    name: ClassVar[str] = "contours"
    summary: ClassVar[str] = "iso-loss contours of the fitted law over (C, N), the frontier with its band, and the runs"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 4, left"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_contours(
            material.fit,
            material.runs,
            material.surface_frontier,
            target=material.target,
            convention=material.convention,
            width_mm=width_mm,
            title=material.title,
        )


def plot_contours(
    fit: FitResult,
    runs: Runs,
    frontier: Frontier | None = None,
    *,
    target: float | None = None,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Draws the loss that a fitted law gives to a model of N parameters trained with C FLOPs.

    D at (C, N) is C / (kappa(N) N), with kappa of the runs' own cost (`analysis.costs`); 6 under `6nd`.

    Args:
        fit: of a law over params and tokens.
        runs: the runs behind it.
        frontier: N*(C) to draw with its band; under the fit's count and cost.
        target: FLOPs to extend the axes to; the frontier is dashed beyond the runs.
        convention: of the labels; by default the fit's count and cost.
        width_mm: 85 to 170.
        title: above the axes.

    Raises:
        NotDrawable: the law is of other variables or was not fitted.
    """
    if set(fit.model.variables) != {"params", "tokens"} or not np.isfinite(list(fit.values.values())).all():
        why = fit.reason or "it is fitted and of params and tokens only then"
        raise NotDrawable(
            f"the figure contours needs a fitted law of params and tokens: {fit.law} is {fit.status}, {why}"
        )
    convention = convention or Convention(fit.count, fit.cost)
    n_run, c_run = runs.params(fit.count), runs.flops(fit.cost, fit.count)
    rows = Rows(["element"], ["flops", "params", "params_lo", "params_hi", "tokens", "loss"])
    with style.styled():
        figure = style.new_figure(width_mm, 85.0 if style.is_narrow(width_mm) else 98.0)
        axes = figure.add_subplot(title=title)
        c_limits = style.log_limits([*c_run, *([target] if target else [])], 0.08)
        c_line = np.geomspace(*c_limits, 81)
        n_limits = style.log_limits([*n_run, *(frontier.params(c_line) if frontier and frontier.known else ())], 0.05)
        c, n = np.geomspace(*c_limits, GRID), np.geomspace(*n_limits, GRID)
        tokens = c[None, :] / fit_cost(n_run, runs.tokens, c_run).flops(n, np.ones(GRID))[:, None]
        loss = fit.predict(params=np.broadcast_to(n[:, None], tokens.shape), tokens=tokens)
        levels = _levels(fit, runs, float(loss.min()))
        colours = style.shades(len(levels))
        style.log_axis(axes.xaxis, style.power_number)
        style.log_axis(axes.yaxis, style.si_number)
        axes.set_xlim(*c_limits)
        axes.set_ylim(*n_limits)
        drawn = axes.contour(c, n, loss, levels=levels, colors=colours, linewidths=0.9)
        obstacles = np.column_stack([c_run, n_run])
        if frontier is not None and frontier.known:
            obstacles = np.concatenate([obstacles, np.column_stack([c_line, frontier.params(c_line)])])
        places = _label_places(drawn.allsegs, obstacles, c_limits, n_limits)
        if places:
            for text in axes.clabel(drawn, fontsize=6.0, fmt=style.plain_number, inline_spacing=2, manual=places):
                text.set_color(style.INK)
        for level, segments in zip(drawn.levels, drawn.allsegs, strict=True):
            for segment in segments:
                rows.add(element="contour", flops=segment[:, 0], params=segment[:, 1], loss=level)
        axes.scatter(c_run, n_run, s=12, facecolor="white", edgecolor=style.INK, linewidth=0.8, zorder=3)
        rows.add(element="run", flops=c_run, params=n_run, tokens=runs.tokens, loss=runs.loss)
        handles = [
            Line2D(
                [],
                [],
                color=colours[len(colours) // 2],
                linewidth=0.9,
                label=f"loss by {fit.law}, {convention.loss}",
            ),
            Line2D([], [], marker="o", linestyle="none", markerfacecolor="white", color=style.INK, label="runs"),
        ]
        if frontier is not None and frontier.known:
            handles += _draw_frontier(axes, rows, frontier, c_line, float(c_run.max()))
        axes.set_xlabel(convention.flops_label())
        axes.set_ylabel(convention.params_label())
        style.legend_below(figure, handles, columns=4)
        return finish(figure, rows)


def _levels(fit: FitResult, runs: Runs, least: float) -> Array:
    """About ten losses, round numbers, from the least on the grid to a little above the worst run."""
    high = float(fit.predict(params=runs.params(fit.count), tokens=runs.tokens).max())
    levels = np.asarray(MaxNLocator(10, steps=[1, 2, 2.5, 5, 10]).tick_values(least, high))
    levels = levels[(levels > least) & (levels > 0)]
    return levels if len(levels) else np.array([high])


def _label_places(
    contours: Sequence[Sequence[Array]], obstacles: Array, c_limits: tuple[float, float], n_limits: tuple[float, float]
) -> list[tuple[float, float]]:
    """For each stretch of contour a place (C, N) for its label: inside the axes, far from runs, frontier and labels."""
    low = np.log([c_limits[0], n_limits[0]])
    size = np.log([c_limits[1], n_limits[1]]) - low
    taken = (np.log(obstacles) - low) / size
    found = []
    for segments in contours:
        for segment in segments:
            at = (np.log(segment) - low) / size if len(segment) else np.empty((0, 2))
            inside = ((at > 0.06) & (at < 0.94)).all(axis=1)
            if inside.sum() < 12:
                continue
            near = np.linalg.norm(at[inside][:, None] - taken[None], axis=2).min(axis=1)
            best = int(near.argmax())
            if near[best] > 0.03:
                found.append((float(segment[inside][best, 0]), float(segment[inside][best, 1])))
                taken = np.concatenate([taken, at[inside][best : best + 1]])
    return found


def _draw_frontier(axes: Axes, rows: Rows, frontier: Frontier, c: Array, seen: float) -> list[Line2D]:
    """N*(C) with its band, solid as far as there are runs, dashed beyond; returns legend entries."""
    colour = style.COLOURS[1]
    for element, at, dashes in (
        ("frontier", c[c <= seen], "-"),
        ("frontier, extrapolated", c[np.searchsorted(c, seen, side="right") - 1 :], (0, (4, 2))),
    ):
        n, (lo, hi) = frontier.params(at), frontier.band(at)
        axes.fill_between(at, lo, hi, color=colour, alpha=0.16, linewidth=0, zorder=1.5)
        axes.plot(at, n, color=colour, linewidth=1.6, linestyle=dashes, zorder=2.5)
        rows.add(element=element, flops=at, params=n, params_lo=lo, params_hi=hi)
    band = f", {frontier.N_exponent.level:.0%} interval" if np.isfinite(lo).all() else ""
    return [
        Line2D([], [], color=colour, linewidth=1.6, label=f"N*(C) by {frontier.approach}{band}"),
        Line2D([], [], color=colour, linewidth=1.6, linestyle=(0, (4, 2)), label="beyond the runs"),
    ]
