"""Sources whose exponents theory gives: learning curves of a Zipf memoriser and of quantised sub-tasks.

Hutter 2021 (arXiv 2102.04074): a learner that knows what it has seen, items of probability theta_i ~ i^-(1+alpha), errs
E_n = sum_i theta_i (1 - theta_i)^n ~ n^-(alpha/(1+alpha)). Michaud et al. 2023 (arXiv 2303.13506): sub-tasks of
probability p_k ~ k^-(1+alpha), learnt in that order, as many as the size allows or the data show `TAU` times: L_N - E ~
N^-alpha, L_D - E ~ D^-(alpha/(1+alpha)). Markov text (Shannon 1948) has exact conditional entropies.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import zeta
from scipy.stats import poisson

from scaling.corpora.markov import Markov

ATOMS = 1_000_000
"""Items counted one by one; the mass of all beyond is added exactly and is never seen in a curve's range."""
TAU = 10
QUANTUM_SIZE = 1000.0
FLOOR, SCALE = 0.5, 3.0


def zipf(alpha: float, atoms: int = ATOMS) -> np.ndarray:
    """theta_i = i^-(1+alpha)/zeta(1+alpha), i = 1..atoms, of infinitely many."""
    found: np.ndarray = np.arange(1, atoms + 1, dtype=np.float64) ** -(1 + alpha) / zeta(1 + alpha)
    return found


class Curve(NamedTuple):
    """Expected losses over x, and their standard deviation from the draw of the data."""

    x: np.ndarray
    loss: np.ndarray
    sd: np.ndarray

    def local_exponent(self, first: int = 0, last: int = -1) -> float:
        """-d ln loss/d ln x between two points."""
        return float(-np.log(self.loss[last] / self.loss[first]) / np.log(self.x[last] / self.x[first]))


def memoriser(alpha: float, n: np.ndarray) -> Curve:
    """E_n of Hutter's learner. Items are seen independently of one another (Poisson numbers of each)."""
    theta = zipf(alpha)
    mean, variance = [], []
    for size in n:
        unseen = np.exp(size * np.log1p(-theta))
        mean.append(1 - float(theta.sum()) + float(theta @ unseen))
        variance.append(float(theta**2 @ (unseen * (1 - unseen))))
    return Curve(np.asarray(n, dtype=np.float64), np.array(mean), np.sqrt(variance))


def quanta_of_size(alpha: float, params: np.ndarray) -> Curve:
    """L_N: the first N/QUANTUM_SIZE sub-tasks are learnt, the others cost SCALE."""
    learnt = np.floor(params / QUANTUM_SIZE)
    loss = FLOOR + SCALE * zeta(1 + alpha, learnt + 1) / zeta(1 + alpha)
    return Curve(np.asarray(params, dtype=np.float64), loss, np.zeros(len(params)))


def quanta_of_data(alpha: float, tokens: np.ndarray) -> Curve:
    """L_D: a sub-task is learnt once the data show it TAU times."""
    p = zipf(alpha)
    mean, variance = [], []
    for size in tokens:
        unlearnt = poisson.cdf(TAU - 1, size * p)
        mean.append(FLOOR + SCALE * (1 - float(p.sum()) + float(p @ unlearnt)))
        variance.append(SCALE**2 * float(p**2 @ (unlearnt * (1 - unlearnt))))
    return Curve(np.asarray(tokens, dtype=np.float64), np.array(mean), np.sqrt(variance))


def exact_entropies(source: Markov, contexts: int) -> np.ndarray:
    """(contexts,) H_n of the next symbol given n before it, n = 0, 1, ..; constant from the order on."""
    stationary = source.chain().stationary
    found, before = [], 0.0
    for length in range(1, source.order + 1):
        p = stationary.reshape(source.symbols**length, -1).sum(axis=1)
        block = float(-(p @ np.log(p)))
        found.append(block - before)
        before = block
    return np.array([*found, *[source.entropy_rate()] * contexts])[:contexts]
