"""Sentence vectors: an encoder trained so that two dropped-out views of a window agree, and heads for sentence pairs.

InfoNCE over groups of G windows: loss_i = −log exp(cos(u_i, v_i)/τ) / Σ_j exp(cos(u_i, v_j)/τ), with u and v the two
views (Gao, Yao and Chen 2021, arXiv 2104.08821: SimCSE). Pairs: softmax W[u; v; |u − v|] and (cos(u, v) − y)²
(Reimers and Gurevych 2019, arXiv 1908.10084: SBERT).

Shape suffixes: B windows, G windows of a group, T positions, D width; S models side by side lead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.models.multihead import at_least_float32
from scaling.models.packed import linear
from scaling.models.parts import Wrapper, body

if TYPE_CHECKING:
    from scaling.architectures.transformer import Encoder

Pooling = Literal["first", "mean"]


def pooled(hidden_BTD: Tensor, how: Pooling) -> Tensor:
    """One vector a window, (…, B, D): that of its first position, or the mean of all."""
    return hidden_BTD[..., 0, :] if how == "first" else hidden_BTD.mean(-2)


def info_nce(first_GD: Tensor, second_GD: Tensor, temperature: float, alike_GG: Tensor | None = None) -> Tensor:
    """Nats of finding each window's second view among those of its group, (…, G).

    Args:
        first_GD: one view of each window, (…, G, D).
        second_GD: the other, (…, G, D).
        temperature: τ.
        alike_GG: True where two different windows hold the same text, which is no negative; None: nowhere.
    """
    first, second = (F.normalize(at_least_float32(x), dim=-1) for x in (first_GD, second_GD))
    score_GG = first @ second.mT / temperature
    if alike_GG is not None:
        score_GG = score_GG.masked_fill(alike_GG, -math.inf)
    return torch.logsumexp(score_GG, dim=-1) - torch.diagonal(score_GG, dim1=-2, dim2=-1)


class ContrastiveModel(Wrapper):
    """An encoder whose windows are read twice in one pass; dropout, never off here, makes the two views differ."""

    def __init__(
        self, shape: Encoder, vocab_size: int, seed: int, *, group: int, temperature: float, pool: Pooling
    ) -> None:
        """A dense layer with tanh stands between pooling and the loss."""
        super().__init__()
        self.encoder = body(shape, vocab_size, seed)
        self.group, self.temperature, self.pool = group, temperature, pool
        width = shape.d_model
        self.head_dense = nn.Parameter(torch.empty(width, width))
        self.head_bias = nn.Parameter(torch.zeros(width))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head_dense.copy_(torch.randn(width, width, generator=generator) / math.sqrt(width))

    def train(self, mode: bool = True) -> ContrastiveModel:
        """As `nn.Module.train`, but the encoder's dropout stays on: without it the two views would be one."""
        super().train(mode)
        self.encoder.train()
        return self

    def views(self, inputs_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Two vectors a window, (…, B, D) each."""
        hidden_BTD = self.encoder.hidden(torch.cat([inputs_BT, inputs_BT], dim=-2))
        vectors_BD = pooled(hidden_BTD, self.pool).to(self.compute_dtype)
        vectors_BD = torch.tanh(at_least_float32(linear(vectors_BD, self.head_dense, self.head_bias)))
        first_BD, second_BD = vectors_BD.chunk(2, dim=-2)
        return first_BD, second_BD

    def forward(self, inputs_BT: Tensor, positions: None, targets_B1: Tensor) -> Tensor:
        """Nats of each window, (…, B, 1); 0 where the target is -1. B is a multiple of the group."""
        first_BD, second_BD = self.views(inputs_BT)
        grouped = (*inputs_BT.shape[:-2], -1, self.group)
        text = inputs_BT.reshape(*grouped, inputs_BT.shape[-1])
        alike = (text.unsqueeze(-2) == text.unsqueeze(-3)).all(-1)
        alike = alike & ~torch.eye(self.group, dtype=torch.bool, device=alike.device)
        first, second = (v.reshape(*grouped, v.shape[-1]) for v in (first_BD, second_BD))
        nats_B1 = info_nce(first, second, self.temperature, alike).reshape(targets_B1.shape)
        return torch.where(targets_B1 >= 0, nats_B1, 0.0)


class PairClassifier(nn.Module):
    """SBERT's classification head: logits W[u; v; |u − v|] over `n_classes` relations of two sentences."""

    def __init__(self, width: int, n_classes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(n_classes, 3 * width, generator=generator) / math.sqrt(3 * width)
        self.weight = nn.Parameter(start)

    def forward(self, u_BD: Tensor, v_BD: Tensor) -> Tensor:
        """Logits (B, n_classes)."""
        return linear(torch.cat([u_BD, v_BD, (u_BD - v_BD).abs()], dim=-1), self.weight)

    def loss(self, u_BD: Tensor, v_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Cross-entropy of each pair's label, (B,) nats."""
        return F.cross_entropy(at_least_float32(self(u_BD, v_BD)), labels_B, reduction="none")


def cosine_loss(u_BD: Tensor, v_BD: Tensor, similarity_B: Tensor) -> Tensor:
    """SBERT's regression loss of each pair, (B,): squared error of cos(u, v) against a stated similarity in [0, 1]."""
    return (F.cosine_similarity(at_least_float32(u_BD), at_least_float32(v_BD), dim=-1) - similarity_B).square()
