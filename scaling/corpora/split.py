"""Which part a document belongs to: test, dev (reserved for choosing steps) or train, by a hash of its content.

Documents stand in the order of that hash, a fixed shuffle. A text of too few documents is cut into blocks of
consecutive bytes; held-out blocks lie in contiguous regions and the training blocks that touch them are dropped.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import numpy as np

from scaling.corpora.hashing import derive_key, draws
from scaling.errors import CorpusError

Part = Literal["train", "test", "dev"]
PARTS: tuple[Part, ...] = ("train", "test", "dev")

MIN_DOCUMENTS = 20
"""Fewer documents than this are cut into blocks."""

TEST_DOCUMENTS = 1100
TEST_WINDOWS = 8 * TEST_DOCUMENTS
"""What a test part should give where the corpus is large enough: windows of 129 bytes, at most eight a document."""

TEST_SHARE, MOST_TEST_SHARE, DEV_SHARE = 0.15, 0.3, 0.05
_WINDOW_BYTES = 129

BLOCK_BYTES, MIN_BLOCK_BYTES = 4096, 512
_REGION_BLOCKS = 8
_GROUP = 20
_GROUP_TEST, _GROUP_DEV = 3, 1
_SEED = b"scaling-lab split 1"


class Pieces(NamedTuple):
    """Documents as stretches text[begins[i]:ends[i]] of a spooled text; `source` is the document each came from."""

    begins: np.ndarray
    ends: np.ndarray
    source: np.ndarray

    def take(self, which: np.ndarray) -> Pieces:
        """The pieces selected by a mask or by indices."""
        return Pieces(self.begins[which], self.ends[which], self.source[which])


def content_hashes(text: np.ndarray, pieces: Pieces) -> np.ndarray:
    """(n,) uint64 keyed hash of each piece's bytes."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(text[b:e].tobytes(), digest_size=8, key=_SEED).digest(), "big")
            for b, e in zip(pieces.begins.tolist(), pieces.ends.tolist(), strict=True)
        ],
        dtype=np.uint64,
    )


def first_occurrences(hashes: np.ndarray) -> np.ndarray:
    """(n,) mask of the pieces whose content has not come before."""
    mask = np.zeros(len(hashes), bool)
    mask[np.unique(hashes, return_index=True)[1]] = True
    return mask


def blocks(text: np.ndarray, pieces: Pieces) -> Pieces:
    """Cuts pieces into blocks of 4 KiB (down to 512 bytes in short texts), at borders of UTF-8 characters.

    Raises:
        CorpusError: the text is too short to hold anything out.
    """
    total = int((pieces.ends - pieces.begins).sum())
    size = min(BLOCK_BYTES, max(MIN_BLOCK_BYTES, total // (4 * _GROUP)))
    begins: list[int] = []
    ends: list[int] = []
    source: list[int] = []
    for begin, end, origin in zip(pieces.begins.tolist(), pieces.ends.tolist(), pieces.source.tolist(), strict=True):
        at = begin
        while at < end:
            stop = min(at + size, end)
            while stop < end and (text[stop] & 0xC0) == 0x80:
                stop += 1
            stop = end if end - stop < size // 4 else stop
            begins.append(at)
            ends.append(stop)
            source.append(origin)
            at = stop
    if len(begins) < _GROUP:
        raise CorpusError(
            f"the corpus holds {total} bytes of distinct text; to hold a part out it needs {MIN_DOCUMENTS} documents "
            f"or {_GROUP * MIN_BLOCK_BYTES} bytes; give it more text"
        )
    return Pieces(np.array(begins), np.array(ends), np.array(source))


def split_documents(hashes: np.ndarray, sizes: np.ndarray) -> dict[Part, np.ndarray]:
    """Indices of each part in hash order: test first, then dev, then train (about 80 %).

    The test part ends where it holds 1,100 documents and 8,800 windows, or at 30 % of the documents; where those
    cannot be 1,100 it is 15 %.
    """
    order = np.argsort(hashes, kind="stable")
    n = len(order)
    n_test = max(2, round(TEST_SHARE * n))
    if n * MOST_TEST_SHARE >= TEST_DOCUMENTS:
        windows = np.cumsum(np.minimum(sizes[order] // _WINDOW_BYTES, 8))
        enough = max(TEST_DOCUMENTS, int(np.searchsorted(windows, TEST_WINDOWS)) + 1)
        n_test = min(enough, int(MOST_TEST_SHARE * n))
    n_dev = max(2, min(round(DEV_SHARE * n), n_test // 2))
    return {"train": order[n_test + n_dev :], "test": order[:n_test], "dev": order[n_test : n_test + n_dev]}


def split_blocks(hashes: np.ndarray, n_blocks: int, position: np.ndarray) -> tuple[dict[Part, np.ndarray], int]:
    """Indices of each part in hash order, and how many training blocks were dropped at the borders.

    `position` is each block's place among the `n_blocks` of the text before duplicates were removed. Of every 20
    regions of consecutive blocks, drawn by a fixed seed, three are test and one is dev.
    """
    size = min(_REGION_BLOCKS, max(1, n_blocks // (2 * _GROUP)))
    n_regions = -(-n_blocks // size)
    part_of_region = np.zeros(n_regions, np.int64)
    for group in range(max(1, n_regions // _GROUP)):
        lots = np.argsort(draws(derive_key("regions", group), np.arange(_GROUP)), kind="stable") + group * _GROUP
        part_of_region[lots[:_GROUP_TEST]] = 1
        part_of_region[lots[_GROUP_TEST : _GROUP_TEST + _GROUP_DEV]] = 2
    part = part_of_region[np.arange(n_blocks) // size]
    held = part > 0
    beside = np.zeros(n_blocks, bool)
    beside[1:] |= held[:-1]
    beside[:-1] |= held[1:]
    dropped = ~held & beside
    part[dropped] = -1
    here = part[position]
    order = np.argsort(hashes, kind="stable")
    parts: dict[Part, np.ndarray] = {name: order[here[order] == i] for i, name in enumerate(PARTS)}
    return parts, int(dropped[position].sum())
