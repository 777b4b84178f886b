"""Loss by shape at fixed size, one panel a ratio; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 5."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.shapes import FAMILIES
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.shapes import ShapeEffect, Shapes

NAMES = {
    "aspect_ratio": "aspect ratio, d_model/n_layer",
    "feed_forward_ratio": "feed-forward ratio, d_ff/d_model",
    "head_width": "head width, d_model/n_head",
}


def plot_shapes(
    found: Shapes,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Effect on the loss, in percent, over the ratio that varies; shaded is what the seeds do not resolve.

    Args:
        found: of `measure_shapes`.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: there are no effects.
    """
    families = [name for name in FAMILIES if found.family(name)]
    if not families:
        raise NotDrawable(f"the figure shapes needs two shapes of one family: {found.reason}")
    convention = convention or marks.convention_of(found.labels)
    rows = Rows(
        ["family", "status"],
        ["n_layer", "d_model", "d_ff", "n_head", "params", "ratio", "lr", "loss", "effect_percent", "lo", "hi",
         "resolution_percent", "runs"],
    )  # fmt: skip
    with style.styled():
        narrow = style.is_narrow(width_mm)
        figure = style.new_figure(width_mm, 14.0 + 56.0 * len(families) if narrow else 76.0)
        panels = marks.panels_of(figure, len(families), width_mm, title)
        ends = [v for e in found.effects for v in (e.effect_percent.value, *e.effect_percent.ci, e.resolution_percent)]
        ends = marks.finite([*ends, *(-e.resolution_percent for e in found.effects)]) or [0.0]
        pad = 0.08 * (max(ends) - min(ends)) or 1.0
        for axes, name in zip(panels, families, strict=True):
            _panel(axes, found.family(name), rows)
            axes.set_ylim(min(ends) - pad, max(ends) + pad)
            axes.set_xlabel(NAMES[name])
        for axes in panels if narrow else panels[:1]:
            axes.set_ylabel(f"effect on {convention.what}, %")
        style.legend_below(figure, _handles(found), columns=3)
        return finish(figure, rows)


def _face(effect: ShapeEffect) -> str:
    return style.COLOURS[0] if effect.status is Status.CONVERGED else "white"


def _panel(axes: Axes, effects: tuple[ShapeEffect, ...], rows: Rows) -> None:
    ratios = [e.ratio for e in effects]
    low, high = style.log_limits(ratios, 0.1)
    bound = min((e.resolution_percent for e in effects if math.isfinite(e.resolution_percent)), default=math.nan)
    if math.isfinite(bound):
        axes.axhspan(-bound, bound, color=style.FAINT, alpha=0.6, linewidth=0, zorder=0)
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    for e in effects:
        if e.is_reference:
            axes.plot([e.ratio], [0.0], color=style.INK, marker="D", linestyle="none", zorder=3)
        else:
            colour = style.COLOURS[1] if e.status is Status.NON_INTERIOR else style.COLOURS[0]
            marks.error_bar(axes, e.ratio, e.effect_percent, colour, "o", face=_face(e))
        rows.add(
            family=e.family, status=str(e.status), n_layer=e.shape.n_layer, d_model=e.shape.d_model, d_ff=e.shape.d_ff,
            n_head=e.shape.n_head, params=e.params, ratio=e.ratio, lr=e.lr, loss=e.loss.value,
            effect_percent=e.effect_percent.value, lo=e.effect_percent.ci[0], hi=e.effect_percent.ci[1],
            resolution_percent=e.resolution_percent, runs=e.runs,
        )  # fmt: skip
    style.log_axis(axes.xaxis, style.si_number)
    style.linear_axis(axes.yaxis, style.signed_number)
    axes.set_xlim(low, high)


def _handles(found: Shapes) -> list[Line2D | Patch]:
    r = found.reference
    kinds = {e.status for e in found.effects if not e.is_reference}
    size = style.si_number(found.reference_params)
    name = f"reference: {r.n_layer} × {r.d_model}, d_ff {r.d_ff}, {r.n_head} heads, N = {size}"
    handles: list[Line2D | Patch] = [Line2D([], [], color=style.INK, marker="D", linestyle="none", label=name)]
    for status, colour, face, label in (
        (Status.CONVERGED, style.COLOURS[0], style.COLOURS[0], "resolved"),
        (Status.NOT_RESOLVED, style.COLOURS[0], "white", "not resolved"),
        (Status.NON_INTERIOR, style.COLOURS[1], "white", "best rate at the edge of those tried"),
    ):
        if status in kinds:
            handles.append(
                Line2D([], [], color=face, markeredgecolor=colour, marker="o", linestyle="none", label=label)
            )
    if found.noise.dof:
        handles.append(
            Patch(color=style.FAINT, alpha=0.6, label=f"below what seeds of {100 * found.noise.sd:.2g} % resolve")
        )
    return handles
