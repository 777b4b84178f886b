"""Masked language modelling: −mean log p(x_i | corrupted x) over selected positions, in nats per predicted token.

Devlin et al. 2018 (arXiv 1810.04805); Liu et al. 2019 (arXiv 1907.11692). The loss is no code length: it is never
reported as bits per byte.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.masking import IGNORED, Masking

__all__ = ["IGNORED", "Masked"]


class Masked(Masking):
    """BERT's objective at any mask rate, by tokens, whole words or spans."""

    type: Literal["masked"] = "masked"
    summary: ClassVar[str] = "predict masked tokens, words or spans from both sides (nats per predicted token)"
    source: ClassVar[str] = "Devlin et al. 2018 (arXiv 1810.04805)"

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        positions = self.selected(windows, self.predicted_per_window(windows.shape[1]), vocab, rng)
        return self.corrupted(windows, positions, vocab, rng)

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """A random partition of each window's units into parts of `predicted_per_window` positions.

        The last part is filled up with positions scored elsewhere; their targets are -1.
        """
        batches = []
        for positions, scored in self.partition(windows, self.predicted_per_window(windows.shape[1]), vocab, rng):
            batch = self.corrupted(windows, positions, vocab, rng)
            batch.targets[~scored] = IGNORED
            batches.append(batch)
        return batches
