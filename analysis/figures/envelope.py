"""Training curves, loss against FLOPs, with their lower envelope: Hoffmann et al. 2022 (arXiv 2203.15556) Fig. 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Status

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm

    from analysis.figures.material import Material
    from analysis.types import Array, Frontier, FrontierPoint

SHOWN = 30.0
"""The axis begins at the shortest run's FLOPs divided by this: what comes before is the fall from chance."""

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
            convention=material.curve_convention,
            width_mm=width_mm,
            title=material.title,
        )


def plot_envelope(
    curves: pd.DataFrame,
    frontier: Frontier | None = None,
    *,
    from_flops: float | None = None,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Draws one line a run, the least loss that any run reaches with at most C, and the frontier's points.

    Args:
        curves: `run_id`, `params`, `flops`, `loss` (nats), a row a measurement; rows that are not finite are left out.
        frontier: by the envelope; its converged points are marked. None: curves alone.
        from_flops: where the axis begins; by default at a thirtieth of the shortest run.
        convention: of the labels; by default the frontier's count and cost.
        width_mm: 85 to 170.
        title: above the axes.

    Raises:
        NotDrawable: no curve has two points.
    """
    convention = convention or Convention(*((frontier.count, frontier.cost) if frontier else ()))
    lines = _lines(curves, from_flops)
    if not lines:
        raise NotDrawable("the figure envelope needs training curves: none has two finite points of FLOPs and loss")
    rows = Rows(["element", "run_id", "status", "reason"], ["flops", "params", "loss"])
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
            Line2D([], [], color=style.INK, linewidth=1.5, label="least loss with at most C"),
        ]
        points = [p for p in (frontier.points if frontier else ()) if np.isfinite([p.flops, p.params, p.loss]).all()]
        if points:
            handles += _draw_points(axes, rows, points, norm)
        style.log_axis(axes.xaxis, style.power_number)
        style.log_axis(axes.yaxis, style.plain_number)
        axes.set_xlim(*style.log_limits(np.concatenate([c for _, _, c, _ in lines]), 0.03))
        axes.set_ylim(*style.log_limits(np.concatenate([loss for *_, loss in lines]), 0.04))
        axes.set_xlabel(convention.flops_label())
        axes.set_ylabel(convention.loss_label())
        style.size_bar(figure, axes, norm, convention.params_label())
        style.legend_below(figure, handles, columns=4)
        return finish(figure, rows)


def _draw_points(axes: Axes, rows: Rows, points: list[FrontierPoint], norm: LogNorm) -> list[Line2D]:
    """Points of the frontier, those it did not use hollow; returns legend entries."""
    handles = []
    for used, label in (
        (True, "used by approach 1"),
        (False, "not used: run not near its end, or size at the edge"),
    ):
        some = [p for p in points if (p.status == Status.CONVERGED) is used]
        mark: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 4.5, "markeredgewidth": 0.7}
        for p in some:
            fill = style.sequential()(norm(p.params)) if used else "white"
            axes.plot(p.flops, p.loss, color=fill, markeredgecolor=style.INK, zorder=4, **mark)
            rows.add(
                element="point", status=p.status.value, reason=p.reason, flops=p.flops, params=p.params, loss=p.loss
            )
        if some:
            face = style.MUTED if used else "white"
            handles.append(Line2D([], [], color=face, markeredgecolor=style.INK, label=label, **mark))
    return handles


def lower_envelope(lines: list[tuple[Array, Array]], n: int = 400) -> tuple[Array, Array]:
    """C (n,) evenly in log, and the least loss of all curves up to there, each interpolated in log C.

    Begins where half of the curves have begun.
    """
    low = float(np.median([c[0] for c, _ in lines]))
    high = max(float(c[-1]) for c, _ in lines)
    ends = [c[-1] for c, _ in lines]
    grid = np.unique(np.concatenate([np.geomspace(low, high, n)[1:-1], [low, high], [c for c in ends if c >= low]]))
    each = [np.interp(np.log(grid), np.log(c), loss, left=np.inf, right=np.inf) for c, loss in lines]
    least = np.minimum.accumulate(np.min(each, axis=0))
    inside = np.isfinite(least)
    return grid[inside], least[inside]


def _lines(curves: pd.DataFrame, from_flops: float | None) -> list[tuple[str, float, Array, Array]]:
    """(run id, N, C, loss) of every curve of two or more points from `from_flops` on, C rising."""
    found = []
    for run_id, part in curves.groupby("run_id", sort=True):
        c, loss = (part[k].to_numpy(dtype=np.float64) for k in ("flops", "loss"))
        good = np.isfinite(c) & np.isfinite(loss) & (c > 0) & (loss > 0)
        c, first = np.unique(c[good], return_index=True)
        if len(c) >= 2:
            found.append((str(run_id), float(part["params"].iloc[0]), c, loss[good][first]))
    if not found:
        return []
    start = min(float(c[-1]) for _, _, c, _ in found) / SHOWN if from_flops is None else from_flops
    shown = [(run_id, n, c[c >= start], loss[c >= start]) for run_id, n, c, loss in found]
    return [(run_id, n, *_thinned(c, loss)) for run_id, n, c, loss in shown if len(c) >= 2]


def _thinned(c: Array, loss: Array) -> tuple[Array, Array]:
    """At most about `EVEN_POINTS` of the points, the first and the last among them."""
    if len(c) <= EVEN_POINTS:
        return c, loss
    even = np.searchsorted(c, np.geomspace(c[0], c[-1], EVEN_POINTS) * (1 - 1e-12))
    keep = np.unique(np.clip(even, 0, len(c) - 1))
    return c[keep], loss[keep]
