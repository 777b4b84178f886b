"""Learning-rate schedules as the laws over schedules see them: areas under the rate, and where the rate changes.

Both laws sum (η_{k−1} − η_k)·g(k, t) over every step k up to t. Constant stretches vanish from such a sum, and g is
smooth where the rate is, so a stretch of small changes is condensed into a few of its own steps with interpolatory
weights (g replaced by the polynomial through those steps): 72,000 steps become a few thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.types import Array
from scaling.errors import InputError

Steps = NDArray[np.intp]

SCOUT_ORDER, FIT_ORDER, PREDICT_ORDER = 3, 6, 8
"""Steps that stand for one stretch, in a search for starts, a fit, a prediction: errors near 1e-5, 1e-6, 1e-7 nats."""

_NEAREST = 16
"""Length of the stretch next to an evaluated step; each stretch further back is `_GROWTH` times as long."""
_GROWTH = 8
_STRETCHES = 64
"""No stretch is longer than this part of the schedule."""
_JUMP = 8.0
"""A change this many times the median of its stretch is a jump, and stands for itself."""
LEAST_RATE = 1e-7
"""Rates are raised to this share of the peak where a negative power of them is taken."""


def check_rates(rates: ArrayLike, what: str = "rates") -> Array:
    """The rates (T,) of every step as float64.

    Raises:
        InputError: not one-dimensional, empty, not finite, negative, or zero throughout.
    """
    found = np.atleast_1d(np.asarray(rates, dtype=np.float64))
    if found.ndim != 1 or found.size == 0:
        raise InputError(f"{what}: a schedule is a one-dimensional array of rates, one a step; got {found.shape}")
    bad = np.flatnonzero(~np.isfinite(found) | (found < 0))
    if bad.size:
        raise InputError(f"{what}: the rate of step {bad[0]} is {found[bad[0]]}, not a number of at least 0")
    if not (found > 0).any():
        raise InputError(f"{what}: every rate is 0; nothing is learnt")
    return found


def warmup_end(rates: Array) -> int:
    """The first step at which the rate stops rising; 0 without warmup."""
    falls = np.flatnonzero(np.diff(rates) <= 0)
    end = int(falls[0]) if falls.size else rates.size - 1
    return end if rates[end] > rates[0] else 0


def flat_warmup(rates: Array) -> Array:
    """The schedule as if it had begun at the rate that its warmup reaches."""
    end = warmup_end(rates)
    found = rates.copy()
    found[:end] = rates[end]
    return found


@dataclass(frozen=True, eq=False)
class Sampled:
    """Schedules at the steps where a law is wanted, all curves joined: n points, K nodes, Q pairs (node, point).

    `area` (n,) is Σ rates up to and with the point's step; `rate` (n,) the rate there. A node stands for changes of
    the rate: `change` (K,) is its share of Σ (η_{k−1} − η_k), `log_rate` (K,) the log of the rate after it. `pair_area`
    (Q,) is Σ rates from the node's step to the point's, `pair_lag` (Q,) the number of steps, both ends included.
    """

    area: Array
    rate: Array
    change: Array
    log_rate: Array
    pair_node: Steps
    pair_area: Array
    pair_lag: Array
    filled: Steps
    first: Steps

    @property
    def n(self) -> int:
        """Points."""
        return self.area.size

    def total(self, values: Array) -> Array:
        """Sums over each point's nodes: (Q,) to (n,)."""
        found = np.zeros(self.n)
        if self.first.size:
            found[self.filled] = np.add.reduceat(values, self.first)
        return found


@dataclass
class _Parts:
    """Pieces of a `Sampled` as curves are added."""

    area: list[Array] = field(default_factory=list)
    rate: list[Array] = field(default_factory=list)
    change: list[Array] = field(default_factory=list)
    log_rate: list[Array] = field(default_factory=list)
    node: list[Steps] = field(default_factory=list)
    pair_area: list[Array] = field(default_factory=list)
    pair_lag: list[Array] = field(default_factory=list)
    count: list[Steps] = field(default_factory=list)
    nodes: int = 0

    def add(self, rates: Array, steps: Steps, order: int) -> None:
        """One schedule at its steps, in ascending order."""
        total = np.cumsum(rates)
        at, share = condense(rates, steps, order)
        counts = np.searchsorted(at, steps, side="right")
        node = np.concatenate([np.arange(c) for c in counts]) if counts.sum() else np.empty(0, dtype=np.intp)
        point = np.repeat(np.arange(steps.size), counts)
        self.area.append(total[steps])
        self.rate.append(rates[steps])
        self.change.append(share)
        self.log_rate.append(np.log(np.maximum(rates[at], LEAST_RATE * rates.max())))
        self.node.append(node + self.nodes)
        self.pair_area.append(total[steps][point] - total[at[node] - 1])
        self.pair_lag.append((steps[point] - at[node] + 1).astype(np.float64))
        self.count.append(counts)
        self.nodes += at.size


