"""A Transformer, decoder or encoder by its mask, written for short sequences and static shapes.

Shape suffixes: B windows, T positions, P predicted positions, D width, E embedding width, H heads, K head width, V
vocabulary. Weights are float32 masters; products run in the compute dtype, norms, softmax and loss in float32 or above.
Several models of one shape run side by side where every weight, and every input, has a leading axis S.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.errors import InputError
from scaling.models.activations import activate, gelu
from scaling.models.cross_entropy import nats_of
from scaling.models.dropout import dropout
from scaling.models.multihead import Rules, at_least_float32, multi_head
from scaling.models.norms import Norm
from scaling.models.packed import embed, linear, per_model
from scaling.models.positions import (
    alibi,
    bias_from_table,
    distances,
    relative_buckets,
    rotary_table,
    rotate,
    sinusoids,
)

if TYPE_CHECKING:
    from scaling.architectures.transformer import Transformer
    from scaling.job import Attention

__all__ = ["Block", "Context", "Norm", "TransformerModel", "at_least_float32", "gelu", "rotary_table", "rotate"]

GPT2_STD = 0.02


class Context(NamedTuple):
    """What every block needs beside the residual stream.

    `bias_TT` is 0 where a position may look and -inf where not, and None where all may look everywhere; `rotary` cos
    and sin, (T, K/2) each, or None; `relative` a bias on scores by distance; `window`, `prefix` and `lengths` as in
    `Rules`.
    """

    bias_TT: Tensor | None
    rotary: tuple[Tensor, Tensor] | None
    attention: Attention
    dtype: torch.dtype
    compiled: bool
    relative: Tensor | None = None
    window: int = 0
    prefix: Tensor | None = None
    lengths: Tensor | None = None

    def rules(self, causal: bool) -> Rules:
        """What a query may see."""
        return Rules(causal, self.bias_TT, self.rotary, self.relative, self.prefix, self.lengths, self.window)


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream, with a norm before it or after the sum.

    A block that shares one of its two sublayers with another block holds none of that sublayer's weights.
    """

    def __init__(self, shape: Transformer, *, attends: bool = True, feeds: bool = True) -> None:
        super().__init__()
        d, f = shape.d_model, shape.ff
        self.n_head, self.causal, self.activation = shape.n_head, not shape.bidirectional, shape.activation
        self.post, self.dropout = shape.norm_placement == "post", shape.dropout
        self.query_factor, self.branch_factor = shape.query_factor, 1.0 / shape.depth_ratio
        rows = (2 if shape.activation == "swiglu" else 1) * f
        if attends:
            self.attention_norm = Norm(d, shape.norm)
            self.qkv = nn.Parameter(torch.empty(3 * d, d))
            self.attention_out = nn.Parameter(torch.empty(d, d))
            self.qkv_bias = nn.Parameter(torch.empty(3 * d)) if shape.bias else None
            self.attention_out_bias = nn.Parameter(torch.empty(d)) if shape.bias else None
        if feeds:
            self.ff_norm = Norm(d, shape.norm)
            self.ff_in = nn.Parameter(torch.empty(rows, d))
            self.ff_out = nn.Parameter(torch.empty(d, f))
            self.ff_in_bias = nn.Parameter(torch.empty(rows)) if shape.bias else None
            self.ff_out_bias = nn.Parameter(torch.empty(d)) if shape.bias else None

    def attend(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Multi-head attention of (B, T, D)."""
        bias = None if self.qkv_bias is None else self._scaled(self.qkv_bias, -1)
        packed = linear(x_BTD, self._scaled(self.qkv, -2), bias).flatten(0, -3)
        drop = self.dropout if self.training else 0.0
        y_BTD = multi_head(packed, None, self.n_head, context.rules(self.causal), context.attention, drop)
        return linear(y_BTD.view(x_BTD.shape), self.attention_out, self.attention_out_bias)

    def _scaled(self, rows: Tensor, axis: int) -> Tensor:
        """Rows of queries, keys and values along `axis`, those of the queries times their factor."""
        if self.query_factor == 1.0:
            return rows
        query, rest = rows.tensor_split((rows.shape[axis] // 3,), axis)
        return torch.cat([query * self.query_factor, rest], axis)

    def _added(self, x_BTD: Tensor, branch_BTD: Tensor) -> Tensor:
        """The residual stream with what a sublayer adds to it."""
        branch_BTD = dropout(branch_BTD, self.dropout, self.training)
        if self.branch_factor == 1.0:
            return x_BTD + branch_BTD
        return torch.add(x_BTD, branch_BTD, alpha=self.branch_factor)

    def feed_forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """An activation between two matrices."""
        hidden = activate(linear(x_BTD, self.ff_in, self.ff_in_bias), self.activation, context.compiled)
        return linear(hidden, self.ff_out, self.ff_out_bias)

    def attention_layer(self, x_BTD: Tensor, context: Context) -> Tensor:
        """The attention sublayer on the residual stream `x_BTD` (float32 or above)."""
        given = x_BTD if self.post else self.attention_norm(x_BTD)
        attended = self.attend(given.to(context.dtype), context)
        x_BTD = self._added(x_BTD, attended)
        return self.attention_norm(x_BTD) if self.post else x_BTD

    def feed_forward_layer(self, x_BTD: Tensor, context: Context) -> Tensor:
        """The feed-forward sublayer on the residual stream, likewise."""
        given = x_BTD if self.post else self.ff_norm(x_BTD)
        hidden = self.feed_forward(given.to(context.dtype), context)
        x_BTD = self._added(x_BTD, hidden)
        return self.ff_norm(x_BTD) if self.post else x_BTD

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """One block on the residual stream `x_BTD` (float32 or above)."""
        return self.feed_forward_layer(self.attention_layer(x_BTD, context), context)


def initial(name: str, parameter: Tensor, shape: Transformer, generator: torch.Generator) -> Tensor:
    """Initial value of a parameter, by its dotted name.

    `fan_in`: matrices N(0, 1/fan-in), those that write to the residual stream divided by √(2·layers), embeddings
    N(0, 1) (N(0, 1/E) where tied), T5's table N(0, 1/D). `gpt2`: N(0, .02²), the same division, as Radford et al. 2019.
    Gains 1, biases 0. Under muP all but hidden matrices start as the base model's do; under CompleteP the division is
    that of the base model's depth.
    """
    if parameter.ndim == 1:
        return torch.full_like(parameter, 0.0 if name.endswith("bias") else 1.0)
    role = shape.role(name, parameter.shape)
    growth, hidden = math.sqrt(role.width), role.kind == "hidden"
    if shape.init == "gpt2":
        std = GPT2_STD / (growth if hidden else 1.0)
    elif name.endswith("relative_embedding"):
        std = growth / math.sqrt(shape.d_model)
    elif "embedding" in name:
        std = growth / math.sqrt(shape.embedding_width) if shape.tied else 1.0
    else:
        std = (1.0 if hidden else growth) / math.sqrt(parameter.shape[-1])
    if name.endswith(("attention_out", "ff_out")):
        std /= math.sqrt(2 * shape.n_layer / shape.depth_ratio)
    return torch.randn(parameter.shape, generator=generator) * std


class TransformerModel(nn.Module):
    """Token ids in, per-token losses out. The parameter groups are those of the accounting, by name."""

    block: ClassVar[type[Block]] = Block

    def __init__(self, shape: Transformer, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.shape = shape
        d, e = shape.d_model, shape.embedding_width
        learned = shape.positions == "learned"
        self.token_embedding = nn.Parameter(torch.empty(vocab_size, e))
        self.position_embedding = nn.Parameter(torch.empty(shape.seq_len, e)) if learned else None
        self.segment_embedding = nn.Parameter(torch.empty(shape.segments, e)) if shape.segments else None
        self.relative_embedding = (
            nn.Parameter(torch.empty(shape.relative_buckets, shape.n_head)) if shape.positions == "t5" else None
        )
        self.embedding_norm = Norm(e, shape.norm) if shape.embedding_norm else None
        factorised = shape.embedding_size is not None
        self.token_projection = nn.Parameter(torch.empty(d, e)) if factorised else None
        self.token_projection_bias = nn.Parameter(torch.empty(d)) if factorised and shape.bias else None
        self.blocks = nn.ModuleList(
            self.block(
                shape,
                attends=layer == 0 or shape.share in ("none", "feed_forward"),
                feeds=layer == 0 or shape.share in ("none", "attention"),
            )
            for layer in range(1 if shape.share == "all" else shape.n_layer)
        )
        self.final_norm = Norm(d, shape.norm) if shape.norm_placement == "pre" else None
        transform = shape.head_transform
        self.head_dense = nn.Parameter(torch.empty(e, d)) if shape.has_head_dense else None
        self.head_dense_bias = nn.Parameter(torch.empty(e)) if transform else None
        self.head_norm = Norm(e, shape.norm) if transform else None
        self.head = None if shape.tied else nn.Parameter(torch.empty(vocab_size, e))
        self.head_bias = nn.Parameter(torch.empty(vocab_size)) if transform else None
        self.attention: Attention = "manual"
        self.compiled = False
        self.compute_dtype = torch.float32
        self._constants()
        self.initialise(seed)

    def _constants(self) -> None:
        """Masks and fixed positions."""
        shape = self.shape
        length = shape.seq_len
        mask = torch.zeros(length, length)
        if not shape.bidirectional:
            mask = torch.full_like(mask, -torch.inf).triu(1)
        found: dict[str, Tensor] = {"bias": mask}
        if shape.local_window is not None:
            far = torch.arange(length)[:, None] - torch.arange(length)
            found["local_bias"] = mask.masked_fill(far.abs() >= shape.local_window, -torch.inf)
        if shape.positions == "rotary":
            found["cos"], found["sin"] = rotary_table(length, shape.d_model // shape.n_head)
        elif shape.positions == "sinusoidal":
            found["sinusoids"] = sinusoids(length, shape.embedding_width)
        elif shape.positions == "alibi":
            found["alibi"] = alibi(shape.n_head, length, length)
        elif shape.positions == "t5":
            found["buckets"] = relative_buckets(
                distances(length, length), shape.relative_buckets, shape.relative_distance, shape.bidirectional
            )
        for name, constant in found.items():
            self.register_buffer(name, constant, persistent=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Initial weights, a pure function of shape and seed; see `initial`."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            parameter.copy_(initial(name, parameter, self.shape, generator))

    def embedded(self, inputs_BT: Tensor, segments: Tensor | None = None, position_ids: Tensor | None = None) -> Tensor:
        """The residual stream before the first block, (B, T, D).

        Args:
            inputs_BT: token ids.
            segments: (B, T) which segment each position is of; None: the first.
            position_ids: (B, T) positions where they do not count from 0. Positions that are distances between tokens
                (rotary, ALiBi, T5) stay those of the window.

        Raises:
            InputError: segments are given to a shape that has none.
        """
        if segments is not None and self.segment_embedding is None:
            raise InputError("the batch names segments and the architecture has none; set its field segments to 2")
        x_BTE = embed(inputs_BT, self.token_embedding)
        table = self.position_embedding
        if table is None and self.shape.positions == "sinusoidal":
            table = self.sinusoids
            x_BTE = x_BTE + (table if position_ids is None else F.embedding(position_ids, table))
        elif table is not None:
            x_BTE = x_BTE + (per_model(table, x_BTE) if position_ids is None else embed(position_ids, table))
        if self.segment_embedding is not None:
            first = self.segment_embedding[..., 0, :]
            of = per_model(first, x_BTE) if segments is None else embed(segments, self.segment_embedding)
            x_BTE = x_BTE + of
        if self.embedding_norm is not None:
            x_BTE = self.embedding_norm(x_BTE)
        x_BTE = dropout(x_BTE, self.shape.dropout, self.training)
        if self.token_projection is None:
            return x_BTE
        product = linear(x_BTE.to(self.compute_dtype), self.token_projection, self.token_projection_bias)
        return at_least_float32(product)

    def contexts(self, prefix: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Context, Context]:
        """Of the dense layers and of the local ones; `prefix` and `lengths` are (B,), or (S, B)."""
        rotary = (self.cos, self.sin) if self.shape.positions == "rotary" else None
        relative = None
        if self.relative_embedding is not None:
            relative = bias_from_table(self.relative_embedding, self.buckets)
        elif self.shape.positions == "alibi":
            relative = self.alibi
        dense = Context(
            self.bias,
            rotary,
            self.attention,
            self.compute_dtype,
            self.compiled,
            relative,
            0,
            None if prefix is None else prefix.flatten(),
            None if lengths is None else lengths.flatten(),
        )
        if self.shape.local_window is None:
            return dense, dense
        return dense, dense._replace(bias_TT=self.local_bias, window=self.shape.local_window)

    def hidden(
        self,
        inputs_BT: Tensor,
        *,
        segments: Tensor | None = None,
        position_ids: Tensor | None = None,
        prefix: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Final residual stream after its norm, (B, T, D); see `embedded` and `Rules` for what may be given."""
        x_BTD = self.embedded(inputs_BT, segments, position_ids)
        contexts = self.contexts(prefix, lengths)
        share = self.shape.share
        for layer, window in enumerate(self.shape.local_windows()):
            context = contexts[1 if window else 0]
            x_BTD = self.blocks[0 if share in ("all", "attention") else layer].attention_layer(x_BTD, context)
            x_BTD = self.blocks[0 if share in ("all", "feed_forward") else layer].feed_forward_layer(x_BTD, context)
        return x_BTD if self.final_norm is None else self.final_norm(x_BTD)

    def logits(self, inputs_BT: Tensor, positions_BP: Tensor | None, **extra: Tensor) -> Tensor:
        """Logits (B, P, V) at `positions_BP` (None: at all T positions)."""
        return self.read_out(self.hidden(inputs_BT, **extra), positions_BP)

    def read_out(self, x_BTD: Tensor, positions_BP: Tensor | None = None) -> Tensor:
        """Logits (B, P, V) of the final stream at `positions_BP` (None: at all T positions)."""
        if positions_BP is not None:
            x_BTD = torch.gather(x_BTD, -2, positions_BP.unsqueeze(-1).expand(*positions_BP.shape, x_BTD.shape[-1]))
        x_BPE = x_BTD.to(self.compute_dtype)
        if self.head_dense is not None:
            x_BPE = linear(x_BPE, self.head_dense, self.head_dense_bias)
        if self.head_norm is not None:
            active = at_least_float32(activate(x_BPE, self.shape.activation, self.compiled))
            x_BPE = self.head_norm(active).to(self.compute_dtype)
        if self.shape.width_ratio != 1.0:
            x_BPE = x_BPE * (1.0 / self.shape.width_ratio)
        return linear(x_BPE, self.token_embedding if self.head is None else self.head, self.head_bias)

    def forward(self, inputs_BT: Tensor, positions_BP: Tensor | None, targets_BP: Tensor, **extra: Tensor) -> Tensor:
        """Loss in nats at each predicted position, (B, P); 0 where the target is -1. `extra` as in `hidden`."""
        return nats_of(self.logits(inputs_BT, positions_BP, **extra), targets_BP)
