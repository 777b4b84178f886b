"""Replaced-token detection: is each token of a text the original, or a small generator's guess? ELECTRA.

Clark, Luong, Le and Manning 2020 (arXiv 2003.10555): loss = L_MLM(generator) + 50 · L_disc(discriminator), L_MLM the
mean nats of the masked tokens, L_disc the mean binary cross-entropy over all positions (or the masked ones alone, the
paper's ablation). Masked tokens are replaced by draws from the generator at temperature 1, through which no gradient
flows; a drawn token that is the original is labelled original. Both read one token embedding.

The held-out loss is L_disc on one fixed mask and one fixed noise; it is no code length, and depends on how good the
generator is: it compares runs of one size of generator only. `heldout_nats_generator` is the generator's own L_MLM.

Sizes: `params_non_embedding` is the discriminator, which is kept; `params_head` is what only pretraining needs, the
discriminator's head and the whole generator; `params_non_embedding_head` counts the products of both, `params_total`
all that is trained. FLOPs: the generator's are `flops_exact_other`; `flops_exact` is all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.accounting import FlopTerm, ParamCount
from scaling.architectures.transformer import Encoder
from scaling.objectives.base import Batch, Row, Vocabulary
from scaling.objectives.masking import IGNORED, Masking

if TYPE_CHECKING:
    import torch

    from scaling.architectures.base import Architecture


class ReplacedToken(Masking):
    """ELECTRA's objective; `mask_share` 0.85 is what its published code does, 1 what the paper says."""

    type: Literal["replaced_token"] = "replaced_token"
    summary: ClassVar[str] = "tell original tokens from a jointly trained generator's (nats per token, two labels)"
    source: ClassVar[str] = "Clark et al. 2020 (arXiv 2003.10555)"

    mask_share: float = Field(default=1.0, ge=0.0, le=1.0)
    random_share: float = Field(default=0.0, ge=0.0, le=1.0)
    generator_width: float = Field(default=0.25, gt=0.0, le=1.0)
    """Width of the generator over that of the discriminator."""
    discriminator_weight: float = Field(default=50.0, gt=0.0)
    over: Literal["all", "masked"] = "all"
    """Positions that the discriminator judges."""

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if not isinstance(architecture, Encoder):
            return "generator and discriminator see both sides of a token; use architecture encoder"
        if self.masked_per_window(architecture.seq_len) < 1:
            return f"mask_rate {self.mask_rate} leaves nothing to replace in a window of {architecture.seq_len} tokens"
        return None

    def masked_per_window(self, seq_len: int) -> int:
        """Positions of a window that the generator predicts: round(mask_rate · seq_len)."""
        return super().predicted_per_window(seq_len)

    def predicted_per_window(self, seq_len: int) -> int:
        """Positions that the discriminator judges."""
        return seq_len if self.over == "all" else self.masked_per_window(seq_len)

    def auxiliary(self, seq_len: int) -> Mapping[str, int]:
        """The generator's masked language model."""
        return {"generator": self.masked_per_window(seq_len)}

    def chance(self, architecture: Architecture, vocab_size: int) -> float:
        """ln V + weight · ln 2."""
        return math.log(vocab_size) + self.discriminator_weight * math.log(2.0)

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """Inputs as the generator sees them; extra: `original` (B, T) tokens and `uniform` (B, P) noise in [0, 1).

        Targets are the original tokens that the discriminator judges, then those that the generator predicts.
        """
        positions = self.selected(windows, self.masked_per_window(windows.shape[1]), vocab, rng)
        return self._with_noise(windows, self.corrupted(windows, positions, vocab, rng), rng)

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """One mask, under which every position is judged once; over masked positions alone, a partition of all."""
        if self.over == "all":
            return [self.train_batch(windows, vocab, rng)]
        batches = []
        for positions, scored in self.partition(windows, self.masked_per_window(windows.shape[1]), vocab, rng):
            masked = self.corrupted(windows, positions, vocab, rng)
            masked.targets[~scored] = IGNORED
            batches.append(self._with_noise(windows, masked, rng))
        return batches

    def _with_noise(self, windows: np.ndarray, masked: Batch, rng: np.random.Generator) -> Batch:
        original = windows.astype(np.int64)
        judged = original if self.over == "all" else masked.targets
        noise = rng.random(masked.targets.shape, dtype=np.float32)
        targets = np.concatenate([judged, masked.targets], axis=1)
        return masked._replace(targets=targets, extra={"original": original, "uniform": noise})

    def example(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Row]:
        """See `Objective.example`; the draws are evenly spread over the text's words, but the first is the original."""
        batch = self.train_batch(windows, vocab, rng)
        assert batch.positions is not None
        original, places = windows[0].astype(np.int64), batch.positions[0]
        noise = batch.extra["uniform"][0]
        draws = np.where(np.arange(len(places)) == 0, original[places], np.floor(noise * vocab.n_ordinary))
        read = original.copy()
        read[places] = draws
        judged = np.arange(len(read)) if self.over == "all" else places
        label = np.where(read == original, "=", "≠")
        return [
            ("text", original.tolist()),
            ("the generator reads", batch.inputs[0].tolist()),
            ("and is to guess", [int(t) if p in places else -1 for p, t in enumerate(original)]),
            ("the discriminator reads", read.tolist()),
            ("target (≠ replaced)", [str(sign) if p in judged else -1 for p, sign in enumerate(label)]),
        ]

    def generator(self, architecture: Encoder) -> Encoder:
        """The generator's shape: as deep, narrower, its heads as wide as the discriminator's where one fits.

        It reads and writes embeddings of the discriminator's width, by way of a matrix where its own is another.
        """
        target, head = self.generator_width * architecture.d_model, architecture.d_model // architecture.n_head
        heads = max(1, round(target / head))
        width = heads * head if target >= head else max(2, 2 * round(target / 2))
        changes = {
            "d_model": width,
            "n_head": heads,
            "d_ff": architecture.d_ff and max(1, round(architecture.d_ff * width / architecture.d_model)),
            "embedding_size": None if width == architecture.embedding_width else architecture.embedding_width,
            "tied": True,
            "head_transform": architecture.activation != "swiglu",
        }
        return architecture.model_copy(update=changes)

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """See `Objective.params`; the embeddings that both read count once."""
        assert isinstance(architecture, Encoder)
        kept = architecture.params(vocab_size)
        guesser, width = self.generator(architecture).params(vocab_size), architecture.d_model
        learned = architecture.seq_len if architecture.positions == "learned" else 0
        own = guesser.total - (vocab_size + learned) * architecture.embedding_width
        products = guesser.non_embedding_head + self._projection(architecture)
        return ParamCount(
            groups={**kept.groups, "head": width * width + 2 * width + 1 + own},
            head_matrix=width * width + width + products,
        )

    def _projection(self, architecture: Encoder) -> int:
        """Size of the matrix between the shared embeddings and the generator's stream."""
        guesser = self.generator(architecture)
        return 0 if guesser.embedding_size is None else guesser.d_model * guesser.embedding_size

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """The discriminator's by term, the generator's all under `other`."""
        assert isinstance(architecture, Encoder)
        width, seq_len = architecture.d_model, architecture.seq_len
        kept = architecture.forward_flops(vocab_size, windows * seq_len, 0)
        masked = windows * self.masked_per_window(seq_len)
        guesser = self.generator(architecture).forward_flops(vocab_size, windows * seq_len, masked)
        judged = windows * self.predicted_per_window(seq_len)
        return {
            **kept,
            "head": judged * 2 * (width * width + width),
            "other": kept.get("other", 0) + sum(guesser.values()),
        }

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Objective.build`."""
        from scaling.models.replaced_token import ReplacedTokenModel

        assert isinstance(architecture, Encoder)
        return ReplacedTokenModel(
            architecture,
            self.generator(architecture),
            vocab_size,
            seed,
            weight=self.discriminator_weight,
            over=self.over,
        )
