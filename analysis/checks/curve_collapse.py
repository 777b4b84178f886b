"""Loss curves that do not collapse: a compute-optimal run whose normalised curve leaves the others'."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject
from analysis.curves import Collapse, collapse, optimal_rows
from analysis.types import FitResult, Status

BEYOND = 3.0
"""A departure counts beyond this many standard deviations of the noise of end losses …"""
LEAST = 0.05
"""… and beyond this share of the reducible loss."""


def collapse_of(subject: Subject, floor: float | None = None) -> Collapse:
    """The collapse of a table's compute-optimal runs, normalised by the fit's floor or by another."""
    runs, fit = subject.runs, subject.fit
    rows = optimal_rows(runs, subject.params, subject.flops)
    if floor is None:
        floor = float("nan") if fit is None else fit.values.get(_floor(fit), float("nan"))
    return collapse(runs, rows, subject.flops, floor=floor, sigma=subject.known_sigma())


def _floor(fit: FitResult) -> str:
    return str(getattr(fit.model, "floor", None))


def departed(found: Collapse) -> set[int]:
    """Positions in `found.rows` of the runs that leave the others' curve beyond noise."""
    beyond = (np.abs(found.departure) > BEYOND * found.tolerance) & (np.abs(found.departure) > LEAST)
    return {int(i) for i in np.flatnonzero(beyond)}


class CurveCollapse(Check):
    """Normalised loss curves of compute-optimal runs that do not fall onto one."""

    name: ClassVar[str] = "curve_collapse"
    summary: ClassVar[str] = "a compute-optimal run whose normalised loss curve leaves the others'"
    source: ClassVar[str] = "Qiu et al. 2025, arXiv 2507.02119"
    undertuning: ClassVar[bool] = True

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`; needs curves of three compute-optimal runs, and a floor.

        The floor is a fit's, so a departure counts only where it stands under every floor of the fit's interval.
        """
        found = collapse_of(subject)
        if found.status is not Status.CONVERGED:
            return self.cannot_tell(f"{found.status.value}: {found.reason}")
        if not np.isfinite(found.tolerance).all():
            return self.cannot_tell("the noise of a run's loss is not known")
        gone = departed(found)
        fit = subject.fit
        floors = [] if fit is None else [f for f in fit.params[_floor(fit)].ci if np.isfinite(f)]
        for floor in floors:
            other = collapse_of(subject, floor)
            if other.status is Status.CONVERGED:
                gone &= departed(other)
        measured = {
            "spread": float(np.mean(found.spread)),
            "tolerance": float(np.median(found.tolerance)),
            "departure": dict(zip(map(str, subject.label(found.rows)), found.departure.tolist(), strict=True)),
        }
        # With three curves the one that left cannot be told from the two that stayed, unless they agree.
        if len(gone) > len(found.rows) // 2:
            return self.suspected(
                f"no collapse: {len(gone)} of {len(found.rows)} compute-optimal runs leave the others' curve",
                subject.label(found.rows),
                **measured,
            )
        if gone:
            at = max(gone, key=lambda i: abs(found.departure[i]))
            return self.suspected(
                f"the compute-optimal run at {found.flops[at]:.3g} FLOPs leaves the others' curve by"
                f" {found.departure[at]:+.0%} of its reducible loss",
                subject.label(found.rows[sorted(gone)]),
                **measured,
            )
        spread, noise = measured["spread"], measured["tolerance"]
        return self.clear(f"{len(found.rows)} curves collapse: spread {spread:.1%}, noise {noise:.1%}", **measured)
