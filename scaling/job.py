"""A job: planned trials executed together, their execution fixed. Ray carries jobs; the store knows only trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scaling.spec import Count, Frozen
from scaling.trial import Trial

Attention = Literal["manual", "sdpa", "native"]
"""`native` is this project's kernel for short sequences on a CPU, `sdpa` torch's fused one, `manual` plain products."""


class Execution(Frozen):
    """How a trial is run. Equal execution gives bit-identical losses; it is recorded, not hashed."""

    device: Literal["cpu", "cuda"] = "cpu"
    compiled: bool = False
    micro_batch_tokens: Count = 2048
    attention: Attention = "manual"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    threads: Count = 1
    pack: Count = 1
    """Models of one shape trained side by side, by batched products."""
    compute: Literal["fp32"] | None = None
    """What a bf16 trial's products are made in where the machine has none of bf16; None: the trial's precision."""
    dropout: Literal["ahead"] | None = None
    """Where dropout's draws are made: ahead of each step, see `scaling.models.dropout`; None: by torch within it."""
    loss: Literal["native"] | None = None
    """`native`: the cross-entropy is this project's kernel's, see `scaling.models.cross_entropy`; None: torch's."""
    memory_fraction: float | None = None
    """Share of a GPU's memory that the trial may take, where several share the GPU; None: all."""


class Planned(Frozen):
    """A trial with its identity, its labels (not hashed) and its execution."""

    trial: Trial
    run_id: str
    lineage: str
    data_digest: str
    sweep: str
    budget: float | None = None
    execution: Execution = Execution()
    keep: Literal["none", "final"] = "none"
    """Whether the weights that were scored stay in the store."""

    @property
    def flops(self) -> int:
        """Exact FLOPs of the run."""
        from scaling.cost import trial_flops

        return sum(trial_flops(self.trial, self.vocab_size).values())

    vocab_size: Count


class Job(Frozen):
    """Trials executed together: one, or those of one trunk, ascending by steps, each branching off the trunk."""

    planned: tuple[Planned, ...]

    @property
    def flops_marginal(self) -> dict[str, int]:
        """Exact FLOPs that each trial adds to its job, by run id: the trunk since the last branch, and its cooldown."""
        found: dict[str, int] = {}
        shared = 0
        for p in self.planned:
            branch = p.trial.schedule.branch_step(p.trial.steps) or 0
            found[p.run_id] = p.flops - min(shared, branch) * (p.flops // p.trial.steps)
            shared = max(shared, branch)
        return found

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
