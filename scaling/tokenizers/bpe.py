"""Byte-level byte-pair encoding, learned from the training part alone.

Sennrich et al. 2016 (arXiv 1508.07909); over bytes as in Radford et al. 2019. Ids 0…n-1 are ordinary tokens; the
separator and the mask follow and never arise from text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.errors import CorpusError
from scaling.objectives.base import Vocabulary
from scaling.objectives.word_units import classes_of
from scaling.spec import Count
from scaling.tokenizers.base import Encoder, Tokenizer

_BYTES = 256
_SPECIAL = 2

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(_BYTES) if byte not in _PRINTABLE]
_BYTE_OF = {chr(b): b for b in _PRINTABLE} | {chr(_BYTES + n): b for n, b in enumerate(_OTHERS)}
"""The library's way of writing each byte of a token as one character: printable Latin-1 as itself."""


class BpeEncoder(Encoder):
    """A learned byte-level BPE (a `tokenizers.Tokenizer`)."""

    def __init__(self, learned: Any) -> None:
        self._learned = learned
        n = learned.get_vocab_size()
        self.vocabulary = Vocabulary(size=n + _SPECIAL, n_ordinary=n, separator_id=n, mask_id=n + 1)
        self.vocabulary = self.vocabulary._replace(classes=classes_of(self.pieces()))

    def encode(self, text: str) -> np.ndarray:
        """See `Encoder.encode`."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See `Encoder.encode_many`."""
        return [np.array(found.ids, dtype=np.uint32) for found in self._learned.encode_batch_fast(list(texts))]

    def token_bytes(self) -> np.ndarray:
        """See `Encoder.token_bytes`. The library writes each byte of a token as one character."""
        sizes = np.zeros(self.vocabulary.size, dtype=np.int64)
        for token, index in self._learned.get_vocab().items():
            sizes[index] = len(token)
        return sizes

    def pieces(self) -> list[bytes]:
        """See `Encoder.pieces`."""
        found = [b""] * self.vocabulary.size
        for token, index in self._learned.get_vocab().items():
            found[index] = bytes(_BYTE_OF[character] for character in token)
        return found

    def save(self) -> str:
        """See `Encoder.save`."""
        saved: str = self._learned.to_str()
        return saved


class Bpe(Tokenizer):
    """Byte-level BPE of `vocab_size` tokens, separator and mask included (fewer where the text has too few pairs)."""

    type: Literal["bpe"] = "bpe"
    summary: ClassVar[str] = "byte-level byte-pair encoding learned from the training part"
    source: ClassVar[str] = "Sennrich et al. 2016 (arXiv 1508.07909); Radford et al. 2019"

    vocab_size: int = Field(default=4096, ge=_BYTES + _SPECIAL, le=1 << 20)
    learn_bytes: Count = 1 << 25
    """Bytes of training documents that merges are learned from, in the corpus's fixed shuffled order."""

    def learn(self, documents: Iterable[str]) -> Encoder:
        """See `Tokenizer.learn`.

        Raises:
            CorpusError: there is no text to learn from.
        """
        from tokenizers import Tokenizer as Learned
        from tokenizers import decoders, models, pre_tokenizers, trainers

        learned = Learned(models.BPE())
        learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        learned.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - _SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[],
            show_progress=False,
        )
        learned.train_from_iterator(_first_bytes(documents, self.learn_bytes), trainer)
        if learned.get_vocab_size() < _BYTES:
            raise CorpusError("bpe: there is no training text to learn from")
        return BpeEncoder(learned)

    def load(self, saved: str) -> Encoder:
        """See `Tokenizer.load`."""
        from tokenizers import Tokenizer as Learned

        return BpeEncoder(Learned.from_str(saved))


def _first_bytes(documents: Iterable[str], limit: int) -> Iterator[str]:
    left = limit
    for text in documents:
        yield text
        left -= len(text.encode())
        if left <= 0:
            return
