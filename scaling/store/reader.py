"""Reading a store: every file is hashed and checked at every read; the damaged are put aside and count as missing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from scaling.errors import StoreError
from scaling.store import files, tables
from scaling.store.files import Damaged
from scaling.store.index import WORTH_SAVING, Index, Key, Run, keyed, runs_of
from scaling.store.measured import MEASURED_PART, Measurement, check_loose, loose_names, measurements_of, rows_of
from scaling.store.schema import CURVE_SCHEMA, EVAL_SCHEMA, ROW_SCHEMA

if TYPE_CHECKING:
    import pandas as pd

ROW_NAME = re.compile(r"rows/([0-9a-f]{16})(?:\.failed-(\d{1,9}))?\.parquet")
PART_NAME = re.compile(r"(?:rows|curves|evals)/part-[0-9a-f]{16}\.parquet")
SCHEMAS = {"curves": CURVE_SCHEMA, "evals": EVAL_SCHEMA}
NAMED_BY = {"curves": "curve_sha256", "evals": "evals_sha256"}
"""The row's column that holds the digest of the file in each folder."""

_NAMING = {name: re.compile(r"(?:[0-9a-f]{64})?") for name in NAMED_BY.values()} | {
    "run_id": re.compile(r"[0-9a-f]{16}")
}

PATIENCE = 10
"""Times a listing is taken again because a file went away between listing and reading."""


class Scan(NamedTuple):
    """What the row files hold: runs with a terminal row, the latest failure of the others, tables of the parts."""

    terminal: dict[str, Run]
    failed: dict[str, Run]
    parts: dict[str, pa.Table]


def attached_names(folder: str, run_id: str, sha256: str) -> tuple[str, str]:
    """The two names a run's curve or evaluations may have; the second is for the second writer of a run."""
    return f"{folder}/{run_id}.parquet", f"{folder}/{run_id}-{sha256[:16]}.parquet"


def _check_names(table: pa.Table) -> None:
    """Names and digests in rows become file names: raises Damaged at any that could lead elsewhere."""
    for column, wanted in _NAMING.items():
        for text in table.column(column).to_pylist():
            if text is None or not wanted.fullmatch(text):
                raise Damaged(f"column {column}: {text!r} could not name a file of a store")


