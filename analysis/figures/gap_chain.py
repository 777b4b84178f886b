"""The exponent of N* ∝ C^a at each step from one protocol to another; Porian et al. 2024 (arXiv 2406.19146) Fig. 1."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import marks, style
from analysis.figures.base import Drawn, NotDrawable, Rows, finish
from analysis.protocols import PUBLISHED
from analysis.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.protocols import Measured, Protocols

_ASIDE = 0.16
"""How far the approaches stand from each other, in steps."""


def plot_gap_chain(
    found: Protocols,
    order: Sequence[str],
    *,
    published: Mapping[str, Mapping[str, float]] = PUBLISHED,
    width_mm: float = style.DOUBLE_MM,
    title: str = "",
) -> Drawn:
    """(a) The exponent under each arm by each approach, published ones beside; (b) what each step changes, paired.

    Args:
        found: of `measure_protocols`.
        order: names of the arms, first to last.
        published: exponents by source and arm.
        width_mm: 85 to 170.
        title: above the figure.

    Raises:
        NotDrawable: no arm has an exponent.
        KeyError: an arm that was not measured.
    """
    arms = [found.arms[name] for name in order]
    if not any(f.known for a in arms for f in a.frontiers.values()):
        reason = next((f.reason for a in arms for f in a.frontiers.values()), "there are no arms")
        raise NotDrawable(f"the figure gap_chain needs an arm with an exponent: {reason}")
    rows = Rows(["panel", "arm", "before", "source", "status", "reason"], ["place", "value", "lo", "hi"])
    with style.styled():
        narrow = style.is_narrow(width_mm)
        figure = style.new_figure(width_mm, 170.0 if narrow else 92.0)
        left, right = marks.panels_of(figure, 2, width_mm, title)
        _exponents(left, arms, found.approaches, published, rows)
        _steps(right, found, order, rows)
        left.set_ylabel("a in N* ∝ C^a, N and C as each step counts them")
        right.set_ylabel("change of a by the step, against the arm before")
        for axes, names in ((left, arms), (right, arms[1:])):
            axes.set_xticks(range(len(names)), [textwrap.fill(a.label, 18) for a in names], rotation=90)
            axes.set_xlim(-0.6, len(names) - 0.4)
            style.linear_axis(axes.yaxis, style.plain_number if axes is left else style.signed_number)
            axes.tick_params(axis="x", labelsize=6.5)
        style.legend_below(figure, _handles(found.approaches, published), columns=5)
        return finish(figure, rows)


def _places(n: int) -> list[float]:
    return [float(x) for x in (np.arange(n) - (n - 1) / 2) * _ASIDE]


def _exponents(
    axes: Axes,
    arms: Sequence[Measured],
    approaches: Sequence[str],
    published: Mapping[str, Mapping[str, float]],
    rows: Rows,
) -> None:
    for source, look in zip(published, _looks(published), strict=True):
        at = [(i, published[source][a.name]) for i, a in enumerate(arms) if a.name in published[source]]
        if at:
            x, y = zip(*at, strict=True)
            axes.plot(x, y, color=style.MUTED, linewidth=0.8, zorder=1, **look)
            rows.add(panel="exponent", arm="", source=source, place=np.array(x), value=np.array(y))
    for k, (approach, aside) in enumerate(zip(approaches, _places(len(approaches)), strict=True)):
        for i, arm in enumerate(arms):
            frontier = arm.frontiers[approach]
            e, colour = frontier.N_exponent, style.COLOURS[k]
            face = colour if frontier.status is Status.CONVERGED else "white"
            marks.error_bar(axes, i + aside, e, colour, style.MARKERS[k], face=face)
            rows.add(
                panel="exponent", arm=arm.name, source=approach, status=str(frontier.status), reason=frontier.reason,
                place=i, value=e.value, lo=e.ci[0], hi=e.ci[1],
            )  # fmt: skip


def _steps(axes: Axes, found: Protocols, order: Sequence[str], rows: Rows) -> None:
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    for k, (approach, aside) in enumerate(zip(found.approaches, _places(len(found.approaches)), strict=True)):
        for i, (before, after) in enumerate(pairwise(order)):
            change = found.change(before, after, approach)
            colour = style.COLOURS[k]
            face = colour if change.status is Status.CONVERGED else "white"
            marks.error_bar(axes, i + aside, change.value, colour, style.MARKERS[k], face=face)
            rows.add(
                panel="step", arm=after, before=before, source=approach, status=str(change.status),
                reason=change.reason, place=i, value=change.value.value, lo=change.value.ci[0], hi=change.value.ci[1],
            )  # fmt: skip


def _looks(published: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    kinds = (("--", "x"), (":", "+"), ("-.", "1"))
    return [{"linestyle": kinds[i % 3][0], "marker": kinds[i % 3][1]} for i in range(len(published))]


def _handles(approaches: Sequence[str], published: Mapping[str, Mapping[str, float]]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=style.COLOURS[k], marker=style.MARKERS[k], label=name) for k, name in enumerate(approaches)
    ]
    hollow = "open: not resolved from 0, or the exponent not settled"
    handles.append(Line2D([], [], color="white", markeredgecolor=style.INK, marker="o", linestyle="none", label=hollow))
    handles += [
        Line2D([], [], color=style.MUTED, linewidth=0.8, label=f"Porian et al. 2024, {source}", **look)
        for source, look in zip(published, _looks(published), strict=True)
    ]
    return handles
