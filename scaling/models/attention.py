"""Attention as one operator of torch, by this project's own kernel for short sequences on a CPU, with its gradient.

`short_attention` takes packed projections, so that no head is ever copied out: q, k and v of a position lie side by
side in `packed` (B, T, 3·H·K); or `packed` holds the queries (B, T, H·K) and `source` keys and values (B, S, 2·H·K).
Rotary angles (Su et al. 2021, arXiv 2104.09864) are applied inside. The operator is opaque to the compiler: it stands
in compiled graphs as one call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, library

from scaling.kernels.build import attention_library
from scaling.kernels.build import pointer as _pointer

LANES = 16
"""Queries that the kernel works on at once, at most; `stats` is padded to them."""
MAX_HEAD_WIDTH = 256

_OPERATORS = library.Library("scaling", "DEF")
_ARGUMENTS = (
    "Tensor packed, Tensor? source, Tensor? cos, Tensor? sin, Tensor? bias, Tensor? prefix, Tensor? lengths,"
    " Tensor? kept, int n_head, bool causal, int window, float dropout"
)
_OPERATORS.define(f"attention({_ARGUMENTS}) -> (Tensor, Tensor)")
_OPERATORS.define(f"attention_backward(Tensor grad, Tensor stats, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")


def available(head_width: int) -> bool:
    """Whether the kernel can be had here for heads of this width; compiles it where it has not been yet."""
    return head_width <= MAX_HEAD_WIDTH and attention_library(head_width) is not None


def short_attention(
    packed: Tensor,
    source: Tensor | None = None,
    *,
    n_head: int,
    causal: bool = False,
    rotary: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
    prefix: Tensor | None = None,
    lengths: Tensor | None = None,
    window: int = 0,
    kept: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention output (B, T, H·K) of bf16 or float32 projections; float32 inside.

    Args:
        packed: (B, T, 3·H·K), or (B, T, H·K) where `source` is given.
        source: None, or keys and values (B, S, 2·H·K).
        n_head: H.
        causal: a query sees keys up to its own position.
        rotary: cos and sin, (T, K/2) float32 each, or None.
        bias: (H, T + S − 1) float32 added to scores, read at query − key + S − 1; has a gradient.
        prefix: (B,) int64; keys below it are seen by every query of the window even where `causal`.
        lengths: (B,) int64; keys from it on are padding.
        window: w > 0 restricts to |query − key| < w.
        kept: (B, H, S, T) uint8, 0 where dropout takes a weight away; None: nowhere.
        dropout: p; the weights that stay are divided by 1 − p.
    """
    cos, sin = (None, None) if rotary is None else rotary
    rest = (prefix, lengths, kept, n_head, causal, window, dropout)
    out, _ = torch.ops.scaling.attention(packed, source, cos, sin, bias, *rest)
    return out


def _sizes(packed: Tensor, source: Tensor | None, n_head: int) -> tuple[int, int, int, int]:
    """Windows, queries, keys, head width."""
    batch, queries = packed.shape[:2]
    keys = queries if source is None else source.shape[1]
    return batch, queries, keys, packed.shape[2] // n_head // (3 if source is None else 1)


def _stats(packed: Tensor, source: Tensor | None, n_head: int) -> Tensor:
    batch, queries, _, _ = _sizes(packed, source, n_head)
    rows = (queries + LANES - 1) // LANES * LANES
    return packed.new_empty((batch, n_head, rows, 2), dtype=torch.float32)


def _projections(packed: Tensor, source: Tensor | None) -> tuple[Any, ...]:
    """Pointers to q, k and v and the elements between tokens: q, its row, k, v, their row."""
    first, size = packed.data_ptr(), packed.element_size()
    if source is None:
        width = packed.shape[2] // 3
        at = [ctypes.c_void_p(first + part * width * size) for part in range(3)]
        row = ctypes.c_int64(3 * width)
        return at[0], row, at[1], at[2], row
    width, other = packed.shape[2], source.data_ptr()
    return (
        ctypes.c_void_p(first),
        ctypes.c_int64(width),
        ctypes.c_void_p(other),
        ctypes.c_void_p(other + width * size),
        ctypes.c_int64(2 * width),
    )


