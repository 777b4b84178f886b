"""Stacked LSTM language model: the recurrent baseline of Kaplan et al. 2020 (arXiv 2001.08361, §3.2.1 and Fig. 7).

Jozefowicz et al. 2016 (arXiv 1602.02410) without their projections: embedding, `n_layer` LSTM layers (Hochreiter and
Schmidhuber 1997, forget gate of Gers et al. 2000) of width d_model, softmax; no norms, no residual connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scaling.accounting import FlopTerm, ParamCount
from scaling.architectures.base import Architecture
from scaling.spec import Count

if TYPE_CHECKING:
    import torch

GATES = 4


class Lstm(Architecture):
    """The state starts at zero in every window, so that a position sees its window's past and nothing else."""

    type: Literal["lstm"] = "lstm"
    summary: ClassVar[str] = "stacked LSTM, one direction, state zero at the start of each window"
    source: ClassVar[str] = "Hochreiter & Schmidhuber 1997; Jozefowicz et al. 2016 (arXiv 1602.02410)"
    compiles: ClassVar[bool] = False
    packs: ClassVar[bool] = False

    n_layer: Count
    d_model: Count
    tied: bool = False
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Of each layer's input and of the last output, never of the recurrence (Zaremba et al. 2014, arXiv 1409.2329)."""

    @property
    def _matrices(self) -> int:
        """Numbers in the input and recurrent matrices of all layers."""
        return self.n_layer * 2 * GATES * self.d_model**2

    def params(self, vocab_size: int) -> ParamCount:
        """See `Architecture.params`; input and recurrent matrices are `other`, biases stand with the norms."""
        d = self.d_model
        return ParamCount(
            groups={
                "token_embedding": vocab_size * d,
                "position_embedding": 0,
                "attention": 0,
                "feed_forward": 0,
                "norm": self.n_layer * GATES * d,
                "head": 0 if self.tied else vocab_size * d,
                "other": self._matrices,
            },
            head_matrix=vocab_size * d,
        )

    def forward_flops(self, vocab_size: int, tokens: int, predicted: int) -> Mapping[FlopTerm, int]:
        """See `Architecture.forward_flops`: 2 FLOPs a weight and token, as Kaplan et al. 2020 count."""
        return {"other": tokens * 2 * self._matrices, "head": predicted * 2 * self.d_model * vocab_size}

    def native(self) -> bool:
        """See `Architecture.native`."""
        from scaling.models.lstm import available

        return available()

    def build(self, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Architecture.build`."""
        from scaling.models.lstm import LstmModel

        return LstmModel(self, vocab_size, seed)
