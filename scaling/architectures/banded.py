"""How much of the square of scores attention under a window computes, by plain products in blocks."""

from __future__ import annotations


def band(seq_len: int, window: int, causal: bool) -> tuple[int, int] | None:
    """Rows and columns of scores that blocks of `window` queries compute, or None where the whole square is less.

    Each block meets the keys of its own block and of the one before it, and where not causal of the one after it. The
    last block is filled up.
    """
    if window < 1:
        return None
    rows, columns = -(-seq_len // window) * window, (2 if causal else 3) * window
    return (rows, columns) if rows * columns < seq_len * seq_len else None


def score_products(seq_len: int, window: int, causal: bool) -> int:
    """Scores of a window of `seq_len` tokens that one head computes: T², or those of the band."""
    found = band(seq_len, window, causal)
    return seq_len * seq_len if found is None else found[0] * found[1]
