"""Power-function average of the weights along a run: θ̂_t = β_t·θ̂_{t−1} + (1 − β_t)·θ_t with β_t = (1 − 1/t)^(γ+1).

Karras et al. 2024 (arXiv 2312.02696, §3.1): the average reaches back over a constant share of the run so far, so that a
run at a constant rate can be read at any step as though its rate had been lowered there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@functools.cache
def exponent(width: float) -> float:
    """γ of a relative width σ: σ² = (γ + 1)/((γ + 2)²(γ + 3)), its standard deviation as a share of the run so far."""
    from scipy.optimize import brentq

    found: float = brentq(lambda g: (g + 1.0) / ((g + 2.0) ** 2 * (g + 3.0)) - width**2, 0.0, 1e6)
    return found


def update(average: Tensor, theta: Tensor, step: int, width: float) -> None:
    """Takes the weights after update number `step` (from 1) into the average, in place; the first replace it."""
    average.lerp_(theta, 1.0 - (1.0 - 1.0 / step) ** (exponent(width) + 1.0))
