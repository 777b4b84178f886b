"""What objectives with a source and a target share: what is read is corrupted or cut off, what is written is scored.

An encoder–decoder encodes the source and writes the target (Sutskever et al. 2014, arXiv 1409.3215). A prefix decoder
reads both as one sequence whose first part every position sees (Raffel et al. 2020, arXiv 1910.10683, §3.2.1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.objectives.base import Objective

if TYPE_CHECKING:
    import torch

    from scaling.accounting import FlopTerm, ParamCount
    from scaling.architectures.base import Architecture


class SourceTarget(Objective):
    """Batches are `inputs` (B, S), `targets` (B, U) and `decoder_inputs` (B, U), the targets one place later.

    Where sources differ in length, `lengths` (B,) says how much of each is text; what follows is seen by nothing.
    """

    @abstractmethod
    def sizes(self, seq_len: int) -> tuple[int, int]:
        """S and U for windows of `seq_len` tokens."""

    def predicted_per_window(self, seq_len: int) -> int:
        """U: every position of the target is scored."""
        return self.sizes(seq_len)[1]

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Objective.build`."""
        vocab_size += self.extra_tokens(architecture.seq_len)
        source, target = self.sizes(architecture.seq_len)
        if isinstance(architecture, EncoderDecoder):
            return architecture.build(vocab_size, seed, (source, target))
        return _joined(architecture, source + target).build(vocab_size, seed)

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """See `Objective.params`."""
        vocab_size += self.extra_tokens(architecture.seq_len)
        source, target = self.sizes(architecture.seq_len)
        if isinstance(architecture, EncoderDecoder):
            return architecture.params(vocab_size, (source, target))
        return _joined(architecture, source + target).params(vocab_size)

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """See `Objective.forward_flops`."""
        vocab_size += self.extra_tokens(architecture.seq_len)
        source, target = self.sizes(architecture.seq_len)
        if isinstance(architecture, EncoderDecoder):
            return architecture.pair_flops(vocab_size, windows, (source, target))
        whole = source + target
        return _joined(architecture, whole).forward_flops(vocab_size, windows * whole, windows * target)


def _joined(architecture: Architecture, length: int) -> Architecture:
    """The same architecture for windows of another length."""
    return architecture.model_copy(update={"seq_len": length})


def shifted(targets: np.ndarray, first: int) -> np.ndarray:
    """What a decoder has read before each target (B, U): `first`, then the targets up to the one before."""
    start = np.full((len(targets), 1), first, np.int64)
    return np.concatenate([start, targets[:, :-1]], axis=1)
