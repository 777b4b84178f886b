"""Constant after warmup: Hägele et al. 2024 (arXiv 2405.18392)."""

from __future__ import annotations

from typing import ClassVar, Literal

from scaling.schedules.base import Schedule


class Constant(Schedule):
    """Constant after warmup."""

    type: Literal["constant"] = "constant"
    summary: ClassVar[str] = "constant after warmup"
    source: ClassVar[str] = "Hägele et al. 2024 (arXiv 2405.18392)"

    def shape(self, progress: float) -> float:
        """1."""
        return 1.0

    def trunk(self) -> Schedule:
        """Itself: it has no decay."""
        return self
