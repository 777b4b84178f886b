"""Linear decay over the rest of the run: Defazio et al. 2023 (arXiv 2310.07831)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scaling.schedules.base import Schedule


class Linear(Schedule):
    """Linear decay over the rest of the run."""

    type: Literal["linear"] = "linear"
    summary: ClassVar[str] = "linear decay over the rest of the run"
    source: ClassVar[str] = "Defazio et al. 2023 (arXiv 2310.07831)"

    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)

    def shape(self, progress: float) -> float:
        """1 − (1 − f)p with f = `final_fraction`."""
        return 1.0 - (1.0 - self.final_fraction) * progress
