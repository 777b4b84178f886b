"""Contrastive sentence vectors without labels, SimCSE: −log exp(cos(u_i, v_i)/τ) / Σ_j exp(cos(u_i, v_j)/τ).

Gao, Yao and Chen 2021 (arXiv 2104.08821): u and v are the same window encoded twice under different dropout, the other
windows of its group are the negatives, and τ = 0.05. The group is a field of its own (64, the paper's batch), so that
the task is the same however a batch is cut: a micro-batch holds whole groups, and held-out windows are scored in
groups of the same size, dropout on, under one fixed draw. Windows of equal text are no negatives of each other. The
loss is a mean over windows; losses under different groups or temperatures are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.accounting import FlopTerm, ParamCount
from scaling.architectures.transformer import Encoder
from scaling.objectives.base import Batch, Objective, Row, Vocabulary
from scaling.spec import Count

if TYPE_CHECKING:
    import torch

    from scaling.architectures.base import Architecture


class Contrastive(Objective):
    """SimCSE without labels; a dense layer with tanh stands between the pooled vector and the loss, as in the paper."""

    type: Literal["contrastive"] = "contrastive"
    summary: ClassVar[str] = "find a window's second, dropped-out view among others (nats per window)"
    source: ClassVar[str] = "Gao et al. 2021 (arXiv 2104.08821)"
    packs: ClassVar[bool] = False

    temperature: float = Field(default=0.05, gt=0.0)
    group: Annotated[Count, Field(ge=2)] = 64
    """Windows contrasted with one another."""
    pool: Literal["first", "mean"] = "first"
    """A window's vector: that of its first position, or the mean over all."""

    @property
    def scored_together(self) -> int:
        """See `Objective.scored_together`."""
        return self.group

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if not isinstance(architecture, Encoder):
            return "a window's vector is read off an encoder; use architecture encoder"
        if architecture.dropout == 0.0:
            return "its two views of a window differ by dropout alone; set architecture.dropout (0.1 in the paper)"
        return None

    def window(self, seq_len: int) -> int:
        """See `Objective.window`."""
        return seq_len

    def predicted_per_window(self, seq_len: int) -> int:
        """One loss a window."""
        return 1

    def heldout_passes(self, seq_len: int) -> int:
        """See `Objective.heldout_passes`."""
        return 1

    def chance(self, architecture: Architecture, vocab_size: int) -> float:
        """ln of the group's size."""
        return math.log(self.group)

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """The windows as they are; targets are zeros (B, 1), for the match of a window is itself."""
        return Batch(windows.astype(np.int64), None, np.zeros((len(windows), 1), dtype=np.int64))

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """One batch: every window is scored once, among those of its group."""
        return [self.train_batch(windows, vocab, rng)]

    def example(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Row]:
        """See `Objective.example`."""
        text, other = (w.tolist() for w in windows)
        where = "its first position" if self.pool == "first" else "the mean of its positions"
        return [
            ("text", text),
            ("u: one dropout", text),
            ("v: another", text),
            ("negative", other),
            ("", [f"{self.group - 2} negatives more; a vector is read off {where}"]),
            ("target", ["v among all of them, by its cosine with u"]),
        ]

    def params(self, architecture: Architecture, vocab_size: int) -> ParamCount:
        """See `Objective.params`; the head is the dense layer behind the pooling."""
        assert isinstance(architecture, Encoder)
        body, width = architecture.params(vocab_size), architecture.d_model
        return ParamCount(groups={**body.groups, "head": width * width + width}, head_matrix=width * width)

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """Both views, their heads, and each window's cosines with its group."""
        assert isinstance(architecture, Encoder)
        width = architecture.d_model
        body = architecture.forward_flops(vocab_size, 2 * windows * architecture.seq_len, 0)
        cosines = windows * 2 * self.group * width
        return {**body, "head": 2 * windows * 2 * width * width, "other": body.get("other", 0) + cosines}

    def build(self, architecture: Architecture, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Objective.build`."""
        from scaling.models.contrastive import ContrastiveModel

        assert isinstance(architecture, Encoder)
        return ContrastiveModel(
            architecture,
            vocab_size,
            seed,
            group=self.group,
            temperature=self.temperature,
            pool=self.pool,
        )
