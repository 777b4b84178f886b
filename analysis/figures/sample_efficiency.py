"""Tokens and steps to reach a loss, by size; Kaplan et al. 2020 (arXiv 2001.08361) Fig. 2; d2l.ai Fig. 11.9.10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.sample_efficiency import SampleEfficiency


def plot_sample_efficiency(
    found: SampleEfficiency,
    *,
    convention: Convention | None = None,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) Tokens and (b) steps to each loss over size, with intervals over seeds.

    A hollow triangle upwards is a size that never got there with all its runs: it stands at the tokens given;
    one downwards was there at its first point, where it stands.

    Args:
        found: of `measure_sample_efficiency`.
        convention: of the labels; by default what the rows said.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no size reached any target.
    """
    if not any(r.tokens.known for r in found.reaches):
        raise NotDrawable(f"the figure sample_efficiency needs a target that was reached: {found.reason or 'none was'}")
    convention = convention or marks.convention_of(found.labels)
    rows = Rows(["panel", "element"], ["target", "params", "value", "lo", "hi", "reached", "runs"])
    with style.styled():
        figure = style.new_figure(width_mm, 150.0 if style.is_narrow(width_mm) else 84.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        norm = style.size_scale([r.target for r in found.reaches])
        _panel(left, "tokens", found, norm, rows)
        _panel(right, "steps", found, norm, rows)
        for axes in (left, right):
            axes.set_xlabel(convention.params_label())
        left.set_ylabel(f"{convention.tokens_label()} to the loss")
        right.set_ylabel("S, optimizer steps to the loss")
        style.size_bar(figure, [left, right], norm, convention.loss_label("target"), style.plain_number)
        handles = [Line2D([], [], color=style.MUTED, marker="o", linewidth=0.9, label="reached by every seed")]
        if any(r.censored for r in found.reaches):
            handles.append(_hollow("not reached by all: given so much", "^"))
        if any(r.early for r in found.reaches):
            handles.append(_hollow("there at the first point", "v"))
        style.legend_below(figure, handles)
        return finish(figure, rows)


def _hollow(label: str, marker: str) -> Line2D:
    return Line2D([], [], color="white", markeredgecolor=style.MUTED, marker=marker, linestyle="none", label=label)


def _panel(axes: Axes, what: str, found: SampleEfficiency, norm: Any, rows: Rows) -> None:
    values: list[float] = []
    for target in dict.fromkeys(r.target for r in found.reaches):
        colour = style.sequential()(norm(target))
        part = [r for r in found.reaches if r.target == target]
        reached = [r for r in part if r.tokens.known]
        axes.plot(
            [r.params for r in reached],
            [getattr(r, what).value for r in reached],
            color=colour,
            linewidth=0.9,
            zorder=2,
        )
        for r in part:
            if r.censored or r.early:
                # Steps and tokens differ by the batch, which a size's recipe fixes.
                given = r.at_least if r.censored else r.at_most
                bound = given if what == "tokens" else given / r.batch_tokens
                marker, element = ("^", "censored") if r.censored else ("v", "early")
                axes.plot([r.params], [bound], color="white", markeredgecolor=colour, marker=marker, zorder=3)
                rows.add(
                    panel=what, element=element, target=target, params=r.params, value=bound, reached=r.reached,
                    runs=r.runs,
                )  # fmt: skip
                values.append(bound)
                continue
            estimate = getattr(r, what)
            marks.error_bar(axes, r.params, estimate, colour, "o")
            rows.add(
                panel=what, element="reached", target=target, params=r.params, value=estimate.value, lo=estimate.ci[0],
                hi=estimate.ci[1], reached=r.reached, runs=r.runs,
            )  # fmt: skip
            values += [estimate.value, *estimate.ci]
    style.log_axis(axes.xaxis, style.si_number)
    style.log_axis(axes.yaxis, style.si_number)
    marks.limits(axes, [r.params for r in found.reaches], marks.finite(values), 0.08)
