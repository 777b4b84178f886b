"""Predictions made before training against what was then observed, beside baselines that know no law of N and D."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.figures.material import Material

BASELINE_LABELS = {
    "power": "pure power law",
    "power_law": "pure power law",
    "last_two": "line through the last two budgets",
}


@dataclass(frozen=True)
class Scored:
    """One prediction and its outcome: losses in nats; `observed_se` its standard error, NaN where not known."""

    name: str
    flops: float
    predicted: Estimate
    observed: float = math.nan
    observed_se: float = math.nan
    baselines: Mapping[str, Estimate] = field(default_factory=dict)


class PredictionScores(Kind):
    """How the predictions fared."""

    name: ClassVar[str] = "prediction"
    summary: ClassVar[str] = "predicted loss with its interval against the observed, and baselines, for each prediction"
    source: ClassVar[str] = "extrapolation beside baselines: Choshen et al. 2024 (arXiv 2410.11840)"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_prediction(material.scored, convention=material.convention, width_mm=width_mm, title=material.title)


def plot_prediction(
    scored: Sequence[Scored],
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """One line a prediction: (a) losses, (b) 100·(predicted/observed − 1), law and baselines, with their intervals.

    A prediction that is not yet observed has an empty line in (b).

    Args:
        scored: predictions; drawn from top to bottom.
        convention: of the labels.
        width_mm: 85 (panels above one another) to 170 (side by side).
        title: above the figure.

    Raises:
        NotDrawable: no predictions.
    """
    if not scored:
        raise NotDrawable("the figure prediction needs predictions: register some, train them and score them")
    convention = convention or Convention()
    narrow = style.is_narrow(width_mm)
    baselines = list(dict.fromkeys(name for s in scored for name in s.baselines))
    rows = Rows(
        ["prediction", "element"], ["flops", "loss", "loss_lo", "loss_hi", "error_percent", "error_lo", "error_hi"]
    )
    with style.styled():
        line_mm = 5.0 + 3.2 * len(baselines)
        height = 34.0 + line_mm * len(scored)
        figure = style.new_figure(width_mm, max(60.0, 1.6 * height + 14 if narrow else height + 8))
        panels = figure.subplots(2, 1, sharey=True) if narrow else figure.subplots(1, 2, sharey=True)
        if title:
            figure.suptitle(title, fontsize=8.5)
        for i, s in enumerate(scored):
            _draw_line(panels, rows, s, i, baselines)
        left, right = panels
        left.set_yticks(range(len(scored)), [f"{s.name}\nC = {style.power_number(s.flops)} FLOPs" for s in scored])
        left.set_ylim(len(scored) - 0.5, -0.5)
        style.linear_axis(left.xaxis, most=4 if narrow else 5)
        style.linear_axis(right.xaxis, style.signed_number)
        left.margins(x=0.08)
        right.axvline(0.0, color=style.MUTED, linewidth=0.8, zorder=0)
        left.set_xlabel(convention.loss_label())
        right.set_xlabel("error, predicted/observed − 1, %")
        for axes, letter in zip(panels, "ab", strict=True):
            axes.tick_params(axis="y", length=0, labelsize=7.0)
            axes.spines["left"].set_visible(False)
            for edge in range(1, len(scored)):
                axes.axhline(edge - 0.5, color=style.FAINT, linewidth=0.6, zorder=0)
            style.panel_letter(axes, letter)
        style.legend_below(figure, _handles(scored, baselines), columns=5)
        return finish(figure, rows)


def _mark(k: int) -> tuple[str, str]:
    return style.COLOURS[k % len(style.COLOURS)], style.MARKERS[k % len(style.MARKERS)]


def _draw_line(panels: Sequence[Axes], rows: Rows, s: Scored, i: int, baselines: list[str]) -> None:
    """The marks of one prediction in both panels, law above baselines."""
    left, right = panels
    estimates = [("law", s.predicted), *((b, s.baselines[b]) for b in baselines if b in s.baselines)]
    offsets = np.linspace(-0.28, 0.28, len(baselines) + 1) if baselines else np.zeros(1)
    if np.isfinite(s.observed):
        spread = s.observed_se if np.isfinite(s.observed_se) else 0.0
        left.fill_betweenx(
            [i - 0.4, i + 0.4], s.observed - spread, s.observed + spread, color=style.FAINT, linewidth=0, zorder=0
        )
        left.plot([s.observed, s.observed], [i - 0.4, i + 0.4], color=style.INK, linewidth=1.0, zorder=1)
        relative = 100.0 * spread / s.observed
        right.fill_betweenx([i - 0.4, i + 0.4], -relative, relative, color=style.FAINT, linewidth=0, zorder=-1)
        rows.add(
            prediction=s.name, element="observed", flops=s.flops, loss=s.observed,
            loss_lo=s.observed - s.observed_se, loss_hi=s.observed + s.observed_se,
        )  # fmt: skip
    for name, e in estimates:
        if not e.known:
            continue
        k = 0 if name == "law" else 1 + baselines.index(name)
        colour, marker = _mark(k)
        y = i + offsets[k]
        error, lo, hi = (100.0 * (np.array([e.value, *e.ci]) / s.observed - 1.0)).tolist()
        for axes, value, ends in ((left, e.value, e.ci), (right, error, (lo, hi))):
            if np.isfinite(ends).all():
                axes.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt", zorder=2)
            axes.plot(value, y, marker=marker, markersize=5.0, color=colour, linestyle="none", zorder=3)
        rows.add(
            prediction=s.name, element=name, flops=s.flops, loss=e.value, loss_lo=e.ci[0], loss_hi=e.ci[1],
            error_percent=error, error_lo=lo, error_hi=hi,
        )  # fmt: skip


def _handles(scored: Sequence[Scored], baselines: list[str]) -> list[Line2D]:
    handles = [Line2D([], [], color=style.INK, linewidth=1.0, label="observed, ±1 s.e. shaded")]
    level = scored[0].predicted.level
    for k, name in enumerate(["law", *baselines]):
        colour, marker = _mark(k)
        label = f"law, {level:.0%} interval" if name == "law" else BASELINE_LABELS.get(name, name.replace("_", " "))
        handles.append(Line2D([], [], color=colour, marker=marker, linewidth=1.4, label=label))
    return handles
