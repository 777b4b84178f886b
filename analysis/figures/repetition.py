"""Repeated text: loss by tokens for each amount of unique text, and the worth of a token by epoch.

After Muennighoff et al. 2023 (arXiv 2305.16264) Figs. 3 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.law_worth import data_term_worth
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.repetition import Repetition, Step
    from analysis.types import FitResult

_LINE = 81
_ASIDE = 0.1
"""How far the sizes stand from each other, in doublings of epochs."""


def plot_repetition_loss(found: Repetition, *, width_mm: float = style.DOUBLE_MM, title: str = "") -> Drawn:
    """Loss by tokens seen, a panel a size: fresh text, each limited text over its epochs, and the law with its band.

    Args:
        found: of `measure_repetition`.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no run saw its text again.
    """
    if not found.points:
        raise NotDrawable(f"the figure repetition needs runs that repeat their text: {found.reason}")
    convention = marks.convention_of(found.labels)
    sizes = sorted({p.params for p in found.points})
    colours = marks.size_colours([p.unique_tokens for p in found.points])
    law = found.law if found.law is not None and all(e.known for e in found.law.params.values()) else None
    rows = Rows(["panel", "element"], ["params", "unique_tokens", "epochs", "tokens", "value", "lo", "hi"])
    with style.styled():
        narrow = style.is_narrow(width_mm)
        figure = style.new_figure(width_mm, 70.0 * len(sizes) if narrow else 84.0)
        panels = marks.panels_of(figure, len(sizes), width_mm, title)
        for n, axes, letter in zip(sizes, panels, "abcdefgh", strict=False):
            _losses(axes, letter, n, found, law, colours, rows)
            axes.set_title(f"N = {style.si_number(n)}", fontsize=8.0)
            axes.set_xlabel(convention.tokens_label("D"))
        panels[0].set_ylabel(convention.loss_label())
        handles = [Line2D([], [], color=style.INK, marker="o", linewidth=0.7, linestyle=":", label="fresh text")]
        handles += [
            Line2D([], [], color=c, marker=style.MARKERS[1 + k % 8], linestyle="none",
                   label=f"U = {style.si_number(u)}")
            for k, (u, c) in enumerate(colours.items())
        ]  # fmt: skip
        if law is not None:
            handles.append(Line2D([], [], color=style.MUTED, label=f"law {law.law}, {law.level:.0%} band"))
            if law.status is not Status.CONVERGED:
                handles.append(style.note(f"the law's fit is {style.STATUS_LABELS[law.status.value]}"))
        style.legend_below(figure, handles)
        return finish(figure, rows)


def _losses(
    axes: Axes, letter: str, n: float, found: Repetition, law: FitResult | None, colours: dict[float, Any], rows: Rows
) -> None:
    fresh = [f for f in found.fresh if f.params == n]
    for f in fresh:
        marks.error_bar(axes, f.tokens, f.loss, style.INK, "o", markersize=3.5)
        rows.add(panel=letter, element="fresh", params=n, tokens=f.tokens, value=f.loss.value, lo=f.loss.ci[0],
                 hi=f.loss.ci[1])  # fmt: skip
    axes.plot([f.tokens for f in fresh], [f.loss.value for f in fresh], color=style.INK, linewidth=0.7, linestyle=":")
    for k, (u, colour) in enumerate(colours.items()):
        part = [p for p in found.points if (p.params, p.unique_tokens) == (n, u)]
        if not part:
            continue
        for p in part:
            marks.error_bar(axes, u * p.epochs, p.loss, colour, style.MARKERS[1 + k % 8], markersize=3.5)
            rows.add(panel=letter, element="repeated", params=n, unique_tokens=u, epochs=p.epochs, tokens=u * p.epochs,
                     value=p.loss.value, lo=p.loss.ci[0], hi=p.loss.ci[1])  # fmt: skip
        if law is None:
            continue
        at = u * np.geomspace(part[0].epochs, max(part[-1].epochs, part[0].epochs * 1.01), _LINE)
        x: dict[str, Any] = {"params": np.full(_LINE, n), "tokens": at, "unique_tokens": np.minimum(at, u)}
        line = law.predict(**x)
        nan = np.full(_LINE, np.nan)
        lo, hi = law.predict_interval(**x) if law.draws else (nan, nan)
        axes.plot(at, line, color=colour, linewidth=0.9, zorder=2)
        axes.fill_between(at, lo, hi, color=colour, alpha=0.16, linewidth=0, zorder=1)
        rows.add(panel=letter, element="law", params=n, unique_tokens=u, epochs=at / u, tokens=at, value=line, lo=lo,
                 hi=hi)  # fmt: skip
    style.log_axis(axes.xaxis, style.si_number)
    style.log_axis(axes.yaxis, style.plain_number)


def plot_repetition_worth(found: Repetition, *, width_mm: float = style.DOUBLE_MM, title: str = "") -> Drawn:
    """(a) Worth of a token by epoch, measured by size and over all, and the law's; (b) excess loss over fresh text.

    Args:
        found: of `measure_repetition`.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no worth could be read.
    """
    if not any(s.worth.known for s in found.by_epoch):
        raise NotDrawable(f"the worth of repeated text needs runs beside fresh ones: {found.reason}")
    rows = Rows(["panel", "element", "status"], ["params", "unique_tokens", "first", "last", "value", "lo", "hi"])
    colours = marks.size_colours([p.params for p in found.points])
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 88.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        _worths(left, found, colours, rows)
        _excesses(right, found, colours, rows)
        left.set_ylabel("worth of a token, in fresh ones of equal loss")
        right.set_ylabel("loss above fresh text's at as many tokens, %")
        handles = [
            Line2D(
                [], [], color=c, marker=style.MARKERS[1 + k % 8], linestyle="none", label=f"N = {style.si_number(n)}"
            )
            for k, (n, c) in enumerate(colours.items())
        ]
        handles.append(Line2D([], [], color=style.INK, marker="o", linestyle="none", label="mean over all"))
        if any(s.law.known for s in found.by_epoch):
            handles.append(Line2D([], [], color=style.COLOURS[1], marker="x", linestyle="none", label="by the law"))
            handles.append(Line2D([], [], color=style.COLOURS[1], linestyle="--", label="by its data term alone"))
        handles.append(style.note("smaller marks to the right: more text"))
        style.legend_below(figure, handles)
        return finish(figure, rows)


def _middle(step: Step) -> float:
    """Where a step stands on a log axis of epochs."""
    return float(np.sqrt(step.first * step.last))


def _worths(axes: Axes, found: Repetition, colours: dict[float, Any], rows: Rows) -> None:
    axes.axhline(0.0, color=style.FAINT, linewidth=0.8, zorder=0)
    axes.axhline(1.0, color=style.FAINT, linewidth=0.8, zorder=0)
    groups = [("by size", s, colours[s.params], list(colours).index(s.params) + 1) for s in found.by_size]
    for element, s, colour, place in [*groups, *(("over all", s, style.INK, 0) for s in found.by_epoch)]:
        x = _middle(s) * 2.0 ** (_ASIDE * (place - (len(colours)) / 2))
        face = colour if s.status is Status.CONVERGED else "white"
        marks.error_bar(axes, x, s.worth, colour, style.MARKERS[place % 9], face=face, markersize=4.0)
        rows.add(panel="a", element=element, status=str(s.status), params=s.params, first=s.first, last=s.last,
                 value=s.worth.value, lo=s.worth.ci[0], hi=s.worth.ci[1])  # fmt: skip
    for s in found.by_epoch:
        x = _middle(s) * 2.0 ** (_ASIDE * (len(colours) / 2 + 1))
        marks.error_bar(axes, x, s.law, style.COLOURS[1], "x", markersize=4.0)
        rows.add(panel="a", element="law", first=s.first, last=s.last, value=s.law.value, lo=s.law.ci[0],
                 hi=s.law.ci[1])  # fmt: skip
    most = max(s.last for s in found.by_epoch)
    if found.law is not None and np.isfinite(found.law.values.get("R_D", np.nan)):
        at = np.geomspace(1.0, most, _LINE)
        near = np.array([float(data_term_worth(found.law.values["R_D"], e, e * (1 + 1e-6))) for e in at])
        axes.plot(at, near, color=style.COLOURS[1], linestyle="--", linewidth=0.9, zorder=1)
        rows.add(panel="a", element="data term", first=at, last=at, value=near)
    axes.set_xlabel("epochs, geometric middle of each step")
    style.log_axis(axes.xaxis, style.plain_number)
    axes.set_xlim(0.9, 1.1 * most)
    style.linear_axis(axes.yaxis)


def _excesses(axes: Axes, found: Repetition, colours: dict[float, Any], rows: Rows) -> None:
    texts = sorted({p.unique_tokens for p in found.points})
    axes.axhline(0.0, color=style.FAINT, linewidth=0.8, zorder=0)
    for k, (n, colour) in enumerate(colours.items()):
        for t, u in enumerate(texts):
            part = [p for p in found.points if (p.params, p.unique_tokens) == (n, u) and p.excess.known]
            x = np.array([p.epochs * 2.0 ** (_ASIDE * (t - (len(texts) - 1) / 2)) for p in part])
            for place, p in zip(x, part, strict=True):
                value, (lo, hi) = 100.0 * p.excess.value, (100.0 * e for e in p.excess.ci)
                if np.isfinite([lo, hi]).all():
                    axes.plot([place, place], [lo, hi], color=colour, linewidth=0.8, zorder=2)
                axes.plot([place], [value], color=colour, marker=style.MARKERS[1 + k % 8], linestyle="none",
                          markersize=4.5 - t, zorder=3)  # fmt: skip
                rows.add(panel="b", element="excess", status=str(p.status), params=n, unique_tokens=u, last=p.epochs,
                         value=value, lo=lo, hi=hi)  # fmt: skip
            if len(part) > 1:
                axes.plot(x, [100.0 * p.excess.value for p in part], color=colour, linewidth=0.5, alpha=0.7, zorder=1)
    axes.set_xlabel("epochs over the same text")
    style.log_axis(axes.xaxis, style.plain_number)
    style.linear_axis(axes.yaxis)
