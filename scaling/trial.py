"""A trial: what to train, as one frozen value, and the identity of the row it yields.

`run_id` hashes the canonical JSON (fields at their default left out) with the data's digest and SEMANTICS_VERSION.
Adding a field with a default therefore changes no id; tests freeze the defaults and some golden ids.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from scaling.architectures import ArchitectureSpec
from scaling.corpora import CorpusSpec
from scaling.objectives import ObjectiveSpec
from scaling.optimizers import OptimizerSpec
from scaling.schedules import ScheduleSpec
from scaling.schedules.cosine import Cosine
from scaling.spec import Count, Frozen, NonNegativeCount, canonical
from scaling.tokenizers import TokenizerSpec
from scaling.tokenizers.byte import Byte
from scaling.trainer import TrainerSpec

SEMANTICS_VERSION = 1
"""Raised only when the same trial would yield another loss by design; every trial then runs again."""

MIN_STEPS = 300
"""Fewer optimizer steps than this say nothing about scaling; budgets that give fewer are refused."""


class Trial(Frozen):
    """One row: architecture and shape, objective, data, optimizer and schedule, one horizon, one seed."""

    architecture: ArchitectureSpec
    objective: ObjectiveSpec
    corpus: CorpusSpec
    tokenizer: TokenizerSpec = Byte()
    optimizer: OptimizerSpec
    schedule: ScheduleSpec = Cosine()
    batch_tokens: Count
    steps: Count
    seed: NonNegativeCount = 0
    precision: Literal["bf16", "fp32", "fp64"] = "bf16"
    """Of products; what a machine without bf16 of its own makes of bf16 is float32 (`Execution.compute`)."""
    heldout: Literal["full", "nested"] = "full"
    """Which held-out windows are scored: all 2^20 bytes, or the nested 2^18 for small budgets."""
    repeat: bool = False
    """Whether the run may pass over its training tokens more than once."""
    trainer: TrainerSpec | None = None
    """The user's own training function; None: ours."""
    evaluation_ratio: float | None = Field(default=None, ge=1.01, le=100.0)
    """Held-out loss is measured each time the steps have grown by this factor; None: at the end only."""
    averaging_width: float | None = Field(default=None, gt=0.0, lt=0.28)
    """Relative width of the power-function average of the weights that is scored; None: the weights themselves."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Trial:
        reason = self.objective.serves(self.architecture)
        if reason is not None:
            raise ValueError(f"objective {self.objective.type} cannot train {self.architecture.type}: {reason}")
        if self.batch_tokens % self.architecture.seq_len:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is not a multiple of seq_len {self.architecture.seq_len}"
            )
        parametrisation = getattr(self.architecture, "parametrisation", "standard")
        if parametrisation != "standard" and self.objective.own_model:
            raise ValueError(
                f"objective {self.objective.type} builds a model of its own, for which parametrisation"
                f" {parametrisation} has no rules; set architecture.parametrisation standard"
            )
        missing = self.objective.refuses(self)
        if missing is not None:
            raise ValueError(f"objective {self.objective.type}: {missing}")
        together = self.objective.scored_together
        if self.batch_windows % together:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} are {self.batch_windows} windows, not a multiple of the {together}"
                f" that objective {self.objective.type} scores together; make batch_tokens a multiple of"
                f" {together * self.architecture.seq_len}"
            )
        if self.trainer is not None and (self.evaluation_ratio is not None or self.averaging_width is not None):
            raise ValueError("evaluation_ratio and averaging_width are for this project's own training; remove them")
        return self

    @property
    def tokens(self) -> int:
        """Tokens seen in training."""
        return self.batch_tokens * self.steps

    @property
    def batch_windows(self) -> int:
        """Windows in one optimizer step."""
        return self.batch_tokens // self.architecture.seq_len

    @property
    def tokens_predicted(self) -> int:
        """Loss-bearing tokens in training."""
        seq_len = self.architecture.seq_len
        return self.tokens // seq_len * self.objective.predicted_per_window(seq_len)

    def run_id(self, data_digest: str, semantics: int | None = None) -> str:
        """16 hex digits that name this trial on this data, under an earlier `semantics` version where one is given."""
        version = SEMANTICS_VERSION if semantics is None else semantics
        return _digest({"trial": canonical(self), "data": data_digest, "semantics": version})

    def lineage(self, data_digest: str) -> str:
        """16 hex digits shared by the rows of one trunk: the trial without horizon and decay.

        Where the schedule's shape depends on the horizon from the first step (cosine, linear) there is no shared
        trunk and the lineage is the run's own.
        """
        trunk = self.schedule.trunk()
        if trunk is None:
            return self.run_id(data_digest)
        spec = canonical(self)
        del spec["steps"]
        spec["schedule"] = canonical(trunk)
        return _digest({"trunk": spec, "data": data_digest, "semantics": SEMANTICS_VERSION})


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
