"""Sentence similarity: Spearman's correlation of cosines of mean hidden states with human scores, on STS-B.

Cer et al. 2017 (arXiv 1708.00055); without supervision, as Reimers and Gurevych 2019 (arXiv 1908.10084, §4.1) read it.
Standard errors are of a bootstrap over pairs, the same draws for the model and its baselines.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.evaluations.base import Evaluation, Point, Unserved
from scaling.evaluations.baselines import Baselines
from scaling.evaluations.spread import by_item, correlation, points_of
from scaling.evaluations.tasks import ScoredPairs, read_scored_pairs
from scaling.evaluations.text import english, vectors

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial


class Sts(Evaluation):
    """Spearman's ρ on STS-B's test part, beside an untrained model's and that of bags of byte n-grams."""

    type: Literal["sts"] = "sts"
    summary: ClassVar[str] = "Spearman correlation of sentence cosines with human similarity (STS-B)"
    source: ClassVar[str] = "Cer et al. 2017 (arXiv 1708.00055); Reimers & Gurevych 2019 (arXiv 1908.10084)"

    version: ClassVar[int] = 2

    path: str
    """STS-B's folder, or its sts-test.csv."""
    ngram: int = Field(default=4, ge=1, le=8)
    """Longest byte n-gram of the baseline."""

    @cached_property
    def pairs(self) -> ScoredPairs:
        """The scored pairs. Raises InputError."""
        return read_scored_pairs(self.path)

    def prepare(self) -> None:
        """See `Evaluation.prepare`."""
        _ = self.pairs

    def identity(self) -> dict[str, Any]:
        """See `Evaluation.identity`: the data by its content, wherever it lies."""
        found = super().identity()
        del found["path"]
        return found | {"data": self.pairs.digest}

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        return english(trial)

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        random = self.baselines.untrained(subject, self._cosines)
        cosines = {"": self._cosines(subject), "random": random, "ngrams": self.ngrams}
        scores = {name: [correlation(cosine, self.pairs.score)] for name, cosine in cosines.items()}
        if not all(np.isfinite(found[0].value) for found in scores.values()):
            raise Unserved("all cosines are equal: its hidden states say nothing")
        return [*points_of("sts", scores, len(self.pairs.score)), *by_item("sts", cosines[""])]

    def _cosines(self, subject: Subject) -> np.ndarray:
        encoded = subject.encoder.encode_many([*self.pairs.first, *self.pairs.second])
        states = vectors(subject, encoded)
        # Without the mean, which all texts share, cosines spread.
        states -= states.mean(axis=0)
        first, second = np.split(states, 2)
        length = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosine: np.ndarray = (first * second).sum(axis=1) / np.maximum(length, 1e-300)
        return cosine

    @cached_property
    def baselines(self) -> Baselines:
        """The untrained models' cosines."""
        return Baselines()

    @cached_property
    def ngrams(self) -> np.ndarray:
        """Cosines of bags of n-grams, (n,)."""
        from scaling.evaluations.regression import ngram_counts, weighted

        counts = ngram_counts([text.encode() for text in (*self.pairs.first, *self.pairs.second)], self.ngram)
        (bags,) = weighted([counts])
        n = len(self.pairs.first)
        return np.asarray(bags[:n].multiply(bags[n:]).sum(axis=1)).ravel()
