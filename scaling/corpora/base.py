"""What every corpus states: its documents, and a cheap fingerprint of what they would be read from."""

from __future__ import annotations

import codecs
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from scaling.spec import Count, Member


class Document(NamedTuple):
    """One document: a stable name (a path, an index) and its text."""

    name: str
    text: str


class Corpus(Member):
    """A source of documents. `unique_tokens` keeps only that many tokens of the training stream (None: all)."""

    deduplicate: ClassVar[bool] = True
    """False where documents are independent draws of a source, of which repeats are part."""

    parallel: ClassVar[bool] = False
    """True where a document is a sentence and its translation, a line each."""

    unique_tokens: Count | None = None

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of what the documents would be read from (versions; sizes and times of files), made in milliseconds.

        Equal fingerprints promise equal documents; it keys the cache.

        Raises:
            CorpusError: what would be read is not there.
        """

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order.

        Raises:
            CorpusError: nothing to read, or not text where text is promised (names the file and the byte).
        """

    def facts(self) -> dict[str, Any]:
        """What a reader of the statistics should know beside the counts, as JSON values; may be slow."""
        return {}


def known_encoding(encoding: str) -> str:
    """`encoding` where Python knows it. Raises ValueError."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"encoding {encoding!r} is unknown; try utf-8 or latin-1") from None
    return encoding
