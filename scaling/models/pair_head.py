"""An encoder of two segments with a binary head on its first token beside masked prediction.

p = softmax(W tanh(W₀ h_0)) over (as it stood, changed): Devlin et al. 2018 (arXiv 1810.04805), Lan et al. 2019 (arXiv
1909.11942).

Shape suffixes: B windows, T positions, P predicted positions, D width; S models side by side lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scaling.models.cross_entropy import nats_of
from scaling.models.heads import generator_of, matrix
from scaling.models.multihead import at_least_float32
from scaling.models.packed import linear
from scaling.models.parts import Wrapper

if TYPE_CHECKING:
    from scaling.architectures.transformer import Transformer

CLASSES = 2


class PairModel(Wrapper):
    """`shape` has embeddings of two segments or more."""

    def __init__(self, shape: Transformer, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.encoder = shape.build(vocab_size, seed)
        generator = generator_of(seed)
        self.pair_in = matrix(shape.d_model, shape.d_model, generator)
        self.pair_out = matrix(CLASSES, shape.d_model, generator)

    def forward(self, inputs_BT: Tensor, positions_BP: Tensor, targets: Tensor, *, segments: Tensor) -> Tensor:
        """Nats (B, P + 1): of each predicted token, then of the pair.

        In training the pair's are multiplied by P, so that the sum over a batch, divided by its predicted tokens, is
        the mean over tokens plus the mean over pairs.
        """
        hidden_BTD = self.encoder.hidden(inputs_BT, segments=segments)
        tokens_BP = nats_of(self.encoder.read_out(hidden_BTD, positions_BP), targets[..., :-1])
        first_B1D = linear(hidden_BTD[..., :1, :].to(self.compute_dtype), self.pair_in)
        pooled_B1D = torch.tanh(at_least_float32(first_B1D)).to(self.compute_dtype)
        pair_B1 = nats_of(linear(pooled_B1D, self.pair_out), targets[..., -1:])
        return torch.cat([tokens_BP, pair_B1 * (positions_BP.shape[-1] if self.training else 1)], dim=-1)
