"""What a corpus's own statistics say of learning it: conditional entropies, token correlations, and their errors.

H_n is the entropy of the next token given the n before it, C(l) the covariance of two tokens l apart (Cagnetta et al.
2026, arXiv 2602.07488). Errors and draws resample blocks of documents, the same blocks for every number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.corpora import ngrams
from scaling.corpora.correlations import composition, correlate
from scaling.corpora.hashing import derive_key, draws
from scaling.corpora.prepare import TokenizedCorpus
from scaling.errors import CorpusError

FORMAT = 1
BLOCKS, DRAWS, SEED = 128, 200, 0
HELD_OUT_BLOCK = 120
"""Blocks of documents from this one on are coded by the counts of those before it."""
SIZES = (64, 16, 4, 1)
"""Entropies are measured on the whole training part and on these fractions of it."""
LAGS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512,
        640, 768, 1024)  # fmt: skip
FEWEST_PAIRS = 100_000
DIGITS = 6
"""Significant digits in the file."""

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Text:
    """A training stream with its distinct tokens renumbered, and its documents in blocks of about equal size."""

    symbols: np.ndarray
    separators: np.ndarray
    edges: np.ndarray
    n_symbols: int

    @classmethod
    def of(cls, stream: np.ndarray, separator: int, vocabulary_size: int) -> _Text:
        separators = stream == separator
        present = np.flatnonzero(np.bincount(stream[~separators], minlength=vocabulary_size))
        renumbered = np.zeros(vocabulary_size, np.uint8 if len(present) <= 1 << 8 else np.int32)
        renumbered[present] = np.arange(len(present))
        return cls(renumbered[stream], separators, _block_edges(separators), len(present))

    def windows(self, n_blocks: int) -> ngrams.Windows:
        """The sorted windows of the first `n_blocks` blocks."""
        end = self.edges[n_blocks]
        block = np.repeat(np.arange(n_blocks, dtype=np.uint8), np.diff(self.edges[: n_blocks + 1]))
        return ngrams.cut_windows(self.symbols[:end], self.separators[:end], block, self.n_symbols)


def measure_statistics(corpus: TokenizedCorpus, progress: Progress | None = None) -> dict[str, Any]:
    """The statistics of a corpus's training part, as plain JSON values.

    Keys: `corpus tokenizer digest tokens documents symbols`; `entropies`, one for each context length (`context`,
    `plugin` and `corrected` with `se`, `upper`, `distinct` (n+1)-grams), nats per token; `sizes`, plug-in and corrected
    on fractions of the text; `correlations`, one for each lag (`lag`, `operator`, `frobenius`, `noise`, `se`, `pairs`);
    `composition`, the norm that documents of different mixtures alone give; `draws` of blocks of documents,
    row-aligned: `entropies` (R, contexts) corrected, `correlations` (R, lags) of the operator norm; `estimator`.

    Raises:
        CorpusError: the training part holds fewer documents than are resampled.
    """
    say = progress or (lambda message: None)
    text = _Text.of(np.asarray(corpus.train), corpus.vocabulary.separator_id, corpus.vocabulary.size)
    weights = _resampling_weights()
    entropies, sizes, entropy_draws = _entropies(text, weights, say)
    document = np.where(text.separators, -1, np.cumsum(text.separators) - text.separators).astype(np.int32)
    say("correlations over a lag")
    correlations, correlation_draws = _correlations(text, document, weights)
    return {
        "format": FORMAT,
        "corpus": corpus.spec["corpus"],
        "tokenizer": corpus.spec["tokenizer"],
        "digest": corpus.digest,
        "tokens": int((~text.separators).sum()),
        "documents": int(text.separators.sum()),
        "symbols": text.n_symbols,
        "entropies": entropies,
        "sizes": sizes,
        "correlations": correlations,
        "composition": _rounded(composition(text.symbols, document, text.n_symbols)),
        "draws": {"entropies": entropy_draws, "correlations": correlation_draws},
        "estimator": _constants(text.n_symbols),
    }


def _entropies(
    text: _Text, weights: np.ndarray, say: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[list[float]]]:
    """`entropies`, `sizes` and the draws of the corrected entropy."""
    sizes = []
    for divisor in SIZES:
        n_blocks = BLOCKS // divisor
        say(f"entropies of 1/{divisor} of the text" if divisor > 1 else "entropies of the whole text")
        windows = text.windows(n_blocks)
        sums = ngrams.surprisals(windows, n_blocks)
        n = sums.windows.sum()
        plugin, corrected = sums.plugin.sum(axis=0) / n, sums.corrected.sum(axis=0) / n
        sizes.append({"windows": int(n), "plugin": _list(plugin), "corrected": _list(corrected)})
    say("code length of held-out documents")
    begin = text.edges[HELD_OUT_BLOCK]
    coded = ngrams.coded_keys(text.symbols[begin:], text.separators[begin:], text.n_symbols)
    excess = ngrams.excess_code_length(windows, windows.blocks >= HELD_OUT_BLOCK, coded, text.n_symbols)
    drawn = weights @ sums.corrected / (weights @ sums.windows)[:, None]
    entropies = [
        {
            "context": k,
            "plugin": _rounded(plugin[k]),
            "corrected": _rounded(corrected[k]),
            "upper": _rounded(plugin[k] + excess[k]),
            "se": _rounded(drawn[:, k].std(ddof=1)),
            "distinct": int(sums.distinct[k]),
            "coded": len(coded),
        }
        for k in range(windows.length)
    ]
    return entropies, sizes, [_list(row) for row in drawn]


def _correlations(
    text: _Text, document: np.ndarray, weights: np.ndarray
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """`correlations` and the draws of the operator norm."""
    found, drawn = [], []
    for lag in LAGS:
        c = correlate(text.symbols, document, text.edges, text.n_symbols, lag)
        if c.pairs < FEWEST_PAIRS or not c.sums[0].all():
            break
        again = c.resampled(weights)
        found.append(
            {
                "lag": lag,
                "operator": _rounded(c.operator),
                "frobenius": _rounded(c.frobenius),
                "noise": _rounded(c.noise),
                "se": _rounded(again.std(ddof=1)),
                "pairs": c.pairs,
            }
        )
        drawn.append(again)
    return found, [_list(row) for row in np.array(drawn).T]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _list(values: np.ndarray) -> list[float]:
    return [_rounded(v) for v in values.tolist()]


def _constants(n_symbols: int) -> dict[str, Any]:
    return {
        "blocks": BLOCKS,
        "draws": DRAWS,
        "seed": SEED,
        "window_tokens": ngrams.block_length(n_symbols),
        "held_out_blocks": BLOCKS - HELD_OUT_BLOCK,
        "fewest_pairs": FEWEST_PAIRS,
    }


def _block_edges(separators: np.ndarray) -> np.ndarray:
    """(BLOCKS + 1,) where blocks of whole documents of about equal size begin.

    Raises:
        CorpusError: there are too few documents.
    """
    ends = np.flatnonzero(separators) + 1
    if len(ends) < 2 * BLOCKS:
        raise CorpusError(
            f"the training part holds {len(ends)} documents; its statistics are resampled in {BLOCKS} blocks of "
            f"documents and need {2 * BLOCKS} or more"
        )
    wanted = np.linspace(0, ends[-1], BLOCKS + 1)[1:-1]
    inner = np.unique(np.clip(np.searchsorted(ends, wanted), 0, len(ends) - 2))
    if len(inner) < BLOCKS - 1:  # documents longer than a block: as many documents in each instead
        inner = np.arange(1, BLOCKS) * len(ends) // BLOCKS - 1
    return np.concatenate([[0], ends[inner], ends[-1:]]).astype(np.int64)


def _resampling_weights() -> np.ndarray:
    """(DRAWS, BLOCKS) how often each block is in each resampled corpus."""
    drawn = draws(derive_key("corpus statistics", SEED), np.arange(DRAWS * BLOCKS)).reshape(DRAWS, BLOCKS)
    chosen = (drawn % np.uint64(BLOCKS)).astype(np.int64)
    return np.stack([np.bincount(row, minlength=BLOCKS) for row in chosen]).astype(np.float64)