def sample(curves: list[tuple[Array, Steps]], order: int = PREDICT_ORDER) -> Sampled:
    """Schedules (rates (T,), steps (m,) ascending) at their steps, joined in order; each rate index is a step."""
    parts = _Parts()
    for rates, steps in curves:
        parts.add(rates, steps, order)
    counts = np.concatenate(parts.count)
    filled = np.flatnonzero(counts)
    return Sampled(
        np.concatenate(parts.area),
        np.concatenate(parts.rate),
        np.concatenate(parts.change),
        np.concatenate(parts.log_rate),
        np.concatenate(parts.node),
        np.concatenate(parts.pair_area),
        np.concatenate(parts.pair_lag),
        filled,
        np.concatenate([[0], np.cumsum(counts[filled])[:-1]]).astype(np.intp) if filled.size else filled,
    )


def condense(rates: Array, steps: Steps, order: int) -> tuple[Steps, Array]:
    """Steps (K,) that stand for the changes of a schedule seen from `steps`, ascending, and their weights (K,).

    Σ_k weight_k g(step_k) ≈ Σ_k (η_{k−1} − η_k) g(k) over the changes up to each of `steps`, exactly where a stretch
    has at most `order` changes or g is a polynomial of degree below `order` in it.
    """
    change = np.zeros(rates.size)
    change[1:] = rates[:-1] - rates[1:]
    at, share = [np.empty(0, dtype=np.intp)], [np.empty(0)]
    for low, high in _stretches(rates.size, steps):
        moved = low + np.flatnonzero(change[low:high])
        for piece in _smooth_pieces(moved, change[moved]):
            nodes, weights = _interpolatory(piece, change[piece], order)
            at.append(nodes)
            share.append(weights)
    return np.concatenate(at), np.concatenate(share)


def _stretches(length: int, steps: Steps) -> list[tuple[int, int]]:
    """Half-open stretches of the steps 1…last, each between evaluated steps, short next to one and longer before."""
    found, low = [], 1
    longest = max(_NEAREST, length // _STRETCHES)
    for step in np.unique(steps):
        edges, width, edge = [int(step) + 1], _NEAREST, int(step) + 1
        while edge > low:
            edge = max(low, edge - width)
            edges.append(edge)
            width = min(width * _GROWTH, longest)
        found += list(zip(edges[:0:-1], edges[-2::-1], strict=True))
        low = int(step) + 1
    return found


def _smooth_pieces(moved: Steps, change: Array) -> list[Steps]:
    """The changed steps of a stretch, split at gaps and at jumps, which become pieces of one step."""
    if moved.size < 2:
        return [moved] if moved.size else []
    size = np.abs(change)
    jump = size > _JUMP * np.median(size)
    cut = (np.diff(moved) > 1) | jump[1:] | jump[:-1]
    return np.split(moved, np.flatnonzero(cut) + 1)


def _interpolatory(piece: Steps, change: Array, order: int) -> tuple[Steps, Array]:
    """At most `order` steps of a piece and the weights that integrate polynomials through them exactly."""
    if piece.size <= order:
        return piece, change
    ends = 0.5 - 0.5 * np.cos(np.pi * (np.arange(order) + 0.5) / order)
    index = np.unique(np.rint(ends * (piece.size - 1)).astype(np.intp))
    nodes = piece[index]
    x = (piece - piece[0]) / (piece[-1] - piece[0])
    t = x[index]
    basis = np.ones((t.size, x.size))
    for j in range(t.size):
        for m in range(t.size):
            if m != j:
                basis[j] *= (x - t[m]) / (t[j] - t[m])
    return nodes, basis @ change
