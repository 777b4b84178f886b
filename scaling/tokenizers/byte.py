"""Bytes: UTF-8, vocabulary of 256; the separator and the mask are bytes that never occur in UTF-8 text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np

from scaling.objectives.base import Vocabulary
from scaling.objectives.word_units import classes_of
from scaling.tokenizers.base import Encoder, Tokenizer

SEPARATOR = 0xFF
MASK = 0xFE


_PIECES = [b"" if byte in (SEPARATOR, MASK) else bytes([byte]) for byte in range(256)]


class ByteEncoder(Encoder):
    """Each UTF-8 byte is a token."""

    vocabulary = Vocabulary(size=256, n_ordinary=256, separator_id=SEPARATOR, mask_id=MASK, classes=classes_of(_PIECES))

    def encode(self, text: str) -> np.ndarray:
        """See `Encoder.encode`."""
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def token_bytes(self) -> np.ndarray:
        """See `Encoder.token_bytes`."""
        sizes = np.ones(256, dtype=np.int64)
        sizes[[SEPARATOR, MASK]] = 0
        return sizes

    def pieces(self) -> list[bytes]:
        """See `Encoder.pieces`."""
        return list(_PIECES)

    def save(self) -> str:
        """See `Encoder.save`."""
        return ""


class Byte(Tokenizer):
    """UTF-8 bytes."""

    type: Literal["byte"] = "byte"
    summary: ClassVar[str] = "UTF-8 bytes; vocabulary of 256"
    source: ClassVar[str] = "Xue et al. 2021 (arXiv 2105.13626)"

    def learn(self, documents: Iterable[str]) -> Encoder:
        """See `Tokenizer.learn`."""
        return ByteEncoder()

    def load(self, saved: str) -> Encoder:
        """See `Tokenizer.load`."""
        return ByteEncoder()
