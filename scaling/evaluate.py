"""Held-out loss: the same windows (and masks) for every trial of a corpus, summed by document.

The mean is a ratio of sums over documents; its standard error treats documents as clusters (Cochran 1977, ch. 6):
se = √(K/(K−1) · Σ_d (S_d − n_d·mean)²) / Σ_d n_d over K documents with summed loss S_d and n_d scored tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from scaling.objectives.base import Batch, Objective, Vocabulary

EVAL_VERSION = 1
DOCUMENT_METRIC = "heldout_nats_by_document"
BESIDE_METRIC = "heldout_nats_{}"
"""Mean nats of what a run predicts beside its loss, clustered by document likewise."""
NOTHING_BESIDE: Mapping[str, int] = MappingProxyType({})
MASK_SEED = 20_201_017
"""Key of the held-out masks: one draw, the same for all trials of a corpus."""


@dataclass(frozen=True)
class HeldOutLoss:
    """Held-out loss in nats per predicted token, its clustered standard error, and what it is made of."""

    loss: float
    se: float
    documents: np.ndarray
    """(K,) document indices, ascending."""
    nats: np.ndarray
    """(K,) summed loss of each document."""
    counts: np.ndarray
    """(K,) scored tokens of each document."""
    beside: Mapping[str, HeldOutLoss] = field(default_factory=dict)
    """What else was scored, by name (see `Objective.auxiliary`)."""

    def bits_per_byte(self, scored_bytes: int) -> float:
        """Code length per byte of the scored text."""
        return float(self.nats.sum()) / math.log(2) / scored_bytes

    def evals(self, run_id: str) -> list[dict[str, object]]:
        """Rows of the evals table: one a document (its summed nats, n its scored tokens), one for each loss beside."""
        found = [
            eval_row(run_id, DOCUMENT_METRIC, float(document), float(nats), None, int(count))
            for document, nats, count in zip(self.documents, self.nats, self.counts, strict=True)
        ]
        for name, other in self.beside.items():
            se = other.se if math.isfinite(other.se) else None
            found.append(eval_row(run_id, BESIDE_METRIC.format(name), None, other.loss, se, int(other.counts.sum())))
        return found


def eval_row(run_id: str, metric: str, x: float | None, value: float, se: float | None, n: int) -> dict[str, object]:
    """A row of the evals table."""
    return {
        "run_id": run_id,
        "metric": metric,
        "x": x,
        "value": value,
        "se": se,
        "n": n,
        "eval_version": EVAL_VERSION,
    }


def clustered(document: np.ndarray, nats: np.ndarray, counts: np.ndarray) -> HeldOutLoss:
    """Sums windows by document. All arrays are (W,): document index, summed nats, scored tokens of each window."""
    documents, index = np.unique(document, return_inverse=True)
    sums = np.bincount(index, weights=nats, minlength=len(documents))
    scored = np.bincount(index, weights=counts, minlength=len(documents))
    mean = sums.sum() / scored.sum()
    k = len(documents)
    se = math.sqrt(k / (k - 1) * np.square(sums - scored * mean).sum()) / scored.sum() if k > 1 else math.nan
    return HeldOutLoss(float(mean), float(se), documents, sums, scored.astype(np.int64))


def paired_difference(a: HeldOutLoss, b: HeldOutLoss) -> tuple[float, float]:
    """Mean loss of `a` minus that of `b` over the documents both scored, and its clustered standard error."""
    shared, in_a, in_b = np.intersect1d(a.documents, b.documents, return_indices=True)
    counts = a.counts[in_a]
    if not np.array_equal(counts, b.counts[in_b]):
        raise ValueError("the two runs scored different windows of the same documents")
    difference = clustered(shared, a.nats[in_a] - b.nats[in_b], counts)
    return difference.loss, difference.se


def heldout_loss(
    losses_of: Callable[[Batch], np.ndarray],
    objective: Objective,
    vocab: Vocabulary,
    windows: np.ndarray,
    document: np.ndarray,
    batch_windows: int,
    stop: Callable[[], bool] = lambda: False,
    auxiliary: Mapping[str, int] = NOTHING_BESIDE,
) -> HeldOutLoss | None:
    """Scores every held-out window; None where `stop()`, asked before each batch, says to leave.

    Args:
        losses_of: nats at each predicted position, (B, P), of a batch of exactly `batch_windows` windows.
        objective: makes the held-out batches.
        vocab: of the corpus.
        windows: (W, window) tokens.
        document: (W,) document index of each window.
        batch_windows: B; the last batch is filled up by repeating windows that are then not scored.
        stop: see above.
        auxiliary: names and numbers of trailing columns that are scored apart.
    """
    n_windows = len(windows)
    nats, counts = (np.zeros((1 + len(auxiliary), n_windows)) for _ in range(2))
    rng = np.random.Generator(np.random.Philox(key=np.array([MASK_SEED, 0], dtype=np.uint64)))
    for batch in objective.heldout_batches(windows, vocab, rng):
        scored = batch.targets >= 0
        first = scored.shape[1] - sum(auxiliary.values())
        edges = np.cumsum([0, first, *auxiliary.values()])
        parts = [slice(*pair) for pair in pairwise(edges.tolist())]
        for start in range(0, n_windows, batch_windows):
            if stop():
                return None
            rows = np.arange(start, start + batch_windows) % n_windows
            kept = min(batch_windows, n_windows - start)
            losses = np.where(scored[rows], losses_of(take(batch, rows)), 0.0)[:kept].astype(np.float64)
            here = scored[rows[:kept]]
            for index, part in enumerate(parts):
                nats[index, start : start + kept] += losses[:, part].sum(axis=1)
                counts[index, start : start + kept] += here[:, part].sum(axis=1)
    found = [clustered(document, *both) if both[1].any() else None for both in zip(nats, counts, strict=True)]
    assert found[0] is not None
    beside = {name: other for name, other in zip(auxiliary, found[1:], strict=True) if other is not None}
    return replace(found[0], beside=beside)


def take(batch: Batch, rows: np.ndarray | slice | Sequence[int]) -> Batch:
    """Some windows of a batch."""
    positions = None if batch.positions is None else batch.positions[rows]
    extra = {name: array[rows] for name, array in batch.extra.items()}
    return Batch(batch.inputs[rows], positions, batch.targets[rows], extra)
