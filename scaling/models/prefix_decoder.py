"""A decoder that reads a source and a target as one sequence whose first part is seen from both sides."""

from __future__ import annotations

import torch
from torch import Tensor

from scaling.models.transformer import TransformerModel


class PrefixDecoderModel(TransformerModel):
    """A Transformer that also takes the batches of an encoder–decoder."""

    def hidden(self, inputs_BT: Tensor, *, decoder_inputs: Tensor | None = None, **extra: Tensor | None) -> Tensor:
        """Final residual stream (B, T, D) of `inputs_BT`; of the target alone, (B, U, D), where one is given."""
        if decoder_inputs is None:
            return super().hidden(inputs_BT, **extra)
        source = inputs_BT.shape[-1]
        whole = torch.cat([inputs_BT, decoder_inputs], dim=-1)
        prefix = torch.full_like(inputs_BT[..., 0], source)
        return super().hidden(whole, prefix=prefix, **extra)[..., source:, :]
