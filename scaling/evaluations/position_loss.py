"""Held-out loss by position in the window (Kaplan et al. 2020, arXiv 2001.08361, appendix D.5).

At each position a ratio of sums over documents, with a standard error that treats documents as clusters:
se = √(K/(K−1) · Σ_d (S_d − n_d·mean)²) / Σ_d n_d over K documents of summed loss S_d and n_d scored windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scaling.evaluations.base import Evaluation, Point, Unserved

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject


class PositionLoss(Evaluation):
    """Mean loss at each position, over the held-out windows that the run itself was scored on.

    `x` counts from 1: for a causal model the tokens of context that the prediction sees, for a masked one the place of
    the predicted token in the window.
    """

    type: Literal["position_loss"] = "position_loss"
    summary: ClassVar[str] = "held-out loss by position in the window (nats per predicted token)"
    source: ClassVar[str] = "Kaplan et al. 2020 (arXiv 2001.08361), appendix D.5"

    heldout: Literal["run", "full", "nested"] = "run"
    """Which held-out windows: those of the run's own score, all 2^20 bytes, or the nested 2^18."""

    def measure(self, subject: Subject) -> list[Point]:
        """See `Evaluation.measure`."""
        trial = subject.trial
        part = trial.heldout if self.heldout == "run" else self.heldout
        held = subject.corpus.heldout(trial.objective.window(subject.seq_len), subject.seq_len, part)
        nats, scored = by_position(subject, held.windows)
        return [
            Point("position_loss", float(mean), float(se), int(n), float(x))
            for x, (mean, se, n) in enumerate(zip(*clustered_columns(held.document, nats, scored), strict=True), 1)
            if n
        ]


def by_position(subject: Subject, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nats (W, T) at each position of each window, and how often it was scored (W, T).

    Raises:
        Unserved: the objective's predictions are not at positions of the window.
    """
    shape = (len(windows), subject.seq_len)
    nats, scored = np.zeros(shape), np.zeros(shape, np.int64)
    auxiliary = sum(getattr(subject.trial.objective, "auxiliary", lambda seq_len: {})(subject.seq_len).values())
    rows = np.arange(shape[0])[:, None]
    for batch, losses in subject.scored(windows):
        width = losses.shape[1] - auxiliary
        places = batch.positions
        if places is not None and places.shape[1] == width and places.max() < shape[1]:
            columns = places
        elif width == shape[1]:
            columns = np.broadcast_to(np.arange(width), shape)
        else:
            raise Unserved(f"objective {subject.trial.objective.type} does not predict at positions of its window")
        counted = batch.targets[:, :width] >= 0
        np.add.at(nats, (rows, columns), np.where(counted, losses[:, :width], 0.0))
        np.add.at(scored, (rows, columns), counted)
    return nats, scored


def clustered_columns(
    document: np.ndarray, nats: np.ndarray, scored: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, clustered standard error and count of each column.

    `document` (W,) is the document of each window, `nats` and `scored` (W, T) its loss and count at each position. The
    error is NaN where fewer than two documents are scored, and mean and error are NaN where none is.
    """
    order = np.argsort(document, kind="stable")
    _, starts = np.unique(document[order], return_index=True)
    sums = np.add.reduceat(nats[order], starts, axis=0)
    counts = np.add.reduceat(scored[order], starts, axis=0)
    total, k = counts.sum(axis=0), (counts > 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(axis=0) / total
        se = np.sqrt(k / (k - 1) * np.square(sums - counts * mean).sum(axis=0)) / total
    return mean, np.where(k > 1, se, np.nan), total
