"""Conditional entropies H_n of the next token given the n before it, from counts, with their bias bracketed.

H_n = sum over windows of ln c(x_1..x_n) - ln c(x_1..x_n+1), divided by their number (plug-in, whose expectation lies
below the truth); the same with Grassberger's G in place of ln (arXiv physics/0307138), which removes the bias of counts
that are not much above 1; and the code length of documents that the counts have not seen, by interpolated absolute
discounting (Ney, Essen and Kneser 1994), whose expectation lies above the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LONGEST_BLOCK = 9
"""Tokens of a window at most; fewer where 64 bits hold fewer."""
CODED_POSITIONS = 1 << 18
"""Tokens of unseen documents that are coded, at most."""
_TABLE = 1 << 16


@dataclass(frozen=True, eq=False)
class Windows:
    """Every window of `length` tokens that lies inside a document: sorted keys, and the block of documents of each.

    A key holds the window's symbols as digits of `bits` bits, oldest first, so that equal prefixes lie together.
    """

    keys: np.ndarray
    blocks: np.ndarray
    bits: int
    length: int

    def prefixes(self, length: int) -> np.ndarray:
        """(W,) the first `length` symbols of each window, as a key."""
        shifted: np.ndarray = self.keys >> np.uint64(self.bits * (self.length - length))
        return shifted

    def keep(self, chosen: np.ndarray) -> Windows:
        """The windows where `chosen` (W,) is true."""
        return Windows(self.keys[chosen], self.blocks[chosen], self.bits, self.length)


def bits_of(n_symbols: int) -> int:
    """Bits that hold a symbol."""
    return max(1, (n_symbols - 1).bit_length())


def block_length(n_symbols: int) -> int:
    """Tokens of a window: what 64 bits hold, `LONGEST_BLOCK` at most."""
    return min(LONGEST_BLOCK, 64 // bits_of(n_symbols))


def inside(separators: np.ndarray, length: int) -> np.ndarray:
    """(T - length + 1,) whether the window that starts here holds no separator; `separators` (T,) says where they are.

    Raises:
        ValueError: the stream is shorter than a window.
    """
    starts = len(separators) - length + 1
    if starts < 1:
        raise ValueError(f"a stream of {len(separators)} tokens holds no window of {length}")
    clear = ~separators[:starts]
    for offset in range(1, length):
        clear &= ~separators[offset : offset + starts]
    return clear


def cut_windows(symbols: np.ndarray, separators: np.ndarray, blocks: np.ndarray, n_symbols: int) -> Windows:
    """Sorted windows of a stream.

    Args:
        symbols: (T,) in 0..n_symbols - 1; anything at separators.
        separators: (T,) bool.
        blocks: (T,) small integers, the block of documents that each token belongs to.
        n_symbols: distinct symbols.
    """
    bits, length = bits_of(n_symbols), block_length(n_symbols)
    start = np.flatnonzero(inside(separators, length))
    keys = _keys(symbols, start, bits, length)
    order = np.argsort(keys)
    return Windows(keys[order], blocks[start[order]], bits, length)


def _keys(symbols: np.ndarray, start: np.ndarray, bits: int, length: int) -> np.ndarray:
    keys = np.zeros(len(start), np.uint64)
    for offset in range(length):
        keys <<= np.uint64(bits)
        keys |= symbols[start + offset].astype(np.uint64)
    return keys


def grassberger(counts: np.ndarray) -> np.ndarray:
    """G(n) = psi(n) + (-1)^n/2 (psi((n+1)/2) - psi(n/2)), whose mean over windows replaces that of ln n.

    Grassberger 2003, arXiv physics/0307138, eq. 30; over 65,536 it is ln n to 1e-10.
    """
    from scipy.special import psi

    n = np.arange(1, _TABLE + 1)
    table = psi(n) + 0.5 * np.where(n % 2, -1.0, 1.0) * (psi((n + 1) / 2) - psi(n / 2))
    small = np.minimum(counts, _TABLE)
    found: np.ndarray = np.where(counts <= _TABLE, table[small - 1], np.log(counts))
    return found


def _runs(prefixes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each sorted prefix differs from the one before, and how long the runs of equal ones are."""
    first = np.empty(len(prefixes), bool)
    first[0] = True
    np.not_equal(prefixes[1:], prefixes[:-1], out=first[1:])
    return first, np.diff(np.flatnonzero(first), append=len(prefixes))


