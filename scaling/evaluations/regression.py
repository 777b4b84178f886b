"""Logistic regression with an L2 penalty, on dense features or on bags of byte n-grams.

Minimises mean ln(1 + exp(−y_i (w·x_i + b))) + λ/2 |w|², y_i = ±1, for dense features by Newton's method, whose steps
are as many as the digits need and do not grow as λ falls, and for bags by L-BFGS. λ is chosen on texts that are not
scored, from the strongest on, until `PATIENCE` weaker ones in a row were worse than the best: on the 60,000 phrases of
SST-2 the weakest would take most of the time, and a bag of n-grams is never the better for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""λ that are tried, strongest first; each fit begins where the one before ended."""

PATIENCE = 2
"""λ in a row that are worse than the best, after which no weaker one is tried."""

NEWTON_STEPS = 40
_DECREMENT = 1e-12
"""Half the squared Newton decrement, the loss that is still to be had, at which dense fits end."""

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

    Ends early, see the module.

    `features` are (n_i, D) arrays or sparse matrices, `labels` (n_i,) of 0 and 1.
    """
    train, choose, test = features
    weights = np.zeros(train.shape[1] + 1)
    best: tuple[float, float, np.ndarray] | None = None
    worse = 0
    for penalty in penalties:
        weights = fitted(train, labels[0], penalty, weights)
        score = float((_answers(choose, weights) == labels[1]).mean())
        worse = worse + 1 if best is not None and score < best[0] else 0
        if best is None or score > best[0]:
            best = (score, penalty, weights)
        if worse == PATIENCE:
            break
    assert best is not None
    return Fitted((_answers(test, best[2]) == labels[2]).astype(np.float64), best[1])


def _answers(features: Any, weights: np.ndarray) -> np.ndarray:
    return (features @ weights[:-1] + weights[-1] > 0).astype(np.int64)


def fitted(features: Any, labels: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """Weights (D,) and bias, from a start (D + 1,)."""
    from scipy import sparse

    return (
        _bags(features, labels, penalty, start)
        if sparse.issparse(features)
        else _newton(features, labels, penalty, start)
    )


def loss_of(features: Any, labels: np.ndarray, penalty: float, weights: np.ndarray) -> float:
    """What is minimised."""
    sign = np.where(labels > 0, 1.0, -1.0)
    margin = sign * (features @ weights[:-1] + weights[-1])
    return float(np.logaddexp(0.0, -margin).mean()) + penalty / 2 * float(weights[:-1] @ weights[:-1])


def _newton(features: np.ndarray, labels: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """By Newton's method, its step halved until the loss falls; (n, D) features cost n·D² a step."""
    from scipy.special import expit

    n, d = features.shape
    ridge = np.append(np.full(d, penalty), 0.0)
    weights, value = start.copy(), loss_of(features, labels, penalty, start)
    for _ in range(NEWTON_STEPS):
        share = expit(features @ weights[:-1] + weights[-1])
        pull = (share - (labels > 0)) / n
        gradient = np.append(features.T @ pull, pull.sum()) + ridge * weights
        curve = share * (1.0 - share) / n
        scaled = features * curve[:, None]
        hessian = np.empty((d + 1, d + 1))
        hessian[:d, :d] = features.T @ scaled
        hessian[:d, d] = hessian[d, :d] = scaled.sum(axis=0)
        hessian[d, d] = curve.sum()
        # Far out on separable classes the curvature vanishes: what is added there is far below any λ.
        hessian[np.diag_indices(d + 1)] += ridge + 1e-12
        step = np.linalg.solve(hessian, gradient)
        if float(gradient @ step) / 2 < _DECREMENT:
            break
        size = 1.0
        while size > 1e-8 and not (better := loss_of(features, labels, penalty, weights - size * step)) < value:
            size /= 2
        if size <= 1e-8:
            break
        weights, value = weights - size * step, better
    return weights


def _bags(features: Any, labels: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """By L-BFGS, at most 200 steps."""
    from scipy import optimize
    from scipy.special import expit

    sign = np.where(labels > 0, 1.0, -1.0)
    n, turned = len(sign), features.T.tocsr()

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
