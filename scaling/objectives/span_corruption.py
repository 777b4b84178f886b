"""Span corruption: spans of the text give way to sentinels, and the decoder writes them, in nats per target token.

Raffel et al. 2020 (arXiv 1910.10683, §3.1.4 and §3.3): a share `noise_density` of the tokens in spans of `mean_span`
tokens on average. Input "a b <0> e f <1>", target "<0> c d <1> g <2>": each span behind its sentinel, and a last
sentinel that ends the target (fig. 2). The numbers of corrupted tokens and of spans are the same in every window, as
in the authors' own pipeline, so that shapes are static. The loss is no code length: the model has read the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.source_target import SourceTarget, shifted

if TYPE_CHECKING:
    from scaling.architectures.base import Architecture


class SpanCorruption(SourceTarget):
    """T5's objective; the ids of sentinels follow those of the vocabulary."""

    type: Literal["span_corruption"] = "span_corruption"
    summary: ClassVar[str] = "write the spans that sentinels stand for (nats per target token)"
    source: ClassVar[str] = "Raffel et al. 2020 (arXiv 1910.10683)"

    noise_density: float = Field(default=0.15, gt=0.0, lt=1.0)
    mean_span: float = Field(default=3.0, ge=1.0, le=1000.0)

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if not (architecture.encoder_decoder or architecture.prefix):
            return (
                "span corruption reads one text and writes another; use architecture encoder_decoder or prefix_decoder"
            )
        length = architecture.seq_len
        share = f"noise_density {self.noise_density:g} of a window of {length} tokens"
        if length < 2 or self.noise_density * length < self.mean_span:
            mend = "lengthen the window or raise noise_density"
            return f"{share} is less than one span of mean_span {self.mean_span:g} tokens; {mend}"
        noise, spans = self.noise(length)
        if length - noise < spans:
            return f"{share} leaves too little between {spans} spans; lower noise_density or raise mean_span"
        return None

    def noise(self, length: int) -> tuple[int, int]:
        """Corrupted tokens and spans of each window."""
        tokens = min(max(round(length * self.noise_density), 1), length - 1)
        return tokens, max(round(tokens / self.mean_span), 1)

    def window(self, seq_len: int) -> int:
        """See `Objective.window`."""
        return seq_len

    def extra_tokens(self, seq_len: int) -> int:
        """One sentinel a span, and the last."""
        return self.noise(seq_len)[1] + 1

    def sizes(self, seq_len: int) -> tuple[int, int]:
        """See `SourceTarget.sizes`."""
        tokens, spans = self.noise(seq_len)
        return seq_len - tokens + spans, tokens + spans + 1

    def heldout_passes(self, seq_len: int) -> int:
        """As many as it takes to corrupt as many tokens as a window has."""
        return -(-seq_len // self.noise(seq_len)[0])

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        tokens = windows.astype(np.int64)
        n_windows, length = tokens.shape
        n_noise, n_spans = self.noise(length)
        mask = noise_mask(n_windows, length, n_noise, n_spans, rng)
        begins = mask.copy()
        begins[:, 1:] &= ~mask[:, :-1]
        sentinel = vocab.size + np.cumsum(begins, axis=1) - 1
        inputs = np.where(begins, sentinel, tokens)[~mask | begins].reshape(n_windows, -1)
        # Before each span of the target stands its sentinel: an array of pairs, of which one or both are kept.
        pairs = np.stack([sentinel, tokens], axis=-1)
        spans = pairs[np.stack([begins, mask], axis=-1)].reshape(n_windows, -1)
        targets = np.concatenate([spans, np.full((n_windows, 1), vocab.size + n_spans)], axis=1)
        return Batch(inputs, None, targets, {"decoder_inputs": shifted(targets, vocab.separator_id)})

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """Independent corruptions of every window, so many that as many tokens are corrupted as the text has.

        A position is corrupted once on average: spans of random length cannot tile a window exactly.
        """
        return [self.train_batch(windows, vocab, rng) for _ in range(self.heldout_passes(windows.shape[1]))]


def noise_mask(n_windows: int, length: int, n_noise: int, n_spans: int, rng: np.random.Generator) -> np.ndarray:
    """(B, T) bool: where the text is corrupted; text and spans alternate, text first, none empty.

    `n_noise` tokens are cut into `n_spans` spans, and the others into as many stretches, by cuts drawn without
    replacement: `random_spans_noise_mask` of the T5 authors' code.
    """
    noise = _segments(n_windows, n_noise, n_spans, rng)
    text = _segments(n_windows, length - n_noise, n_spans, rng)
    ends = np.cumsum(np.stack([text, noise], axis=-1).reshape(n_windows, 2 * n_spans), axis=1)
    starts = np.zeros((n_windows, length), np.int64)
    np.put_along_axis(starts, ends[:, :-1], 1, axis=1)
    return np.cumsum(starts, axis=1) % 2 == 1


def _segments(n_windows: int, items: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """(B, parts) lengths of at least one that sum to `items`, all such splits equally likely."""
    order = np.argsort(rng.random((n_windows, items - 1)), axis=1)
    cuts = np.sort(order[:, : parts - 1], axis=1) + 1
    edges = np.concatenate([np.zeros((n_windows, 1), np.int64), cuts, np.full((n_windows, 1), items)], axis=1)
    return np.diff(edges, axis=1)
