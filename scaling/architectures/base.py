"""What every architecture states about itself, without importing torch: sizes, costs, and how to build it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from scaling.accounting import FlopTerm, ParamCount
from scaling.parametrisation import STANDARD, Role
from scaling.spec import Count, Member

if TYPE_CHECKING:
    import torch


class Architecture(Member):
    """A model's shape. `seq_len` is the window in tokens."""

    seq_len: Count = 128

    bidirectional: ClassVar[bool] = False
    """Whether a position sees both sides of it."""
    encoder_decoder: ClassVar[bool] = False
    """Whether a source is encoded and a target decoded from it, so that batches bring both."""
    prefix: ClassVar[bool] = False
    """Whether the first `prefix` tokens of a window, a number that batches bring, are seen by all of it."""
    compiles: ClassVar[bool] = True
    """Whether graphs of its models may be compiled."""
    packs: ClassVar[bool] = True
    """Whether models of it can be trained side by side, with a leading axis S on every weight and input."""

    @property
    def depth(self) -> int:
        """Layers that a step runs, one after another."""
        return int(getattr(self, "n_layer", 1))

    def role(self, name: str, shape: Sequence[int]) -> Role:
        """What an optimizer must know of a parameter of the model that `build` makes, by its dotted name and shape."""
        return STANDARD

    @abstractmethod
    def params(self, vocab_size: int) -> ParamCount:
        """Trained parameters by group."""

    @abstractmethod
    def forward_flops(self, vocab_size: int, tokens: int, predicted: int) -> Mapping[FlopTerm, int]:
        """Matrix-product FLOPs by term of a forward pass over `tokens` tokens whose head sees `predicted` of them."""

    def native(self) -> bool:
        """Whether a kernel of this project, made for it alone, runs it on this CPU; compiles the kernel if need be."""
        return False

    @abstractmethod
    def build(self, vocab_size: int, seed: int) -> torch.nn.Module:
        """The model with its initial weights (float32), a pure function of the shape and the seed."""