def _dense(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The kernel reads memory row by row."""
    return tuple(None if t is None else t.contiguous() for t in tensors)


def _kernel(name: str, packed: Tensor, head_width: int) -> Callable[..., None]:
    built = attention_library(head_width)
    if built is None:
        raise RuntimeError(f"no attention kernel for heads of {head_width}: no C++ compiler here")
    if packed.dtype not in (torch.bfloat16, torch.float32):
        raise TypeError(f"the attention kernel takes bfloat16 or float32, not {packed.dtype}")
    kernel: Callable[..., None] = getattr(built, name)
    return kernel


def _rules(
    packed: Tensor,
    source: Tensor | None,
    bias: Tensor | None,
    prefix: Tensor | None,
    lengths: Tensor | None,
    kept: Tensor | None,
    n_head: int,
    causal: bool,
    window: int,
    dropout: float,
) -> tuple[Any, ...]:
    batch, queries, keys, _ = _sizes(packed, source, n_head)
    shape = (ctypes.c_int64 * 4)(batch, n_head, queries, keys)
    half = int(packed.dtype == torch.bfloat16)
    factor = ctypes.c_float(1.0 / (1.0 - dropout))
    return half, shape, int(causal), window, *map(_pointer, (prefix, lengths, bias, kept)), factor


def _attention(
    packed: Tensor,
    source: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    bias: Tensor | None,
    prefix: Tensor | None,
    lengths: Tensor | None,
    kept: Tensor | None,
    n_head: int,
    causal: bool,
    window: int,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    packed, source, bias, prefix, lengths, kept = _dense(packed, source, bias, prefix, lengths, kept)
    assert packed is not None
    batch, queries, _, head_width = _sizes(packed, source, n_head)
    out = packed.new_empty((batch, queries, n_head * head_width))
    stats = _stats(packed, source, n_head)
    _kernel("attention_forward", packed, head_width)(
        *_rules(packed, source, bias, prefix, lengths, kept, n_head, causal, window, dropout),
        *_projections(packed, source),
        _pointer(cos),
        _pointer(sin),
        _pointer(out),
        _pointer(stats),
    )
    return out, stats


def _attention_backward(
    grad: Tensor,
    stats: Tensor,
    packed: Tensor,
    source: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    bias: Tensor | None,
    prefix: Tensor | None,
    lengths: Tensor | None,
    kept: Tensor | None,
    n_head: int,
    causal: bool,
    window: int,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    packed, source, bias, prefix, lengths, kept = _dense(packed, source, bias, prefix, lengths, kept)
    assert packed is not None
    grad = grad.contiguous()
    d_packed = torch.empty_like(packed)
    d_source = packed.new_empty(0) if source is None else torch.empty_like(source)
    d_bias = torch.zeros_like(bias) if bias is not None else packed.new_empty(0, dtype=torch.float32)
    d_q, _, d_k, d_v, _ = _projections(d_packed, None if source is None else d_source)
    _kernel("attention_backward", packed, _sizes(packed, source, n_head)[3])(
        *_rules(packed, source, bias, prefix, lengths, kept, n_head, causal, window, dropout),
        *_projections(packed, source),
        _pointer(cos),
        _pointer(sin),
        _pointer(stats),
        _pointer(grad),
        d_q,
        d_k,
        d_v,
        _pointer(d_bias if bias is not None else None),
    )
    return d_packed, d_source, d_bias


_OPERATORS.impl("attention", _attention, "CPU")
_OPERATORS.impl("attention_backward", _attention_backward, "CPU")


@library.register_fake("scaling::attention")
def _attention_shape(packed: Tensor, source: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    n_head = rest[6]
    batch, queries, _, head_width = _sizes(packed, source, n_head)
    return packed.new_empty((batch, queries, n_head * head_width)), _stats(packed, source, n_head)


@library.register_fake("scaling::attention_backward")
def _backward_shape(
    grad: Tensor, stats: Tensor, packed: Tensor, source: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    bias = rest[2]
    d_source = packed.new_empty(0) if source is None else source.new_empty(source.shape)
    d_bias = packed.new_empty(0, dtype=torch.float32) if bias is None else bias.new_empty(bias.shape)
    return packed.new_empty(packed.shape), d_source, d_bias


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs[:8])
    ctx.rest = inputs[8:]


def _gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    stats, packed, source, cos, sin, bias, prefix, lengths, kept = ctx.saved_tensors
    d_packed, d_source, d_bias = torch.ops.scaling.attention_backward(
        grad, stats, packed, source, cos, sin, bias, prefix, lengths, kept, *ctx.rest
    )
    nothing = (None,) * 7
    return (
        d_packed,
        None if source is None else d_source,
        None,
        None,
        None if bias is None else d_bias,
        *nothing,
    )


library.register_autograd("scaling::attention", _gradient, setup_context=_keep)
