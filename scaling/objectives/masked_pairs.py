"""Masked prediction on pairs of segments, and whether the second is what it seems: nats per token plus nats per pair.

A window is [CLS] first [SEP] second: equally long halves of consecutive text, so that nothing tells a changed pair by
its shape. nsp: the second half is replaced by that of
another window in half of the pairs (Devlin et al. 2018, arXiv 1810.04805). sop: the two halves are swapped in half of
the pairs (Lan et al. 2019, arXiv 1909.11942). none: masked prediction alone on the same layout, every pair as it stood:
what the other two are to be compared with, on one axis of loss.

The held-out loss is masked prediction on pairs as they stood. The pair's nats are measured apart, twice a window: as
it stood, and changed; ln 2 is what a guess gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scaling.accounting import FlopTerm, ParamCount
from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.masking import IGNORED, Masking, needs_encoder, with_segments

if TYPE_CHECKING:
    import torch

    from scaling.architectures.base import Architecture
    from scaling.trial import Trial

AS_IT_STOOD, CHANGED = 0, 1


class MaskedPairs(Masking):
    """`tokens` of a run count [CLS] and [SEP], as BERT's 512 do; predicted tokens are those of the text, no labels."""

    type: Literal["masked_pairs"] = "masked_pairs"
    summary: ClassVar[str] = "masked prediction beside next-sentence or sentence-order prediction"
    source: ClassVar[str] = "Devlin et al. 2018 (arXiv 1810.04805); Lan et al. 2019 (arXiv 1909.11942)"

    pair: Literal["nsp", "sop", "none"] = "nsp"

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if architecture.seq_len < 4 or architecture.seq_len % 2:
            return (
                f"a window is [CLS], [SEP] and two segments of equal length; seq_len {architecture.seq_len}"
                " must be even, and at least 4"
            )
        return super().serves(architecture) or needs_encoder(architecture)

    def refuses(self, trial: Trial) -> str | None:
        """See `Objective.refuses`."""
        if self.pair == "nsp" and trial.batch_windows < 2:
            return (
                "pair nsp takes its other segments from the batch, which holds one window;"
                f" raise batch_tokens to {2 * trial.architecture.seq_len} or more, or use pair sop"
            )
        return None

    def window(self, seq_len: int) -> int:
        """Both segments, without [CLS] and [SEP]."""
        return seq_len - 2

    def predicted_per_window(self, seq_len: int) -> int:
        """round(mask_rate · tokens of both segments)."""
        return round(self.mask_rate * self.window(seq_len))

    def extra_tokens(self, seq_len: int) -> int:
        """[CLS], the vocabulary's size, and [SEP], the next."""
        return 2

    def auxiliary(self, seq_len: int) -> Mapping[str, int]:
        """See `Objective.auxiliary`."""
        return {} if self.pair == "none" else {self.pair: 1}

    def chance(self, architecture: Architecture, vocab_size: int) -> float:
        """A uniform guess at tokens and pairs."""
        return super().chance(architecture, vocab_size) + (0.0 if self.pair == "none" else math.log(2.0))

    def heldout_passes(self, seq_len: int) -> int:
        """Those of the tokens, and two of the pairs."""
        return -(-self.window(seq_len) // self.predicted_per_window(seq_len)) + (0 if self.pair == "none" else 2)

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Objective.build`."""
        from scaling.models.pair_head import PairModel

        shape, size = with_segments(architecture), vocab_size + self.extra_tokens(architecture.seq_len)
        return shape.build(size, seed) if self.pair == "none" else PairModel(shape, size, seed)

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """See `Objective.params`; the pair's head stands under `other`."""
        shape = with_segments(architecture)
        encoder, d = super().params(shape, vocab_size), shape.d_model
        groups = dict(encoder.groups)
        groups["other"] += 0 if self.pair == "none" else d * d + 2 * d
        return ParamCount(groups, encoder.head_matrix)

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """See `Objective.forward_flops`."""
        shape = with_segments(architecture)
        found = dict(super().forward_flops(shape, vocab_size, windows))
        if self.pair == "none":
            return found
        found["other"] = found.get("other", 0) + windows * 2 * (shape.d_model**2 + 2 * shape.d_model)
        return found

    def unit_begins(self, tokens: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> np.ndarray:
        """See `Masking.unit_begins`; nothing reaches from one segment into the other."""
        begins = super().unit_begins(tokens, vocab, rng)
        begins[:, tokens.shape[1] // 2] = True
        return begins

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """Half of the pairs changed, which half at random; with an odd number of windows the odd one at random too."""
        if self.pair == "none":
            positions = self.selected(windows, round(self.mask_rate * windows.shape[1]), vocab, rng)
            return _laid_out(self.corrupted(windows, positions, vocab, rng), None, vocab)
        n_windows = len(windows)
        label = (rng.permutation(n_windows) + rng.integers(0, 2) * (n_windows % 2)) % 2
        text = self._changed(windows, label == CHANGED, int(rng.integers(1, max(2, n_windows))))
        positions = self.selected(text, round(self.mask_rate * text.shape[1]), vocab, rng)
        return _laid_out(self.corrupted(text, positions, vocab, rng), label, vocab)

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """A partition of the positions on pairs as they stood, then the pairs' labels on such and on changed ones."""
        size = round(self.mask_rate * windows.shape[1])
        nothing = None if self.pair == "none" else np.full(len(windows), IGNORED)
        batches = []
        for positions, scored in self.partition(windows, size, vocab, rng):
            batch = self.corrupted(windows, positions, vocab, rng)
            batch.targets[~scored] = IGNORED
            batches.append(_laid_out(batch, nothing, vocab))
        for label in (AS_IT_STOOD, CHANGED) if self.pair != "none" else ():
            text = self._changed(windows, np.full(len(windows), label == CHANGED), max(1, len(windows) // 2))
            batch = self.corrupted(text, self.selected(text, size, vocab, rng), vocab, rng)
            batch.targets[:] = IGNORED
            batches.append(_laid_out(batch, np.full(len(windows), label), vocab))
        return batches

    def _changed(self, windows: np.ndarray, which: np.ndarray, shift: int) -> np.ndarray:
        """The windows, those of `which` swapped, or their second half taken from the window `shift` further on."""
        first, second = np.split(windows, 2, axis=1)
        if self.pair == "sop":
            other = np.concatenate([second, first], axis=1)
        else:
            other = np.concatenate([first, np.roll(second, -shift, axis=0)], axis=1)
        return np.where(which[:, None], other, windows)


def _laid_out(batch: Batch, label: np.ndarray | None, vocab: Vocabulary) -> Batch:
    """[CLS] first [SEP] second of text (B, 2h), with its segments; `label` (B,), where given, joins the targets."""
    assert batch.positions is not None
    n_windows, half = batch.inputs.shape[0], batch.inputs.shape[1] // 2
    cls, sep = (np.full((n_windows, 1), vocab.size + n, np.int64) for n in range(2))
    inputs = np.concatenate([cls, batch.inputs[:, :half], sep, batch.inputs[:, half:]], axis=1)
    positions = batch.positions + np.where(batch.positions < half, 1, 2)
    targets = batch.targets
    if label is not None:
        targets = np.concatenate([targets, label[:, None].astype(np.int64)], axis=1)
    segments = np.repeat(np.array([[0] * (half + 2) + [1] * half]), n_windows, axis=0)
    return Batch(inputs, positions, targets, {"segments": segments})
