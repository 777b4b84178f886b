"""What every tokenizer states: its vocabulary, how it is learned, how it encodes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from scaling.objectives.base import Vocabulary
from scaling.spec import Member


class Encoder:
    """A tokenizer made ready (learned, where it learns): encodes documents."""

    vocabulary: Vocabulary

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Token ids of one document, 1-D; without the separator."""

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each document."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def token_bytes(self) -> np.ndarray:
        """(size,) int64: UTF-8 bytes that each token stands for; 0 for special ones."""

    @abstractmethod
    def pieces(self) -> list[bytes]:
        """(size) UTF-8 bytes of each token; none for special ones."""

    @abstractmethod
    def save(self) -> str:
        """A text from which the encoder can be made again."""


class Tokenizer(Member):
    """Turns text into token ids; a frozen description, made ready by `learn`."""

    @abstractmethod
    def learn(self, documents: Iterable[str]) -> Encoder:
        """The encoder, learned from training documents alone where it learns at all."""

    @abstractmethod
    def load(self, saved: str) -> Encoder:
        """The encoder from `Encoder.save`."""
