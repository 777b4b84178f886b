"""Operations on one model's weights, or on those of S models of one shape side by side (a leading axis S on all).

With S models every matrix product becomes one batched product, so that many small models fill a large device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + bias in the type of `x`: (…, I) by (O, I) and (O,), or (S, …, I) by (S, O, I) and (S, O)."""
    weight = weight.to(x.dtype)
    if weight.ndim == 2:
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))
    flat = x.flatten(1, -2)
    if bias is None:
        product = torch.bmm(flat, weight.mT)
    else:
        product = torch.baddbmm(bias.to(x.dtype).unsqueeze(1), flat, weight.mT)
    return product.view(*x.shape[:-1], weight.shape[1])


def embed(ids: Tensor, table: Tensor) -> Tensor:
    """Rows of a table: (…,) of (V, D), or (S, …) of (S, V, D)."""
    if table.ndim == 2:
        return F.embedding(ids, table)
    models, rows, width = table.shape
    offset = torch.arange(0, models * rows, rows, device=ids.device).view(models, *(1,) * (ids.ndim - 1))
    return F.embedding(ids + offset, table.reshape(models * rows, width))


def per_model(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter that broadcasts over windows: (D,) or (T, D) as it is, with a leading S aligned to that of `x`."""
    trailing = parameter.shape[1:]
    if x.ndim < 4:  # (B, T, D): one model
        return parameter
    return parameter.view(parameter.shape[0], *(1,) * (x.ndim - 1 - len(trailing)), *trailing)
