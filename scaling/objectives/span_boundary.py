"""SpanBERT: masked spans, each token predicted from its own state and again from the span's boundary; the sum of both.

L = L_MLM + L_SBO (Joshi et al. 2020, arXiv 1907.10529, eq. 1–3), each the mean over predicted tokens. The held-out
loss is that of masked prediction alone, as `masked` with spans has it; the boundary's stands in the evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scaling.accounting import FlopTerm, ParamCount
from scaling.architectures.transformer import Encoder
from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.masking import IGNORED, Masking, Unit, needs_encoder
from scaling.objectives.word_units import runs

if TYPE_CHECKING:
    import torch

    from scaling.architectures.base import Architecture


class SpanBoundary(Masking):
    """The head's two layers, its places and norms are trained parameters and counted, as is the second look-up."""

    type: Literal["span_boundary"] = "span_boundary"
    summary: ClassVar[str] = "predict masked spans, and again from the two states beside each (nats per token)"
    source: ClassVar[str] = "Joshi et al. 2020 (arXiv 1907.10529)"

    unit: Unit = "span"

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        return super().serves(architecture) or needs_encoder(architecture)

    def auxiliary(self, seq_len: int) -> Mapping[str, int]:
        """See `Objective.auxiliary`."""
        return {"span_boundary": self.predicted_per_window(seq_len)}

    def chance(self, architecture: Architecture, vocab_size: int) -> float:
        """Both losses of a uniform guess."""
        return 2.0 * math.log(vocab_size)

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Objective.build`."""
        from scaling.models.span_boundary import SpanBoundaryModel

        assert isinstance(architecture, Encoder)
        places = self.predicted_per_window(architecture.seq_len)
        return SpanBoundaryModel(architecture, vocab_size, seed, places=places)

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """See `Objective.params`."""
        assert isinstance(architecture, Encoder)
        encoder, d = architecture.params(vocab_size), architecture.d_model
        groups = dict(encoder.groups)
        groups["position_embedding"] += (self.predicted_per_window(architecture.seq_len) + 2) * d
        groups["norm"] += 4 * d
        groups["other"] += 4 * d * d
        return ParamCount(groups, encoder.head_matrix)

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """See `Objective.forward_flops`; the head reads every predicted token twice."""
        assert isinstance(architecture, Encoder)
        seq_len, d = architecture.seq_len, architecture.d_model
        predicted = windows * self.predicted_per_window(seq_len)
        found = dict(architecture.forward_flops(vocab_size, windows * seq_len, 2 * predicted))
        found["other"] = found.get("other", 0) + predicted * 2 * 4 * d * d
        return found

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        positions = self.selected(windows, self.predicted_per_window(windows.shape[1]), vocab, rng)
        return _bounded(self.corrupted(windows, positions, vocab, rng))

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """As `masked` with the same unit, each position scored from its own state and from its span's boundary."""
        batches = []
        for positions, scored in self.partition(windows, self.predicted_per_window(windows.shape[1]), vocab, rng):
            batch = self.corrupted(windows, positions, vocab, rng)
            batch.targets[~scored] = IGNORED
            batches.append(_bounded(batch))
        return batches


def _bounded(batch: Batch) -> Batch:
    """A batch of ascending positions with the boundary of each one's run, its place there, and its target again."""
    assert batch.positions is not None
    first, last = runs(batch.positions)
    extra = {"left": first - 1, "right": last + 1, "place": batch.positions - first}
    targets = np.concatenate([batch.targets, batch.targets], axis=1)
    return Batch(batch.inputs, batch.positions, targets, extra)
