"""Parallel text: two files whose lines translate each other, plain or gzipped; a document is a pair, a line each."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from scaling.corpora.base import Corpus, Document, known_encoding
from scaling.corpora.hashing import derive_key
from scaling.corpora.split import MIN_DOCUMENTS
from scaling.errors import CorpusError


class Parallel(Corpus):
    """Line i of `first` is the translation of line i of `second`; pairs of which a side is empty are left out.

    Files that end in .gz are unpacked; relative paths are taken from the working folder.
    """

    type: Literal["parallel"] = "parallel"
    summary: ClassVar[str] = "your own parallel text: two files, aligned line by line"
    parallel: ClassVar[bool] = True

    first: str
    second: str
    encoding: str = "utf-8"

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        return known_encoding(encoding)

    def files(self) -> tuple[Path, Path]:
        """Both files.

        Raises:
            CorpusError: one is not there, or both are the same.
        """
        first, second = (Path(path).expanduser().absolute() for path in (self.first, self.second))
        for name, path in (("first", first), ("second", second)):
            if not path.is_file():
                raise CorpusError(f"{path}: no such file; check the parallel corpus's {name}")
        if first == second:
            raise CorpusError(f"{first}: is both sides of the parallel corpus; give second the translation")
        return first, second

    def fingerprint(self) -> str:
        """See `Corpus.fingerprint`."""
        entries = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in self.files()]
        return f"{derive_key(1, self.encoding, entries):016x}"

    def documents(self) -> Iterator[Document]:
        """See `Corpus.documents`. The two lines of a pair are joined by a newline, which neither holds."""
        first, second = self.files()
        pairs = self._pairs()
        if len(set(pairs.values())) < MIN_DOCUMENTS:
            raise CorpusError(
                f"{first} and {second}: {len(pairs)} pairs with text on both sides; {MIN_DOCUMENTS} different ones are"
                " needed to hold some out"
            )
        for number, text in pairs.items():
            yield Document(f"{first}:{number}", text)

    def facts(self) -> dict[str, Any]:
        """How many pairs were read."""
        return {"pairs": len(self._pairs())}

    def _pairs(self) -> dict[int, str]:
        """Both lines of each pair, by line number from 1."""
        first, second = self.files()
        one, other = self._lines(first), self._lines(second)
        if len(one) != len(other):
            raise CorpusError(
                f"{first} has {len(one):,} lines and {second} {len(other):,}; line i of one must translate line i of"
                " the other"
            )
        both = zip(one, other, strict=True)
        return {number: f"{a}\n{b}" for number, (a, b) in enumerate(both, start=1) if a and b}

    def _lines(self, path: Path) -> list[str]:
        """The lines without white space about them; an end of line after the last one opens no other."""
        try:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"{path}: cannot be read: {error}") from None
        try:
            text = content.decode(self.encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}: byte {error.start} is not {self.encoding} text ({error.reason}); mend the file or name its"
                " encoding, e.g. encoding: latin-1"
            ) from None
        lines = [line.strip() for line in text.split("\n")]
        return lines if lines[-1] else lines[:-1]
