"""An encoder and a decoder that attends to what the encoder made of the source (Vaswani et al. 2017).

Shape suffixes: B windows, S source positions, U target positions, D width, V vocabulary. Several models run side by
side where every weight, and every input, has a leading axis of models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scaling.models.cross_entropy import nats_of
from scaling.models.dropout import dropout
from scaling.models.multihead import Rules, multi_head
from scaling.models.norms import Norm
from scaling.models.packed import linear
from scaling.models.parts import Wrapper
from scaling.models.transformer import Block, Context, TransformerModel, initial

if TYPE_CHECKING:
    from scaling.architectures.encoder_decoder import EncoderDecoder, Sizes
    from scaling.architectures.transformer import Transformer


class CrossBlock(Block):
    """A block with attention to the source between its two sublayers; shared with the block's own attention."""

    def __init__(self, shape: Transformer, *, attends: bool = True, feeds: bool = True) -> None:
        super().__init__(shape, attends=attends, feeds=feeds)
        d = shape.d_model
        if attends:
            self.cross_norm = Norm(d, shape.norm)
            self.cross_query = nn.Parameter(torch.empty(d, d))
            self.cross_source = nn.Parameter(torch.empty(2 * d, d))
            self.cross_attention_out = nn.Parameter(torch.empty(d, d))
            self.cross_query_bias = nn.Parameter(torch.empty(d)) if shape.bias else None
            self.cross_source_bias = nn.Parameter(torch.empty(2 * d)) if shape.bias else None
            self.cross_attention_out_bias = nn.Parameter(torch.empty(d)) if shape.bias else None

    def cross_layer(self, x_BUD: Tensor, memory_BSD: Tensor, lengths: Tensor | None, context: Context) -> Tensor:
        """The sublayer that attends to the source, on the residual stream; `memory_BSD` is in the compute type."""
        given = (x_BUD if self.post else self.cross_norm(x_BUD)).to(context.dtype)
        query = linear(given, self.cross_query, self.cross_query_bias).flatten(0, -3)
        source = linear(memory_BSD, self.cross_source, self.cross_source_bias).flatten(0, -3)
        drop = self.dropout if self.training else 0.0
        y = multi_head(query, source, self.n_head, Rules(lengths=lengths), context.attention, drop)
        attended = linear(y.view(given.shape), self.cross_attention_out, self.cross_attention_out_bias)
        x_BUD = x_BUD + dropout(attended, self.dropout, self.training)
        return self.cross_norm(x_BUD) if self.post else x_BUD


class CrossDecoder(TransformerModel):
    """The decoder's stack."""

    block = CrossBlock

    def decode(self, inputs_BU: Tensor, memory_BSD: Tensor, lengths: Tensor | None) -> Tensor:
        """Final residual stream, (B, U, D), beside a source of which the first `lengths` (B,) positions are seen."""
        x_BUD = self.embedded(inputs_BU)
        memory_BSD = memory_BSD.to(self.compute_dtype)
        lengths = None if lengths is None else lengths.flatten()
        contexts, share = self.contexts(), self.shape.share
        for layer, window in enumerate(self.shape.local_windows()):
            context = contexts[1 if window else 0]
            attending = self.blocks[0 if share in ("all", "attention") else layer]
            x_BUD = attending.attention_layer(x_BUD, context)
            x_BUD = attending.cross_layer(x_BUD, memory_BSD, lengths, context)
            x_BUD = self.blocks[0 if share in ("all", "feed_forward") else layer].feed_forward_layer(x_BUD, context)
        return x_BUD if self.final_norm is None else self.final_norm(x_BUD)


class EncoderDecoderModel(Wrapper):
    """Source and target ids in, per-token losses out."""

    def __init__(self, shape: EncoderDecoder, vocab_size: int, seed: int, sizes: Sizes) -> None:
        super().__init__()
        source, target = sizes
        self.encoder = TransformerModel(shape.encoder(source), vocab_size, seed)
        self.encoder.head, self.encoder.head_dense = None, None
        self.decoder = CrossDecoder(shape.decoder(target), vocab_size, seed)
        if shape.shared_embeddings:
            self.decoder.token_embedding = self.encoder.token_embedding
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for stack in (self.encoder, self.decoder):
                for name, parameter in stack.named_parameters():
                    if stack is self.encoder or parameter is not self.encoder.token_embedding:
                        parameter.copy_(initial(name, parameter, stack.shape, generator))

    def logits(self, inputs_BS: Tensor, decoder_inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, U, V) of what follows each of `decoder_inputs` (B, U).

        `lengths` (B,) is how much of each source is text, at least 1; None: all of it.
        """
        memory_BSD = self.encoder.hidden(inputs_BS, lengths=lengths)
        return self.decoder.read_out(self.decoder.decode(decoder_inputs, memory_BSD, lengths))

    def forward(
        self,
        inputs_BS: Tensor,
        positions: None,
        targets_BU: Tensor,
        *,
        decoder_inputs: Tensor,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Loss in nats at each position of the target, (B, U); 0 where it is -1."""
        return nats_of(self.logits(inputs_BS, decoder_inputs, lengths), targets_BU)
