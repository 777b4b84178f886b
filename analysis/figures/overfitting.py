"""Loss on limited unique data by size, and the overfit over N^(alpha_N/alpha_D)/D.

Kaplan et al. 2020 (arXiv 2001.08361) Fig. 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from analysis.overfitting import Overfitting


def plot_overfitting(
    found: Overfitting,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) Early-stopped loss over unique data by size, with the joint law; (b) the overfit of every point, and its law.

    Args:
        found: of `measure_overfitting`.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: there are no points.
    """
    if not found.points:
        raise NotDrawable(f"the figure overfitting needs runs on limited data: {found.reason}")
    convention = convention or marks.convention_of(found.labels, "early-stopped held-out loss")
    rows = Rows(["panel", "element"], ["params", "unique_tokens", "x", "value", "lo", "hi", "runs"])
    known = bool(found.joint.params) and all(e.known for e in found.joint.params.values())
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 84.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        colours = marks.size_colours([p.params for p in found.points])
        _losses(left, found, colours, known, rows)
        _overfits(right, found, colours, known, rows)
        left.set_xlabel(convention.variable_label("unique_tokens")[0].replace("U, ", "D, "))
        left.set_ylabel(convention.loss_label())
        right.set_xlabel(r"$N^{\alpha_N/\alpha_D}/D$, N of the fit's count, D in " + convention.token)
        right.set_ylabel("δL = L(N, D)/L(N, ∞) − 1, %")
        handles = [
            Line2D([], [], color=c, marker=style.MARKERS[k % len(style.MARKERS)], linestyle="none",
                   label=f"N = {style.si_number(n)}")
            for k, (n, c) in enumerate(colours.items())
        ]  # fmt: skip
        if known:
            alpha, beta = found.joint.params["alpha"], found.joint.params["beta"]
            law = f"joint law, α_N = {alpha.value:.3g}, α_D = {beta.value:.3g}, {found.joint.level:.0%} band"
            handles.append(Line2D([], [], color=style.MUTED, label=law))
        if found.joint.status.value != "converged":
            handles.append(style.note(f"the joint fit is {style.STATUS_LABELS[found.joint.status.value]}"))
        style.legend_below(figure, handles)
        return finish(figure, rows)


def _losses(axes: Axes, found: Overfitting, colours: dict[float, object], known: bool, rows: Rows) -> None:
    for k, (n, colour) in enumerate(colours.items()):
        part = [p for p in found.points if p.params == n]
        data = np.array([p.unique_tokens for p in part])
        for p in part:
            marks.error_bar(axes, p.unique_tokens, p.loss, colour, style.MARKERS[k % len(style.MARKERS)])
            rows.add(
                panel="a", element="run mean", params=n, unique_tokens=p.unique_tokens, x=p.x, value=p.loss.value,
                lo=p.loss.ci[0], hi=p.loss.ci[1], runs=p.runs,
            )  # fmt: skip
        if known:
            at = np.geomspace(data.min(), data.max(), 61)
            size = np.full(at.size, n)
            line = found.joint.predict(params=size, tokens=at)
            nan = np.full(at.size, np.nan)
            lo, hi = found.joint.predict_interval(params=size, tokens=at) if found.joint.draws else (nan, nan)
            axes.plot(at, line, color=colour, linewidth=0.9, zorder=2)
            axes.fill_between(at, lo, hi, color=colour, alpha=0.16, linewidth=0, zorder=1)
            rows.add(panel="a", element="joint law", params=n, unique_tokens=at, value=line, lo=lo, hi=hi)
    style.log_axis(axes.xaxis, style.si_number)
    style.log_axis(axes.yaxis, style.plain_number)


def _overfits(axes: Axes, found: Overfitting, colours: dict[float, object], known: bool, rows: Rows) -> None:
    """Overfits in percent on a linear axis: noise puts some below 0."""
    if not known:
        marks.no_marks(axes, f"N^(α_N/α_D)/D needs the joint law: {found.joint.reason}")
        return
    order = {n: k for k, n in enumerate(colours)}
    part = [p for p in found.points if p.overfit.known]
    for p in part:
        marker = style.MARKERS[order[p.params] % len(style.MARKERS)]
        value, (lo, hi) = 100.0 * p.overfit.value, (100.0 * e for e in p.overfit.ci)
        if np.isfinite([lo, hi]).all():
            axes.plot([p.x, p.x], [lo, hi], color=colours[p.params], linewidth=1.0, zorder=2)  # type: ignore[arg-type]
        axes.plot([p.x], [value], color=colours[p.params], marker=marker, linestyle="none", zorder=3)  # type: ignore[arg-type]
        rows.add(
            panel="b", element="run mean", params=p.params, unique_tokens=p.unique_tokens, x=p.x, value=value, lo=lo,
            hi=hi, runs=p.runs,
        )  # fmt: skip
    if not part:
        marks.no_marks(axes, "every size has one amount of data: there is nothing to compare")
        return
    at = np.geomspace(*style.log_limits([p.x for p in part], 0.06), 81)
    line, low, high = (100.0 * v for v in found.delta_over(at))
    axes.plot(at, line, color=style.MUTED, zorder=2)
    axes.fill_between(at, low, high, color=style.MUTED, alpha=0.2, linewidth=0, zorder=1)
    axes.axhline(0.0, color=style.FAINT, linewidth=0.8, zorder=0)
    rows.add(panel="b", element="joint law", x=at, value=line, lo=low, hi=high)
    style.log_axis(axes.xaxis, style.power_number)
    style.linear_axis(axes.yaxis)
    axes.set_xlim(at[0], at[-1])
