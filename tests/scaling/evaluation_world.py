"""A little world for tests of evaluations: runs trained for some steps on a known source, their weights kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_world import write_text as write_english
from trial_world import ready

from scaling.evaluations.subject import Subject, trial_of
from scaling.job import Execution, Planned
from scaling.row import row_of as planned_row
from scaling.store import Store
from scaling.trial import Trial

SOURCE = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024}
DECODER = {"type": "decoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32}
ENCODER = {**DECODER, "type": "encoder"}


def planned(keep: str = "final", **changes: Any) -> Planned:
    spec = {
        "architecture": DECODER,
        "objective": "causal",
        "corpus": SOURCE,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 128,
        "steps": 60,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    trial = Trial.model_validate_json(json.dumps(spec))
    return ready(trial, Execution(micro_batch_tokens=128), keep=keep)


def untrained(**changes: Any) -> Subject:
    """A run with the weights that its training would begin with."""
    plan = planned(**changes)
    row = planned_row(plan, "finished", "", tokens_unique=plan.trial.tokens)
    model = plan.trial.objective.build(plan.trial.architecture, plan.vocab_size, plan.trial.seed)
    return Subject(row, plan.trial, {f"model.{name}": p.detach() for name, p in model.named_parameters()})


def write_text(path: Path) -> dict[str, str]:
    """A corpus of some English; its description."""
    write_english(path)
    return {"type": "local", "path": str(path)}


def row_of(store: Store, plan: Planned) -> dict[str, Any]:
    rows = store.rows()
    found: dict[str, Any] = rows[rows.run_id == plan.run_id].iloc[0].to_dict()
    return found


def subject_of(store: Store, plan: Planned) -> Subject:
    row = row_of(store, plan)
    return Subject.load(store, row, trial_of(row))
