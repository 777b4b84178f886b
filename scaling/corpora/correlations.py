"""Token correlations over a lag: C(l)_ab = P(x_i = a, x_i+l = b) - P(x_i = a) P(x_i+l = b), and its operator norm.

Cagnetta et al. 2026 (arXiv 2602.07488): the norm is the largest singular value. Pairs lie inside one document, and the
two marginals are those of the pairs themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_DENSE = 512
"""Symbols up to which a whole singular value decomposition is quicker than an iterated one."""


@dataclass(frozen=True, eq=False)
class Correlation:
    """C(lag): its norms; half the operator norm of the difference of two halves of the documents; sums by block.

    `sums` (4, G) holds, for each block of documents, its pairs and the sums of u_a v_b, u_a and v_b over them, u and v
    being the first singular vectors: u'C*v of a resampled corpus is its norm to first order.
    """

    lag: int
    operator: float
    frobenius: float
    noise: float
    sums: np.ndarray

    @property
    def pairs(self) -> int:
        """Pairs of tokens counted."""
        return int(self.sums[0].sum())

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """(R,) the norm in resampled corpora; `weights` (R, G) say how often each block is in them."""
        pairs, joint, left, right = self.sums @ weights.T
        found: np.ndarray = joint / pairs - left / pairs * (right / pairs)
        return found


def top_singular(matrix: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Largest singular value of a square matrix, and its left and right vectors."""
    if not matrix.any():
        return 0.0, np.zeros(len(matrix)), np.zeros(len(matrix))
    if len(matrix) <= _DENSE:
        u, s, vt = np.linalg.svd(matrix)
    else:
        from scipy.sparse.linalg import svds

        u, s, vt = svds(matrix, k=1, v0=np.full(len(matrix), len(matrix) ** -0.5))
    return float(s[0]), u[:, 0], vt[0]


def _covariance(joint: np.ndarray) -> np.ndarray:
    p = joint / max(joint.sum(), 1.0)
    found: np.ndarray = p - np.outer(p.sum(axis=1), p.sum(axis=0))
    return found


def _pairs(
    symbols: np.ndarray, document: np.ndarray, edges: np.ndarray, lag: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and second symbols of the pairs of each block of documents."""
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        last = max(begin, end - lag)
        owner = document[begin:last]
        together = (owner == document[begin + lag : last + lag]) & (owner >= 0)
        yield symbols[begin:last][together], symbols[begin + lag : last + lag][together]


def correlate(symbols: np.ndarray, document: np.ndarray, edges: np.ndarray, n_symbols: int, lag: int) -> Correlation:
    """C(lag) of a stream.

    Args:
        symbols: (T,) in 0..n_symbols - 1; anything at separators.
        document: (T,) the document of each token, -1 at separators.
        edges: (G + 1,) where each block of documents begins in the stream; even and odd blocks are the two halves.
        n_symbols: distinct symbols.
        lag: tokens between the two, 1 or more.
    """
    halves = np.zeros((2, n_symbols**2))
    for k, (first, second) in enumerate(_pairs(symbols, document, edges, lag)):
        halves[k % 2] += np.bincount(first.astype(np.int64) * n_symbols + second, minlength=n_symbols**2)
    even, odd = halves.reshape(2, n_symbols, n_symbols)
    c = _covariance(even + odd)
    operator, u, v = top_singular(c)
    sums = []
    for first, second in _pairs(symbols, document, edges, lag):
        left, right = u[first], v[second]
        sums.append((len(first), float(left @ right), float(left.sum()), float(right.sum())))
    noise = 0.5 * top_singular(_covariance(even) - _covariance(odd))[0]
    return Correlation(lag, operator, float(np.linalg.norm(c)), noise, np.array(sums, dtype=np.float64).T)


def composition(symbols: np.ndarray, document: np.ndarray, n_symbols: int) -> float:
    """Operator norm of the covariance between documents of their token frequencies: sum_d w_d (p_d - p)(p_d - p)'.

    That tokens of one document share its mixture alone keeps ||C(lag)|| at about this level, however far the lag.
    """
    ordinary = document >= 0
    index = document[ordinary].astype(np.int64) * n_symbols + symbols[ordinary]
    n_documents = int(document.max()) + 1
    counts = np.bincount(index, minlength=n_documents * n_symbols).reshape(n_documents, n_symbols)
    size = counts.sum(axis=1)
    counts, size = counts[size > 0], size[size > 0]
    deviation = counts / size[:, None] - counts.sum(axis=0) / size.sum()
    return top_singular((deviation * (size / size.sum())[:, None]).T @ deviation)[0]
