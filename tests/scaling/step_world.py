"""Single steps of small models of every kind, with dropout drawn ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from trial_world import ready

from scaling.job import Execution
from scaling.objectives.base import Vocabulary
from scaling.step import StepFunction
from scaling.trial import Trial

P = 0.25
"""Share dropped."""


def trial(kind: str) -> Trial:
    """A small float32 trial of a kind of model, with dropout."""
    common = {"d_model": 16, "seq_len": 32, "dropout": P}
    shape = {"n_layer": 2, "n_head": 2, **common}
    kinds: dict[str, dict[str, Any]] = {
        "decoder": {"architecture": {"type": "decoder", **shape}, "objective": "causal"},
        "windowed": {"architecture": {"type": "decoder", "local_window": 8, **shape}, "objective": "causal"},
        "encoder": {"architecture": {"type": "encoder", **shape}, "objective": "masked"},
        "lstm": {"architecture": {"type": "lstm", "n_layer": 2, **common}, "objective": "causal"},
        "replaced_token": {"architecture": {"type": "encoder", **shape}, "objective": "replaced_token"},
        "encoder_decoder": {"architecture": {"type": "encoder_decoder", **shape}, "objective": "span_corruption"},
        "contrastive": {
            "architecture": {"type": "encoder", **shape},
            "objective": {"type": "contrastive", "group": 4},
        },
    }
    return Trial.model_validate(
        {
            "corpus": {"type": "markov", "order": 1, "symbols": 8, "n_documents": 64, "document_length": 256},
            "optimizer": {"type": "adamw", "lr": 0.01},
            "batch_tokens": 128,
            "steps": 10,
            "heldout": "nested",
            "precision": "fp32",
            **kinds[kind],
        }
    )


class Arm:
    """Steps of a trial under an execution on one batch, from the same weights."""

    def __init__(self, of: Trial, **execution: Any) -> None:
        size, length = ready(of, Execution()).vocab_size, of.architecture.seq_len
        self.function = StepFunction(of, size, Execution(micro_batch_tokens=4 * length, dropout="ahead", **execution))
        pack = self.function.pack
        self.theta = self.function.initial([of.model_copy(update={"seed": seed}) for seed in range(pack)], size)
        rng = np.random.default_rng(0)
        windows = rng.integers(0, 8, (4, of.objective.window(length)))
        batch = of.objective.train_batch(windows, Vocabulary(size, 8, 9, 10), rng)
        self.batch = self.function.to_device([batch] * pack)

    def step(self, *key: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient."""
        return tuple(self.function.step(self.theta, self.batch, torch.tensor(1 / 128), key))  # type: ignore[return-value]


KINDS = ["decoder", "windowed", "encoder", "lstm", "replaced_token", "encoder_decoder", "contrastive"]
