"""Multi-head attention by one of three paths: this project's kernel, torch's fused one, or plain products.

All three take the same rules: causal, a window about the query, a prefix that all see, padding from `lengths` on, and a
bias by distance. Plain products under a window are banded: blocks of `window` queries meet the keys of their own block
and of its neighbours, as in Longformer (Beltagy et al. 2020, arXiv 2004.05150).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.architectures.banded import band
from scaling.models.attention import short_attention
from scaling.models.dropout import drawn_ahead, take, thinned
from scaling.models.dropout import dropout as dropped
from scaling.models.positions import over_keys, rotate

if TYPE_CHECKING:
    from scaling.job import Attention

NEVER = -1e30
"""Score of a key that may not be seen where all keys of a query may be such; its weight is exactly 0 beside others."""


class Rules(NamedTuple):
    """What a query may see of T queries and S keys, and what is added to its score.

    Args:
        causal: keys up to its own position only.
        mask: (T, S), 0 where it may look and -inf where not, as `causal` and `window` say; None: everywhere.
        rotary: cos and sin, (T, K/2) each, or None.
        bias: (H, T + S − 1) by distance, read at query − key + S − 1; (M, H, T + S − 1) for M models side by side.
        prefix: (B,) int64; keys below it are seen by all.
        lengths: (B,) int64 of at least 1; keys from it on are padding.
        window: w > 0 restricts to |query − key| < w.
    """

    causal: bool = False
    mask: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None
    prefix: Tensor | None = None
    lengths: Tensor | None = None
    window: int = 0


def multi_head(
    packed: Tensor, source: Tensor | None, n_head: int, rules: Rules, path: Attention, dropout: float = 0.0
) -> Tensor:
    """Attention output (B, T, H·K).

    Args:
        packed: (B, T, 3·H·K), or queries (B, T, H·K) where `source` is given; B is M·B where M models lie side by side.
        source: None, or keys and values (B, S, 2·H·K).
        n_head: H.
        rules: what may be seen.
        path: which of the three. With dropout this project's kernel takes draws made ahead, torch's draws its own;
            where it is the other way round, plain products serve.
        dropout: share of the weights that is dropped.
    """
    batch, queries, width = packed.shape
    keys = queries if source is None else source.shape[1]
    banded = rules.prefix is None and source is None and band(queries, rules.window, rules.causal) is not None
    ahead = bool(dropout) and drawn_ahead()
    kept = None
    if ahead and (path == "native" or not banded):
        kept = take((batch, n_head, keys, queries), dropout, packed.device)
    if path == "native" and (kept is not None or not dropout):
        return _native(packed, source, n_head, rules, kept, dropout)
    if source is None:
        q, k, v = packed.view(batch, queries, 3, n_head, -1).permute(2, 0, 3, 1, 4)
        width //= 3
    else:
        q = packed.view(batch, queries, n_head, -1).transpose(1, 2)
        k, v = source.view(batch, source.shape[1], 2, n_head, -1).permute(2, 0, 3, 1, 4)
    if rules.rotary is not None:
        cos, sin = (angle.to(q.dtype) for angle in rules.rotary)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    if path == "sdpa" and not ahead:
        y_BHTK = _fused(q, k, v, rules, dropout)
    elif banded:
        y_BHTK = _banded(q, k, v, rules, dropout)
    else:
        score = at_least_float32((q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2))
        added = _added(rules, score.shape[-1], score.device)
        weight = torch.softmax(score if added is None else _plus(score, added), dim=-1)
        thin = dropped(weight, dropout, dropout > 0) if kept is None else thinned(weight, kept.mT, dropout)
        y_BHTK = thin.to(v.dtype) @ v
    return y_BHTK.transpose(1, 2).reshape(batch, queries, width)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or unchanged where it is float64."""
    return x if x.dtype == torch.float64 else x.float()


def _native(
    packed: Tensor, source: Tensor | None, n_head: int, rules: Rules, kept: Tensor | None, dropout: float
) -> Tensor:
    def call(packed: Tensor, source: Tensor | None, *by_model: Tensor | None) -> Tensor:
        bias, prefix, lengths, kept = by_model
        return short_attention(
            packed,
            source,
            n_head=n_head,
            causal=rules.causal,
            rotary=rules.rotary,
            bias=bias,
            prefix=prefix,
            lengths=lengths,
            window=rules.window,
            kept=kept,
            dropout=dropout,
        )

    bias = rules.bias
    if bias is None or bias.ndim == 2:
        return call(packed, source, bias, rules.prefix, rules.lengths, kept)
    models = bias.shape[0]
    given = [packed, source, rules.prefix, rules.lengths, kept]
    parts = [(None,) * models if t is None else t.chunk(models) for t in given]
    return torch.cat([call(p, s, b, f, n, m) for p, s, f, n, m, b in zip(*parts, bias.unbind(), strict=True)])


