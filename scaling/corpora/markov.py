"""A k-order Markov source: H = -sum_c pi(c) sum_s P(s|c) ln P(s|c) nats per symbol, with pi its stationary law.

Shannon 1948. Each row of the table is a softmax of Zipf log-weights plus Gaussian noise: P(s|c) ~ (1+s)^-tail
exp(sharpness g_cs), so `tail` sets how unequal the symbols (and with them the contexts) are, and `sharpness` how much
the context tells. Probabilities are multiples of 2^-32 and are sampled exactly.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from scaling.corpora.base import Corpus, Document
from scaling.corpora.hashing import derive_key, draws, uniforms
from scaling.spec import Count, NonNegativeCount

ALPHABET = string.ascii_lowercase + string.ascii_uppercase + string.digits
_LONGEST_TABLE = 1 << 22
_BATCH_DOCUMENTS = 1024
_ONE = 1 << 32


class Chain(NamedTuple):
    """A source's exact numbers: `table` (symbols^order, symbols) of P(next | context), `stationary` over contexts.

    A context's index reads its symbols as digits, oldest first.
    """

    table: np.ndarray
    stationary: np.ndarray
    cumulative: np.ndarray


class Markov(Corpus):
    """Documents drawn from a stationary k-order Markov chain; each symbol is one ASCII character."""

    type: Literal["markov"] = "markov"
    summary: ClassVar[str] = "k-order Markov source of known entropy rate"
    source: ClassVar[str] = "Shannon 1948"
    deduplicate: ClassVar[bool] = False

    order: Count = 2
    symbols: int = Field(default=16, ge=2, le=len(ALPHABET))
    tail: float = Field(default=0.5, ge=0.0, le=4.0)
    sharpness: float = Field(default=1.5, ge=0.0, le=8.0)
    seed: NonNegativeCount = 0
    n_documents: Count = 8192
    document_length: Count = 2048

    @model_validator(mode="after")
    def _fits(self) -> Markov:
        if self.symbols ** (self.order + 1) > _LONGEST_TABLE:
            raise ValueError(f"symbols^(order+1) = {self.symbols ** (self.order + 1)} is over {_LONGEST_TABLE}")
        if self.document_length <= self.order:
            raise ValueError(f"document_length {self.document_length} is not longer than order {self.order}")
        return self

    def chain(self) -> Chain:
        """The transition table, a pure function of (order, symbols, tail, sharpness, seed), and its stationary law."""
        return _chain(self.order, self.symbols, self.tail, self.sharpness, self.seed)

    def entropy_rate(self) -> float:
        """Nats per symbol, exact: the loss that no model can beat as its window grows."""
        chain = self.chain()
        return float(-(chain.stationary @ (chain.table * np.log(chain.table)).sum(axis=1)))

    def surprisal(self, windows: np.ndarray) -> np.ndarray:
        """(W, T-1) exact -ln p(x_t | x_1..x_{t-1}) in nats of byte windows (W, T) cut from inside documents.

        Where a window has shown fewer than `order` symbols, the unseen ones are marginalised under the stationary law.

        Raises:
            ValueError: a token is no symbol of this source.
        """
        lookup = np.full(256, -1, np.int64)
        lookup[np.frombuffer(ALPHABET[: self.symbols].encode(), np.uint8)] = np.arange(self.symbols)
        x = lookup[windows]
        if (x < 0).any():
            raise ValueError("a window holds a token that the source cannot emit; windows must not cross documents")
        chain = self.chain()
        length = x.shape[1]
        out = np.empty((len(x), length - 1))
        block = x[:, 0]
        shown = chain.stationary.reshape(self.symbols, -1).sum(axis=1)
        for t in range(1, length):
            if t < self.order:
                block = block * self.symbols + x[:, t]
                longer = chain.stationary.reshape(self.symbols ** (t + 1), -1).sum(axis=1)
                out[:, t - 1] = np.log(shown[block // self.symbols]) - np.log(longer[block])
                shown = longer
            else:
                out[:, t - 1] = -np.log(chain.table[block, x[:, t]])
                block = (block * self.symbols + x[:, t]) % len(chain.table)
        return out

    def fingerprint(self) -> str:
        """See `Corpus.fingerprint`."""
        fields = self.model_dump()
        del fields["unique_tokens"]
        return f"{derive_key(1, fields):016x}"

    def documents(self) -> Iterator[Document]:
        """See `Corpus.documents`."""
        chain = self.chain()
        starts = (np.cumsum(chain.stationary) * _ONE).astype(np.uint64)
        letters = np.frombuffer(ALPHABET.encode(), np.uint8)
        key = derive_key("markov text", self.seed)
        powers = self.symbols ** np.arange(self.order - 1, -1, -1)
        for first in range(0, self.n_documents, _BATCH_DOCUMENTS):
            document = np.arange(first, min(first + _BATCH_DOCUMENTS, self.n_documents))
            symbols = np.empty((len(document), self.document_length), np.uint8)
            counter = document * self.document_length
            drawn = draws(key, counter) >> np.uint64(32)
            context = np.minimum(np.searchsorted(starts, drawn, side="right"), len(starts) - 1)
            symbols[:, : self.order] = context[:, None] // powers % self.symbols
            for t in range(self.order, self.document_length):
                drawn = draws(key, counter + t) >> np.uint64(32)
                symbol = (chain.cumulative[context] <= drawn[:, None]).sum(axis=1)
                symbols[:, t] = symbol
                context = (context * self.symbols + symbol) % len(chain.table)
            for index, row in zip(document.tolist(), letters[symbols], strict=True):
                yield Document(f"markov-{index}", row.tobytes().decode())

    def facts(self) -> dict[str, Any]:
        """The exact entropy rate."""
        return {"entropy_rate_nats": self.entropy_rate()}


@lru_cache(maxsize=8)
def _chain(order: int, symbols: int, tail: float, sharpness: float, seed: int) -> Chain:
    contexts = symbols**order
    index = np.arange(contexts * symbols)
    u, v = uniforms(derive_key("markov u", seed), index), uniforms(derive_key("markov v", seed), index)
    gaussian = (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).reshape(contexts, symbols)
    logits = sharpness * gaussian - tail * np.log1p(np.arange(symbols))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    counts = np.floor(weights / weights.sum(axis=1, keepdims=True) * (_ONE - symbols)).astype(np.int64) + 1
    counts[np.arange(contexts), counts.argmax(axis=1)] += _ONE - counts.sum(axis=1)
    table = counts / _ONE
    stationary = np.full(contexts, 1.0 / contexts)
    for _ in range(100_000):
        moved = (stationary[:, None] * table).reshape(symbols, -1, symbols).sum(axis=0).reshape(-1)
        moved /= moved.sum()
        change = np.abs(moved - stationary).sum()
        stationary = moved
        if change < 1e-15:
            break
    return Chain(table, stationary, np.cumsum(counts, axis=1).astype(np.uint64))
