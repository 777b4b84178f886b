"""What masked objectives share: which positions are selected, together with which, and what stands there instead.

Devlin et al. 2018 (arXiv 1810.04805): a share `mask_rate` of positions is selected; of these 80 % become [MASK],
10 % a random token, 10 % stay. Selection is dynamic (Liu et al. 2019, arXiv 1907.11692). `unit` says what is selected
together: tokens; whole words (Cui et al. 2019, arXiv 1906.08101); spans of 1…10 words, mean 3.8, whose tokens share
their fate (Joshi et al. 2020, arXiv 1907.10529). Each window has the same number of selected positions, so shapes are
static and the head sees only them: the last span is cut at that number, as SpanBERT's code does; words that do not fit
any more are passed over, and one is cut only where none fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from scaling.architectures.transformer import Encoder
from scaling.objectives.base import Batch, Objective, Vocabulary
from scaling.objectives.word_units import runs, shuffled, span_begins, whole, word_begins

if TYPE_CHECKING:
    from scaling.architectures.base import Architecture

IGNORED = -1
"""Target of a position that is not scored."""

Unit = Literal["token", "whole_word", "span"]


class Masking(Objective):
    """Fields of every masked objective; the remainder of the two shares keeps its token."""

    mask_rate: float = Field(default=0.15, gt=0.0, lt=1.0)
    mask_share: float = Field(default=0.8, ge=0.0, le=1.0)
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    unit: Unit = "token"

    @model_validator(mode="after")
    def _shares_fit(self) -> Masking:
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

    def unit_begins(self, tokens: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> np.ndarray:
        """(B, T) bool: where what is masked together begins in each window of `tokens`."""
        if self.unit == "token":
            return np.ones(tokens.shape, bool)
        words = word_begins(tokens, vocab)
        return words if self.unit == "whole_word" else span_begins(words, rng)

    def order(
        self,
        tokens: np.ndarray,
        vocab: Vocabulary,
        rng: np.random.Generator,
        sizes: np.ndarray,
        parts: int,
        candidates: np.ndarray | None = None,
    ) -> np.ndarray:
        """(B, T) positions of each window in random order by unit, to be read in stretches of `sizes` (B, 1).

        Its first `parts` stretches are what is masked together; only positions in `candidates` (B, T) may be.
        """
        begins = self.unit_begins(tokens, vocab, rng)
        if candidates is not None:
            begins[:, 1:] |= candidates[:, 1:] != candidates[:, :-1]
        order = shuffled(begins, rng, candidates)
        if self.unit == "whole_word":
            full = np.ones(tokens.shape, bool) if candidates is None else candidates
            order = whole(order, begins, sizes, full.sum(axis=1, keepdims=True), parts)
        return order

    def stretch(
        self,
        tokens: np.ndarray,
        vocab: Vocabulary,
        rng: np.random.Generator,
        sizes: np.ndarray,
        room: int,
        candidates: np.ndarray | None = None,
    ) -> np.ndarray:
        """(B, room) positions of which the first `sizes` (B, 1) are one stretch of an order.

        Of words it is any full stretch and not always the first, for which long words are passed over more often: so
        every word is masked as often as another.
        """
        if self.unit != "whole_word":
            return self.order(tokens, vocab, rng, sizes, 1, candidates)[:, :room]
        length = tokens.shape[1]
        counts = np.full(sizes.shape, length) if candidates is None else candidates.sum(axis=1, keepdims=True)
        full = np.maximum(counts // np.maximum(sizes, 1), 1)
        order = self.order(tokens, vocab, rng, sizes, int(full.max()), candidates)
        place = rng.integers(0, full) * sizes + np.arange(room)
        return np.take_along_axis(order, np.minimum(place, length - 1), axis=1)

    def selected(self, tokens: np.ndarray, size: int, vocab: Vocabulary, rng: np.random.Generator) -> np.ndarray:
        """(B, size) ascending positions to predict in each window of `tokens` (B, T)."""
        return np.sort(self.stretch(tokens, vocab, rng, np.full((len(tokens), 1), size), size), axis=1)

    def partition(
        self, tokens: np.ndarray, size: int, vocab: Vocabulary, rng: np.random.Generator
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Parts of `size` positions that together cover each window: (positions, scored), (B, size) each.

        The last part is filled up with positions scored elsewhere.
        """
        n_windows, length = tokens.shape
        n_parts = -(-length // size)
        order = self.order(tokens, vocab, rng, np.full((n_windows, 1), size), n_parts)
        found = []
        for start in range(0, length, size):
            part = order[:, start : start + size]
            surplus = size - part.shape[1]
            positions = np.concatenate([part, order[:, :surplus]], axis=1)
            scored = np.broadcast_to(np.arange(size) < size - surplus, positions.shape)
            if self.unit != "token":
                ascending = np.argsort(positions, axis=1)
                positions, scored = (np.take_along_axis(a, ascending, axis=1) for a in (positions, scored))
            found.append((positions, scored))
        return found

    def corrupted(
        self,
        tokens: np.ndarray,
        positions: np.ndarray,
        vocab: Vocabulary,
        rng: np.random.Generator,
        counted: np.ndarray | None = None,
    ) -> Batch:
        """Hides the tokens (B, T) at `positions` (B, P); those not `counted` (B, P) stay, and their target is ignored.

        Tokens are drawn from those of the text, so special ids of an objective never appear.
        """
        tokens = tokens.astype(np.int64)
        targets = np.take_along_axis(tokens, positions, axis=1)
        fate = rng.random(positions.shape)
        drawn = rng.integers(0, vocab.n_ordinary, positions.shape)
        if self.unit == "span":
            ahead = np.argmax(positions[:, :, None] == runs(positions)[0][:, None, :], axis=1)
            fate = np.take_along_axis(fate, ahead, axis=1)
        shown = np.where(fate < self.mask_share, vocab.mask_id, targets)
        is_random = (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
        shown = np.where(is_random, drawn, shown)
        if counted is None:
            np.put_along_axis(tokens, positions, shown, axis=1)
        else:
            aside = np.concatenate([tokens, tokens[:, :1]], axis=1)
            np.put_along_axis(aside, np.where(counted, positions, tokens.shape[1]), shown, axis=1)
            tokens = np.ascontiguousarray(aside[:, :-1])
            targets = np.where(counted, targets, IGNORED)
        return Batch(tokens, np.ascontiguousarray(positions), np.ascontiguousarray(targets))


def needs_encoder(architecture: Architecture) -> str | None:
    """None for the encoder, else why a head that reads its final states cannot stand on `architecture`."""
    return None if isinstance(architecture, Encoder) else "its heads read an encoder's states; use architecture encoder"


def with_segments(architecture: Architecture) -> Encoder:
    """The encoder, with embeddings of two segments where it has none or one."""
    assert isinstance(architecture, Encoder)
    return architecture if architecture.segments >= 2 else architecture.model_copy(update={"segments": 2})
