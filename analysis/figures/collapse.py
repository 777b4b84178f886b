"""Normalised loss curves of compute-optimal runs, and their spread beside that of seeds: Qiu et al. 2025, Figs. 1, 2.

arXiv 2507.02119.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish

if TYPE_CHECKING:
    from analysis.collapsing import Collapsed


def plot_collapse(found: Collapsed, *, width_mm: float = style.DOUBLE_MM, title: str = "") -> Drawn:
    """(a) l(x) of every run over its share of compute; (b) spread of ln l over runs, and of seeds, by share.

    Args:
        found: of `measure_collapse`.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: there are no curves.
    """
    curves = found.collapse
    if not len(curves.curves):
        raise NotDrawable(f"the figure collapse needs curves: {found.reason}")
    rows = Rows(["panel", "element"], ["params", "flops", "share", "normalised", "spread"])
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 80.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        for k, line in enumerate(curves.curves):
            colour = style.COLOURS[k % len(style.COLOURS)]
            label = f"{style.power_number(curves.flops[k])} FLOPs, N {style.si_number(found.params[k])}"
            left.plot(curves.x, line, label=label, color=colour)
            rows.add(
                panel="a", element="curve", params=found.params[k], flops=curves.flops[k], share=curves.x,
                normalised=line,
            )  # fmt: skip
        right.plot(curves.x, 100 * curves.spread, color=style.COLOURS[0], label="between budgets, ln l")
        rows.add(panel="b", element="between budgets", share=curves.x, spread=curves.spread)
        if np.isfinite(found.seed_spread).any():
            right.plot(
                curves.x, 100 * found.seed_spread, color=style.COLOURS[1], linestyle="--",
                label="between seeds, ln(L − E)",
            )  # fmt: skip
            rows.add(panel="b", element="between seeds", share=curves.x, spread=found.seed_spread)
        left.set_ylabel("l = (L − E)/(L at the end − E)")
        right.set_ylabel("standard deviation, %")
        right.set_ylim(bottom=0.0)
        for axes in (left, right):
            axes.set_xlabel("share of the run's compute")
            style.linear_axis(axes.xaxis)
            style.linear_axis(axes.yaxis)
            axes.legend()
        return finish(figure, rows)
