"""Profile likelihood of a law's floor: which floors the runs allow once everything else has adapted.

Where twice the drop of the log likelihood stays below 3.84 (χ² of one degree of freedom; a little more in small
samples, by the fit's own critical value) is the 95 % interval (Venzon and Moolgavkar 1988, Applied Statistics 37:87). A
profile that stays below it down to zero bounds the floor above only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures import style
from analysis.figures.base import Drawn, Kind, NotDrawable, Rows, finish
from analysis.figures.style import Convention

if TYPE_CHECKING:
    from analysis.figures.material import Material
    from analysis.types import Array, FitResult

THRESHOLD = 3.84
"""χ² of one degree of freedom at 95 %, for a fit that states no critical value of its own."""
TOP = 4.0 * THRESHOLD
"""Profiles are drawn as far as this."""


class Profile(Kind):
    """Whether the floor is known from both sides."""

    name: ClassVar[str] = "profile"
    summary: ClassVar[str] = "profile likelihood of the fitted law's floor, with its 95 % interval and the bootstrap's"
    source: ClassVar[str] = "Venzon and Moolgavkar 1988, Applied Statistics 37:87"

    def draw(self, material: Material, width_mm: float) -> Drawn:
        """See `Kind.draw`."""
        return plot_profile(material.fit, convention=material.convention, width_mm=width_mm, title=material.title)


def plot_profile(
    fit: FitResult, *, convention: Convention | None = None, width_mm: float = style.SINGLE_MM, title: str = ""
) -> Drawn:
    """2Δ log likelihood against the floor, the threshold, and the intervals by profile and by bootstrap.

    Args:
        fit: of a law with a floor; its diagnostics hold the profile.
        convention: of the label; by default what the fit's checklist says.
        width_mm: 85 to 170.
        title: above the axes.

    Raises:
        NotDrawable: the law has no floor, or nothing was fitted.
    """
    name, values, rise = floor_profile(fit)
    convention = convention or Convention.of_fit(fit)
    critical = float(fit.diagnostics.get("profile_critical_95") or THRESHOLD)
    lo, hi = profile_ends(values, rise, critical)
    estimate = fit.params[name]
    rows = Rows(["element"], [name, "two_delta_log_likelihood", "lo", "hi"])
    with style.styled():
        figure = style.new_figure(width_mm, 72.0)
        axes = figure.add_subplot(title=title)
        axes.axvspan(lo, hi, color=style.FAINT, alpha=0.6, linewidth=0, zorder=0)
        axes.axhline(critical, color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        axes.plot(values, rise, color=style.COLOURS[0], marker="o", markersize=3.0, zorder=3)
        handles: list[Line2D | Patch] = [
            Line2D([], [], color=style.COLOURS[0], marker="o", markersize=3.0, label=f"profile of {name} in {fit.law}"),
            Line2D([], [], color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 2)), label=f"{critical:.3g}: 95 %"),
            Patch(color=style.FAINT, alpha=0.6, label="95 % interval by profile"),
        ]
        rows.add(element="profile", two_delta_log_likelihood=rise, **{name: values})
        rows.add(element="profile interval", lo=lo, hi=hi)
        if estimate.known and np.isfinite(estimate.ci).all():
            colour, at = style.COLOURS[1], 0.93 * TOP
            axes.plot(estimate.ci, [at, at], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=4)
            axes.plot(estimate.value, at, marker="D", color=colour, linestyle="none", zorder=5)
            label = f"{name} with its {estimate.level:.0%} interval"
            handles.append(Line2D([], [], color=colour, marker="D", linewidth=1.8, label=label))
            rows.add(element="estimate", lo=estimate.ci[0], hi=estimate.ci[1], **{name: estimate.value})
        if fit.status.value != "converged":
            handles.append(style.note(f"the fit is {style.STATUS_LABELS[fit.status.value]}"))
        axes.set_ylim(-0.03 * TOP, TOP)
        axes.set_xlim(*_limits(values, rise, (lo, hi), estimate.ci))
        style.linear_axis(axes.xaxis)
        style.linear_axis(axes.yaxis)
        axes.set_xlabel(f"{name}, floor of the {convention.response_label(fit.model.response)}")
        axes.set_ylabel("2 Δ log likelihood")
        style.legend_below(figure, handles, columns=3)
        return finish(figure, rows)


def floor_profile(fit: FitResult) -> tuple[str, Array, Array]:
    """Name of the floor, its values (V,) and 2Δ log likelihood (V,), as the fit's diagnostics hold them.

    Raises:
        NotDrawable: there is no profile.
    """
    held = dict(fit.diagnostics.get("profile") or {})
    rise = held.pop("two_delta_log_likelihood", None)
    name = fit.model.floor
    if rise is None or name is None or name not in held:
        why = "it has no floor" if name is None else f"{fit.status}, {fit.reason or 'it was not profiled'}"
        raise NotDrawable(f"the figure profile needs the profile of a floor: law {fit.law}: {why}")
    return name, np.asarray(held[name], dtype=np.float64), np.asarray(rise, dtype=np.float64)


def profile_ends(values: Array, rise: Array, threshold: float = THRESHOLD) -> tuple[float, float]:
    """Where the profile crosses `threshold` on either side of its minimum, or its end where it does not."""
    best = int(np.argmin(rise))
    ends = []
    for side in (slice(best, None, -1), slice(best, None)):
        v, r = values[side], rise[side]
        beyond = np.flatnonzero(r > threshold)
        if not beyond.size or beyond[0] == 0:
            ends.append(float(v[-1] if not beyond.size else v[0]))
            continue
        i = int(beyond[0])
        ends.append(float(np.interp(threshold, [r[i - 1], r[i]], [v[i - 1], v[i]])))
    return ends[0], ends[1]


def _limits(
    values: Array, rise: Array, interval: tuple[float, float], other: tuple[float, float]
) -> tuple[float, float]:
    """From a little below to a little above everything that lies under the top of the figure."""
    seen = np.concatenate([values[rise < TOP], interval, [v for v in other if np.isfinite(v)]])
    low, high = float(seen.min()), float(seen.max())
    pad = 0.08 * (high - low or abs(high) or 1.0)
    return max(0.0, low - pad), high + pad
