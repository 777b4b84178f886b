"""Held-out windows: the same for every trial of a corpus, drawn from many documents, few of each.

2^20 bytes in predicted positions from at least 1,000 documents, at most eight windows of each, in rounds over the
documents, so that the first quarter is the nested part and still touches every document while windows are short.
Windows never cross a document and never overlap. Where there are fewer documents, what there is is used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.corpora.hashing import derive_key, draws
from scaling.errors import CorpusError

FULL_BYTES = 1 << 20
NESTED_DIVISOR = 4
DOCUMENTS = 1024
ENOUGH_DOCUMENTS = 1000
WINDOWS_PER_DOCUMENT = 8


class HeldOut(NamedTuple):
    """Held-out windows: W of them, each inside one document.

    `windows` (W, window) in the token file's dtype; `document` (W,) int32, the document's place in its part; `starts`
    (W,) int64 in the part's stream; `bytes_per_window` (W,) int64, UTF-8 bytes in the predicted positions (all but the
    first of a causal window, all of a masked one).
    """

    windows: np.ndarray
    document: np.ndarray
    starts: np.ndarray
    bytes_per_window: np.ndarray

    @property
    def n_documents(self) -> int:
        """Documents with at least one window."""
        return len(np.unique(self.document))


def _rounds(capacity: np.ndarray, wanted: int, rank: np.ndarray) -> np.ndarray:
    """The document of each window, in rounds over the documents, `wanted` windows where they can be had."""
    few = np.count_nonzero(capacity) < ENOUGH_DOCUMENTS
    most = int(capacity.max()) if few else WINDOWS_PER_DOCUMENT
    depth = min(most, -(-wanted // DOCUMENTS))
    order = np.lexsort((rank, -np.minimum(capacity, depth)))
    order = order[capacity[order] > 0]
    chosen: list[np.ndarray] = []
    count = 0
    for first in range(0, len(order), DOCUMENTS):
        group = order[first : first + DOCUMENTS]
        for turn in range(most):
            able = group[capacity[group] > turn]
            if count >= wanted or not len(able):
                break
            chosen.append(able)
            count += len(able)
    return np.concatenate(chosen)[:wanted]


def choose(
    tokens: np.ndarray, separator_id: int, seq_len: int, token_bytes: np.ndarray, seed: str
) -> tuple[np.ndarray, np.ndarray]:
    """(starts, document) of the full set of windows of `seq_len` + 1 tokens; a pure function of its arguments.

    Raises:
        CorpusError: fewer than two documents hold a window.
    """
    ends = np.flatnonzero(tokens == separator_id)
    begins = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    lengths = ends - begins
    span = seq_len + 1
    capacity = lengths // span
    if np.count_nonzero(capacity) < 2:
        raise CorpusError(
            f"of {len(lengths)} held-out documents fewer than two are {span} tokens long; "
            f"use a shorter seq_len than {seq_len}, or a corpus of longer documents"
        )
    bytes_per_token = token_bytes[tokens].sum() / lengths.sum()
    wanted = max(ENOUGH_DOCUMENTS, round(FULL_BYTES / (seq_len * bytes_per_token)))
    key = derive_key("heldout", seed, seq_len)
    document = _rounds(capacity, wanted, draws(key, np.arange(len(lengths))))

    # Within a document of k windows: k sorted draws from its slack, the i-th moved on by i spans, in shuffled order.
    index = np.arange(len(document))
    windows_of = np.bincount(document, minlength=len(lengths))
    slack = lengths - windows_of * span
    offset = (draws(key + 1, index) % (slack[document] + 1).astype(np.uint64)).astype(np.int64)
    by_offset = np.lexsort((offset, document))
    by_turn = np.lexsort((draws(key + 2, index), document))
    place = index - np.repeat(np.cumsum(windows_of) - windows_of, windows_of)
    starts = np.empty(len(document), np.int64)
    starts[by_turn] = begins[document[by_offset]] + offset[by_offset] + place * span
    return starts, document.astype(np.int32)


def document_starts(tokens: np.ndarray, separator_id: int) -> np.ndarray:
    """(K,) int64: where each document of a stream begins."""
    ends = np.flatnonzero(np.asarray(tokens) == separator_id)
    return np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)


def choose_documents(
    tokens: np.ndarray, separator_id: int, window: int, token_bytes: np.ndarray, seed: str
) -> tuple[np.ndarray, np.ndarray]:
    """(starts, document) of one window at the start of each of as many documents as hold 2^20 bytes, in random order.

    Raises:
        CorpusError: fewer than two documents begin a whole window before the end of the stream.
    """
    begins = document_starts(tokens, separator_id)
    document = np.flatnonzero(begins <= len(tokens) - window)
    if len(document) < 2:
        raise CorpusError(
            f"the held-out text holds no two windows of {window} tokens; use more text or a shorter seq_len"
        )
    bytes_of_document = token_bytes[tokens].sum() / len(begins)
    wanted = max(ENOUGH_DOCUMENTS, round(FULL_BYTES / bytes_of_document))
    document = document[np.argsort(draws(derive_key("heldout documents", seed), document), kind="stable")][:wanted]
    return begins[document], document.astype(np.int32)


def cut(
    tokens: np.ndarray,
    starts: np.ndarray,
    document: np.ndarray,
    *,
    window: int,
    seq_len: int,
    token_bytes: np.ndarray,
    nested: bool,
) -> HeldOut:
    """The windows at `starts`, or the nested first quarter of them."""
    if nested:
        n = max(2, -(-len(starts) // NESTED_DIVISOR))
        starts, document = starts[:n], document[:n]
    windows = np.asarray(tokens)[starts[:, None] + np.arange(window)]
    predicted = token_bytes[windows[:, max(0, window - seq_len) :]].sum(axis=1)
    return HeldOut(windows, document, starts, predicted)
