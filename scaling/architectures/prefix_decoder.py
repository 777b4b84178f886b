"""Prefix decoder: a decoder whose first tokens see each other from both sides (Raffel et al. 2020, arXiv 1910.10683).

After Liu et al. 2018 (arXiv 1801.10198); the other tokens see the prefix and what came before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from scaling.architectures.transformer import Transformer

if TYPE_CHECKING:
    import torch


class PrefixDecoder(Transformer):
    """Its parameters and FLOPs are those of a decoder: attention is not halved for causality."""

    type: Literal["prefix_decoder"] = "prefix_decoder"
    prefix: ClassVar[bool] = True
    summary: ClassVar[str] = "decoder-only Transformer that sees a prefix from both sides"
    source: ClassVar[str] = "Raffel et al. 2020 (arXiv 1910.10683); Liu et al. 2018 (arXiv 1801.10198)"

    @model_validator(mode="after")
    def _sees_the_prefix(self) -> PrefixDecoder:
        if self.local_window is not None:
            raise ValueError("local_window hides the prefix from later tokens; use architecture decoder for it")
        return self

    def build(self, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Architecture.build`."""
        from scaling.models.prefix_decoder import PrefixDecoderModel

        return PrefixDecoderModel(self, vocab_size, seed)
