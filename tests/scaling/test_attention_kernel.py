"""The attention kernel against plain products in float64: values, gradients, every rule of what may be seen."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import torch

from scaling.kernels import build
from scaling.models.attention import available, short_attention
from scaling.models.transformer import rotary_table, rotate

pytestmark = pytest.mark.skipif(not available(16), reason="no C++ compiler on this machine")

BATCH = 3


def reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """(B, H, T, K) queries, (B, H, S, K) keys and values; `seen` broadcasts to (B, H, T, S)."""
    score = q @ k.mT / math.sqrt(q.shape[-1])
    if bias is not None:
        queries, keys = score.shape[-2:]
        score = score + bias[:, torch.arange(queries)[:, None] - torch.arange(keys) + keys - 1]
    weight = torch.softmax(score.masked_fill(~seen, -torch.inf), -1)
    return (weight @ v).transpose(1, 2).flatten(2)


def seen_by(
    queries: int, keys: int, causal: bool, window: int, prefix: torch.Tensor | None, lengths: torch.Tensor | None
) -> torch.Tensor:
    """Which key each query may look at, (B, 1, T, S)."""
    i, j = torch.arange(queries)[:, None], torch.arange(keys)
    seen = torch.ones(BATCH, 1, queries, keys, dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window:
        seen &= (i - j).abs() < window
    if prefix is not None:
        seen |= j < prefix[:, None, None, None]
    if lengths is not None:
        seen &= j < lengths[:, None, None, None]
    return seen


@pytest.mark.parametrize(("queries", "width"), [(128, 16), (33, 20), (16, 32), (7, 6), (50, 64)])
@pytest.mark.parametrize(("causal", "window"), product([True, False], [0, 9]))
def test_self_attention_and_its_gradients(queries: int, width: int, causal: bool, window: int) -> None:
    torch.manual_seed(queries + width)
    heads = 2
    cos, sin = rotary_table(queries, width)
    packed = torch.randn(BATCH, queries, 3 * heads * width, requires_grad=True)
    bias = torch.randn(heads, 2 * queries - 1, requires_grad=True)
    out = short_attention(packed, n_head=heads, causal=causal, rotary=(cos, sin), bias=bias, window=window)
    exact, exact_bias = (t.detach().double().requires_grad_() for t in (packed, bias))
    q, k, v = exact.view(BATCH, queries, 3, heads, width).permute(2, 0, 3, 1, 4)
    angles = (cos.double(), sin.double())
    seen = seen_by(queries, queries, causal, window, None, None)
    expected = reference(rotate(q, *angles), rotate(k, *angles), v, seen, exact_bias)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=3e-6)
    weight = torch.randn_like(out)
    found = torch.autograd.grad(out, [packed, bias], weight)
    wanted = torch.autograd.grad(expected, [exact, exact_bias], weight.double())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-5)


@pytest.mark.parametrize("prefixed", [False, True])
def test_prefix_and_padding_hide_what_they_should(prefixed: bool) -> None:
    torch.manual_seed(0)
    prefix = torch.tensor([0, 5, 20]) if prefixed else None
    lengths = None if prefixed else torch.tensor([40, 33, 1])
    packed = torch.randn(BATCH, 40, 3 * 24)
    out = short_attention(packed, n_head=2, causal=prefixed, prefix=prefix, lengths=lengths)
    q, k, v = packed.double().view(BATCH, 40, 3, 2, 12).permute(2, 0, 3, 1, 4)
    expected = reference(q, k, v, seen_by(40, 40, prefixed, 0, prefix, lengths), None)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=3e-6)


def test_cross_attention_and_its_gradients() -> None:
    torch.manual_seed(0)
    packed = torch.randn(BATCH, 50, 40, requires_grad=True)
    source = torch.randn(BATCH, 33, 80, requires_grad=True)
    lengths = torch.tensor([33, 12, 1])
    out = short_attention(packed, source, n_head=2, lengths=lengths)
    exact, exact_source = (t.detach().double().requires_grad_() for t in (packed, source))
    q = exact.view(BATCH, 50, 2, 20).transpose(1, 2)
    k, v = exact_source.view(BATCH, 33, 2, 2, 20).permute(2, 0, 3, 1, 4)
    expected = reference(q, k, v, seen_by(50, 33, False, 0, None, lengths), None)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=3e-6)
    weight = torch.randn_like(out)
    found = torch.autograd.grad(out, [packed, source], weight)
    wanted = torch.autograd.grad(expected, [exact, exact_source], weight.double())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-5)


def test_a_forbidden_key_has_a_gradient_of_exactly_zero_even_from_extreme_scores() -> None:
    packed = (100 * torch.randn(1, 48, 3 * 16)).requires_grad_()
    out = short_attention(packed, n_head=1, causal=True)
    assert torch.isfinite(out).all()
    for t in (0, 15, 16, 31, 46):
        (gradient,) = torch.autograd.grad(out[0, t].sum(), packed, retain_graph=True)
        assert (gradient[0, t + 1 :] == 0).all()
        assert gradient[0, : t + 1, 32:].sum().item() == pytest.approx(16.0, rel=1e-4)  # weights on values add to one


def test_bf16_is_the_float32_result_rounded() -> None:
    torch.manual_seed(0)
    packed = torch.randn(BATCH, 64, 3 * 32).bfloat16()
    exact = short_attention(packed.float(), n_head=2, causal=True)
    assert torch.equal(short_attention(packed, n_head=2, causal=True), exact.bfloat16())


def test_without_a_compiler_there_is_no_kernel_and_a_broken_one_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    build.attention_library.cache_clear()
    assert not available(16)
    monkeypatch.setattr(build, "compiler", lambda: "/bin/false")
    build.attention_library.cache_clear()
    assert not available(16)
    assert not list((tmp_path / "kernels").glob("*.so"))
    build.attention_library.cache_clear()
