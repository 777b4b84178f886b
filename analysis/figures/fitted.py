"""Any fit with its residuals: the law against its data, residuals by each variable, and a normal Q–Q plot.

A law of one variable is drawn against it with the band of the mean; others as observed against predicted. Order
statistics of a normal sample: Wilk and Gnanadesikan 1968 (Biometrika 55:1); their band by the beta distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, Rows, finish
from analysis.figures.predicted import fitted_points, residual_axis
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.figures.material import Material
    from analysis.types import Array, FitResult

MOST_GROUPS = 8
"""Means of residuals are drawn for this many groups of a variable at most."""
QQ_LEVEL = 0.9
"""Pointwise coverage of the band in which ordered normal residuals lie."""


class Fitted(Kind):
    """The law that was asked for, with everything one looks at before one trusts it."""

    name: ClassVar[str] = "fit"
    summary: ClassVar[str] = "one fitted law (--law): law and data, residuals by each variable, normal Q-Q"
    source: ClassVar[str] = "residual analysis: Wilk and Gnanadesikan 1968, Biometrika 55:1"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_fit(material.fit, convention=material.convention, width_mm=width_mm, title=material.title)


@dataclass(frozen=True)
class _Look:
    """How the points of one fit are drawn: arrays (n,), colours, and the labels of their axes."""

    fit: FitResult
    convention: Convention
    observed: Array
    predicted: Array

    @property
    def residual(self) -> Array:
        return np.asarray(100.0 * np.log(self.observed / self.predicted))

    @property
    def colours(self) -> dict[str, Any]:
        """Size orders the points of a law of several variables; otherwise one colour."""
        if len(self.fit.model.variables) == 1 or "params" not in self.fit.data or np.ptp(self.fit.data["params"]) == 0:
            return {"color": style.COLOURS[0]}
        size = np.asarray(self.fit.data["params"], dtype=np.float64)
        return {"c": size, "cmap": style.sequential(), "norm": style.size_scale(size)}

    def scatter(self, axes: Axes, x: Array, y: Array) -> None:
        axes.scatter(x, y, marker="o", edgecolors="white", zorder=3, **_marks(len(self.observed)), **self.colours)


def _marks(n: int) -> dict[str, Any]:
    """Smaller marks where there are many."""
    return {"s": 15.0, "linewidths": 0.4} if n <= 60 else {"s": 9.0, "linewidths": 0.2} if n <= 600 else {"s": 4.0}


def plot_fit(
    fit: FitResult, *, convention: Convention | None = None, width_mm: float = style.DOUBLE_MM, title: str = ""
) -> Drawn:
    """The law and its data (a), residuals 100·ln(observed/predicted) by each variable, and their normal Q–Q plot.

    Beside each residual plot are the means of up to eight groups of the variable with ±1 standard error: a trend, or
    one side only, says that the law, the noise model or a run's tuning is wrong there.

    Args:
        fit: with its `data`.
        convention: of the labels; by default what the fit's checklist says.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: the fit has no data or no prediction.
    """
    observed, predicted = fitted_points(fit)
    look = _Look(fit, convention or Convention.of_fit(fit), observed, predicted)
    variables = tuple(fit.model.variables)
    rows = Rows(
        ["panel", "element"],
        [*variables, "observed", "predicted", "loss_lo", "loss_hi", "residual_percent", "se", "normal_quantile"],
    )
    with style.styled():
        figure, panels = _panels(width_mm, title, 2 + len(variables))
        law = _draw_curve if len(variables) == 1 else _draw_equality
        handles = law(panels[0], look, rows)
        for axes, name in zip(panels[1:], variables, strict=False):
            _draw_residuals(axes, look, name, rows)
        _draw_qq(panels[-1], look, rows)
        if "c" in look.colours:
            style.size_bar(figure, panels, look.colours["norm"], look.convention.params_label())
        style.legend_below(figure, [*handles, *_notes(look)], columns=3)
        given = {k: np.asarray(fit.data[k], dtype=np.float64) for k in variables}
        rows.add(
            panel="all", element="run", observed=observed, predicted=predicted, residual_percent=look.residual, **given
        )
        return finish(figure, rows)


def _panels(width_mm: float, title: str, n: int) -> tuple[Figure, list[Axes]]:
    """`n` panels: below one another at 85 mm, else in rows of two, or of three where that fills them."""
    columns = 1 if style.is_narrow(width_mm) else 3 if n in (3, 5, 6) else 2
    lines = -(-n // columns)
    figure = style.new_figure(width_mm, 14.0 + (58.0 if columns == 1 else 60.0) * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for axes in grid[n:]:
        axes.remove()
    if title:
        figure.suptitle(title, fontsize=8.5)
    for axes, letter in zip(grid[:n], "abcdefghij", strict=False):
        style.panel_letter(axes, letter)
    return figure, grid[:n]


def _draw_curve(axes: Axes, look: _Look, rows: Rows) -> list[Line2D | Patch]:
    """A law of one variable: the curve, the band of the mean, the runs."""
    fit = look.fit
    (name,) = fit.model.variables
    x = np.asarray(fit.data[name], dtype=np.float64)
    label, text = look.convention.variable_label(name)
    at = np.geomspace(*style.log_limits(x, 0.04), 121)
    curve = fit.predict(**{name: at})
    lo, hi = fit.predict_interval(new_run=False, **{str(name): at}) if fit.draws else (np.full(at.size, np.nan),) * 2
    axes.plot(at, curve, color=style.COLOURS[1], zorder=2)
    axes.fill_between(at, lo, hi, color=style.COLOURS[1], alpha=0.16, linewidth=0, zorder=1)
    look.scatter(axes, x, look.observed)
    style.log_axis(axes.xaxis, text)
    style.log_axis(axes.yaxis, style.plain_number)
    axes.set_xlim(at[0], at[-1])
    axes.set_xlabel(label)
    axes.set_ylabel(look.convention.response_label(fit.model.response))
    rows.add(panel="a", element="law", predicted=curve, loss_lo=lo, loss_hi=hi, **{name: at})
    found: list[Line2D | Patch] = [Line2D([], [], color=style.COLOURS[1], label=f"{fit.law}: {fit.model.formula}")]
    if fit.draws:
        found.append(Patch(color=style.COLOURS[1], alpha=0.16, label=f"its mean, {fit.level:.0%} interval"))
    return found


def _draw_equality(axes: Axes, look: _Look, rows: Rows) -> list[Line2D | Patch]:
    """A law of several variables: observed against predicted, and the line on which they are equal."""
    limits = style.log_limits([*look.observed, *look.predicted], 0.06)
    axes.plot(limits, limits, color=style.MUTED, linewidth=0.8, zorder=1)
    look.scatter(axes, look.predicted, look.observed)
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis, style.plain_number)
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    axes.set_xlabel(look.convention.response_label(look.fit.model.response, "predicted"))
    axes.set_ylabel(look.convention.response_label(look.fit.model.response, "observed"))
    rows.add(panel="a", element="equality", observed=limits, predicted=limits)
    return [Line2D([], [], color=style.MUTED, label=f"observed = predicted by {look.fit.law}")]


def _draw_residuals(axes: Axes, look: _Look, name: str, rows: Rows) -> None:
    """Residuals against one variable, with the means of its groups."""
    x = np.asarray(look.fit.data[name], dtype=np.float64)
    label, text = look.convention.variable_label(name)
    look.scatter(axes, x, look.residual)
    centres, means, errors = group_means(x, look.residual)
    axes.errorbar(
        centres, means, yerr=errors, color=style.COLOURS[1], marker="D", markersize=3.2, linewidth=0.9, zorder=4
    )
    style.log_axis(axes.xaxis, text)
    axes.set_xlim(*style.log_limits(x, 0.06))
    axes.set_xlabel(label)
    residual_axis(axes, look.fit, look.residual)
    rows.add(panel=name, element="group mean", residual_percent=means, se=errors, **{name: centres})


def group_means(x: Array, residual: Array, most: int = MOST_GROUPS) -> tuple[Array, Array, Array]:
    """Geometric mean of x, mean residual and its standard error (0 for one run), (G,) each, in up to `most` groups.

    Groups are the distinct values of x where there are few enough, else quantiles of x; equal values stay together.
    """
    distinct, where = np.unique(x, return_inverse=True)
    if distinct.size > most:
        edges = np.quantile(x, np.linspace(0, 1, most + 1)[1:-1])
        where = np.searchsorted(edges, x, side="left")
    found = []
    for group in np.unique(where):
        r = residual[where == group]
        error = float(r.std(ddof=1) / np.sqrt(r.size)) if r.size > 1 else 0.0
        found.append((float(np.exp(np.log(x[where == group]).mean())), float(r.mean()), error))
    centres, means, errors = np.array(found).T
    return centres, means, errors


def _draw_qq(axes: Axes, look: _Look, rows: Rows) -> None:
    """Ordered residuals against normal quantiles, with the band in which a normal sample's lie."""
    from scipy.special import betaincinv, ndtri

    r = np.sort(look.residual - look.residual.mean())
    n = r.size
    rank = np.arange(1, n + 1)
    spread = float(r.std(ddof=1)) if n > 1 else 0.0
    quantile = ndtri((rank - 0.375) / (n + 0.25))
    tail = (1 - QQ_LEVEL) / 2
    lo, hi = (spread * ndtri(betaincinv(rank, n + 1 - rank, p)) for p in (tail, 1 - tail))
    axes.fill_between(quantile, lo, hi, color=style.FAINT, alpha=0.6, linewidth=0, zorder=0)
    ends = np.array([quantile[0], quantile[-1]])
    axes.plot(ends, spread * ends, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.scatter(quantile, r, color=style.INK, edgecolors="white", zorder=3, **_marks(n))
    style.linear_axis(axes.xaxis, style.signed_number)
    style.linear_axis(axes.yaxis, style.signed_number)
    axes.set_xlabel("normal quantile")
    axes.set_ylabel("log residual, %")
    rows.add(panel="qq", element="run", residual_percent=r, normal_quantile=quantile, loss_lo=lo, loss_hi=hi)


def _notes(look: _Look) -> list[Line2D | Patch]:
    """Legend entries for what all panels share."""
    fit = look.fit
    found: list[Line2D | Patch] = []
    face = style.COLOURS[0] if "color" in look.colours else style.sequential()(0.5)
    found.append(Line2D([], [], marker="o", linestyle="none", color=face, label=f"{len(look.observed)} runs"))
    found.append(
        Line2D([], [], color=style.COLOURS[1], marker="D", markersize=3.2, linewidth=0.9, label="group mean, ±1 s.e.")
    )
    sigma = 100.0 * fit.sigma
    shade = f"±1 s.d. of a run about the law, {sigma:.2g} %; normal sample, {QQ_LEVEL:.0%}"
    if np.isfinite(sigma) and sigma > 0:
        found.append(Patch(color=style.FAINT, alpha=0.6, label=shade))
    found.append(style.note("log residual: 100 ln(observed/predicted)"))
    if fit.status.value != "converged":
        found.append(style.note(f"the fit is {style.STATUS_LABELS[fit.status.value]}"))
    if fit.dropped:
        found.append(style.note(f"{len(fit.dropped)} runs left out of the fit"))
    return found
