"""An encoder with SpanBERT's head: a masked token is predicted from the two states beside its span and its place in it.

y_i = norm(gelu(W₂ norm(gelu(W₁ [x_{s−1}; x_{e+1}; p_{i−s+1}])))), read by the encoder's own output matrix
(Joshi et al. 2020, arXiv 1907.10529, eq. 2).

Shape suffixes: B windows, T positions, P predicted positions, D width; S models side by side lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scaling.models.activations import gelu
from scaling.models.cross_entropy import nats_of
from scaling.models.heads import generator_of, matrix
from scaling.models.multihead import at_least_float32
from scaling.models.norms import Norm
from scaling.models.packed import embed, linear
from scaling.models.parts import Wrapper, at_positions

if TYPE_CHECKING:
    from scaling.architectures.transformer import Transformer


class SpanBoundaryModel(Wrapper):
    """`places` is the longest possible span. Beyond the window's ends stand two learned states."""

    def __init__(self, shape: Transformer, vocab_size: int, seed: int, *, places: int) -> None:
        super().__init__()
        self.encoder = shape.build(vocab_size, seed)
        generator, width = generator_of(seed), shape.d_model
        self.place_embedding = nn.Parameter(torch.randn(places, width, generator=generator))
        self.edge_embedding = nn.Parameter(torch.randn(2, width, generator=generator))
        self.boundary_in = matrix(width, 3 * width, generator)
        self.boundary_out = matrix(width, width, generator)
        self.norm_in, self.norm_out = Norm(width, "layer"), Norm(width, "layer")

    def boundary(self, hidden_BTD: Tensor, left_BP: Tensor, right_BP: Tensor, place_BP: Tensor) -> Tensor:
        """States (B, P, D) of tokens at `place_BP` of spans between `left_BP` (from -1) and `right_BP` (up to T)."""
        edges = self.edge_embedding.to(hidden_BTD.dtype).unsqueeze(-3)
        edges = edges.expand(*hidden_BTD.shape[:-2], *edges.shape[-2:])
        padded = torch.cat([edges[..., :1, :], hidden_BTD, edges[..., 1:, :]], dim=-2)
        places = embed(place_BP, self.place_embedding)
        x = torch.cat([at_positions(padded, left_BP + 1), at_positions(padded, right_BP + 1), places], dim=-1)
        x = gelu(linear(x.to(self.compute_dtype), self.boundary_in), self.compiled)
        x = self.norm_in(at_least_float32(x)).to(self.compute_dtype)
        return self.norm_out(at_least_float32(gelu(linear(x, self.boundary_out), self.compiled)))

    def forward(
        self, inputs_BT: Tensor, positions_BP: Tensor, targets: Tensor, *, left: Tensor, right: Tensor, place: Tensor
    ) -> Tensor:
        """Nats (B, 2P): at each predicted position from its own state, then from its span's boundary."""
        hidden_BTD = self.encoder.hidden(inputs_BT)
        states = [at_positions(hidden_BTD, positions_BP), self.boundary(hidden_BTD, left, right, place)]
        return nats_of(self.encoder.read_out(torch.cat(states, dim=-2)), targets)
