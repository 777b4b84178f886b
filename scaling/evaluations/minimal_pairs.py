"""Minimal pairs: how often the grammatical sentence is the more likely one (Warstadt et al. 2020, arXiv 1912.00582).

Likelihood is Σ log p(x_t | x_<t) for a causal model, Σ log p(x_t | x_≠t) for a masked one (Salazar et al. 2020, arXiv
1910.14659). A tie counts half. Chance is one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from scaling.evaluations.base import Evaluation, Point, Unserved
from scaling.evaluations.spread import by_item
from scaling.evaluations.tasks import MinimalPair, read_minimal_pairs
from scaling.evaluations.text import english, likelihood_of, log_likelihoods
from scaling.spec import Count

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial

METRIC = "minimal_pairs"


class MinimalPairs(Evaluation):
    """Accuracy over all pairs (the mean over paradigms), by phenomenon, and of each pair."""

    type: Literal["minimal_pairs"] = "minimal_pairs"
    summary: ClassVar[str] = "share of minimal pairs whose grammatical sentence is the likelier (BLiMP)"
    source: ClassVar[str] = "Warstadt et al. 2020 (arXiv 1912.00582); Salazar et al. 2020 (arXiv 1910.14659)"

    version: ClassVar[int] = 2

    path: str
    """BLiMP.zip, a folder of its .jsonl files, or one of them."""
    limit: Count | None = 100
    """Pairs of each paradigm, the first ones; null: all."""

    @cached_property
    def pairs(self) -> tuple[list[MinimalPair], str]:
        """The pairs that are scored, and the digest of the data. Raises InputError."""
        pairs, digest = read_minimal_pairs(self.path)
        taken: dict[str, int] = {}
        kept = []
        for pair in pairs:
            taken[pair.paradigm] = taken.get(pair.paradigm, 0) + 1
            if self.limit is None or taken[pair.paradigm] <= self.limit:
                kept.append(pair)
        return kept, digest

    def prepare(self) -> None:
        """See `Evaluation.prepare`."""
        _ = self.pairs

    def identity(self) -> dict[str, Any]:
        """See `Evaluation.identity`: the data by its content, wherever it lies."""
        found = super().identity()
        del found["path"]
        return found | {"data": self.pairs[1]}

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        return english(trial) or likelihood_of(trial)

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`; pairs with a sentence too long for the window are left out, and n says so."""
        pairs, _ = self.pairs
        texts = [subject.encoder.encode(s) for pair in pairs for s in (pair.good, pair.bad)]
        scores = log_likelihoods(subject, texts).reshape(-1, 2)
        kept = np.isfinite(scores).all(axis=1)
        if not kept.any():
            raise Unserved(f"no pair fits its window of {subject.seq_len} tokens")
        right = np.where(scores[:, 0] == scores[:, 1], 0.5, scores[:, 0] > scores[:, 1])[kept]
        points = accuracies([pair for pair, k in zip(pairs, kept, strict=True) if k], right)
        return [*points, *by_item(METRIC, right, np.flatnonzero(kept))]


def accuracies(pairs: Sequence[MinimalPair], right: np.ndarray) -> list[Point]:
    """Over all paradigms, then by phenomenon; `right` (n,) is 1, or ½ at a tie.

    Each is the mean of its paradigms' accuracies p_k over n_k pairs, with se = √(Σ q_k (1 − q_k) / n_k) / K, where
    q_k = (n_k p_k + 1) / (n_k + 2) keeps a paradigm that is all right or all wrong from looking certain.
    """
    phenomena = sorted({pair.phenomenon for pair in pairs})
    by_paradigm: dict[tuple[str, str], list[float]] = {}
    for pair, score in zip(pairs, right, strict=True):
        by_paradigm.setdefault((pair.phenomenon, pair.paradigm), []).append(float(score))
    points = []
    for phenomenon in (None, *phenomena):
        groups = [scores for (of, _), scores in by_paradigm.items() if phenomenon in (None, of)]
        means = [math.fsum(g) / len(g) for g in groups]
        shrunk = [(math.fsum(g) + 1) / (len(g) + 2) for g in groups]
        variance = math.fsum(q * (1 - q) / len(g) for q, g in zip(shrunk, groups, strict=True))
        name = METRIC if phenomenon is None else f"{METRIC}:{phenomenon}"
        se = math.sqrt(variance) / len(groups)
        points.append(Point(name, math.fsum(means) / len(means), se, sum(map(len, groups))))
    return points
