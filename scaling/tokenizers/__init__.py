"""The tokenizers: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.spec import family
from scaling.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    TokenizerSpec = Tokenizer
else:
    TokenizerSpec = family(__name__, Tokenizer)

__all__ = ["Tokenizer", "TokenizerSpec"]
