"""Cross-entropy of a vocabulary: nats of each target by torch's operations, or by this project's kernel on a CPU.

In a small model over a learned vocabulary the softmax takes a third of a step and more. The kernel reads the logits as
the head's product left them, keeps a row in cache and works in float32 inside; it is one operator with a gradient,
opaque to the compiler. A run's execution says which of the two it takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, library

from scaling.kernels.build import cross_entropy_library, pointer
from scaling.models.multihead import at_least_float32

_OPERATORS = library.Library("scaling", "FRAGMENT")
_OPERATORS.define("cross_entropy(Tensor logits, Tensor targets) -> (Tensor, Tensor)")
_OPERATORS.define("cross_entropy_backward(Tensor grad, Tensor normalizer, Tensor logits, Tensor targets) -> Tensor")

_BY_KERNEL: ContextVar[bool] = ContextVar("by_kernel", default=False)


def available() -> bool:
    """Whether the kernel can be had here; compiles it where it has not been yet."""
    return cross_entropy_library() is not None


@contextmanager
def by_kernel(on: bool) -> Iterator[None]:
    """Losses within are the kernel's, or where `on` is False torch's."""
    token = _BY_KERNEL.set(on)
    try:
        yield
    finally:
        _BY_KERNEL.reset(token)


def nats_of(logits_BPV: Tensor, targets_BP: Tensor) -> Tensor:
    """Cross-entropy of each target, (…, B, P), at least in float32; 0 where the target is -1.

    Raises:
        TypeError: by the kernel, of logits in another type than bfloat16 and float32.
    """
    logits, targets = logits_BPV.flatten(0, -2), targets_BP.flatten()
    if _BY_KERNEL.get():
        found: Tensor = torch.ops.scaling.cross_entropy(logits, targets)[0]
    else:
        found = F.cross_entropy(at_least_float32(logits), targets, reduction="none", ignore_index=-1)
    return found.view(targets_BP.shape)


def _kernel(name: str, logits: Tensor) -> Callable[..., None]:
    built = cross_entropy_library()
    if built is None:
        raise RuntimeError("no kernel for the cross-entropy: no C++ compiler here")
    if logits.dtype not in (torch.bfloat16, torch.float32):
        raise TypeError(f"the cross-entropy's kernel takes bfloat16 or float32, not {logits.dtype}")
    kernel: Callable[..., None] = getattr(built, name)
    return kernel


def _sizes(logits: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64]:
    return ctypes.c_int64(logits.shape[0]), ctypes.c_int64(logits.shape[1])


def _forward(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Nats and the logarithm of each row's sum of exponentials, (R,) float32, of logits (R, V) and targets (R,)."""
    logits, targets = logits.contiguous(), targets.contiguous()
    nats, normalizer = (logits.new_empty(logits.shape[0], dtype=torch.float32) for _ in range(2))
    _kernel("cross_entropy_forward", logits)(
        int(logits.dtype == torch.bfloat16), pointer(logits), pointer(targets), *_sizes(logits), pointer(nats),
        pointer(normalizer),
    )  # fmt: skip
    return nats, normalizer


def _backward(grad: Tensor, normalizer: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """The gradient with respect to the logits, (R, V) in their type, of one with respect to the nats, (R,)."""
    grad, logits, targets = grad.contiguous(), logits.contiguous(), targets.contiguous()
    out = torch.empty_like(logits)
    _kernel("cross_entropy_backward", logits)(
        int(logits.dtype == torch.bfloat16), pointer(logits), pointer(targets), pointer(normalizer), pointer(grad),
        *_sizes(logits), pointer(out),
    )  # fmt: skip
    return out


_OPERATORS.impl("cross_entropy", _forward, "CPU")
_OPERATORS.impl("cross_entropy_backward", _backward, "CPU")


@library.register_fake("scaling::cross_entropy")
def _forward_shape(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows = logits.shape[0]
    return logits.new_empty(rows, dtype=torch.float32), logits.new_empty(rows, dtype=torch.float32)


@library.register_fake("scaling::cross_entropy_backward")
def _backward_shape(grad: Tensor, normalizer: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    return logits.new_empty(logits.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs)


def _gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None]:
    normalizer, logits, targets = ctx.saved_tensors
    return torch.ops.scaling.cross_entropy_backward(grad, normalizer, logits, targets), None


library.register_autograd("scaling::cross_entropy", _gradient, setup_context=_keep)
