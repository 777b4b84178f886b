"""Fine-tuning on a task, over several seeds: SST-2 and other sentences with a label, or STS-B's scored pairs.

Devlin et al. 2018 (arXiv 1810.04805, §4): a classification token and a head, all weights trained; a model with encoder
and decoder writes the answer as text (Raffel et al. 2020, arXiv 1910.10683, §2.4). The recipe is fixed: nothing is
chosen on the part that is scored. Baselines: the same, from the weights that the model's own training began with; and
n-grams, as in the probe.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.evaluations.base import Evaluation, Point, Unserved
from scaling.evaluations.linear_probe import LinearProbe
from scaling.evaluations.spread import Score, accuracy, correlation, points_of
from scaling.evaluations.sts import Sts
from scaling.evaluations.tasks import Part, ScoredPairs, read_scored_pairs
from scaling.evaluations.text import english
from scaling.evaluations.tuning import Recipe, framed, text_to_text, with_head
from scaling.spec import Count, NonNegativeCount

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial

HIGHEST = 5.0
"""STS-B's scores run from 0 to this."""


class FineTune(Evaluation):
    """Accuracy, or Spearman's ρ of scored pairs, on the test part: the mean over `seeds` of head and data order."""

    type: Literal["fine_tune"] = "fine_tune"
    summary: ClassVar[str] = "score after fine-tuning on a task, over seeds, beside an untrained model and n-grams"
    source: ClassVar[str] = "Devlin et al. 2018 (arXiv 1810.04805); Raffel et al. 2020 (arXiv 1910.10683)"

    path: str
    """SST-2, subjectivity.zip or movie_reviews.zip as for `linear_probe`; or STS-B's folder."""
    part: Part = "larger"
    """As for `linear_probe`."""
    steps: Count = 300
    batch: Count = 32
    lr: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Peak learning rate; small models want far more than BERT's 2e-5 to 5e-5."""
    seeds: Annotated[tuple[NonNegativeCount, ...], Field(strict=False, min_length=1)] = (0, 1, 2)

    @cached_property
    def pairs(self) -> tuple[ScoredPairs, ScoredPairs] | None:
        """Training and test part of scored pairs; None where the path holds labelled sentences."""
        place = Path(self.path).expanduser()
        if not any(place.glob("sts-*.csv")):
            return None
        return read_scored_pairs(str(place / "sts-train.csv")), read_scored_pairs(str(place / "sts-test.csv"))

    @cached_property
    def probe(self) -> LinearProbe:
        """The labelled sentences, and what n-grams make of them."""
        return LinearProbe(path=self.path, part=self.part)

    def prepare(self) -> None:
        """See `Evaluation.prepare`."""
        if self.pairs is None:
            self.probe.prepare()

    def identity(self) -> dict[str, Any]:
        """See `Evaluation.identity`: the data by its content, wherever it lies."""
        found = super().identity()
        del found["path"]
        if self.pairs is None:
            return found | {"task": self.probe.task.name, "data": self.probe.task.digest}
        return found | {"task": "stsb", "data": f"{self.pairs[0].digest}-{self.pairs[1].digest}"}

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        if trial.architecture.encoder_decoder and trial.tokenizer.type != "byte":
            return "text to text is implemented on bytes; use runs with tokenizer byte"
        return english(trial)

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        score = self._sentences if self.pairs is None else self._pairs
        scores = {"": score(subject), "random": score(subject.untrained())}
        if self.pairs is None:
            task = self.probe.task
            return points_of(
                f"fine_tune:{task.name}", scores | {"ngrams": [accuracy(self.probe.ngrams.right)]}, len(task.test.texts)
            )
        test = self.pairs[1]
        ngrams = correlation(Sts(path=str(Path(self.path).expanduser() / "sts-test.csv")).ngrams, test.score)
        return points_of("fine_tune:stsb", scores | {"ngrams": [ngrams]}, len(test.score))

    @property
    def _recipe(self) -> Recipe:
        return Recipe(self.steps, self.batch, self.lr)

    def _sentences(self, subject: Subject) -> list[Score]:
        """Accuracy by seed."""
        task, encode = self.probe.task, subject.encoder.encode_many
        train, test = (framed(subject, [[t] for t in encode(part.texts)]) for part in (task.train, task.test))
        found = []
        for seed in self.seeds:
            if subject.trial.architecture.encoder_decoder:
                wanted = [str(label) for label in task.train.labels]
                written = text_to_text(subject, train, wanted, test, self._recipe, seed)
                right = np.array([w == str(t) for w, t in zip(written, task.test.labels, strict=True)], np.float64)
            else:
                logits = with_head(subject, train, task.train.labels, test, self._recipe, seed)
                right = ((logits > 0) == (task.test.labels > 0)).astype(np.float64)
            found.append(accuracy(right))
        return found

    def _pairs(self, subject: Subject) -> list[Score]:
        """Spearman's ρ by seed. Raises Unserved where all answers are equal."""
        assert self.pairs is not None
        encode = subject.encoder.encode_many
        train, test = (
            framed(subject, list(zip(encode(part.first), encode(part.second), strict=True))) for part in self.pairs
        )
        found = []
        for seed in self.seeds:
            if subject.trial.architecture.encoder_decoder:
                # In steps of 0.2, as T5 writes them; what is no number counts as the middle.
                wanted = [f"{round(score * 5) / 5:.1f}" for score in self.pairs[0].score]
                written = text_to_text(subject, train, wanted, test, self._recipe, seed)
                answers = np.array([_number(text) for text in written])
            else:
                share = (self.pairs[0].score / HIGHEST).astype(np.float32)
                answers = with_head(subject, train, share, test, self._recipe, seed)
            found.append(correlation(answers, self.pairs[1].score))
        if not all(np.isfinite(score.value) for score in found):
            raise Unserved("its answers to all pairs are equal after fine-tuning; give more steps or another lr")
        return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return HIGHEST / 2
