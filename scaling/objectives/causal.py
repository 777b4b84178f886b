"""Causal language modelling: −mean log p(x_t | x_<t), in nats per token (Radford et al. 2018, 2019: GPT).

The loss is a code length, so bits per byte mean something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scaling.objectives.base import Batch, Objective, Vocabulary

if TYPE_CHECKING:
    from scaling.architectures.base import Architecture


class Causal(Objective):
    """Every position predicts its successor; a window is `seq_len` + 1 tokens."""

    type: Literal["causal"] = "causal"
    summary: ClassVar[str] = "predict each next token (nats per token; bits per byte)"
    source: ClassVar[str] = "Radford et al. 2018, 2019"
    bits_per_byte: ClassVar[bool] = True

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if architecture.bidirectional:
            return "causal prediction needs causal attention; use architecture decoder, or objective masked"
        if architecture.encoder_decoder or architecture.prefix:
            return "causal prediction has nothing to read before it writes; use architecture decoder"
        return None

    def window(self, seq_len: int) -> int:
        """See `Objective.window`."""
        return seq_len + 1

    def predicted_per_window(self, seq_len: int) -> int:
        """See `Objective.predicted_per_window`."""
        return seq_len

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        tokens = windows.astype(np.int64)
        return Batch(np.ascontiguousarray(tokens[:, :-1]), None, np.ascontiguousarray(tokens[:, 1:]))

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """See `Objective.heldout_batches`."""
        return [self.train_batch(windows, vocab, rng)]
