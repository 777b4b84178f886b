"""Near-duplicates by sampled shingles: a document most of whose 48-byte shingles stand in earlier ones is dropped.

Shingles: Broder 1997; kept where their hash falls in a fixed 1/16 of its range (Manber 1994), so that the same
shingle is kept or left in every document. Polynomial hashes modulo 2^64 are built by doubling, whole arrays at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.corpora.hashing import draws, mix

SHINGLE_BYTES = 48
SAMPLE_BITS = 4
THRESHOLD = 0.5
_BATCH_BYTES = 1 << 20
_BASE = 0x9FB21C651E98DF25
_TABLE = draws(0x5EED, np.arange(256))


class Shingles(NamedTuple):
    """Distinct sampled shingles of each document: `hashes` (n,) uint64 and `document` (n,) int64, sorted by both."""

    hashes: np.ndarray
    document: np.ndarray
    n_documents: int

    def of(self, kept: np.ndarray) -> Shingles:
        """Those of the documents in `kept` (sorted indices), renumbered."""
        place = np.full(self.n_documents, -1, np.int64)
        place[kept] = np.arange(len(kept))
        mine = place[self.document] >= 0
        return Shingles(self.hashes[mine], place[self.document[mine]], len(kept))


def _rolling(data: np.ndarray) -> np.ndarray:
    """Hash of every SHINGLE_BYTES bytes of `data`: h_{a+b}[i] = h_a[i] B^b + h_b[i+a]."""
    widths = {1: _TABLE[data]}
    width = 1
    while width < 32:
        power = np.uint64(pow(_BASE, width, 1 << 64))
        previous = widths.pop(width) if width != 16 else widths[width]
        widths[2 * width] = previous[:-width] * power + previous[width:]
        width *= 2
    tail = widths[16][32:]
    return mix(widths[32][: len(tail)] * np.uint64(pow(_BASE, 16, 1 << 64)) + tail)


def shingles(text: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Shingles:
    """The sampled shingles of documents text[begins[i]:ends[i]] (uint8), which lie in order and do not overlap."""
    found: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    first = 0
    while first < len(begins):
        last = max(first + 1, int(np.searchsorted(begins, begins[first] + _BATCH_BYTES)))
        data = np.asarray(text[begins[first] : ends[last - 1]])
        if len(data) >= SHINGLE_BYTES:
            hashes = _rolling(data)
            at = np.flatnonzero(hashes < np.uint64(1 << (64 - SAMPLE_BITS)))
            position = at + begins[first]
            owner = np.searchsorted(begins, position, side="right") - 1
            inside = position + SHINGLE_BYTES <= ends[owner]
            found.append(hashes[at[inside]])
            owners.append(owner[inside])
        first = last
    hashes = np.concatenate(found) if found else np.zeros(0, np.uint64)
    owner = np.concatenate(owners) if owners else np.zeros(0, np.int64)
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    distinct = np.ones(len(hashes), bool)
    distinct[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    return Shingles(hashes[distinct], owner[distinct], len(begins))


def seen_before(found: Shingles) -> np.ndarray:
    """(n_documents,) share of each document's sampled shingles that stand in an earlier document; 0 for none at all."""
    again = np.zeros(len(found.hashes), bool)
    again[1:] = found.hashes[1:] == found.hashes[:-1]
    total = np.bincount(found.document, minlength=found.n_documents)
    repeated = np.bincount(found.document[again], minlength=found.n_documents)
    return repeated / np.maximum(total, 1)


def shared(found: Shingles, train: np.ndarray, held: np.ndarray) -> float:
    """Share of the held-out documents' distinct shingles that stand in training documents too.

    `train` and `held` are (n_documents,) masks.
    """
    ours = np.unique(found.hashes[held[found.document]])
    theirs = np.unique(found.hashes[train[found.document]])
    if not len(ours):
        return 0.0
    return float(np.isin(ours, theirs, assume_unique=True).mean())
