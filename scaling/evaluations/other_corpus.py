"""Held-out loss on a corpus that the run was not trained on (Kaplan et al. 2020, arXiv 2001.08361, §3.2.2).

The run's own objective scores the other corpus's held-out windows; mean and clustered error are those of `loss`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from scaling.corpora import CorpusSpec
from scaling.evaluate import heldout_loss
from scaling.evaluations.base import Evaluation, Point

if TYPE_CHECKING:
    from scaling.corpora.prepare import TokenizedCorpus
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial

METRIC = "other_corpus"


class OtherCorpus(Evaluation):
    """Loss on another corpus, in nats per predicted token; bits per byte where the objective is a code."""

    type: Literal["other_corpus"] = "other_corpus"
    summary: ClassVar[str] = "held-out loss on another corpus, with the run's objective (nats per predicted token)"
    source: ClassVar[str] = "Kaplan et al. 2020 (arXiv 2001.08361), section 3.2.2"

    corpus: CorpusSpec
    heldout: Literal["full", "nested"] = "full"
    """Which held-out windows: 2^20 bytes, or the nested 2^18."""

    @cached_property
    def tokenized(self) -> TokenizedCorpus:
        """The corpus in bytes. Raises CorpusError."""
        from scaling.corpora.prepare import prepare
        from scaling.tokenizers.byte import Byte

        return prepare(self.corpus, Byte())

    def prepare(self) -> None:
        """See `Evaluation.prepare`."""
        _ = self.tokenized

    def identity(self) -> dict[str, object]:
        """See `Evaluation.identity`: the corpus by its content, wherever it lies."""
        return {
            **super().identity(),
            "corpus": {"type": self.corpus.type, "digest": self.tokenized.digest},
        }

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        if trial.tokenizer.type != "byte":
            return (
                f"tokenizer {trial.tokenizer.type} was learned from the run's own corpus, and another corpus has"
                " another vocabulary; use runs with tokenizer byte"
            )
        return None

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        trial, corpus = subject.trial, self.tokenized
        window = trial.objective.window(subject.seq_len)
        held = corpus.heldout(window, subject.seq_len, self.heldout)
        found = heldout_loss(
            subject.nats,
            trial.objective,
            corpus.vocabulary,
            held.windows,
            held.document,
            subject.windows_at_once,
        )
        assert found is not None
        n = int(found.counts.sum())
        name = f"{METRIC}:{self.corpus.type}"
        points = [Point(name, found.loss, found.se, n)]
        if trial.objective.bits_per_byte:
            scored = held.windows[:, 1:] if window > subject.seq_len else held.windows
            bits = found.bits_per_byte(int(corpus.token_bytes[scored].sum()))
            points.append(Point(f"{name}:bits_per_byte", bits, bits * found.se / found.loss, n))
        by_document = zip(found.documents, found.nats, found.counts, strict=True)
        points += [Point(f"{name}:nats_by_document", float(s), None, int(c), float(d)) for d, s, c in by_document]
        return points
