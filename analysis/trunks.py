"""What horizons on one trunk save: the width of a quantity's interval, by cooldown branches and by separate runs.

Branches of a warmup-stable-decay trunk cost less than runs of their own (Hägele et al. 2024, arXiv 2405.18392), but
share its noise. Intervals narrow with the square root of the runs, so that separate runs of C FLOPs would need
C·(w_separate/w_trunk)² for the trunks' width; the trunks cost a share of that. The widths carry the ratio of two
estimated noises, whose square has the interval of F on the two fits' degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.bootstrap import estimate
from analysis.types import Estimate, FitResult, Plain, Status

LEAST_LINEAGES = 8
"""Fewer trunks than this do not show how much of the noise their branches share."""


@dataclass(frozen=True)
class Quantity(Plain):
    """One quantity by both designs, and `share`: the trunks' FLOPs over what separate runs need for the same width."""

    name: str
    trunk: Estimate
    separate: Estimate
    share: Estimate
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Saving(Plain):
    """Both designs' FLOPs, their plain ratio `cost`, noise of a run about either fit, and each quantity's share."""

    trunk_flops: float
    separate_flops: float
    trunk_sigma: float
    separate_sigma: float
    lineages: int
    quantities: tuple[Quantity, ...]

    @property
    def cost(self) -> float:
        """The trunks' FLOPs over those of as many separate runs."""
        return self.trunk_flops / self.separate_flops


def exponent(values: Mapping[str, Any]) -> Any:
    """a in N* ∝ C^a of a law with alpha and beta."""
    return values["beta"] / (values["alpha"] + values["beta"])


def saving(
    trunk: FitResult,
    separate: FitResult,
    *,
    trunk_flops: float,
    separate_flops: float,
    lineages: int,
    at: tuple[float, float],
) -> Saving:
    """What the trunks' fit costs for the width of its intervals.

    Args:
        trunk: Hoffmann's law fitted to branches, with draws that keep lineages together.
        separate: the same law fitted to separate runs of the same sizes and horizons.
        trunk_flops: of the trunks and their branches, what was shared counted once.
        separate_flops: of the separate runs.
        lineages: trunks.
        at: parameters and tokens whose predicted log loss is one of the quantities.
    """

    def log_loss(values: Mapping[str, Any]) -> Any:
        return np.log(separate.model.predict(values, params=at[0], tokens=at[1]))

    wanted: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "alpha": lambda v: v["alpha"],
        "beta": lambda v: v["beta"],
        "a": exponent,
        "log_loss": log_loss,
    }
    found = []
    for name, function in wanted.items():
        one, other = _of(trunk, function), _of(separate, function)
        share, status, reason = _share(one, other, trunk, separate, trunk_flops / separate_flops, lineages)
        found.append(Quantity(name, one, other, share, status, reason))
    return Saving(trunk_flops, separate_flops, trunk.sigma, separate.sigma, lineages, tuple(found))


def _of(fit: FitResult, function: Callable[[Mapping[str, Any]], Any]) -> Estimate:
    if not fit.draws or not all(np.isfinite(v) for v in fit.values.values()):
        return Estimate.missing(fit.level)
    return estimate(float(function(fit.values)), np.asarray(function(fit.draws)), fit.level)


def _share(
    one: Estimate, other: Estimate, trunk: FitResult, separate: FitResult, cost: float, lineages: int
) -> tuple[Estimate, Status, str]:
    from scipy.special import fdtri

    for fit, words in ((trunk, "trunks"), (separate, "separate runs")):
        if fit.status in (Status.TOO_FEW_POINTS, Status.NOT_CONVERGED):
            return Estimate.missing(one.level), fit.status, f"the fit to the {words}: {fit.reason}"
    widths = [e.ci[1] - e.ci[0] for e in (one, other)]
    if not (np.isfinite(widths).all() and min(widths) > 0):
        return Estimate.missing(one.level), Status.UNIDENTIFIED, "an interval has no width"
    value = cost * (widths[0] / widths[1]) ** 2
    dof = [max(f.n - len(f.params), 1) for f in (trunk, separate)]
    tail = 0.5 - 0.5 * one.level
    lo, hi = (value / float(fdtri(dof[0], dof[1], p)) for p in (1 - tail, tail))
    found = Estimate(value, (lo, hi), one.level)
    if lineages < LEAST_LINEAGES:
        few = f"{lineages} trunks: how much noise their branches share is itself uncertain, and not in the interval"
        return found, Status.NOT_RESOLVED, few
    return found, *found.told_from(1)
