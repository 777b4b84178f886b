"""Two sweeps side by side: their frontiers, tokens per parameter, exponents, and the compute each needs for a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.comparing import Comparison
    from analysis.figures.material import Material
    from analysis.types import Estimate, Frontier

SIDES = ("a", "b")


class ComparisonOfTwo(Kind):
    """What one sweep does that another does not."""

    name: ClassVar[str] = "comparison"
    summary: ClassVar[str] = "two sweeps (--against): frontiers, tokens per parameter, exponents, compute multiplier"
    source: ClassVar[str] = "compute at equal loss: Tay et al. 2022 (arXiv 2207.10551)"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_comparison(
            material.comparison, convention=material.convention, width_mm=width_mm, title=material.title
        )


def plot_comparison(
    found: Comparison, *, convention: Convention | None = None, width_mm: float = style.DOUBLE_MM, title: str = ""
) -> Drawn:
    """(a) N*(C) of both, (b) optimal tokens per parameter, (c) differences of the exponents, (d) compute at equal loss.

    Shaded in (c) and (d) is what counts as equal. Where the losses lie on two axes (d) says so and stays empty.

    Args:
        found: of `analysis.compare`.
        convention: of the labels; by default the comparison's count and cost.
        width_mm: 85 (panels above one another) to 170.
        title: above the figure.
    """
    convention = convention or Convention(found.count, found.cost)
    rows = Rows(["panel", "element", "side"], ["flops", "loss", "value", "lo", "hi"])
    narrow = style.is_narrow(width_mm)
    with style.styled():
        figure = style.new_figure(width_mm, 250.0 if narrow else 130.0)
        panels = figure.subplots(4, 1) if narrow else figure.subplots(2, 2).ravel()
        if title:
            figure.suptitle(title, fontsize=8.5)
        for axes, letter in zip(panels, "abcd", strict=True):
            style.panel_letter(axes, letter)
        _frontiers(panels[0], rows, found, convention)
        _ratios(panels[1], rows, found, convention)
        _exponents(panels[2], rows, found)
        _multipliers(panels[3], rows, found, convention)
        style.legend_below(figure, _handles(found), columns=2)
        return finish(figure, rows)


def _mark(side: int) -> tuple[str, str]:
    return style.COLOURS[side], style.MARKERS[side]


def _frontiers(axes: Axes, rows: Rows, found: Comparison, convention: Convention) -> None:
    """N*(C) with its band over the budgets of each side, and the optimum at each budget."""
    for k, f in enumerate(found.frontiers):
        colour, marker = _mark(k)
        kept = [p for p in f.points if p.status.value == "converged"]
        if kept:
            at, best = np.array([p.flops for p in kept]), np.array([p.params for p in kept])
            axes.plot(at, best, color=colour, marker=marker, linestyle="none", zorder=3)
            rows.add(panel="a", element="point", side=SIDES[k], flops=at, value=best)
        if f.known and kept:
            c = np.geomspace(at.min() / 1.2, at.max() * 1.2, 41)
            lo, hi = f.band(c)
            axes.plot(c, f.params(c), color=colour, zorder=2)
            axes.fill_between(c, lo, hi, color=colour, alpha=0.16, linewidth=0, zorder=1)
            rows.add(panel="a", element="frontier", side=SIDES[k], flops=c, value=f.params(c), lo=lo, hi=hi)
    style.log_axis(axes.xaxis, style.power_number)
    style.log_axis(axes.yaxis, style.si_number)
    axes.set_xlabel(convention.flops_label())
    axes.set_ylabel(convention.params_label("N*"))
    _say_if_empty(axes, "\n".join(_why(f, side) for f, side in zip(found.frontiers, SIDES, strict=True)))


def _why(found: Frontier, side: str) -> str:
    return f"{side}: {style.STATUS_LABELS[found.status.value]}"


def _ratios(axes: Axes, rows: Rows, found: Comparison, convention: Convention) -> None:
    """Optimal tokens per parameter at budgets that both cover."""
    for k, side in enumerate(SIDES):
        colour, marker = _mark(k)
        shift = 1.03 if k else 1 / 1.03
        for point in found.tokens_per_param:
            e: Estimate = getattr(point.seen, side)
            _bar(axes, point.flops * shift, e, colour, marker, vertical=True)
            rows.add(panel="b", element="tokens/N", side=side, flops=point.flops, value=e.value, lo=e.ci[0], hi=e.ci[1])
    style.log_axis(axes.xaxis, style.power_number)
    style.log_axis(axes.yaxis, style.plain_number)
    axes.set_xlabel(convention.flops_label())
    axes.set_ylabel(f"D*/N*, {convention.token} per parameter")
    _say_if_empty(axes, "no budget in common")


def _exponents(axes: Axes, rows: Rows, found: Comparison) -> None:
    """Difference b − a of the exponents of N* and D*, beside the margin."""
    names = list(found.exponents)
    for i, name in enumerate(names):
        d = found.exponents[name]
        _bar(axes, i, d.change, style.INK, "o", vertical=False)
        rows.add(
            panel="c", element=f"exponent of {name}*: {d.verdict}", value=d.change.value, lo=d.change.ci[0],
            hi=d.change.ci[1],
        )  # fmt: skip
        axes.axvspan(-d.margin, d.margin, color=style.FAINT, alpha=0.3, linewidth=0, zorder=0)
    axes.axvline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(names)), [f"{n}*: {found.exponents[n].verdict.replace('_', ' ')}" for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=7.0)
    axes.margins(x=0.08)
    style.linear_axis(axes.xaxis, style.signed_number)
    axes.set_xlabel("difference of exponents, b − a")


def _multipliers(axes: Axes, rows: Rows, found: Comparison, convention: Convention) -> None:
    """C_b/C_a at equal loss."""
    for m in found.multipliers:
        _bar(axes, m.loss, m.multiplier, style.INK, "o", vertical=True)
        rows.add(
            panel="d", element=f"compute multiplier: {m.verdict}", loss=m.loss, value=m.multiplier.value,
            lo=m.multiplier.ci[0], hi=m.multiplier.ci[1],
        )  # fmt: skip
    axes.set_xlabel(convention.loss_label() if found.metric == "loss" else found.metric)
    axes.set_ylabel("compute of b, multiples of a's")
    if found.multipliers:
        from analysis.comparing import RATIO_MARGIN

        axes.axhspan(1 / RATIO_MARGIN, RATIO_MARGIN, color=style.FAINT, alpha=0.6, linewidth=0, zorder=0)
        axes.axhline(1.0, color=style.MUTED, linewidth=0.8, zorder=1)
        style.log_axis(axes.yaxis, style.plain_number)
        style.linear_axis(axes.xaxis)
        axes.invert_xaxis()
        axes.margins(x=0.12)
    _say_if_empty(axes, found.multiplier_reason)


def _bar(axes: Axes, at: float, e: Estimate, colour: str, marker: str, *, vertical: bool) -> None:
    """A value with its interval."""
    if not e.known:
        return
    if np.isfinite(e.ci).all():
        ends, place = list(e.ci), [at, at]
        line = (place, ends) if vertical else (ends, place)
        axes.plot(*line, color=colour, linewidth=1.4, solid_capstyle="butt", zorder=2)
    point = (at, e.value) if vertical else (e.value, at)
    axes.plot(*point, color=colour, marker=marker, markersize=5.0, linestyle="none", zorder=3)


def _say_if_empty(axes: Axes, reason: str) -> None:
    """Why a panel has no marks, in its middle, broken to its width."""
    import textwrap

    if any(np.size(line.get_xdata()) for line in axes.lines):
        return
    axes.set_xscale("linear")
    axes.set_yscale("linear")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("")
    text = "\n".join(textwrap.fill(part, 44) for part in reason.splitlines())
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=7.0, color=style.MUTED)


def _handles(found: Comparison) -> list[Line2D]:
    handles = []
    for k, (side, name, n) in enumerate(zip(SIDES, (found.a, found.b), found.runs, strict=True)):
        colour, marker = _mark(k)
        short = name if len(name) <= 60 else f"…{name[-58:]}"
        handles.append(Line2D([], [], color=colour, marker=marker, label=f"{side}: {short}, {n} runs"))
    level = found.exponents["N"].change.level
    handles.append(style.note(f"{found.approach}, {level:.0%} intervals; {found.pairing.partition(':')[0]} draws"))
    handles.append(style.note("shaded in c and d: counts as equal"))
    return handles
