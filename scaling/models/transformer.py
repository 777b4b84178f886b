"""A pre-norm Transformer, decoder or encoder by its mask, written for short sequences and static shapes.

Shape suffixes: B windows, T positions, P predicted positions, D width, H heads, K head width, V vocabulary.
Weights are float32 masters; products run in the compute dtype, norms, softmax and loss in float32 or above.
Several models of one shape run side by side where every weight, and every input, has a leading axis S.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.models.attention import short_attention
from scaling.models.packed import embed, linear, per_model

if TYPE_CHECKING:
    from scaling.architectures.transformer import Transformer
    from scaling.job import Attention

ROTARY_BASE = 10_000.0
GPT2_STD = 0.02
NORM_EPS = 1e-6
GELU_SCALE = 2.0 * math.sqrt(2.0 / math.pi)


def rotary_table(seq_len: int, head_width: int) -> tuple[Tensor, Tensor]:
    """cos and sin of Su et al. 2021 (arXiv 2104.09864), each (T, K/2) float32."""
    frequency = ROTARY_BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x_BHTK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the two halves of each head vector by the position's angles."""
    first, second = x_BHTK.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Context(NamedTuple):
    """What every block needs beside the residual stream.

    `bias_TT` is 0 where a position may look and -inf where not; `rotary` cos and sin, (T, K/2) each, or None.
    """

    bias_TT: Tensor
    rotary: tuple[Tensor, Tensor] | None
    attention: Attention
    dtype: torch.dtype
    compiled: bool


