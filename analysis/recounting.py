"""What counting alone does to the exponent of N* ∝ C^a, on one fitted surface of the loss.

Pearce and Song 2024 (arXiv 2406.12907): on a surface L = E + A N^−α + B D^−β of all parameters, counted as 6ND, small
models counted without their embeddings seem to want a steeper exponent, because embeddings are a falling share of them.
Here the surface is fitted to our own runs, the sizes are those of our own family, and N and C = 6ND are counted in each
way; `exact` counts all parameters and exact FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.intervals import estimate
from analysis.table import Runs
from analysis.types import Array, Estimate, FitResult, Plain, Status
from scaling.accounting import COUNTS
from scaling.errors import InputError

PUBLISHED: Mapping[str, float] = {"non_embedding": 0.774, "total": 0.511}
"""Pearce and Song's slopes of 6ND without and with embeddings: sizes of 800 to 1.6e9 on Besiroglu's surface."""
BUDGETS = 12
GRID = 400
"""Sizes between the smallest and the largest trained, at which the best is looked for before a parabola refines it."""


@dataclass(frozen=True, eq=False)
class Recounted(Plain):
    """The exponent on the surface under each convention (`exact`, and 6nd by count), and its change against `total`.

    `flops` has the lowest and highest cost of each, those of the same runs.
    """

    exponents: Mapping[str, Estimate]
    changes: Mapping[str, Estimate]
    flops: Mapping[str, tuple[float, float]]
    params: tuple[float, float]
    status: Status
    reason: str = ""


def recount(surface: FitResult, runs: Runs, *, level: float = 0.9) -> Recounted:
    """Exponents of N* over C on a fitted surface, for the family of sizes of its runs.

    Args:
        surface: Hoffmann's law (`chinchilla`) of all parameters and tokens.
        runs: a store's runs; their sizes are the family, their exact FLOPs the range.
        level: nominal coverage of the intervals.

    Raises:
        InputError: a surface of another count or law, or a plain table, which has no conventions.
    """
    if surface.model.tag != "chinchilla" or surface.count != "total":
        raise InputError(f"recounting needs law chinchilla of count total, not {surface.law} of {surface.count}")
    if not runs.conventions:
        raise InputError("recounting needs a store's rows; a plain table has one size and one cost")
    params = (float(runs.params("total").min()), float(runs.params("total").max()))
    if not surface.params or not all(e.known for e in surface.params.values()):
        missing = {name: Estimate.missing(level) for name in ("exact", *COUNTS)}
        return Recounted(missing, missing, {}, params, surface.status, f"no surface: {surface.reason}")
    family = _Family.of(runs)
    values = {k: np.atleast_1d(v) for k, v in surface.values.items()}
    drawn = {k: np.asarray(v) for k, v in surface.draws.items()}
    exact = runs.flops("exact")
    ends = np.geomspace(float(exact.min()), float(exact.max()), BUDGETS)
    best = family.best(values, "exact", ends)[0]
    slopes, draws, flops = {}, {}, {}
    for name in ("exact", *COUNTS):
        # The same runs cost other amounts under another convention.
        c = ends * np.exp(family.at(best, name) - family.at(best, "exact"))
        known = np.isfinite(c)
        slopes[name] = float(_slopes(family, values, name, c[known])[0])
        draws[name] = _slopes(family, drawn, name, c[known]) if drawn else np.empty(0)
        flops[name] = (float(c[known].min()), float(c[known].max())) if known.any() else (np.nan, np.nan)
    exponents = {k: estimate(v, draws[k], level) for k, v in slopes.items()}
    changes = {
        k: estimate(slopes[k] - slopes["total"], draws[k] - draws["total"], level) for k in slopes if k != "total"
    }
    status, reason = surface.status, surface.reason
    if not exponents["total"].known:
        status, reason = Status.NON_INTERIOR, "the surface's best sizes lie outside those that were trained"
    return Recounted(exponents, changes, flops, params, status, reason)


@dataclass(frozen=True, eq=False)
class _Family:
    """Sizes of one family: ln of all parameters (G,), ln N by count, and ln of the FLOPs a token by convention."""

    log_total: Array
    log_n: Mapping[str, Array]
    log_per_token: Mapping[str, Array]

    @classmethod
    def of(cls, runs: Runs) -> _Family:
        """The sizes between those of the runs, by interpolation in logarithms."""
        from scipy.interpolate import PchipInterpolator

        total, first = np.unique(runs.params("total"), return_index=True)
        if total.size < 3:
            raise InputError(f"{total.size} sizes make no family; three are the least")
        grid = np.linspace(np.log(total[0]), np.log(total[-1]), GRID)

        def smooth(values: Array) -> Array:
            return np.asarray(PchipInterpolator(np.log(total), np.log(values[first]))(grid))

        costs = {"exact": runs.flops("exact") / runs.tokens}
        costs |= {c: runs.flops("6nd", c) / runs.tokens for c in COUNTS}
        return cls(
            grid,
            {c: smooth(runs.params(c)) for c in COUNTS} | {"exact": grid},
            {name: smooth(per_token) for name, per_token in costs.items()},
        )

    def at(self, place: Array, name: str) -> Array:
        """ln of the FLOPs a token at places (real indices) on the grid; NaN stays NaN."""
        found = np.interp(np.nan_to_num(place), np.arange(GRID), self.log_per_token[name])
        return np.where(np.isfinite(place), found, np.nan)

    def best(self, values: Mapping[str, Array], name: str, flops: Array) -> Array:
        """Places (B, G) of the best size at each cost under each of B surfaces; NaN at the ends of the sizes."""
        p = {k: v[:, None] for k, v in values.items()}
        size = p["A"] * np.exp(-p["alpha"] * self.log_total)
        found = np.empty((size.shape[0], flops.size))
        for g, c in enumerate(flops):
            loss = size + p["B"] * np.exp(-p["beta"] * (np.log(c) - self.log_per_token[name]))
            at = loss.argmin(axis=1)
            inner = (at > 0) & (at < GRID - 1)
            here, row = np.clip(at, 1, GRID - 2), np.arange(at.size)
            low, mid, high = (loss[row, here + k] for k in (-1, 0, 1))
            bend = low - 2 * mid + high
            shift = np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1.0), 0.0)
            found[:, g] = np.where(inner, here + shift, np.nan)
        return found


def _slopes(family: _Family, values: Mapping[str, Array], name: str, flops: Array) -> Array:
    """Slope (B,) of ln N* over ln C through the costs whose best size is inside; NaN where fewer than three are."""
    if flops.size < 3:
        return np.full(len(next(iter(values.values()))), np.nan)
    place = family.best(values, name, flops)
    log_n = np.interp(np.nan_to_num(place), np.arange(GRID), family.log_n[name])
    inner = np.isfinite(place)
    w, x = inner.astype(float), np.log(flops)
    total = w.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (w * x).sum(axis=1) / total, (w * log_n).sum(axis=1) / total
        away = x - mean_x[:, None]
        slope = (w * away * (log_n - mean_y[:, None])).sum(axis=1) / (w * away**2).sum(axis=1)
    return np.where(total >= 3, slope, np.nan)
