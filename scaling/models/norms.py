"""Norms of the residual stream: x / rms(x) · gain, or (x − mean) / std · gain + bias.

Zhang and Sennrich 2019 (arXiv 1910.07467); Ba et al. 2016 (arXiv 1607.06450).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.models.packed import per_model

NORM_EPS = 1e-6

NormKind = Literal["rms", "layer"]


class Norm(nn.Module):
    """RMS norm with a gain, or layer norm with gain and bias; statistics in the type of its input."""

    def __init__(self, width: int, kind: NormKind = "rms") -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if kind == "layer" else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(…, D) in float32 or above to the same."""
        if self.bias is None:
            return x_BTD * torch.rsqrt(x_BTD.square().mean(-1, keepdim=True) + NORM_EPS) * per_model(self.gain, x_BTD)
        x_BTD = F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=NORM_EPS)
        return x_BTD * per_model(self.gain, x_BTD) + per_model(self.bias, x_BTD)
