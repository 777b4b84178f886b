"""The disposable index: the values of loose row files by name and sha256 of their bytes.

Whoever reads rows still reads and hashes every file; the index only saves decoding those whose bytes are known. It is
one file, `index.cache`: the sha256 of what follows, a newline, parquet. Damaged, stale or deleted, it is rebuilt.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from scaling.errors import StoreError
from scaling.store import files
from scaling.store.schema import ROW_SCHEMA

INDEX = "index.cache"
WORTH_SAVING = 16
"""Row files decoded anew before the index is written again."""

_FACTS = ("run_id", "status", "reason", "curve_sha256", "evals_sha256")
_KEYS = ("file", "file_sha256")
_SCHEMA = pa.schema(
    [*(pa.field(f.name, f.type) for f in ROW_SCHEMA), *(pa.field(k, pa.string()) for k in _KEYS)],
)

Key = tuple[str, str]


class Run(NamedTuple):
    """What the store needs to know of a row: identity, status, the digests it names, and where it stands."""

    run_id: str
    status: str
    reason: str
    curve_sha256: str
    evals_sha256: str
    file: str
    file_sha256: str


def runs_of(table: pa.Table) -> list[Run]:
    """The facts of each row of a table that has the `file` and `file_sha256` columns."""
    return [Run(*values) for values in zip(*(table.column(n).to_pylist() for n in Run._fields), strict=True)]


def keyed(table: pa.Table, file: str, file_sha256: str) -> pa.Table:
    """A table of rows with the name and digest of the file they stand in."""
    keys = [_constant(key, table.num_rows) for key in (file, file_sha256)]
    return pa.Table.from_arrays([*table.columns, *keys], schema=_SCHEMA)


def _constant(text: str, n: int) -> pa.Array:
    """`n` times the same text, from its bytes: every other way of making one costs the import of pandas."""
    data = text.encode()
    offsets = array("i", (i * len(data) for i in range(n + 1)))
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data * n))


class Index:
    """Rows by the name and digest of their file; grows as files are decoded."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._table = self._stored()
        self._fresh: list[pa.Table] = []
        self._runs: dict[Key, Run] = {}
        self._places: dict[Key, int] = {}
        self._learn(self._table)

    def _stored(self) -> pa.Table:
        try:
            data = files.read(self._root, INDEX)
            head, body = data[:65], data[65:]
            if head == files.digest(body).encode() + b"\n":
                table = pq.ParquetFile(pa.BufferReader(body)).read(use_threads=False)
                if table.schema.remove_metadata() == _SCHEMA:
                    return table
        except (FileNotFoundError, files.Damaged, StoreError, pa.ArrowException, OSError):
            pass
        return pa.Table.from_batches([], schema=_SCHEMA)

    def _learn(self, table: pa.Table) -> None:
        for run in runs_of(table):
            key = (run.file, run.file_sha256)
            self._places.setdefault(key, len(self._places))
            self._runs[key] = run

    @property
    def unsaved(self) -> int:
        """Rows learnt since the index was last written."""
        return len(self._fresh)

    def get(self, key: Key) -> Run | None:
        """The facts of a file known by name and digest."""
        return self._runs.get(key)

    def add(self, table: pa.Table) -> Run:
        """Learns a file's one row, as `keyed` gives it."""
        self._fresh.append(table)
        self._learn(table)
        (run,) = runs_of(table)
        return run

    def take(self, keys: Iterable[Key]) -> pa.Table:
        """The rows of files known by name and digest, in that order."""
        everything = pa.concat_tables([self._table, *self._fresh])
        return everything.take(pa.array([self._places[k] for k in keys], pa.int64()))

    def save(self, keys: Iterable[Key]) -> None:
        """Writes the index with these files only; on a store that cannot be written it does nothing."""
        self._table = self.take(sorted(keys)).combine_chunks()
        self._fresh, self._runs, self._places = [], {}, {}
        self._learn(self._table)
        sink = pa.BufferOutputStream()
        pq.write_table(self._table, sink, compression="zstd", store_schema=False)
        body = sink.getvalue().to_pybytes()
        with contextlib.suppress(StoreError, OSError):
            files.replace(self._root, INDEX, files.digest(body).encode() + b"\n" + body, "index", durable=False)
