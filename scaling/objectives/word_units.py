"""Which tokens are masked together: words, spans of words, and orders of positions that keep such units whole.

Whole words: Cui et al. 2019 (arXiv 1906.08101) and the BERT authors' release of 2019. Spans: Joshi et al. 2020
(arXiv 1907.10529), lengths l = 1…10 words with p(l) ∝ 0.8^l, mean 3.8. Arrays are (B, T): windows and positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.objectives.base import Vocabulary

SPAN_P, LONGEST_SPAN = 0.2, 10
SPAN_LAW = SPAN_P * (1.0 - SPAN_P) ** np.arange(LONGEST_SPAN)
SPAN_LAW /= SPAN_LAW.sum()
"""Probability of each length from 1: geometric, and renormalised where it is cut off (so the mean is 3.8)."""

SPECIAL, SPACE, WORD, OTHER = range(4)
_NEWLINE, _STOP = 1 << 4, 1 << 5


def _class_of(byte: int) -> int:
    if byte in b" \t\n\r\v\f":
        return SPACE
    return WORD if byte >= 0x80 or byte == ord("_") or chr(byte).isalnum() else OTHER


_CLASSES = [_class_of(byte) for byte in range(256)]


def classes_of(pieces: Sequence[bytes]) -> bytes:
    """`Vocabulary.classes` of tokens with these byte strings (empty: special), one byte an id.

    Bits 0 and 1 are the class of the first byte, bits 2 and 3 of the last: 0 special, 1 white space, 2 part of a word
    (letters, digits, underscore, bytes of other scripts), 3 other. Bit 4 is set for a lone newline, bit 5 where the
    last byte is a full stop, question or exclamation mark.
    """
    return bytes(
        (_CLASSES[p[0]] | _CLASSES[p[-1]] << 2 | _NEWLINE * (p == b"\n") | _STOP * (p[-1] in b".?!")) if p else SPECIAL
        for p in pieces
    )


def newlines(vocab: Vocabulary) -> np.ndarray:
    """Ids of tokens that are a lone newline."""
    return np.flatnonzero(np.frombuffer(vocab.classes, np.uint8) & _NEWLINE)


def sentence_begins(windows: np.ndarray, vocab: Vocabulary) -> np.ndarray:
    """(B, T) bool: where a sentence begins: at white space behind a full stop, and after a separator.

    Where the vocabulary has no classes only separators end a sentence.
    """
    begins = np.ones(windows.shape, bool)
    begins[:, 1:] = windows[:, :-1] == vocab.separator_id
    if vocab.classes:
        known = np.frombuffer(vocab.classes.ljust(vocab.size, b"\0"), np.uint8)[windows]
        begins[:, 1:] |= (known[:, :-1] & _STOP > 0) & (known[:, 1:] & 3 == SPACE)
    return begins


def word_begins(windows: np.ndarray, vocab: Vocabulary) -> np.ndarray:
    """(B, T) bool: where a word, or a token that is none, begins; every token where the vocabulary has no classes.

    A token goes on with the word before it where it begins with a letter, digit or underscore and that one ends with
    one. A word that the window cuts is the part of it inside.
    """
    begins = np.ones(windows.shape, bool)
    if vocab.classes:
        known = np.frombuffer(vocab.classes.ljust(vocab.size, b"\0"), np.uint8)[windows]
        begins[:, 1:] = (known[:, 1:] & 3 != WORD) | (known[:, :-1] >> 2 & 3 != WORD)
    return begins


def span_begins(words: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B, T) bool: where a span begins in a tiling of each window; `words` are the beginnings of words.

    Spans are whole words and lengths are counted in words. The phase of a tiling is random: its first span is the rest
    of one that began before the window.
    """
    n_windows, length = words.shape
    lengths = rng.choice(np.arange(1, LONGEST_SPAN + 1), (n_windows, length), p=SPAN_LAW)
    # The span across the window's edge is drawn by its length, and of it any of its words may be the first inside.
    by_length = SPAN_LAW * np.arange(1, LONGEST_SPAN + 1)
    first = rng.choice(np.arange(1, LONGEST_SPAN + 1), n_windows, p=by_length / by_length.sum())
    lengths[:, 0] = 1 + np.floor(rng.random(n_windows) * first).astype(np.int64)
    ends = np.cumsum(lengths, axis=1)
    at = np.zeros((n_windows, length + LONGEST_SPAN + 1), bool)
    at[:, 0] = True
    rows = np.broadcast_to(np.arange(n_windows)[:, None], ends.shape)
    inside = ends < length
    at[rows[inside], ends[inside]] = True
    word = np.cumsum(words, axis=1) - 1
    return words & np.take_along_axis(at, word, axis=1)


