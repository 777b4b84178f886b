"""What every schedule states: the learning rate's factor as a pure function of the step."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from scaling.spec import Member


class Schedule(Member):
    """Linear warmup over `warmup_fraction` of the run, then the member's own shape; warmup never counts in steps."""

    warmup_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)

    @abstractmethod
    def shape(self, progress: float) -> float:
        """Factor after warmup; `progress` runs from 0 (end of warmup) to 1 (end of the run)."""

    def factor(self, step: int, steps: int) -> float:
        """Factor on the peak learning rate for the update numbered `step` (0-based) of `steps`; in [0, 1]."""
        warmup = self.warmup_of(steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.shape((step - warmup) / max(1.0, steps - warmup))

    def warmup_of(self, steps: int) -> float:
        """Steps of warmup in a run of `steps`; a fraction is allowed."""
        return self.warmup_fraction * steps

    def warmup_share(self, steps: int) -> float:
        """Share of a run of `steps` that is warmup."""
        return self.warmup_fraction

    def branch_step(self, steps: int) -> int | None:
        """Optimizer steps that a run of `steps` shares with longer runs of its trunk; None where it shares none."""
        return None

    def trunk(self) -> Schedule | None:
        """This schedule without its decay where runs of different horizons share a trunk, else None."""
        return None