@dataclass(frozen=True, eq=False)
class Surprisals:
    """Sums over the windows of each block of documents; divide by `windows` (G,) for nats per token.

    `plugin` and `corrected` (G, n_contexts) by context length 0, 1, ..; `distinct` (n_contexts,) different
    (n+1)-grams.
    """

    windows: np.ndarray
    plugin: np.ndarray
    corrected: np.ndarray
    distinct: np.ndarray


def surprisals(windows: Windows, n_blocks: int) -> Surprisals:
    """Sums of the plug-in and the corrected surprisal by block of documents and context length."""
    counted = np.bincount(windows.blocks, minlength=n_blocks)
    before = [np.log(len(windows.keys)) * counted] * 2
    sums: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    distinct = []
    for length in range(1, windows.length + 1):
        first, counts = _runs(windows.prefixes(length))
        run = np.cumsum(first) - 1
        distinct.append(len(counts))
        for k, values in enumerate((np.log(counts), grassberger(counts))):
            now = np.bincount(windows.blocks, weights=values[run], minlength=n_blocks)
            sums[k].append(before[k] - now)
            before[k] = now
    return Surprisals(counted, np.stack(sums[0], 1), np.stack(sums[1], 1), np.array(distinct))


def coded_keys(symbols: np.ndarray, separators: np.ndarray, n_symbols: int) -> np.ndarray:
    """(K,) keys of windows to code, evenly spaced in a stream (T,), `CODED_POSITIONS` of them at most.

    A window's length of text follows each inside its document, so that every block that ends it begins a window.
    """
    bits, length = bits_of(n_symbols), block_length(n_symbols)
    start = np.flatnonzero(inside(separators, 2 * length - 1))
    return _keys(symbols, start[:: max(1, -(-len(start) // CODED_POSITIONS))], bits, length)


def excess_code_length(windows: Windows, held_out: np.ndarray, coded: np.ndarray, n_symbols: int) -> np.ndarray:
    """What coding unseen documents costs over the plug-in surprisal of the very same tokens, by context length.

    The last token of each coded window is coded by the counts of the other blocks of documents; both codes are averaged
    over the same tokens, so that how hard these documents are cancels. Plug-in entropy plus this bounds H_n above.

    Args:
        windows: of all documents.
        held_out: (W,) bool, the windows of the documents that are coded.
        coded: (K,) `coded_keys` of those documents.
        n_symbols: distinct symbols.

    Returns:
        (length,) nats per token, by context length 0, 1, ..
    """
    seen, everything = _Counts(windows.keep(~held_out)), _Counts(windows)
    cost = np.empty(windows.length)
    probability = np.full(len(coded), 1.0 / n_symbols)
    for context in range(windows.length):
        probability = seen.discounted(coded, context, probability)
        joint, given, _ = everything.of(coded, context)
        cost[context] = float(np.mean(np.log(joint / given) - np.log(probability)))
    return cost


class _Counts:
    """Counts of the blocks that end a window, looked up among sorted windows."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def of(self, keys: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Counts of each key's last context + 1 symbols and of those without the last; where the latter lie."""
        bits = self.windows.bits
        block = keys & np.uint64((1 << bits * (context + 1)) - 1)
        low, high = self._range(block, context + 1)
        if context == 0:
            begin, end = np.zeros(len(keys), np.int64), np.full(len(keys), len(self.windows.keys))
        else:
            begin, end = self._range(block >> np.uint64(bits), context)
        return high - low, end - begin, (begin, end)

    def _range(self, block: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the windows that begin with these blocks lie. Sorted questions walk memory once."""
        distinct, which = np.unique(block, return_inverse=True)
        shift = np.uint64(self.windows.bits * (self.windows.length - length))
        low = distinct << shift
        high = low + ((np.uint64(1) << shift) - np.uint64(1))
        keys = self.windows.keys
        return np.searchsorted(keys, low, "left")[which], np.searchsorted(keys, high, "right")[which]

    def discounted(self, keys: np.ndarray, context: int, shorter: np.ndarray) -> np.ndarray:
        """p(x|c) = max(n(c,x) - d, 0)/n(c) + d T(c)/n(c) p(x|shorter c), d = n_1/(n_1 + 2 n_2), T followers."""
        first, counts = _runs(self.windows.prefixes(context + 1))
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5
        joint, given, (begin, end) = self.of(keys, context)
        started = np.concatenate([[0], np.cumsum(first)])
        followers = started[end] - started[begin]
        total = np.maximum(given, 1)
        mixed = (np.maximum(joint - discount, 0.0) + discount * followers * shorter) / total
        return np.where(given > 0, mixed, shorter)
