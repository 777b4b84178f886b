"""Constant after warmup: Hägele et al. 2024 (arXiv 2405.18392)."""

from __future__ import annotations

from typing import ClassVar, Literal

from scaling.schedules.base import Schedule
from scaling.spec import NonNegativeCount


class Constant(Schedule):
    """Constant after warmup."""

    type: Literal["constant"] = "constant"
    summary: ClassVar[str] = "constant after warmup"
    source: ClassVar[str] = "Hägele et al. 2024 (arXiv 2405.18392)"

    warmup_steps: NonNegativeCount | None = None
    """Warmup in steps, where runs of different horizons share a trunk; replaces `warmup_fraction`."""

    def warmup_of(self, steps: int) -> float:
        """See `Schedule.warmup_of`."""
        return super().warmup_of(steps) if self.warmup_steps is None else float(self.warmup_steps)

    def warmup_share(self, steps: int) -> float:
        """See `Schedule.warmup_share`."""
        return self.warmup_fraction if self.warmup_steps is None else self.warmup_steps / steps

    def branch_step(self, steps: int) -> int:
        """All of them."""
        return steps

    def shape(self, progress: float) -> float:
        """1."""
        return 1.0

    def trunk(self) -> Schedule:
        """Itself: it has no decay."""
        return self
