"""What every objective states: what it predicts, how a batch is made, and the loss on it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from scaling.accounting import FlopTerm, ParamCount
from scaling.spec import Member

if TYPE_CHECKING:
    import numpy as np
    import torch

    from scaling.architectures.base import Architecture
    from scaling.trial import Trial

NOTHING: Mapping[str, np.ndarray] = MappingProxyType({})
"""What a batch holds beside inputs, positions and targets where it holds nothing."""


class Batch(NamedTuple):
    """One micro-batch, static in shape: B windows of T tokens, P predicted positions a window.

    `inputs` (B, T) int64; `positions` (B, P) int64 of the predicted positions, or None where all T are;
    `targets` (B, P) int64, -1 where nothing is scored; `extra` by name: arrays (B, …), int64 or float32, that the
    model takes as keyword arguments, all randomness among them.
    """

    inputs: np.ndarray
    positions: np.ndarray | None
    targets: np.ndarray
    extra: Mapping[str, np.ndarray] = NOTHING

    def named(self) -> dict[str, np.ndarray]:
        """Every array by the name under which a model takes it."""
        positions = {} if self.positions is None else {"positions": self.positions}
        return {"inputs": self.inputs, **positions, "targets": self.targets, **self.extra}


Row = tuple[str, Sequence[int | str]]
"""A labelled row of a picture: token ids, or what is shown as it stands."""


class Objective(Member):
    """A pretraining objective over windows of tokens."""

    bits_per_byte: ClassVar[bool] = False
    """True where the loss is a code length, so that bits per byte mean something."""
    begins: ClassVar[Literal["anywhere", "document"]] = "anywhere"
    """Where windows begin: laid end to end over the stream, or one at the start of each document."""
    packs: ClassVar[bool] = True
    """Whether its models can be trained side by side, with a leading axis S on every weight and input."""

    @abstractmethod
    def serves(self, architecture: Architecture) -> str | None:
        """None where `architecture` can be trained with this objective, else the reason."""

    def refuses(self, trial: Trial) -> str | None:
        """None where the rest of a trial (its corpus, its batch) has what the objective needs, else what is missing."""
        return None

    @abstractmethod
    def window(self, seq_len: int) -> int:
        """Tokens of the stream that one window needs (causal: one more than `seq_len`)."""

    @abstractmethod
    def predicted_per_window(self, seq_len: int) -> int:
        """Loss-bearing positions in a window of `seq_len` tokens."""

    def extra_tokens(self, seq_len: int) -> int:
        """Ids from the vocabulary's size upward that the objective adds to embedding and head."""
        return 0

    def auxiliary(self, seq_len: int) -> Mapping[str, int]:
        """Names of what the trailing columns of `targets` predict beside the loss, and how many columns each has.

        Such columns are no part of a run's `loss`; their held-out nats are stored as `heldout_nats_<name>`.
        """
        return {}

    def chance(self, architecture: Architecture, vocab_size: int) -> float:
        """Training loss of a uniform guess, in the unit of the loss; a run far above it has diverged."""
        return math.log(vocab_size + self.extra_tokens(architecture.seq_len))

    @property
    def own_model(self) -> bool:
        """Whether `build` makes another model than the architecture's."""
        return type(self).build is not Objective.build

    @property
    def scored_together(self) -> int:
        """Windows scored with one another: every batch and micro-batch, held-out ones too, is a multiple of it."""
        return 1

    def heldout_passes(self, seq_len: int) -> int:
        """Batches that `heldout_batches` returns."""
        return -(-seq_len // self.predicted_per_window(seq_len))

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """The model that this objective trains, with its initial weights (float32).

        It is called with a batch's arrays by name. In training it returns any float tensor whose sum (over all but a
        leading S), divided by the predicted positions of the batch, is the loss; else nats at each column of
        `targets`, 0 where the target is -1.
        """
        return architecture.build(vocab_size + self.extra_tokens(architecture.seq_len), seed)

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """Trained parameters by group of the model that `build` makes."""
        return architecture.params(vocab_size + self.extra_tokens(architecture.seq_len))

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """Matrix-product FLOPs by term of a forward pass over `windows` windows."""
        seq_len = architecture.seq_len
        predicted = windows * self.predicted_per_window(seq_len)
        return architecture.forward_flops(vocab_size + self.extra_tokens(seq_len), windows * seq_len, predicted)

    @abstractmethod
    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """A training batch from (B, window) tokens; `rng` is a pure function of (seed, step, micro-batch)."""

    @abstractmethod
    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """Held-out batches of equal shape that together predict every scored position of `windows` exactly once.

        Causal: one batch. Masked: one for each part of a partition of the positions. Where the parts are uneven the
        surplus targets are -1 and are not scored. An objective that cannot partition says what it scores instead.
        """

    def example(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Row] | None:
        """A picture for the documentation of what is made of the first of (2, window) tokens.

        None: its training batch says it all.
        """
        return None


class Vocabulary(NamedTuple):
    """What an objective must know of a vocabulary: its size and special ids; ordinary ids are those below `n_ordinary`.

    Special ids may lie inside 0…n_ordinary (bytes that never occur in UTF-8 text).
    """

    size: int
    n_ordinary: int
    separator_id: int
    mask_id: int
    classes: bytes = b""
    """One byte an id about its text (see `word_units.classes_of`); empty where nothing is known of it."""