class Norm(nn.Module):
    """RMS norm with a gain (Zhang and Sennrich 2019), statistics in float32 or above."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """x / rms(x) · gain."""
        return x_BTD * torch.rsqrt(x_BTD.square().mean(-1, keepdim=True) + NORM_EPS) * per_model(self.gain, x_BTD)


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, shape: Transformer) -> None:
        super().__init__()
        d, f = shape.d_model, shape.ff
        self.n_head, self.causal, self.swiglu = shape.n_head, not shape.bidirectional, shape.activation == "swiglu"
        self.dropout = shape.dropout
        self.attention_norm = Norm(d)
        self.qkv = nn.Parameter(torch.empty(3 * d, d))
        self.attention_out = nn.Parameter(torch.empty(d, d))
        self.ff_norm = Norm(d)
        self.ff_in = nn.Parameter(torch.empty((2 if self.swiglu else 1) * f, d))
        self.ff_out = nn.Parameter(torch.empty(d, f))

    def attend(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Multi-head attention of (B, T, D)."""
        packed = linear(x_BTD, self.qkv)
        drop = self.dropout if self.training else 0.0
        if context.attention == "native" and not drop:
            y_BTD = short_attention(
                packed.flatten(0, -3), n_head=self.n_head, causal=self.causal, rotary=context.rotary
            )
        else:
            y_BTD = self.plain_attention(packed.flatten(0, -3), context, drop)
        return linear(y_BTD.view(x_BTD.shape), self.attention_out)

    def plain_attention(self, packed_BTD: Tensor, context: Context, drop: float) -> Tensor:
        """The same by torch's own operations, from (B, T, 3·D)."""
        b, t, width = packed_BTD.shape
        q, k, v = packed_BTD.view(b, t, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
        if context.rotary is not None:
            cos, sin = (angle.to(q.dtype) for angle in context.rotary)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if context.attention == "sdpa":
            y_BHTK = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=self.causal)
        else:
            score = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
            weight = torch.softmax(at_least_float32(score) + context.bias_TT, dim=-1)
            y_BHTK = F.dropout(weight, drop, drop > 0).to(v.dtype) @ v
        return y_BHTK.transpose(1, 2).reshape(b, t, width // 3)

    def feed_forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """GELU or SwiGLU (Shazeer 2020, arXiv 2002.05202) between two matrices."""
        hidden = linear(x_BTD, self.ff_in)
        if self.swiglu:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * value
        else:
            hidden = gelu(hidden, context.compiled)
        return linear(hidden, self.ff_out)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """One block on the residual stream `x_BTD` (float32 or above)."""
        attended = self.attend(self.attention_norm(x_BTD).to(context.dtype), context)
        x_BTD = x_BTD + F.dropout(attended, self.dropout, self.training)
        hidden = self.feed_forward(self.ff_norm(x_BTD).to(context.dtype), context)
        return x_BTD + F.dropout(hidden, self.dropout, self.training)


def gelu(x: Tensor, compiled: bool) -> Tensor:
    """GELU's tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415), as x·σ(2u) with u its argument of tanh.

    The two are equal; a compiled sigmoid is faster than a compiled tanh, and eager has its own kernel.
    """
    if not compiled:
        return F.gelu(x, approximate="tanh")
    y = at_least_float32(x)
    return (y * torch.sigmoid(GELU_SCALE * (y + 0.044715 * y * y * y))).to(x.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or unchanged where it is float64."""
    return x if x.dtype == torch.float64 else x.float()


class TransformerModel(nn.Module):
    """Token ids in, per-token losses out. The parameter groups are those of the accounting, by name."""

    def __init__(self, shape: Transformer, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Parameter(torch.empty(vocab_size, shape.d_model))
        self.position_embedding = (
            nn.Parameter(torch.empty(shape.seq_len, shape.d_model)) if shape.positions == "learned" else None
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.final_norm = Norm(shape.d_model)
        self.head = None if shape.tied else nn.Parameter(torch.empty(vocab_size, shape.d_model))
        self.attention: Attention = "manual"
        self.compiled = False
        self.compute_dtype = torch.float32
        bias = torch.zeros(shape.seq_len, shape.seq_len)
        if not shape.bidirectional:
            bias = torch.full_like(bias, -torch.inf).triu(1)
        self.register_buffer("bias", bias, persistent=False)
        cos, sin = rotary_table(shape.seq_len, shape.d_model // shape.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Initial weights, a pure function of shape and seed.

        `fan_in`: matrices N(0, 1/fan-in), the two that write to the residual stream divided by √(2·layers),
        embeddings N(0, 1) (N(0, 1/D) where tied). `gpt2`: N(0, .02²), the same division, as Radford et al. 2019.
        """
        generator = torch.Generator().manual_seed(seed)
        gpt2 = self.shape.init == "gpt2"
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            std = GPT2_STD if gpt2 else 1.0 / math.sqrt(parameter.shape[-1])
            if "embedding" in name and not gpt2:
                std = 1.0 / math.sqrt(self.shape.d_model) if self.shape.tied else 1.0
            if name.endswith(("attention_out", "ff_out")):
                std /= math.sqrt(2 * self.shape.n_layer)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    def hidden(self, inputs_BT: Tensor) -> Tensor:
        """Final residual stream after its norm, (B, T, D)."""
        x_BTD = embed(inputs_BT, self.token_embedding)
        rotary: tuple[Tensor, Tensor] | None = (self.cos, self.sin)
        if self.position_embedding is not None:
            x_BTD = x_BTD + per_model(self.position_embedding, x_BTD)
            rotary = None
        context = Context(self.bias, rotary, self.attention, self.compute_dtype, self.compiled)
        x_BTD = F.dropout(x_BTD, self.shape.dropout, self.training)
        for block in self.blocks:
            x_BTD = block(x_BTD, context)
        return self.final_norm(x_BTD)

    def logits(self, inputs_BT: Tensor, positions_BP: Tensor | None) -> Tensor:
        """Logits (B, P, V) at `positions_BP` (None: at all T positions)."""
        x_BPD = self.hidden(inputs_BT)
        if positions_BP is not None:
            x_BPD = torch.gather(x_BPD, -2, positions_BP.unsqueeze(-1).expand(*positions_BP.shape, x_BPD.shape[-1]))
        head = self.token_embedding if self.head is None else self.head
        return linear(x_BPD.to(self.compute_dtype), head)

    def forward(self, inputs_BT: Tensor, positions_BP: Tensor | None, targets_BP: Tensor) -> Tensor:
        """Loss in nats at each predicted position, (B, P); 0 where the target is -1."""
        logits_BPV = at_least_float32(self.logits(inputs_BT, positions_BP))
        loss = F.cross_entropy(logits_BPV.flatten(0, -2), targets_BP.flatten(), reduction="none", ignore_index=-1)
        return loss.view(targets_BP.shape)
