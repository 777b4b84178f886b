"""Dropout (Srivastava et al. 2014), its draws made ahead of the step where a run asks for it, else by torch within it.

Drawn ahead, what a micro-batch's dropouts keep is one flat tensor, a pure function of (seed, step, micro-batch); each
takes its next part, in the order of the model's code. So a compiled step, an eager one and every path of attention drop
the same, and no random number is made inside a graph, where the compiler draws them one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 1 << 16
"""A draw is one of so many; a share dropped is rounded to one of them."""


class Kept:
    """The draws of one micro-batch for a share `p` of elements dropped, 0 < p < 1: `flat` (n,) uint8, 1: kept.

    None in place of `flat`: everything is kept, and `used` says in the end how many elements there are to draw.
    """

    def __init__(self, flat: Tensor | None, p: float) -> None:
        self.flat, self.p, self.used = flat, p, 0

    def take(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """The next elements, of that shape."""
        start, self.used = self.used, self.used + math.prod(shape)
        if self.flat is None:
            return torch.ones(tuple(shape), dtype=torch.uint8, device=device)
        return self.flat[start : self.used].view(tuple(shape))


_IN_FORCE: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def in_force(kept: Kept | None) -> Iterator[None]:
    """Every dropout within takes its part of `kept`; None: torch draws."""
    token = _IN_FORCE.set(kept)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def drawn_ahead() -> bool:
    """Whether dropouts take draws that were made ahead."""
    return _IN_FORCE.get() is not None


def take(shape: Sequence[int], p: float, device: torch.device) -> Tensor | None:
    """What a dropout of share p keeps of elements (…), 1 or 0 in uint8; None where torch draws.

    Raises:
        ValueError: the draws in force are for another share.
    """
    kept = _IN_FORCE.get()
    if kept is None:
        return None
    if kept.p != p:
        raise ValueError(f"dropout {p} asked for where the draws are for {kept.p}")
    return kept.take(shape, device)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`x` with a share p of its elements set to 0 and the others divided by 1 − p; `x` itself where not training."""
    if not training or p == 0.0:
        return x
    kept = take(x.shape, p, x.device)
    return F.dropout(x, p) if kept is None else thinned(x, kept, p)


def thinned(x: Tensor, kept: Tensor, p: float) -> Tensor:
    """`x` (…) where `kept` (…) is 1, divided by 1 − p; 0 elsewhere."""
    return x * (kept.to(x.dtype) * (1.0 / (1.0 - p)))


def draw(number: int, p: float, key: Sequence[int]) -> Tensor:
    """`number` draws for a share p dropped, (number,) uint8, 1: kept; a pure function of the key alone.

    Args:
        number: elements of all dropouts of the micro-batch.
        p: share dropped, 0 < p < 1, rounded to 2⁻¹⁶.
        key: non-negative numbers, such as seed, step and micro-batch.
    """
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(list(key))))
    words = generator.integers(0, 1 << 64, size=-(-number // 4), dtype=np.uint64)
    kept = words.view(np.int16)[:number] >= round(p * LEVELS) - LEVELS // 2
    return torch.from_numpy(kept.view(np.uint8))
