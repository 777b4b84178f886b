"""Brings the runs of one store into another: from a second machine, or in place of runs that were made anew."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from scaling.errors import StoreError
from scaling.store import checkpoints, files, tables
from scaling.store.maintenance import fold
from scaling.store.measured import measurements_of, rows_of
from scaling.store.reader import NAMED_BY, SCHEMAS
from scaling.store.store import Store

_OF_FILES = [*NAMED_BY.values(), "file", "file_sha256"]
"""Columns that say where a row lies and not what was trained."""


@dataclass(frozen=True)
class Merged:
    """What a merge did, by run id: `kept` are runs of which the store had another training and left it as it was."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    same: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: dict[str, str]
    """Reason by run id: what cannot be read whole."""
    measurements: int
    """Results of evaluations that are new here."""
    weights: int
    """Runs whose kept weights were copied."""
    predictions: int
    """Registered predictions of the source, which stay there: a ledger is one chain."""

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The outcome for people."""
        found = [
            f"{len(self.added)} runs added, {len(self.replaced)} replaced, {len(self.same)} there already;"
            f" {self.measurements} measurements and the weights of {self.weights} runs came with them"
        ]
        if self.kept:
            found.append(
                f"{len(self.kept)} runs were trained in both stores, with other results; the store's own stay"
                " (--replace takes the source's)"
            )
        if self.predictions:
            found.append(f"{self.predictions} registered predictions stay in the source's ledger")
        return found + [f"left out: {run}: {why}" for run, why in self.left_out.items()]


def merge(source: Store, target: Store, replace: bool = False) -> Merged:
    """Adds the finished and diverged runs of `source` to `target`: rows, curves, evaluations, measurements, weights.

    A run of both with equal rows gets the measurements it lacks. Where the rows differ, as they do after training a run
    again on another processor, the target's stays, or with `replace` goes, with its curve, measurements and weights.
    Failed attempts and predictions stay in the source. What a crash interrupts is finished by the same call.

    Raises:
        StoreError: both are one store, or the target cannot be written.
    """
    if source.root.resolve() == target.root.resolve():
        raise StoreError(f"{target.root}: is the store to merge from as well; give two stores")
    if not target.writable:
        raise StoreError(f"{target.root}: opened for reading; open it with write=True")
    with files.lock(target.root, "compact"):
        return _merge(source, target, replace)


def _merge(source: Store, target: Store, replace: bool) -> Merged:
    rows = {row["run_id"]: row for row in source.row_table(failures=False).to_pylist()}
    theirs, ours = _trainings(source), _trainings(target)
    attached = {folder: dict(_by_run(source.attached(folder))) for folder in SCHEMAS}
    left_out = {
        run: f"{folder} named by its row are lost; `scaling store verify {source.root}`"
        for run, row in rows.items()
        for folder, column in NAMED_BY.items()
        if row[column] and run not in attached[folder]
    }
    whole = [run for run in rows if run not in left_out]
    added = tuple(run for run in whole if run not in ours)
    differing = tuple(run for run in whole if run in ours and ours[run] != theirs[run])
    same = tuple(run for run in whole if run in ours and ours[run] == theirs[run])
    replaced, kept = (differing, ()) if replace else ((), differing)
    # Weights first: a crash must not leave old ones beside a new row.
    for run in replaced:
        shutil.rmtree(target.root / checkpoints.folder(run), ignore_errors=True)
    if replaced:
        fold(target, None, without=set(replaced))
    target.merge_sweeps(source.format["sweeps"])
    for run in (*added, *replaced):
        # Of an attempt that was not finished here.
        checkpoints.drop(target.root, run)
        files.remove(target.root, _execution(run))
        _copy(source, target, _execution(run))
        parts = {f: t[run].select(SCHEMAS[f].names).to_pylist() for f, t in attached.items() if run in t}
        target.publish(rows[run], parts.get("curves"), parts.get("evals"))
    chosen = (*added, *replaced, *same)
    weights = sum(_copy_weights(source, target, run) for run in chosen)
    measurements = _measurements(source, target, chosen)
    predictions = len(files.names(source.root, "predictions", ".json"))
    return Merged(added, replaced, same, kept, left_out, measurements, weights, predictions)


def _execution(run: str) -> str:
    return f"executions/{run}.json"


def _trainings(store: Store) -> Mapping[str, str]:
    """A digest of what each row says of its training, by run."""
    table = store.row_table(failures=False)
    told = table.select([name for name in table.column_names if name not in _OF_FILES])
    runs = table.column("run_id").to_pylist()
    return {run: tables.values_sha256(told.slice(i, 1)) for i, run in enumerate(runs)}


def _by_run(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The pieces of a table that is sorted by run."""
    runs = np.asarray(table.column("run_id").to_pylist(), dtype=object)
    changes = (np.flatnonzero(runs[1:] != runs[:-1]) + 1).tolist()
    for begin, end in pairwise([0, *changes, len(runs)] if len(runs) else []):
        yield str(runs[begin]), table.slice(begin, end - begin)


def _copy(source: Store, target: Store, name: str) -> None:
    """Copies a file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        files.publish(target.root, name, files.read(source.root, name), "copy")


def _copy_weights(source: Store, target: Store, run: str) -> bool:
    """Copies the final weights that the source kept; the note that commits them last."""
    if not checkpoints.kept(source.root, run) or checkpoints.numbers(target.root, run):
        return False
    for name in sorted(files.names(source.root, checkpoints.folder(run)), key=lambda n: n.endswith(".json")):
        _copy(source, target, name)
    return True


def _measurements(source: Store, target: Store, runs: tuple[str, ...]) -> int:
    """Publishes what was measured after training and is not there yet."""
    there = target.measurements(runs)
    found = 0
    for _, table in _by_run(source.measured(runs)):
        for item in set(measurements_of(table)) - there:
            evals = rows_of(table, {item}).to_pylist()
            found += target.publish_measurement(item.run_id, item.settings, item.version, evals)
    return found
