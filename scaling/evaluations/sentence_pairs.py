"""Pairs of sentences: do two follow one another in a text, or in which order; by a linear classifier on frozen states.

Discourse tasks that need no labels (Chen, Chu and Gimpel 2019, DiscoEval, arXiv 1909.00142; Barzilay and Lapata 2008 on
order), made of the text at hand: the run's own held-out documents, which no part of its training saw. `adjacent` tells
a sentence's successor from a sentence of another document, `order` two neighbours as they stood from the same swapped.
Unlike a model's own next-sentence head it asks every objective alike, and unlike STS-B it classifies. The pair's
features are u, v, |u − v| and u·v of both mean states (Conneau et al. 2017, arXiv 1705.02364), its n-gram baseline has
the same of two bags. Fitted, chosen and scored parts share no document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from scaling.evaluations.base import Evaluation, Point, Unserved
from scaling.evaluations.baselines import Baselines
from scaling.evaluations.regression import Fitted, classify, ngram_counts, standardised, weighted
from scaling.evaluations.spread import accuracy, by_item, points_of
from scaling.evaluations.text import english, vectors
from scaling.spec import Count

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial

SEED = 20_190_831
SHORTEST, LONGEST = 20, 160
"""Characters of a sentence that is used."""
FEWEST = 40
"""Pairs without which nothing is said of a part."""

_END = re.compile(r"(?<=[.!?])\s+")


class Pairs(NamedTuple):
    """Pairs of sentences, with a class of 1 where they stood so in their document."""

    first: list[str]
    second: list[str]
    labels: np.ndarray


def neighbours(text: str) -> Iterator[tuple[str, str]]:
    """Sentences of one paragraph that follow one another, both of a usable length."""
    for paragraph in re.split(r"\n\s*\n", text):
        sentences = _END.split(" ".join(paragraph.split()))
        for first, second in pairwise(sentences):
            if all(SHORTEST <= len(s) <= LONGEST and " " in s for s in (first, second)):
                yield first, second


class SentencePairs(Evaluation):
    """Accuracy on pairs from the run's held-out text; half of them stood so."""

    type: Literal["sentence_pairs"] = "sentence_pairs"
    summary: ClassVar[str] = (
        "do two sentences of held-out text follow one another (or in which order), by frozen states"
    )
    source: ClassVar[str] = "Chen, Chu and Gimpel 2019 (arXiv 1909.00142); Conneau et al. 2017 (arXiv 1705.02364)"

    relation: Literal["adjacent", "order"] = "adjacent"
    per_document: Count = 8
    """Pairs of one document at most, evenly spread over it."""
    ngram: int = Field(default=4, ge=1, le=8)
    """Longest byte n-gram of the baseline."""

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        return english(trial)

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        parts = self.parts(subject)
        fits = {
            "": self._probed(subject, parts),
            "random": self.baselines.untrained(subject, lambda fresh: self._probed(fresh, parts)),
            "ngrams": self.baselines.once(str(subject.row["data_digest"]), lambda: self._ngrams(parts)),
        }
        metric = f"sentence_pairs:{self.relation}"
        scores = {name: [accuracy(fit.right)] for name, fit in fits.items()}
        return [*points_of(metric, scores, len(parts[2].labels)), *by_item(metric, fits[""].right)]

    @cached_property
    def baselines(self) -> Baselines:
        """The untrained models' answers, and those of n-grams by corpus."""
        return Baselines()

    def parts(self, subject: Subject) -> list[Pairs]:
        """What is fitted, what chooses the penalty, what is scored: seven, one and two of every ten documents."""
        found: list[list[tuple[str, str]]] = [[], [], []]
        for number, text in enumerate(_documents(subject)):
            own = list(neighbours(text))
            turn = number % 10
            step = max(1, -(-len(own) // self.per_document))
            found[0 if turn < 7 else 1 if turn == 7 else 2] += own[::step]
        if any(len(part) < FEWEST for part in found):
            raise Unserved(
                f"its held-out text has {sum(map(len, found))} pairs of neighbouring sentences, too few to fit, choose"
                " and score on"
            )
        return [self._labelled(part) for part in found]

    def _labelled(self, pairs: list[tuple[str, str]]) -> Pairs:
        """Half of the pairs changed, which half at random."""
        n = len(pairs)
        labels = np.random.default_rng(SEED).permutation(n) % 2
        first, second = [], []
        for i, (label, (a, b)) in enumerate(zip(labels.tolist(), pairs, strict=True)):
            if label == 0 and self.relation == "order":
                a, b = b, a
            elif label == 0:
                # Half of the part further on stands another document: none fills half of it.
                b = pairs[(i + n // 2) % n][1]
            first.append(a)
            second.append(b)
        return Pairs(first, second, labels.astype(np.int64))

    def _probed(self, subject: Subject, parts: list[Pairs]) -> Fitted:
        features = []
        for part in parts:
            u, v = (vectors(subject, subject.encoder.encode_many(s)) for s in (part.first, part.second))
            features.append(np.concatenate([u, v, np.abs(u - v), u * v], axis=1))
        return classify(standardised(*features), [part.labels for part in parts])

    def _ngrams(self, parts: list[Pairs]) -> Fitted:
        from scipy import sparse

        counts = [ngram_counts([s.encode() for s in (*part.first, *part.second)], self.ngram) for part in parts]
        features: list[Any] = []
        for bags in weighted(counts):
            u, v = bags[: bags.shape[0] // 2], bags[bags.shape[0] // 2 :]
            features.append(sparse.csr_matrix(sparse.hstack([u, v, abs(u - v), u.multiply(v)])))
        return classify(features, [part.labels for part in parts])


def _documents(subject: Subject) -> Iterator[str]:
    """The texts of the held-out test part."""
    corpus = subject.corpus
    pieces = subject.encoder.pieces()
    tokens = np.asarray(corpus.test)
    ends = np.flatnonzero(tokens == corpus.vocabulary.separator_id)
    for begin, end in zip([0, *(ends[:-1] + 1).tolist()], ends.tolist(), strict=True):
        yield b"".join(pieces[t] for t in tokens[begin:end].tolist()).decode(errors="replace")
