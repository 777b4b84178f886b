"""What every architecture states about itself, without importing torch: sizes, costs, and how to build it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from scaling.accounting import FlopTerm, ParamCount
from scaling.spec import Count, Member

if TYPE_CHECKING:
    import torch


class Architecture(Member):
    """A model's shape. `seq_len` is the window in tokens."""

    seq_len: Count = 128

    bidirectional: ClassVar[bool] = False

    @abstractmethod
    def params(self, vocab_size: int) -> ParamCount:
        """Trained parameters by group."""

    @abstractmethod
    def forward_flops(self, vocab_size: int, tokens: int, predicted: int) -> Mapping[FlopTerm, int]:
        """Matrix-product FLOPs by term of a forward pass over `tokens` tokens whose head sees `predicted` of them."""

    @abstractmethod
    def build(self, vocab_size: int, seed: int) -> torch.nn.Module:
        """The model with its initial weights (float32), a pure function of the shape and the seed."""
