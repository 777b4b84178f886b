"""Encoder–decoder: a source read from both sides, and a decoder that sees what it wrote and all of the source.

Vaswani et al. 2017 (arXiv 1706.03762); T5 (Raffel et al. 2020, arXiv 1910.10683) and BART (Lewis et al. 2020, arXiv
1910.13461) by field. Every option is that of the Transformer and holds for both stacks; their embeddings of tokens are
one table, or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from scaling.accounting import FlopTerm, ParamCount, ParamGroup
from scaling.architectures.transformer import Decoder, Encoder, Transformer
from scaling.spec import Count

if TYPE_CHECKING:
    import torch

Sizes = tuple[int, int]
"""Tokens of a source and of a target, as their arrays hold them; each seq_len where nothing is said."""


class EncoderDecoder(Transformer):
    """`n_layer` layers encode; `decoder_layers` decode, as many where None. `seq_len` is the window of text.

    Rotary angles and biases by distance are those of attention within a stack; attention from the target to the source
    has none, as in T5.
    """

    type: Literal["encoder_decoder"] = "encoder_decoder"
    encoder_decoder: ClassVar[bool] = True
    summary: ClassVar[str] = "encoder–decoder Transformer with cross-attention (T5, BART)"
    source: ClassVar[str] = "Vaswani et al. 2017; Raffel et al. 2020 (arXiv 1910.10683); Lewis et al. 2020"

    decoder_layers: Count | None = None
    shared_embeddings: bool = True
    """Whether source and target have one table of token embeddings; `tied` makes the target's the output matrix."""

    @model_validator(mode="after")
    def _serves_both_stacks(self) -> EncoderDecoder:
        if self.parametrisation != "standard":
            raise ValueError(
                f"parametrisation {self.parametrisation} is for decoder, encoder and prefix_decoder; remove it"
            )
        if self.segments:
            raise ValueError("segments belong to an encoder; a source here has one segment, so set segments 0")
        if self.positions == "t5" and (self.relative_buckets < 4 or self.relative_buckets % 2):
            raise ValueError(f"relative_buckets {self.relative_buckets} must be even, and at least 4")
        return self

    @property
    def depth(self) -> int:
        """See `Architecture.depth`: those of both stacks."""
        return self.n_layer + (self.decoder_layers or self.n_layer)

    def _of_stack(self, seq_len: int, **changes: Any) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in Transformer.model_fields if name != "type"}
        return {**fields, "seq_len": seq_len, **changes}

    def encoder(self, source: int) -> Encoder:
        """The stack that reads sources of `source` tokens; its own output matrix is not used."""
        return Encoder(**self._of_stack(source, head_transform=False))

    def decoder(self, target: int) -> Decoder:
        """The stack that writes targets of `target` tokens, but for what attends to the source."""
        return Decoder(**self._of_stack(target, n_layer=self.depth - self.n_layer))

    def params(self, vocab_size: int, sizes: Sizes | None = None) -> ParamCount:
        """See `Architecture.params`; biases of the blocks count with the norms."""
        source, target = sizes or (self.seq_len, self.seq_len)
        encoder, decoder = self.encoder(source).params(vocab_size), self.decoder(target).params(vocab_size)
        d, layers = self.d_model, self.depth - self.n_layer
        crossings = 1 if self.share in ("all", "attention") else layers
        groups: dict[ParamGroup, int] = {g: n + decoder.groups[g] for g, n in encoder.groups.items() if g != "head"}
        if self.shared_embeddings:
            groups["token_embedding"] -= vocab_size * self.embedding_width
        groups["attention"] += crossings * 4 * d * d
        groups["norm"] += crossings * (self.norm_vectors * d + (4 * d if self.bias else 0))
        return ParamCount(groups={**groups, "head": decoder.groups["head"]}, head_matrix=decoder.head_matrix)

    def forward_flops(self, vocab_size: int, tokens: int, predicted: int) -> Mapping[FlopTerm, int]:
        """See `Architecture.forward_flops`: sources of seq_len tokens, and as long a target as is predicted."""
        windows = tokens // self.seq_len
        return self.pair_flops(vocab_size, windows, (self.seq_len, predicted // windows))

    def pair_flops(self, vocab_size: int, windows: int, sizes: Sizes) -> Mapping[FlopTerm, int]:
        """Matrix-product FLOPs by term of a forward pass over `windows` sources and targets of these sizes.

        Padding is computed and counts: sizes are those of the arrays.
        """
        source, target = sizes
        d, layers = self.d_model, self.depth - self.n_layer
        encoder = self.encoder(source).forward_flops(vocab_size, windows * source, 0)
        decoder = self.decoder(target).forward_flops(vocab_size, windows * target, windows * target)
        found: dict[FlopTerm, int] = {term: encoder.get(term, 0) + decoder.get(term, 0) for term in decoder}
        # Queries and output of each target token, keys and values of each source token.
        found["attention_projection"] += windows * layers * 2 * 2 * d * d * (target + source)
        found["attention_score"] += windows * layers * 2 * 2 * d * target * source
        return found

    def build(self, vocab_size: int, seed: int, sizes: Sizes | None = None) -> torch.nn.Module:
        """See `Architecture.build`."""
        from scaling.models.encoder_decoder import EncoderDecoderModel

        return EncoderDecoderModel(self, vocab_size, seed, sizes or (self.seq_len, self.seq_len))
