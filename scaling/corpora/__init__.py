"""The corpora: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.spec import family
from scaling.corpora.base import Corpus

if TYPE_CHECKING:
    CorpusSpec = Corpus
else:
    CorpusSpec = family(__name__, Corpus)

__all__ = ["Corpus", "CorpusSpec"]
