"""Denoising: the decoder writes the original text, whose corrupted form the encoder reads, in nats per token.

Lewis et al. 2020 (arXiv 1910.13461, §2.2): token masking, token deletion, text infilling (spans of Poisson lengths,
each replaced by one mask, those of length 0 too), sentence permutation and document rotation, singly and together.
The default is the paper's own choice: 30 % of the tokens infilled, λ = 3, and all sentences permuted. The loss is no
code length: the model has read most of the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.source_target import SourceTarget, shifted
from scaling.objectives.word_units import sentence_begins, shuffled

if TYPE_CHECKING:
    from scaling.architectures.base import Architecture

Noise = Literal["permutation", "masking", "deletion", "infilling", "rotation"]
ON_TOKENS = ("masking", "deletion", "infilling")
"""Noises that take a share of the tokens."""


class Denoising(SourceTarget):
    """BART's objective. A window is the document; noises are applied in the order in which `Noise` names them.

    `noise_rate` is the share of a window's tokens that each of masking, deletion and infilling takes. Sources are as
    long as what deletion leaves; infilled ones are shorter still, and filled up with what no position sees.
    """

    type: Literal["denoising"] = "denoising"
    summary: ClassVar[str] = "write the text whose corrupted form was read (nats per token)"
    source: ClassVar[str] = "Lewis et al. 2020 (arXiv 1910.13461)"

    noises: Annotated[tuple[Noise, ...], Field(strict=False, min_length=1)] = ("permutation", "infilling")
    noise_rate: float = Field(default=0.3, gt=0.0, lt=1.0)
    mean_span: float = Field(default=3.0, ge=1.0, le=1000.0)
    """λ of infilling."""

    @field_validator("noises")
    @classmethod
    def _each_once(cls, noises: tuple[Noise, ...]) -> tuple[Noise, ...]:
        if len(set(noises)) < len(noises):
            raise ValueError("names a noise twice")
        return noises

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if not architecture.encoder_decoder:
            return "denoising reads one text and writes another; use architecture encoder_decoder"
        length = architecture.seq_len
        taken = self._taken(length)
        which = [n for n in ON_TOKENS if n in self.noises]
        if which and not 1 <= taken < length:
            found = "nothing to corrupt in" if taken < 1 else "nothing of"
            return f"noise_rate {self.noise_rate:g} leaves {found} a window of {length} tokens"
        if "infilling" in which and self.noise_rate * length < self.mean_span:
            return (
                f"noise_rate {self.noise_rate:g} of a window of {length} tokens is less than one span of mean_span"
                f" {self.mean_span:g} tokens; lengthen the window or raise noise_rate"
            )
        return None

    def _taken(self, length: int) -> int:
        return round(self.noise_rate * length)

    def window(self, seq_len: int) -> int:
        """See `Objective.window`."""
        return seq_len

    def sizes(self, seq_len: int) -> tuple[int, int]:
        """See `SourceTarget.sizes`."""
        return seq_len - (self._taken(seq_len) if "deletion" in self.noises else 0), seq_len

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        targets = windows.astype(np.int64)
        tokens, taken = targets, self._taken(windows.shape[1])
        if "permutation" in self.noises:
            tokens = permuted(tokens, vocab, rng)
        if "masking" in self.noises:
            tokens = np.where(_chosen(tokens, taken, rng), vocab.mask_id, tokens)
        if "deletion" in self.noises:
            tokens = tokens[~_chosen(tokens, taken, rng)].reshape(len(tokens), -1)
        lengths = np.full(len(tokens), tokens.shape[1])
        extra = {}
        if "infilling" in self.noises:
            spans = poisson_spans(len(tokens), self._taken(tokens.shape[1]), self.mean_span, rng)
            tokens, lengths = infilled(tokens, spans, vocab, rng)
            extra = {"lengths": lengths}
        if "rotation" in self.noises:
            tokens = rotated(tokens, lengths, rng)
        inputs = np.ascontiguousarray(tokens)
        return Batch(inputs, None, targets, {"decoder_inputs": shifted(targets, vocab.separator_id), **extra})

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """One corruption of every window, the same for all trials: every position is scored once."""
        return [self.train_batch(windows, vocab, rng)]


def _chosen(tokens: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(B, T) bool: `count` positions of each window."""
    return np.argsort(np.argsort(rng.random(tokens.shape), axis=1), axis=1) < count


def permuted(tokens: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Windows (B, T) whose sentences stand in random order; text without full stops is one sentence."""
    return np.take_along_axis(tokens, shuffled(sentence_begins(tokens, vocab), rng), axis=1)


def rotated(tokens: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Windows that begin at a random token of theirs, what stood before it at the end; (B,) `lengths` are turned."""
    place = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    length = lengths[:, None]
    by = np.floor(rng.random((len(tokens), 1)) * length).astype(np.int64)
    return np.take_along_axis(tokens, np.where(place < length, (place + by) % np.maximum(length, 1), place), axis=1)


def poisson_spans(n_windows: int, total: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """(B, K) lengths of spans that sum to `total`, −1 where a window has no more.

    Poisson draws until their sum reaches `total`; the last is cut to fit, as in the authors' code. Spans of length 0
    come along, but never so many that the text grows.
    """
    lengths = rng.poisson(mean, (n_windows, 2 * total + 16))
    before = np.cumsum(lengths, axis=1) - lengths
    lengths = np.where(before < total, np.minimum(lengths, total - before), -1)
    # Draws so small that they do not reach the total are as good as never seen; the last span takes what is missing.
    lengths[:, -1] += total - lengths.clip(0).sum(axis=1)
    surplus = np.cumsum(lengths == 0, axis=1) > total - (lengths > 0).sum(axis=1, keepdims=True)
    return np.where((lengths == 0) & surplus, -1, lengths)


def infilled(
    tokens: np.ndarray, spans: np.ndarray, vocab: Vocabulary, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Windows (B, T) in which spans of these lengths (B, K; −1: none) give way to one mask each, and their lengths.

    Spans do not overlap, and all ways to set them among the tokens that stay are equally likely. What follows the
    text of a window is separators.
    """
    whole = tokens.shape[1]
    count = (spans >= 0).sum(axis=1, keepdims=True)
    lengths = whole - spans.clip(0).sum(axis=1, keepdims=True) + count
    place = np.broadcast_to(np.arange(whole), tokens.shape)
    key = np.where(place < lengths, rng.random(tokens.shape), np.inf)
    is_mask = np.argsort(np.argsort(key, axis=1), axis=1) < count
    # The spans of each window in random order: the one cut to fit was the last drawn.
    order = np.argsort(np.where(spans >= 0, rng.random(spans.shape), np.inf), axis=1)
    mixed = np.take_along_axis(spans, order, axis=1)
    span = np.take_along_axis(mixed, (np.cumsum(is_mask, axis=1) - 1).clip(0), axis=1)
    used = np.where(is_mask, span, (place < lengths).astype(np.int64))
    start = (np.cumsum(used, axis=1) - used).clip(max=whole - 1)
    shown = np.where(is_mask, vocab.mask_id, np.take_along_axis(tokens, start, axis=1))
    return np.where(place < lengths, shown, vocab.separator_id), lengths[:, 0]
