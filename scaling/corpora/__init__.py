"""The corpora: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.corpora.base import Corpus
from scaling.spec import family

if TYPE_CHECKING:
    CorpusSpec = Corpus
else:
    CorpusSpec = family(__name__, Corpus)

__all__ = ["Corpus", "CorpusSpec"]
