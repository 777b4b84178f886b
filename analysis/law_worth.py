"""What a law says a repeated token is worth: fresh tokens of equal loss by the law, and its data term alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.intervals import estimate
from analysis.types import Array, Estimate, FitResult

_GRID = 400
"""Horizons at which a law's fresh loss is tabulated for its inverse."""


def data_term_worth(r_d: Any, first: float, last: float) -> Array:
    """Mean worth of a token in the epochs after `first` up to `last` by the data term alone, at values of R_D."""
    r = np.asarray(r_d, dtype=np.float64)
    return np.asarray(r * (np.exp(-(first - 1.0) / r) - np.exp(-(last - 1.0) / r)) / (last - first))


def law_equivalents(law: FitResult, params: float, unique_tokens: float, tokens: Sequence[float]) -> Array:
    """Fresh tokens (1 + B, c) of equal loss by a law's values and draws, at one size and text.

    Below U/16 and above twice the longest they are put at these ends.
    """
    at = np.geomspace(unique_tokens / 16.0, 2.0 * max(tokens), _GRID)
    seen = np.asarray(tokens, dtype=np.float64)
    stacked = {k: np.concatenate([[v], np.asarray(law.draws.get(k, []))])[:, None] for k, v in law.values.items()}
    fresh = law.model.predict(stacked, params=params, tokens=at, unique_tokens=at)
    again = law.model.predict(stacked, params=params, tokens=seen, unique_tokens=np.minimum(seen, unique_tokens))
    found = [np.interp(-b, -a, np.log(at)) if np.isfinite(a).all() else np.full(seen.size, np.nan)
             for a, b in zip(np.minimum.accumulate(fresh, axis=1), again, strict=True)]  # fmt: skip
    return np.exp(np.array(found))


@dataclass(frozen=True, eq=False)
class LawWorth:
    """What a law says of one size and text: fresh tokens of equal loss (1 + B,) by epochs."""

    equivalents: Mapping[float, Array]
    unique_tokens: float
    r_d: Array

    def of(self, first: float, last: float) -> Array:
        """Worth between two epochs, (1 + B,); NaN without a law."""
        if not self.equivalents:
            return np.full(1, np.nan)
        gain = self.equivalents[last] - self.equivalents[first]
        return np.asarray(gain / ((last - first) * self.unique_tokens))

    def data_term(self, first: float, last: float, level: float) -> Estimate:
        """By the data term alone."""
        return of_draws(data_term_worth(self.r_d, first, last), level)


def law_worth(law: FitResult | None, n: float, u: float, epochs: Sequence[float]) -> LawWorth:
    """What a law says of a size and a text; all NaN where there is no law, or it has no values."""
    if law is None or not law.params or not all(e.known for e in law.params.values()):
        return LawWorth({}, u, np.full(1, np.nan))
    at = sorted({1.0, *epochs})
    found = law_equivalents(law, n, u, [u * e for e in at])
    r_d = np.append(law.values.get("R_D", math.nan), law.draws.get("R_D", []))
    return LawWorth(dict(zip(at, found.T, strict=True)), u, r_d)


def of_draws(drawn: Array, level: float) -> Estimate:
    """An estimate from its value and draws (1 + B,)."""
    return estimate(float(drawn[0]), drawn[1:], level, interval="percentile")