class Reader:
    """The reading half of a store."""

    def __init__(self, root: Path, write: bool) -> None:
        self.root = root
        self.writable = write
        self._index: Index | None = None
        self._parts: dict[Key, pa.Table] = {}
        self._seen: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r}, {'writable' if self.writable else 'read-only'})"

    def rows(self) -> pd.DataFrame:
        """Every run's row by run id: its terminal row, or where it has none its latest failure. Columns: ROW_SCHEMA."""
        return tables.frame(self.row_table(), ROW_SCHEMA)

    def row_table(self, failures: bool = True) -> pa.Table:
        """The rows as an Arrow table, by run id; terminal ones only where `failures` is false."""
        scan = self.scan()
        chosen = [*scan.terminal.values(), *(scan.failed.values() if failures else ())]
        pieces = [tables.bare(ROW_SCHEMA).empty_table()]
        loose = [(r.file, r.file_sha256) for r in chosen if r.file not in scan.parts]
        if loose and self._index is not None:
            pieces.append(self._index.take(loose))
        for name, table in scan.parts.items():
            mine = pa.array([r.run_id for r in chosen if r.file == name], pa.string())
            pieces.append(table.filter(pc.is_in(table.column("run_id"), value_set=mine)))
        return pa.concat_tables([p.select(ROW_SCHEMA.names) for p in pieces]).sort_by("run_id")

    def done(self) -> dict[str, str]:
        """Status (finished or diverged) by run id, of every run that need not run again."""
        return {run_id: run.status for run_id, run in sorted(self.scan().terminal.items())}

    def failed(self) -> dict[str, str]:
        """Reason of the latest failure by run id, of runs without a terminal row."""
        return {run_id: run.reason for run_id, run in sorted(self.scan().failed.items())}

    def curves(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Training curves by run and step. Columns: CURVE_SCHEMA. A run whose curve is lost is in `quarantined`."""
        table = self.attached("curves", run_ids).sort_by([("run_id", "ascending"), ("step", "ascending")])
        return tables.frame(table, CURVE_SCHEMA)

    def evals(self, run_ids: Iterable[str] | None = None, metric: str | None = None) -> pd.DataFrame:
        """Measurements by run: those of the run itself, then those made after it. Columns: EVAL_SCHEMA."""
        own = self.attached("evals", run_ids).select(EVAL_SCHEMA.names)
        own = own.set_column(own.schema.get_field_index("settings"), "settings", pc.fill_null(own["settings"], ""))
        table = pa.concat_tables([own, self.measured(run_ids)]).sort_by("run_id")
        if metric is not None:
            table = table.filter(pc.equal(table.column("metric"), metric))
        return tables.frame(table, EVAL_SCHEMA)

    def measured(self, run_ids: Iterable[str] | None = None) -> pa.Table:
        """What evaluations measured after training, of runs that have their row. Columns: EVAL_SCHEMA.

        A damaged file is put aside and its measurement counts as missing. Raises StoreError.
        """
        wanted = set(self.scan().terminal)
        wanted &= wanted if run_ids is None else set(run_ids)
        for _ in range(PATIENCE):
            # Loose ones first: a compaction publishes its part before it removes them.
            try:
                loose = [
                    self._measured_file(name, run_id) for name, run_id in self.measured_files() if run_id in wanted
                ]
            except FileNotFoundError:
                continue
            parts = filter(MEASURED_PART.fullmatch, files.names(self.root, "evals"))
            pieces = [piece for piece in (*map(self._measured_part, parts), *loose) if piece is not None]
            return self._distinct(pieces, wanted)
        raise StoreError(f"{self.root / 'evals'}: files keep disappearing while being read; try again")

    def measured_files(self) -> list[tuple[str, str]]:
        """Name and run id of each file that holds one measurement."""
        return list(loose_names(files.names(self.root, "evals")))

    def measurements(self, run_ids: Iterable[str] | None = None) -> set[Measurement]:
        """What was measured after training, by run, settings and version. Raises StoreError."""
        return set(measurements_of(self.measured(run_ids)))

    def _distinct(self, pieces: list[pa.Table], wanted: set[str]) -> pa.Table:
        """Each measurement of the wanted runs once, the first copy; by run, then settings."""
        found: set[Measurement] = set()
        kept = [tables.bare(EVAL_SCHEMA).empty_table()]
        for piece in pieces:
            made = set(measurements_of(piece))
            fresh = {item for item in made if item.run_id in wanted} - found
            found |= fresh
            kept.append(piece if fresh == made else rows_of(piece, fresh))
        return pa.concat_tables(kept).sort_by([(n, "ascending") for n in ("run_id", "settings", "eval_version")])

    def _measured_part(self, name: str) -> pa.Table | None:
        table = self._table(name, EVAL_SCHEMA)
        try:
            if table is not None:
                measurements_of(table)
        except Damaged as error:
            self._damaged(name, str(error), None)
            return None
        return table

    def _measured_file(self, name: str, run_id: str) -> pa.Table | None:
        """One measurement's table; None where its file is damaged. Raises FileNotFoundError."""
        sha256 = None
        try:
            data = files.read(self.root, name)
            sha256 = files.digest(data)
            table = tables.decode(data, EVAL_SCHEMA)
            check_loose(table, name)
            return table
        except Damaged as error:
            self._damaged(name, str(error), sha256)
            return None
        except StoreError as error:
            raise StoreError(f"{self.root / name}: {error}") from error

    def attached(self, folder: str, run_ids: Iterable[str] | None = None) -> pa.Table:
        """Curves or evaluations that the terminal rows name, by run, with `file_sha256`, the digest they name."""
        schema, by = SCHEMAS[folder], NAMED_BY[folder]
        only = None if run_ids is None else set(run_ids)
        missing = {
            run.run_id: run
            for run in self.scan().terminal.values()
            if getattr(run, by) and (only is None or run.run_id in only)
        }
        pieces = [pa.schema([*tables.bare(schema), tables.FILE_DIGEST]).empty_table()]
        # Twice, because a compaction may fold loose files between our look at the parts and at them.
        for _ in range(2):
            for part in filter(PART_NAME.fullmatch, files.names(self.root, folder)):
                table = self._table(part, schema, (tables.FILE_DIGEST,)) if missing else None
                if table is not None:
                    wanted = pa.array([getattr(run, by) for run in missing.values()], pa.string())
                    pieces.append(table.filter(pc.is_in(table.column("file_sha256"), value_set=wanted)))
                    for run_id in pc.unique(pieces[-1].column("run_id")).to_pylist():
                        missing.pop(run_id, None)
            for run_id, run in list(missing.items()):
                table = self._loose(folder, run_id, getattr(run, by))
                if table is not None:
                    pieces.append(table)
                    del missing[run_id]
        for run in missing.values():
            self._lose(folder, run)
        return pa.concat_tables(pieces).sort_by("run_id")

    def quarantined(self) -> list[dict[str, str]]:
        """`file` and `reason` of all damage: put aside on disk, or seen by this reader and left where it is."""
        found = []
        for name in files.names(self.root, files.QUARANTINE, ".json"):
            if os.path.lexists(self.root / name.removesuffix(".json")):
                try:
                    note = json.loads(files.read(self.root, name))
                    found.append({"file": str(note["file"]), "reason": str(note["reason"])})
                except (FileNotFoundError, Damaged, ValueError, KeyError, TypeError):
                    found.append({"file": name, "reason": "unknown: its note is damaged"})
        return found + [{"file": file, "reason": reason} for file, reason in sorted(self._seen.items())]

    def forget_seen(self) -> list[dict[str, str]]:
        """Forgets damage that was seen and left in place, so that it is looked for anew; returns what is put aside."""
        self._seen.clear()
        return self.quarantined()

    def scan(self) -> Scan:
        """What the row files hold now. Raises StoreError."""
        for _ in range(PATIENCE):
            try:
                return self._scan_once()
            except FileNotFoundError:
                continue
        raise StoreError(f"{self.root / 'rows'}: files keep disappearing while being read; try again")

    def _scan_once(self) -> Scan:
        terminal: dict[str, Run] = {}
        failures: dict[str, tuple[int, Run]] = {}
        parts: dict[str, pa.Table] = {}
        keys: list[Key] = []
        for name in files.names(self.root, "rows", ".parquet"):
            match = ROW_NAME.fullmatch(name)
            if match:
                run = self._run(name)
                if run is None:
                    continue
                keys.append((name, run.file_sha256))
                if not match[2]:
                    terminal[run.run_id] = run
                elif int(match[2]) > failures.get(run.run_id, (-1, run))[0]:
                    failures[run.run_id] = (int(match[2]), run)
            elif PART_NAME.fullmatch(name):
                table = self.part(name)
                if table is not None:
                    parts[name] = table
                    for run in runs_of(table):
                        terminal.setdefault(run.run_id, run)
        if self._index is not None and self._index.unsaved >= WORTH_SAVING:
            self._index.save(keys)
        return Scan(terminal, {i: run for i, (_, run) in failures.items() if i not in terminal}, parts)

    def _run(self, name: str) -> Run | None:
        """The facts of a row file; None where it is damaged. Raises FileNotFoundError."""
        if self._index is None:
            self._index = Index(self.root)
        match = ROW_NAME.fullmatch(name)
        assert match is not None
        sha256 = None
        try:
            data = files.read(self.root, name)
            sha256 = files.digest(data)
            run = self._index.get((name, sha256))
            if run is not None:
                return run
            table = tables.decode(data, ROW_SCHEMA)
            if table.num_rows != 1 or table.column("run_id")[0].as_py() != match[1]:
                raise Damaged("does not hold the one row that its name promises")
            if (table.column("status")[0].as_py() == "failed") != bool(match[2]):
                raise Damaged("holds a row of another status than its name promises")
            _check_names(table)
        except Damaged as error:
            self._damaged(name, str(error), sha256)
            return None
        except StoreError as error:
            raise StoreError(f"{self.root / name}: {error}") from error
        return self._index.add(keyed(table, name, sha256))

    def part(self, name: str) -> pa.Table | None:
        """A compacted file of rows, with the name and digest of its file. Raises FileNotFoundError."""
        try:
            key = (name, files.digest(files.read(self.root, name)))
        except Damaged as error:
            self._damaged(name, str(error), None)
            return None
        if key not in self._parts:
            table = self._table(name, ROW_SCHEMA)
            if table is None:
                return None
            try:
                _check_names(table)
            except Damaged as error:
                self._damaged(name, str(error), key[1])
                return None
            self._parts[key] = keyed(table, *key)
        return self._parts[key]

    def _table(self, name: str, schema: pa.Schema, extra: tuple[pa.Field, ...] = ()) -> pa.Table | None:
        """A compacted table, checked; None where its file is gone or damaged."""
        sha256 = None
        try:
            data = files.read(self.root, name)
            sha256 = files.digest(data)
            if name.rsplit("-", 1)[1] != f"{sha256[:16]}.parquet":
                raise Damaged("differs from the sha256 in its name")
            return tables.decode(data, schema, extra)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._damaged(name, str(error), sha256)
            return None
        except StoreError as error:
            raise StoreError(f"{self.root / name}: {error}") from error

    def _loose(self, folder: str, run_id: str, sha256: str) -> pa.Table | None:
        for name in attached_names(folder, run_id, sha256):
            try:
                data = files.read(self.root, name)
                if files.digest(data) == sha256:
                    table = tables.decode(data, SCHEMAS[folder])
                    return table.append_column(tables.FILE_DIGEST, pa.array([sha256] * table.num_rows, pa.string()))
            except (FileNotFoundError, Damaged):
                continue
        return None

    def _lose(self, folder: str, run: Run) -> None:
        """What a row names is not there. Damaged: it and its row are put aside, so that the run is made again.

        Where the file is merely gone, somebody may have removed it on purpose: the row stays, and the loss is noted.
        """
        for name in reversed(attached_names(folder, run.run_id, getattr(run, NAMED_BY[folder]))):
            try:
                seen: str | None = files.digest(files.read(self.root, name))
            except FileNotFoundError:
                continue
            except Damaged:
                seen = None
            reason = f"differs from the sha256 that {run.file} names"
            if ROW_NAME.fullmatch(run.file):
                # The row first: a crash in between leaves a run that is merely missing.
                self._damaged(run.file, f"{name} {reason}", run.file_sha256)
            self._damaged(name, reason, seen)
            return
        self._seen[f"{folder}/{run.run_id}.parquet"] = f"missing, although {run.file} names it"

    def _damaged(self, name: str, reason: str, seen: str | None) -> None:
        if self.writable:
            files.quarantine(self.root, name, reason, seen)
        else:
            self._seen[name] = reason
