"""Training curves, loss against FLOPs, with their lower envelope: Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    import pandas as pd

    from analysis.figures.material import Material
    from analysis.types import Array, Frontier

EVEN_POINTS = 200
"""Points drawn of a longer curve, evenly spaced in log C: more than a printed line resolves."""


class Envelope(Kind):
    """Training curves and the points that approach 1 chose."""

    name: ClassVar[str] = "envelope"
    summary: ClassVar[str] = (
        "training curves (loss against FLOPs) coloured by N, their lower envelope, the chosen points"
    )
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 2"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_envelope(
            material.curves,
            material.find("envelope"),
            convention=material.convention,
            width_mm=width_mm,
            title=material.title,
        )


def plot_envelope(
    curves: pd.DataFrame,
    frontier: Frontier | None = None,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Draws one line a run, the least loss of any run at each C, and the frontier's points.

    Args:
        curves: `run_id`, `params`, `flops`, `loss` (nats), a row a measurement; rows that are not finite are left out.
        frontier: by the envelope; its converged points are marked. None: curves alone.
        convention: of the labels; by default the frontier's count and cost.
        width_mm: 85 to 170.
        title: above the axes.

    Raises:
        NotDrawable: no curve has two points.
    """
    convention = convention or Convention(*((frontier.count, frontier.cost) if frontier else ()))
    lines = _lines(curves)
    if not lines:
        raise NotDrawable("the figure envelope needs training curves: none has two finite points of FLOPs and loss")
    rows = Rows(["element", "run_id"], ["flops", "params", "loss"])
    with style.styled():
        figure = style.new_figure(width_mm, 80.0 if style.is_narrow(width_mm) else 92.0)
        axes = figure.add_subplot(title=title)
        norm = style.size_scale([n for _, n, _, _ in lines])
        for run_id, n, c, loss in lines:
            axes.plot(c, loss, color=style.sequential()(norm(n)), linewidth=0.7, alpha=0.85)
            rows.add(element="curve", run_id=run_id, params=n, flops=c, loss=loss)
        c, least = lower_envelope([(c, loss) for _, _, c, loss in lines])
        axes.plot(c, least, color=style.INK, linewidth=1.5, zorder=3)
        rows.add(element="envelope", flops=c, loss=least)
        handles = [
            Line2D([], [], color=style.sequential()(0.4), linewidth=0.9, label="training curve of one run"),
            Line2D([], [], color=style.INK, linewidth=1.5, label="least loss of any run"),
        ]
        points = [p for p in (frontier.points if frontier else ()) if np.isfinite([p.flops, p.params, p.loss]).all()]
        if points:
            xyz = np.array([(p.flops, p.params, p.loss) for p in points])
            size = 22.0 if len(points) <= 30 else 7.0
            shown = axes.scatter(
                xyz[:, 0],
                xyz[:, 2],
                s=size,
                c=style.sequential()(norm(xyz[:, 1])),
                edgecolors=style.INK,
                linewidths=0.7,
                zorder=4,
            )
            shown.set_label("chosen by approach 1")
            handles.append(shown)
            rows.add(element="chosen", flops=xyz[:, 0], params=xyz[:, 1], loss=xyz[:, 2])
        style.log_axis(axes.xaxis, style.power_number)
        style.log_axis(axes.yaxis, style.plain_number)
        axes.set_xlim(*style.log_limits(np.concatenate([c for _, _, c, _ in lines]), 0.03))
        axes.set_ylim(*style.log_limits(np.concatenate([loss for *_, loss in lines]), 0.04))
        axes.set_xlabel(convention.flops_label())
        axes.set_ylabel(convention.loss_label())
        style.size_bar(figure, axes, norm, convention.params_label())
        style.legend_below(figure, handles)
        return finish(figure, rows)


def lower_envelope(lines: list[tuple[Array, Array]], n: int = 400) -> tuple[Array, Array]:
    """C (n,) evenly in log, and the least loss there of all curves, each interpolated linearly in log C inside its range."""
    low = min(float(c[0]) for c, _ in lines)
    high = max(float(c[-1]) for c, _ in lines)
    grid = np.geomspace(low, high, n)
    grid[0], grid[-1] = low, high
    each = [np.interp(np.log(grid), np.log(c), loss, left=np.inf, right=np.inf) for c, loss in lines]
    least = np.min(each, axis=0)
    inside = np.isfinite(least)
    return grid[inside], least[inside]


def _lines(curves: pd.DataFrame) -> list[tuple[str, float, Array, Array]]:
    """(run id, N, C, loss) of every curve of two or more points, C rising."""
    found = []
    for run_id, part in curves.groupby("run_id", sort=True):
        c, loss = (part[k].to_numpy(dtype=np.float64) for k in ("flops", "loss"))
        good = np.isfinite(c) & np.isfinite(loss) & (c > 0) & (loss > 0)
        c, first = np.unique(c[good], return_index=True)
        loss = loss[good][first]
        if len(c) < 2:
            continue
        if len(c) > EVEN_POINTS:
            even = np.searchsorted(c, np.geomspace(c[0], c[-1], EVEN_POINTS) * (1 - 1e-12))
            keep = np.unique(np.clip(even, 0, len(c) - 1))
            c, loss = c[keep], loss[keep]
        found.append((str(run_id), float(part["params"].iloc[0]), c, loss))
    return found
