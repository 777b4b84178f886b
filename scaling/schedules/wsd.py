"""Warmup-stable-decay: constant, then a cooldown over the last share of the run.

Hu et al. 2024 (arXiv 2404.06395); Hägele et al. 2024 (arXiv 2405.18392).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from scaling.schedules.base import Schedule
from scaling.schedules.constant import Constant


class Wsd(Schedule):
    """Constant, then a cooldown over the last share of the run (warmup-stable-decay)."""

    type: Literal["wsd"] = "wsd"
    summary: ClassVar[str] = "constant, then a cooldown over the last share of the run (warmup-stable-decay)"
    source: ClassVar[str] = "Hu et al. 2024 (arXiv 2404.06395); Hägele et al. 2024 (arXiv 2405.18392)"

    decay_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    decay: Literal["one_minus_sqrt", "linear"] = "one_minus_sqrt"

    def factor(self, step: int, steps: int) -> float:
        """See `Schedule.factor`; the cooldown is a share of the whole run."""
        left = (steps - step) / (self.decay_fraction * steps)
        if left < 1.0:
            return 1.0 - math.sqrt(1.0 - left) if self.decay == "one_minus_sqrt" else left
        return super().factor(step, steps)

    def shape(self, progress: float) -> float:
        """1 until the cooldown."""
        return 1.0

    def trunk(self) -> Schedule:
        """The constant schedule with the same warmup."""
        return Constant(warmup_fraction=self.warmup_fraction)
