"""Translation language modelling: masked prediction on a sentence and its translation in one window, in nats per token.

Conneau and Lample 2019 (arXiv 1901.07291): a token may be predicted from the other language. A window is one pair of a
parallel corpus from its start: first sentence, newline, second sentence, separator, then padding that attention does
not see. Tokens of the two have embeddings of their language. Learned and sinusoidal positions begin anew with the
second sentence; rotary, ALiBi and T5 positions are distances, of which none is reset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np

from scaling.accounting import FlopTerm, ParamCount
from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.masking import IGNORED, Masking, needs_encoder, with_segments
from scaling.objectives.word_units import newlines

if TYPE_CHECKING:
    import torch

    from scaling.architectures.base import Architecture
    from scaling.trial import Trial

_SLACK = 1e-9
"""What rounding may add to a product that is whole."""


class Pairs(NamedTuple):
    """Windows read as pairs: (B, T) tokens, padded; `candidates`, what may be masked; and what the model is given."""

    tokens: np.ndarray
    candidates: np.ndarray
    extra: dict[str, np.ndarray]


class TranslationMasked(Masking):
    """Of each pair the share `mask_rate`, rounded up, is predicted, on both sides; the loss is a mean over tokens.

    `tokens` of a run count windows, padding included: choose a `seq_len` near the length of the pairs. A pair that is
    longer is cut at the window's end. The separators are never masked.
    """

    type: Literal["translation_masked"] = "translation_masked"
    summary: ClassVar[str] = "predict masked tokens of a sentence and its translation in one window"
    source: ClassVar[str] = "Conneau and Lample 2019 (arXiv 1901.07291)"
    begins: ClassVar[Literal["anywhere", "document"]] = "document"

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        return super().serves(architecture) or needs_encoder(architecture)

    def refuses(self, trial: Trial) -> str | None:
        """See `Objective.refuses`."""
        if not trial.corpus.parallel:
            return (
                f"corpus {trial.corpus.type} is no parallel text; use corpus parallel, with its files first and second"
            )
        return None

    def predicted_per_window(self, seq_len: int) -> int:
        """Room for those of a pair that fills the window: mask_rate · seq_len, rounded up."""
        return math.ceil(self.mask_rate * seq_len - _SLACK)

    def heldout_passes(self, seq_len: int) -> int:
        """1/mask_rate, rounded up."""
        return math.ceil(1.0 / self.mask_rate - _SLACK)

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Objective.build`."""
        from scaling.models.translation import TranslationModel

        return TranslationModel(with_segments(architecture), vocab_size, seed)

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """See `Objective.params`; languages are counted with positions."""
        return with_segments(architecture).params(vocab_size)

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """See `Objective.forward_flops`; padding costs what text does."""
        return super().forward_flops(with_segments(architecture), vocab_size, windows)

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        pairs = _read(windows, vocab)
        room, sizes = self.predicted_per_window(windows.shape[1]), self._sizes(pairs)
        positions = self.stretch(pairs.tokens, vocab, rng, sizes, room, pairs.candidates)
        return self._batch(pairs, positions, np.arange(room) < sizes, vocab, rng)

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """A random partition of each pair's units; a last part is filled up with positions scored elsewhere."""
        pairs = _read(windows, vocab)
        room, sizes = self.predicted_per_window(windows.shape[1]), self._sizes(pairs)
        counts = pairs.candidates.sum(axis=1, keepdims=True)
        parts = self.heldout_passes(windows.shape[1])
        order = self.order(pairs.tokens, vocab, rng, sizes, parts, pairs.candidates)
        batches = []
        for part in range(parts):
            place = part * sizes + np.arange(room)
            positions = np.take_along_axis(order, place % np.maximum(counts, 1), axis=1)
            counted = np.arange(room) < sizes
            scored = np.zeros(pairs.tokens.shape, bool)
            here = counted & (place < counts)
            scored[np.nonzero(here)[0], positions[here]] = True
            batch = self._batch(pairs, positions, counted, vocab, rng)
            assert batch.positions is not None
            batch.targets[~np.take_along_axis(scored, batch.positions, axis=1)] = IGNORED
            batches.append(batch)
        return batches

    def _sizes(self, pairs: Pairs) -> np.ndarray:
        """(B, 1) positions to predict in each pair."""
        counts = pairs.candidates.sum(axis=1, keepdims=True)
        return np.ceil(self.mask_rate * counts - _SLACK).astype(np.int64)

    def _batch(
        self, pairs: Pairs, positions: np.ndarray, counted: np.ndarray, vocab: Vocabulary, rng: np.random.Generator
    ) -> Batch:
        """Hides the `counted` ones of `positions` (B, P); the others are 0 and ignored."""
        length = pairs.tokens.shape[1]
        ascending = np.sort(np.where(counted, positions, length), axis=1)
        counted = ascending < length
        batch = self.corrupted(pairs.tokens, np.where(counted, ascending, 0), vocab, rng, counted)
        weight = np.full(len(pairs.tokens), counted.size / max(1, int(counted.sum())), np.float32)
        return batch._replace(extra=pairs.extra | {"weight": weight})


def _read(windows: np.ndarray, vocab: Vocabulary) -> Pairs:
    """The pair that each window begins with; what follows its separator becomes padding."""
    place = np.arange(windows.shape[1])
    ends = np.where(windows == vocab.separator_id, place, windows.shape[1] - 1).min(axis=1, keepdims=True)
    between = np.isin(windows, newlines(vocab)) & (place <= ends)
    middle = np.where(between, place, ends).min(axis=1, keepdims=True)
    inside, second = place <= ends, place > middle
    text = inside & (windows != vocab.separator_id) & ~(between & (place == middle))
    return Pairs(
        tokens=np.where(inside, windows.astype(np.int64), vocab.separator_id),
        candidates=text,
        extra={
            "segments": (second & inside).astype(np.int64),
            "position_ids": np.where(inside, place - np.where(second, middle + 1, 0), 0),
            "lengths": ends[:, 0] + 1,
        },
    )
