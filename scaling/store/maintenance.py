"""Housekeeping of a store: fold its files into a few for committing, check every byte, remove what nobody needs."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Set
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scaling import ledger
from scaling.errors import StoreError
from scaling.store import checkpoints, files, running, tables
from scaling.store.files import Damaged
from scaling.store.measured import MEASURED_NAME, MEASURED_PART, Measurement, measurements_of
from scaling.store.reader import NAMED_BY, PART_NAME, ROW_NAME, SCHEMAS, attached_names
from scaling.store.store import FORMAT, OWN, Store

ORPHAN_S = 3600.0
"""Seconds after which a staged file or a curve without a row is taken for what a crash left."""


def compact(store: Store, destination: str | Path | None = None) -> Store:
    """Folds rows, curves and evaluations into one parquet part each, in place or into a new store; returns that store.

    Reads are equal before and after, and new runs may follow. A destination also gets sweeps, executions, predictions
    and failed attempts with their logs, but no checkpoints and no quarantine. Raises StoreError.
    """
    if destination is None and not store.writable:
        raise StoreError(f"{store.root}: opened for reading; open it with write=True or give a destination")
    with files.lock(store.root, "compact") if store.writable else contextlib.nullcontext():
        return fold(store, destination)


def fold(store: Store, destination: str | Path | None, without: Set[str] = frozenset()) -> Store:
    """`compact`, for a caller that holds its lock; runs of `without` are left out, with all that hangs on them."""
    # Curves and evaluations first: reading them may put a damaged run aside.
    attached = {folder: store.attached(folder) for folder in SCHEMAS}
    measured = store.measured()
    scan = store.scan()
    rows = store.row_table(failures=False)
    target = store if destination is None else Store.create(destination)
    if target is not store and (target.root.resolve() == store.root.resolve() or files.names(target.root, "rows")):
        raise StoreError(f"{target.root}: holds runs already; choose a new folder")
    stay = [(folder, table, "part") for folder, table in attached.items()]
    stay += [("evals", measured, "measured"), ("rows", rows, "part")]
    kept = set()
    for folder, whole, kind in stay:
        table = _outside(whole, without)
        if table.num_rows:
            kept.add(_publish_part(target, folder, table, kind))
    if target is not store:
        _copy_rest(store, target)
        return target
    _remove_measured(store, measurements_of(measured), kept)
    _remove_folded(store, attached, {r.file for r in scan.terminal.values()} | set(scan.parts), kept)
    return store


def _outside(table: pa.Table, runs: Set[str]) -> pa.Table:
    if not runs:
        return table
    return table.filter(pc.invert(pc.is_in(table.column("run_id"), value_set=pa.array(sorted(runs), pa.string()))))


def _publish_part(target: Store, folder: str, table: pa.Table, kind: str = "part") -> str:
    data = tables.encode(table)
    sha256 = files.digest(data)
    name = f"{folder}/{kind}-{sha256[:16]}.parquet"
    if not files.publish(target.root, name, data, "part") and files.digest(files.read(target.root, name)) != sha256:
        raise StoreError(f"{target.root / name}: damaged; run `scaling store verify` first")
    return name


def _remove_folded(store: Store, attached: dict[str, pa.Table], row_files: set[str], kept: set[str]) -> None:
    """Removes what the new parts hold: rows first, then curves and evaluations, then superseded parts of those."""
    for name in sorted(row_files - kept):
        files.remove(store.root, name)
    for folder, table in attached.items():
        pairs = table.select(["run_id", "file_sha256"]).group_by(["run_id", "file_sha256"]).aggregate([])
        folded = set(pc.unique(table.column("file_sha256")).to_pylist())
        for pair in pairs.to_pylist():
            for name in attached_names(folder, pair["run_id"], pair["file_sha256"]):
                path = store.root / name
                if path.exists() and files.digest(files.read(store.root, name)) in folded:
                    files.remove(store.root, name)
        for name in filter(PART_NAME.fullmatch, files.names(store.root, folder)):
            if name not in kept:
                files.remove(store.root, name)


def _remove_measured(store: Store, folded: list[Measurement], kept: set[str]) -> None:
    """Removes the measurements' own files, which the new part holds, and the parts before it."""
    for item in folded:
        files.remove(store.root, item.name)
    for name in filter(MEASURED_PART.fullmatch, files.names(store.root, "evals")):
        if name not in kept:
            files.remove(store.root, name)


def _copy_rest(store: Store, target: Store) -> None:
    target.merge_sweeps(store.format["sweeps"])
    failures = [n for n in files.names(store.root, "rows") if (m := ROW_NAME.fullmatch(n)) and m[2]]
    more = [name for folder in ("executions", "predictions", "logs") for name in files.names(store.root, folder)]
    for name in [*failures, *more]:
        files.publish(target.root, name, files.read(store.root, name), "copy")


