"""Scores with the spread that items and seeds give them: se² = var of the mean over bootstrap draws + var of seeds / S.

All draws choose the same items, so that differences between scores on one task are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scaling.evaluations.base import Point

DRAWS = 400
SEED = 20_171_031


class Score(NamedTuple):
    """A score on a task's items, and what it would be on bootstrap draws of them, (DRAWS,)."""

    value: float
    draws: np.ndarray


def _drawn(n: int) -> np.ndarray:
    """Indices of the items, then of each draw of them, (1 + DRAWS, n)."""
    rng = np.random.default_rng(SEED)
    return np.concatenate([np.arange(n)[None], rng.integers(0, n, (DRAWS, n))])


def accuracy(right: np.ndarray) -> Score:
    """Share of right answers, of (n,) zeros and ones."""
    found = right[_drawn(len(right))].mean(axis=1)
    return Score(float(found[0]), found[1:])


def correlation(a: np.ndarray, b: np.ndarray) -> Score:
    """Spearman's ρ of two (n,) series, ties at their mean rank; NaN where one does not vary."""
    from scipy.stats import rankdata

    chosen = _drawn(len(a))
    x, y = (r - r.mean(axis=1, keepdims=True) for r in (rankdata(series[chosen], axis=1) for series in (a, b)))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = (x * y).sum(axis=1) / np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    return Score(float(rho[0]), rho[1:])


def by_item(metric: str, values: np.ndarray, which: np.ndarray | None = None) -> list[Point]:
    """`<metric>:by_item`: what each item gave (right or wrong, a cosine), x its place; runs are paired over them."""
    places = np.arange(len(values)) if which is None else which
    return [Point(f"{metric}:by_item", float(v), None, 1, float(x)) for x, v in zip(places, values, strict=True)]


def _mean(values: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    between = values.var(ddof=1) / len(values) if len(values) > 1 else 0.0
    return float(values.mean()), float(np.sqrt(draws.mean(axis=0).var(ddof=1) + between))


def points_of(metric: str, scores: Mapping[str, Sequence[Score]], n: int) -> list[Point]:
    """A score `""` and its baselines by name, each over its seeds; then what it has over each baseline.

    Where there are several seeds, `<metric>:by_seed` has the score of each, x counting them from 0. A baseline has as
    many seeds as the score, which are then paired, or one.
    """
    points = []
    for name, found in scores.items():
        mean = _mean(np.array([s.value for s in found]), np.stack([s.draws for s in found]))
        points.append(Point(f"{metric}:{name}" if name else metric, *mean, n))
    own = scores[""]
    for name, found in scores.items():
        if name:
            pairs = list(zip(own, found if len(found) == len(own) else list(found) * len(own), strict=True))
            values = np.array([a.value - b.value for a, b in pairs])
            difference = _mean(values, np.stack([a.draws - b.draws for a, b in pairs]))
            points.append(Point(f"{metric}:over_{name}", *difference, n))
    if len(own) > 1:
        points += [Point(f"{metric}:by_seed", s.value, None, n, float(seed)) for seed, s in enumerate(own)]
    return points
