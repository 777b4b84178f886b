"""What every corpus states: its documents, and a cheap fingerprint of what they would be read from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from scaling.spec import Count, Member


class Document(NamedTuple):
    """One document: a stable name (a path, an index) and its text."""

    name: str
    text: str


class Corpus(Member):
    """A source of documents. `unique_tokens` keeps only that many tokens of the training stream (None: all)."""

    unique_tokens: Count | None = None

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of what the documents would be read from (versions; sizes and times of files), made in milliseconds.

        Equal fingerprints promise equal documents; it keys the cache.
        """

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order.

        Raises:
            CorpusError: nothing to read, or not UTF-8 text where text is promised (names the file).
        """
