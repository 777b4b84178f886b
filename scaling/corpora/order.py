"""The order of training windows: without replacement, a new phase and permutation each epoch, from (seed, step) alone.

The permutation of an epoch is a Feistel network over pairs of digits in base ceil(sqrt(n)), walked until it falls
inside (Black and Rogaway 2002): it needs no memory, so corpora of any length cost the same.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from scaling.corpora.hashing import derive_key, draws
from scaling.errors import CorpusError

if TYPE_CHECKING:
    from scaling.corpora.prepare import TokenizedCorpus

_ROUNDS = 6
_AHEAD = 4096


def permute(index: np.ndarray, n: int, key: int) -> np.ndarray:
    """The images of `index` (int64, within 0…n-1) under the key's permutation of 0…n-1."""
    base = np.uint64(isqrt(n - 1) + 1)
    out = index.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = np.divmod(out[todo], base)
        for turn in range(_ROUNDS):
            left, right = right, (left + draws(key + turn, right) % base) % base
        out[todo] = left * base + right
        todo = todo[out[todo] >= np.uint64(n)]
    return out.astype(np.int64)


class WindowOrder:
    """Where each training window starts in a stream of `n_tokens`, for windows of `window` tokens laid `seq_len` apart.

    Starts depend on `seq_len` and not on whether a window takes one token more, so that objectives see the same text.
    Where `begins` (ascending) are given, windows start there and nowhere else, those at the end left out that the
    stream cuts.

    Raises:
        CorpusError: the stream is shorter than two windows.
    """

    def __init__(self, n_tokens: int, window: int, seq_len: int, seed: int, begins: np.ndarray | None = None) -> None:
        span = max(window, seq_len + 1)
        self.seq_len = seq_len
        self.seed = seed
        self._begins = None if begins is None else begins[begins <= n_tokens - window]
        self.windows_per_epoch = (n_tokens - span + 1) // seq_len if self._begins is None else len(self._begins)
        if self.windows_per_epoch < 2:
            raise CorpusError(
                f"{n_tokens} training tokens do not hold two windows of {seq_len}; use more text or a shorter seq_len"
            )
        self._first = 0
        self._ahead = np.zeros(0, np.int64)

    def starts(self, step: int, batch_windows: int) -> np.ndarray:
        """(batch_windows,) int64 starts of the windows of optimizer step `step` (from 0)."""
        first = step * batch_windows
        last = first + batch_windows
        if first < self._first or last > self._first + len(self._ahead):
            self._first = first
            self._ahead = self._compute(first, max(batch_windows, _AHEAD))
        at = first - self._first
        return self._ahead[at : at + batch_windows].copy()

    def _compute(self, first: int, count: int) -> np.ndarray:
        index = np.arange(first, first + count, dtype=np.int64)
        epochs, place = np.divmod(index, self.windows_per_epoch)
        out = np.empty(count, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            key = derive_key("order", self.seed, epoch)
            phase = derive_key("phase", self.seed, epoch) % self.seq_len
            chosen = permute(place[here], self.windows_per_epoch, key)
            out[here] = chosen * self.seq_len + phase if self._begins is None else self._begins[chosen]
        return out


def gather(tokens: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """(B, window) tokens at each start, copied, in the stream's dtype."""
    return np.asarray(tokens)[starts[:, None] + np.arange(window)]


def check_supply(
    tokens_needed: int, tokenized: TokenizedCorpus, unique_tokens: int | None = None, repeat: bool = False
) -> int:
    """Unique training tokens that a run of `tokens_needed` may use: all, or `unique_tokens` of them.

    Raises:
        CorpusError: fewer than `unique_tokens` exist, or fewer than `tokens_needed` and `repeat` is false.
    """
    name, held = tokenized.spec["corpus"]["type"], tokenized.n_train
    if unique_tokens is not None and unique_tokens > held:
        raise CorpusError(
            f"corpus {name}: unique_tokens asks for {unique_tokens:,} tokens, its training part holds {held:,}; "
            "ask for fewer, or use a larger corpus"
        )
    available = unique_tokens or held
    if tokens_needed > available and not repeat:
        raise CorpusError(
            f"corpus {name}: the run asks for {tokens_needed:,} training tokens, {available:,} are available; "
            "set repeat: true, ask for fewer tokens, or use a larger corpus"
        )
    return available
