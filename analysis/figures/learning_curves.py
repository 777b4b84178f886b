"""Learning curves of every size over S_min with the law L(N, S_min), and what it leaves.

Kaplan et al. 2020 (arXiv 2001.08361) Fig. 4 (right) and eq. 5.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.learning_curves import points_of

if TYPE_CHECKING:
    from analysis.learning_curves import LearningCurves


def plot_learning_curves(
    found: LearningCurves,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) Points of every run's curve and the fitted law of each size; (b) log residuals.

    Args:
        found: of `fit_learning_curves`.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: there are no points.
    """
    if not len(found.table):
        raise NotDrawable(f"the figure learning_curves needs points: {found.reason}")
    convention = convention or marks.convention_of(found.labels)
    rows = Rows(["panel", "element"], ["params", "S_min", "loss", "predicted", "lo", "hi", "residual_percent"])
    symbol = "S_min, optimizer steps at a large batch" if found.adjusted else "S, optimizer steps as taken"
    known = bool(found.fit.params) and all(e.known for e in found.fit.params.values())
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 84.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        parts = points_of(found)
        norm = style.size_scale(list(parts))
        for n, part in parts.items():
            colour = style.sequential()(norm(n))
            look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 2.4, "linestyle": "none", "zorder": 3}
            left.plot(part[:, 0], part[:, 1], **look)
            residual = 100.0 * np.log(part[:, 1] / part[:, 2])
            right.plot(part[:, 0], residual, **look)
            rows.add(
                panel="a", element="point", params=n, S_min=part[:, 0], loss=part[:, 1], predicted=part[:, 2],
                residual_percent=residual,
            )  # fmt: skip
            if not known:
                continue
            at = np.geomspace(part[0, 0], part[-1, 0], 61)
            size = np.full(at.size, n)
            line = found.fit.predict(params=size, steps=at)
            nan = np.full(at.size, np.nan)
            lo, hi = found.fit.predict_interval(params=size, steps=at) if found.fit.draws else (nan, nan)
            left.plot(at, line, color=colour, linewidth=0.9, zorder=2)
            left.fill_between(at, lo, hi, color=colour, alpha=0.2, linewidth=0, zorder=1)
            rows.add(panel="a", element="law", params=n, S_min=at, predicted=line, lo=lo, hi=hi)
        right.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
        for axes in (left, right):
            style.log_axis(axes.xaxis, style.si_number)
            axes.set_xlabel(symbol)
        style.log_axis(left.yaxis, style.plain_number)
        style.linear_axis(right.yaxis, style.signed_number)
        left.set_ylabel(convention.loss_label())
        right.set_ylabel("log residual, %")
        style.size_bar(figure, [left, right], norm, convention.params_label())
        handles = [
            Line2D([], [], color=style.MUTED, marker="o", markersize=2.4, linestyle="none", label="points of runs")
        ]
        if known:
            alpha, beta = found.fit.params["alpha"], found.fit.params["beta"]
            law = f"A N^−α + B S^−β, α = {alpha.value:.3g}, β = {beta.value:.3g}, {found.fit.level:.0%} band"
            handles.append(Line2D([], [], color=style.MUTED, linewidth=0.9, label=law))
        if found.fit.status.value != "converged":
            handles.append(style.note(f"the fit is {style.STATUS_LABELS[found.fit.status.value]}"))
        style.legend_below(figure, handles, columns=3)
        return finish(figure, rows)
