"""Two encoders trained together: a small one that guesses masked tokens, and one that finds the guesses. ELECTRA.

Clark et al. 2020 (arXiv 2003.10555). They read one table of token embeddings (and of learned positions); the guesses
are drawn by inverse distribution function from given noise, so the whole step is one graph without a random number.

Shape suffixes: B windows, T positions, P masked positions, N judged ones, V vocabulary, D width; S models lead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.models.activations import Activation, activate
from scaling.models.cross_entropy import nats_of
from scaling.models.multihead import at_least_float32
from scaling.models.packed import linear
from scaling.models.parts import Wrapper, at_positions, body

if TYPE_CHECKING:
    from scaling.architectures.transformer import Encoder

SHARED = ("token_embedding", "position_embedding")
"""Tables that generator and discriminator have in common, where both have them."""
GPT2_STD = 0.02


def drawn(logits_PV: Tensor, uniform_P: Tensor) -> Tensor:
    """A token for each row of logits, (…, P): the first whose cumulated probability exceeds `uniform_P` in [0, 1)."""
    mass_PV = torch.softmax(logits_PV, dim=-1).cumsum(-1)
    below_PV = mass_PV <= uniform_P.to(mass_PV.dtype).unsqueeze(-1) * mass_PV[..., -1:]
    return below_PV.sum(-1).clamp(max=logits_PV.shape[-1] - 1)


class ReplacedTokenModel(Wrapper):
    """The discriminator has ELECTRA's head (dense layer, activation, one logit) in place of an output matrix."""

    def __init__(
        self,
        discriminator: Encoder,
        generator: Encoder,
        vocab_size: int,
        seed: int,
        *,
        weight: float,
        over: Literal["all", "masked"],
    ) -> None:
        super().__init__()
        self.weight, self.over = weight, over
        self.activation: Activation = "gelu" if discriminator.activation == "swiglu" else discriminator.activation
        self.discriminator = body(discriminator, vocab_size, seed)
        second, third = (int(s) >> 1 for s in np.random.SeedSequence([seed, 1]).generate_state(2, np.uint64))
        self.generator = generator.build(vocab_size, second)
        for name in SHARED:
            table = getattr(self.discriminator, name)
            if table is not None:
                setattr(self.generator, name, table)
        width = discriminator.d_model
        self.head_dense = nn.Parameter(torch.empty(width, width))
        self.head_dense_bias = nn.Parameter(torch.zeros(width))
        self.head_out = nn.Parameter(torch.empty(1, width))
        self.head_out_bias = nn.Parameter(torch.zeros(1))
        source = torch.Generator().manual_seed(third)
        std = GPT2_STD if discriminator.init == "gpt2" else 1.0 / math.sqrt(width)
        with torch.no_grad():
            self.head_dense.copy_(torch.randn(width, width, generator=source) * std)
            # Small in either case: the heavily weighted loss begins at ln 2.
            self.head_out.copy_(torch.randn(1, width, generator=source) * GPT2_STD)

    def judge(self, tokens_BT: Tensor, positions_BN: Tensor | None) -> Tensor:
        """Logits that the tokens at `positions_BN` (None: all) are replaced ones, (…, B, N)."""
        hidden_BND = self.discriminator.hidden(tokens_BT)
        if positions_BN is not None:
            hidden_BND = at_positions(hidden_BND, positions_BN)
        hidden_BND = hidden_BND.to(self.compute_dtype)
        inner_BND = activate(linear(hidden_BND, self.head_dense, self.head_dense_bias), self.activation, self.compiled)
        return at_least_float32(linear(inner_BND, self.head_out, self.head_out_bias).squeeze(-1))

    def forward(
        self, inputs_BT: Tensor, positions_BP: Tensor, targets: Tensor, *, original: Tensor, uniform: Tensor
    ) -> Tensor:
        """Nats of each judged position, then of each masked one, (…, B, N + P); 0 where the target is -1.

        In training the first are multiplied by `weight`, the second by N / P, so that their sum over the batch divided
        by its judged positions is L_MLM + weight · L_disc.

        Args:
            inputs_BT: tokens, masked.
            positions_BP: masked positions.
            targets: (…, B, N + P); only whether one is -1 matters.
            original: (…, B, T) tokens of the text.
            uniform: (…, B, P) noise in [0, 1).
        """
        logits_BPV = self.generator.logits(inputs_BT, positions_BP)
        masked_BP = original.gather(-1, positions_BP)
        guess_BP = nats_of(logits_BPV, masked_BP)
        corrupted_BT = original.scatter(-1, positions_BP, drawn(at_least_float32(logits_BPV.detach()), uniform))
        replaced = corrupted_BT != original
        judged = None if self.over == "all" else positions_BP
        if judged is not None:
            replaced = replaced.gather(-1, judged)
        logits_BN = self.judge(corrupted_BT, judged)
        label_BN = F.binary_cross_entropy_with_logits(logits_BN, replaced.to(logits_BN.dtype), reduction="none")
        if self.training:
            share = label_BN.shape[-1] / guess_BP.shape[-1]
            return torch.cat([self.weight * label_BN, share * guess_BP], dim=-1)
        return torch.where(targets >= 0, torch.cat([label_BN, guess_BP], dim=-1), 0.0)