def verify(store: Store) -> list[dict[str, str]]:
    """Reads and checks every file; returns `file` and `reason` of each that is damaged, missing or not the store's.

    On a store opened for writing, damaged files are put in quarantine, and their runs count as missing. Raises
    StoreError.
    """
    before = Counter((q["file"], q["reason"]) for q in store.forget_seen())
    for folder in SCHEMAS:
        store.attached(folder)
    store.measured()
    odd = [n for n in files.names(store.root, "rows") if not ROW_NAME.fullmatch(n) and not PART_NAME.fullmatch(n)]
    odd += [p.name for p in sorted(store.root.iterdir()) if p.name not in OWN and p.name != FORMAT]
    for name in files.names(store.root, "executions"):
        try:
            store.execution(Path(name).stem)
        except StoreError:
            odd.append(name)
    found = [{"file": name, "reason": "not a file this store makes"} for name in odd]
    for folder in SCHEMAS:
        found += _check_strays(store, folder)
    fresh = Counter((q["file"], q["reason"]) for q in store.quarantined()) - before
    found += [{"file": file, "reason": reason} for file, reason in fresh.elements()]
    found += _check_checkpoints(store)
    return found + [{"file": b.file, "reason": b.reason} for b in ledger.check(store)]


def _check_checkpoints(store: Store) -> list[dict[str, str]]:
    found = []
    for place in sorted((store.root / checkpoints.FOLDER).glob("*")):
        if not files.is_run_id(place.name):
            found.append({"file": f"{checkpoints.FOLDER}/{place.name}", "reason": "not a file this store makes"})
            continue
        for number in checkpoints.numbers(store.root, place.name):
            reason = checkpoints.check(store.root, place.name, number)
            if reason is not None:
                found.append({"file": f"{checkpoints.folder(place.name)}/{number:08d}.json", "reason": reason})
                if store.writable:
                    checkpoints.isolate(store.root, place.name, number, reason)
    return found


def _strays(store: Store, folder: str) -> list[str]:
    """Loose files of a folder that no row names; a measurement made after its run needs no more than the run's row."""
    named = {run.run_id: getattr(run, NAMED_BY[folder]) for run in store.scan().terminal.values()}
    own: set[str] = set()
    for run_id, sha256 in named.items():
        first, second = attached_names(folder, run_id, sha256)
        own.add(second)
        if sha256 and not (store.root / second).exists():
            own.add(first)
    return [
        name
        for name in files.names(store.root, folder)
        if name not in own
        and not PART_NAME.fullmatch(name)
        and not MEASURED_PART.fullmatch(name)
        and not ((m := MEASURED_NAME.fullmatch(name)) and m[1] in named)
    ]


def _check_strays(store: Store, folder: str) -> list[dict[str, str]]:
    """Files that no row names are no harm; they are reported only where they are damaged."""
    found = []
    for name in _strays(store, folder):
        try:
            tables.decode(files.read(store.root, name), SCHEMAS[folder])
        except FileNotFoundError:
            continue
        except Damaged as error:
            found.append({"file": name, "reason": f"{error} (no row names it)"})
    return found


def gc(store: Store, older_than_s: float = ORPHAN_S) -> list[str]:
    """Removes what crashes left and finished runs no longer need, and returns its names. Raises StoreError.

    Staged files and curves or evaluations without a row, once older than `older_than_s` seconds by the clock of the
    file system and not of a process or run at work on this machine; checkpoints of runs that have their row, unless
    saved with `keep`; notes of processes that are gone.
    """
    if not store.writable:
        raise StoreError(f"{store.root}: opened for reading; open it with write=True")
    removed = []
    limit = files.clock(store.root) - older_than_s
    at_work = {run_id for run_id, note in store.running().items() if not note["stale"]}
    strays = [n for f in SCHEMAS for n in _strays(store, f) if Path(n).stem[:16] not in at_work]
    staged = [f"{files.STAGING}/{p.name}" for p in (store.root / files.STAGING).glob("*") if p.suffix != ".lock"]
    for name in [*(n for n in staged if not files.writer_lives(n)), *strays]:
        path = store.root / name
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
                removed.append(name)
        except FileNotFoundError:
            continue
    done = store.done()
    for place in sorted((store.root / checkpoints.FOLDER).glob("*")):
        if place.name in done and not checkpoints.kept(store.root, place.name):
            shutil.rmtree(place, ignore_errors=True)
            removed.append(f"{checkpoints.FOLDER}/{place.name}")
    for name in files.names(store.root, running.FOLDER, ".stack"):
        # One that holds a stack tells the next attempt that this one hung.
        if Path(name).stem not in at_work and not (store.root / name).stat().st_size:
            files.remove(store.root, name)
            removed.append(name)
    for run_id, note in store.running().items():
        if note["stale"]:
            store.clear_running(run_id)
            removed.append(f"{running.FOLDER}/{run_id}.json")
    return removed
