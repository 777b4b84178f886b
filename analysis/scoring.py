"""Scoring a prediction against what was then measured, beside two baselines.

Signed errors, the interval score (Winkler 1972, JASA 67:187; Gneiting and Raftery 2007, JASA 102:359) and the skill,
1 − |error| / |baseline's error|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.types import Estimate, Prediction, jsonable
from scaling.errors import InputError


@dataclass(frozen=True)
class Score:
    """How one prediction of a loss came out; errors are predicted − observed, so positive means too pessimistic.

    `skill` by baseline: 1 perfect, 0 no better than the baseline, negative worse.
    """

    predicted: Estimate
    observed: float
    runs: int
    error_nats: float
    error_relative: float
    inside: bool
    interval_score: float
    baseline_errors: Mapping[str, float] = field(default_factory=dict)
    skill: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every field, plain."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})


def score(prediction: Prediction | Estimate, observed: float | Sequence[float]) -> Score:
    """Scores a predicted loss (nats) against the observed one, or the mean of several seeds' losses.

    Raises:
        InputError: nothing was predicted, or an observed loss is not a positive number.
    """
    losses = np.atleast_1d(np.asarray(observed, dtype=np.float64))
    if losses.size == 0 or not (np.isfinite(losses) & (losses > 0)).all():
        raise InputError(f"observed loss {observed} is not a positive number")
    predicted = prediction.loss if isinstance(prediction, Prediction) else prediction
    if not predicted.known:
        raise InputError("the prediction has no value to score")
    met = float(losses.mean())
    error = predicted.value - met
    guesses = prediction.baselines if isinstance(prediction, Prediction) else {}
    errors = {name: e.value - met for name, e in guesses.items() if e.known}
    return Score(
        predicted,
        met,
        int(losses.size),
        error,
        error / met,
        bool(predicted.ci[0] <= met <= predicted.ci[1]),
        interval_score(predicted, met),
        errors,
        {name: 1.0 - abs(error) / abs(e) if e != 0 else -math.inf for name, e in errors.items()},
    )


def interval_score(predicted: Estimate, observed: float) -> float:
    """Width of the interval plus 2/(1 − level) for each nat by which it misses; lower is better, NaN without one."""
    lo, hi = predicted.ci
    miss = max(lo - observed, 0.0) + max(observed - hi, 0.0)
    return (hi - lo) + 2.0 / (1.0 - predicted.level) * miss
