"""Loss over compute, data and parameters, one power law each; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 1.

The published slopes stand as small triangles apart from the data: theirs are nats per BPE token of another text, so
neither their level nor their slope is a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.laws.power import Power
from analysis.overfitting import Overfitting
from analysis.types import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.compute import Compute

DASHES = ("-", "--", ":")


def plot_kaplan_panels(
    compute: Compute | None = None,
    data: Overfitting | FitResult | Sequence[FitResult] | None = None,
    params: FitResult | Sequence[FitResult] | None = None,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """L(C) with the learning curves under it, L(D) and L(N), each with its law and the band of its mean, all log–log.

    Args:
        compute: of `measure_compute`; over C_min where it was measured, with the naive frontier beside it.
        data: fits over tokens or unique tokens (first the power law, then perhaps one with a floor), or of
            `measure_overfitting`, whose largest size is drawn.
        params: fits over params, likewise.
        convention: of the labels; by default what the results say.
        width_mm: 85 (panels above one another) to 170.
        title: above the figure.

    Raises:
        NotDrawable: none of the three has anything to show.
    """
    over_data, over_params = _fits(data), _fits(params)
    shown = compute is not None and any(f.law is not None for f in (compute.naive, compute.adjusted) if f is not None)
    if not shown and not over_data and not over_params:
        raise NotDrawable("the figure kaplan_panels needs a law over compute, data or parameters")
    convention = convention or _convention(compute, data, over_params)
    rows = Rows(["panel", "element", "law"], ["x", "params", "value", "lo", "hi"])
    with style.styled():
        figure = style.new_figure(width_mm, 196.0 if style.is_narrow(width_mm) else 82.0)
        first, second, third = marks.panels_of(figure, 3, width_mm, title)
        handles: list[Line2D] = []
        if shown and compute is not None:
            handles += _compute(first, compute, convention, rows)
        else:
            marks.no_marks(first, "no frontier over compute was measured")
        _law_panel(second, over_data, "data", convention, rows)
        _law_panel(third, over_params, "params", convention, rows)
        for axes in (first, second, third) if style.is_narrow(width_mm) else (first,):
            axes.set_ylabel(convention.loss_label())
        handles.append(Line2D([], [], color=style.INK, marker="o", markersize=3.0, linestyle="none", label="runs"))
        handles.append(Line2D([], [], color=style.COLOURS[1], label="A x^−α, with the band of its mean"))
        if any(len(fits) > 1 for fits in (over_data, over_params)):
            handles.append(Line2D([], [], color=style.COLOURS[1], linestyle="--", label="with a floor"))
        handles.append(
            Line2D([], [], color=style.MUTED, linewidth=0.7, label="slopes of Kaplan et al. 2020 (nats/BPE token)")
        )
        style.legend_below(figure, handles, columns=4)
        return finish(figure, rows)


def _fits(given: Overfitting | FitResult | Sequence[FitResult] | None) -> tuple[FitResult, ...]:
    """Fits with parameters, of one variable."""
    if given is None:
        return ()
    if isinstance(given, Overfitting):
        given = given.by_size[-1].fit if given.by_size else ()
    several = (given,) if isinstance(given, FitResult) else tuple(given)
    return tuple(f for f in several if f.params and all(e.known for e in f.params.values()))


def _convention(compute: Compute | None, data: Any, params: tuple[FitResult, ...]) -> Convention:
    if compute is not None:
        return marks.convention_of(compute.labels)
    return marks.convention_of(data.labels) if isinstance(data, Overfitting) else Convention.of_fit(params[0])


def _compute(axes: Axes, found: Compute, convention: Convention, rows: Rows) -> list[Line2D]:
    """Learning curves, the frontier and its law; over C_min as well where there is a critical batch."""
    table = found.curves
    norm = style.size_scale(table["params"])
    for _, part in table.groupby(["params", "batch_tokens", "lr"], dropna=False, sort=True):
        n = float(part["params"].iloc[0])
        axes.plot(part["flops"], part["loss"], color=style.sequential()(norm(n)), linewidth=0.5, alpha=0.6, zorder=1)
        rows.add(panel="compute", element="curve", params=n, x=part["flops"], value=part["loss"])
    handles = [Line2D([], [], color=style.sequential()(0.5), linewidth=0.5, label="learning curves, dark = small N")]
    seen_x, seen_y = [], []
    for f, colour, name in ((found.naive, style.COLOURS[1], "C"), (found.adjusted, style.COLOURS[0], "C_min")):
        if f is None or f.law is None or not f.law.params:
            continue
        at = np.geomspace(*style.log_limits(f.law.data["flops"], 0.04), 61)
        line, lo, hi = marks.law_band(axes, f.law, at, colour)
        rows.add(panel="compute", element=f"law over {name}", law=f.law.law, x=at, value=line, lo=lo, hi=hi)
        rows.add(panel="compute", element=f"frontier over {name}", x=f.law.data["flops"], value=f.law.data["loss"])
        seen_x += [at[0], at[-1]]
        seen_y += [line[0], line[-1]]
        alpha = f.law.params["alpha"].value
        if f is found.adjusted:
            handles.append(Line2D([], [], color=colour, label=f"over C_min, α = {alpha:.3g}"))
        else:
            _state(axes, alpha, 0)
    style.log_axis(axes.xaxis, style.power_number)
    style.log_axis(axes.yaxis, style.plain_number)
    if seen_x:
        marks.limits(axes, seen_x, None, 0.12)
        low, high = axes.get_xlim()
        inside = table[(table["flops"] >= low) & (table["flops"] <= high)]["loss"]
        marks.limits(axes, None, [*seen_y, *(v for v in inside if v < 1.6 * max(seen_y))], 0.06)
    axes.set_xlabel(convention.flops_label("C or C_min" if found.adjusted is not None else "C"))
    published = Power("flops").instances["kaplan_2020" if found.adjusted is None else "kaplan_2020_min"]["alpha"]
    marks.slope_triangle(axes, -published, f"−{published:.3f}")
    return handles


def _state(axes: Axes, alpha: float, line: int) -> None:
    axes.text(
        0.04, 0.05 + 0.08 * line, f"α = {alpha:.3g}", transform=axes.transAxes, fontsize=7.0, color=style.COLOURS[1]
    )


def _law_panel(axes: Axes, fits: tuple[FitResult, ...], name: str, convention: Convention, rows: Rows) -> None:
    """Runs and laws over data or parameters."""
    if not fits:
        what = "unique data" if name == "data" else "size"
        marks.no_marks(axes, f"no law over {what} was measured")
        return
    (variable,) = fits[0].model.variables
    x, loss = (np.asarray(fits[0].data[k], dtype=np.float64) for k in (variable, "loss"))
    axes.plot(x, loss, color=style.INK, marker="o", markersize=3.0, linestyle="none", zorder=3)
    rows.add(panel=name, element="run", x=x, value=loss)
    at = np.geomspace(*style.log_limits(x, 0.04), 61)
    for fit, dashes in zip(fits, DASHES, strict=False):
        line, lo, hi = marks.law_band(axes, fit, at, style.COLOURS[1], linestyle=dashes)
        rows.add(panel=name, element="law", law=fit.law, x=at, value=line, lo=lo, hi=hi)
    _state(axes, fits[0].params["alpha"].value, 0)
    label, text = convention.variable_label(variable)
    style.log_axis(axes.xaxis, text)
    style.log_axis(axes.yaxis, style.plain_number)
    marks.limits(axes, at, [*loss, *line], 0.08)
    axes.set_xlabel(label.replace("U, ", "D, "))
    published = Power("tokens" if name == "data" else "params").instances["kaplan_2020"]["alpha"]
    marks.slope_triangle(axes, -published, f"−{published:.3f}")