def shuffled(begins: np.ndarray, rng: np.random.Generator, candidates: np.ndarray | None = None) -> np.ndarray:
    """(B, T) int64: the positions of each window, its units in random order and each unit's positions side by side.

    Positions that are no `candidates` (B, T) come last, in their own order.
    """
    key = np.take_along_axis(rng.random(begins.shape), _starts(begins), axis=1)
    if candidates is not None:
        key = np.where(candidates, key, 2.0)
    return np.argsort(key, axis=1, kind="stable")


def whole(order: np.ndarray, begins: np.ndarray, sizes: np.ndarray, counts: np.ndarray, parts: int) -> np.ndarray:
    """Changes a shuffled order so that its first `parts` stretches of positions cut as few units as can be.

    Each stretch takes the units in their order, passing over those that do not fit any more (the rule of BERT's input
    pipeline). Where none fits, it is completed by the first positions of the next unit, whose rest counts as a unit.

    Args:
        order: (B, T) positions, as `shuffled` gives them.
        begins: (B, T) bool, where a unit begins.
        sizes: (B, 1) positions in a stretch.
        counts: (B, 1) candidates; they come first in `order`, and the last stretch may be short of them.
        parts: how many stretches to make.
    """
    start = np.take_along_axis(_starts(begins), order, axis=1)
    end = np.take_along_axis(_ends(begins), order, axis=1)
    free = np.arange(order.shape[1]) < counts
    part = np.full(order.shape, parts)
    for index in range(parts):
        room = np.clip(counts - index * sizes, 0, sizes)
        while True:
            fits = free & (end - start <= room)
            filled = np.cumsum(fits, axis=1) + (end - 1 - order)
            taken = fits & (filled <= room)
            if not taken.any():
                break
            part[taken] = index
            free &= ~taken
            room = room - taken.sum(axis=1, keepdims=True)
        cut = free & (np.cumsum(free, axis=1) <= room)
        part[cut] = index
        free &= ~cut
        # The rest of a unit that was cut is a unit of its own.
        last = np.where(cut, order, -1).max(axis=1, keepdims=True)
        start = np.where((start <= last) & (last < end), last + 1, start)
    return np.take_along_axis(order, np.argsort(part, axis=1, kind="stable"), axis=1)


def runs(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last position of the run of consecutive positions that each belongs to; `positions` (B, P) ascend."""
    begins = np.ones(positions.shape, bool)
    begins[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    first = np.take_along_axis(positions, _starts(begins), axis=1)
    last = np.take_along_axis(positions, _ends(begins) - 1, axis=1)
    return first, last


def _starts(begins: np.ndarray) -> np.ndarray:
    """(B, T) the position where the unit of each position begins; the first position begins one."""
    index = np.where(begins, np.arange(begins.shape[1]), 0)
    return np.maximum.accumulate(index, axis=1)


def _ends(begins: np.ndarray) -> np.ndarray:
    """(B, T) one past the position where the unit of each position ends."""
    length = begins.shape[1]
    following = np.full(begins.shape, length)
    following[:, :-1] = np.where(begins[:, 1:], np.arange(1, length), length)
    return np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1]
