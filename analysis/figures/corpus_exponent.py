"""What a corpus's statistics foretell: entropies over context, correlations over lag; Cagnetta et al. 2026 Figs. 2, 3.

arXiv 2602.07488.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.corpus_exponent import CorpusExponent
    from analysis.corpus_statistics import Points
    from analysis.corpus_windows import Window


def plot_corpus_exponent(found: CorpusExponent, *, width_mm: float = style.DOUBLE_MM, title: str = "") -> Drawn:
    """(a) H_n between its bounds over n; (b) the norm of correlations over lag, with its noise; every line fitted.

    Points outside the admissible ranges are hollow. Each line is one window.

    Args:
        found: of `foretell`.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: nothing was measured.
    """
    if not len(found.entropies.all_x) or not len(found.correlations.all_x):
        raise NotDrawable("the figure corpus_exponent needs entropies and correlations; the statistics hold none")
    token = "byte" if found.tokenizer.get("type") == "byte" else "token"
    rows = Rows(["panel", "element", "floor"], ["first", "last", "x", "value", "lo", "hi", "exponent"])
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 80.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        _panel(left, "a", found.entropies, [w for w in found.windows if w.quantity == "entropy"], rows)
        _panel(right, "b", found.correlations, [w for w in found.windows if w.quantity == "correlation"], rows)
        _limits(right, found)
        left.set_xlabel(f"n, {token}s before")
        left.set_ylabel(f"H(n), nats per {token}")
        right.set_xlabel(f"lag, {token}s")
        right.set_ylabel("largest singular value of C(lag)")
        style.legend_below(figure, _handles(found))
        return finish(figure, rows)


def _panel(axes: Axes, panel: str, points: Points, windows: list[Window], rows: Rows) -> None:
    colour = style.COLOURS[0]
    used = np.isin(points.all_x, points.x)
    lo, hi = points.all_value - points.all_half, points.all_value + points.all_half
    if points.all_half.any():
        axes.vlines(points.all_x, lo, hi, color=colour, linewidth=0.9, zorder=2)
    for chosen, face, element in ((used, colour, "used"), (~used, "white", "left out")):
        axes.plot(
            points.all_x[chosen], points.all_value[chosen], color=face, markeredgecolor=colour, marker="o",
            markersize=3.2, linestyle="none", zorder=4,
        )  # fmt: skip
        if chosen.any():
            rows.add(
                panel=panel, element=element, x=points.all_x[chosen], value=points.all_value[chosen], lo=lo[chosen],
                hi=hi[chosen],
            )  # fmt: skip
    if panel == "b":
        axes.plot(points.all_x, points.limit, color=style.MUTED, linestyle=":", linewidth=0.9, zorder=1)
        rows.add(panel=panel, element="noise", x=points.all_x, value=points.limit)
    for w in sorted(windows, key=lambda w: w.last / w.first):
        if not math.isfinite(w.exponent):
            continue
        x = np.geomspace(w.first, w.last, 41)
        y = w.offset + w.amplitude * x**-w.exponent
        free = w.floor == "free"
        axes.plot(
            x, y, color=style.COLOURS[2 if free else 1], alpha=0.55, linewidth=0.8, zorder=3,
            linestyle="--" if free else "-",
        )  # fmt: skip
        rows.add(
            panel=panel, element="line", floor=w.floor, first=w.first, last=w.last, x=x, value=y, exponent=w.exponent
        )
    style.log_axis(axes.xaxis, style.si_number)
    style.log_axis(axes.yaxis, style.power_number if panel == "b" else style.plain_number)
    axes.set_xlim(*style.log_limits(points.all_x))
    axes.set_ylim(*style.log_limits([*points.all_value, *lo, *hi] if panel == "a" else points.all_value))


def _limits(axes: Axes, found: CorpusExponent) -> None:
    """Room for the noise and for what documents of different mixtures alone give, which is drawn."""
    points = found.correlations
    axes.axhline(found.composition, color=style.MUTED, linestyle="--", linewidth=0.7, zorder=1)
    axes.set_ylim(*style.log_limits([*points.all_value, *points.limit, found.composition]))


def _handles(found: CorpusExponent) -> list[Any]:
    blue, red, green = style.COLOURS[0], style.COLOURS[1], style.COLOURS[2]

    def dot(face: str, label: str) -> Line2D:
        return Line2D(
            [], [], color=face, markeredgecolor=blue, marker="o", markersize=3.2, linestyle="none", label=label
        )

    handles = [dot(blue, "measured"), Line2D([], [], color=red, linewidth=0.8, label="power law of a window")]
    if any(w.floor == "free" and math.isfinite(w.exponent) for w in found.windows):
        handles.append(Line2D([], [], color=green, linestyle="--", linewidth=0.8, label="with a floor"))
    if len(found.entropies.x) < len(found.entropies.all_x) or len(found.correlations.x) < len(found.correlations.all_x):
        handles.insert(1, dot("white", "too uncertain to fit"))
    handles.append(Line2D([], [], color=style.MUTED, linestyle=":", linewidth=0.9, label="noise"))
    handles.append(Line2D([], [], color=style.MUTED, linestyle="--", linewidth=0.7, label="documents' mixtures alone"))
    return handles
