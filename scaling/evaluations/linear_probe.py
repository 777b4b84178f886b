"""Linear probe: logistic regression on a frozen model's mean hidden states, beside what needs no pretraining.

Alain and Bengio 2016 (arXiv 1610.01644). Beside the score stand two baselines on the same texts: the same model with
the weights that its training began with, and a bag of byte n-grams (tf-idf, orders 1 to `ngram`). A score counts only
where it beats both by three standard errors of the paired difference; `analysis.probes` judges that when reading.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.evaluations.base import Evaluation, Point
from scaling.evaluations.baselines import Baselines
from scaling.evaluations.spread import accuracy, by_item, points_of
from scaling.evaluations.tasks import SPLIT_SEED, Labelled, LabelledTask, Part, read_labelled
from scaling.evaluations.text import english, vectors
from scaling.spec import Count

if TYPE_CHECKING:
    from scaling.evaluations.regression import Fitted
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial


class LinearProbe(Evaluation):
    """Accuracy on a classification task; the penalty is chosen on a part that is neither fitted nor scored."""

    type: Literal["linear_probe"] = "linear_probe"
    summary: ClassVar[str] = "accuracy of a linear classifier on frozen states, beside an untrained model and n-grams"
    source: ClassVar[str] = "Alain and Bengio 2016 (arXiv 1610.01644)"

    version: ClassVar[int] = 2

    path: str
    """SST-2 (a folder of .tsv files), NLTK's subjectivity.zip or movie_reviews.zip."""
    part: Part = "larger"
    """Of SST-2, which labelled part is scored: the 6,735 phrases, or the 872 sentences of GLUE."""
    ngram: int = Field(default=4, ge=1, le=8)
    """Longest byte n-gram of the baseline."""
    limit: Count | None = None
    """Texts that are fitted, drawn at random once and for all; null: all."""

    @cached_property
    def task(self) -> LabelledTask:
        """The task. Raises InputError."""
        task = read_labelled(self.path, self.part)
        if self.limit is None or self.limit >= len(task.train.texts):
            return task
        chosen = np.sort(np.random.default_rng(SPLIT_SEED).permutation(len(task.train.texts))[: self.limit])
        return task._replace(train=Labelled([task.train.texts[i] for i in chosen], task.train.labels[chosen]))

    def prepare(self) -> None:
        """See `Evaluation.prepare`."""
        _ = self.task

    def identity(self) -> dict[str, Any]:
        """See `Evaluation.identity`: the data by its content, wherever it lies."""
        found = super().identity()
        del found["path"]
        return found | {"task": self.task.name, "data": self.task.digest}

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        return english(trial)

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        random = self.baselines.untrained(subject, self.probed)
        fits = {"": self.probed(subject), "random": random, "ngrams": self.ngrams}
        scores = {name: [accuracy(fit.right)] for name, fit in fits.items()}
        metric = f"probe:{self.task.name}"
        return [*points_of(metric, scores, len(self.task.test.texts)), *by_item(metric, fits[""].right)]

    def probed(self, subject: Subject) -> Fitted:
        """The probe on one model."""
        from scaling.evaluations.regression import classify, standardised

        parts = (self.task.train, self.task.choose, self.task.test)
        features = [vectors(subject, subject.encoder.encode_many(part.texts)) for part in parts]
        return classify(standardised(*features), [part.labels for part in parts])

    @cached_property
    def baselines(self) -> Baselines:
        """The untrained models' probes."""
        return Baselines()

    @cached_property
    def ngrams(self) -> Fitted:
        """The bag of n-grams, the same for every run."""
        from scaling.evaluations.regression import classify, ngram_counts, weighted

        parts = (self.task.train, self.task.choose, self.task.test)
        counts = [ngram_counts([text.encode() for text in part.texts], self.ngram) for part in parts]
        return classify(weighted(counts), [part.labels for part in parts])
