"""Loss of trunks' branches beside separate runs, and what the same interval costs; Hägele et al. 2024, Fig. 1 and §4.

arXiv 2405.18392.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.types import Status

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from analysis.trunks import Saving
    from analysis.types import FitResult

LOOKS: Mapping[str, dict[str, Any]] = {
    "trunks": {"marker": "o", "linestyle": "-"},
    "separate runs": {"marker": "s", "linestyle": "--", "markerfacecolor": "white"},
}
POINTS = 60


def plot_trunks(
    found: Saving,
    trunks: tuple[pd.DataFrame, FitResult],
    separate: tuple[pd.DataFrame, FitResult],
    words: Mapping[str, str],
    *,
    count: str = "non_embedding",
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) Loss over tokens by size, either design with its law; (b) share of FLOPs for the same interval.

    Args:
        found: of `analysis.trunks.saving`.
        trunks: the branches' rows (params_<count>, tokens, loss) and Hoffmann's law fitted to them.
        separate: the same of separate runs.
        words: what each quantity of `found` is called on the axis.
        count: which parameters N counts.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: there are no runs.
    """
    if not len(trunks[0]) or not len(separate[0]):
        raise NotDrawable("the figure trunks needs finished runs of both designs")
    convention = marks.convention_of_rows(trunks[0], count)
    rows = Rows(
        ["panel", "element", "design", "quantity", "status", "reason"],
        ["params", "tokens", "loss", "share", "lo", "hi"],
    )
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 84.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        sizes = sorted({*trunks[0][f"params_{count}"], *separate[0][f"params_{count}"]})
        colours = marks.size_colours(sizes)
        for (name, look), (runs, fit) in zip(LOOKS.items(), (trunks, separate), strict=True):
            _losses(left, name, look, runs, fit, count, colours, rows)
        style.log_axis(left.xaxis, style.si_number)
        style.log_axis(left.yaxis, style.plain_number)
        marks.limits(left, np.concatenate([trunks[0].tokens, separate[0].tokens]))
        left.set_xlabel(convention.tokens_label())
        left.set_ylabel(convention.loss_label())
        _shares(right, found, words, rows)
        handles = [Line2D([], [], color=style.INK, label=name, **look) for name, look in LOOKS.items()]
        handles += [Line2D([], [], color=c, linewidth=3, label=f"N {style.si_number(n)}") for n, c in colours.items()]
        handles.append(Line2D([], [], color=style.MUTED, linestyle=":", label="share of FLOPs spent"))
        style.legend_below(figure, handles, columns=4)
        return finish(figure, rows)


def _losses(
    axes: Axes,
    name: str,
    look: Mapping[str, Any],
    runs: pd.DataFrame,
    fit: FitResult,
    count: str,
    colours: Mapping[float, Any],
    rows: Rows,
) -> None:
    drawn = bool(np.isfinite(list(fit.values.values())).all())
    for size, part in runs.sort_values("tokens").groupby(f"params_{count}"):
        colour, tokens = colours[float(str(size))], part.tokens.to_numpy(dtype=np.float64)
        axes.plot(tokens, part.loss, **{**look, "linestyle": "none"}, color=colour, zorder=3)
        rows.add(panel="loss", element="run", design=name, params=float(str(size)), tokens=tokens, loss=part.loss)
        if drawn:
            x = np.geomspace(tokens.min(), tokens.max(), POINTS)
            line = fit.predict(params=np.full(x.size, float(str(size))), tokens=x)
            axes.plot(x, line, linestyle=look["linestyle"], color=colour, linewidth=0.9, zorder=2)
            rows.add(panel="loss", element="law", design=name, params=float(str(size)), tokens=x, loss=line)


def _shares(axes: Axes, found: Saving, words: Mapping[str, str], rows: Rows) -> None:
    axes.axhline(1.0, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.axhline(found.cost, color=style.MUTED, linewidth=0.8, linestyle=":", zorder=1)
    rows.add(panel="share", element="cost", share=found.cost)
    for place, quantity in enumerate(found.quantities):
        face = style.COLOURS[0] if quantity.status is Status.CONVERGED else "white"
        marks.error_bar(axes, place, quantity.share, style.COLOURS[0], "o", face=face)
        rows.add(
            panel="share", element="quantity", quantity=quantity.name, status=str(quantity.status),
            reason=quantity.reason, share=quantity.share.value, lo=quantity.share.ci[0], hi=quantity.share.ci[1],
        )  # fmt: skip
    labels = [textwrap.fill(words[q.name], 20) for q in found.quantities]
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(axis="x", labelsize=6.5)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    ends = marks.finite([found.cost, 1.0, *(v for q in found.quantities for v in (q.share.value, *q.share.ci))])
    style.log_axis(axes.yaxis, style.plain_number)
    marks.limits(axes, y=ends)
    axes.set_ylabel("trunks' FLOPs over separate runs', same interval")
