"""A job: planned trials executed together, their execution fixed. Ray carries jobs; the store knows only trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scaling.spec import Count, Frozen
from scaling.trial import Trial


class Execution(Frozen):
    """How a trial is run. Equal execution gives bit-identical losses; it is recorded, not hashed."""

    device: Literal["cpu", "cuda"] = "cpu"
    compiled: bool = False
    micro_batch_tokens: Count = 2048
    attention: Literal["manual", "sdpa"] = "manual"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    threads: Count = 1


class Planned(Frozen):
    """A trial with its identity, its labels (not hashed) and its execution."""

    trial: Trial
    run_id: str
    lineage: str
    data_digest: str
    sweep: str
    budget: float | None = None
    execution: Execution = Execution()

    @property
    def flops(self) -> int:
        """Exact FLOPs of the run."""
        from scaling.cost import trial_flops

        return sum(trial_flops(self.trial, self.vocab_size).values())

    vocab_size: Count


class Job(Frozen):
    """Trials executed together; today one each."""

    planned: tuple[Planned, ...]

    @property
    def flops(self) -> int:
        """Exact FLOPs of the whole job."""
        return sum(p.flops for p in self.planned)


@dataclass(frozen=True)
class Progress:
    """Where a job stands after a slice."""

    done: bool
    run_id: str
    step: int
    steps: int
    flops_done: float
    flops_total: float
    train_loss: float
    statuses: dict[str, str]
    """run_id to status of the trials that ended in this job so far."""
