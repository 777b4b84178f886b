"""Masked language modelling: −mean log p(x_i | corrupted x) over selected positions, in nats per predicted token.

Devlin et al. 2018 (arXiv 1810.04805): a share `mask_rate` of positions is selected; of these 80 % become [MASK],
10 % a random token, 10 % stay. Selection is dynamic (Liu et al. 2019, arXiv 1907.11692). Each window has the same
number of selected positions, as in BERT's own input pipeline, so shapes are static and the head sees only them. The
loss is no code length: it is never reported as bits per byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from scaling.objectives.base import Batch, Objective, Vocabulary

if TYPE_CHECKING:
    from scaling.architectures.base import Architecture

IGNORED = -1
"""Target of a position that is not scored."""


class Masked(Objective):
    """BERT's objective at any mask rate; the remainder of the two shares keeps its token."""

    type: Literal["masked"] = "masked"
    summary: ClassVar[str] = "predict masked tokens from both sides (nats per predicted token)"
    source: ClassVar[str] = "Devlin et al. 2018 (arXiv 1810.04805)"

    mask_rate: float = Field(default=0.15, gt=0.0, lt=1.0)
    mask_share: float = Field(default=0.8, ge=0.0, le=1.0)
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _shares_fit(self) -> Masked:
        if self.mask_share + self.random_share > 1.0 + 1e-12:
            raise ValueError(f"mask_share {self.mask_share} + random_share {self.random_share} is over 1")
        return self

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if not architecture.bidirectional:
            return "masked prediction needs bidirectional attention; use architecture encoder, or objective causal"
        if self.predicted_per_window(architecture.seq_len) < 1:
            return f"mask_rate {self.mask_rate} leaves nothing to predict in a window of {architecture.seq_len} tokens"
        return None

    def window(self, seq_len: int) -> int:
        """See `Objective.window`."""
        return seq_len

    def predicted_per_window(self, seq_len: int) -> int:
        """round(mask_rate · seq_len)."""
        return round(self.mask_rate * seq_len)

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        n_windows, seq_len = windows.shape
        order = np.argsort(rng.random((n_windows, seq_len)), axis=1)
        return self._corrupt(windows, np.sort(order[:, : self.predicted_per_window(seq_len)], axis=1), vocab, rng)

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """A random partition of each window's positions into parts of `predicted_per_window` positions.

        The last part is filled up with positions scored elsewhere; their targets are -1.
        """
        n_windows, seq_len = windows.shape
        size = self.predicted_per_window(seq_len)
        order = np.argsort(rng.random((n_windows, seq_len)), axis=1)
        batches = []
        for start in range(0, seq_len, size):
            part = order[:, start : start + size]
            surplus = size - part.shape[1]
            batch = self._corrupt(windows, np.concatenate([part, order[:, :surplus]], axis=1), vocab, rng)
            if surplus:
                batch.targets[:, size - surplus :] = IGNORED
            batches.append(batch)
        return batches

    def _corrupt(
        self, windows: np.ndarray, positions: np.ndarray, vocab: Vocabulary, rng: np.random.Generator
    ) -> Batch:
        tokens = windows.astype(np.int64)
        targets = np.take_along_axis(tokens, positions, axis=1)
        fate = rng.random(positions.shape)
        drawn = rng.integers(0, vocab.n_ordinary, positions.shape)
        shown = np.where(fate < self.mask_share, vocab.mask_id, targets)
        is_random = (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
        np.put_along_axis(tokens, positions, np.where(is_random, drawn, shown), axis=1)
        return Batch(tokens, np.ascontiguousarray(positions), np.ascontiguousarray(targets))
