"""A model made of other models: what is set on it is set on its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from scaling.architectures.transformer import Encoder
    from scaling.job import Attention


class Wrapper(nn.Module):
    """Forwards how products are made (`compute_dtype`, `attention`, `compiled`) to the models it holds."""

    _compute_dtype: torch.dtype = torch.float32
    _attention: Attention = "manual"
    _compiled: bool = False

    @property
    def compute_dtype(self) -> torch.dtype:
        """Type in which products run."""
        return self._compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype) -> None:
        self._compute_dtype = dtype
        for part in self.children():
            part.compute_dtype = dtype  # type: ignore[assignment]

    @property
    def attention(self) -> Attention:
        """Which attention the parts use."""
        return self._attention

    @attention.setter
    def attention(self, attention: Attention) -> None:
        self._attention = attention
        for part in self.children():
            part.attention = attention  # type: ignore[assignment]

    @property
    def compiled(self) -> bool:
        """Whether the whole runs as a compiled graph."""
        return self._compiled

    @compiled.setter
    def compiled(self, compiled: bool) -> None:
        self._compiled = compiled
        for part in self.children():
            part.compiled = compiled  # type: ignore[assignment]


def at_positions(x_BTD: Tensor, positions_BP: Tensor) -> Tensor:
    """The vectors of (…, B, T, D) at positions (…, B, P): (…, B, P, D)."""
    return torch.gather(x_BTD, -2, positions_BP.unsqueeze(-1).expand(*positions_BP.shape, x_BTD.shape[-1]))


def body(shape: Encoder, vocab_size: int, seed: int) -> nn.Module:
    """The model of `shape` without its output head: token ids in, final stream out by `hidden`."""
    model = shape.model_copy(update={"tied": True}).build(vocab_size, seed)
    for name in ("head_dense", "head_dense_bias", "head_norm", "head_bias"):
        setattr(model, name, None)
    return model
