"""Positions: rotary angles, sinusoids, and biases on attention scores by distance (ALiBi, T5's buckets).

Vaswani et al. 2017 (arXiv 1706.03762) §3.5; Raffel et al. 2019 (arXiv 1910.10683) §2.1; Su et al. 2021 (arXiv
2104.09864); Press et al. 2021 (arXiv 2108.12409). Biases by distance are (H, T + S − 1) for T queries and S keys, read
at query − key + S − 1, as the attention kernel reads them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scaling.models.packed import embed

ROTARY_BASE = 10_000.0
SINUSOID_BASE = 10_000.0


def rotary_table(seq_len: int, head_width: int) -> tuple[Tensor, Tensor]:
    """cos and sin of Su et al. 2021 (arXiv 2104.09864), each (T, K/2) float32."""
    frequency = ROTARY_BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x_BHTK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the two halves of each head vector by the position's angles."""
    first, second = x_BHTK.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def sinusoids(seq_len: int, width: int) -> Tensor:
    """Fixed positions of Vaswani et al. 2017, (T, D) float32: sin in even columns, cos in odd ones."""
    frequency = SINUSOID_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequency)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width].float()


def distances(queries: int, keys: int) -> Tensor:
    """query − key at each place of a bias by distance, (T + S − 1,)."""
    return torch.arange(-(keys - 1), queries)


def alibi_slopes(n_head: int) -> Tensor:
    """Slopes of Press et al. 2021, (H,): 2^(−8h/H) where H is a power of two, else the authors' interleaving."""
    power = 1 << (n_head.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * h / power) for h in range(1, power + 1)]
    between = [2.0 ** (-4.0 * h / power) for h in range(1, 2 * power, 2)]
    return torch.tensor((slopes + between)[:n_head], dtype=torch.float64)


def alibi(n_head: int, queries: int, keys: int) -> Tensor:
    """−slope · |query − key|, (H, T + S − 1) float32."""
    return (-alibi_slopes(n_head)[:, None] * distances(queries, keys).abs()).float()


def relative_buckets(distance: Tensor, buckets: int, furthest: int, bidirectional: bool) -> Tensor:
    """T5's bucket of each distance query − key, int64 of the same shape.

    Half of the buckets hold one distance each, the rest grow in the logarithm up to `furthest`; all further distances
    share the last. Bidirectional: half of all buckets for keys that come later; else those share bucket 0.
    """
    start = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        start = torch.where(distance < 0, buckets, 0)
        distance = distance.abs()
    distance = distance.clamp(min=0)
    exact = buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(furthest / exact) * (buckets - exact)
    large = (exact + growth.to(torch.int64)).clamp(max=buckets - 1)
    return start + torch.where(distance < exact, distance, large)


def bias_from_table(table: Tensor, bucket: Tensor) -> Tensor:
    """(H, span) of a table (buckets, H), or (S, H, span) of (S, buckets, H) of S models; `bucket` is (span,)."""
    rows = bucket if table.ndim == 2 else bucket.expand(table.shape[0], -1)
    return embed(rows, table).mT.contiguous()


def over_keys(bias: Tensor, keys: int) -> Tensor:
    """A bias by distance (…, T + S − 1) as a matrix (…, T, S)."""
    queries = bias.shape[-1] - keys + 1
    index = torch.arange(queries, device=bias.device)[:, None] - torch.arange(keys, device=bias.device) + keys - 1
    return bias[..., index]
