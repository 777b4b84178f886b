"""Decoder and encoder: one pre-norm Transformer whose two forms differ by their attention mask.

Radford et al. 2019 (GPT-2) and Devlin et al. 2018 (arXiv 1810.04805), with rotary positions by default
(Su et al. 2021, arXiv 2104.09864) and RMS norms (Zhang and Sennrich 2019, arXiv 1910.07467); no biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from scaling.accounting import FlopTerm, ParamCount
from scaling.architectures.base import Architecture
from scaling.spec import Count

if TYPE_CHECKING:
    import torch


class Transformer(Architecture):
    """The shape shared by decoder and encoder.

    `d_ff` None means 4·d_model (GELU) or 8/3·d_model in steps of 8 (SwiGLU).
    """

    n_layer: Count
    d_model: Count
    n_head: Count
    d_ff: Count | None = None
    positions: Literal["rotary", "learned"] = "rotary"
    tied: bool = False
    activation: Literal["gelu", "swiglu"] = "gelu"
    init: Literal["fan_in", "gpt2"] = "fan_in"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Transformer:
        if self.d_model % self.n_head:
            raise ValueError(f"n_head {self.n_head} does not divide d_model {self.d_model}")
        if self.positions == "rotary" and (self.d_model // self.n_head) % 2:
            raise ValueError(
                f"rotary positions need an even head width, not {self.d_model}/{self.n_head}"
                f" = {self.d_model // self.n_head}"
            )
        return self

    @property
    def ff(self) -> int:
        """Width of the feed-forward layer."""
        if self.d_ff is not None:
            return self.d_ff
        if self.activation == "swiglu":
            return max(8, round(8 * self.d_model / 3 / 8) * 8)
        return 4 * self.d_model

    @property
    def ff_matrices(self) -> int:
        """Matrices of d_model × d_ff in a feed-forward layer."""
        return 3 if self.activation == "swiglu" else 2

    def params(self, vocab_size: int) -> ParamCount:
        """See `Architecture.params`."""
        d, layers = self.d_model, self.n_layer
        return ParamCount(
            groups={
                "token_embedding": vocab_size * d,
                "position_embedding": self.seq_len * d if self.positions == "learned" else 0,
                "attention": layers * 4 * d * d,
                "feed_forward": layers * self.ff_matrices * d * self.ff,
                "norm": (2 * layers + 1) * d,
                "head": 0 if self.tied else vocab_size * d,
                "other": 0,
            },
            head_matrix=vocab_size * d,
        )

    def forward_flops(self, vocab_size: int, tokens: int, predicted: int) -> Mapping[FlopTerm, int]:
        """See `Architecture.forward_flops`."""
        d, layers = self.d_model, self.n_layer
        return {
            "attention_projection": tokens * layers * 2 * 4 * d * d,
            "attention_score": tokens * layers * 2 * 2 * self.seq_len * d,
            "feed_forward": tokens * layers * 2 * self.ff_matrices * d * self.ff,
            "head": predicted * 2 * d * vocab_size,
        }

    def build(self, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Architecture.build`."""
        from scaling.models.transformer import TransformerModel

        return TransformerModel(self, vocab_size, seed)


class Decoder(Transformer):
    """Each position sees itself and what came before (GPT)."""

    type: Literal["decoder"] = "decoder"
    summary: ClassVar[str] = "decoder-only Transformer, causal attention"
    source: ClassVar[str] = "Radford et al. 2019; Su et al. 2021 (rotary)"


class Encoder(Transformer):
    """Each position sees the whole window (BERT)."""

    type: Literal["encoder"] = "encoder"
    bidirectional: ClassVar[bool] = True
    summary: ClassVar[str] = "encoder-only Transformer, bidirectional attention"
    source: ClassVar[str] = "Devlin et al. 2018 (arXiv 1810.04805)"
