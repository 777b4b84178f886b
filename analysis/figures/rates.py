"""Loss over the learning rate, a line each for what it was tuned apart: batches, schedules; Kaplan et al. Fig. 22."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_rates(
    rows: pd.DataFrame,
    *,
    line: str,
    panel: str | None = None,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """Held-out loss over the peak learning rate; the geometric mean over seeds joined, every run a dot.

    The large dot is the lowest mean of a line, hollow where no lower or no higher rate was tried.

    Args:
        rows: finished runs, of a store.
        line: the column whose values have a line each.
        panel: the column whose values have a panel each; one panel where there is none.
        convention: of the labels; by default what the rows say.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no line has two rates.
    """
    kept = rows[np.isfinite(rows["loss"]) & (rows["loss"] > 0)]
    tried = kept.groupby([line] if panel is None else [panel, line])["lr"].nunique()
    if kept.empty or tried.max() < 2:
        raise NotDrawable("the figure rates needs two learning rates of one setting")
    convention = convention or marks.convention_of_rows(kept)
    lines = sorted(set(kept[line]))
    colours = dict(
        zip(lines, style.shades(len(lines)) if kept[line].dtype.kind in "if" else style.COLOURS, strict=False)
    )
    table = Rows(["panel", "line", "element"], ["lr", "loss", "runs"])
    with style.styled():
        groups = [("", kept)] if panel is None else list(kept.groupby(panel))
        across = 1 if style.is_narrow(width_mm) else min(3, len(groups))
        high = -(-len(groups) // across)
        figure = style.new_figure(width_mm, 12.0 + (62.0 if across == 1 else 52.0) * high)
        panels = marks.panels_of(figure, len(groups), width_mm, title, across=across, sharey=True)
        for i, (axes, (value, part)) in enumerate(zip(panels, groups, strict=True)):
            name = value if isinstance(value, str) else f"N = {style.si_number(float(value))}"
            axes.set_title(name, fontsize=7.5)
            _panel(axes, name, part, line, colours, table)
            axes.set_xlabel("peak learning rate")
            if i % across == 0:
                axes.set_ylabel(convention.loss_label())
        style.log_axis(panels[0].yaxis, style.plain_number)
        marks.limits(panels[0], y=kept["loss"], margin=0.06)
        label = convention.variable_label(line)[0].split(",")[-1].strip() if line == "batch_tokens" else line
        handles = [
            Line2D([], [], color=c, marker=".", label=k if isinstance(k, str) else style.si_number(k))
            for k, c in colours.items()
        ]
        style.legend_below(figure, handles, title=f"batch, {label}" if line == "batch_tokens" else label)
        return finish(figure, table)


def _panel(axes: Axes, name: str, part: pd.DataFrame, line: str, colours: dict[Any, Any], table: Rows) -> None:
    value: Any
    for value, runs in part.groupby(line):
        means = np.exp(np.log(runs["loss"]).groupby(runs["lr"]).mean()).sort_index()
        colour, text = colours[value], value if isinstance(value, str) else f"{line} {float(value):g}"
        axes.plot(runs["lr"], runs["loss"], color=colour, marker=".", markersize=3, linestyle="none", alpha=0.6)
        axes.plot(means.index, means.to_numpy(), color=colour, linewidth=1.0)
        best = means.idxmin()
        inside = means.index[0] < best < means.index[-1]
        axes.plot(
            [best], [means[best]], color=colour if inside else "white", markeredgecolor=colour, marker="o",
            markersize=4, linestyle="none", zorder=3,
        )  # fmt: skip
        table.add(panel=name, line=text, element="run", lr=runs["lr"].to_numpy(), loss=runs["loss"].to_numpy(), runs=1)
        counts = runs.groupby("lr")["loss"].size().sort_index()
        table.add(
            panel=name, line=text, element="mean", lr=means.index.to_numpy(), loss=means.to_numpy(),
            runs=counts.to_numpy(),
        )  # fmt: skip
    style.log_axis(axes.xaxis, style.plain_number)
    marks.limits(axes, part["lr"], margin=0.08)
