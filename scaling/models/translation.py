"""An encoder of two aligned sentences in one padded window: masked prediction on both, padding unseen.

Conneau and Lample 2019 (arXiv 1901.07291): language embeddings, and positions that begin anew with the second.

Shape suffixes: B windows, T positions, P predicted positions; S models side by side lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from scaling.models.cross_entropy import nats_of
from scaling.models.parts import Wrapper

if TYPE_CHECKING:
    from scaling.architectures.transformer import Transformer


class TranslationModel(Wrapper):
    """`shape` has embeddings of two segments or more, which here are languages."""

    def __init__(self, shape: Transformer, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.encoder = shape.build(vocab_size, seed)

    def forward(
        self,
        inputs_BT: Tensor,
        positions_BP: Tensor,
        targets_BP: Tensor,
        *,
        segments: Tensor,
        position_ids: Tensor,
        lengths: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """Nats (B, P) of each predicted token; in training times its window's `weight` (B,)."""
        hidden = self.encoder.hidden(inputs_BT, segments=segments, position_ids=position_ids, lengths=lengths)
        nats_BP = nats_of(self.encoder.read_out(hidden, positions_BP), targets_BP)
        return nats_BP * weight.unsqueeze(-1) if self.training else nats_BP
