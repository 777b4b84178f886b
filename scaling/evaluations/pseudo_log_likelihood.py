"""(Pseudo-)log-likelihood of held-out text: −Σ log p(x_t | x_≠t), one masked position at a time, in nats per token.

Salazar et al. 2020 (arXiv 1910.14659). For a causal model the ordinary −Σ log p(x_t | x_<t) of the same tokens. The two
stand side by side as scores of a text, but only the causal one is a code length, and neither bounds the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scaling.evaluate import clustered
from scaling.evaluations.base import Evaluation, Point
from scaling.evaluations.text import likelihood_of, masked_nats
from scaling.objectives.base import Batch
from scaling.spec import Count

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial


METRIC = "pseudo_log_likelihood"


class PseudoLogLikelihood(Evaluation):
    """Over the first `windows` held-out windows of the run's corpus; the first token of each window is only context.

    `pseudo_log_likelihood:by_document` has the summed nats of each document (n its tokens), so that runs are compared
    on the same ones.
    """

    type: Literal["pseudo_log_likelihood"] = "pseudo_log_likelihood"
    summary: ClassVar[str] = "held-out nats per token, masking each in turn; of a causal model the ordinary ones"
    source: ClassVar[str] = "Salazar et al. 2020 (arXiv 1910.14659)"

    version: ClassVar[int] = 2

    windows: Count = 256
    """Held-out windows that are scored, of `seq_len` tokens."""

    def serves(self, trial: Trial) -> str | None:
        """See `Evaluation.serves`."""
        return likelihood_of(trial)

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        held = subject.corpus.heldout(subject.seq_len, subject.seq_len)
        tokens = held.windows[: self.windows].astype(np.int64)
        document = held.document[: self.windows]
        scored = tokens.shape[1] - 1
        if subject.trial.architecture.bidirectional:
            nats = masked_nats(subject, list(tokens), [np.arange(1, scored + 1)] * len(tokens))
        else:
            # The targets are the window's own tokens, so the last input predicts what is not scored.
            targets = np.concatenate([tokens[:, 1:], np.full((len(tokens), 1), -1)], axis=1)
            size = subject.windows_at_once
            parts = (slice(at, at + size) for at in range(0, len(tokens), size))
            nats = np.concatenate([subject.nats(Batch(tokens[p], None, targets[p])).sum(axis=1) for p in parts])
        found = clustered(document, nats, np.full(len(tokens), scored))
        by_document = zip(found.documents.tolist(), found.nats.tolist(), found.counts.tolist(), strict=True)
        return [
            Point(METRIC, found.loss, found.se, int(found.counts.sum())),
            *(Point(f"{METRIC}:by_document", nats, None, int(n), float(which)) for which, nats, n in by_document),
        ]
