"""Observed against predicted loss of a fit, with residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.figures.material import Material
    from analysis.types import Array, FitResult


class Predicted(Kind):
    """How well the fitted law describes the runs it was fitted to."""

    name: ClassVar[str] = "predicted"
    summary: ClassVar[str] = "observed against predicted loss of the fitted law, with residuals in per cent"
    source: ClassVar[str] = "residuals as in Besiroglu et al. 2024 (arXiv 2404.10102) Fig. 2"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_predicted(material.fit, convention=material.convention, width_mm=width_mm, title=material.title)


def plot_predicted(
    fit: FitResult, *, convention: Convention | None = None, width_mm: float = style.DOUBLE_MM, title: str = ""
) -> Drawn:
    """Observed against predicted loss with the line of equality; below (85 mm) or beside it 100·ln(observed/predicted).

    Args:
        fit: with its `data`; points are coloured by size where the law has one.
        convention: of the labels; by default the fit's count and cost.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: the fit has no data or no prediction.
    """
    observed, predicted = fitted_points(fit)
    convention = convention or Convention.of_fit(fit)
    size = np.asarray(fit.data["params"]) if "params" in fit.data else None
    rows = Rows(["element"], ["params", "tokens", "flops", "observed", "predicted", "residual_percent"])
    with style.styled():
        figure, top, bottom, below = _panels(width_mm, title)
        limits = style.log_limits([*observed, *predicted], 0.06)
        top.plot(limits, limits, color=style.MUTED, linewidth=0.8, zorder=1)
        residual = 100.0 * np.log(observed / predicted)
        colours = (
            {"color": style.COLOURS[0]}
            if size is None
            else {"c": size, "cmap": style.sequential(), "norm": style.size_scale(size)}
        )
        for panel, y in ((top, observed), (bottom, residual)):
            panel.scatter(predicted, y, s=15, marker="o", edgecolors="white", linewidths=0.4, zorder=3, **colours)
            style.log_axis(panel.xaxis, style.plain_number)
            panel.set_xlim(*limits)
        style.log_axis(top.yaxis, style.plain_number)
        top.set_ylim(*limits)
        top.set_ylabel(convention.response_label(fit.model.response, "observed"))
        residual_axis(bottom, fit, residual)
        if not below:
            top.set_xlabel(convention.response_label(fit.model.response, "predicted"))
        bottom.set_xlabel(convention.response_label(fit.model.response, "predicted"))
        if size is not None and np.ptp(size) > 0:
            style.size_bar(figure, [top, bottom], style.size_scale(size), convention.params_label())
        style.legend_below(figure, _legend(fit, observed.size), columns=3)
        extra = {k: v for k, v in fit.data.items() if k in ("params", "tokens", "flops")}
        rows.add(element="run", observed=observed, predicted=predicted, residual_percent=residual, **extra)
        rows.add(element="equality", observed=limits, predicted=limits)
        return finish(figure, rows)


def fitted_points(fit: FitResult) -> tuple[Array, Array]:
    """Observed and predicted response (n,) of the fitted points.

    Raises:
        NotDrawable: there are none, or the law gives none of them a value.
    """
    response = fit.model.response
    if response not in fit.data or "predicted" not in fit.data or len(fit.data[response]) == 0:
        raise NotDrawable(f"fit of {fit.law} has no points to draw: {fit.status}, {fit.reason or 'nothing was fitted'}")
    observed = np.asarray(fit.data[response], dtype=np.float64)
    predicted = np.asarray(fit.data["predicted"], dtype=np.float64)
    if not (np.isfinite(predicted) & (predicted > 0)).all():
        raise NotDrawable(
            f"fit of {fit.law} gives no {response} for some points: {fit.status}, {fit.reason or 'not fitted'}"
        )
    return observed, predicted


def _panels(width_mm: float, title: str) -> tuple[Figure, Axes, Axes, bool]:
    """Two panels, the second for residuals: below at 85 mm, beside at 170 mm; and whether it is below."""
    narrow = style.is_narrow(width_mm)
    figure = style.new_figure(width_mm, 118.0 if narrow else 82.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1.0]) if narrow else figure.subplots(1, 2)
    if title:
        figure.suptitle(title, fontsize=8.5)
    for axes, letter in ((top, "a"), (bottom, "b")):
        style.panel_letter(axes, letter)
    return figure, top, bottom, narrow


def residual_axis(axes: Axes, fit: FitResult, residual: Array) -> None:
    """The zero line, ±1 sigma of a run about the law, and symmetric limits."""
    reach = float(np.abs(residual).max())
    if np.isfinite(fit.sigma) and fit.sigma > 0:
        axes.axhspan(-100.0 * fit.sigma, 100.0 * fit.sigma, color=style.FAINT, alpha=0.6, linewidth=0, zorder=0)
        reach = max(reach, 100.0 * fit.sigma)
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    style.linear_axis(axes.yaxis, style.signed_number)
    axes.set_ylim(-1.2 * (reach or 0.1), 1.2 * (reach or 0.1))
    axes.set_ylabel("log residual, %")


def _legend(fit: FitResult, n: int) -> list[Line2D | Patch]:
    """Points, line, and the spread of runs about the law."""
    face = style.sequential()(0.5) if "params" in fit.data else style.COLOURS[0]
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", linestyle="none", color=face, label=f"{n} runs"),
        Line2D([], [], color=style.MUTED, label="observed = predicted"),
    ]
    if np.isfinite(fit.sigma) and fit.sigma > 0:
        handles.append(
            Patch(color=style.FAINT, alpha=0.6, label=f"±1 s.d. of a run about the law, {100 * fit.sigma:.2g} %")
        )
    handles.append(style.note("log residual: 100 ln(observed/predicted)"))
    if fit.dropped:
        handles.append(style.note(f"{len(fit.dropped)} runs left out of the fit"))
    return handles
