"""What every objective states: what it predicts, how a batch is made, and the loss on it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from scaling.spec import Member

if TYPE_CHECKING:
    import numpy as np

    from scaling.architectures.base import Architecture


class Batch(NamedTuple):
    """One micro-batch, static in shape: B windows of T tokens, P predicted positions a window.

    `inputs` (B, T) int64; `positions` (B, P) int64 of the predicted positions, or None where all T are;
    `targets` (B, P) int64.
    """

    inputs: np.ndarray
    positions: np.ndarray | None
    targets: np.ndarray


class Objective(Member):
    """A pretraining objective over windows of tokens."""

    bits_per_byte: ClassVar[bool] = False
    """True where the loss is a code length, so that bits per byte mean something."""

    @abstractmethod
    def serves(self, architecture: Architecture) -> str | None:
        """None where `architecture` can be trained with this objective, else the reason."""

    @abstractmethod
    def window(self, seq_len: int) -> int:
        """Tokens of the stream that one window needs (causal: one more than `seq_len`)."""

    @abstractmethod
    def predicted_per_window(self, seq_len: int) -> int:
        """Loss-bearing positions in a window of `seq_len` tokens."""

    @abstractmethod
    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """A training batch from (B, window) tokens; `rng` is a pure function of (seed, step, micro-batch)."""

    @abstractmethod
    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """Held-out batches of equal shape that together predict every scored position of `windows` exactly once.

        Causal: one batch. Masked: one for each part of a partition of the positions. Where the parts are uneven the
        surplus targets are -1 and are not scored.
        """


class Vocabulary(NamedTuple):
    """What an objective must know of a vocabulary: its size and special ids; ordinary ids are those below `n_ordinary`.

    Special ids may lie inside 0…n_ordinary (bytes that never occur in UTF-8 text).
    """

    size: int
    n_ordinary: int
    separator_id: int
    mask_id: int
