"""Loss on held-out text of the training corpus and of another, by size; Kaplan et al. (arXiv 2001.08361) Fig. 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.types import FitResult


def plot_transfer(
    params: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    fits: Mapping[str, FitResult],
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Losses of the same runs on several texts over size, each with its power law and the band of its mean.

    Args:
        params: sizes (n,).
        losses: nats (n,) by the text's name.
        fits: the law of each text, one of `params`.
        convention: of the labels.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no run was scored.
    """
    if not len(params) or not losses:
        raise NotDrawable("the figure transfer needs runs that were scored on another text")
    convention = convention or Convention(count="non_embedding", what="held-out loss")
    rows = Rows(["text", "element"], ["params", "loss", "lo", "hi"])
    with style.styled():
        figure = style.new_figure(width_mm, 84.0)
        axes = figure.subplots()
        if title:
            figure.suptitle(title, fontsize=8.5)
        x = np.geomspace(min(params), max(params), 60)
        handles = []
        for i, (text, values) in enumerate(losses.items()):
            colour, marker = style.COLOURS[i], style.MARKERS[i]
            axes.plot(params, values, color=colour, marker=marker, linestyle="none", zorder=3)
            rows.add(text=text, element="run", params=np.asarray(params), loss=np.asarray(values))
            label = text
            if text in fits:
                line, lo, hi = marks.law_band(axes, fits[text], x, colour, linewidth=1.0)
                rows.add(text=text, element="law", params=x, loss=line, lo=lo, hi=hi)
                label = f"{text}, α_N = {fits[text].params['alpha'].value:.3f}"
            handles.append(Line2D([], [], color=colour, marker=marker, label=label))
        axes.set_xlabel(convention.params_label())
        axes.set_ylabel(convention.loss_label())
        style.log_axis(axes.xaxis, style.si_number)
        style.log_axis(axes.yaxis, style.plain_number)
        marks.limits(axes, params, [v for part in losses.values() for v in part], 0.08)
        style.legend_below(figure, handles)
        return finish(figure, rows)
