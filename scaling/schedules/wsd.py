"""Warmup-stable-decay: constant, then a cooldown over the last share of the run.

Hu et al. 2024 (arXiv 2404.06395); Hägele et al. 2024 (arXiv 2405.18392).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from scaling.schedules.base import Schedule
from scaling.schedules.constant import Constant
from scaling.spec import NonNegativeCount


class Wsd(Schedule):
    """Constant, then a cooldown over the last share of the run (warmup-stable-decay)."""

    type: Literal["wsd"] = "wsd"
    summary: ClassVar[str] = "constant, then a cooldown over the last share of the run (warmup-stable-decay)"
    source: ClassVar[str] = "Hu et al. 2024 (arXiv 2404.06395); Hägele et al. 2024 (arXiv 2405.18392)"

    decay_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    decay: Literal["one_minus_sqrt", "linear"] = "one_minus_sqrt"
    warmup_steps: NonNegativeCount | None = None
    """Warmup in steps, where runs of different horizons share a trunk; replaces `warmup_fraction`."""

    def warmup_of(self, steps: int) -> float:
        """See `Schedule.warmup_of`."""
        return super().warmup_of(steps) if self.warmup_steps is None else float(self.warmup_steps)

    def warmup_share(self, steps: int) -> float:
        """See `Schedule.warmup_share`."""
        return self.warmup_fraction if self.warmup_steps is None else self.warmup_steps / steps

    def branch_step(self, steps: int) -> int:
        """Steps before the first whose rate the cooldown lowers."""
        first = int(steps - self.decay_fraction * steps)
        while (steps - first) / (self.decay_fraction * steps) >= 1.0:
            first += 1
        return first

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
        return Constant(warmup_fraction=self.warmup_fraction, warmup_steps=self.warmup_steps)
