"""Logistic regression with an L2 penalty, on dense features or on bags of byte n-grams.

Minimises mean ln(1 + exp(−y_i (w·x_i + b))) + λ/2 |w|², y_i = ±1, by L-BFGS; λ is chosen on texts that are not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""λ that are tried, strongest first; each fit begins where the one before ended."""

BUCKETS = 1 << 18
"""Columns that n-grams are hashed into."""

_PRIME, _MIX = np.uint64(1_099_511_628_211), np.uint64(0x9E3779B97F4A7C15)


class Fitted(NamedTuple):
    """A classifier's answers on the part that is scored: `right` (n,) is 1 where the class is the true one."""

    right: np.ndarray
    penalty: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


def standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Dense features with the training part's mean 0 and deviation 1; those that do not vary become 0."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, np.inf)
    return [(part - mean) / scale for part in (train, *others)]


def classify(features: Sequence[Any], labels: Sequence[np.ndarray], penalties: Sequence[float] = PENALTIES) -> Fitted:
    """Fits on the first part, chooses λ by accuracy on the second (the strongest of equals), and scores the third.

    `features` are (n_i, D) arrays or sparse matrices, `labels` (n_i,) of 0 and 1.
    """
    train, choose, test = features
    weights = np.zeros(train.shape[1] + 1)
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in penalties:
        weights = _fit(train, labels[0], penalty, weights)
        score = float((_answers(choose, weights) == labels[1]).mean())
        if best is None or score > best[0]:
            best = (score, penalty, weights)
    assert best is not None
    return Fitted((_answers(test, best[2]) == labels[2]).astype(np.float64), best[1])


def _answers(features: Any, weights: np.ndarray) -> np.ndarray:
    return (features @ weights[:-1] + weights[-1] > 0).astype(np.int64)


def _fit(features: Any, labels: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    from scipy import optimize, sparse
    from scipy.special import expit

    sign = np.where(labels > 0, 1.0, -1.0)
    n = len(sign)
    turned = features.T.tocsr() if sparse.issparse(features) else features.T

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ weights[:-1] + weights[-1])
        value = float(np.logaddexp(0.0, -margin).mean()) + penalty / 2 * float(weights[:-1] @ weights[:-1])
        pull = -sign * expit(-margin) / n
        return value, np.append(turned @ pull + penalty * weights[:-1], pull.sum())

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": 1e-8})
    weights: np.ndarray = found.x
    return weights


def ngram_counts(texts: Sequence[bytes], longest: int) -> sparse.csr_matrix:
    """Counts of byte n-grams of 1 to `longest` bytes in each text, hashed into (n, BUCKETS)."""
    from scipy import sparse

    stream = np.frombuffer(b"".join(texts), np.uint8).astype(np.uint64)
    lengths = np.array([len(t) for t in texts], np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(stream))
    keys: list[np.ndarray] = []
    hashed = np.zeros(len(stream), np.uint64)
    for n in range(1, longest + 1):
        # Wraps around at the end, where `left` drops it.
        hashed = hashed * _PRIME + np.roll(stream, 1 - n) + np.uint64(n)
        whole = left >= n
        bucket = ((hashed[whole] * _MIX) >> np.uint64(46)).astype(np.int64)
        keys.append(owner[whole] * BUCKETS + bucket)
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    shape = (len(texts), BUCKETS)
    return sparse.csr_matrix((counts.astype(np.float64), (found // BUCKETS, found % BUCKETS)), shape=shape)


def weighted(counts: Sequence[sparse.csr_matrix]) -> list[sparse.csr_matrix]:
    """(1 + ln count) · (1 + ln((1 + n) / (1 + n with it))) of each part, in rows of length 1.

    Of n texts in the first part; columns that none of them has are left out.
    """
    from scipy import sparse

    seen = np.asarray((counts[0] > 0).sum(axis=0)).ravel()
    kept = np.flatnonzero(seen)
    rarity = sparse.diags_array(np.log((1 + counts[0].shape[0]) / (1 + seen[kept])) + 1.0)
    found = []
    for part in counts:
        damped = part[:, kept]
        damped.data = 1.0 + np.log(damped.data)
        product = sparse.csr_matrix(damped @ rarity)
        length = np.sqrt(np.asarray(product.multiply(product).sum(axis=1)).ravel())
        found.append(sparse.csr_matrix(sparse.diags_array(1.0 / np.maximum(length, 1e-300)) @ product))
    return found
