"""Observed against predicted loss of a fit, with residuals; a law of one variable is drawn against that variable."""

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


EQUAL = "observed = predicted"


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
    observed, predicted = _data(fit)
    convention = convention or Convention(fit.count, fit.cost)
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
        top.set_ylabel(convention.loss_label("observed"))
        _residuals(bottom, fit, residual)
        if not below:
            top.set_xlabel(convention.loss_label("predicted"))
        bottom.set_xlabel(convention.loss_label("predicted"))
        if size is not None and np.ptp(size) > 0:
            style.size_bar(figure, [top, bottom], style.size_scale(size), convention.params_label())
        style.legend_below(figure, _legend(fit, EQUAL), columns=3)
        extra = {k: v for k, v in fit.data.items() if k in ("params", "tokens", "flops")}
        rows.add(element="run", observed=observed, predicted=predicted, residual_percent=residual, **extra)
        rows.add(element="equality", observed=limits, predicted=limits)
        return finish(figure, rows)


def plot_law(
    fit: FitResult, *, convention: Convention | None = None, width_mm: float = style.DOUBLE_MM, title: str = ""
) -> Drawn:
    """A law of one variable against its data: line with the band of the mean, and 100·ln(observed/predicted).

    Raises:
        NotDrawable: the fit has no data or no prediction, or its law has several variables.
    """
    if len(fit.model.variables) != 1:
        raise NotDrawable(f"law {fit.law} has {len(fit.model.variables)} variables; draw it with plot_predicted")
    observed, predicted = _data(fit)
    (name,) = fit.model.variables
    convention = convention or Convention(fit.count, fit.cost)
    label, text = {
        "params": (convention.params_label(), style.si_number),
        "tokens": (convention.tokens_label(), style.si_number),
        "flops": (convention.flops_label(), style.power_number),
    }[name]
    x = np.asarray(fit.data[name], dtype=np.float64)
    rows = Rows(["element"], [name, "loss", "loss_lo", "loss_hi", "predicted", "residual_percent"])
    with style.styled():
        figure, top, bottom, below = _panels(width_mm, title)
        line_x = np.geomspace(*style.log_limits(x, 0.04), 121)
        line = fit.predict(**{name: line_x})
        lo = hi = np.full(121, np.nan)
        if fit.draws:
            lo, hi = fit.predict_interval(new_run=False, **{str(name): line_x})
        top.plot(line_x, line, color=style.COLOURS[1], zorder=2)
        top.fill_between(line_x, lo, hi, color=style.COLOURS[1], alpha=0.16, linewidth=0, zorder=1)
        residual = 100.0 * np.log(observed / predicted)
        for panel, y in ((top, observed), (bottom, residual)):
            panel.scatter(x, y, s=15, color=style.COLOURS[0], edgecolors="white", linewidths=0.4, zorder=3)
            style.log_axis(panel.xaxis, text)
            panel.set_xlim(line_x[0], line_x[-1])
        style.log_axis(top.yaxis, style.plain_number)
        top.set_ylabel(convention.loss_label())
        _residuals(bottom, fit, residual)
        if not below:
            top.set_xlabel(label)
        bottom.set_xlabel(label)
        style.legend_below(figure, _legend(fit, f"{fit.law}: {fit.model.formula}"), columns=3)
        rows.add(element="run", loss=observed, predicted=predicted, residual_percent=residual, **{name: x})
        rows.add(element="law", loss=line, loss_lo=lo, loss_hi=hi, **{name: line_x})
        return finish(figure, rows)


def plot_fit(
    fit: FitResult, *, convention: Convention | None = None, width_mm: float = style.DOUBLE_MM, title: str = ""
) -> Drawn:
    """`plot_law` where the law has one variable, else `plot_predicted`."""
    draw = plot_law if len(fit.model.variables) == 1 else plot_predicted
    return draw(fit, convention=convention, width_mm=width_mm, title=title)


def _data(fit: FitResult) -> tuple[Array, Array]:
    """Observed and predicted losses (n,) of the fitted points."""
    if "loss" not in fit.data or "predicted" not in fit.data or len(fit.data["loss"]) == 0:
        raise NotDrawable(f"fit of {fit.law} has no points to draw: {fit.status}, {fit.reason or 'nothing was fitted'}")
    observed = np.asarray(fit.data["loss"], dtype=np.float64)
    predicted = np.asarray(fit.data["predicted"], dtype=np.float64)
    if not (np.isfinite(predicted) & (predicted > 0)).all():
        raise NotDrawable(
            f"fit of {fit.law} predicts no loss for some points: {fit.status}, {fit.reason or 'not fitted'}"
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


def _residuals(axes: Axes, fit: FitResult, residual: Array) -> None:
    """The zero line, ±1 sigma of a run about the law, and symmetric limits."""
    reach = float(np.abs(residual).max())
    if np.isfinite(fit.sigma) and fit.sigma > 0:
        axes.axhspan(-100.0 * fit.sigma, 100.0 * fit.sigma, color=style.FAINT, alpha=0.6, linewidth=0, zorder=0)
        reach = max(reach, 100.0 * fit.sigma)
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    style.linear_axis(axes.yaxis, style.signed_number)
    axes.set_ylim(-1.2 * (reach or 0.1), 1.2 * (reach or 0.1))
    axes.set_ylabel("log residual, %")


def _legend(fit: FitResult, line: str) -> list[Line2D | Patch]:
    """Points, line, and the spread of runs about the law."""
    colour = style.COLOURS[1] if line != EQUAL else style.MUTED
    face = style.COLOURS[0] if "params" not in fit.data or len(fit.model.variables) == 1 else style.sequential()(0.5)
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", linestyle="none", color=face, label=f"{len(fit.data['loss'])} runs"),
        Line2D([], [], color=colour, label=line),
    ]
    if np.isfinite(fit.sigma) and fit.sigma > 0:
        handles.append(
            Patch(color=style.FAINT, alpha=0.6, label=f"±1 s.d. of a run about the law, {100 * fit.sigma:.2g} %")
        )
    handles.append(style.note("log residual: 100 ln(observed/predicted)"))
    if fit.dropped:
        handles.append(style.note(f"{len(fit.dropped)} runs left out of the fit"))
    return handles