def _fused(q: Tensor, k: Tensor, v: Tensor, rules: Rules, dropout: float) -> Tensor:
    plain = rules.bias is None and rules.prefix is None and rules.lengths is None and not rules.window
    if plain:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=rules.causal)
    added = _added(rules, k.shape[-2], q.device)
    if added is not None:
        # Torch's fused kernels want all four axes, and the type of the queries.
        each = _plus(added.new_zeros(q.shape[0] if added.ndim == 5 else 1, 1, 1, 1), added)
        added = each.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added, dropout_p=dropout)


def _added(rules: Rules, keys: int, device: torch.device) -> Tensor | None:
    """Masks and bias as one tensor to add to scores: (T, S), (H, T, S), (B, 1 or H, T, S) or (M, 1 or B, H, T, S)."""
    added = rules.mask
    if rules.prefix is not None and added is not None:
        seen = torch.arange(keys, device=device) < rules.prefix.view(-1, 1, 1, 1)
        added = torch.where(seen, 0.0, added)
    if rules.lengths is not None:
        padding = torch.arange(keys, device=device) >= rules.lengths.view(-1, 1, 1, 1)
        added = (torch.zeros((), device=device) if added is None else added).masked_fill(padding, NEVER)
    if rules.bias is not None:
        by_key = over_keys(rules.bias, keys)
        if by_key.ndim == 4:
            by_key = by_key.unsqueeze(1)
            if added is not None and added.ndim == 4:
                added = added.unflatten(0, (by_key.shape[0], -1))
        added = by_key if added is None else by_key + added
    return added


def _plus(score: Tensor, added: Tensor) -> Tensor:
    """Scores (B, H, T, S) with what `_added` made on them."""
    if added.ndim < 5:
        return score + added
    return (score.unflatten(0, (added.shape[0], -1)) + added).flatten(0, 1)


def _banded(q: Tensor, k: Tensor, v: Tensor, rules: Rules, dropout: float) -> Tensor:
    """Attention under a window by blocks of `window` queries: (B, H, T, K), nothing but the band computed."""
    batch, heads, seq_len, width = q.shape
    w = rules.window
    blocks = -(-seq_len // w)
    sides = 2 if rules.causal else 3
    after = blocks * w - seq_len
    q = F.pad(q, (0, 0, 0, after)).view(batch, heads, blocks, w, width)
    k, v = (F.pad(x, (0, 0, w, after + (sides - 2) * w)).view(batch, heads, -1, w, width) for x in (k, v))
    k, v = (torch.cat([x[:, :, side : side + blocks] for side in range(sides)], dim=-2) for x in (k, v))
    device = q.device
    column = torch.arange(sides * w, device=device) - w
    distance = torch.arange(w, device=device)[:, None] - column
    near = (distance.abs() < w) & (distance >= 0) if rules.causal else distance.abs() < w
    key = torch.arange(0, blocks * w, w, device=device)[:, None, None] + column
    seen = near & (key >= 0) & (key < seq_len)
    if rules.lengths is not None:
        seen = seen & (key < rules.lengths.view(-1, 1, 1, 1, 1))
    score = at_least_float32((q * (1.0 / math.sqrt(width))) @ k.transpose(-1, -2))
    if rules.bias is not None:
        by_key = rules.bias[..., distance.clamp(1 - seq_len, seq_len - 1) + seq_len - 1].unsqueeze(-3)
        score = _plus_by_model(score, by_key)
    weight = torch.softmax(score.masked_fill(~seen, NEVER), dim=-1)
    y = dropped(weight, dropout, dropout > 0).to(v.dtype) @ v
    return y.flatten(2, 3)[:, :, :seq_len]


def _plus_by_model(score: Tensor, by_key: Tensor) -> Tensor:
    """Scores (B, H, n, w, S) and a bias (H, 1, w, S), or (M, H, 1, w, S) of M models."""
    if by_key.ndim == 4:
        return score + by_key
    return (score.unflatten(0, (by_key.shape[0], -1)) + by_key.unsqueeze(1)).flatten(0, 1)
