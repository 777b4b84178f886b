"""Activations of the feed-forward layer, in the type of their input."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.models.multihead import at_least_float32

Activation = Literal["gelu", "gelu_exact", "relu", "swiglu"]

GELU_SCALE = 2.0 * math.sqrt(2.0 / math.pi)


def gelu(x: Tensor, compiled: bool) -> Tensor:
    """GELU's tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415), as x·σ(2u) with u its argument of tanh.

    The two are equal; a compiled sigmoid is faster than a compiled tanh, and eager has its own kernel.
    """
    if not compiled:
        return F.gelu(x, approximate="tanh")
    y = at_least_float32(x)
    return (y * torch.sigmoid(GELU_SCALE * (y + 0.044715 * y * y * y))).to(x.dtype)


def activate(x: Tensor, name: Activation, compiled: bool) -> Tensor:
    """GELU (tanh form or exact), ReLU, or SwiGLU (Shazeer 2020, arXiv 2002.05202) of (…, 2F), gate first, to (…, F)."""
    if name == "swiglu":
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value
    if name == "relu":
        return F.relu(x)
    return F.gelu(x) if name == "gelu_exact" else gelu(x, compiled)
