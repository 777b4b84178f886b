"""What is measured along a run, where the trial asks for it: held-out loss, and the noise of its gradient.

Points lie on one geometric grid of steps whatever the horizon, so that runs which share a trunk share their points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaling.evaluate import HeldOutLoss, eval_row

if TYPE_CHECKING:
    from scaling.trial import Trial

FIRST_STEP = 32
"""No point lies before this step, nor before the end of warmup."""
NOISE_BATCHES = 16
"""Micro-batches whose gradients are compared at a point."""
SIGNAL_METRIC, NOISE_METRIC = "gradient_squared", "gradient_noise"


class Point(NamedTuple):
    """Held-out loss after `step` steps, over all documents, and over those of odd and of even rank."""

    step: int
    loss: float
    development: float
    test: float
    signal: float
    """|G|², the squared norm of the true gradient; NaN where it was not measured."""
    noise: float
    """tr Σ in tokens: the gradient's variance over a batch of B tokens is noise/B."""


def steps_of(trial: Trial) -> frozenset[int]:
    """Steps after which a trial's held-out loss is measured, its last step left out."""
    if trial.evaluation_ratio is None:
        return frozenset()
    first = max(FIRST_STEP, trial.schedule.warmup_of(trial.steps))
    found, at = set(), 1.0
    while round(at) < trial.steps:
        if round(at) >= first:
            found.add(round(at))
        at *= trial.evaluation_ratio
    return frozenset(found)


def halves(held: HeldOutLoss) -> tuple[float, float]:
    """Loss over the documents of even rank (development) and of odd rank (test)."""
    return tuple(  # type: ignore[return-value]
        float(held.nats[part::2].sum() / held.counts[part::2].sum()) if len(held.nats) > part else math.nan
        for part in (0, 1)
    )


def point(step: int, held: HeldOutLoss, signal: float = math.nan, noise: float = math.nan) -> Point:
    """The point that a held-out loss makes."""
    return Point(step, held.loss, *halves(held), signal, noise)


def kept(point: Point) -> list[float | None]:
    """A point as plain JSON."""
    return [value if math.isfinite(value) else None for value in point]


def restored(values: Iterable[float | None]) -> Point:
    """The inverse of `kept`."""
    step, *rest = values
    assert step is not None
    return Point(int(step), *(math.nan if value is None else float(value) for value in rest))


def best(points: Iterable[Point]) -> float:
    """`loss_best`: test loss at the step whose development loss is least; NaN without points."""
    found = min(points, key=lambda p: (p.development, p.step), default=None)
    return math.nan if found is None else found.test


def signal_and_noise(small: np.ndarray, big: np.ndarray, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased |G|² and tr Σ of McCandlish et al. 2018 (arXiv 1812.06162, eqs. A.2 and A.3).

    Args:
        small: (K, …) squared norms of the mean gradients of K micro-batches of `tokens` tokens.
        big: (…) squared norm of the mean of those K gradients.
        tokens: loss-bearing tokens of a micro-batch.
    """
    k, mean = len(small), small.mean(axis=0)
    return (k * big - mean) / (k - 1), (mean - big) / (1.0 - 1.0 / k) * tokens


def evals(run_id: str, points: Iterable[Point]) -> list[dict[str, object]]:
    """Rows of the evals table: signal and noise of the gradient at each step where they were measured."""
    return [
        eval_row(run_id, metric, float(p.step), value, None, NOISE_BATCHES)
        for p in points
        for metric, value in ((SIGNAL_METRIC, p.signal), (NOISE_METRIC, p.noise))
        if math.isfinite(value)
    ]
