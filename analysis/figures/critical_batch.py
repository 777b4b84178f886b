"""Steps against tokens to fixed losses with their hyperbolas, and the critical batch against the loss.

Kaplan et al. 2020 (arXiv 2001.08361) Fig. 18 and 10; McCandlish et al. 2018 (arXiv 1812.06162).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.critical_batch import CriticalBatch, TargetTradeOff
    from analysis.noise_scale import NoiseScale


def plot_critical_batch(
    found: CriticalBatch,
    noise: NoiseScale | None = None,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) Steps and tokens to each loss, one mark a batch, with its hyperbola; (b) B_crit(L), and the noise scale.

    Hollow marks are batches whose best rate is at the edge of those tried; they enter no fit. Losses whose steps span
    too little have marks and no hyperbola.

    Args:
        found: of `measure_critical_batch`.
        noise: of `noise_scale`, drawn beside B_crit.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no target was reached at any batch.
    """
    reached = [t for t in found.targets if any(p.steps and not p.censored for p in t.points)]
    if not reached:
        raise NotDrawable(
            f"the figure critical_batch needs targets that were reached: {found.reason or 'there are none'}"
        )
    convention = convention or marks.convention_of(found.labels)
    rows = Rows(
        ["panel", "element", "status"],
        ["target", "params", "batch_tokens", "steps", "tokens", "value", "lo", "hi"],
    )
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 88.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        norm = style.size_scale([t.target for t in reached])
        _hyperbolas(left, reached, convention, norm, rows)
        handles = _law(right, found, noise, convention, rows)
        style.size_bar(figure, left, norm, convention.loss_label("target"), style.plain_number)
        style.legend_below(figure, [*_marks(reached), *handles], columns=4)
        return finish(figure, rows)


def _hyperbolas(axes: Axes, targets: list[TargetTradeOff], convention: Convention, norm: Any, rows: Rows) -> None:
    all_steps, all_tokens = [], []
    for t in targets:
        colour = style.sequential()(norm(t.target))
        for p in t.points:
            if not p.steps or p.censored:
                continue
            steps, tokens = (float(np.exp(np.mean(np.log(v)))) for v in (p.steps, p.tokens))
            used = p.status is Status.CONVERGED
            axes.plot(
                [steps], [tokens], color=colour if used else "white", markeredgecolor=colour, marker="o",
                linestyle="none", zorder=3,
            )  # fmt: skip
            rows.add(
                panel="a", element="batch", status=str(p.status), target=t.target, params=t.params,
                batch_tokens=p.batch_tokens, steps=steps, tokens=tokens,
            )  # fmt: skip
            all_steps.append(steps)
            all_tokens.append(tokens)
        if t.B_crit.known:
            batches = [p.batch_tokens for p in t.points if p.steps and not p.censored]
            batch = np.geomspace(min(batches) / 1.5, max(batches) * 1.5, 81)
            steps_at = t.S_min.value * (1 + t.B_crit.value / batch)
            good = t.status is Status.CONVERGED
            axes.plot(steps_at, steps_at * batch, color=colour, linestyle="-" if good else ":", zorder=2)
            rows.add(
                panel="a", element="hyperbola", status=str(t.status), target=t.target, params=t.params,
                batch_tokens=batch, steps=steps_at, tokens=steps_at * batch,
            )  # fmt: skip
    style.log_axis(axes.xaxis, style.si_number)
    style.log_axis(axes.yaxis, style.si_number)
    marks.limits(axes, all_steps, all_tokens, 0.08)
    axes.set_xlabel("S, optimizer steps to the loss")
    axes.set_ylabel(f"{convention.tokens_label('E')} to the loss")


def _law(
    axes: Axes, found: CriticalBatch, noise: NoiseScale | None, convention: Convention, rows: Rows
) -> list[Line2D | Patch]:
    """B_crit by loss with its law, and the noise scale where it was measured."""
    kept = [t for t in found.targets if t.B_crit.known]
    points = [] if noise is None else [p for p in noise.points if p.noise_scale.known]
    if not kept and not points:
        marks.no_marks(axes, f"no critical batch was measured: {found.reason}")
        return []
    for t in kept:
        good = t.status is Status.CONVERGED
        marks.error_bar(axes, t.target, t.B_crit, style.COLOURS[0], "o", face=None if good else "white")
        lo, hi = t.B_crit.ci
        rows.add(
            panel="b", element="B_crit", status=str(t.status), target=t.target, params=t.params, value=t.B_crit.value,
            lo=lo, hi=hi,
        )  # fmt: skip
    for p in points:
        marks.error_bar(axes, p.loss, p.noise_scale, style.COLOURS[2], "^")
        lo, hi = p.noise_scale.ci
        rows.add(panel="b", element="noise scale", target=p.loss, value=p.noise_scale.value, lo=lo, hi=hi)
    handles: list[Line2D | Patch] = []
    if found.law is not None and found.law.params:
        at = np.geomspace(*style.log_limits([t.target for t in kept], 0.25), 81)
        line, low, high = marks.law_band(axes, found.law, at, style.COLOURS[1])
        rows.add(panel="b", element="law", status=str(found.law.status), target=at, value=line, lo=low, hi=high)
        alpha = found.law.params["alpha_B"]
        handles.append(
            Line2D(
                [], [], color=style.COLOURS[1], label=rf"B* L^(−1/α_B), α_B = {alpha.value:.2g}, {found.level:.0%} band"
            )
        )
    style.log_axis(axes.xaxis, style.plain_number)
    style.log_axis(axes.yaxis, style.si_number)
    seen = [e for t in kept for e in (t.B_crit.value, *t.B_crit.ci)]
    seen += [e for p in points for e in (p.noise_scale.value, *p.noise_scale.ci)]
    marks.limits(axes, [t.target for t in kept] + [p.loss for p in points], marks.finite(seen), 0.1)
    axes.invert_xaxis()
    axes.set_xlabel(convention.loss_label())
    axes.set_ylabel(convention.tokens_label("B").replace(", ", ", critical batch, ", 1))
    if kept:
        handles.append(_dot(style.COLOURS[0], "o", "B_crit = E_min/S_min"))
    if points:
        handles.append(_dot(style.COLOURS[2], "^", "gradient noise scale tr Σ/|G|²"))
    return handles


def _dot(colour: str, marker: str, label: str, face: str | None = None) -> Line2D:
    return Line2D([], [], color=face or colour, markeredgecolor=colour, marker=marker, linestyle="none", label=label)


def _marks(targets: list[TargetTradeOff]) -> list[Line2D]:
    found = [Line2D([], [], color=style.MUTED, label="(S/S_min − 1)(E/E_min − 1) = 1")]
    if any(t.B_crit.known and t.status is not Status.CONVERGED for t in targets):
        found.append(Line2D([], [], color=style.MUTED, linestyle=":", label="refused"))
    if any(p.status is Status.NON_INTERIOR for t in targets for p in t.points):
        found.append(_dot(style.MUTED, "o", "best rate at the edge of those tried", "white"))
    censored = sum(p.censored for t in targets for p in t.points)
    if censored:
        found.append(style.note(f"{censored} never reached"))
    return found
