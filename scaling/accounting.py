"""Every convention of size and cost, side by side: parameters by group, exact FLOPs by term, 6ND under each count.

Exact FLOPs count the matrix products of one training step (forward, and a backward of twice that), 2 FLOPs a
multiply–add, attention not halved for causality, embedding look-ups free: what torch's own FLOP counter counts.
Hoffmann et al. 2022 (arXiv 2203.15556) App. F; Kaplan et al. 2020 (arXiv 2001.08361) Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ParamGroup = Literal["token_embedding", "position_embedding", "attention", "feed_forward", "norm", "head", "other"]
PARAM_GROUPS: tuple[ParamGroup, ...] = (
    "token_embedding",
    "position_embedding",
    "attention",
    "feed_forward",
    "norm",
    "head",
    "other",
)

FlopTerm = Literal["attention_projection", "attention_score", "feed_forward", "head", "other"]
FLOP_TERMS: tuple[FlopTerm, ...] = ("attention_projection", "attention_score", "feed_forward", "head", "other")

CountName = Literal["total", "non_embedding", "non_embedding_head"]
COUNTS: tuple[CountName, ...] = ("total", "non_embedding", "non_embedding_head")

CostName = Literal["exact", "6nd"]
COSTS: tuple[CostName, ...] = ("exact", "6nd")

BACKWARD_FACTOR = 2
"""The backward pass costs twice the forward one: a product each for the input's and the weight's gradient."""


@dataclass(frozen=True)
class ParamCount:
    """Parameters by group: biases of the blocks lie with the norms, all of the head's vectors with the head.

    `head_matrix` is V·d whether or not the head is tied to the embedding, and what the head multiplies by before it.
    """

    groups: Mapping[ParamGroup, int]
    head_matrix: int

    @property
    def total(self) -> int:
        """Every trained number."""
        return sum(self.groups.values())

    @property
    def non_embedding(self) -> int:
        """Kaplan's N (§2.1): weight matrices of the blocks; no embeddings, head, norms or biases."""
        return self.groups["attention"] + self.groups["feed_forward"] + self.groups["other"]

    @property
    def non_embedding_head(self) -> int:
        """Kaplan's N plus the output head's matrix (Porian et al. 2024, arXiv 2406.19146), tied or not."""
        return self.non_embedding + self.head_matrix

    def by_name(self, count: CountName) -> int:
        """The size under the named convention."""
        return {
            "total": self.total,
            "non_embedding": self.non_embedding,
            "non_embedding_head": self.non_embedding_head,
        }[count]


def training_flops(forward: Mapping[FlopTerm, int]) -> dict[FlopTerm, int]:
    """Forward FLOPs by term to those of a training step (forward + backward)."""
    return {term: (1 + BACKWARD_FACTOR) * forward.get(term, 0) for term in FLOP_TERMS}


def flops_6nd(params: int, tokens: int) -> int:
    """C ≈ 6ND: FLOPs of training `params` parameters on `tokens` tokens."""
    return 6 * params * tokens
