"""Your own text: a .txt, .jsonl or .parquet file, or a folder of such."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from scaling.corpora.base import Corpus, Document, known_encoding
from scaling.corpora.hashing import derive_key
from scaling.errors import CorpusError

SUFFIXES = (".txt", ".jsonl", ".parquet")


class Local(Corpus):
    """Each .txt file is a document, each line of a .jsonl and each row of a .parquet file is one (its `field`).

    A relative `path` is taken from the working folder. `encoding` is that of .txt and .jsonl files.
    """

    type: Literal["local"] = "local"
    summary: ClassVar[str] = "your own .txt, .jsonl, .parquet, or a folder of such"

    path: str
    field: str = "text"
    encoding: str = "utf-8"

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        return known_encoding(encoding)

    def files(self) -> list[Path]:
        """The files read, sorted; hidden ones are left out.

        Raises:
            CorpusError: the path does not exist or holds no file of a known kind.
        """
        root = Path(self.path).expanduser().absolute()
        if root.is_dir():
            found = [p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
            found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
            if not found:
                raise CorpusError(f"{root}: no {', '.join(SUFFIXES)} file in this folder")
            return sorted(found)
        if not root.exists():
            raise CorpusError(f"{root}: no such file or folder; check the corpus's path")
        if root.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"{root}: cannot read {root.suffix or 'a file without a suffix'}; {', '.join(SUFFIXES)}")
        return [root]

    def fingerprint(self) -> str:
        """See `Corpus.fingerprint`."""
        entries = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in self.files()]
        return f"{derive_key(1, self.field, self.encoding, entries):016x}"

    def documents(self) -> Iterator[Document]:
        """See `Corpus.documents`."""
        readers = {".txt": self._text, ".jsonl": self._lines, ".parquet": self._rows}
        empty: list[Path] = []
        for path in self.files():
            some = False
            for document in readers[path.suffix.lower()](path):
                some = True
                yield document
            if not some:
                empty.append(path)
        if empty:
            raise CorpusError(f"{empty[0]}: holds no text; give it some, or take the file away")

    def facts(self) -> dict[str, Any]:
        """How many files were read."""
        return {"files": len(self.files())}

    def _content(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read: {error.strerror}") from None

    def _decoded(self, path: Path, content: bytes, at: int = 0) -> str:
        """`content`, which stands at byte `at` of the file, as text without a byte-order mark."""
        try:
            return content.decode(self.encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}: byte {at + error.start} is not {self.encoding} text ({error.reason}); "
                "mend the file or name its encoding, e.g. encoding: latin-1"
            ) from None

    def _text(self, path: Path) -> Iterator[Document]:
        text = self._decoded(path, self._content(path))
        if text.strip():
            yield Document(str(path), text)

    def _lines(self, path: Path) -> Iterator[Document]:
        # Decoded whole: in UTF-16 a newline is no byte of its own.
        for number, line in enumerate(self._decoded(path, self._content(path)).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{path}:{number}: not a JSON value: {error}") from None
            if not isinstance(record, dict) or self.field not in record:
                has = ", ".join(map(str, record)) if isinstance(record, dict) else "no object"
                raise CorpusError(f"{path}:{number}: no field {self.field!r} (has: {has}); set the corpus's field")
            if not isinstance(record[self.field], str):
                raise CorpusError(f"{path}:{number}: field {self.field!r} is no text")
            yield Document(f"{path}:{number}", record[self.field])

    def _rows(self, path: Path) -> Iterator[Document]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as table:
                schema = table.schema_arrow
                if self.field not in schema.names:
                    has = ", ".join(schema.names)
                    raise CorpusError(f"{path}: no column {self.field!r} (has: {has}); set the corpus's field")
                kind = schema.field(self.field).type
                if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                    raise CorpusError(f"{path}: column {self.field!r} holds {kind}, not text")
                row = 0
                for batch in table.iter_batches(batch_size=1024, columns=[self.field]):
                    for value in batch.column(0).to_pylist():
                        if value is not None:
                            yield Document(f"{path}:{row}", value)
                        row += 1
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from None
