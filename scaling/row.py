"""A row from its plan: the columns that follow from the trial; what is measured starts out null."""

from __future__ import annotations

import json
import math
from typing import Any

from scaling.cost import size_and_cost_columns
from scaling.job import Planned
from scaling.provenance import environment, now
from scaling.spec import canonical_json


def row_of(planned: Planned, status: str, reason: str, *, tokens_unique: int) -> dict[str, Any]:
    """The row's columns that follow from the plan; measured ones are null."""
    trial = planned.trial
    shape = trial.architecture
    columns = size_and_cost_columns(trial, planned.vocab_size)
    return {
        "run_id": planned.run_id,
        "lineage": planned.lineage,
        "sweep": planned.sweep,
        "status": status,
        "reason": reason,
        "seed": trial.seed,
        "architecture": shape.type,
        "objective": trial.objective.type,
        "corpus": trial.corpus.type,
        "data_digest": planned.data_digest,
        "tokenizer": trial.tokenizer.type,
        "vocab_size": planned.vocab_size,
        "n_layer": getattr(shape, "n_layer", None),
        "d_model": getattr(shape, "d_model", None),
        "n_head": getattr(shape, "n_head", None),
        "d_ff": getattr(shape, "ff", None),
        "seq_len": shape.seq_len,
        "batch_tokens": trial.batch_tokens,
        "lr": trial.optimizer.lr,
        "schedule": trial.schedule.type,
        "warmup_fraction": trial.schedule.warmup_share(trial.steps),
        "budget": planned.budget,
        **columns,
        "flops_marginal": columns["flops_exact"],
        "tokens": trial.tokens,
        "tokens_predicted": trial.tokens_predicted,
        "tokens_unique": tokens_unique,
        "epochs": trial.tokens / tokens_unique,
        "steps": trial.steps,
        "loss": math.nan,
        "loss_se": math.nan,
        "loss_best": math.nan,
        "train_loss": math.nan,
        "bits_per_byte": math.nan,
        "wall_s": math.nan,
        "tokens_per_s": math.nan,
        "spec": canonical_json(trial),
        "execution": planned.execution.model_dump_json(),
        "provenance": json.dumps(environment() | {"started_at": now()}),
    }
