"""The ledger of runs: a folder in which each run is one row file, published once, that names its curve by digest.

    format.json                     format version; sweep files used, by digest
    rows/<run_id>.parquet           one row: the commit point     rows/<run_id>.failed-<k>.parquet   a failed attempt
    curves/, evals/<run_id>.parquet published before the row      {rows,curves,evals}/part-<sha>.parquet   compacted
    evals/<run_id>-<type>-<key>.parquet   measured after the row  evals/measured-<sha>.parquet             compacted
    executions/, predictions/, checkpoints/, running/, logs/, quarantine/, .staging/, index.cache

No row or curve is ever replaced, but by a merge that is asked to. Two writers of one run may both bring a curve: the
second takes the name `<run_id>-<sha>.parquet`, and the row that wins says which of the two is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scaling.errors import StoreError
from scaling.store import checkpoints, files, running, tables
from scaling.store.files import Damaged
from scaling.store.index import INDEX
from scaling.store.measured import Measurement
from scaling.store.reader import PART_NAME, PATIENCE, ROW_NAME, Reader, attached_names
from scaling.store.schema import FORMAT_VERSION

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from scaling.job import Execution

FORMAT = "format.json"
OWN = {
    "rows",
    "curves",
    "evals",
    "executions",
    "predictions",
    checkpoints.FOLDER,
    running.FOLDER,
    "logs",
    files.QUARANTINE,
    files.STAGING,
    INDEX,
}
"""Everything a store makes in its folder, beside `format.json`."""


def _read_format(root: Path) -> dict[str, Any]:
    """The content of format.json. Raises StoreError where there is none or it is of a newer version."""
    try:
        content = json.loads(files.read(root, FORMAT))
        version = content["format_version"]
        if not isinstance(version, int) or not isinstance(content["sweeps"], dict):
            raise ValueError("format_version or sweeps of the wrong type")
    except FileNotFoundError:
        raise StoreError(f"{root}: not a store (no {FORMAT}); `scaling run` makes one") from None
    except (Damaged, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root / FORMAT}: damaged ({error}); remove this one file and run the sweep again: no run is lost"
        ) from error
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{root}: written by a newer version (format {version}, this one reads up to {FORMAT_VERSION}); "
            "upgrade with `pip install --upgrade scaling-lab`"
        )
    return content


class Store(Reader):
    """A store on disk; made by `Store.create` or `Store.open`."""

    @classmethod
    def create(cls, path: str | Path, *, sweep_file: Path | None = None) -> Store:
        """Makes a store, or opens the one that is there, for writing; records the sweep file by its digest.

        Raises StoreError where the folder holds something else, is of a newer version, or cannot be written, which is
        tried.
        """
        root = Path(path)
        if not (root / FORMAT).exists():
            try:
                root.mkdir(parents=True, exist_ok=True)
                foreign = sorted(set(os.listdir(root)) - OWN - {FORMAT})
            except OSError as error:
                raise StoreError(f"{root}: cannot be made: {error.strerror}; choose another folder") from error
            if foreign:
                raise StoreError(f"{root}: not a store and not empty (holds {foreign[0]}); choose another folder")
            created = datetime.now(UTC).isoformat(timespec="seconds")
            content = {"format_version": FORMAT_VERSION, "created": created, "sweeps": {}}
            files.publish(root, FORMAT, (json.dumps(content, indent=1) + "\n").encode(), "format")
        store = cls.open(root, write=True)
        files.probe(root)
        if sweep_file is not None:
            store.record_sweep(sweep_file)
        return store

    @classmethod
    def open(cls, path: str | Path, write: bool = False) -> Store:
        """Opens a store. Raises StoreError where it is none, newer than this version, or `write` is not possible."""
        root = Path(path)
        _read_format(root)
        if write and not os.access(root, os.W_OK | os.X_OK):
            raise StoreError(f"{root}: read-only; get the right to write there or choose another store")
        return cls(root, write)

    @property
    def format(self) -> dict[str, Any]:
        """`format_version`, `created` (UTC) and `sweeps` (file name by digest). Raises StoreError."""
        return _read_format(self.root)

    def record_sweep(self, sweep_file: Path) -> str:
        """Notes a sweep file's name under the sha256 of its bytes, and returns that. Raises StoreError."""
        try:
            sha256 = files.digest(Path(sweep_file).read_bytes())
        except OSError as error:
            raise StoreError(f"{sweep_file}: cannot be read: {error.strerror}") from error
        self.merge_sweeps({sha256: Path(sweep_file).name})
        return sha256

    def merge_sweeps(self, sweeps: Mapping[str, str]) -> None:
        """Notes names of sweep files by digest. Raises StoreError."""
        self._need_write()
        with files.lock(self.root, "format"):
            content = self.format
            if any(sha256 not in content["sweeps"] for sha256 in sweeps):
                content["sweeps"] = dict(sorted({**sweeps, **content["sweeps"]}.items()))
                files.replace(self.root, FORMAT, (json.dumps(content, indent=1) + "\n").encode(), "format")

    def _need_write(self) -> None:
        if not self.writable:
            raise StoreError(f"{self.root}: opened for reading only; open it with write=True")

    def publish(
        self,
        row: Mapping[str, Any],
        curve: pd.DataFrame | Iterable[Mapping[str, Any]] | None = None,
        evals: pd.DataFrame | Iterable[Mapping[str, Any]] | None = None,
    ) -> bool:
        """Publishes a finished or diverged run: curve, evaluations, and last the row that names both by digest.

        `curve_sha256` and `evals_sha256` are set here. Returns False, harmlessly, where the run has its row already.
        Raises StoreError at a wrong column, or when the disk refuses.
        """
        self._need_write()
        row = {**row, "curve_sha256": "", "evals_sha256": ""}
        tables.row_table(row, tables.TERMINAL)
        run_id = row["run_id"]
        curve_table = None if curve is None else tables.curve_table(run_id, curve)
        eval_table = None if evals is None else tables.eval_table(run_id, evals)
        if self._has_row(run_id):
            return False
        if curve_table is not None:
            row["curve_sha256"] = self._attach("curves", run_id, curve_table)
        if eval_table is not None:
            row["evals_sha256"] = self._attach("evals", run_id, eval_table)
        data = tables.encode(tables.row_table(row, tables.TERMINAL))
        return files.publish(self.root, f"rows/{run_id}.parquet", data, "row")

    def publish_measurement(
        self, run_id: str, settings: str, version: int, evals: pd.DataFrame | Iterable[Mapping[str, Any]]
    ) -> bool:
        """Publishes what an evaluation of a finished run measured, beside its row, which stays as it is.

        `settings` is JSON with the evaluation's `type`. Returns False, harmlessly, where the same is there already.
        Raises StoreError where the run has no row, at a wrong column or no rows at all, or when the disk refuses.
        """
        self._need_write()
        item = Measurement(run_id, settings, version)
        name = item.name
        if not self.has(run_id):
            raise StoreError(f"evaluation of {run_id}: the run has no row here; run its sweep first")
        table = tables.eval_table(run_id, evals)
        count = table.num_rows
        if not count:
            raise StoreError(f"evaluation of {run_id}: nothing was measured")
        for column, value in (("settings", settings), ("eval_version", version)):
            at = table.schema.get_field_index(column)
            table = table.set_column(at, table.schema.field(at), pa.array([value] * count, table.schema.field(at).type))
        if item in self.measurements([run_id]):
            return False
        return files.publish(self.root, name, tables.encode(table), "measurement")

    def publish_failure(self, row: Mapping[str, Any]) -> str:
        """Publishes a failed attempt beside earlier ones; a later success still takes the run's own name.

        Returns the file's relative name. Raises StoreError.
        """
        self._need_write()
        table = tables.row_table({**row, "curve_sha256": "", "evals_sha256": ""}, ("failed",))
        run_id, data = row["run_id"], tables.encode(table)
        earlier = [m for m in map(ROW_NAME.fullmatch, files.names(self.root, "rows")) if m and m[1] == run_id and m[2]]
        attempt = 1 + max((int(m[2]) for m in earlier), default=0)
        while not files.publish(self.root, f"rows/{run_id}.failed-{attempt}.parquet", data, "failure"):
            attempt += 1
        return f"rows/{run_id}.failed-{attempt}.parquet"

    def _attach(self, folder: str, run_id: str, table: pa.Table) -> str:
        """Publishes a curve or evaluations and returns the digest of the file that holds them."""
        data = tables.encode(table)
        sha256 = files.digest(data)
        first, second = attached_names(folder, run_id, sha256)
        # Other bytes under the first name belong to another attempt, crashed or still on its way to its row.
        if self._stands(first, data, sha256):
            return sha256
        for _ in range(PATIENCE):
            if self._stands(second, data, sha256):
                return sha256
            files.quarantine(self.root, second, "differs from the sha256 in its name", None)
        raise StoreError(f"{self.root / second}: cannot be published; run again")

    def _stands(self, name: str, data: bytes, sha256: str) -> bool:
        if files.publish(self.root, name, data, name.split("/")[0].removesuffix("s")):
            return True
        try:
            if files.digest(files.read(self.root, name)) != sha256:
                return False
            os.utime(self.root / name)  # Young again, so that no housekeeping takes it for an orphan.
        except (FileNotFoundError, Damaged):
            return False
        return True

    def has(self, run_id: str) -> bool:
        """Whether a run is done; asks for one run what `done` asks for all."""
        return self._has_row(files.check_run_id(run_id))

    def _has_row(self, run_id: str) -> bool:
        for _ in range(PATIENCE):
            with contextlib.suppress(FileNotFoundError):
                own = f"rows/{run_id}.parquet"
                if (self.root / own).exists() and self._run(own) is not None:
                    return True
                parts = map(self.part, filter(PART_NAME.fullmatch, files.names(self.root, "rows")))
                return any(p is not None and pc.any(pc.equal(p.column("run_id"), run_id)).as_py() for p in parts)
        raise StoreError(f"{self.root / 'rows'}: files keep disappearing while being read; try again")

    def execution(self, run_id: str) -> Execution | None:
        """How a run is to be executed, if that was ever fixed. Raises StoreError where a newer version fixed it."""
        from pydantic import ValidationError

        from scaling.job import Execution

        name = f"executions/{files.check_run_id(run_id)}.json"
        try:
            return Execution.model_validate(files.read_signed_json(self.root, name)["execution"])
        except FileNotFoundError:
            return None
        except (ValidationError, KeyError) as error:
            raise StoreError(f"{self.root / name}: not an execution this version knows; upgrade to read it") from error
        except Damaged as error:
            self._damaged(name, str(error), None)
            return None

    def fix_execution(self, run_id: str, execution: Execution) -> Execution:
        """Fixes how a run is executed, once and for all its reruns; returns what was fixed first. Raises StoreError."""
        self._need_write()
        data = files.signed_json({"execution": execution.model_dump(mode="json")})
        for _ in range(PATIENCE):
            if files.publish(self.root, f"executions/{files.check_run_id(run_id)}.json", data, "execution"):
                return execution
            fixed = self.execution(run_id)
            if fixed is not None:
                return fixed
        raise StoreError(f"{self.root / 'executions' / run_id}.json: damaged and cannot be put aside")

    def change_execution(self, run_id: str, before: Execution, after: Execution, reason: str) -> None:
        """Replaces how a run is executed from now on; what it was and `reason` stay beside it. Raises StoreError."""
        self._need_write()
        name = f"executions/{files.check_run_id(run_id)}.json"
        with files.lock(self.root, "execution"):
            left = {"execution": before.model_dump(mode="json"), "left_because": reason}
            content = {
                "execution": after.model_dump(mode="json"),
                "before": [*self.execution_changes(run_id), left],
            }
            files.replace(self.root, name, files.signed_json(content), "execution")

    def execution_changes(self, run_id: str) -> list[dict[str, Any]]:
        """Executions that a run had before its present one, oldest first: `execution` and `left_because`."""
        try:
            note = files.read_signed_json(self.root, f"executions/{files.check_run_id(run_id)}.json")
        except (FileNotFoundError, Damaged):
            return []
        return list(note.get("before", []))

    def write_log(self, run_id: str, text: str) -> str:
        """Keeps what is known of a failed attempt, in place of an earlier one; returns its name. Raises StoreError."""
        self._need_write()
        name = f"logs/{files.check_run_id(run_id)}.txt"
        files.replace(self.root, name, text.encode(errors="replace"), "log", durable=False)
        return name

    def checkpoint_path(self, run_id: str) -> Path:
        """The folder of a run's checkpoints."""
        return self.root / checkpoints.folder(run_id)

    def save_checkpoint(
        self, run_id: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any], *, keep: bool = False
    ) -> None:
        """Saves tensors bit by bit, with plain-JSON `meta`; `keep` lets it outlive the run. Raises StoreError."""
        self._need_write()
        checkpoints.save(self.root, run_id, tensors, meta, keep)

    def save_final(self, run_id: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Saves the weights that a run ended with; they stay when its checkpoints go. Raises StoreError."""
        self.save_checkpoint(run_id, tensors, {**meta, "final": True}, keep=True)

    def final_weights(self, run_id: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What `save_final` kept of a run, `model.<parameter>` to tensor and meta; None where nothing was kept."""
        return self._newest(run_id, final=True)

    def load_checkpoint(self, run_id: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The newest whole checkpoint's tensors (on the CPU) and meta; damaged ones are put aside."""
        return self._newest(run_id, final=False)

    def _newest(self, run_id: str, final: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        for number in checkpoints.numbers(self.root, run_id):
            try:
                found = checkpoints.read(self.root, run_id, number)
                if bool(found[1].get("final")) == final:
                    return found
            except FileNotFoundError:
                continue
            except Damaged as error:
                if self.writable:
                    checkpoints.isolate(self.root, run_id, number, str(error))
                else:
                    self._seen[f"{checkpoints.folder(run_id)}/{number:08d}.json"] = str(error)
        return None

    def has_checkpoint(self, run_id: str) -> bool:
        """Whether something that a run, or a lineage's trunk, could go on from is kept."""
        return bool(checkpoints.numbers(self.root, run_id))

    def drop_checkpoint(self, run_id: str) -> None:
        """Removes a run's checkpoints but for its final weights. Raises StoreError."""
        self._need_write()
        checkpoints.drop(self.root, run_id)

    def mark_running(self, run_id: str, info: dict[str, Any]) -> None:
        """Notes that this process runs a trial; call again as a heartbeat. Raises StoreError."""
        self._need_write()
        running.mark(self.root, run_id, info)

    def clear_running(self, run_id: str) -> None:
        """Removes the note. Raises StoreError."""
        self._need_write()
        running.clear(self.root, run_id)

    def running(self, stale_s: float = running.STALE_S) -> dict[str, dict[str, Any]]:
        """Notes on runs in progress by run id: `info`, `pid`, `host`, `age_s`, `stale` if its process is gone."""
        return running.notes(self.root, stale_s)
