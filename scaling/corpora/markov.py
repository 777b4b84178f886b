"""A k-order Markov source whose entropy rate is known exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from scaling.corpora.base import Corpus, Document


class Markov(Corpus):
    """Placeholder shape, to be completed."""

    type: Literal["markov"] = "markov"
    summary: ClassVar[str] = "k-order Markov source of known entropy rate"

    def fingerprint(self) -> str:
        """See `Corpus.fingerprint`."""
        return "markov"

    def documents(self) -> Iterator[Document]:
        """See `Corpus.documents`."""
        yield from ()
