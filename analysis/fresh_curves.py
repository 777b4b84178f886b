"""Loss by fresh tokens at one size, and its inverse: how many fresh tokens give a loss.

Between the horizons that were run ln L over ln D is a monotone cubic (PCHIP) through values made non-increasing, since
noise can lift a longer run above a shorter one; no law is taken. Nothing is said beyond the horizons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.types import Array

_FINE = 64
"""Points of the tabulated curve between two horizons."""
LEAST = 3
"""Horizons that a curve needs."""


@dataclass(frozen=True, eq=False)
class FreshCurve:
    """Log tokens (m,), rising, and log losses (B, m): the estimate first, then its draws."""

    log_tokens: Array
    log_loss: Array

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """Log tokens (G,) and non-increasing log losses (B, G)."""
        from scipy.interpolate import PchipInterpolator
        from scipy.optimize import isotonic_regression

        x, y = self.log_tokens, self.log_loss
        falling = np.diff(y, axis=1).max(axis=1) <= 0
        y = np.array(
            [row if ok else isotonic_regression(row, increasing=False).x for row, ok in zip(y, falling, strict=True)]
        )
        ends = np.linspace(x[:-1], x[1:], _FINE, endpoint=False, axis=1).ravel()
        at = np.append(ends, x[-1])
        return at, np.asarray(PchipInterpolator(x, y, axis=1)(at))

    def loss(self, log_tokens: Array) -> Array:
        """Log losses (B, c) at log tokens (c,); NaN outside the horizons."""
        at, curve = self._table
        slack = 1e-9
        inside = (log_tokens >= at[0] - slack) & (log_tokens <= at[-1] + slack)
        found = np.array([np.interp(log_tokens, at, row) for row in curve])
        return np.where(inside, found, np.nan)

    def equivalent(self, log_loss: Array) -> tuple[Array, Array]:
        """Log tokens (B, c) of equal loss, from log losses (B, c), and −1, 0 or 1 (c,): below, within or above.

        The sign is that of the estimate. Where only a draw lies beyond the horizons the curve is continued at the slope
        that the estimate has between the last two, or the draws' spread would be cut there.
        """
        at, curve = self._table
        found = np.array([np.interp(-seen, -row, at) for seen, row in zip(log_loss, curve, strict=True)])
        low, high = log_loss > curve[:, :1], log_loss < curve[:, -1:]
        found = np.where(low, at[0] + (log_loss - curve[:, :1]) / self._slope(0), found)
        found = np.where(high, at[-1] + (log_loss - curve[:, -1:]) / self._slope(-2), found)
        return found, np.where(low[0], -1, np.where(high[0], 1, 0))

    def _slope(self, gap: int) -> float:
        """Of the estimate between two neighbouring horizons; where it is none there, from the first to the last."""
        x, y = self.log_tokens, self.log_loss[0]
        near = (y[gap + 1 if gap >= 0 else -1] - y[gap]) / (x[gap + 1 if gap >= 0 else -1] - x[gap])
        whole = (y[-1] - y[0]) / (x[-1] - x[0])
        return float(min(near, 0.2 * whole, -1e-6))
