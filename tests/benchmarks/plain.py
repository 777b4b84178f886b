"""What a user would otherwise run: a plain GPT in eager float32 torch, and the same in JAX; tokens per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Shape(NamedTuple):
    """A decoder and its batch."""

    width: int
    layers: int
    heads: int
    batch_tokens: int
    vocab: int = 256
    seq_len: int = 128

    @property
    def flops_per_token(self) -> int:
        """6(12 L d² + V d) + 12 L d T: products of a training step, attention not halved for causality."""
        d, layers = self.width, self.layers
        return 6 * (12 * layers * d * d + self.vocab * d) + 12 * layers * d * self.seq_len


def rate_of(one_step: Callable[[], object], tokens: int, seconds: float) -> float:
    """Tokens per second of a step that is called over and over, after a warm-up."""
    for _ in range(3):
        one_step()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        one_step()
        done += 1
    return done * tokens / (time.perf_counter() - started)


def torch_rate(shape: Shape, seconds: float) -> float:
    """The usual small-GPT code: nn.Linear, fused attention, LayerNorm, GELU, torch's default AdamW, clipping at 1."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(1)
    width, heads = shape.width, shape.heads

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, t, d = x.shape
            q, k, v = (y.view(b, t, heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(d, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(shape.vocab, width), nn.Embedding(shape.seq_len, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(shape.layers)))
            self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, shape.vocab, bias=False)

        def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.blocks(self.tokens(inputs) + self.positions.weight)
            return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())

    model = Gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs = torch.randint(shape.vocab, (shape.batch_tokens // shape.seq_len, shape.seq_len))

    def one_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(inputs, inputs).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return rate_of(one_step, shape.batch_tokens, seconds)


def jax_rate(shape: Shape, seconds: float) -> float:
    """The same model as one jitted step in JAX with float32 and a hand-written AdamW, as its tutorials write it."""
    import jax
    import jax.numpy as jnp

    width, heads, layers, length = shape.width, shape.heads, shape.layers, shape.seq_len
    keys = iter(jax.random.split(jax.random.PRNGKey(0), 4 * layers + 4))

    def matrix(rows: int, columns: int) -> jax.Array:
        return jax.random.normal(next(keys), (rows, columns)) * 0.02

    def block() -> dict[str, jax.Array]:
        return {
            "norm1": jnp.ones(width),
            "norm2": jnp.ones(width),
            "qkv": matrix(width, 3 * width),
            "out": matrix(width, width),
            "up": matrix(width, 4 * width),
            "down": matrix(4 * width, width),
        }

    params = {
        "tokens": matrix(shape.vocab, width),
        "positions": matrix(length, width),
        "blocks": [block() for _ in range(layers)],
        "norm": jnp.ones(width),
        "head": matrix(width, shape.vocab),
    }
    mask = jnp.tril(jnp.ones((length, length), bool))

    def norm(x: jax.Array, gain: jax.Array) -> jax.Array:
        return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * gain

    def loss_of(p: dict, inputs: jax.Array) -> jax.Array:  # type: ignore[type-arg]
        x = p["tokens"][inputs] + p["positions"]
        for b in p["blocks"]:
            q, k, v = jnp.split(norm(x, b["norm1"]) @ b["qkv"], 3, -1)
            q, k, v = (y.reshape(*y.shape[:2], heads, -1).swapaxes(1, 2) for y in (q, k, v))
            score = q @ k.swapaxes(-1, -2) / jnp.sqrt(width // heads)
            y = jax.nn.softmax(jnp.where(mask, score, -jnp.inf)) @ v
            x = x + y.swapaxes(1, 2).reshape(x.shape) @ b["out"]
            x = x + jax.nn.gelu(norm(x, b["norm2"]) @ b["up"]) @ b["down"]
        logits = norm(x, p["norm"]) @ p["head"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), inputs[..., None], -1).mean()

    def update(p, m, v, step, inputs):  # type: ignore[no-untyped-def]
        grad = jax.grad(loss_of)(p, inputs)
        size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grad)))
        grad = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (size + 1e-6)), grad)
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grad)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, grad)
        fix1, fix2 = 1 - 0.9**step, 1 - 0.999**step
        p = jax.tree.map(lambda w, a, b: w * (1 - 1e-5) - 1e-3 * (a / fix1) / (jnp.sqrt(b / fix2) + 1e-8), p, m, v)
        return p, m, v

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))
    inputs = jax.random.randint(next(keys), (shape.batch_tokens // length, length), 0, shape.vocab)
    held = [params, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)]
    count = 0

    def one_step() -> None:
        nonlocal held, count
        count += 1
        held = list(jitted(*held, float(count), inputs))
        jax.block_until_ready(held[0])

    return rate_of(one_step, shape.batch_tokens, seconds)
