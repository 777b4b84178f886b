"""A stacked LSTM language model, and its recurrence by this project's own kernel where a CPU can compile it.

Shape suffixes: T positions, B windows, P predicted positions, D width, V vocabulary. Everything inside is time-major.
Weights are float32 masters; products run in the compute dtype, gates and cell state in float32. Where the kernel does
not serve (float64, a GPU, no compiler: `attention` is then not "native") torch's own LSTM does the same, its gates and
cell state in the compute dtype; in bf16 on a CPU it takes two to three times as long.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scaling.kernels.build import lstm_library, pointer
from scaling.models.cross_entropy import nats_of
from scaling.models.dropout import dropout
from scaling.models.packed import embed, linear

if TYPE_CHECKING:
    from scaling.architectures.lstm import Lstm
    from scaling.job import Attention

GATES = 4
FORGET_BIAS = 1.0
"""Jozefowicz et al. 2015 (An Empirical Exploration of Recurrent Network Architectures): remember at first."""


def available() -> bool:
    """Whether the kernel can be had here; compiles it where it has not been yet."""
    return lstm_library() is not None


def lstm_layer(x_TBD: Tensor, weight_input: Tensor, weight_recurrent: Tensor, bias: Tensor, native: bool) -> Tensor:
    """Outputs (T, B, D) of one layer from zero state; gates in the order input, forget, cell, output.

    Args:
        x_TBD: (T, B, I); bf16 or float32 on a CPU for the kernel, else any float type.
        weight_input: (4·D, I), any float type.
        weight_recurrent: (4·D, D), any float type.
        bias: (4·D,), float32 or above.
        native: by the kernel, else by torch's LSTM.
    """
    if native:
        found: Tensor = _Recurrence.apply(linear(x_TBD, weight_input), weight_recurrent.to(x_TBD.dtype), bias)
        return found
    weights = [w.to(x_TBD.dtype) for w in (weight_input, weight_recurrent, bias, torch.zeros_like(bias))]
    zero = x_TBD.new_zeros(1, x_TBD.shape[1], weight_recurrent.shape[1])
    out: Tensor = torch._VF.lstm(x_TBD, (zero, zero), weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)[0]
    return out


def _kernel(name: str, dtype: torch.dtype) -> Callable[..., None]:
    built = lstm_library()
    if built is None:
        raise RuntimeError("no LSTM kernel: no C++ compiler here")
    if dtype not in (torch.bfloat16, torch.float32):
        raise TypeError(f"the LSTM kernel takes bfloat16 or float32, not {dtype}")
    kernel: Callable[..., None] = getattr(built, name)
    return kernel


class _Recurrence(torch.autograd.Function):
    """h (T, B, D) from input products (T, B, 4·D), recurrent weights of their type (4·D, D), float32 bias (4·D,)."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        given, recurrent, bias = given.contiguous(), recurrent.contiguous(), bias.contiguous()
        steps, batch, width = given.shape[0], given.shape[1], recurrent.shape[1]
        out = given.new_empty(steps, batch, width)
        gates = cells = None
        if any(ctx.needs_input_grad):
            gates = given.new_empty(given.shape, dtype=torch.float32)
            cells = given.new_empty(out.shape, dtype=torch.float32)
            ctx.save_for_backward(recurrent, gates, cells, out)
        _kernel("lstm_forward", given.dtype)(
            int(given.dtype == torch.bfloat16),
            (ctypes.c_int64 * 3)(steps, batch, width),
            *map(pointer, (given, bias, recurrent, out, gates, cells)),
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        recurrent, gates, cells, out = ctx.saved_tensors
        d_given, d_bias = torch.empty_like(gates, dtype=out.dtype), gates.new_empty(gates.shape[2])
        _kernel("lstm_backward", out.dtype)(
            int(out.dtype == torch.bfloat16),
            (ctypes.c_int64 * 3)(*out.shape),
            *map(pointer, (recurrent, gates, cells, grads[0].contiguous(), d_given, d_bias)),
        )
        d_recurrent = d_given[1:].flatten(0, 1).mT @ out[:-1].flatten(0, 1)
        return d_given, d_recurrent, d_bias


class Layer(nn.Module):
    """One LSTM layer's weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.empty(GATES * width, width))
        self.recurrent = nn.Parameter(torch.empty(GATES * width, width))
        self.bias = nn.Parameter(torch.empty(GATES * width))

    def forward(self, x_TBD: Tensor, native: bool) -> Tensor:
        """See `lstm_layer`."""
        return lstm_layer(x_TBD, self.input, self.recurrent, self.bias, native)


class LstmModel(nn.Module):
    """Token ids in, per-token losses out. The parameter groups are those of the accounting, by name."""

    time_major = True
    """Hidden states are (T, B, D)."""

    def __init__(self, shape: Lstm, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Parameter(torch.empty(vocab_size, shape.d_model))
        self.layers = nn.ModuleList(Layer(shape.d_model) for _ in range(shape.n_layer))
        self.head = None if shape.tied else nn.Parameter(torch.empty(vocab_size, shape.d_model))
        self.attention: Attention = "manual"
        self.compiled = False
        self.compute_dtype = torch.float32
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Initial weights, a pure function of shape and seed.

        Recurrent matrices orthogonal gate by gate (Saxe et al. 2014, arXiv 1312.6120), others N(0, 1/fan-in),
        embeddings N(0, 1) (N(0, 1/D) where tied), biases 0 but 1 for the forget gate.
        """
        generator = torch.Generator().manual_seed(seed)
        width = self.shape.d_model
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.zero_()
                parameter[width : 2 * width] = FORGET_BIAS
                continue
            if name.endswith("recurrent"):
                for gate in parameter.chunk(GATES):
                    nn.init.orthogonal_(gate, generator=generator)
                continue
            std = 1.0 / math.sqrt(width)
            if "embedding" in name and not self.shape.tied:
                std = 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    def hidden(self, inputs_BT: Tensor) -> Tensor:
        """The last layer's outputs, (T, B, D), in the compute dtype."""
        x_TBD = embed(inputs_BT.mT, self.token_embedding).to(self.compute_dtype)
        for layer in self.layers:
            x_TBD = layer(dropout(x_TBD, self.shape.dropout, self.training), self.attention == "native")
        return dropout(x_TBD, self.shape.dropout, self.training)

    def logits(self, inputs_BT: Tensor, positions_BP: Tensor | None) -> Tensor:
        """Logits (P, B, V) at `positions_BP` (None: at all T positions)."""
        x_PBD = self.hidden(inputs_BT)
        if positions_BP is not None:
            x_PBD = torch.gather(x_PBD, 0, positions_BP.mT.unsqueeze(-1).expand(-1, -1, x_PBD.shape[-1]))
        return linear(x_PBD, self.token_embedding if self.head is None else self.head)

    def forward(self, inputs_BT: Tensor, positions_BP: Tensor | None, targets_BP: Tensor) -> Tensor:
        """Loss in nats at each predicted position, (B, P); 0 where the target is -1."""
        return nats_of(self.logits(inputs_BT, positions_BP), targets_BP.mT).mT
